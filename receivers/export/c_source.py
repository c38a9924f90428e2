"""A receiver as one freestanding C file: from complex samples to LLRs, with its weights as constants.

The file consists of the templates in the folder ``c`` with the constants of a receiver: C11, the standard mathematics
library only, no allocation, one thread. Its interface is the header ``c/receiver.h.in``. Spacing, antennas and pilot
layouts are those of the grid it is written for. The number of resource blocks is an argument; the classical receivers
take that of their scenario alone, because their covariance is that of its bandwidth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import resources
from importlib.metadata import version
from typing import Any, cast

from channels import NUM_SYMBOLS, Grid
from channels.pilots import DmrsLayout, pilot_layouts
from leanrx_core.errors import UserError
from receivers.base import Receiver
from receivers.classical import LmmseIrcReceiver, LmmseReceiver, is_exact_lmmse
from receivers.export.c_constants import c_float, function_values, level_constants
from receivers.export.c_deeprx import deeprx_bytes_per_prb, deeprx_values
from receivers.export.c_front_end import EstimatorConstants, describe_layout, layout_constants
from receivers.export.c_weights import hybrid_weights, recurrent_hybrid_weights
from receivers.export.export_card import file_name
from receivers.neural import detection, recurrent_hybrid
from receivers.neural.deeprx import DeepRx, InterpolatedDeepRx
from receivers.neural.hybrid import MIN_ERROR_VAR, Hybrid, HybridBlock
from receivers.neural.network import Network
from receivers.neural.recurrent_hybrid import FilterPass, RecurrentHybrid
from receivers.neural.weights import NeuralReceiver

BUILD_FLAGS = ("-std=c11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
"""Flags of the build line, besides ``-march=native``."""

MAX_PRB = 273
"""Largest bandwidth of a file with a free number of resource blocks (TS 38.101-1)."""

_DEEPRX_PARTS = "slot pointwise deeprx interface"
_HYBRID_DETECTION_PARTS = "slot functions pointwise states channel_estimate covariance demapping hybrid_detection"
_HYBRID_PARTS = f"{_HYBRID_DETECTION_PARTS} hybrid interface"
_RECURRENT_HYBRID_PARTS = f"{_HYBRID_DETECTION_PARTS} recurrent_hybrid interface"
_LMMSE_PARTS = "slot functions subcarriers channel_estimate demapping classical interface"
_LMMSE_IRC_PARTS = "slot functions subcarriers channel_estimate covariance demapping classical interface"


def c_sources(receiver: Receiver, grid: Grid) -> dict[str, str]:
    """Source and header of a receiver.

    Args:
        receiver: a DeepRx, a hybrid, or LMMSE or LMMSE-IRC with exact LLRs.
        grid: antennas, subcarrier spacing and pilots of the slots. Its number of resource blocks has no effect on a
            network. A classical receiver needs that of its scenario.

    Returns:
        Contents by file name, ``NAME.c`` and ``NAME.h``.

    Raises:
        UserError: if the receiver is none of these or has another number of antennas than the grid, or if the grid does
            not consist of whole resource blocks.

    Example:
        >>> from channels import scenario
        >>> from receivers import load
        >>> sources = c_sources(load("tdl-6prb-hybrid-w5-d5-kd"), scenario("tdl-6prb").grid)
        >>> sorted(sources)
        ['tdl-6prb-hybrid-w5-d5-kd.c', 'tdl-6prb-hybrid-w5-d5-kd.h']
    """
    layouts = pilot_layouts(grid)
    parts, own = _parts(receiver, grid, layouts)
    values = {
        "NAME": file_name(receiver),
        "VERSION": version("leanrx"),
        "DIGEST": receiver.digest,
        "SPACING": str(grid.subcarrier_spacing_hz),
        "LAYOUT_DESCRIPTIONS": "; ".join(map(describe_layout, layouts)),
        "LAYOUTS": layout_constants(layouts),
        "MAX_PILOT_SYMBOLS": str(max(len(layout.symbols) for layout in layouts)),
        "NUM_RX": str(grid.num_rx),
        "FLAGS": " ".join(BUILD_FLAGS),
        "NOISE_USE": "",
        **function_values(),
        **own,
    }
    folder = resources.files("receivers.export") / "c"
    source = "\n".join((folder / f"{part}.c.in").read_text() for part in parts.split())
    header = (folder / "receiver.h.in").read_text()
    return {f"{values['NAME']}.c": _fill(source, values), f"{values['NAME']}.h": _fill(header, values)}


def has_c_form(receiver: Receiver) -> bool:
    """Whether receivers of this kind can be written in C: DeepRx, hybrids, LMMSE and LMMSE-IRC with exact LLRs."""
    return _writer(receiver) is not None


Parts = tuple[str, dict[str, str]]
"""Names of templates, and values that they need."""

_Writer = Callable[[Any, Grid, list[DmrsLayout]], Parts]


def _writer(receiver: Receiver) -> _Writer | None:
    """What writes receivers of this kind."""
    if isinstance(receiver, NeuralReceiver):
        return _NETWORKS.get(type(receiver.net))
    return _classical if is_exact_lmmse(receiver) else None


def _parts(receiver: Receiver, grid: Grid, layouts: list[DmrsLayout]) -> Parts:
    """Templates and values of a receiver.

    Raises:
        UserError: if it has no C form, or does not fit the grid.
    """
    writer = _writer(receiver)
    if writer is None:
        kind = f" is a {receiver.card.receiver}" if isinstance(receiver, NeuralReceiver) else ""
        raise UserError(
            f"export: {receiver.name}{kind}; receivers in C are DeepRx, hybrids, LMMSE and LMMSE-IRC; use onnx for "
            "other networks"
        )
    if grid.subcarriers is not None:
        raise UserError(
            f"export: the grid has {grid.num_subcarriers} subcarriers, and a C file takes whole resource blocks; use "
            "onnx, or a grid with num_prb"
        )
    if isinstance(receiver, NeuralReceiver) and grid.num_rx != receiver.card.num_rx:
        raise UserError(f"export: {receiver.name} has {receiver.card.num_rx} antennas, but the grid has {grid.num_rx}")
    return writer(receiver, grid, layouts)


def _fill(template: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template


def _bandwidth_values(num_prb: int | None, bytes_per_prb: int) -> dict[str, str]:
    """Values for one bandwidth, or for any."""
    if num_prb is not None:
        return {
            "MAX_PRB": f"#define LEANRX_MAX_PRB {num_prb}",
            "PRB_RANGE": str(num_prb),
            "BAD_PRB": f"not {num_prb}, that of the receiver",
        }
    comment = f"/* lower it to save static memory: about {bytes_per_prb} bytes per resource block */"
    return {
        "MAX_PRB": f"#ifndef LEANRX_MAX_PRB\n#define LEANRX_MAX_PRB {MAX_PRB} {comment}\n#endif",
        "PRB_RANGE": "1 to LEANRX_MAX_PRB",
        "BAD_PRB": "outside 1 to LEANRX_MAX_PRB",
    }


def _classical(receiver: LmmseReceiver | LmmseIrcReceiver, grid: Grid, layouts: list[DmrsLayout]) -> Parts:
    num_bits = receiver.scenario.bits_per_symbol
    if grid != receiver.scenario.grid:
        raise UserError(f"export: {receiver.name} has the covariance of another grid; give that of its scenario")
    estimator = EstimatorConstants.of_covariance(receiver.covariance, layouts, grid.num_prb)
    rejects_interference = isinstance(receiver, LmmseIrcReceiver)
    return _LMMSE_IRC_PARTS if rejects_interference else _LMMSE_PARTS, {
        "SPEC": f"the covariance of scenario {receiver.scenario.name}",
        "LABEL": receiver.name,
        "NUM_BITS": str(num_bits),
        "MAX_LEVELS": str(2 ** (num_bits // 2)),
        "LEVELS": level_constants(num_bits),
        "REJECTS_INTERFERENCE": str(int(rejects_interference)),
        **_bandwidth_values(grid.num_prb, 0),
        **estimator.values(layouts),
    }


def _hybrid(receiver: NeuralReceiver, grid: Grid, layouts: list[DmrsLayout]) -> Parts:
    net = cast(Hybrid, receiver.net)
    block = cast(HybridBlock, net.blocks[0])
    return _HYBRID_PARTS, {
        "ROW_SYMBOLS": "2",
        "WIDTH": str(net.width),
        "DEPTH": str(len(net.blocks)),
        "INNER": str(block.expand.out_channels),
        **hybrid_weights(net, receiver.card.training.get("weight_bits")),
        **_bandwidth_values(None, _hybrid_bytes_per_prb(net, layouts)),
        **_detection_values(receiver, grid, layouts),
    }


def _recurrent_hybrid(receiver: NeuralReceiver, grid: Grid, layouts: list[DmrsLayout]) -> Parts:
    net = cast(RecurrentHybrid, receiver.net)
    return _RECURRENT_HYBRID_PARTS, {
        "ROW_SYMBOLS": "1",
        "DEPTH": str(len(net.sweeps)),
        "INNER": str(net.width),
        "MEMORIES": str(recurrent_hybrid.NUM_MEMORIES),
        "TRENDS": str(recurrent_hybrid.NUM_TREND_VECTORS),
        "POWERS": str(recurrent_hybrid.NUM_POWERS),
        "LOG_R": c_float(math.log(grid.num_rx)),
        "MIN_POWER": c_float(recurrent_hybrid.MIN_POWER),
        "POWER_SCALE": c_float(recurrent_hybrid.POWER_SCALE),
        **recurrent_hybrid_weights(net),
        **_bandwidth_values(None, _recurrent_hybrid_bytes_per_prb(net, grid.num_rx, layouts)),
        **_detection_values(receiver, grid, layouts),
    }


def _detection_values(receiver: NeuralReceiver, grid: Grid, layouts: list[DmrsLayout]) -> dict[str, str]:
    """Values for the front end and the detection of all hybrids."""
    num_bits = receiver.net.num_bits
    limits = {
        "MIN_GAIN": detection.MIN_GAIN,
        "MIN_VAR": detection.MIN_VAR,
        "MIN_EXCESS": detection.MIN_EXCESS,
        "MIN_ERROR_VAR": MIN_ERROR_VAR,
        "CERTAINTY": detection.CERTAINTY,
        "LOG_SCALE": detection.LOG_SCALE,
        "LOG_ERROR_MIN": detection.LOG_ERROR_RANGE[0],
        "LOG_ERROR_MAX": detection.LOG_ERROR_RANGE[1],
    }
    return {
        "SPEC": receiver.card.receiver,
        "NUM_BITS": str(num_bits),
        "MAX_LEVELS": str(2 ** (num_bits // 2)),
        "LEVELS": level_constants(num_bits),
        **{name: c_float(value) for name, value in limits.items()},
        **EstimatorConstants.robust(layouts, grid.subcarrier_spacing_hz).values(layouts),
    }


def _deeprx(receiver: NeuralReceiver, grid: Grid, layouts: list[DmrsLayout]) -> Parts:
    values = deeprx_values(cast(DeepRx, receiver.net))
    bandwidth = _bandwidth_values(None, deeprx_bytes_per_prb(values))
    noise_use = ", above 0; DeepRx makes no use of it"
    return _DEEPRX_PARTS, {"SPEC": receiver.card.receiver, "NOISE_USE": noise_use, **bandwidth, **values}


_NETWORKS: dict[type[Network], _Writer] = {
    DeepRx: _deeprx,
    InterpolatedDeepRx: _deeprx,
    Hybrid: _hybrid,
    RecurrentHybrid: _recurrent_hybrid,
}
"""What writes the networks of each class."""


def _hybrid_bytes_per_prb(net: Hybrid, layouts: list[DmrsLayout]) -> int:
    """Static memory per resource block, from the arrays of the template."""
    inner, num_updates = cast(HybridBlock, net.blocks[0]).expand.out_channels, net.width + 2 * net.num_rx + 1
    states = 28 * (net.width + inner + 3) + 40 * _round_up_4(inner) + 12 + 4 * _round_up_4(num_updates)
    return 4 * (states + _detection_floats_per_prb(net.num_rx, layouts, row_symbols=2) + 32 * net.num_bits)


def _recurrent_hybrid_bytes_per_prb(net: RecurrentHybrid, num_rx: int, layouts: list[DmrsLayout]) -> int:
    """Static memory per resource block, from the arrays of the template."""
    first, num_updates = cast(FilterPass, net.sweeps[0]), 2 * num_rx + 1
    vectors = recurrent_hybrid.NUM_TREND_VECTORS + 1 + 2  # trends, change, smooth and roughness
    network = first.expand.in_channels + _round_up_4(net.width) + net.width + _round_up_4(first.project.out_channels)
    rows = (2 * NUM_SYMBOLS + 1) * num_updates + 2 * num_rx * vectors + 4 * num_rx + network
    return 4 * (2 * rows + _detection_floats_per_prb(num_rx, layouts, row_symbols=1) + 12 * net.num_bits)


def _detection_floats_per_prb(num_rx: int, layouts: list[DmrsLayout], row_symbols: int) -> int:
    """Static floats per resource block of front end and detection: planes, masks of states, and whitening."""
    pilot_symbols = max(len(layout.symbols) for layout in layouts)
    pilots = max(sum(layout.has_pilot) for layout in layouts)
    planes = 12 * NUM_SYMBOLS * (4 * num_rx + 1) + (5 * 12 * row_symbols + 2 * pilots) * pilot_symbols
    return planes + (12 + 2 * 5) * row_symbols + 2 * num_rx**2 + 1


def _round_up_4(count: int) -> int:
    return -(-count // 4) * 4
