"""The work of a torch network, read off the operators that it executes.

The network runs once on shapes alone (torch's ``meta`` device), so that counting a large batch or a training step
costs neither memory nor time. MACs of a forward pass come from torch's own formulas, operator by operator, and are
compared with fvcore's, module by module; fvcore runs one slot for it. A convolution's backward pass is counted here, as
many MACs as the forward pass for the gradient of its input and as many for that of its weights: torch's
FlopCounterMode overstates the latter for grouped convolutions, and that is shown as a disagreement.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from channels import NUM_SYMBOLS, Grid
from energy.counting.operations import MAC_OPERATORS
from energy.counting.profile import Layer, Work, by_module, kind_of
from leanrx_core.errors import UserError
from receivers.neural.network import Network

BYTES_PER_VALUE = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
_MOVING_NOTHING = ("empty", "empty_like", "detach", "lift_fresh", "_local_scalar_dense")


def count_layers(
    net: nn.Module,
    *inputs: torch.Tensor,
    name: str = "",
    precision: str = "fp32",
    training: bool = False,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
) -> Work:
    """Count one call of a network, or one step of its training.

    Args:
        net: in any mode; it is left as it is.
        inputs: what it takes; the first size of the first is the number of slots. Values are not looked at.
        precision: of floating-point values, see :data:`BYTES_PER_VALUE`.
        training: forward in training mode, backward from binary cross-entropy, and one optimiser step.
        optimizer: makes the optimiser from the parameters; its state is there already, as after a first step.

    Raises:
        UserError: if the precision is unknown.
    """
    if precision not in BYTES_PER_VALUE:
        raise UserError(f"precision: '{precision}' is not known; precisions: {', '.join(BYTES_PER_VALUE)}")
    shadow = copy.deepcopy(net).to("meta").train(training)
    there = tuple(torch.empty_like(i, device="meta") for i in inputs)
    watch = _Watch(shadow, BYTES_PER_VALUE[precision])
    if training:
        step = optimizer(shadow.parameters())
        for group in step.param_groups:
            group["foreach"] = False  # one operator per tensor: what moves, however it is launched
        _loss(shadow(*there)).backward()
        step.step()
        step.zero_grad()
        with watch:
            loss = _loss(shadow(*there))
            watch.phase = "backward"
            loss.backward()
            watch.phase = "optimiser"
            step.step()
    else:
        with torch.no_grad(), watch:
            shadow(*there)
    layers = tuple(watch.layers)
    forward = by_module(x for x in layers if x.phase == "forward")
    return Work(
        name, precision, len(inputs[0]), layers, tuple(_disagreements(net, inputs, forward, watch.torch_backward))
    )


def count_slots(
    net: Network, grid: Grid, name: str = "", batch_slots: int = 1, precision: str = "fp32", training: bool = False
) -> Work:
    """:func:`count_layers` of a receiver's network for a grid's slots; what prepares its features is not in it."""
    shape = (batch_slots, net.num_features, NUM_SYMBOLS, grid.num_subcarriers)
    return count_layers(net, torch.empty(shape, device="meta"), name=name, precision=precision, training=training)


def _loss(llrs: torch.Tensor) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(llrs, torch.empty_like(llrs))


class _Watch(TorchDispatchMode):
    """Writes a layer for every operator that moves or multiplies something.

    Attributes:
        phase: of what is executed now.
        torch_backward: by module, MACs of our count and of torch's for convolutions' backward passes.
    """

    def __init__(self, net: nn.Module, bytes_per_value: int) -> None:
        super().__init__()
        self._bytes_per_value = bytes_per_value
        self._held = {_storage(t) for t in [*net.parameters(), *net.buffers()]}
        self._trained = {_storage(p): p.numel() for p in net.parameters()}
        self._root = type(net).__name__
        self._modules = ModuleTracker()
        self.phase = "forward"
        self.layers: list[Layer] = []
        self.torch_backward: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Any:
        self._modules.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._modules.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        operator = func.overloadpacket.__name__
        written = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        if written and not func.is_view and operator not in _MOVING_NOTHING:
            self._write(func, operator, args, kwargs, out, written)
        return out

    def _write(self, func: Any, operator: str, args: Any, kwargs: Any, out: Any, written: list[torch.Tensor]) -> None:
        name = self._module()
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        macs, groups = 0, 1
        if operator == "convolution_backward":
            grad, _, weight = args[:3]
            sides, groups = sum(args[10][:2]), args[9]
            values = args[1].numel() if args[7] else grad.numel()
            macs = sides * values * math.prod(weight.shape[1:])
            theirs = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out) // 2
            self.torch_backward[name] = (macs, theirs)
        elif func.overloadpacket in flop_registry:
            macs = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out) // 2
            groups = args[8] if operator == "convolution" else 1
        held = {s: t for t in read if (s := _storage(t)) in self._held}
        forward = self.phase == "forward"
        self.layers.append(
            Layer(
                name=name,
                operator=operator,
                kind=kind_of(macs, groups),
                phase=self.phase,
                parameters=sum(self._trained.get(s, 0) for s in held) if forward else 0,
                macs=macs,
                weight_bytes=sum(map(self._bytes, held.values())),
                read_bytes=sum(self._bytes(t) for t in read if _storage(t) not in self._held),
                written_bytes=sum(map(self._bytes, written)),
            )
        )

    def _module(self) -> str:
        """The innermost module that runs, without the network's own name; the optimiser and the loss have none."""
        inner = max((p for p in self._modules.parents if p != "Global"), key=len, default="")
        return inner.removeprefix(self._root).removeprefix(".")

    def _bytes(self, tensor: torch.Tensor) -> int:
        each = self._bytes_per_value if tensor.is_floating_point() else tensor.element_size()
        return tensor.numel() * each * (2 if tensor.is_complex() else 1)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _disagreements(
    net: nn.Module, inputs: tuple[torch.Tensor, ...], ours: dict[str, int], backward: dict[str, tuple[int, int]]
) -> Iterator[str]:
    """Modules for which fvcore (forward, traced on one slot) or torch (backward) finds other MACs."""
    batch = len(inputs[0])
    for module, theirs in _fvcore(net, inputs).items():
        inside = sum(v for k, v in ours.items() if not module or k == module or k.startswith(f"{module}."))
        if (module in ours or not module) and batch * theirs != inside:
            yield f"{module or 'whole network'}: torch counts {inside} MACs forward, fvcore {batch * theirs}"
    for module, (macs, theirs) in backward.items():
        if macs != theirs:
            yield f"{module}: {macs} MACs backward by formula, torch counts {theirs}"


def _fvcore(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> dict[str, int]:
    """fvcore's MACs of one slot by module, submodules included; it cannot trace on shapes alone."""
    from fvcore.nn import FlopCountAnalysis

    device = next(net.parameters()).device
    one = tuple(torch.zeros(1, *i.shape[1:], dtype=i.dtype, device=device) for i in inputs)
    modes = {m: m.training for m in net.modules()}
    net.eval()
    try:
        with torch.no_grad():
            analysis = FlopCountAnalysis(net, one)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            found = analysis.by_module_and_operator()
    finally:
        for module, training in modes.items():
            module.training = training
    return {module: sum(int(operators[op]) for op in MAC_OPERATORS) for module, operators in found.items()}
