"""The dynamics of two-dimensional flow in torch, for batches.

The readable reference, and what runs where `pde_sym.kernels.flow` cannot: off the CPU
and where gradients are asked for.
"""

import functools

import torch
from torch import Tensor

from pde_sym.etdrk4 import Etdrk4Coefficients, etdrk4_coefficients, etdrk4_step
from pde_sym.systems.flow_budgets import BUDGETS, TRACER_BUDGETS, rates
from pde_sym.systems.flow_dynamics import (
    MAX_CACHED,
    Amplitudes,
    Medium,
    Modes,
    Spectrum,
    batch_of,
)


class TorchFlow:
    """Frames of a batch, of length dt; trajectories with equal steps go together.

    Parameters
    ----------
    media
        One for each trajectory, or one for all.
    """

    def __init__(self, media: list[Medium], spectrum: Spectrum, dt: float) -> None:
        self._media, self._spectrum, self._dt = media, spectrum, dt
        self._coefficients = functools.lru_cache(MAX_CACHED)(self._make_coefficients)

    def _make_coefficients(self, number: int) -> Etdrk4Coefficients:
        # The linear part is the same for all: the environment is explicit.
        linear = Advance(self._media[0], self._spectrum).linear()
        return etdrk4_coefficients(linear, self._dt / number)

    def decompose(self, state: Tensor) -> tuple[Modes, list[Amplitudes]]:
        """Return the modes of states ``(batch, 3 or 4, x, y)`` and their sums."""
        modes = self._spectrum.decompose(state)
        return modes, self._spectrum.amplitudes(modes)

    def advance(self, modes: Modes, numbers: list[int]) -> tuple[Tensor, Tensor]:
        """Return the states after those numbers of steps, and each budget's change.

        The changes are ``(batch, budgets)``.
        """
        order, states, changes = [], [], []
        for number in sorted(set(numbers)):
            rows = [i for i, other in enumerate(numbers) if other == number]
            several = len(self._media) > 1
            media = [self._media[i] for i in rows] if several else self._media
            run = Advance(batch_of(media), self._spectrum).run
            coefficients = self._coefficients(number)
            state, change = run(modes.select(rows), coefficients, number)
            order += rows
            states.append(state)
            changes.append(change)
        back = torch.tensor(order).argsort().to(self._spectrum.device)
        return torch.cat(states)[back], torch.cat(changes)[back]


class Advance:
    """The nonlinear part, and the budgets beside it.

    A packed state is one complex vector: vorticity, tracer if any, mean flow (2),
    displacement of the frame (2) and the budgets, in the order of `names`.
    """

    def __init__(self, medium: Medium, spectrum: Spectrum) -> None:
        self.medium = medium
        self.spectrum = spectrum
        has_tracer = medium.diffusivity is not None
        self.names: tuple[str, ...] = BUDGETS + (TRACER_BUDGETS if has_tracer else ())
        self._fields = 2 if has_tracer else 1
        self._forcing = medium.force_of_vorticity(spectrum)

    def run(
        self, modes: Modes, coefficients: Etdrk4Coefficients, number: int
    ) -> tuple[Tensor, Tensor]:
        """Return the states `number` steps later and the changes of the invariants."""
        y = self.pack(modes)
        for _ in range(number):
            y = etdrk4_step(self, y, coefficients)
        modes, displacement, change = self.unpack(y)
        s = self.spectrum
        if not self.medium.pinned:
            # The frame of the mean flow has moved by the displacement.
            x, y = displacement[..., None, None].unbind(-3)
            phase = torch.exp(-(s.ikx * x + s.iky * y))
            tracer = None if modes.tracer is None else phase * modes.tracer
            modes = Modes(phase * modes.omega, modes.mean, tracer)
        return s.compose(modes), change

    def pack(self, modes: Modes) -> Tensor:
        """Return a packed state whose frame has not moved."""
        rest = modes.mean.new_zeros(*modes.mean.shape[:-1], 2 + len(self.names))
        return self._packed(modes, rest)

    def unpack(self, y: Tensor) -> tuple[Modes, Tensor, Tensor]:
        """Return modes, displacement and budgets."""
        shape = self.spectrum.square.shape
        size = self._fields * shape.numel()
        fields = y[..., :size].unflatten(-1, (self._fields, *shape))
        omega, *tracer = fields.unbind(-3)
        rest = y[..., size:].real
        modes = Modes(omega, rest[..., :2], tracer[0] if tracer else None)
        return modes, rest[..., 2:4], rest[..., 4:]

    @staticmethod
    def _packed(modes: Modes, rest: Tensor) -> Tensor:
        fields = [modes.omega.flatten(-2)]
        if modes.tracer is not None:
            fields.append(modes.tracer.flatten(-2))
        return torch.cat([*fields, modes.mean + 0j, rest + 0j], dim=-1)

    def linear(self) -> Tensor:
        """Return the diagonal of the linear part of a packed state."""
        m, s = self.medium, self.spectrum
        mean = torch.full_like(m.wind, -m.mean_drag)
        spread = None if m.diffusivity is None else -m.diffusivity * s.square + 0j
        return self.pack(Modes(m.linear(s), mean, spread))

    def __call__(self, y: Tensor) -> Tensor:
        modes, _, _ = self.unpack(y)
        budgets = list(rates(self.medium, self.spectrum, modes).values())
        drift = modes.mean + self.medium.wind
        rest = torch.cat([drift, torch.stack(budgets, dim=-1)], dim=-1)
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
        u, v = s.inverse(velocity).unbind(-3)
        wind_x, wind_y = m.wind[..., None, None].unbind(-3)
        cu, cv = (u + wind_x, v + wind_y) if m.pinned else (u, v)
        products = [cu * cv, (cu - cv) * (cu + cv)]
        if m.excess is not None:
            uh, vh = velocity.unbind(-3)
            strain = torch.stack([s.ikx * uh, s.iky * uh + s.ikx * vh], dim=-3)
            stretch, shear = s.inverse(strain).unbind(-3)
            products[0] = products[0] - m.excess * shear
            products[1] = products[1] - 4 * m.excess * stretch
        forces = self._forces(u, v)
        fluxes = []
        if tracer is not None:
            b = s.inverse(tracer)
            fluxes = [cu * b, cv * b]
        factors = torch.stack([*products, *forces, *fluxes], dim=-3)
        uv, difference, *others = s.forward(factors).unbind(-3)
        rate = s.flux[0] * uv + s.flux[1] * difference
        mean_rate = torch.zeros_like(mean)
        if forces:
            fx, fy = others[:2]
            rate = rate + s.kept * (s.ikx * fy - s.iky * fx)
            mean_rate = torch.stack([fx, fy], dim=-1)[..., 0, 0, :].real
        if self._forcing is not None:
            rate = rate + self._forcing
        if tracer is None:
            return Modes(rate, mean_rate)
        ex, ey = m.lift
        if ex or ey:
            rate = rate + (ey * s.ikx - ex * s.iky) * tracer
            lift = tracer[..., 0, 0, None].real * mean.new_tensor(m.lift)
            mean_rate = mean_rate + lift
        spread = -s.kept * (s.ikx * others[-2] + s.iky * others[-1])
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
