"""FLOPs by counting: a receiver of leanrx by its name, or any ONNX file. FLOP = 2 x MAC, nothing else counts."""

from __future__ import annotations

from collections.abc import Sequence

from leanrx_core.checks import choice
from leanrx_core.errors import UserError


def receiver_flops(
    receiver: str, num_prb: int = 26, num_rx: int = 2, num_bits: int = 4, pilot_symbols: Sequence[int] | None = None
) -> int:
    """FLOPs of a receiver on one slot, as ``leanrx count`` finds them (this imports torch).

    Args:
        receiver: spec string, or ``LS``, ``LMMSE``, ``LMMSE-IRC``.
        num_prb, num_rx: of the grid.
        num_bits: bits per QAM symbol: 2, 4, 6 or 8.
        pilot_symbols: OFDM symbols with pilots; the default is that of a grid.

    Raises:
        UserError: if the receiver is not known, two counts of it contradict each other, or pilots have no effect.
    """
    from channels import Grid
    from energy.counting.counter import count, depends_on_pilots

    choice("model.receiver.num_bits", num_bits, (2, 4, 6, 8))
    if pilot_symbols is not None and not depends_on_pilots(receiver):
        raise UserError(f"model.receiver.pilot_symbols: no effect on the operations of {receiver}; leave it out")
    patterns = {} if pilot_symbols is None else {"pilot_patterns": [pilot_symbols]}
    grid = Grid.parse({"num_prb": num_prb, "num_rx": num_rx, **patterns}, "model.receiver")
    profile = count(receiver, grid, num_bits=num_bits)
    profile.check_agreement()
    return profile.flops


def onnx_flops(path: str, shape: Sequence[int] | None = None) -> int:
    """FLOPs of one run of an ONNX file.

    Args:
        path: of the file.
        shape: as for :func:`energy.counting.onnx_file.count_onnx`.

    Raises:
        UserError: as :func:`energy.counting.onnx_file.count_onnx`.
    """
    from energy.counting.onnx_file import count_onnx

    return count_onnx(path, shape).flops
