"""How far a layer may leave its symmetry: values that a steerable layer reads."""

from pydantic import NonNegativeInt, PositiveInt

from pde_sym.config import Frozen
from pde_sym.errors import InputError

DEFAULT_BANKS = 8


class Relaxation(Frozen):
    """What a layer may learn beside its steerable kernel; all of it zero at the start.

    Subclasses answer three questions and inherit the answer "nothing".
    """

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
    def learned_parts(self) -> tuple[str, ...] | None:
        """Names of the kernel parts that are learned; None means all."""
        return ()

    def kernel_parts(self, available: tuple[str, ...]) -> tuple[str, ...]:
        """Return which of the `available` non-trivial kernel parts are learned.

        Raises
        ------
        InputError
            When a part is asked for that is not available.
        """
        if self.learned_parts is None:
            return available
        for name in self.learned_parts:
            if name not in available:
                raise InputError(
                    f"part {name!r}: expected some of {', '.join(available) or 'none'}"
                )
        return tuple(dict.fromkeys(self.learned_parts))


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
    position_modes
        Highest Fourier mode of the factors in position, as in `Modulated`.
    position_banks
        As in `Modulated`.
    """

    parts: tuple[str, ...] | None = None
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
    def learned_parts(self) -> tuple[str, ...] | None:
        return self.parts
