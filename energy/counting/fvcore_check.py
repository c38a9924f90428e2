"""The cross-check of a network's MACs: fvcore traces the network and counts it module by module (its "flop" is a MAC).

fvcore does not know all operators. Where a module differs and has an operator that fvcore does not know, this operator
is listed as a gap of the check. Where a module differs without one, the two counts contradict each other. So fvcore can
contradict a count, but cannot stop a network only because it does not know an operator.

Its counts of matrix products and of ``einsum`` are replaced here, through its own interface: it takes the shapes of the
operands before they are broadcast, and reads the cost of an ``einsum`` from a printed text of four digits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from energy.counting.onnx_operators import contraction_macs
from energy.counting.profile import Agreement
from energy.counting.torch_operators import is_without_macs

_MAC_OPERATORS = ("conv", "linear", "addmm", "matmul", "mm", "bmm", "einsum")
_LONG_EINSUM = "einsum with several contractions"
_COMPLEX = "complex products"
_TRACE_NAMES = (
    "adaptive_avg_pool1d adaptive_avg_pool2d avg_pool1d broadcast_tensors chunk concat contiguous dropout expand_as "
    "feature_dropout flatten item log_softmax max_pool1d max_pool2d movedim new_tensor numel pad reshape size softmax "
    "split square squeeze stack tensor_split to type_as unflatten view_as where"
)
"""Operators without MACs that only a trace has: torch executes them as other operators."""


@dataclass(frozen=True)
class CrossCheck:
    """fvcore's count of one slot.

    Attributes:
        macs: by module, submodules included; empty if fvcore cannot trace the network.
        gaps: by module, operators that fvcore does not know and that may have MACs, submodules included.
        failure: why fvcore cannot trace the network; empty if it can.
    """

    macs: Mapping[str, int]
    gaps: Mapping[str, tuple[str, ...]]
    failure: str = ""

    def compare(self, macs: Mapping[str, int], batch_slots: int, complex_modules: Collection[str]) -> CountComparison:
        """Compare with MACs by module, each without its submodules.

        Args:
            macs: of the whole call.
            batch_slots: slots of the call.
            complex_modules: names of modules with complex products, which fvcore counts as real ones.
        """
        contradictions, gaps = [], dict.fromkeys([self.failure] if self.failure else [])
        for module, slot_macs in self.macs.items():
            counted = sum(number for name, number in macs.items() if _is_part(name, module))
            if counted == batch_slots * slot_macs:
                continue
            unknown = [*self.gaps[module], *[_COMPLEX for name in complex_modules if _is_part(name, module)]]
            gaps.update(dict.fromkeys(unknown))
            if not unknown:
                name = module or "whole network"
                contradictions.append(f"{name}: torch counts {counted} MACs forward, fvcore {batch_slots * slot_macs}")
        agreement: Agreement = "contradiction" if contradictions else "part" if gaps else "whole"
        return CountComparison(agreement if self.macs else "none", tuple(contradictions), tuple(gaps))


class CountComparison(NamedTuple):
    """Two counts of the same call.

    Attributes:
        agreement: of both.
        contradictions: a sentence for each module that differs although fvcore knows its operators.
        gaps: what fvcore does not know, in the modules that differ.
    """

    agreement: Agreement
    contradictions: tuple[str, ...]
    gaps: tuple[str, ...]


def cross_check(net: nn.Module, inputs: Sequence[torch.Tensor]) -> CrossCheck:
    """Trace one slot of a network with fvcore; it cannot trace on shapes alone.

    Args:
        net: in any mode; it is left as it is.
        inputs: of a call, slots first.
    """
    from fvcore.nn import FlopCountAnalysis

    device = next((t.device for t in [*net.parameters(), *net.buffers()]), torch.device("cpu"))
    slot = tuple(torch.zeros(1, *i.shape[1:], dtype=i.dtype, device=device) for i in inputs)
    modes = {m: m.training for m in net.modules()}
    net.eval()
    try:
        with torch.no_grad():
            analysis = FlopCountAnalysis(net, slot)
            analysis.set_op_handle("aten::matmul", _matmul, "aten::mm", _matmul, "aten::einsum", _einsum)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            counts = analysis.by_module_and_operator()
            unknown = {module: analysis.unsupported_ops(module) for module in counts}
    except Exception as error:  # whatever a network of a user raises where values are traced
        return CrossCheck({}, {}, f"fvcore cannot trace the network ({type(error).__name__})")
    finally:
        for module, mode in modes.items():
            module.training = mode
    return CrossCheck(
        {module: sum(int(operators[op]) for op in _MAC_OPERATORS) for module, operators in counts.items()},
        {module: _gaps(unknown[module], operators) for module, operators in counts.items()},
    )


def _gaps(unknown: Mapping[str, int], counted: Mapping[str, int]) -> tuple[str, ...]:
    names = {name.removeprefix("aten::") for name in unknown}
    gaps = {n for n in names if n not in _TRACE_NAMES.split() and not is_without_macs(n)}
    return tuple(sorted(gaps | ({_LONG_EINSUM} & set(counted))))


def _is_part(name: str, module: str) -> bool:
    return not module or name == module or name.startswith(f"{module}.")


def _shape(value: Any) -> list[int]:
    return list(value.type().sizes())


def _matmul(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return math.prod(_shape(outputs[0])) * int(_shape(inputs[0])[-1])


def _einsum(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
    try:
        macs = contraction_macs(inputs[0].toIValue(), [_shape(v) for v in inputs[1].node().inputs()])
    except ValueError:
        return Counter({_LONG_EINSUM: 1})
    return Counter({"einsum": macs})
