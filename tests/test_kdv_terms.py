"""What every breaking term of KdV keeps and breaks, from both sides, on the solver."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import relative_difference
from kdv_cases import (
    BROKEN,
    CLOSE,
    DT,
    EXACT,
    FINE,
    GRID,
    LENGTH,
    NAMES,
    STEPS,
    TERMS,
    environment_of,
    flow,
    reflected,
    shifted,
    squeezed,
    states,
    system_of,
)
from torch import Tensor

from pde_sym.arrays import ArrayFile
from pde_sym.errors import InputError, LostTrajectoryError
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement
from pde_sym.simulate import simulate
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_dynamics import Modes
from pde_sym.systems.kdv_integrals import derivatives, integral
from pde_sym.systems.kdv_solver import KdVSolver
from pde_sym.systems.kdv_terms import (
    Bathymetry,
    Dispersion,
    Forcing,
    Gardner,
    KdVProperty,
    Potential,
    Quartic,
)

# Shifts -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("by", [0.25, 0.1234])
def test_surviving_shifts(name: str, by: float) -> None:
    system = system_of(name)
    phi, u = flow(system), states()
    defect = relative_difference(phi(shifted(u, by)), shifted(phi(u), by))
    if GroupElement(shift=(by, 0.0)) in system.survivors:
        assert defect <= 1e-13
    else:
        assert defect >= 1e-5


@pytest.mark.parametrize("by", [0.25, 0.1234])
@pytest.mark.parametrize("name", ["potential", "dispersion", "forcing", "bathymetry"])
def test_moving_the_environment_too_restores_shifts(name: str, by: float) -> None:
    system, u = system_of(name), states()
    environment = environment_of(system)
    moved = flow(system, environment=shifted(environment, by))
    left, right = moved(shifted(u, by)), shifted(flow(system)(u), by)
    assert relative_difference(left, right) <= EXACT
    assert GroupElement(shift=(by, 0.0)) in system.joint_survivors
    assert GroupElement(turns=1) not in system.joint_survivors


# Other properties -------------------------------------------------------------------


def drift(n: int, before: Tensor, after: Tensor) -> float:
    """Return the largest relative change of int P_n."""
    a, b = (integral(n, u[:, 0], LENGTH) for u in (before, after))
    return float(((b - a).abs() / a.abs()).max())


def image(u: Tensor, strength: float) -> Tensor:
    """Return ``v = u + i s u_x + s^2 u^2``, a solution of KdV for one of Gardner."""
    s = np.sqrt(strength / 6)
    modes = Modes(PeriodicGrid(shape=(4 * u.shape[-1],), lengths=(LENGTH,)))
    spectrum = torch.fft.rfft(u, norm="forward")
    k = modes.k[: spectrum.shape[-1]]
    v, vx = derivatives(spectrum, k, modes.points, 1)
    return v + 1j * s * vx + s**2 * v**2


def galilei_defect(phi: KdVSolver, u: Tensor) -> float:
    boost = 0.5
    expected = shifted(phi(u), 6 * boost * DT / LENGTH) + boost
    return relative_difference(phi(u + boost), expected)


def scaling_defect(system: KdV) -> float:
    """Compare states and their images on a grid that resolves both."""
    environment, u = environment_of(system, FINE), states(grid=FINE)
    phi = system.solver(FINE, environment, DT)
    fine = system.solver(FINE, environment, DT / 8)
    return relative_difference(fine(squeezed(u)), squeezed(phi(u)))


def reversal_defect(phi: KdVSolver, u: Tensor) -> float:
    """A frame forward, turned, and the frame before zero forward."""
    return relative_difference(reflected(phi.at(-1)(reflected(phi(u)))), u)


def violation(which: KdVProperty, system: KdV, steps: int = STEPS) -> float:
    """Return how far the flow misses a property, relative to its result."""
    phi, u = flow(system, steps=steps), states()
    v = phi(u)
    match which:
        case KdVProperty.TIME:
            return relative_difference(phi.at(3)(u), phi(u))
        case KdVProperty.GALILEI:
            return galilei_defect(phi, u)
        case KdVProperty.SCALING:
            return scaling_defect(system)
        case KdVProperty.REVERSAL:
            return reversal_defect(phi, u)
        case KdVProperty.MASS:
            return drift(1, u, v)
        case KdVProperty.MOMENTUM:
            return drift(3, u, v)
        case KdVProperty.ENERGY:
            return drift(5, u, v)
        case KdVProperty.HIERARCHY:
            return min(drift(7, u, v), drift(9, u, v))
        case KdVProperty.HAMILTONIAN:
            environment = environment_of(system)
            a, b = (system.hamiltonian(w, GRID, environment) for w in (u, v))
            return float(((b - a).abs() / a.abs()).max())
        case KdVProperty.INTEGRABILITY:
            gardner = system.term(Gardner)
            if gardner is None:
                return violation(KdVProperty.HIERARCHY, system)
            return max(drift(n, *images(u, v, gardner.strength)) for n in (3, 5, 7, 9))


def images(u: Tensor, v: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    return image(u, strength), image(v, strength)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", KdVProperty)
def test_properties(which: KdVProperty, name: str | None) -> None:
    """Each property holds to the error of the steps, or is missed visibly."""
    system = system_of(name)
    missed = violation(which, system)
    if which in system.properties:
        assert missed <= CLOSE
    else:
        assert missed >= BROKEN


@pytest.mark.parametrize("which", [KdVProperty.TIME, KdVProperty.GALILEI])
def test_what_does_not_wait_for_small_steps(which: KdVProperty) -> None:
    """Shifts of time and boosts are kept to round-off with the fewest steps."""
    for name in NAMES:
        system = system_of(name)
        if which in system.properties:
            assert violation(which, system, steps=50) <= 1e-13, name


def test_the_image_of_gardner_is_its_own() -> None:
    """Its integrals tell the right strength and the right equation from others."""
    u = states()
    for name, strength in (("gardner", 1.9), ("quartic", 2.0), ("quartic", 1.0)):
        v = flow(system_of(name))(u)
        assert drift(7, *images(u, v, strength)) >= BROKEN


def test_an_own_profile_breaks_reversal(tmp_path: Path) -> None:
    x = GRID.coordinates(0) / LENGTH
    np.save(tmp_path / "v.npy", np.sin(2 * np.pi * x) + np.cos(4 * np.pi * x))
    file = ArrayFile.model_validate(tmp_path / "v.npy")
    for kind in (Potential, Dispersion, Bathymetry, Forcing):
        term = kind(strength=0.3, field=file)
        assert KdVProperty.REVERSAL in term.breaks
        system = KdV(breaking=(term,))
        assert reversal_defect(flow(system, steps=150), states()) >= 1e-5


# Strength ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", TERMS)
def test_strength_zero_is_the_intact_system_bit_for_bit(name: str) -> None:
    term = TERMS[name].model_copy(update={"strength": 0.0})
    broken, intact = KdV(breaking=(term,)), KdV()
    assert broken.survivors == intact.survivors
    assert broken.properties == intact.properties
    runs = [
        simulate(system, GRID, states(), environment_of(system), dt=DT, num_frames=3)
        for system in (broken, intact)
    ]
    assert torch.equal(runs[0].states, runs[1].states)
    for invariant in KdV.invariants:
        for part in ("invariants", "budgets"):
            a, b = (getattr(run, part)[invariant.name] for run in runs)
            assert torch.equal(a, b)


def symmetry_defect(system: KdV, name: str) -> float:
    """Return the defect of a symmetry that the term of that name breaks."""
    phi, u, term = flow(system), states(), TERMS[name]
    if GroupElement(shift=(0.3, 0.0)) not in system_of(name).survivors:
        return relative_difference(shifted(phi(shifted(u, 0.3)), -0.3), phi(u))
    if KdVProperty.TIME in term.breaks:
        return relative_difference(phi.at(2)(u), phi(u))
    if KdVProperty.GALILEI in term.breaks:
        return galilei_defect(phi, u)
    return scaling_defect(system)


@pytest.mark.parametrize("name", TERMS)
def test_symmetry_defect_is_linear_in_a_small_strength(name: str) -> None:
    strengths = np.geomspace(1e-3, 1e-2, 3)
    measured = [symmetry_defect(weaker(name, s), name) for s in strengths]
    assert slope(strengths, measured) == pytest.approx(1.0, abs=0.05)
    nothing = symmetry_defect(weaker(name, 0.0), name)
    assert nothing == symmetry_defect(KdV(), name)
    assert nothing <= 1e-3 * measured[0]


@pytest.mark.parametrize("name", TERMS)
def test_drift_is_linear_in_a_small_strength(name: str) -> None:
    """For every integral that the term breaks; the controls drift in none of theirs."""
    u, strengths = states(), np.geomspace(1e-3, 1e-2, 3)
    systems = [weaker(name, s) for s in (0.0, *strengths)]
    results = [flow(system)(u) for system in systems]
    broken = {
        n for n, which in INTEGRAL_PROPERTIES.items() if which in TERMS[name].breaks
    }
    assert (broken == set()) == (name == "frame")
    for n in INTEGRAL_PROPERTIES:
        start, *changed = (integral(n, v[:, 0], LENGTH) for v in results)
        drifts = [float(((v - start) / start).abs().max()) for v in changed]
        if n in broken:
            assert slope(strengths, drifts) == pytest.approx(1.0, abs=0.05), n
        else:
            assert max(drifts) <= 1e-11, n
    if name == "gardner":
        for system, v in zip(systems[1:], results[1:], strict=True):
            strength = system.breaking[0].strength
            for n in (3, 5, 7, 9):
                assert drift(n, *images(u, v, strength)) <= 1e-10, n


def weaker(name: str, factor: float) -> KdV:
    """Return the system with that part of the strength of `TERMS`."""
    term = TERMS[name]
    return KdV(breaking=(term.model_copy(update={"strength": factor * term.strength}),))


def slope(strengths: np.ndarray, measured: list[float]) -> float:
    return float(np.polyfit(np.log(strengths), np.log(measured), 1)[0])


INTEGRAL_PROPERTIES = {
    1: KdVProperty.MASS,
    3: KdVProperty.MOMENTUM,
    5: KdVProperty.ENERGY,
    7: KdVProperty.HIERARCHY,
    9: KdVProperty.HIERARCHY,
}


# Bad input --------------------------------------------------------------------------


def test_bad_strengths_and_profiles_are_one_line(tmp_path: Path) -> None:
    for kind in KdV.terms:
        with pytest.raises(InputError, match="strength") as caught:
            kind.parse({"strength": -1e-3}, where=str(kind.model_fields["kind"]))
        assert "\n" not in str(caught.value)
        assert kind.equation
    u, wide = states(), KdV.grid(64, LENGTH)
    np.save(tmp_path / "one.npy", np.ones(128))
    one = ArrayFile.model_validate(tmp_path / "one.npy")
    term = Potential(strength=0.1, field=one)
    with pytest.raises(InputError, match=r"potential.field: expected shape \(64,\)"):
        term.pattern(wide)
    np.save(tmp_path / "deep.npy", -np.ones(128))
    deep = ArrayFile.model_validate(tmp_path / "deep.npy")
    with pytest.raises(InputError, match="depth must be > 0, got -1"):
        flow(KdV(breaking=(Bathymetry(strength=2.0, field=deep),)))
    strong = KdV(breaking=(Quartic(strength=1e3),))
    phi = strong.solver(GRID, environment_of(strong), DT)
    with pytest.raises(LostTrajectoryError, match="a strength or dt"):
        phi(50 * u)


def test_environment_holds_the_fields_of_the_terms() -> None:
    names = ("forcing", "bathymetry", "dispersion", "potential", "damping")
    system = KdV(breaking=tuple(TERMS[n] for n in names))
    fields = system.environment_fields
    assert fields.names == ("potential", "dispersion", "forcing", "depth")
    drawn = system.sample_environment(GRID, np.random.default_rng(0))
    assert drawn[:, 64] == pytest.approx([0.3, 1.3, 0.2, 1.3])
    assert np.array_equal(drawn[:, 1:], drawn[:, :0:-1])
    balanced = TERMS["forcing balanced"]
    assert isinstance(balanced, Forcing)
    assert balanced.pattern(GRID).mean() == pytest.approx(0.0, abs=1e-15)
