"""The operations of a torch network, read off the operators that it executes.

The network runs once on shapes alone (torch's ``meta`` device), so that counting a large batch or a training step
costs neither memory nor time. Only convolutions and matrix products count as MACs. MACs of a forward pass come from
torch's own formulas, operator by operator, and are compared with fvcore's, module by module; fvcore runs one slot for
it (its "flop" is a MAC). Batch-norm and every other operator are listed with the elements that they write, so that
nothing is left out unseen.

A convolution's backward pass is counted here: as many MACs as the forward pass for the gradient of its input, and as
many for that of its weights. torch's FlopCounterMode overstates the latter for grouped convolutions, and that is shown
as a disagreement.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from energy.counting.profile import Layer, OperationProfile, layer_kind, macs_by_module
from leanrx_core.errors import UserError

BYTES_PER_VALUE = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
_FVCORE_MAC_OPERATORS = ("conv", "linear", "addmm", "matmul", "bmm", "einsum")
_WITHOUT_ELEMENTS = ("convolution", "addmm", "mm", "bmm", "empty")  # counted as MACs, or writing nothing
_MOVING_NOTHING = ("empty", "empty_like", "detach", "lift_fresh", "_local_scalar_dense")


def count_module(
    net: nn.Module,
    *inputs: torch.Tensor,
    name: str = "",
    precision: str = "fp32",
    training: bool = False,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
) -> OperationProfile:
    """Count one call of a torch module, or one step of its training.

    Args:
        net: in any mode; it is left as it is.
        inputs: of the call; the first size of the first is the number of slots. Values are not looked at.
        name: in tables.
        precision: of floating-point values, see :data:`BYTES_PER_VALUE`.
        training: forward in training mode, backward from binary cross-entropy, and one optimiser step.
        optimizer: makes the optimiser from the parameters; its state exists already, as after a first step.

    Returns:
        the profile of the call.

    Raises:
        UserError: if the precision is unknown.

    Example:
        >>> count_module(nn.Conv2d(6, 8, 3, padding=1), torch.zeros(1, 6, 14, 12)).macs == 14 * 12 * 8 * 6 * 9
        True
    """
    if precision not in BYTES_PER_VALUE:
        raise UserError(f"precision: '{precision}' is not known; precisions: {', '.join(BYTES_PER_VALUE)}")
    meta_net = copy.deepcopy(net).to("meta").train(training)
    meta_inputs = tuple(torch.empty_like(i, device="meta") for i in inputs)
    recorder = _OperatorRecorder(meta_net, BYTES_PER_VALUE[precision])
    if training:
        step = optimizer(meta_net.parameters())
        for group in step.param_groups:
            group["foreach"] = False  # one operator per tensor: what moves, however it is launched
        _loss(meta_net(*meta_inputs)).backward()
        step.step()
        step.zero_grad()
        with recorder:
            loss = _loss(meta_net(*meta_inputs))
            recorder.phase = "backward"
            loss.backward()
            recorder.phase = "optimiser"
            step.step()
    else:
        with torch.no_grad(), recorder:
            meta_net(*meta_inputs)
    forward = macs_by_module(x for x in recorder.layers if x.phase == "forward")
    fvcore = _fvcore(net, inputs)
    batch = len(inputs[0])
    elements = dict(recorder.elements)
    return OperationProfile(
        name,
        precision,
        batch,
        tuple(recorder.layers),
        batch_norm_elements=elements.pop("batch_norm", 0),
        other_elements={operator: number for operator, number in elements.items() if number},
        cross_check_flops=2 * batch * fvcore[""],
        disagreements=tuple(_disagreements(batch, forward, fvcore, recorder.torch_backward)),
    )


def _loss(llrs: torch.Tensor) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(llrs, torch.empty_like(llrs))


class _OperatorRecorder(TorchDispatchMode):
    """Records a layer for every operator that moves or multiplies something.

    Attributes:
        phase: of the operators that are executed now.
        layers: in the order of execution.
        elements: written in the forward phase, by operators that count no MAC.
        torch_backward: by module, MACs of our count and of torch's for convolutions' backward passes.
    """

    def __init__(self, net: nn.Module, bytes_per_value: int) -> None:
        super().__init__()
        self._bytes_per_value = bytes_per_value
        self._constants = {_storage(t) for t in [*net.parameters(), *net.buffers()]}
        self._sizes = {_storage(p): p.numel() for p in net.parameters()}
        self._root = type(net).__name__
        self._modules = ModuleTracker()
        self.phase = "forward"
        self.layers: list[Layer] = []
        self.elements: Counter[str] = Counter()
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
            self._record(func, operator, args, kwargs, out, written)
        counts_elements = self.phase == "forward" and not any(part in operator for part in _WITHOUT_ELEMENTS)
        if written and not func.is_view and counts_elements:
            self.elements["batch_norm" if "batch_norm" in operator else operator] += written[0].numel()
        return out

    def _record(self, func: Any, operator: str, args: Any, kwargs: Any, out: Any, written: list[torch.Tensor]) -> None:
        name = self._module()
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        macs, groups = 0, 1
        if operator == "convolution_backward":
            grad, _, weight = args[:3]
            sides, groups = sum(args[10][:2]), args[9]
            values = args[1].numel() if args[7] else grad.numel()
            macs = sides * values * math.prod(weight.shape[1:])
            torch_macs = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out) // 2
            self.torch_backward[name] = (macs, torch_macs)
        elif func.overloadpacket in flop_registry:
            macs = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out) // 2
            groups = args[8] if operator == "convolution" else 1
        constants = {s: t for t in read if (s := _storage(t)) in self._constants}
        forward = self.phase == "forward"
        self.layers.append(
            Layer(
                name=name,
                operator=operator,
                kind=layer_kind(macs, groups),
                phase=self.phase,
                parameters=sum(self._sizes.get(s, 0) for s in constants) if forward else 0,
                macs=macs,
                weight_bytes=sum(map(self._bytes, constants.values())),
                read_bytes=sum(self._bytes(t) for t in read if _storage(t) not in self._constants),
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
    batch: int, forward: dict[str, int], fvcore: dict[str, int], backward: dict[str, tuple[int, int]]
) -> Iterator[str]:
    """Modules for which fvcore (forward, traced on one slot) or torch (backward) gives other MACs."""
    for module, macs_of_slot in fvcore.items():
        macs = sum(v for k, v in forward.items() if not module or k == module or k.startswith(f"{module}."))
        if (module in forward or not module) and batch * macs_of_slot != macs:
            yield f"{module or 'whole network'}: torch counts {macs} MACs forward, fvcore {batch * macs_of_slot}"
    for module, (macs, torch_macs) in backward.items():
        if macs != torch_macs:
            yield f"{module}: {macs} MACs backward by formula, torch counts {torch_macs}"


def _fvcore(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> dict[str, int]:
    """fvcore's MACs of one slot by module, submodules included; it cannot trace on shapes alone."""
    from fvcore.nn import FlopCountAnalysis

    device = next(net.parameters()).device
    slot = tuple(torch.zeros(1, *i.shape[1:], dtype=i.dtype, device=device) for i in inputs)
    modes = {m: m.training for m in net.modules()}
    net.eval()
    try:
        with torch.no_grad():
            analysis = FlopCountAnalysis(net, slot)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            by_module = analysis.by_module_and_operator()
    finally:
        for module, mode in modes.items():
            module.training = mode
    return {module: sum(int(operators[op]) for op in _FVCORE_MAC_OPERATORS) for module, operators in by_module.items()}
