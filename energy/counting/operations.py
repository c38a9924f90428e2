"""Counting what a receiver computes per slot.

One MAC is one multiply-accumulate and **FLOP = 2 x MAC** everywhere. Networks are counted by fvcore (its "flop" is a
MAC) with torch's FlopCounterMode as second witness. Only convolutions and matrix products are MACs here; batch-norm
folds into them at inference and is listed apart, and every other operator is listed with the elements it writes,
so that nothing is dropped in silence. Classical receivers work on complex numbers, which both counters get wrong;
they are counted by formula, four real MACs for a complex one, and so is what hybrid receivers have of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from channels import NUM_SYMBOLS, Grid
from receivers.classical import formula_count
from receivers.neural.network import Network

MAC_OPERATORS = ("conv", "linear", "addmm", "matmul", "bmm", "einsum")  # fvcore's names
_SKIPPED = ("convolution", "addmm", "mm", "bmm", "empty")  # counted as MACs, or writing nothing


@dataclass(frozen=True)
class OperationCount:
    """Work of one receiver on one slot.

    Attributes:
        name: receiver.
        parameters: trained parameters.
        macs: multiply-accumulates of convolutions and matrix products, and ``formula_macs``.
        method: ``fvcore``, ``formula`` or ``fvcore + formula``.
        formula_macs: the part of ``macs`` that is counted by formula.
        witness_flops: FLOPs by torch's FlopCounterMode of the rest; equal to fvcore's unless the counters disagree.
        batch_norm_elements: elements that batch-norm writes (folds away at inference).
        other_elements: elements written by each operator that counts no MAC.
    """

    name: str
    parameters: int
    macs: int
    method: str
    formula_macs: int = 0
    witness_flops: int | None = None
    batch_norm_elements: int = 0
    other_elements: dict[str, int] = field(default_factory=dict)

    @property
    def flops(self) -> int:
        return 2 * self.macs

    @property
    def agreed(self) -> bool:
        """Whether both counters found the same."""
        return self.witness_flops is None or self.witness_flops == 2 * (self.macs - self.formula_macs)

    def as_json(self) -> dict[str, Any]:
        """All figures, plain."""
        return {
            "parameters": self.parameters,
            "macs": self.macs,
            "flops": self.flops,
            "name": self.name,
            "method": self.method,
            "formula_macs": self.formula_macs,
            "witness_flops": self.witness_flops,
            "agreed": self.agreed,
            "batch_norm_elements": self.batch_norm_elements,
            "other_elements": self.other_elements,
        }


class _Elements(TorchDispatchMode):
    """Elements written by every operator that counts no MAC and is no change of view."""

    def __init__(self) -> None:
        super().__init__()
        self.written: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        first = out[0] if isinstance(out, tuple) else out
        if isinstance(first, torch.Tensor) and not func.is_view and not any(s in name for s in _SKIPPED):
            self.written["batch_norm" if "batch_norm" in name else name] += first.numel()
        return out


def count(net: Network, grid: Grid, name: str = "") -> OperationCount:
    """Count a network and, where it has one, the front end that makes its features, on one slot.

    Args:
        net: a network in any mode; it is counted as at inference.
        grid: sets the input ``(1, net.num_features, 14, num_subcarriers)``.
        name: name in tables.
    """
    from fvcore.nn import FlopCountAnalysis

    inputs = torch.ones(1, net.num_features, NUM_SYMBOLS, grid.num_subcarriers)
    inputs = inputs.to(next(net.parameters()).device)
    was_training = net.training
    net.eval()
    try:
        with torch.no_grad():
            analysis = FlopCountAnalysis(net, inputs)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            by_operator = analysis.by_operator()
            witness, elements = FlopCounterMode(display=False), _Elements()
            with witness:
                net(inputs)
            with elements:
                net(inputs)
    finally:
        net.train(was_training)
    batch_norm_elements = elements.written.pop("batch_norm", 0)
    formula = net.formula_count(grid)
    elements.written.update(formula.elements)
    return OperationCount(
        name=name,
        parameters=sum(p.numel() for p in net.parameters()),
        macs=sum(int(by_operator[op]) for op in MAC_OPERATORS) + formula.macs,
        method="fvcore + formula" if formula.macs else "fvcore",
        formula_macs=formula.macs,
        witness_flops=int(witness.get_total_flops()),
        batch_norm_elements=batch_norm_elements,
        other_elements={name: written for name, written in elements.written.items() if written},
    )


def count_classical(name: str, grid: Grid, num_bits: int) -> OperationCount:
    """Count a classical receiver by formula, see :func:`receivers.classical.formula_count`.

    Args:
        name: a classical receiver, exact or ``"... max-log"``.
        grid: sets antennas, pilots and data REs; the pilot pattern with the most pilot symbols counts.
        num_bits: bits per symbol, K.

    Raises:
        UserError: if ``name`` is not a classical receiver with a formula.
    """
    formula = formula_count(name, grid, num_bits)
    return OperationCount(
        name=name, parameters=0, macs=formula.macs, method="formula", other_elements=dict(formula.elements)
    )
