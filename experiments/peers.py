"""One solver, one problem, one process: what `pde-sym bench solvers` compares.

Run as a script, by any interpreter that has the solver; only NumPy is shared:

    python experiments/peers.py SOLVER PROBLEM.npz

The problem holds initial states ``initial``, their ``reference`` at the time ``end``,
and ``settings``: time steps, or tolerances where the solver chooses its steps. One line
of JSON per setting is printed: ``setting``, ``steps`` per trajectory, the relative
maximum ``error`` at the end, and ``seconds``, the best of several runs of the whole
batch after one that compiles.
"""

# pyright: reportMissingImports=false
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Problem = dict[str, Any]
Advance = Callable[[], Array]
"""Integrates the whole batch from the beginning to the end."""

REPEATS, LEAST_SECONDS = 3, 0.3


def pde_sym_kdv(problem: Problem, dt: float) -> tuple[Advance, int]:
    import torch

    from pde_sym.systems.kdv import KdV
    from pde_sym.systems.kdv_solver import KdVSolver

    torch.set_num_threads(1)
    initial = torch.from_numpy(problem["initial"])[:, None]
    grid = KdV.grid(initial.shape[-1], float(problem["length"]))
    none = torch.empty(1, 0, *grid.shape, dtype=torch.float64)
    end = float(problem["end"])
    steps = round(end / dt)
    solver = KdVSolver(KdV(), grid, none, end, steps=steps)
    return lambda: solver(initial)[:, 0].numpy(), steps


def pde_sym_flow(problem: Problem, dt: float) -> tuple[Advance, int]:
    import torch

    from pde_sym.systems.flow import Flow
    from pde_sym.systems.flow_solver import FlowSolver

    torch.set_num_threads(1)
    initial = torch.from_numpy(problem["state"])
    grid = Flow.grid(initial.shape[-1], float(problem["length"]))
    none = torch.empty(1, 0, *grid.shape, dtype=torch.float64)
    end = float(problem["end"])
    steps = round(end / dt)
    flow = Flow(viscosity=float(problem["viscosity"]))
    solver = FlowSolver(flow, grid, none, end, steps=steps)
    return lambda: solver(initial)[:, 2].numpy(), steps


def pde_sym_heat(problem: Problem, dt: float) -> tuple[Advance, int]:
    import torch

    from pde_sym.grid import PeriodicGrid
    from pde_sym.systems.heat import Heat
    from pde_sym.systems.heat_terms import Bubbles

    torch.set_num_threads(1)
    initial = torch.from_numpy(problem["initial"])[:, None]
    grid = PeriodicGrid.square(initial.shape[-1], float(problem["length"]))
    environment = torch.from_numpy(problem["conductivity"])[:, None]
    steps = round(float(problem["end"]) / dt)
    system = Heat(breaking=(Bubbles(strength=0.9),))
    solver = system.solver(grid, environment, dt)

    def advance() -> Array:
        u = initial
        for _ in range(steps):
            u = solver(u)
        return u[:, 0].numpy()

    return advance, steps


def pde_sym_rigid_body(problem: Problem, dt: float) -> tuple[Advance, int]:
    import torch

    from pde_sym.systems.rigid_body import RigidBody

    torch.set_num_threads(1)
    initial = torch.from_numpy(problem["initial"])[:, :, None, None, None]
    body = RigidBody(inertia=tuple(problem["inertia"].tolist()))
    grid = RigidBody.grid(1, 1.0)
    solver = body.solver(grid, torch.empty(1, 0, *grid.shape), dt)
    steps = round(float(problem["end"]) / dt)

    def advance() -> Array:
        state = initial
        for _ in range(steps):
            state = solver(state)
        return state[:, :, 0, 0, 0].numpy()

    return advance, steps


def pde_sym_plume(problem: Problem, dt: float) -> tuple[Advance, int]:
    import torch

    from pde_sym.systems.plume import Plume

    torch.set_num_threads(1)
    system = Plume.parse(json.loads(str(problem["plume"])), where="problem")
    initial = torch.from_numpy(problem["initial"])
    length = float(problem["length"])
    grid = Plume.grid(initial.shape[-1], length)
    drawn = system.sample_environment(grid, np.random.default_rng(0))
    solver = system.solver(grid, torch.from_numpy(drawn)[None], dt)
    steps = round(float(problem["end"]) / dt)

    def advance() -> Array:
        state = initial
        for _ in range(steps):
            state = solver(state)
        return state[:, 0].numpy()

    return advance, steps


def exponax_kdv(problem: Problem, dt: float) -> tuple[Advance, int]:
    import exponax as ex

    stepper = ex.stepper.KortewegDeVries(
        1, float(problem["length"]), problem["initial"].shape[-1], dt,
        convection_scale=6.0, dispersivity=1.0, hyper_diffusivity=0.0, order=4,
    )  # fmt: skip
    return _exponax(stepper, problem["initial"][:, None], problem, dt)


def exponax_flow(problem: Problem, dt: float) -> tuple[Advance, int]:
    import exponax as ex

    stepper = ex.stepper.NavierStokesVorticity(
        2, float(problem["length"]), problem["initial"].shape[-1], dt,
        diffusivity=float(problem["viscosity"]), order=4,
    )  # fmt: skip
    # Its vorticity is that of the mirror image.
    advance, steps = _exponax(stepper, -problem["initial"][:, None], problem, dt)
    return lambda: -advance(), steps


def _exponax(
    stepper: Any, initial: Array, problem: Problem, dt: float
) -> tuple[Advance, int]:
    import exponax as ex
    import jax

    steps = round(float(problem["end"]) / dt)
    run = jax.jit(jax.vmap(ex.repeat(stepper, steps)))
    start = jax.numpy.asarray(initial)
    return lambda: np.asarray(run(start))[:, 0], steps


def jax_cfd_flow(problem: Problem, dt: float) -> tuple[Advance, int]:
    import jax
    import jax_cfd.base as cfd
    from jax_cfd.spectral import equations, time_stepping

    length, n = float(problem["length"]), problem["initial"].shape[-1]
    grid = cfd.grids.Grid((n, n), domain=((0, length), (0, length)))
    step = time_stepping.crank_nicolson_rk4(
        equations.NavierStokes2D(float(problem["viscosity"]), grid, smooth=True), dt
    )
    steps = round(float(problem["end"]) / dt)

    def one(hat: Any) -> Any:
        return jax.lax.fori_loop(0, steps, lambda _, w: step(w), hat)

    run = jax.jit(jax.vmap(one))
    start = jax.numpy.fft.rfftn(problem["initial"], axes=(1, 2))
    return lambda: np.fft.irfftn(np.asarray(run(start)), axes=(1, 2)), steps


def torch_cfd_flow(problem: Problem, dt: float) -> tuple[Advance, int]:
    import torch
    from torch_cfd.grids import Grid
    from torch_cfd.spectral import NavierStokes2DSpectral, RK4CrankNicolsonStepper

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    length, n = float(problem["length"]), problem["initial"].shape[-1]
    grid = Grid(shape=(n, n), domain=((0, length), (0, length)))
    model = NavierStokes2DSpectral(
        float(problem["viscosity"]),
        grid,
        smooth=True,
        step_fn=RK4CrankNicolsonStepper(),
    ).double()
    steps = round(float(problem["end"]) / dt)
    start = torch.fft.rfft2(torch.from_numpy(problem["initial"]))

    def advance() -> Array:
        with torch.no_grad():
            found, _ = model(start, dt, steps=steps)
        return torch.fft.irfft2(found).numpy()

    return advance, steps


def py_pde_kdv(problem: Problem, dt: float) -> tuple[Advance, int]:
    import pde

    n, length = problem["initial"].shape[-1], float(problem["length"])
    grid = pde.CartesianGrid([[0, length]], [n], periodic=True)
    equation = pde.PDE({"u": "-6 * u * d_dx(u) - laplace(d_dx(u))"})
    return _py_pde(pde, equation, grid, problem, dt)


def py_pde_heat(problem: Problem, dt: float) -> tuple[Advance, int]:
    import pde

    n, length = problem["initial"].shape[-1], float(problem["length"])
    grid = pde.CartesianGrid([[0, length]] * 2, [n, n], periodic=True)
    conductivity = pde.ScalarField(grid, problem["conductivity"][0])
    equation = pde.PDE({"u": "divergence(k * gradient(u))"}, consts={"k": conductivity})
    return _py_pde(pde, equation, grid, problem, dt)


def _py_pde(
    pde: Any, equation: Any, grid: Any, problem: Problem, dt: float
) -> tuple[Advance, int]:
    # It has no batch axis and compiles anew in each run: one run of one trajectory.
    start = pde.ScalarField(grid, problem["initial"][0])
    end = float(problem["end"])

    def advance() -> Array:
        found = equation.solve(
            start, t_range=end, dt=dt, solver="runge-kutta", tracker=None
        )
        return found.data[None]

    return advance, round(end / dt)


def phiflow_plume(problem: Problem, dt: float) -> tuple[Advance, int]:
    from phi.jax import flow as phi

    phi.math.set_global_precision(64)
    batch, _, n, _ = problem["initial"].shape
    steps = round(float(problem["end"]) / dt)
    box = {"x": n, "y": n, "bounds": phi.Box(x=float(n), y=float(n))}
    inflow = phi.resample(
        phi.Sphere(x=n / 2, y=n / 8, radius=n / 16), phi.CenteredGrid(0, 0, **box)
    )
    many = phi.batch(b=batch)
    solve = phi.Solve("CG", 1e-5, x0=None)

    def plain(v: Any, s: Any) -> Any:
        s = phi.advect.mac_cormack(s, v, dt) + 0.2 * dt * inflow
        buoyancy = (s * (0, 0.1)).at(v)
        v = phi.advect.semi_lagrangian(v, v, dt) + buoyancy * dt
        v, _ = phi.fluid.make_incompressible(v, (), solve)
        return v, s

    zero = phi.math.zeros(many)
    start = phi.StaggeredGrid(0, 0, **box) + zero, phi.CenteredGrid(0, 0, **box) + zero
    # Compiled at once, it keeps tracers in its caches.
    plain(*start)
    step = phi.jit_compile(plain)

    def advance() -> Array:
        v, s = start
        for _ in range(steps):
            v, s = step(v, s)
        return np.asarray(s.values.numpy("b,x,y"))

    return advance, steps


def torchdiffeq_rigid_body(problem: Problem, tolerance: float) -> tuple[Advance, int]:
    import torch
    from torchdiffeq import odeint

    torch.set_num_threads(1)
    momentum = torch.from_numpy(problem["initial"])
    inertia = torch.from_numpy(problem["inertia"])
    times = torch.linspace(
        0, float(problem["end"]), int(problem["frames"]), dtype=torch.float64
    )

    def rate(_: Any, pi: Any) -> Any:
        return torch.linalg.cross(pi, pi / inertia)

    def advance() -> Array:
        found = odeint(
            rate, momentum, times, rtol=tolerance, atol=tolerance, method="dopri5"
        )
        return found[-1].numpy()

    return advance, len(times) - 1


def diffrax_rigid_body(problem: Problem, tolerance: float) -> tuple[Advance, int]:
    import diffrax
    import jax
    import jax.numpy as jnp

    frames = int(problem["frames"])
    times = jnp.linspace(0, float(problem["end"]), frames)
    control = diffrax.PIDController(rtol=tolerance, atol=tolerance)
    term = diffrax.ODETerm(lambda _, pi, inertia: jnp.cross(pi, pi / inertia))

    def one(pi: Any, inertia: Any) -> Any:
        return diffrax.diffeqsolve(
            term, diffrax.Dopri8(), 0.0, times[-1], 0.01, pi, inertia,
            saveat=diffrax.SaveAt(ts=times), stepsize_controller=control,
            max_steps=100_000,
        ).ys  # fmt: skip

    run = jax.jit(jax.vmap(one, in_axes=(0, None)))
    data = jnp.asarray(problem["initial"]), jnp.asarray(problem["inertia"])
    return lambda: np.asarray(run(*data))[:, -1], frames - 1


SOLVERS: dict[str, dict[str, Callable[[Problem, float], tuple[Advance, int]]]] = {
    "pde_sym": {
        "plume": pde_sym_plume,
        "kdv": pde_sym_kdv,
        "flow": pde_sym_flow,
        "heat": pde_sym_heat,
        "rigid_body": pde_sym_rigid_body,
    },
    "exponax": {"kdv": exponax_kdv, "flow": exponax_flow},
    "jax-cfd": {"flow": jax_cfd_flow},
    "torch-cfd": {"flow": torch_cfd_flow},
    "py-pde": {"kdv": py_pde_kdv, "heat": py_pde_heat},
    "phiflow": {"plume": phiflow_plume},
    "torchdiffeq": {"rigid_body": torchdiffeq_rigid_body},
    "diffrax": {"rigid_body": diffrax_rigid_body},
}
"""Solver and system -> what integrates a problem of that system."""


def measure(
    make: Callable[[Problem, float], tuple[Advance, int]],
    problem: Problem,
    setting: float,
) -> dict[str, float]:
    """Return one row of the module's output."""
    advance, steps = make(problem, setting)
    found = advance()  # compiles
    reference = problem["reference"][: len(found)]
    error = float(np.abs(found - reference).max() / np.abs(reference).max())
    seconds, began = [], time.perf_counter()
    while len(seconds) < REPEATS or time.perf_counter() - began < LEAST_SECONDS:
        start = time.perf_counter()
        advance()
        seconds.append(time.perf_counter() - start)
    return {
        "setting": setting,
        "steps": steps,
        "trajectories": len(found),
        "error": error,
        "seconds": min(seconds),
    }


def main(solver: str, file: str) -> None:
    with np.load(file) as stored:
        problem = dict(stored)
    if solver in {"exponax", "jax-cfd", "diffrax"}:
        import jax

        jax.config.update("jax_enable_x64", True)
    make = SOLVERS[solver][str(problem["system"])]
    for setting in problem["settings"].tolist():
        print(json.dumps(measure(make, problem, setting)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
