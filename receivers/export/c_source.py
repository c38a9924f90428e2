"""A hybrid receiver as one freestanding C file: from complex samples to LLRs, with its weights as constants.

The file is the template ``c/hybrid.c.in`` with the constants of a receiver: C11, the standard mathematics library only,
no allocation, one thread. Its interface is the header ``c/hybrid.h.in``. The number of resource blocks is an argument;
spacing, antennas and pilot layouts are those of the grid it is written for.
"""

from __future__ import annotations

from importlib import resources
from importlib.metadata import version
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from channels import Grid
from channels.grid import SUBCARRIERS_PER_PRB, pam_levels
from channels.pilots import DmrsLayout, dmrs_layouts
from leanrx_core.errors import UserError
from receivers.classical.robust_estimation import WINDOW_PRB, frequency_basis, time_basis
from receivers.neural import detection
from receivers.neural.hybrid import MIN_ERROR_VAR, Hybrid, HybridBlock
from receivers.neural.weights import NeuralReceiver

BUILD_FLAGS = ("-std=c11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
"""Flags of the build line, besides ``-march=native``."""


def c_sources(receiver: NeuralReceiver, grid: Grid) -> dict[str, str]:
    """Source and header of a receiver.

    Args:
        receiver: a hybrid receiver.
        grid: antennas, subcarrier spacing and pilots of the slots. Its number of resource blocks has no effect.

    Returns:
        Contents by file name, ``NAME.c`` and ``NAME.h``.

    Raises:
        UserError: if the receiver is not a hybrid, or has another number of antennas than the grid.

    Example:
        >>> from channels import scenario
        >>> from receivers import load
        >>> sources = c_sources(load("tdl-6prb-hybrid-w5-d5-kd"), scenario("tdl-6prb").grid)
        >>> sorted(sources)
        ['tdl-6prb-hybrid-w5-d5-kd.c', 'tdl-6prb-hybrid-w5-d5-kd.h']
    """
    net, card = receiver.net, receiver.card
    if not isinstance(net, Hybrid):
        raise UserError(f"export: {receiver.name} is a {card.receiver}, and only hybrids are written in C; use onnx")
    if grid.num_rx != net.num_rx:
        raise UserError(f"export: {receiver.name} has {net.num_rx} antennas, but the grid has {grid.num_rx}")
    layouts, blocks = _layouts(grid), _blocks(net)
    bases = [
        [
            frequency_basis(_pilots(layout), grid.subcarrier_spacing_hz, window, "cpu")
            for window in range(1, WINDOW_PRB + 1)
        ]
        for layout in layouts
    ]
    exp_polynomial, log_polynomial = _exp_polynomial(), _log_polynomial()
    values = {
        "NAME": receiver.name,
        "SPEC": card.receiver,
        "VERSION": version("leanrx"),
        "DIGEST": receiver.digest,
        "SPACING": str(grid.subcarrier_spacing_hz),
        "LAYOUTS": "; ".join(_describe(layout) for layout in layouts),
        "NUM_RX": str(net.num_rx),
        "NUM_BITS": str(net.num_bits),
        "WIDTH": str(net.width),
        "DEPTH": str(len(net.blocks)),
        "INNER": str(blocks[0].expand.out_channels),
        "BYTES_PER_PRB": str(_bytes_per_prb(net, layouts)),
        "MAX_LEVELS": str(2 ** (net.num_bits // 2)),
        "MAX_PILOT_SYMBOLS": str(max(len(layout.symbols) for layout in layouts)),
        "MAX_RANK": str(max(len(basis.values) for windows in bases for basis in windows)),
        "MAX_PILOTS_PER_PRB": str(max(len(_pilots(layout)) for layout in layouts)),
        "MIN_GAIN": _float(detection.MIN_GAIN),
        "MIN_VAR": _float(detection.MIN_VAR),
        "MIN_EXCESS": _float(detection.MIN_EXCESS),
        "MIN_ERROR_VAR": _float(MIN_ERROR_VAR),
        "CERTAINTY": _float(detection.CERTAINTY),
        "LOG_SCALE": _float(detection.LOG_SCALE),
        "LOG_ERROR_MIN": _float(detection.LOG_ERROR_RANGE[0]),
        "LOG_ERROR_MAX": _float(detection.LOG_ERROR_RANGE[1]),
        "EXP_POLYNOMIAL": _horner(exp_polynomial),
        "EXP_ERROR": f"{_exp_error(exp_polynomial):.0e}",
        "LOG_POLYNOMIAL": f"r * ({_horner(log_polynomial)})",
        "LOG_ERROR": f"{_log_error(log_polynomial):.0e}",
        "FLAGS": " ".join(BUILD_FLAGS),
        "EXPAND_TERMS": _terms(blocks[0].expand.in_channels),
        "PROJECT_TERMS": _terms(blocks[0].project.in_channels),
        "CONSTANTS": _constants(net, grid, layouts),
    }
    folder = resources.files("receivers.export") / "c"
    return {f"{receiver.name}.{suffix}": _fill((folder / f"hybrid.{suffix}.in").read_text(), values) for suffix in "ch"}


def _fill(template: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template


def _layouts(grid: Grid) -> list[DmrsLayout]:
    """Pilot layouts that a slot of the grid can have."""
    if grid.dmrs is not None:
        return dmrs_layouts(grid.dmrs)
    everywhere, nowhere = [True] * SUBCARRIERS_PER_PRB, [False] * SUBCARRIERS_PER_PRB
    return [DmrsLayout(list(pattern), everywhere, nowhere) for pattern in grid.pilot_patterns]


def _pilots(layout: DmrsLayout) -> tuple[int, ...]:
    return tuple(i for i, has_pilot in enumerate(layout.has_pilot) if has_pilot)


def _describe(layout: DmrsLayout) -> str:
    pilots = _pilots(layout)
    where = "all subcarriers" if len(pilots) == SUBCARRIERS_PER_PRB else f"subcarriers {', '.join(map(str, pilots))}"
    return f"symbols {', '.join(map(str, layout.symbols))}, {where} of each resource block"


def _bytes_per_prb(net: Hybrid, layouts: list[DmrsLayout]) -> int:
    """Static memory per resource block, from the arrays of the template."""
    inner, num_updates = _blocks(net)[0].expand.out_channels, net.width + 2 * net.num_rx + 1
    pilot_symbols = max(len(layout.symbols) for layout in layouts)
    per_symbol = 12 * (4 * net.num_rx + 1) + 2 * net.width + 2 * 2 * inner
    once = 12 * (3 + 4) * pilot_symbols + 2 * (2 * net.num_rx**2 + 4) + 2 * (num_updates + 2 * net.num_bits)
    return 4 * (14 * per_symbol + once + 12 * net.num_bits + 1)


def _constants(net: Hybrid, grid: Grid, layouts: list[DmrsLayout]) -> str:
    orders = range(1, net.num_bits // 2 + 1)
    levels = [pam_levels(bits)[0].double().numpy() for bits in orders]
    distances = [np.diff(np.sort(row)).min() for row in levels]
    rows = [np.pad(row, (0, 2 ** (net.num_bits // 2) - len(row))) for row in levels]
    parts = [
        f"static const float LEVELS[][MAX_LEVELS] = {_array(np.array(rows))};",
        f"static const float MIN_DISTANCE[] = {_array(np.array(distances))};",
        f"#define NUM_LAYOUTS {len(layouts)}",
        "static const Layout LAYOUTS[] = {\n" + ",\n".join(_layout(layout, grid) for layout in layouts) + "\n};",
        "static const Block BLOCKS[] = {\n" + ",\n".join(_block(block) for block in _blocks(net)) + "\n};",
        f"static const float OUT_WEIGHT[2 * K][WIDTH] = {_array(_numpy(net.conv_out.weight)[:, :, 0, 0])};",
        f"static const float OUT_BIAS[2 * K] = {_array(_numpy(net.conv_out.bias))};",
    ]
    return "\n\n".join(parts)


def _layout(layout: DmrsLayout, grid: Grid) -> str:
    pilots = _pilots(layout)
    time = time_basis(tuple(layout.symbols), "cpu")
    bases = [frequency_basis(pilots, grid.subcarrier_spacing_hz, window, "cpu") for window in range(1, WINDOW_PRB + 1)]
    frequency = ",\n".join(
        "{"
        + ", ".join(
            [
                f".rank = {len(basis.values)}",
                f".values = {_array(basis.values.numpy())}",
                f".vectors_re = {_array(basis.vectors.real.numpy())}",
                f".vectors_im = {_array(basis.vectors.imag.numpy())}",
                f".out_re = {_array(basis.out.real.mT.numpy())}",
                f".out_im = {_array(basis.out.imag.mT.numpy())}",
                f".gain = {_array(basis.gain.numpy())}",
                f".pilot_gain = {_array(basis.pilot_gain.numpy())}",
            ]
        )
        + "}"
        for basis in bases
    )
    symbols, subcarriers = (", ".join(map(str, positions)) for positions in (layout.symbols, pilots))
    return (
        f"{{.num_symbols = {len(layout.symbols)}, .symbols = {{{symbols}}}, .num_pilots = {len(pilots)}, "
        f".pilots = {{{subcarriers}}}, .has_data = {{{', '.join(str(int(d)) for d in layout.has_data)}}}, "
        f".time = {{{_array(time.values.numpy())}, {_array(time.vectors.real.numpy())}, "
        f"{_array(time.out.real.numpy())}}}, .frequency = {{{frequency}}}}}"
    )


def _blocks(net: Hybrid) -> list[HybridBlock]:
    return cast(list[HybridBlock], list(net.blocks))


def _block(block: HybridBlock) -> str:
    expand, depthwise, project = block.expand, block.depthwise, block.project
    arrays = [
        _by_fours(_numpy(expand.weight)[:, :, 0, 0]),
        _numpy(expand.bias),
        _numpy(depthwise.weight).reshape(len(depthwise.weight), -1),
        _numpy(depthwise.bias),
        _by_fours(_numpy(project.weight)[:, :, 0, 0]),
        _numpy(project.bias),
    ]
    return "{" + ",\n".join(_array(values) for values in arrays) + f", {', '.join(map(str, depthwise.dilation))}}}"


def _by_fours(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """From (outputs, inputs) to (outputs / 4, inputs, 4), filled up with zeros."""
    padded = np.pad(weight, ((0, -len(weight) % 4), (0, 0)))
    return padded.reshape(-1, 4, weight.shape[1]).swapaxes(1, 2)


def _terms(count: int) -> str:
    """All terms of a sum; compilers vectorise the loop around them, because no loop is left inside."""
    return "\n            ".join(f"TERM({c})" for c in range(count))


def _numpy(values: torch.Tensor | None) -> NDArray[np.float64]:
    assert values is not None
    return values.detach().cpu().double().numpy()


def _array(values: NDArray[np.floating]) -> str:
    """A C initialiser, in lines of moderate length."""
    if values.ndim == 1:
        return "{" + ", ".join(_float(float(value)) for value in values) + "}"
    return "{" + ",\n ".join(_array(row) for row in values) + "}"


def _float(value: float) -> str:
    text = f"{value:.9g}"
    return f"{text}f" if any(c in text for c in ".en") else f"{text}.0f"


def _exp_polynomial() -> NDArray[np.float64]:
    """Coefficients of exp(r) for a magnitude of r up to ln(2) / 2, by powers."""
    half = np.log(2) / 2
    exponential = np.polynomial.Chebyshev.interpolate(np.exp, 5, [-half, half])
    return np.asarray(exponential.convert(kind=np.polynomial.Polynomial).coef, np.float64)


def _log_polynomial() -> NDArray[np.float64]:
    """Coefficients of log(1 + r) / r for 1 + r from sqrt(1/2) to sqrt(2), by powers."""
    limits = [np.sqrt(0.5) - 1, np.sqrt(2) - 1]
    quotient = np.polynomial.Chebyshev.interpolate(lambda r: np.log1p(r) / r, 8, limits)
    return np.asarray(quotient.convert(kind=np.polynomial.Polynomial).coef, np.float64)


def _exp_error(coefficients: NDArray[np.float64]) -> float:
    r = np.linspace(-np.log(2) / 2, np.log(2) / 2, 10001)
    return float(abs(np.polynomial.Polynomial(coefficients.astype(np.float32))(r) / np.exp(r) - 1).max())


def _log_error(coefficients: NDArray[np.float64]) -> float:
    r = np.linspace(np.sqrt(0.5) - 1, np.sqrt(2) - 1, 10000)
    return float(abs(r * np.polynomial.Polynomial(coefficients.astype(np.float32))(r) - np.log1p(r)).max())


def _horner(coefficients: NDArray[np.float64]) -> str:
    text = _float(float(coefficients[-1]))
    for value in coefficients[-2::-1]:
        text = f"({text} * r + {_float(float(value))})"
    return text
