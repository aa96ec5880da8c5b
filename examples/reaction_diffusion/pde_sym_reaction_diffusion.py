"""Reaction and diffusion on a torus, with a wind: a system of pde_sym on one page.

    u_t = D Lap u + r (u - u^3) - eps b.grad u,   b = (cos, sin)(angle)

Allen and Cahn (1979), Acta Metallurgica 27, eq. 11, with a wind that breaks turns and
flips. Without it, shifts, D4 and u -> -u survive on the square torus.
"""

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Documented

from pde_sym.fields import Field, FieldSpec
from pde_sym.groups import Subgroup
from pde_sym.initial_conditions import RandomField
from pde_sym.systems import BreakingTerm, Invariant, Property, System
from pde_sym.systems.patterns import direction_of, fixing

if TYPE_CHECKING:  # `pde-sym systems` answers without torch
    from torch import Tensor

LONGEST_STEP = 0.01
"""The solver's own steps, in units of 1 / r."""


class Wind(BreakingTerm):
    """A constant wind of speed `strength`."""

    equation: ClassVar[str] = "u_t = D Lap u + r (u - u^3) - eps b.grad u"

    kind: Literal["wind"] = "wind"
    strength: float = Documented(default=0.0, ge=0.0, le=100.0)
    """Speed, in lengths per unit of time."""
    angle: float = Documented(default=0.0, ge=-360.0, le=360.0)
    """Direction against the x axis, in degrees."""

    @property
    def survivors(self) -> Subgroup:
        return Subgroup.of("xy", fixing(direction_of(self.angle)))

    @property
    def breaks(self) -> frozenset[Property]:
        return frozenset()


class ReactionDiffusion(System):
    """Two phases, u = 1 and u = -1, that drive each other out."""

    kind: Literal["reaction_diffusion"] = "reaction_diffusion"
    diffusivity: float = Documented(default=4e-3, gt=0.0, le=1e3)
    """D, in lengths squared per unit of time."""
    rate: float = Documented(default=1.0, gt=0.0, le=1e3)
    """r, per unit of time."""
    breaking: tuple[Wind, ...] = ()

    equation: ClassVar[str] = "u_t = D Lap u + r (u - u^3)"
    fields: ClassVar[FieldSpec] = FieldSpec.of(Field(name="phase"))
    terms: ClassVar[tuple[type[BreakingTerm], ...]] = (Wind,)
    default_dt: ClassVar[float] = 0.1
    default_resolution: ClassVar[int] = 32
    initial_laws: ClassVar[tuple[type[RandomField], ...]] = (RandomField,)
    invariants: ClassVar[tuple[Invariant, ...]] = (Invariant("mass", "L^2", "int u"),)
    intact_properties: ClassVar[frozenset[Property]] = frozenset({Property.SIGN})
    symmetries: ClassVar[tuple[str, ...]] = (
        "d_x",
        "d_y",
        "d_t",
        "x d_y - y d_x",
        "reflections",
        "u -> -u",
    )

    @property
    def environment_fields(self) -> FieldSpec:
        return FieldSpec.of()

    def sample_environment(
        self, grid: Any, generator: np.random.Generator
    ) -> np.ndarray:
        del generator
        return np.empty((0, *grid.shape))

    def solver(
        self, grid: Any, environment: "Tensor", dt: float, refinement: int = 1
    ) -> "Solver":
        return Solver(self, grid, environment, dt, refinement)

    def measure(
        self, state: "Tensor", grid: Any, environment: "Tensor"
    ) -> dict[str, "Tensor"]:
        del environment
        return {"mass": grid.cell_volume * state.sum((1, 2, 3))}

    def rates(
        self, state: "Tensor", grid: Any, environment: "Tensor"
    ) -> dict[str, "Tensor"]:
        """Return ``d/dt int u = r int u - u^3``: neither D nor the wind moves mass."""
        del environment
        gain = self.rate * (state - state**3)
        return {"mass": grid.cell_volume * gain.sum((1, 2, 3))}


class Solver:
    """ETDRK4 in Fourier space; the budget is one more component, with L = 0."""

    def __init__(
        self, system: Any, grid: Any, environment: Any, dt: float, refinement: int
    ) -> None:
        import torch

        from pde_sym.etdrk4 import etdrk4_coefficients

        self.system, self.grid, self.environment = system, grid, environment
        wind = system.term(Wind) or Wind()
        bx, by = (wind.strength * b for b in direction_of(wind.angle))
        kx, ky = np.meshgrid(
            *(grid.wavenumbers(axis) for axis in (0, 1)), indexing="ij"
        )
        linear = -system.diffusivity * (kx**2 + ky**2) - 1j * (bx * kx + by * ky)
        self.steps = refinement * math.ceil(dt * system.rate / LONGEST_STEP)
        every = torch.from_numpy(np.append(linear, 0.0))
        self.coefficients = etdrk4_coefficients(every, dt / self.steps)

    def __call__(self, state: "Tensor") -> "Tensor":
        return self.step(state)[0]

    def step(self, state: "Tensor") -> tuple["Tensor", dict[str, "Tensor"]]:
        import torch

        from pde_sym.etdrk4 import etdrk4_step

        def split(y: torch.Tensor) -> torch.Tensor:
            spectrum = y[:, :-1].reshape(state.shape)
            return torch.fft.ifft2(spectrum).real

        def reaction(y: torch.Tensor) -> torch.Tensor:
            u = split(y)
            mass = self.system.rates(u, self.grid, self.environment)["mass"]
            hat = torch.fft.fft2(self.system.rate * (u - u**3))
            return torch.cat([hat.flatten(1), mass[:, None]], dim=1)

        spectrum = torch.fft.fft2(state.double()).flatten(1)
        y = torch.cat([spectrum, torch.zeros_like(spectrum[:, :1])], dim=1)
        for _ in range(self.steps):
            y = etdrk4_step(reaction, y, self.coefficients)
        return split(y), {"mass": y[:, -1].real}
