"""Values of the configuration, the grid and the fields: strict, frozen, canonical."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field as Documented
from pydantic import ValidationError, field_validator

from pde_sym import errors
from pde_sym.config import (
    MAX_ASSIGNMENT,
    MAX_CONFIG_BYTES,
    Frozen,
    assignment,
    canonical_json,
    fingerprint,
    literal,
    read_toml,
)
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid


class Inner(Frozen):
    rate: float = 0.5
    counts: dict[str, int] = Documented(default_factory=dict)


class Outer(Frozen):
    inner: Inner = Inner()
    size: int = Documented(default=4, ge=1)

    @field_validator("size")
    @classmethod
    def _even(cls, size: int) -> int:
        if size % 2:
            raise ValueError("must be even")
        return size


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 3}, "file: size: must be even (got 3)"),
        ({"size": "many"}, "file: size: Input should be a valid integer"),
        ({"inner": {"rate": math.nan}}, "file: inner.rate: Input should be a finite"),
        ({"inner": {"rate": math.inf}}, "(got inf)"),
        ({"shape": 1}, "file: shape: Extra inputs are not permitted (got 1)"),
        ({"inner": {"rte": 1}}, "file: inner.rte: Extra inputs"),
        ({"size": 0, "inner": 1}, ", and 1 more"),
        (7, "file: value: Input should be a valid dictionary"),
        ({"size\n2": 1}, "file: size 2: Extra inputs"),
        ({"size": "x" * 10_000}, "xxx"),
    ],
)
def test_faults_are_one_line_with_key_and_value(values: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Outer.parse(values, where="file")
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert len(text) < 300


def test_values_are_frozen_checked_and_hashable() -> None:
    value = Outer.parse({"size": 6, "inner": {"rate": 1}}, where="file")
    assert value == Outer(size=6, inner=Inner(rate=1.0))
    assert type(value.inner.rate) is float
    with pytest.raises(ValidationError, match="frozen"):
        value.size = 8
    hashes = [hash(PeriodicGrid.square(n)) for n in (8, 8, 9)]
    assert hashes[0] == hashes[1] != hashes[2]

    class Wrong(Frozen):
        size: int = Documented(default=0, ge=1)

    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Wrong()


def test_canonical_json_is_sorted_compact_and_the_same_for_equal_values() -> None:
    text = '{"inner":{"counts":{"a":1,"b":2},"rate":1.0},"size":4}'
    one = Outer(inner=Inner(rate=1, counts={"b": 2, "a": 1}))
    two = Outer.parse(json.loads(text), where="text")
    assert canonical_json(one) == canonical_json(two) == text
    assert canonical_json(json.loads(text)) == text
    assert canonical_json([2, {"b": None, "a": True}]) == '[2,{"a":true,"b":null}]'
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json({"a": value})
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json(Inner.model_construct(rate=value))


def test_fingerprint_is_the_hash_of_the_canonical_json() -> None:
    value = Outer()
    expected = hashlib.sha256(canonical_json(value).encode()).hexdigest()
    assert fingerprint(value) == expected
    assert fingerprint(Outer(size=4)) == expected
    close = Outer(inner=Inner(rate=math.nextafter(0.5, 1)))
    assert len({expected, fingerprint(Outer(size=6)), fingerprint(close)}) == 3


def test_assignment() -> None:
    assert assignment("a=1", "--set") == ("a", "1")
    assert assignment(" a.b = c=d ", "--set") == ("a.b", "c=d")
    too_long = "a=" + "1" * MAX_ASSIGNMENT
    for text in ("", "a", "a=", "=1", " =1", "a= ", "=", too_long):
        with pytest.raises(InputError, match=r"^--break .*: expected NAME=NUMBER$"):
            assignment(text, "--break", "NAME=NUMBER")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-2.5e-3", -0.0025),
        ("true", True),
        ("null", None),
        ("[1, [2]]", [1, [2]]),
        ('"3"', "3"),
        ("bump", "bump"),
        ("", ""),
        ("1.2.3", "1.2.3"),
        ("[1,", "[1,"),
        ("True", "True"),
        ("[" * 5000, "[" * 5000),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_literal_keeps_its_type_or_stays_text(text: str, value: Any) -> None:
    assert literal(text) == value
    assert type(literal(text)) is type(value)


def test_read_toml(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('[grid]\nname = "ü"\nshape = [8, 8]\n', encoding="utf-8")
    assert read_toml(path) == {"grid": {"name": "ü", "shape": [8, 8]}}
    full = b"a = 1\n" + b"#" * (MAX_CONFIG_BYTES - 6)
    path.write_bytes(full)
    assert read_toml(path) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = 1\n" + b"#" * MAX_CONFIG_BYTES, "at most 65536"),
        (b"a = ", "not valid TOML"),
        (b"a = 1\na = 2", "not valid TOML"),
        (b"\xff\xfe", "cannot be read"),
        (b".".join([b"a"] * 202) + b" = 1", "more than 200 dots"),
        (b"a = " + b"[" * 20_000, "not valid TOML"),
        (b"a = " + b"9" * 5000, "not valid TOML"),
    ],
)
def test_read_toml_refuses(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_toml(path)
    assert str(path) in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_toml(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_toml(tmp_path / "missing.toml")


def test_a_message_is_one_line_that_a_terminal_does_not_obey() -> None:
    error = InputError("a\n b\x1b[2J\x07 ü")
    assert errors.one_line(error) == "a b\ufffd[2J\ufffd ü"


def test_exit_codes_tell_the_errors_apart() -> None:
    kinds = ("PdeSymError", "InputError", "OutputError", "DataError", "SimulationError")
    codes = [getattr(errors, kind).exit_code for kind in kinds]
    assert codes == [1, 2, 3, 4, 5]
    assert all(issubclass(getattr(errors, kind), errors.PdeSymError) for kind in kinds)
    # A validator of pydantic may raise it.
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": (8, 0), "lengths": (1, 1)}, "shape.1: Input should be greater"),
        ({"shape": (-8, 8), "lengths": (1, 1)}, "shape.0: Input should be greater"),
        ({"shape": (8.5, 8), "lengths": (1, 1)}, "shape.0: .*valid integer"),
        ({"shape": (8, 8), "lengths": (1, 0)}, "lengths.1: Input should be greater"),
        ({"shape": (8, 8), "lengths": (1, math.inf)}, "lengths.1: .*finite"),
        ({"shape": (8, 8), "lengths": (1,)}, "2 axes in shape but 1 lengths"),
        ({"shape": (), "lengths": ()}, "1 to 3 axes, got 0"),
        ({"shape": (2,) * 4, "lengths": (1,) * 4}, "1 to 3 axes, got 4"),
        ({"shape": (8, 8)}, "lengths: Field required"),
    ],
)
def test_a_grid_refuses(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PeriodicGrid.parse(values, where="grid")


def test_points_start_at_the_left_end_and_leave_the_right_one_out() -> None:
    """``x_i = i L / N``, i = 0 .. N-1; arrays are indexed (x, y)."""
    grid = PeriodicGrid(shape=(4, 5), lengths=(2.0, 10.0))
    x, y = grid.mesh()
    assert x.shape == y.shape == (4, 5)
    assert np.array_equal(x[:, 0], [0, 0.5, 1, 1.5])
    assert np.array_equal(y[0], [0, 2, 4, 6, 8])
    # Axis 0 is x: it varies along the first index only.
    assert np.ptp(x, axis=1).max() == np.ptp(y, axis=0).max() == 0
    assert np.array_equal(grid.coordinates(1), y[0])
    assert grid.spacing == (0.5, 2.0)
    assert grid.cell_volume == 1.0
    assert grid.volume == grid.cell_volume * grid.num_points == 20.0
    assert grid.axis_names == ("x", "y")


def test_the_cell_volume_is_the_weight_of_the_trapezoidal_rule() -> None:
    """``int (1 + cos(2 pi x / L_x))^2 dx dy = 3 / 2 L_x L_y``, exact on the grid."""
    grid = PeriodicGrid(shape=(6, 5), lengths=(2.0, 3.0))
    x, _ = grid.mesh()
    integral = grid.cell_volume * ((1 + np.cos(np.pi * x)) ** 2).sum()
    assert integral == pytest.approx(1.5 * 6)


@pytest.mark.parametrize(("shape", "length"), [((8, 6), 2.0), ((5, 7), 3.0)])
def test_wavenumbers_are_those_of_the_fft(
    shape: tuple[int, int], length: float
) -> None:
    """``d/dx cos(k x) = -k sin(k x)`` by ``i k`` in FFT order."""
    grid = PeriodicGrid(shape=shape, lengths=(length, 1.0))
    k = grid.wavenumbers(0)
    assert k[0] == 0
    assert k[1] == pytest.approx(2 * np.pi / length)
    assert k[-1] == pytest.approx(-2 * np.pi / length)
    x = grid.coordinates(0)
    slope = np.fft.ifft(1j * k * np.fft.fft(np.cos(2 * k[1] * x))).real
    assert np.allclose(slope, -2 * k[1] * np.sin(2 * k[1] * x), atol=1e-12)


def test_square_grids() -> None:
    assert PeriodicGrid.square(9, 2.0).is_square
    assert not PeriodicGrid(shape=(8, 9), lengths=(1, 1)).is_square
    assert not PeriodicGrid(shape=(8, 8), lengths=(1, 2)).is_square


SPEC = FieldSpec.of(
    Field(name="temperature", unit="K"),
    Field(name="velocity", rank=Rank.VECTOR, components=2),
    Field(name="vorticity", rank=Rank.PSEUDOSCALAR, prognostic=False),
)


def test_fields_say_where_their_channels_are() -> None:
    assert SPEC.names == ("temperature", "velocity", "vorticity")
    assert SPEC.num_channels == 4
    assert len(SPEC) == 3
    assert [field.name for field in SPEC] == list(SPEC.names)
    slices = SPEC.slices()
    assert slices == {
        "temperature": slice(0, 1),
        "velocity": slice(1, 3),
        "vorticity": slice(3, 4),
    }
    names = ("temperature", "velocity_x", "velocity_y", "vorticity")
    assert SPEC.channel_names == names
    assert SPEC.channel_names[slices["velocity"]] == ("velocity_x", "velocity_y")
    assert [rank.tensor_order for rank in Rank] == [0, 0, 1, 2]


def test_the_components_of_a_tensor_are_its_rows() -> None:
    plane = Field(name="stress", rank=Rank.TENSOR, components=4)
    names = [f"stress_{axes}" for axes in ("xx", "xy", "yx", "yy")]
    assert FieldSpec.of(plane).channel_names == tuple(names)
    attitude = Field(name="r", rank=Rank.TENSOR, components=9)
    assert FieldSpec.of(attitude).channel_names[3:6] == ("r_yx", "r_yy", "r_yz")
    fields = (*SPEC, plane, attitude)
    assert [f.component_shape for f in fields] == [(), (2,), (), (2, 2), (3, 3)]
    with pytest.raises(InputError, match=r"d\^2 components on d axes, got 3") as told:
        Field.parse({"name": "t", "rank": "tensor", "components": 3}, where="field")
    assert "\n" not in str(told.value)


def test_derived_fields_are_not_prognostic() -> None:
    assert SPEC.prognostic().names == ("temperature", "velocity")
    assert SPEC.prognostic().prognostic() == SPEC.prognostic()


def test_specs_add_in_order_and_names_must_differ() -> None:
    given = FieldSpec.of(Field(name="capacity"))
    assert (SPEC + given).names == (*SPEC.names, "capacity")
    assert (given + SPEC).slices()["velocity"] == slice(2, 4)
    with pytest.raises(ValidationError, match="field names must differ"):
        _ = SPEC + SPEC
    with pytest.raises(InputError, match=r"fields\.0\.components: .*got 0"):
        FieldSpec.parse({"fields": [{"name": "u", "components": 0}]}, where="spec")
    with pytest.raises(InputError, match=r"fields\.0\.rank: .*'spinor'"):
        FieldSpec.parse({"fields": [{"name": "u", "rank": "spinor"}]}, where="spec")
    with pytest.raises(InputError, match=r"fields\.0\.colour: Extra"):
        FieldSpec.parse({"fields": [{"name": "u", "colour": 1}]}, where="spec")
