"""The processes that train one network together, started by torchrun; mostly just one.

Each rank r of P takes its share of every batch of B windows. `Ranks.mean` is the mean
over all of them, so that the loss is the same number on every rank; its gradient is
that of the rank's own windows, times P. The mean of these over the ranks is that of

    L(w) = (1/B) sum_b l_b(w) + R(w),

with R, which depends on weights alone, counted once and the shares of any size:

    dL/dw = (1/P) sum_r g_r,    g_r = (P/B) sum_(b in r) dl_b/dw + dR/dw.

Gradients are laid end to end and summed once, after the backward pass, in place of
`DistributedDataParallel`: its buckets overlap sums with the pass, which saves little
for small networks, and it wraps a forward pass, which here runs several times in an
update, beside charges that read the weights directly. One sum is as plain as it gets,
and equal from run to run to the last bit.

What ranks exchange are numbers, never pickles; whoever reaches their ports can disturb
them all the same (PyTorch's SECURITY.md): several machines need a private network.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from pde_sym.errors import WorkerError

MEETING = timedelta(minutes=5)
"""How long a process looks for its launcher."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ranks:
    """One process among those that train together; `ALONE` is the only one.

    Every method but `share` is one that all ranks must call, in the same order. They
    raise `WorkerError` when another rank is gone.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return which of `count` things are this rank's, as equally many as possible.

        >>> [Ranks(rank, 3).share(7) for rank in range(3)]
        [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
        """
        return slice(
            count * self.rank // self.size, count * (self.rank + 1) // self.size
        )

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the values of all ranks, each with its own share.

        Its gradient is that of this rank's share, times the number of ranks.
        """
        if self.size == 1:
            return values.mean()
        totals = values.new_tensor([0.0, values.numel()], dtype=torch.float64)
        totals[0] = values.detach().double().sum()
        self._call(distributed.all_reduce, totals)
        total, count = totals.unbind()
        part = self.size * values.sum() / count.to(values.dtype)
        # Equal to the last bit on all ranks: what is added is zero, with a slope.
        return (total / count).to(values.dtype) + (part - part.detach())

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        self._call(distributed.all_reduce, flat)
        parts = (flat / self.size).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Return whether the flag of any rank is set."""
        if self.size == 1:
            return flag
        found = torch.tensor(int(flag))
        self._call(distributed.all_reduce, found, distributed.ReduceOp.MAX)
        return bool(found)

    def from_first(self, data: bytes) -> bytes:
        """Return the bytes that the first rank passes."""
        if self.size == 1:
            return data
        length = torch.tensor(len(data))
        self._call(distributed.broadcast, length, 0)
        content = torch.empty(int(length), dtype=torch.uint8)
        if self.is_first:
            content.copy_(torch.from_numpy(np.frombuffer(data, np.uint8).copy()))
        self._call(distributed.broadcast, content, 0)
        return content.numpy().tobytes()

    def wait(self) -> None:
        """Wait until all ranks have come here."""
        self.any(False)

    def _call(self, collective: object, *arguments: object) -> None:
        assert callable(collective)
        try:
            collective(*arguments)
        except RuntimeError as error:
            raise WorkerError(
                "another process of this training is gone, or does not answer; "
                "repeat the command to go on from the last checkpoint "
                f"({' '.join(str(error).split())[:120]})"
            ) from error


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that torchrun has started with this one, for what is inside.

    Without torchrun, or with one process, nothing is joined. A process whose launcher
    dies gets SIGTERM, so that none is left over.

    Raises
    ------
    WorkerError
        When the others cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or not distributed.is_torchelastic_launched():
        yield ALONE
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        _meet()
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WorkerError(f"torchrun's processes do not meet ({reason})") from error
    try:
        yield Ranks(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


def _meet() -> None:
    # One whose launcher died before it could ask for the signal ends here.
    store, rank, size = next(rendezvous("env://", timeout=MEETING))
    # Only here: agents of several machines do not count restarts alike.
    if os.environ.get("LOCAL_WORLD_SIZE") == str(size):
        # torchrun keeps one store over all restarts, where addresses of processes that
        # are gone would be found.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"attempt-{attempt}", store)
        if sys.platform == "linux":
            # By the loopback, whatever the machine's name resolves to.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
