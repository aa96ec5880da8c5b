"""A GPU that is only pretended: tensors on the CPU that say they are on ``cuda``.

An operation refuses tensors of both kinds, as a GPU does, but for single numbers and
for indices; what asks for ``cuda`` gets a pretended tensor, and ``cpu()`` gives the
plain one back. So code that forgets a device fails here too. What a GPU computes
otherwise than a CPU does not show.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
_COPIES = ("aten._to_copy", "aten.copy_")
_INDEXING = ("aten.index.", "aten.index_put")


class Pretended(Tensor):
    """A tensor whose values are on the CPU and whose device is ``cuda``."""

    plain: Tensor

    @staticmethod
    def __new__(cls, plain: Tensor) -> "Pretended":
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            plain.size(),
            strides=plain.stride(),
            dtype=plain.dtype,
            device=torch.device("cpu"),
        )
        made.plain = plain
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    def cpu(self, *args: Any, **kwargs: Any) -> Tensor:
        del args, kwargs
        return self.plain.clone()

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        devices = [a for a in (*args, *kwargs.values()) if _is_device(a)]
        if devices and torch.device(devices[0]).type == "cpu":
            return self.plain.to(*args, **kwargs)
        rest = [a for a in args if not _is_device(a)]
        kwargs.pop("device", None)
        return super().to(*rest, **kwargs) if rest or kwargs else self

    def new_tensor(self, data: Any) -> Tensor:  # type: ignore[override]
        return Pretended(self.plain.new_tensor(data))

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        return _run(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.plain.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


class Mode(TorchDispatchMode):
    """Makes new tensors pretended where ``cuda`` is asked for."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        return _run(function, args, kwargs or {})


def _tensors(*values: Any) -> list[Tensor]:
    return [t for t in tree_flatten(values)[0] if isinstance(t, Tensor)]


def _is_device(value: Any) -> bool:
    return isinstance(value, str | torch.device)


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = _tensors(args, kwargs)
    pretended = any(isinstance(t, Pretended) for t in tensors)
    name = str(function)
    if name.startswith(_INDEXING):
        # A GPU takes indices from main memory, main memory none from a GPU.
        tensors = _tensors(args[:1], args[2:], kwargs)
    strangers = [t for t in tensors if not isinstance(t, Pretended) and t.ndim]
    if pretended and strangers and not name.startswith(_COPIES):
        raise RuntimeError(f"{name}: expected all tensors on one device, got two")
    device = kwargs.get("device")
    if device is not None:
        pretended = torch.device(device).type == "cuda"
        kwargs = kwargs | {"device": torch.device("cpu")}
    plain_args, plain_kwargs = tree_map(
        lambda t: t.plain if isinstance(t, Pretended) else t, (args, kwargs)
    )
    result = function(*plain_args, **plain_kwargs)
    if not pretended:
        return result
    if function._schema.is_mutable and args and isinstance(args[0], Pretended):
        return args[0]
    return tree_map(lambda t: Pretended(t) if isinstance(t, Tensor) else t, result)


@contextmanager
def pretended_cuda() -> Iterator[str]:
    """Give the name of a device that behaves like a GPU, as far as this goes."""
    # Torch would look for a driver before it asks the mode.
    with mock.patch("torch.cuda._lazy_init"), Mode():
        # `torch.tensor` asks the mode only so.
        torch._C._set_only_lift_cpu_tensors(True)
        try:
            yield "cuda:0"
        finally:
            torch._C._set_only_lift_cpu_tensors(False)
