"""FLOPs by counting: a receiver of leanrx by its name, or any ONNX file. FLOP = 2 x MAC, nothing else counts."""

from __future__ import annotations

from collections.abc import Sequence

from energy.counting.onnx_file import count_onnx
from leanrx_core.checks import choice


def receiver_flops(receiver: str, num_prb: int = 26, num_rx: int = 2, num_bits: int = 4) -> int:
    """FLOPs of a receiver on one slot, as ``leanrx count`` finds them (this imports torch).

    Args:
        receiver: spec string, or ``LS``, ``LMMSE``, ``LMMSE-IRC``.
        num_prb, num_rx: of the grid.
        num_bits: bits per QAM symbol: 2, 4, 6 or 8.

    Raises:
        UserError: if the receiver is not known, or two counts of it contradict each other.
    """
    from channels import Grid
    from energy.counting.counter import count

    grid = Grid.parse({"num_prb": num_prb, "num_rx": num_rx}, "model.receiver")
    choice("model.receiver.num_bits", num_bits, (2, 4, 6, 8))
    profile = count(receiver, grid, num_bits=num_bits)
    profile.check_agreement()
    return profile.flops


def onnx_flops(path: str, shape: Sequence[int] | None = None) -> int:
    """FLOPs of one run of an ONNX file, see :func:`energy.counting.onnx_file.count_onnx`.

    Raises:
        UserError: if the file cannot be read, a size stays unknown, or an operator computes MACs that are not counted.
    """
    return count_onnx(path, shape).flops
