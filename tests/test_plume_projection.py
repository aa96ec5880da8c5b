"""The box with walls: its grid, its symmetries and its exact projection."""

import numpy as np
import pytest
import torch
from helpers import observed_order, relative_difference

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.projection import (
    KERNEL,
    Faces,
    Projection,
    centres_of,
    cosines,
    face_weights,
    faces_of,
)
from pde_sym.symmetry import act

GRID = WalledGrid(shape=(12, 9), lengths=(1.0, 1.7))
SPEC = FieldSpec.of(
    Field(name="s"),
    Field(name="w", rank=Rank.PSEUDOSCALAR),
    Field(name="v", rank=Rank.VECTOR, components=2),
)


def random_faces(grid: WalledGrid, seed: int = 0) -> Faces:
    """Draw independent numbers on all faces, walls included."""
    (nx, ny), generator = grid.shape, torch.Generator().manual_seed(seed)
    u = torch.randn(nx + 1, ny, dtype=torch.float64, generator=generator)
    return Faces(u, torch.randn(nx, ny + 1, dtype=torch.float64, generator=generator))


def random_solid(grid: WalledGrid, seed: int) -> torch.Tensor:
    """Draw nothing, a disk, scattered cells or a wall that cuts the box in two."""
    rng, (x, y) = np.random.default_rng(seed), grid.mesh()
    x, y = x / grid.lengths[0], y / grid.lengths[1]
    if seed % 4 == 0:
        solid = np.zeros(grid.shape, dtype=bool)
    elif seed % 4 == 1:
        centre = rng.uniform(size=2)
        distance = np.hypot(x - centre[0], y - centre[1])
        solid = distance < rng.uniform(0.05, 0.4)
    elif seed % 4 == 2:
        solid = rng.uniform(size=grid.shape) < min(0.2, 3.2 / grid.shape[0])
    else:
        solid = np.abs(x - 0.5) < 0.1
    return torch.from_numpy(solid)


def size(faces: Faces) -> float:
    return float((faces.u.square().sum() + faces.v.square().sum()).sqrt())


def minus(a: Faces, b: Faces) -> Faces:
    return Faces(a.u - b.u, a.v - b.v)


def inner(a: Faces, b: Faces) -> float:
    return float((a.u * b.u).sum() + (a.v * b.v).sum())


# Grid and action --------------------------------------------------------------------


def test_points_are_the_centres_of_cells() -> None:
    np.testing.assert_allclose(GRID.coordinates(1), (np.arange(9) + 0.5) * 1.7 / 9)
    assert WalledGrid.square(4).coordinates(0).tolist() == [0.125, 0.375, 0.625, 0.875]
    assert PeriodicGrid.square(4) != WalledGrid.square(4)
    with pytest.raises(InputError, match="no Fourier modes"):
        GRID.wavenumbers(0)


@pytest.mark.parametrize("element", point_group("D4").elements, ids=lambda g: g.name)
def test_action_is_about_the_middle_of_the_box(element: GroupElement) -> None:
    """``(g u)(x) = rho(M) u(M^-1 x)`` on functions of the place from the middle."""
    grid = WalledGrid.square(7)
    x, y = (torch.from_numpy(c) - 0.5 for c in grid.mesh())

    def fields(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.exp(x + 2 * y), x**3 - y, x * y + y**2, x - y**3])

    (a, b), (c, d) = element.matrix
    back = fields(a * x + c * y, b * x + d * y)
    vector = [a * back[2] + b * back[3], c * back[2] + d * back[3]]
    expected = torch.stack([back[0], element.determinant * back[1], *vector])
    moved = act(element, fields(x, y), SPEC, grid)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-14)
    assert torch.equal(act(element.inverse(), moved, SPEC, grid), fields(x, y))
    if element not in (GroupElement(), GroupElement(1, flip=True)):
        # About a point, as on a torus, all others are other maps.
        other = act(element, fields(x, y), SPEC, PeriodicGrid.square(7))
        assert (other - expected).abs().max() > 0.1


def test_quarter_turn_is_rot90() -> None:
    """Plain `rot90` in image order: x is the first index, so its axes are (1, 0)."""
    u = torch.randn(4, 6, 6, dtype=torch.float64)
    moved = act(GroupElement(1), u, SPEC, WalledGrid.square(6))
    turned = torch.rot90(u, 1, (-2, -1))
    assert torch.equal(
        moved, torch.stack([turned[0], turned[1], -turned[3], turned[2]])
    )


def test_there_are_no_shifts_between_walls() -> None:
    with pytest.raises(InputError, match="no shifts between walls"):
        act(GroupElement(shift=(0.25, 0)), torch.zeros(4, 12, 9), SPEC, GRID)


# Centres and faces ------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 8, 33])
def test_means_over_two_faces_determine_the_faces(n: int) -> None:
    """W is the pseudo-inverse of the mean, of norm ``1 / sin(pi / (2 N))``."""
    mean = (np.eye(n, n + 1) + np.eye(n, n + 1, 1)) / 2
    mean[:, [0, n]] = 0.0
    weights = face_weights(n)
    np.testing.assert_allclose(weights, np.linalg.pinv(mean), atol=1e-10)
    inner_faces = np.eye(n + 1)
    inner_faces[[0, n]] = 0.0
    np.testing.assert_allclose(weights @ mean, inner_faces, atol=1e-12)
    if n > 1:
        norm = np.linalg.norm(weights, 2)
        assert norm == pytest.approx(1 / np.sin(np.pi / (2 * n)), rel=1e-12)


def test_faces_survive_the_way_through_the_centres() -> None:
    projection = Projection(GRID, random_solid(GRID, 1))
    faces = projection(random_faces(GRID))
    again = projection(faces_of(centres_of(faces)))
    assert size(minus(again, faces)) <= 1e-12 * size(faces)
    # The mean of means, as interpolation would have it, loses a visible part.
    centres = centres_of(faces)
    u = (centres[0, 1:] + centres[0, :-1]) / 2
    assert relative_difference(u, faces.u[1:-1]) > 0.1


# The projection ---------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 16])
def test_cosines_are_orthonormal_and_diagonalise(n: int) -> None:
    """The Neumann Laplacian has eigenvalues ``-(2 - 2 cos(pi m / N))``."""
    c = cosines(n)
    np.testing.assert_allclose(c @ c.T, np.eye(n), atol=1e-13)
    difference = np.diff(np.eye(n), axis=0)
    eigenvalues = 2 - 2 * np.cos(np.pi * np.arange(n) / n)
    np.testing.assert_allclose(
        c @ difference.T @ difference @ c.T, np.diag(eigenvalues), atol=1e-13
    )


def check_projection(grid: WalledGrid, seed: int) -> None:
    """Check every claim about Q for one random solid and one random field."""
    solid = random_solid(grid, seed)
    if bool(solid.all()):
        solid[0, 0] = False
    projection = Projection(grid, solid)
    raw = random_faces(grid, seed)
    scale = size(raw) / min(grid.spacing)
    flow = projection(raw)
    # No divergence, nothing through walls or into solids.
    assert projection.divergence(flow).abs().max() <= 1e-13 * scale
    assert not flow.u[[0, -1]].any()
    assert not flow.v[:, [0, -1]].any()
    touched = flow.u[1:].abs() + flow.u[:-1].abs()
    touched = touched + flow.v[:, 1:].abs() + flow.v[:, :-1].abs()
    assert not touched[solid].any()
    # Orthogonal: idempotent, and what is removed is at right angles to what is left.
    assert size(minus(projection(flow), flow)) <= 1e-12 * size(raw)
    closed = projection.closed(raw)
    assert abs(inner(flow, minus(closed, flow))) <= 1e-12 * size(raw) ** 2
    assert size(flow) <= size(closed) <= size(raw)
    # Gradients of potentials in the fluid vanish, and nothing but them is removed.
    potential = torch.randn(grid.shape, dtype=torch.float64)
    gradient = projection.closed(projection.gradient(potential))
    assert size(projection(gradient)) <= 1e-11 * max(size(gradient), 1.0)
    mixed = Faces(flow.u + gradient.u, flow.v + gradient.v)
    assert size(minus(projection(mixed), flow)) <= 1e-11 * size(mixed)


@pytest.mark.parametrize("seed", range(40))
def test_projection_in_random_boxes(seed: int) -> None:
    shape = ((8, 8), (16, 16), (12, 9), (7, 20))[seed // 4 % 4]
    check_projection(WalledGrid(shape=shape, lengths=(1.0, shape[1] / shape[0])), seed)


@pytest.mark.slow
def test_projection_in_a_thousand_random_boxes() -> None:
    for seed in range(1000):
        n = (8, 16, 24, 32, 64)[seed // 4 % 5]
        check_projection(WalledGrid.square(n), seed)


@pytest.mark.parametrize("seed", range(4))
def test_projection_is_the_dense_one(seed: int) -> None:
    """Q is the orthogonal projection onto the kernel of D among the closed fields."""
    grid = WalledGrid(shape=(6, 5), lengths=(1.0, 0.7))
    solid = random_solid(grid, seed)
    projection = Projection(grid, solid)
    open_u, open_v = (part.flatten() for part in projection.open)
    number = len(open_u) + len(open_v)
    unit = torch.eye(number, dtype=torch.float64)
    faces = Faces(
        unit[:, : len(open_u)].view(number, 7, 5),
        unit[:, len(open_u) :].view(number, 6, 6),
    )
    mask = torch.cat([open_u, open_v])
    d = projection.divergence(faces).flatten(1).T * mask
    expected = torch.diag(mask) - torch.linalg.pinv(d) @ d
    got = projection(faces)
    matrix = torch.cat([got.u.flatten(1), got.v.flatten(1)], dim=1).T
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)


def test_an_open_face_of_the_solid_would_be_seen() -> None:
    """The plain projection sends fluid through a solid; the capacitance stops it."""
    grid = WalledGrid.square(16)
    solid = random_solid(grid, 1)
    flow = Projection(grid)(random_faces(grid))
    with_solid = Projection(grid, solid)
    index = with_solid.surface[0]
    assert flow.u[index].abs().max() > 0.1
    assert not with_solid(random_faces(grid)).u[index].any()
    eigenvalues = torch.linalg.eigvalsh(with_solid.capacitance)
    # One free potential, that of the inside; all others are far from the kernel.
    assert (eigenvalues.abs() < 1e-9).sum() == 1
    assert eigenvalues.max() < 1e-3 / KERNEL


def test_projection_commutes_with_turns_and_flips() -> None:
    grid = WalledGrid.square(16)
    spec = FieldSpec.of(Field(name="v", rank=Rank.VECTOR, components=2))
    x, y = (torch.from_numpy(c) - 0.5 for c in grid.mesh())
    ring = ((x**2 + y**2).sqrt() - 0.25).abs() < 0.04
    aside = ((x - 0.2) ** 2 + y**2).sqrt() < 0.1
    velocity = torch.randn(2, 16, 16, dtype=torch.float64)

    def project(solid: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        projection = Projection(grid, solid)
        return centres_of(projection(faces_of(centres)))

    for g in point_group("D4"):
        for solid, lowest, highest in ((ring, 0.0, 1e-12), (aside, 0.01, 1.0)):
            if solid is aside and g.name in ("e", "flip y"):
                continue
            before = project(solid, act(g, velocity, spec, grid))
            after = act(g, project(solid, velocity), spec, grid)
            assert lowest <= relative_difference(before, after) <= highest, g.name


def test_stored_divergence_is_of_second_order() -> None:
    """Central differences of the stored centres see a divergence that the faces lack.

    Its size, relative to the gradient, is what a reader of the data will find.
    """
    sizes, found = [16, 32, 64, 128], []
    for n in sizes:
        grid = WalledGrid.square(n)
        nodes = np.linspace(0, 1, n + 1)
        x, y = np.meshgrid(nodes, nodes, indexing="ij")
        psi = np.sin(np.pi * x) * np.sin(2 * np.pi * y) + np.sin(3 * np.pi * x) * y * (
            1 - y
        )
        u, v = np.diff(psi, axis=1) * n, -np.diff(psi, axis=0) * n
        faces = Faces(torch.from_numpy(u), torch.from_numpy(v))
        assert Projection(grid).divergence(faces).abs().max() <= 1e-10
        cu, cv = centres_of(faces)
        ux, vy = (
            (cu[2:] - cu[:-2])[:, 1:-1] * n / 2,
            (cv[:, 2:] - cv[:, :-2])[1:-1] * n / 2,
        )
        found.append(
            float((ux + vy).square().mean().sqrt() / ux.square().mean().sqrt())
        )
    assert observed_order([1 / n for n in sizes], found) == pytest.approx(2, abs=0.1)
    assert 1e-4 < found[2] < 0.01


# Bad input --------------------------------------------------------------------------


def test_solids_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="108 of 108 solid"):
        Projection(GRID, torch.ones(12, 9, dtype=torch.bool))
    with pytest.raises(InputError, match="shape"):
        Projection(GRID, torch.zeros(9, 12, dtype=torch.bool))
