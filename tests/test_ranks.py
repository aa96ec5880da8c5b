"""Several processes train what one does: shares, means, gradients, weights."""

import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import safetensors.torch
import torch
from forked_ranks import exit_codes, on_ranks
from hypothesis import given
from hypothesis import strategies as st
from test_training_resume import CONFIG, Stored, fresh, states
from test_training_state import MODEL
from torch import Tensor, distributed, nn

from pde_sym.augmentation import EquivariancePenalty, GroupAugmentation
from pde_sym.errors import InputError
from pde_sym.objective import TrainConfig
from pde_sym.ranks import ALONE, Ranks, joined
from pde_sym.training import Rollouts, fit

SIZES = [2, 3]
UNEVEN = CONFIG.model_copy(
    update={
        "updates": 40,
        "batch_size": 5,
        "augmentation": GroupAugmentation(group="D4"),
        "equivariance_penalty": EquivariancePenalty(group="C4", weight=0.1),
        "penalty": 0.1,
    }
)
"""Everything that a loss may have, and batches that no number of ranks divides."""
SEEN = 1e-5
"""What weights differ by, and more, when something counts twice or not at all."""


@given(count=st.integers(0, 50), size=st.integers(1, 9))
def test_shares_are_all_of_it_and_as_equal_as_can_be(count: int, size: int) -> None:
    shares = [range(count)[Ranks(rank, size).share(count)] for rank in range(size)]
    assert [number for share in shares for number in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_joins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in ("1", "2"):
        monkeypatch.setenv("WORLD_SIZE", size)
        with joined() as ranks:
            assert ranks is ALONE
            assert not distributed.is_initialized()
    values = torch.arange(3.0)
    assert ALONE.share(3) == slice(0, 3)
    assert ALONE.mean(values) == 1
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.from_first(b"bytes") == b"bytes"
    ALONE.average([values])
    assert values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("size", SIZES)
def test_what_ranks_exchange(tmp_path: Path, size: int) -> None:
    def work(ranks: Ranks) -> bytes:
        flags = [ranks.any(ranks.rank == one) for one in range(size)]
        assert flags == [True] * size
        assert not ranks.any(False)
        one, other = torch.full((2, 3), float(ranks.rank)), torch.ones(())
        ranks.average([one, other])
        assert (one == (size - 1) / 2).all()
        assert other == 1
        assert ranks.from_first(b"") == b""
        ranks.wait()
        return ranks.from_first(bytes([ranks.rank, 7]) * 1000)

    assert on_ranks(size, work, tmp_path) == [b"\0\7" * 1000] * size


def test_ranks_that_start_again_do_not_find_those_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torchrun keeps its store; here the first rank comes late to its second start."""
    store = distributed.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        "127.0.0.1", 0, is_master=True, wait_for_workers=False
    )
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")

    def command(rank: int) -> int:
        signal.alarm(60)
        attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
        time.sleep(1.0 if attempt and rank == 0 else 0.0)
        with joined() as ranks:
            ranks.wait()
            if not attempt:
                os._exit(9)
        return 0

    for attempt, code in enumerate((9, 0)):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(attempt))
        assert exit_codes(2, command, store.port) == [code] * 2


@pytest.mark.parametrize("size", SIZES)
def test_the_mean_of_gradients_is_the_gradient_of_the_mean(
    tmp_path: Path, size: int
) -> None:
    """``(1/P) sum_r g_r = d/dw [(1/B) sum_b l_b(w) + R(w)]``, with uneven shares."""
    x = torch.randn(7, 4, dtype=torch.float64)

    def slope(ranks: Ranks) -> tuple[Tensor, Tensor]:
        w = torch.ones(4, dtype=torch.float64, requires_grad=True)
        values = (x[ranks.share(len(x))] @ w).sin()
        top, bottom = ranks.mean(values.exp()), ranks.mean(values.square())
        loss = ranks.mean(values) + top / bottom + w.pow(4).sum()
        loss.backward()
        assert w.grad is not None
        ranks.average([w.grad])
        return loss.detach(), w.grad

    def work(ranks: Ranks) -> bytes:
        loss, grad = slope(ranks)
        return safetensors.torch.save({"loss": loss, "grad": grad})

    found = on_ranks(size, work, tmp_path)
    assert found == [found[0]] * size
    loss, grad = slope(ALONE)
    one = safetensors.torch.load(found[0])
    assert abs(one["loss"] - loss) <= 1e-14 * abs(loss)
    assert (one["grad"] - grad).abs().max() <= 1e-13 * grad.abs().max()


class Precise(Stored):
    """The same windows in float64."""

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, None]:
        windows, _ = super().batch(indices)
        return windows.double(), None


def trained(
    folder: Path,
    config: TrainConfig,
    ranks: Ranks = ALONE,
    dtype: torch.dtype = torch.float32,
    *,
    towards: float | None = None,
) -> nn.Module:
    surrogate = fresh(MODEL).to(dtype)
    # The first rank's weights are what all begin with.
    with torch.no_grad():
        for parameter in surrogate.parameters():
            parameter += ranks.rank
            if towards is not None:
                parameter.copy_(parameter.nextafter(parameter.new_tensor(towards)))
    windows = Stored() if dtype == torch.float32 else Precise()
    valid = Rollouts(states().to(dtype), None)
    assert fit(surrogate, windows, valid, config, folder, ranks=ranks)
    return surrogate


def weights_of(
    place: Path, config: TrainConfig, size: int, dtype: torch.dtype = torch.float32
) -> list[dict[str, Tensor]]:
    """Return the last weights of each rank; only the first is given a folder."""
    place.mkdir()

    def work(ranks: Ranks) -> bytes:
        folder = place / "run" if ranks.is_first else place / "nobody's"
        surrogate = trained(folder, config, ranks, dtype)
        return safetensors.torch.save(surrogate.state_dict())

    results = on_ranks(size, work, place)
    assert not (place / "nobody's").exists()
    return [safetensors.torch.load(result) for result in results]


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return float(torch.cat([(one[k] - other[k]).flatten() for k in one]).abs().max())


RANKS = pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])


@RANKS
@pytest.mark.parametrize(
    ("dtype", "updates", "bound"),
    [(torch.float64, 40, 1e-12), (torch.float32, 8, 1e-6)],
    ids=["float64", "float32"],
)
def test_ranks_train_what_one_process_does(
    tmp_path: Path, size: int, dtype: torch.dtype, updates: int, bound: float
) -> None:
    config = UNEVEN.model_copy(update={"updates": updates})
    alone = trained(tmp_path / "alone", config, dtype=dtype).state_dict()
    assert distance(alone, fresh(MODEL).to(dtype).state_dict()) > 1e-2
    first, *others = weights_of(tmp_path / "ranks", config, size, dtype)
    print(f"{size} ranks: weights differ by {distance(first, alone):.1e}")
    assert distance(first, alone) <= bound
    assert [distance(first, other) for other in others] == [0.0] * (size - 1)
    assert any("multipliers" in name for name in first)


@RANKS
def test_rounding_of_ranks_grows_as_that_of_weights_does(
    tmp_path: Path, size: int
) -> None:
    """Over all updates in float32, beside first weights moved by their last bit."""
    alone = trained(tmp_path / "alone", UNEVEN).state_dict()
    moved = [
        trained(tmp_path / f"{bound}", UNEVEN, towards=bound).state_dict()
        for bound in (-math.inf, math.inf)
    ]
    first, *_ = weights_of(tmp_path / "ranks", UNEVEN, size)
    rounding = max(distance(one, alone) for one in moved)
    print(f"{size} ranks {distance(first, alone):.1e}, last bit {rounding:.1e}")
    assert 0 < rounding < SEEN / 10
    assert distance(first, alone) <= 10 * rounding  # these round in every update


@pytest.mark.parametrize(
    "change",
    [{"penalty": 0.2}, {"penalty": 0.05}, {"batch_size": 4}, {"seed": 1}],
    ids=str,
)
def test_the_comparison_sees_what_counts_twice_or_not(
    tmp_path: Path, change: dict[str, float]
) -> None:
    few = UNEVEN.model_copy(update={"updates": 8, "equivariance_penalty": None})
    changed = trained(tmp_path / "changed", few.model_copy(update=change))
    whole = trained(tmp_path / "whole", few)
    assert distance(changed.state_dict(), whole.state_dict()) > SEEN


def test_a_batch_has_a_window_for_each_rank(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"batch_size: expected at least 6.* got 5"):
        trained(tmp_path, UNEVEN, Ranks(1, 6))
    assert list(tmp_path.iterdir()) == []
