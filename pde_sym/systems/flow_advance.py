"""The dynamics of one trajectory of two-dimensional flow, in torch.

The readable reference, and what runs where `pde_sym.kernels.flow` cannot: off the CPU
and where gradients are asked for.
"""

import torch
from torch import Tensor

from pde_sym.etdrk4 import Etdrk4Coefficients, etdrk4_coefficients, etdrk4_step
from pde_sym.systems.flow_budgets import BUDGETS, TRACER_BUDGETS, rates
from pde_sym.systems.flow_dynamics import Amplitudes, Medium, Modes, Spectrum


class Advance:
    """The nonlinear part, and the budgets beside it, for one trajectory.

    A packed state is one complex vector: vorticity, tracer if any, mean flow (2),
    displacement of the frame (2) and the budgets, in the order of `names`.
    """

    def __init__(self, medium: Medium, spectrum: Spectrum) -> None:
        self.medium, self.spectrum = medium, spectrum
        has_tracer = medium.diffusivity is not None
        self.names = BUDGETS + (TRACER_BUDGETS if has_tracer else ())
        self._fields = 2 if has_tracer else 1
        self._forcing = medium.force_of_vorticity(spectrum)
        self._wind = torch.tensor(
            medium.wind, dtype=torch.float64, device=spectrum.device
        )

    def decompose(self, state: Tensor) -> tuple[Modes, Amplitudes]:
        """Return the modes of a state ``(3 or 4, x, y)`` and their sums."""
        modes = self.spectrum.decompose(state)
        return modes, self.spectrum.amplitudes(modes)

    def coefficients(self, dt: float) -> Etdrk4Coefficients:
        """Return the coefficients of a step."""
        return etdrk4_coefficients(self.linear(), dt)

    def advance(
        self, modes: Modes, coefficients: Etdrk4Coefficients, number: int
    ) -> tuple[Tensor, Tensor]:
        """Return the state `number` steps later and the changes of the invariants."""
        y = self.pack(modes)
        for _ in range(number):
            y = etdrk4_step(self, y, coefficients)
        modes, displacement, change = self.unpack(y)
        s = self.spectrum
        if not self.medium.pinned:
            # The frame of the mean flow has moved by the displacement.
            phase = torch.exp(-(s.ikx * displacement[0] + s.iky * displacement[1]))
            tracer = None if modes.tracer is None else phase * modes.tracer
            modes = Modes(phase * modes.omega, modes.mean, tracer)
        return s.compose(modes), change

    def pack(self, modes: Modes) -> Tensor:
        """Return a packed state whose frame has not moved."""
        rest = modes.mean.new_zeros(2 + len(self.names))
        return self._packed(modes, rest)

    def unpack(self, y: Tensor) -> tuple[Modes, Tensor, Tensor]:
        """Return modes, displacement and budgets."""
        size = self._fields * self.spectrum.square.numel()
        omega, *tracer = y[:size].view(self._fields, *self.spectrum.square.shape)
        rest = y[size:].real
        modes = Modes(omega, rest[:2], tracer[0] if tracer else None)
        return modes, rest[2:4], rest[4:]

    @staticmethod
    def _packed(modes: Modes, rest: Tensor) -> Tensor:
        fields = [modes.omega.flatten()]
        if modes.tracer is not None:
            fields.append(modes.tracer.flatten())
        return torch.cat([*fields, torch.cat([modes.mean, rest]).to(fields[0].dtype)])

    def linear(self) -> Tensor:
        """Return the diagonal of the linear part of a packed state."""
        m, s = self.medium, self.spectrum
        mean = torch.full_like(self._wind, -m.mean_drag)
        spread = None if m.diffusivity is None else -m.diffusivity * s.square + 0j
        return self.pack(Modes(m.linear(s), mean, spread))

    def __call__(self, y: Tensor) -> Tensor:
        modes, _, _ = self.unpack(y)
        budgets = list(rates(self.medium, self.spectrum, modes).values())
        rest = torch.cat([modes.mean + self._wind, torch.stack(budgets)])
        return self._packed(self.rate(modes), rest)

    def rate(self, modes: Modes) -> Modes:
        """Return the rates that the linear part leaves over.

        ``w_t = (d_yy - d_xx)(u v - tau_xy) + d_xy (u^2 - v^2 - 2 tau_xx) + curl F``
        (Basdevant 1983, J. Comput. Phys. 50), with the stress tau of nu(x) - nu and
        the force ``F = f (v, -u) - chi u + eps b e``.
        """
        omega, mean, tracer = modes
        m, s = self.medium, self.spectrum
        velocity = s.velocity_of(omega, mean if m.pinned else torch.zeros_like(mean))
        u, v = s.inverse(velocity)
        cu, cv = (u + m.wind[0], v + m.wind[1]) if m.pinned else (u, v)
        products = [cu * cv, (cu - cv) * (cu + cv)]
        if m.excess is not None:
            strain = [s.ikx * velocity[0], s.iky * velocity[0] + s.ikx * velocity[1]]
            stretch, shear = m.excess * s.inverse(torch.stack(strain))
            products = [products[0] - shear, products[1] - 4 * stretch]
        forces = self._forces(u, v)
        fluxes = []
        if tracer is not None:
            b = s.inverse(tracer)
            fluxes = [cu * b, cv * b]
        transformed = s.forward(torch.stack([*products, *forces, *fluxes]))
        rate = (s.flux * transformed[:2]).sum(0)
        mean_rate = torch.zeros_like(mean)
        if forces:
            fx, fy = transformed[2:4]
            rate = rate + s.kept * (s.ikx * fy - s.iky * fx)
            mean_rate = transformed[2:4, 0, 0].real
        if self._forcing is not None:
            rate = rate + self._forcing
        if tracer is None:
            return Modes(rate, mean_rate)
        ex, ey = m.lift
        if ex or ey:
            rate = rate + (ey * s.ikx - ex * s.iky) * tracer
            mean_rate = mean_rate + tracer[0, 0].real * mean.new_tensor(m.lift)
        spread = -s.kept * (s.ikx * transformed[-2] + s.iky * transformed[-1])
        return Modes(rate, mean_rate, spread)

    def _forces(self, u: Tensor, v: Tensor) -> list[Tensor]:
        f, chi = self.medium.coriolis, self.medium.brake
        if f is None and chi is None:
            return []
        fx, fy = torch.zeros_like(u), torch.zeros_like(v)
        if f is not None:
            fx, fy = fx + f * v, fy - f * u
        if chi is not None:
            fx, fy = fx - chi * u, fy - chi * v
        return [fx, fy]
