"""Tables of imaginary sweeps: strict is best at first, free at last, relaxed always."""

import numpy as np

from experiments.sweep_table import Measured, Row, Scores, Table

ROLES = {
    "strict": "strict",
    "free": "free",
    "free_augmented": "free",
    "modulated": "relaxed",
    "isotypic": "relaxed",
    "rpp": "relaxed",
    "rgroup": "relaxed",
}
STRENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0)
IRREPS = ("pseudoscalar", "vector", "quadrupole", "|m| = 1", "|m| = √2")


def make_table(
    families: tuple[str, ...] = tuple(ROLES),
    strengths: tuple[float, ...] = STRENGTHS,
    seeds: int = 5,
    sizes: tuple[int, ...] = (8, 32),
    **changes: object,
) -> Table:
    """Return a table; solver's defect is a tenth of the strength, a vector."""
    rows = [
        make_row(family, strength, size, seed)
        for strength in strengths
        for size in sizes
        for family in families
        for seed in range(seeds)
    ]
    values = {
        "title": "Imaginary flow",
        "system": "flow",
        "term": "beta",
        "equation": "w_t = - eps v",
        "tuning_runs": dict.fromkeys(families, 3 * len(strengths)),
        "tuning_seconds": dict.fromkeys(families, 100.0),
        "rows": tuple(rows),
    }
    return Table.model_validate(values | changes)


def make_row(family: str, strength: float, size: int = 8, seed: int = 0) -> Row:
    rng = np.random.default_rng([seed, list(ROLES).index(family)])
    noise = float(np.exp(0.08 * rng.standard_normal()))
    number = list(ROLES).index(family)
    base = {
        "strict": 0.08 + 0.3 * strength,
        "free": 0.2 + 0.01 * strength,
        "free_augmented": 0.12 + 0.1 * strength,
    }.get(family, 0.075 + 0.01 * number + 0.02 * strength)
    error = base * noise * (8 / size) ** 0.5
    solver = 0.1 * strength
    follows = {"strict": 0.0, "free": 0.9, "free_augmented": 0.3}.get(family, 0.97)
    own = follows * solver + (0.0 if family == "strict" else 0.01 * noise)
    return Row(
        family=family,
        role=ROLES[family],
        strength=strength,
        size=size,
        seed=seed,
        candidate=0,
        settings="a" * 64,
        failed=None,
        parameters=11000,
        flops=12_000_000 if family.startswith("free") else 50_000_000,
        valid=error,
        test=make_scores(error),
        shifted=make_scores(1.5 * error),
        future=make_scores(1.2 * error),
        floors={
            "persistence": make_scores(0.6 + 0.2 * strength),
            "coarse": make_scores(0.05),
            "shifted_persistence": make_scores(0.8 + 0.2 * strength),
            "shifted_coarse": None,
            "future_persistence": make_scores(0.7 + 0.2 * strength),
        },
        strict_floors={"shifts, C4": solver / 2},
        defects={
            "kept": Measured(solver=1e-16, model=own / 3),
            "broken": Measured(solver=solver + 1e-16, model=own),
        },
        spectrum={
            name: Measured(
                solver=solver**2 * 10.0 ** -(3 * (name != "vector")),
                model=own**2 * 10.0 ** -(2 * (name != "vector")),
            )
            for name in IRREPS
        },
        drift={
            name: Measured(solver=1e-8, model=0.1 * error)
            for name in ("energy", "enstrophy")
        },
        residual={
            name: Measured(solver=1e-9, model=0.08 * error)
            for name in ("energy", "enstrophy")
        },
        seconds={"train": 20.0 + seed, "evaluate": 2.0},
        versions={"torch": "2"},
    )


def make_scores(error: float) -> Scores:
    return Scores(one_step=error / 10, steps=error, last=1.6 * error)
