"""Compiled loops for `pde_sym.systems.kdv_solver`, a block of trajectories at a time.

The equation of w is written ``w_t = L w - Phi_x``: ETDRK4 weighs the spectrum of Phi,
and the factor -ik stands in the weights. Phi is formed point by point on one grid, of N
points for quadratic products and of 2 N for cubic and quartic ones.

Rows are transformed `LANES` at a time or a multiple of it, with idle rows where there
are fewer, and otherwise share no arithmetic: the result of a row does not depend on the
rows beside it. Rows that need fewer steps stand last and drop out.
"""

from collections.abc import Callable

import numpy as np
from numba import njit

from pde_sym.etdrk4 import Etdrk4Coefficients
from pde_sym.kernels.kdv_budgets import Budgets, Lines, add_budgets
from pde_sym.kernels.kdv_flux import (
    Complexes,
    Floats,
    Integers,
    Numbers,
    Places,
    Room,
    Terms,
    flux,
    to_spectra,
    to_values,
    turn,
)
from pde_sym.kernels.kdv_polynomials import LANES, NONE, monomials, padded
from pde_sym.systems.kdv_dynamics import Coefficients, gregory_weights
from pde_sym.systems.kdv_integrals import INTEGRALS, variation

BLOCK, BLOCK_OF_TERMS = 32, 16
"""Rows that fit the cache together, without and with terms."""
ON_STAGES = {"potential": 1, "dispersion": 1, "speed": 2, "slope": 2, "width": 1}
IN_BUDGETS = {
    "potential": 2,
    "dispersion": 3,
    "forcing": 1,
    "speed": 2,
    "slope": 1,
    "width": 1,
}
"""Fields that are needed on a grid, and how many of their derivatives from 0."""
EDGE = 7
"""Steps next to an end whose weight is not 1 in the quadrature."""


class CompiledKdV:
    """The step over a frame for one system, grid and `dt`.

    Parameters
    ----------
    c
        The terms, with a batch axis.
    etdrk4
        Returns the coefficients for so many steps per frame, those of w_1 .., mean,
        shift and time.
    dt
        Length of a frame.
    """

    def __init__(
        self,
        c: Coefficients,
        etdrk4: Callable[[int], Etdrk4Coefficients],
        dt: float,
    ) -> None:
        self._points, self._k = c.modes.points, c.modes.k.numpy()
        self._etdrk4, self._dt = etdrk4, dt
        self._tables: dict[int, Complexes] = {}
        self._shared = all(len(s) == 1 for s in c.spectra.values())
        known = c.numbers()
        numbers = Numbers(*(float(known.get(name, 0)) for name in Numbers._fields))
        forcing = np.empty((0, len(self._k)), dtype=np.complex128)
        if "forcing" in c.spectra:
            # Contiguous, or a batch of one would be another compiled signature.
            forcing = np.ascontiguousarray(c.spectra["forcing"].numpy())
        fields, at = _laid_out(c, ON_STAGES)
        steep = numbers.gardner + numbers.quartic
        self._terms = Terms(
            points=self._points * (2 if steep or "speed" in c.spectra else 1),
            plain=not (c.spectra or steep or numbers.modulation),
            k=self._k,
            numbers=numbers,
            fields=fields,
            at=at,
            forcing=forcing,
        )
        self._budgets = _budgets(c)

    def spectra(self, u: Floats) -> tuple[Complexes, Floats]:
        """Return coefficients ``(rows, modes)`` and ``2 sum |u_k|`` less the mean."""
        rows, points = u.shape
        whole = np.zeros((-(-rows // LANES) * LANES, points))
        whole[:rows] = u
        found = np.empty((len(whole), len(self._k)), dtype=np.complex128)
        sizes = np.zeros(len(whole))
        _spectra(whole, found, sizes)
        return found[:rows], sizes[:rows]

    def advance(
        self, spectrum: Complexes, steps: Integers, start: float
    ) -> tuple[Floats, Floats]:
        """Return states ``(rows, N)`` and budgets ``(rows, 5)`` one frame later.

        Parameters
        ----------
        spectrum
            ``(rows, modes)`` from the mean up.
        steps
            Steps of each row in the frame.
        start
            Time since frame 0 at which the frame begins.
        """
        order = np.argsort(-steps, kind="stable")
        counts, which = np.unique(steps[order], return_inverse=True)
        tables = np.stack([self._table(int(count)) for count in counts])
        env = np.zeros_like(order) if self._shared else order
        u = np.empty((len(steps), self._points))
        budgets = np.zeros((len(steps), len(INTEGRALS)))
        _advance(
            spectrum,
            order,
            (steps[order], which, env),
            tables,
            (start, self._dt),
            self._terms,
            self._budgets,
            u,
            budgets,
        )
        return u, budgets

    def _table(self, steps: int) -> Complexes:
        """Return the weights of mean, w_1, .., with the factor -ik of Phi in them."""
        if steps not in self._tables:
            c = self._etdrk4(steps)
            parts = (c.full, c.half, c.inner, c.first, c.middle, c.last)
            raw = np.stack([part.numpy() for part in parts])
            table = np.concatenate([raw[:, -3:-2], raw[:, :-3]], axis=1)
            table[2:, 1:] *= -1j * self._k[1:]
            self._tables[steps] = table
        return self._tables[steps]


def _laid_out(c: Coefficients, wanted: dict[str, int]) -> tuple[Complexes, Places]:
    """Return spectra ``(fields, batch or 1, modes)`` and where each begins."""
    ik, places, found = 1j * c.modes.k.numpy(), {}, []
    for name, orders in wanted.items():
        if name in c.spectra:
            places[name] = len(found)
            found += [c.spectra[name].numpy() * ik**order for order in range(orders)]
    empty = np.empty((0, 1, len(ik)), dtype=np.complex128)
    return (np.stack(found) if found else empty), Places(**places)


def _budgets(c: Coefficients) -> Budgets:
    variations = [variation(n) for n in INTEGRALS]
    needed = {0, 1, 2, 3}
    needed.update(j for p in variations for m in p for j, e in enumerate(m) if e)
    if "kawahara" in c.strength:
        needed.add(5)
    orders = sorted(needed)
    coefficients, places, lines = monomials(variations, orders)
    fields, at = _laid_out(c, IN_BUDGETS)
    return Budgets(
        points=c.budget_points(),
        fields=fields,
        at=at,
        powers=(1j * c.modes.k.numpy()) ** np.array(orders)[:, None],
        fifth=orders.index(5) if 5 in orders else NONE,
        coefficients=coefficients,
        integrals=places,
        factors=padded(lines),
        corrections=gregory_weights(2 * EDGE).numpy()[:EDGE] - 1,
    )


@njit(cache=True)
def _spectra(u, found, sizes) -> None:
    whole = np.empty((LANES, u.shape[1] // 2 + 1), dtype=np.complex128)
    for first in range(0, len(u), LANES):
        to_spectra(u[first : first + LANES], whole)
        for r in range(LANES):
            for m in range(found.shape[1]):
                found[first + r, m] = whole[r, m]
                if m > 0:
                    sizes[first + r] += 2 * abs(whole[r, m])


@njit(cache=True)
def _advance(spectrum, order, plans, tables, clock, terms, budgets, u, totals) -> None:
    """Advance rows, sorted by falling steps, and write them where they belong."""
    k, points = terms.k, u.shape[1]
    block = BLOCK if terms.plain and budgets.points == 0 else BLOCK_OF_TERMS
    block = min(block, -(-len(order) // LANES) * LANES)
    y = np.zeros((block, terms.points // 2 + 1), dtype=np.complex128)
    mean, shift = np.zeros((4, block)), np.zeros((4, block))
    seen = np.zeros((block, points // 2 + 1), dtype=np.complex128)
    values, total = np.empty((block, points)), np.zeros((block, 5))
    for first in range(0, len(order), block):
        own = order[first : first + block]
        y[:], mean[:], shift[:], total[:], seen[:] = 0.0, 0.0, 0.0, 0.0, 0.0
        for r in range(len(own)):
            mean[0, r] = spectrum[own[r], 0].real
            for m in range(1, len(k)):
                y[r, m] = spectrum[own[r], m]
        rows = slice(first, first + len(own))
        plan = plans[0][rows], plans[1][rows], plans[2][rows]
        _integrate(y, mean, shift, plan, tables, clock, terms, budgets, total)
        for r in range(len(own)):
            turn(y[r], -shift[0, r], k, seen[r])
            seen[r, 0] = mean[0, r]
        lanes = -(-len(own) // LANES) * LANES
        to_values(seen[:lanes], values[:lanes])
        for r in range(len(own)):
            for i in range(points):
                u[own[r], i] = values[r, i]
            for i in range(totals.shape[1]):
                totals[own[r], i] = total[r, i]


@njit(cache=True)
def _integrate(y, mean, shift, plan, tables, clock, terms, budgets, total) -> None:
    """Take all steps of one block, in place; `mean` and `shift` have a line per stage.

    `plan` holds steps, table and environment of each row; rows beyond them are idle.
    """
    steps, which, own_env = plan
    block, (start, dt) = len(y), clock
    env, h = np.zeros(block, dtype=np.int64), np.zeros(block)
    rest = np.zeros((6, block))
    for r in range(len(steps)):
        env[r], h[r] = own_env[r], dt / steps[r]
        for i in range(6):
            rest[i, r] = tables[which[r], i, 0].real
    time, drift = np.zeros(block), np.zeros((4, block))
    phi = np.zeros((4, block, y.shape[1]), dtype=np.complex128)
    a, b = np.zeros_like(y), np.zeros_like(y)
    decayed = np.zeros((block, len(terms.k)), dtype=np.complex128)
    room = _room(block, terms)
    lines = _lines(budgets)
    active = len(steps)
    for n in range(steps[0] + 1):
        if budgets.points > 0:
            for r in range(active):
                weight = h[r] * _weight(n, steps[r], budgets.corrections)
                add_budgets(
                    y[r], mean[0, r], shift[0, r], start + n * h[r], env[r],
                    terms, budgets, lines, weight, total[r],
                )  # fmt: skip
        while active > 0 and steps[active - 1] <= n:
            active -= 1
        lanes = -(-active // LANES) * LANES
        for part in range(4 if active > 0 else 0):
            for r in range(active):
                time[r] = start + (n + 0.5 * ((part + 1) // 2)) * h[r]
            flux(
                y if part == 0 else a if part == 1 else b, mean[part], shift[part],
                time, env, lanes, terms, room, phi[part], drift[part],
            )  # fmt: skip
            if part == 0:
                _first(active, y, phi, tables, which, decayed, a)
            elif part == 1:
                _second(active, decayed, phi, tables, which, b)
            elif part == 2:
                _third(active, a, phi, tables, which, b)
            else:
                _last(active, phi, tables, which, y)
            _turn(part, active, h, rest, terms.numbers.frame, mean, shift, drift)


@njit(cache=True)
def _room(block, terms):
    wide, fields = terms.points // 2 + 1, len(terms.fields) * block
    return Room(
        np.zeros((block, terms.points)),
        np.zeros((block, terms.points)),
        np.zeros((block, wide), dtype=np.complex128),
        np.zeros((fields, terms.points)),
        np.zeros((fields, wide), dtype=np.complex128),
        np.full(block, np.nan),
    )


@njit(cache=True)
def _lines(budgets):
    rows = -(-(len(budgets.powers) + len(budgets.fields)) // LANES) * LANES
    return Lines(
        np.zeros((rows, budgets.points // 2 + 1), dtype=np.complex128),
        np.zeros((rows, budgets.points)),
        np.zeros(budgets.points),
    )


@njit(cache=True)
def _weight(n, steps, corrections):
    """Return the weight of point n in the quadrature; see `gregory_weights`."""
    weight = 1.0
    if n < len(corrections):
        weight += corrections[n]
    if steps - n < len(corrections):
        weight += corrections[steps - n]
    return weight


# The combinations of `pde_sym.etdrk4.etdrk4_step`, for one row ------------------------


@njit(cache=True)
def _first(active, y, phi, tables, which, decayed, a) -> None:
    for r in range(active):
        half, inner = tables[which[r], 1], tables[which[r], 2]
        for m in range(1, len(half)):
            decayed[r, m] = half[m] * y[r, m]
            a[r, m] = decayed[r, m] + inner[m] * phi[0, r, m]


@njit(cache=True)
def _second(active, decayed, phi, tables, which, b) -> None:
    for r in range(active):
        inner = tables[which[r], 2]
        for m in range(1, len(inner)):
            b[r, m] = decayed[r, m] + inner[m] * phi[1, r, m]


@njit(cache=True)
def _third(active, a, phi, tables, which, c) -> None:
    for r in range(active):
        half, inner = tables[which[r], 1], tables[which[r], 2]
        for m in range(1, len(half)):
            turned = 2 * phi[2, r, m] - phi[0, r, m]
            c[r, m] = half[m] * a[r, m] + inner[m] * turned


@njit(cache=True)
def _last(active, phi, tables, which, y) -> None:
    for r in range(active):
        full, first = tables[which[r], 0], tables[which[r], 3]
        middle, last = tables[which[r], 4], tables[which[r], 5]
        for m in range(1, len(full)):
            linear = full[m] * y[r, m] + first[m] * phi[0, r, m]
            inside = middle[m] * (phi[1, r, m] + phi[2, r, m])
            y[r, m] = linear + inside + last[m] * phi[3, r, m]


@njit(cache=True)
def _turn(part, active, h, table, frame, mean, shift, drift) -> None:
    """Do the same for mean and shift, ``shift' = 6 mean - frame``."""
    full, half, inner, first, middle, last = table
    for r in range(active):
        if part < 2:
            mean[part + 1, r] = half[r] * mean[0, r] + inner[r] * drift[part, r]
            shift[part + 1, r] = shift[0, r] + h[r] / 2 * (6 * mean[part, r] - frame)
        elif part == 2:
            turned = 2 * drift[2, r] - drift[0, r]
            mean[3, r] = half[r] * mean[1, r] + inner[r] * turned
            shift[3, r] = shift[0, r] + h[r] * (6 * mean[2, r] - frame)
        else:
            # In this form a shift that grows evenly is that of the last stage.
            bend = mean[0, r] + 2 * mean[1, r] - 4 * mean[2, r] + mean[3, r]
            shift[0, r] = shift[3, r] + h[r] * bend
            linear = full[r] * mean[0, r] + first[r] * drift[0, r]
            mean[0, r] = linear + middle[r] * (drift[1, r] + drift[2, r])
            mean[0, r] += last[r] * drift[3, r]
