"""The Korteweg-de Vries equation on a periodic line, intact or broken.

    u_t + 6 u u_x + u_xxx = R

with R = 0 unless a breaking term of `pde_sym.systems.kdv_terms` says otherwise. All
quantities are in the units in which the coefficients are 6 and 1: u is a speed, and a
length cubed is a time.

Intact, its point symmetries are shifts of space and time, Galilei boosts, the scaling
and the reversal ``(x, t) -> (-x, -t)`` (Olver, Applications of Lie Groups, example
2.44); beyond them it has one symmetry for every int P_n of odd n. Shifts, boosts and
reversal survive on the torus; the scaling maps boxes to boxes.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Documented

from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import Subgroup
from pde_sym.initial_conditions import InitialLaw
from pde_sym.systems.base import BreakingTerm, Budget, Invariant, System
from pde_sym.systems.kdv_solutions import Cnoidal, RandomSolitons, RandomWaves
from pde_sym.systems.kdv_terms import (
    SHIFTS,
    Bathymetry,
    Damping,
    Dispersion,
    Forcing,
    Frame,
    Gardner,
    Kawahara,
    KdVProperty,
    Modulation,
    Potential,
    Quartic,
    Viscosity,
)

if TYPE_CHECKING:  # see `pde_sym.systems.base`
    from torch import Tensor

    from pde_sym.systems.kdv_solver import KdVSolver

AnyKdVTerm = Annotated[
    Potential
    | Dispersion
    | Damping
    | Viscosity
    | Forcing
    | Kawahara
    | Quartic
    | Modulation
    | Bathymetry
    | Gardner
    | Frame,
    Documented(discriminator="kind"),
]


class KdV(System):
    """The Korteweg-de Vries equation; see the module."""

    kind: Literal["kdv"] = "kdv"
    breaking: tuple[AnyKdVTerm, ...] = ()
    """Breaking terms, each kind at most once."""

    equation: ClassVar[str] = "u_t + 6 u u_x + u_xxx = 0"
    fields: ClassVar[FieldSpec] = FieldSpec.of(Field(name="u", unit="L / T"))
    terms: ClassVar[tuple[type[BreakingTerm], ...]] = (
        Potential,
        Dispersion,
        Damping,
        Viscosity,
        Forcing,
        Kawahara,
        Quartic,
        Modulation,
        Bathymetry,
        Gardner,
        Frame,
    )
    default_dt: ClassVar[float] = 0.4
    """Frame spacing: frames of the default law differ by 2 to 11 %."""
    default_resolution: ClassVar[int] = 256
    default_length: ClassVar[float] = 64.0
    kept_modes: ClassVar[float] = 2 / 3
    initial_laws: ClassVar[tuple[type[InitialLaw], ...]] = (
        RandomWaves,
        RandomSolitons,
        Cnoidal,
    )
    invariants: ClassVar[tuple[Invariant, ...]] = (
        Invariant("P1", "L^2 / T", "int u"),
        Invariant("P3", "L^3 / T^2", "int u^2"),
        Invariant("P5", "L^4 / T^3", "int 2 u^3 - u_x^2"),
        # The truncated equation keeps the first three; these two move with the modes
        # that the grid cuts off.
        Invariant("P7", "L^5 / T^4", "int 5 u^4 - 10 u u_x^2 + u_xx^2", residual=1e-5),
        Invariant(
            "P9",
            "L^6 / T^5",
            "int 14 u^5 - 70 u^2 u_x^2 + 14 u u_xx^2 - u_xxx^2",
            residual=1e-4,
        ),
    )
    intact_properties: ClassVar[frozenset[KdVProperty]] = frozenset(KdVProperty)
    symmetries: ClassVar[tuple[str, ...]] = (
        "d_x",
        "d_t",
        "6 t d_x + d_u",
        "x d_x + 3 t d_t - 2 u d_u",
        "D(dP_n/du) d_u for every odd n",
        "(x, t) -> (-x, -t)",
    )

    @classmethod
    def grid(cls, resolution: int, length: float) -> PeriodicGrid:
        return PeriodicGrid(shape=(resolution,), lengths=(length,))

    @property
    def survivors(self) -> Subgroup:
        return super().survivors & SHIFTS

    @property
    def joint_survivors(self) -> Subgroup:
        return super().joint_survivors & SHIFTS

    @property
    def environment_fields(self) -> FieldSpec:
        candidates = (
            (Potential, "potential", "L / T"),
            (Dispersion, "dispersion", ""),
            (Forcing, "forcing", "L / T^2"),
            (Bathymetry, "depth", ""),
        )
        return FieldSpec(
            fields=tuple(
                Field(name=name, unit=unit, prognostic=False)
                for kind, name, unit in candidates
                if self.term(kind) is not None
            )
        )

    def sample_environment(
        self,
        grid: PeriodicGrid,
        generator: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.float64]:
        """Return potential, dispersion, forcing and depth, those that are there.

        ``strength V``, ``1 + strength V``, ``strength f`` and ``1 + strength g``;
        nothing in them is random.
        """
        channels = []
        for kind, base in ((Potential, 0), (Dispersion, 1), (Forcing, 0)):
            if term := self.term(kind):
                channels.append(base + term.strength * term.pattern(grid))
        if term := self.term(Bathymetry):
            channels.append(1 + term.strength * term.pattern(grid))
        return np.stack(channels) if channels else np.empty((0, *grid.shape))

    def solver(
        self,
        grid: PeriodicGrid,
        environment: "Tensor",
        dt: float,
        refinement: int = 1,
    ) -> "KdVSolver":
        from pde_sym.systems.kdv_solver import KdVSolver

        return KdVSolver(self, grid, environment, dt, refinement=refinement)

    def measure(
        self,
        state: "Tensor",
        grid: PeriodicGrid,
        environment: "Tensor",  # noqa: ARG002
    ) -> Budget:
        from pde_sym.systems.kdv_integrals import INTEGRALS, integral

        u, length = state[:, 0].double(), grid.lengths[0]
        if u.device.type == "cpu" and not u.requires_grad:
            from torch import from_numpy

            from pde_sym.kernels.kdv_polynomials import integrals

            values = from_numpy(integrals(u.numpy(), length)).unbind(1)
        else:
            values = [integral(n, u, length) for n in INTEGRALS]
        return {f"P{n}": value for n, value in zip(INTEGRALS, values, strict=True)}

    def rates(
        self,
        state: "Tensor",
        grid: PeriodicGrid,
        environment: "Tensor",
        time: float = 0.0,
    ) -> Budget:
        """Return the rate of each invariant; `time` is that since frame 0."""
        from pde_sym.systems.kdv_dynamics import Coefficients, Modes, budget_rates

        modes = Modes(grid, state.device)
        c = Coefficients(self, modes, environment.double())
        spectrum = modes.spectrum(state[:, 0].double())
        return budget_rates(c, spectrum, c.spectra, spectrum.real.new_tensor(time))

    def hamiltonian(
        self, state: "Tensor", grid: PeriodicGrid, environment: "Tensor"
    ) -> "Tensor":
        """Return the energy H of ``u_t = d_x dH/du``, terms included.

        ``H = int a u_x^2 / 2 - u^3 - V u^2 / 2 - eps_k u_xx^2 / 2 - eps_g u^4 / 12
        - eps_q u^5 / 20 + eps_f u^2 / 2 + F u`` with the dispersion a, the potential V,
        ``F_x`` the balanced forcing, and strengths of kawahara, gardner, quartic and
        frame. Other terms add nothing: it is constant only where
        `KdVProperty.HAMILTONIAN` is among the properties.
        """
        from pde_sym.systems.kdv_dynamics import hamiltonian

        return hamiltonian(self, state[:, 0].double(), grid, environment.double())
