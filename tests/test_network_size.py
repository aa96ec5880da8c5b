"""What a network takes at the least is told before it is built, and is not too much."""

import pytest

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.nn import CNNConfig, FNOConfig, StrictConfig, Task, count_parameters
from pde_sym.nn.families.size import VARIABLE, WEIGHT_BYTES, check_fields, check_weights

TASK = Task(state=FieldSpec.of(Field(name="u")), resolution=32)
GIB = 1 << 30


def least(check: object, *arguments: object) -> float:
    """Return the bytes that `check` counts, from what it refuses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "1e-12")
        with pytest.raises(InputError, match="take at least") as caught:
            check(*arguments)  # pyright: ignore[reportCallIssue]
    return float(str(caught.value).split("take at least ")[1].split(" GiB")[0]) * GIB


@pytest.mark.parametrize("width", [8, 24])
def test_weights_of_a_free_network(width: int) -> None:
    """``(depth - 2) C^2 k^2`` between hidden channels, ``2 C k^2`` at the ends."""
    config = CNNConfig(width=width, depth=4, kernel_size=3)
    weights = 2 * width**2 * 9 + 2 * width * 9
    assert least(check_weights, config, TASK) == pytest.approx(
        WEIGHT_BYTES * (weights + 2), rel=1e-3
    )
    parameters = count_parameters(config.build(TASK))
    assert weights <= parameters < weights + 4 * (width + 9)


def test_channels_of_a_group_and_modes_count() -> None:
    strict = StrictConfig(group="D4", width=4, depth=3, kernel_size=5)
    free = CNNConfig(width=32, depth=3, kernel_size=5)
    assert least(check_weights, strict, TASK) == least(check_weights, free, TASK)
    fno = FNOConfig(width=8, depth=4, modes=6)
    parameters = count_parameters(fno.build(TASK))
    assert least(check_weights, fno, TASK) < WEIGHT_BYTES * parameters


def test_hidden_fields_of_a_batch() -> None:
    """``4 B depth C N^2`` bytes for B states."""
    config = CNNConfig(width=16, depth=4)
    expected = 4 * 10 * 4 * 16 * 32**2
    assert least(check_fields, config, TASK, 10) == pytest.approx(expected, rel=1e-3)


def test_what_fits_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    large = CNNConfig(width=8192, depth=4)
    with pytest.raises(InputError, match=VARIABLE):
        large.build(TASK)
    monkeypatch.setenv(VARIABLE, "60")
    check_weights(large, TASK)
