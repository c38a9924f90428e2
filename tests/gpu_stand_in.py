"""A stand-in for a CUDA device on a machine without one: tensors hold CPU data and say that they are on ``cuda:0``.

It refuses what a GPU refuses, above all operators whose tensors are on two devices, and counts where the host waits for
the device. It computes on the CPU. What it cannot do is named in ``tests/test_gpu_stand_in.py``.

Inside :func:`stand_in`:

* a dispatch mode unwraps the tensors of each operator, computes, and wraps the results;
* a function mode replaces the few functions that torch's bindings guard against a device that is not there.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import sionna.phy
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")
ROOT = Path(__file__).parents[1]
aten = torch.ops.aten

INDEXED_BY_CPU = ("aten.index.Tensor", "aten.index_put", "aten._index_put_impl_", "aten._unsafe_index.Tensor")
"""Operators in which CPU indices into a CUDA tensor are allowed."""

WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2", "unique_dim")
"""Operators for whose result the host waits."""


EAGER = {"aten._conj.default": aten.conj_physical.default, "aten._neg_view.default": aten.neg.default}
"""Operators that only set a flag, which a wrapper has not, and those that compute the same."""


class Waits(Counter):
    """Number of waits by operator and line of this project."""

    def add(self, name: str) -> None:
        self[f"{name} at {_caller()}"] += 1


def _caller() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if ROOT in path.parents and path.parent.name != "tests" and ".venv" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "a test"


class CudaTensor(torch.Tensor):
    """A CPU tensor that says that it is on ``cuda:0``."""

    @staticmethod
    def __new__(cls, data: torch.Tensor) -> CudaTensor:
        wrapper = torch.Tensor._make_wrapper_subclass(
            cls, data.size(), strides=data.stride(), storage_offset=data.storage_offset(), dtype=data.dtype, device=CUDA
        )
        wrapper.data_on_cpu = data.detach()
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("an operator outside of the stand-in")


def on_cpu(x: Any) -> Any:
    """The CPU data of a tensor; anything else unchanged."""
    return x.data_on_cpu if isinstance(x, CudaTensor) else x


class _Dispatch(TorchDispatchMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), str(function)
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        on_cuda = [x for x in tensors if isinstance(x, CudaTensor)]
        device = self._output_device(name, args, kwargs.get("device"), tensors, on_cuda)
        is_download = on_cuda and name.startswith(("aten._to_copy", "aten.to.")) and device == CPU
        if is_download or (on_cuda and any(name.startswith(f"aten.{w}.") for w in WAITING)):
            self._waits.add(name)
        if kwargs.get("device") is not None:
            kwargs["device"] = CPU
        function = EAGER.get(name, function) if on_cuda else function
        result = function(*tree_map(on_cpu, args), **tree_map(on_cpu, kwargs))
        if name.startswith("aten._local_scalar_dense"):
            return result
        operator = name.split(".")[1]
        if result is None:
            return None
        if operator.startswith("__i") or (operator.endswith("_") and not operator.endswith("__")):
            return args[0]  # in place
        own = {id(x.data_on_cpu): x for x in on_cuda}

        def wrap(x: Any) -> Any:
            if device == CUDA and isinstance(x, torch.Tensor) and not isinstance(x, CudaTensor):
                return own.get(id(x)) if id(x) in own else CudaTensor(x)
            return x

        return tree_map(wrap, result)

    @staticmethod
    def _output_device(name: str, args: Any, target: Any, tensors: list[Any], on_cuda: list[Any]) -> torch.device:
        """Device of the result.

        Raises:
            RuntimeError: if the tensors are on two devices. Scalars on the CPU are allowed.
        """
        if target is not None:
            return CUDA if torch.device(target).type == "cuda" else CPU
        if name.startswith(("aten._to_copy", "aten.to.", "aten.copy_", "aten.detach")):
            return CUDA if on_cuda else CPU
        mixed = on_cuda and any(not isinstance(x, CudaTensor) and x.dim() for x in tensors)
        if mixed and not (name.startswith(INDEXED_BY_CPU) and isinstance(args[0], CudaTensor)):
            raise RuntimeError(f"{name}: tensors on cuda:0 and on the CPU at {_caller()}")
        return CUDA if on_cuda else CPU


class _Functions(TorchFunctionMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        if function in (torch.tensor, torch.as_tensor, torch.asarray):
            return self._tensor(function, args, kwargs)
        if function is torch.Tensor.to:
            return _to(*args, **kwargs)
        first = args[0] if args else None
        indices = args[1] if len(args) > 1 and isinstance(args[1], tuple) else args[1:2]
        if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            if isinstance(first, CudaTensor) or any(isinstance(i, CudaTensor) for i in indices):
                return _get_item(*args) if function is torch.Tensor.__getitem__ else _set_item(*args)
        elif isinstance(first, CudaTensor):
            if name in ("numpy", "__array__"):
                raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
            if function in HOST_FUNCTIONS:
                self._waits.add(name)
                return function(first.data_on_cpu, *args[1:])
            if name in GUARDED:
                return GUARDED[name](*args, **kwargs)
        return function(*args, **kwargs)

    @staticmethod
    def _tensor(function: Any, args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
        device = kwargs.pop("device", None)
        if function is not torch.tensor and isinstance(args[0], torch.Tensor):
            x = args[0] if kwargs.get("dtype") is None else args[0].to(kwargs["dtype"])
        else:
            x = function(*args, **kwargs)
        return x if device is None else x.to(CUDA if torch.device(device).type == "cuda" else CPU)


HOST_FUNCTIONS = tuple(
    getattr(torch.Tensor, name) for name in ("__float__", "__int__", "__bool__", "__index__", "item", "tolist")
)


def _to(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """``Tensor.to``, without torch's check that the device is there."""
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    for value in args:
        if isinstance(value, torch.Tensor):
            device, dtype = value.device, value.dtype
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, str | torch.device):
            device = value
    device = x.device if device is None else (CUDA if torch.device(device).type == "cuda" else CPU)
    if (device, dtype or x.dtype) == (x.device, x.dtype) and kwargs.get("memory_format") is None:
        return x
    return aten._to_copy.default(x, dtype=dtype, device=device, memory_format=kwargs.get("memory_format"))


def _get_item(x: torch.Tensor, index: Any) -> torch.Tensor:
    x, tensors = _basic_index(x, index)
    return aten.index.Tensor(x, _as_list(tensors)) if tensors else aten.alias.default(x)


def _set_item(x: torch.Tensor, index: Any, value: Any) -> None:
    view, tensors = _basic_index(x, index)
    if not isinstance(value, torch.Tensor):
        value = torch.tensor(value, dtype=x.dtype).to(x.device)
    if tensors:
        aten.index_put_.default(view, _as_list(tensors), value.to(x.dtype))
    else:
        aten.copy_.default(view, value)


def _basic_index(x: torch.Tensor, index: Any) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
    """The views of an index, and its tensors by dimension."""
    index = index if isinstance(index, tuple) else (index,)
    index = tuple(torch.tensor(i, dtype=torch.long) if isinstance(i, list | tuple) else i for i in index)
    if not any(i is Ellipsis for i in index):
        index = (*index, Ellipsis)
    position = next(n for n, i in enumerate(index) if i is Ellipsis)
    dims_after = sum(_num_dims(i) for i in index[position + 1 :])
    dim, tensors = 0, {}
    for i in index:
        if i is None:
            x, dim = aten.unsqueeze.default(x, dim), dim + 1
        elif i is Ellipsis:
            dim = x.dim() - dims_after
        elif isinstance(i, torch.Tensor) and (i.dim() or i.dtype == torch.bool):
            tensors[dim] = i
            dim += _num_dims(i)
        elif isinstance(i, slice):
            stop = 2**63 - 1 if i.stop is None else int(i.stop)
            x, dim = aten.slice.Tensor(x, dim, i.start, stop, i.step or 1), dim + 1
        else:
            x = aten.select.int(x, dim, int(i))
    return x, tensors


def _num_dims(index: Any) -> int:
    if index is None:
        return 0
    return index.dim() if isinstance(index, torch.Tensor) and index.dtype == torch.bool else 1


def _as_list(tensors: dict[int, torch.Tensor]) -> list[torch.Tensor | None]:
    indices: list[torch.Tensor | None] = []
    for dim, tensor in sorted(tensors.items()):
        indices += [None] * (dim - sum(_num_dims(i) if i is not None else 1 for i in indices)) + [tensor]
    return indices


def _nonzero(x: torch.Tensor, as_tuple: bool = False) -> Any:
    indices = aten.nonzero.default(x)
    return tuple(indices.unbind(1)) if as_tuple else indices


def _batch_norm(
    x: torch.Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    *args: Any,
    **kwargs: Any,
) -> torch.Tensor:
    mean, var = (x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)) if training else (running_mean, running_var)
    mean, var, weight, bias = (v.view(1, -1, 1, 1) for v in (mean, var, weight, bias))
    return (x - mean) * torch.rsqrt(var + 1e-5) * weight + bias


GUARDED: dict[str, Callable[..., Any]] = {
    "contiguous": lambda x, memory_format=torch.contiguous_format: aten.clone.default(x, memory_format=memory_format),
    "batch_norm": _batch_norm,
    "copy_": lambda x, source, non_blocking=False: aten.copy_.default(x, source),
    "nonzero": _nonzero,
    "__invert__": lambda x: aten.bitwise_not.default(x),
}


class _Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self._time_s = 0.0

    def record(self) -> None:
        self._time_s = time.perf_counter()

    def elapsed_time(self, end: _Event) -> float:
        return 1e3 * (end._time_s - self._time_s)


class _Generator(torch.Generator):
    """A CPU generator that says where it was asked to be."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        generator = super().__new__(cls, "cpu")
        generator.named = CUDA if torch.device(device).type == "cuda" else CPU
        return generator

    def __init__(self, device: Any = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:
        return self.named


@contextmanager
def stand_in() -> Iterator[Waits]:
    """A machine with one CUDA device. Gives the number of waits of the host, which can be cleared."""
    waits = Waits()
    replaced = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "stand-in",
        "is_bf16_supported": lambda including_emulation=True: False,
        "synchronize": lambda device=None: None,
        "Event": _Event,
    }
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    devices = ["cpu", "cuda", "cuda:0"]
    try:
        with (
            mock.patch.multiple(torch.cuda, **replaced),
            mock.patch.object(torch, "Generator", _Generator),
            mock.patch.object(type(sionna.phy.config), "available_devices", devices),
            torch.no_grad(),
            _Dispatch(waits),
            _Functions(waits),
        ):
            yield waits
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
