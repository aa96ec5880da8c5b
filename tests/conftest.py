"""Shared settings of the suite: one thread, fixed seeds."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

torch.set_num_threads(1)
threadpool_limits(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the suite from what other versions left on the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PDE_SYM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


@pytest.fixture(autouse=True)
def _seed_torch() -> None:
    torch.manual_seed(20240229)
