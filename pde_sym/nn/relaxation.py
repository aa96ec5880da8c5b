"""How far a layer may leave its symmetry: values that a steerable layer reads."""

import math
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pde_sym.config import Frozen
from pde_sym.errors import InputError
from pde_sym.nn.kernel_space import Part

DEFAULT_BANKS = 8


class Penalised(Frozen):
    """Weights that start at zero and are penalised by ``mean(w_sigma^2)``.

    Parameters
    ----------
    factors
        Names of single parts and their weights in the penalty, 1 unless listed.
    """

    kind: Literal["penalised"] = "penalised"
    factors: tuple[tuple[str, NonNegativeFloat], ...] = ()


class Prior(Frozen):
    """Gaussian priors on all weights (Finzi et al. 2021, Residual Pathway Priors).

    The penalty is ``mean(w_0^2) / 2 s_0^2 + sum_sigma mean(w_sigma^2) / 2 s^2``, in
    units of He's standard deviation, and likewise of relaxed biases and factors in
    position, which have no unit.

    Parameters
    ----------
    equivariant_std
        s_0 of the steerable weights.
    relaxed_std
        s of the others.
    """

    kind: Literal["prior"] = "prior"
    equivariant_std: PositiveFloat = 1.0
    relaxed_std: PositiveFloat = 0.1


class Constrained(Frozen):
    """``gamma_sigma K_sigma`` with multipliers that drive gamma to a slack.

    ``min max loss + sum lambda (|gamma| - u) + rho |u|^2 / 2``: the slack is
    ``u = lambda / rho`` and lambda follows ``[lambda + rate (|gamma| - u)]_+`` after
    each update (Manolache, Chamon and Niepert 2025, Learning (Approximately)
    Equivariant Networks via Constrained Optimization). gamma starts at 0 and the
    weights as He proposes.

    Parameters
    ----------
    rate
        Step of the multipliers.
    rho
        Price of the slack.
    """

    kind: Literal["constrained"] = "constrained"
    rate: PositiveFloat = 1e-2
    rho: PositiveFloat = 1.0


class Likelihood(Frozen):
    """``lambda_sigma K_sigma``, the Fourier coefficients of a likelihood on the group.

    ``K = int lambda(g) g.K' dg`` takes part sigma of a free kernel K' times lambda's
    coefficient (Veefkind and Cesa 2024, A Probabilistic Approach to Learning the Degree
    of Equivariance in Steerable CNNs, section 4); ``|lambda_sigma| <= 1``, here a tanh,
    and 0 at the start: the uniform likelihood.
    """

    kind: Literal["likelihood"] = "likelihood"


class Free(Frozen):
    """All weights start as those of a free convolution with He's entries."""

    kind: Literal["free"] = "free"


Hold = Annotated[
    Penalised | Prior | Constrained | Likelihood | Free, Field(discriminator="kind")
]
"""How the parts of a kernel are held, told apart by ``kind``."""


class Relaxation(Frozen):
    """What a layer may learn beside its steerable kernel; all of it zero at the start.

    Subclasses answer the questions below and inherit the answer "nothing".

    Parameters
    ----------
    relax_to
        The subgroup under which everything stays exact: ``C2``, ``D1``, ``D1@90``
        (the flip x -> -x), ..; ``C1`` keeps nothing.
    """

    relax_to: str = "C1"

    @property
    def relaxes_fibre(self) -> bool:
        """Whether field components get factors of their own."""
        return False

    @property
    def relaxes_bias(self) -> bool:
        """Whether field components get biases of their own."""
        return self.relaxes_fibre

    @property
    def modes(self) -> int:
        """The highest Fourier mode of the factors in position."""
        return 0

    @property
    def banks(self) -> int:
        """The number of fields in position that the channels share."""
        return 0

    @property
    def held(self) -> Hold:
        """How the kernel parts are held."""
        return Penalised()

    def kernel_parts(self, available: tuple[Part, ...]) -> tuple[str, ...]:
        """Return the names of those `available` non-trivial parts that are learned.

        Raises
        ------
        InputError
            When a part is asked for that is not available.
        """
        del available
        return ()


class Strict(Relaxation):
    """Exactly equivariant."""


class Modulated(Relaxation):
    """``K = (1 + alpha_out) K_0 (1 + delta_in)`` on maps ``(1 + a_c(x)) u_c(x)``.

    Parameters
    ----------
    fibre
        Learn alpha, delta and a bias per component of a field.
    position_modes
        Highest Fourier mode M of the factors a_c(x); 0 keeps translations exact.
    position_banks
        Number of learned fields that the a_c(x) of a layer are mixed from.
    """

    fibre: bool = True
    position_modes: NonNegativeInt = 0
    position_banks: PositiveInt = DEFAULT_BANKS

    @property
    def relaxes_fibre(self) -> bool:
        return self.fibre

    @property
    def modes(self) -> int:
        return self.position_modes

    @property
    def banks(self) -> int:
        return self.position_banks


class Isotypic(Relaxation):
    """``K = K_0 + sum_sigma K_sigma(w_sigma)``, a part per irrep sigma.

    Parameters
    ----------
    parts
        Names of the parts to learn; None means all that are not trivial.
    cutoff
        Learn only parts up to this angular momentum: the soft projection of Tunable
        Soft Equivariance (2026, arXiv 2603.26657), for which a rotation's generator
        has the norm of the momentum. None means all.
    hold
        How they are held.
    position_modes
        Highest Fourier mode of the factors in position, as in `Modulated`.
    position_banks
        As in `Modulated`.
    """

    parts: tuple[str, ...] | None = None
    cutoff: NonNegativeInt | None = None
    hold: Hold = Penalised()
    position_modes: NonNegativeInt = 0
    position_banks: PositiveInt = DEFAULT_BANKS

    @property
    def relaxes_bias(self) -> bool:
        return True

    @property
    def modes(self) -> int:
        return self.position_modes

    @property
    def banks(self) -> int:
        return self.position_banks

    @property
    def held(self) -> Hold:
        return self.hold

    def kernel_parts(self, available: tuple[Part, ...]) -> tuple[str, ...]:
        momenta = {part.name: part.momentum for part in available}
        wanted = tuple(momenta) if self.parts is None else self.parts
        listed = dict(self.hold.factors if isinstance(self.hold, Penalised) else ())
        for name in (*wanted, *listed):
            if name not in momenta:
                raise InputError(
                    f"part {name!r}: expected some of {', '.join(momenta) or 'none'}"
                )
        highest = math.inf if self.cutoff is None else self.cutoff
        return tuple(n for n in dict.fromkeys(wanted) if momenta[n] <= highest)
