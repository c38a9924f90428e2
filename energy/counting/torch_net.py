"""The operations of a torch network, read off the operators that it executes.

The network runs once on shapes alone (torch's ``meta`` device), so that counting a large batch or a training step
costs neither memory nor time. MACs are those of convolutions and of products of matrices and vectors, in whatever
operator they are done, see :mod:`energy.counting.torch_operators`. An operator that is not known there stops the count.
fvcore counts the forward pass again, see :mod:`energy.counting.fvcore_check`. Batch-norm and every other operator are
listed with the elements that they write, so that nothing is left out unseen.

A convolution's backward pass has as many MACs as the forward pass for the gradient of its input, and as many for that
of its weights. torch's FlopCounterMode overstates the latter for grouped convolutions, and that is shown as a
disagreement.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from energy.counting.fvcore_check import cross_check
from energy.counting.profile import Layer, OperationProfile, layer_kind, macs_by_module
from energy.counting.torch_operators import is_complex, macs, moves_nothing, qualified_name
from leanrx_core.errors import UserError

BYTES_PER_VALUE = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}


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
        UserError: if the precision or an operator is unknown, or the network does not run on shapes alone.

    Example:
        >>> count_module(nn.Conv2d(6, 8, 3, padding=1), torch.zeros(1, 6, 14, 12)).macs == 14 * 12 * 8 * 6 * 9
        True
    """
    _check_precision(precision)
    recorder = _record(net, inputs, name, BYTES_PER_VALUE[precision], optimizer if training else None)
    forward = macs_by_module(x for x in recorder.layers if x.phase == "forward")
    batch, fvcore = len(inputs[0]), cross_check(net, inputs)
    comparison = fvcore.compare(forward, batch, recorder.complex_modules)
    elements = dict(recorder.elements)
    return OperationProfile(
        name,
        precision,
        batch,
        tuple(recorder.layers),
        batch_norm_elements=elements.pop("batch_norm", 0),
        other_elements={operator: number for operator, number in elements.items() if number},
        cross_check_flops=2 * batch * fvcore.macs[""] if fvcore.macs else None,
        agreement=comparison.agreement,
        cross_check_gaps=comparison.gaps,
        disagreements=(*comparison.contradictions, *recorder.backward_disagreements()),
    )


def check_countable(net: nn.Module, *inputs: torch.Tensor, name: str = "") -> None:
    """Check that a network can be counted, in less time than a count takes.

    Args:
        net, inputs, name: as for :func:`count_module`.

    Raises:
        UserError: if an operator is unknown, or the network does not run on shapes alone.
    """
    _record(net, inputs, name, BYTES_PER_VALUE["fp32"], None)


def _record(
    net: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    name: str,
    bytes_per_value: int,
    optimizer: Callable[..., torch.optim.Optimizer] | None,
) -> _OperatorRecorder:
    """The operators of a forward pass, or with an optimiser those of a training step.

    Raises:
        UserError: if an operator is unknown, or the network does not run on shapes alone.
    """
    meta_net = _on_meta(net).train(optimizer is not None)
    meta_inputs = tuple(torch.zeros_like(i, device="meta") for i in inputs)
    recorder, label = _OperatorRecorder(meta_net, bytes_per_value), name or type(net).__name__
    try:
        with torch.device("meta"):
            _run(meta_net, meta_inputs, recorder, optimizer)
    except RuntimeError as error:
        first_line = str(error).partition("\n")[0][:120]
        raise UserError(
            f"{label}: cannot be counted on shapes alone ({type(error).__name__}: {first_line}); its operations must "
            "not depend on values, and its tensors must be on the device of its input"
        ) from None
    recorder.check_operators(label)
    return recorder


def _check_precision(precision: str) -> None:
    if precision not in BYTES_PER_VALUE:
        raise UserError(f"precision: '{precision}' is not known; precisions: {', '.join(BYTES_PER_VALUE)}")


def _on_meta(net: nn.Module) -> nn.Module:
    """A copy on shapes alone. Tensors that modules share stay shared, and so do those that are no parameters."""
    plain = [v for m in net.modules() for v in vars(m).values() if isinstance(v, torch.Tensor)]
    copies: dict[int, Any] = {id(t): t.detach().to("meta") for t in [*net.buffers(), *plain]}
    for parameter in net.parameters():
        copies[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    return copy.deepcopy(net, copies)


def _run(
    net: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    recorder: _OperatorRecorder,
    optimizer: Callable[..., torch.optim.Optimizer] | None,
) -> None:
    """A forward pass, or with an optimiser the second of two training steps."""
    if optimizer is None:
        with torch.no_grad(), recorder:
            net(*inputs)
        return
    step = optimizer(net.parameters())
    for group in step.param_groups:
        group["foreach"] = False  # one operator per tensor: what moves, however it is launched
    _loss(net(*inputs)).backward()
    step.step()
    step.zero_grad()
    with recorder:
        loss = _loss(net(*inputs))
        recorder.phase = "backward"
        loss.backward()
        recorder.phase = "optimiser"
        step.step()


def _loss(llrs: torch.Tensor) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(llrs, torch.empty_like(llrs))


class _OperatorRecorder(TorchDispatchMode):
    """Records a layer for every operator that moves or multiplies something.

    Attributes:
        phase: of the operators that are executed now.
        layers: in the order of execution.
        elements: written in the forward phase, by operators that count no MAC.
        complex_modules: with products of complex numbers in the forward phase.
    """

    def __init__(self, net: nn.Module, bytes_per_value: int) -> None:
        super().__init__()
        self._bytes_per_value = bytes_per_value
        self._constants = {_storage(t) for t in [*net.parameters(), *net.buffers()]}
        self._sizes = {_storage(p): p.numel() for p in net.parameters()}
        self._root = type(net).__name__
        self._modules = ModuleTracker()
        self._unknown: dict[str, str] = {}
        self._torch_backward: dict[str, tuple[int, int]] = {}
        self.phase = "forward"
        self.layers: list[Layer] = []
        self.elements: Counter[str] = Counter()
        self.complex_modules: set[str] = set()

    def __enter__(self) -> Any:
        self._modules.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._modules.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        written = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        if not written or moves_nothing(func):
            return out
        operator_macs = macs(func, args, out)
        if operator_macs is None:
            self._unknown.setdefault(qualified_name(func), self._module())
        self._record(func, args, kwargs, operator_macs or 0, written)
        operator = func.overloadpacket.__name__
        if self.phase == "forward" and not operator_macs:
            self.elements["batch_norm" if "batch_norm" in operator else operator] += written[0].numel()
        if operator_macs and self.phase == "forward" and is_complex(args):
            self.complex_modules.add(self._module())
        if operator == "convolution_backward":
            torch_macs = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out) // 2
            self._torch_backward[self._module()] = (operator_macs or 0, torch_macs)
        return out

    def _record(self, func: Any, args: Any, kwargs: Any, operator_macs: int, written: list[torch.Tensor]) -> None:
        operator = func.overloadpacket.__name__
        groups = args[9 if "backward" in operator else 8] if "convolution" in operator else 1
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        constants = {s: t for t in read if (s := _storage(t)) in self._constants}
        forward = self.phase == "forward"
        self.layers.append(
            Layer(
                name=self._module(),
                operator=operator,
                kind=layer_kind(operator_macs, groups),
                phase=self.phase,
                parameters=sum(self._sizes.pop(s, 0) for s in constants) if forward else 0,
                macs=operator_macs,
                weight_bytes=sum(map(self._bytes, constants.values())),
                read_bytes=sum(self._bytes(t) for t in read if _storage(t) not in self._constants),
                written_bytes=sum(map(self._bytes, written)),
            )
        )

    def check_operators(self, name: str) -> None:
        """Check that every operator is known.

        Raises:
            UserError: if one is not.
        """
        if self._unknown:
            operators = ", ".join(f"{o}{f' in {module}' if module else ''}" for o, module in self._unknown.items())
            raise UserError(
                f"{name}: the arithmetic of {operators} is not known; add its MACs to "
                "energy.counting.torch_operators.MAC_FORMULAS"
            )

    def backward_disagreements(self) -> Iterator[str]:
        """Modules for which torch's own counter gives other MACs of the backward pass."""
        for module, (counted, torch_macs) in self._torch_backward.items():
            if counted != torch_macs:
                yield f"{module}: {counted} MACs backward by formula, torch counts {torch_macs}"

    def _module(self) -> str:
        """The innermost module that runs, without the network's own name; the optimiser and the loss have none."""
        inner = max((p for p in self._modules.parents if p != "Global"), key=len, default="")
        return inner.removeprefix(self._root).removeprefix(".")

    def _bytes(self, tensor: torch.Tensor) -> int:
        real = tensor.is_floating_point() or tensor.is_complex()
        each = self._bytes_per_value if real else tensor.element_size()
        return tensor.numel() * each * (2 if tensor.is_complex() else 1)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
