"""``pde-sym models``: what it says of every family, with and without data."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from data_gen.build import build
from data_gen.recipes import Recipe
from experiments.__main__ import main
from experiments.models import describe, example, families
from pde_sym.nn import ModelConfig, count_parameters
from pde_sym.seeds import Split

QUICK = ["models", "--resolution", "8"]


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main([*QUICK, "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_family_is_listed_with_numbers_that_hold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = listed(capsys)
    kinds = [family.model_fields["kind"].default for family in families()]
    assert [row["model"] for row in rows] == kinds
    for row, family in zip(rows, families(), strict=True):
        assert row["axes"] == sorted(family.axes)
        assert row["about"]
        assert row["unavailable"] is None
        config = TypeAdapter(ModelConfig).validate_python(row["config"])
        net = config.build(example(max(family.axes), 8))
        assert row["parameters"] == count_parameters(net)
        assert 0 < sum(row["parts"].values()) <= row["parameters"] or not row["layers"]
        # Which takes longer is a matter of what else the machine does.
        assert min(row["update_ms"], row["step_ms"]) > 0
    named = {row["model"]: {x["layer"] for x in row["layers"]} for row in rows}
    assert named["cnn"] == set()
    assert named["gfno"] == {"GroupSpectralConv", "SteerableConv2d"}
    shown = {row["model"]: row["group"] for row in rows}
    assert (shown["cnn"], shown["gfno"]) == (None, "C4")


def test_a_budget_is_met_or_the_nearest_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = listed(capsys, "--match-parameters", "28000")
    met = [row for row in rows if row["unavailable"] is None]
    assert {row["model"] for row in met} >= {"cnn", "unet", "strict", "modulated"}
    for row in met:
        assert abs(row["parameters"] - 28000) <= 2800
    for row in rows:
        if row not in met:
            assert row["unavailable"].startswith("no width brings")
            assert row["parameters"] is row["update_ms"] is None


def test_data_on_a_line_say_who_serves_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe.parse(
        {"system": {"kind": "kdv"}, "resolution": 32, "frames": 3}, where="recipe"
    )
    build(recipe, {Split.TRAIN: 1, Split.VALID: 1, Split.TEST: 1}, tmp_path / "kdv")
    capsys.readouterr()
    assert main(["models", "--json", "--data", str(tmp_path / "kdv")]) == 0
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["cnn"]["task"] == "line"
    assert rows["cnn"]["parameters"] > 0
    assert "gfno: its networks are for grids of 2 axes" in rows["gfno"]["unavailable"]
    assert rows["gfno"]["parameters"] is None
    assert main(["models", "--data", str(tmp_path / "kdv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:3] == ["gfno", "gfno:", "its"] for line in lines)


def test_the_table_has_a_line_per_family_and_each_formula_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(QUICK) == 0
    page = capsys.readouterr().out
    for family in families():
        name = family.model_fields["kind"].default
        (row,) = [line for line in page.splitlines() if line.startswith(f"│ {name} ")]
        config = family.model_validate({})
        assert f" {config.width} " in row
    assert page.count("out_h'(k) = ") == 1
    assert "arXiv 2306.05697" in page


def test_describing_draws_no_data_and_leaves_the_threads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for family in families():
        row, net = describe(family, None, example(max(family.axes), 16))
        assert net is not None
        assert count_parameters(net) == row["parameters"]
    assert torch.get_num_threads() == 1
    assert capsys.readouterr().out == ""
