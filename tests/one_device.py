"""A device without values, and a look at whether everything stays on it.

Tensors on ``meta`` have a shape and no values, so that code runs as on a GPU as far
as placement goes. Some operations take a stranger from main memory there which no GPU
takes; the mode refuses them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

META = torch.device("meta")
_COPIES = ("aten._to_copy", "aten.copy_")
_INDEXING = ("aten.index.", "aten.index_put")


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices, but for numbers and indices."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        name, kwargs = str(function), kwargs or {}
        chosen = (args[:1], args[2:]) if name.startswith(_INDEXING) else args
        found = [t for t in tree_flatten((chosen, kwargs))[0] if isinstance(t, Tensor)]
        places = {t.device for t in found if t.ndim}
        if len(places) > 1 and not name.startswith(_COPIES):
            raise RuntimeError(f"{name}: expected all tensors on one device, got two")
        return function(*args, **kwargs)
