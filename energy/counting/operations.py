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
from channels.pilots import dmrs_layouts
from leanrx_core.errors import UserError
from receivers.neural.hybrid import Hybrid
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
    by_formula, exponentials = _count_hybrid(net, grid) if isinstance(net, Hybrid) else (0, 0)
    elements.written["exp"] += exponentials
    return OperationCount(
        name=name,
        parameters=sum(p.numel() for p in net.parameters()),
        macs=sum(int(by_operator[op]) for op in MAC_OPERATORS) + by_formula,
        method="fvcore + formula" if by_formula else "fvcore",
        formula_macs=by_formula,
        witness_flops=int(witness.get_total_flops()),
        batch_norm_elements=batch_norm_elements,
        other_elements={name: written for name, written in elements.written.items() if written},
    )


def _count_hybrid(net: Hybrid, grid: Grid) -> tuple[int, int]:
    """MACs of a hybrid receiver outside of its convolutions, and exponentials of its demapping.

    To those of LMMSE come, with R antennas, in complex MACs, for the front end's white noise: residuals and their
    covariance as for rejecting interference, ``10 R^3`` for the inverse square root in each resource block (``9 R^3``
    for eigenvalues and vectors, G. H. Golub, C. F. Van Loan, Matrix Computations, section 8.3, and a product),
    ``3 R^2 + R`` per RE for y, the channel and what turning does to its power. And with L levels per axis, per RE and
    block:

    * combining ``1.5 R`` and soft symbols ``1.75 L + 1`` (square and scale of 2 L distances, mean and second moment of
      both axes, two squared magnitudes), whose exponentials torch counts;
    * comparing with what was received: ``3.5 R`` (two products, one with a real number, a squared magnitude, a product
      with the reliability);
    * interpolating a state of ``2 R + 1`` real values between two neighbours, half a complex MAC each.

    and, per RE, interpolating the last layer's ``2 K`` values and scaling K LLRs. Elementwise operators are listed
    apart as torch counts them, those of these products too.
    """
    front_end = count_classical("LMMSE", grid, net.num_bits)
    r, levels = grid.num_rx, 2 ** (net.num_bits // 2)
    of_block = 1.5 * r + 1.75 * levels + 1 + 3.5 * r + (2 * r + 1) / 2
    p, q, _ = _pilots_and_data(grid)
    whitening = r * p * q + r * r * p * q + 10 * r**3 * grid.num_prb
    per_re = len(net.blocks) * of_block + 1.25 * net.num_bits + 3 * r * r + r
    complex_macs = whitening + per_re * NUM_SYMBOLS * grid.num_subcarriers
    return front_end.macs + int(4 * complex_macs), front_end.other_elements["exp"]


def count_classical(name: str, grid: Grid, num_bits: int) -> OperationCount:
    """Count a classical receiver by formula, for the grid's pilot pattern with the most pilot symbols.

    With R antennas, S symbols of which P carry pilots, F subcarriers of which Q do, and L = 2^(K/2) levels per axis, in
    complex MACs:

    * raw estimates at the pilots: ``R P Q``;
    * LS interpolates each RE from two neighbours with real weights (half a complex MAC each): over subcarriers
      ``R P F`` where Q < F, over symbols ``R S F`` where P > 1;
    * LMMSE goes into and out of two eigenbases: ``R (P^2 Q + P Q^2 + P Q) + R (P Q F + S P F)``;
    * combining: ``1.5 R`` per data RE (product and squared magnitude);
    * rejecting interference: residuals and their covariance ``R P Q + R^2 P Q``, one inverse per symbol and resource
      block ``R^3``, weights ``R^2 + R / 2`` per data RE;
    * rejecting one interferer whose channel is known: its squared magnitude, two products and two updates, ``4.5 R``
      per data RE;
    * demapping: ``L`` per data RE (square and scale of 2 L distances); its exponentials, or with max-log the maxima in
      their place, are listed apart.

    Args:
        name: a classical receiver, exact or ``"... max-log"``.
        grid: sets R, S, P, F, Q and the data REs.
        num_bits: bits per symbol, K.

    Raises:
        UserError: if ``name`` is not a classical receiver with a formula.
    """
    r, s, f = grid.num_rx, NUM_SYMBOLS, grid.num_subcarriers
    p, q, data = _pilots_and_data(grid)
    levels = 2 ** (num_bits // 2)
    interpolate = (r * p * f if q < f else 0) + (r * s * f if p > 1 else 0)
    transform = r * (p * p * q + p * q * q + p * q) + r * (p * q * f + s * p * f)
    rejecting = r * p * q + r * r * p * q + s * f // 12 * r**3 + (r * r + 0.5 * r) * data
    before_demapping = {
        "LS": r * p * q + interpolate + 1.5 * r * data,
        "LMMSE": r * p * q + transform + 1.5 * r * data,
        "LMMSE-IRC": r * p * q + transform + rejecting + 1.5 * r * data,
        "perfect CSI": 1.5 * r * data,
        "perfect CSI-IRC": (4.5 + 1.5) * r * data,
    }
    exact = name.removesuffix(" max-log")
    if exact not in before_demapping:
        raise UserError(f"receiver: no formula for '{name}'; formulas: {', '.join(before_demapping)}")
    complex_macs = before_demapping[exact] + levels * data
    return OperationCount(
        name=name,
        parameters=0,
        macs=int(4 * complex_macs),
        method="formula",
        other_elements={"exp" if name == exact else "max": levels * num_bits * data},
    )


def _pilots_and_data(grid: Grid) -> tuple[int, int, int]:
    """Pilot symbols, subcarriers with pilots in them, and data REs, of the pattern with the most pilot symbols."""
    if grid.dmrs is None:
        p = max(len(pattern) for pattern in grid.pilot_patterns)
        return p, grid.num_subcarriers, (NUM_SYMBOLS - p) * grid.num_subcarriers
    symbols, occupied, free = max(dmrs_layouts(grid.dmrs), key=lambda layout: len(layout[0]))
    p = len(symbols)
    return p, sum(occupied) * grid.num_prb, ((NUM_SYMBOLS - p) * 12 + p * sum(free)) * grid.num_prb
