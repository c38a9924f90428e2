"""Ranges of the values inside an exported graph, for their rounding to 8 bits.

A range that holds the largest value has coarse steps for all others. A smaller one clips the largest values and has
finer steps. The range here is that of least squared error over calibration slots, which counts both. It is chosen among
fractions of the full range.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnxruntime

Array = np.ndarray

FRACTIONS = tuple(round(1 - 0.05 * i, 2) for i in range(13))
"""Fractions of the full range that are tried."""

MIN_RANGE = 0.01
"""Smallest range of a channel over that of its tensor: one that is 0 in the calibration need not be 0 elsewhere."""

_SIGNED_STEPS, _STEPS = 127, 255
"""Steps of 8 bits on each side of 0, and over a whole range."""


def channel_ranges(
    model: onnx.ModelProto, names: Sequence[str], examples: Sequence[dict[str, Array]]
) -> dict[str, Array]:
    """Range of each channel of some values, symmetric about 0.

    Args:
        model: the graph, in float32.
        names: of values ``(B, C, S, F)``.
        examples: inputs of calibration slots.

    Returns:
        Magnitudes ``(C,)`` by name.
    """
    largest = {name: np.zeros(1, np.float32) for name in names}
    for values in graph_values(model, names, examples):
        largest = {name: np.maximum(largest[name], np.abs(x).max((0, 2, 3))) for name, x in values.items()}
    errors = {name: np.zeros((len(FRACTIONS), len(x))) for name, x in largest.items()}
    for values in graph_values(model, names, examples):
        for name, x in values.items():
            for row, fraction in zip(errors[name], FRACTIONS, strict=True):
                step = np.maximum(fraction * largest[name], 1e-12).reshape(-1, 1, 1) / _SIGNED_STEPS
                rounded = (x / step).round().clip(-_SIGNED_STEPS, _SIGNED_STEPS) * step
                row += np.square(rounded - x).sum((0, 2, 3))
    ranges = {name: largest[name] * np.take(FRACTIONS, rows.argmin(0)) for name, rows in errors.items()}
    return {name: np.maximum(x, max(MIN_RANGE * x.max(), 1e-12)) for name, x in ranges.items()}


def tensor_ranges(
    model: onnx.ModelProto, names: Sequence[str], examples: Sequence[dict[str, Array]]
) -> dict[str, tuple[float, float]]:
    """Range of some values over all channels; it contains 0.

    Args:
        model, examples: as of :func:`channel_ranges`.
        names: of the values.

    Returns:
        Lower and upper limit by name.
    """
    ends = dict.fromkeys(names, (0.0, 0.0))
    for values in graph_values(model, names, examples):
        ends = {name: (min(ends[name][0], x.min()), max(ends[name][1], x.max())) for name, x in values.items()}
    errors = {name: np.zeros(len(FRACTIONS)) for name in names}
    for values in graph_values(model, names, examples):
        for name, x in values.items():
            for i, fraction in enumerate(FRACTIONS):
                low, high = (fraction * end for end in ends[name])
                step = max(high - low, 1e-12) / _STEPS
                zero = round(-low / step)
                rounded = ((x / step).round() + zero).clip(0, _STEPS) - zero
                errors[name][i] += np.square(rounded * step - x).sum()
    fractions = {name: FRACTIONS[int(row.argmin())] for name, row in errors.items()}
    return {name: (float(fractions[name] * low), float(fractions[name] * high)) for name, (low, high) in ends.items()}


def graph_values(
    model: onnx.ModelProto, names: Sequence[str], examples: Sequence[dict[str, Array]]
) -> Iterator[dict[str, Array]]:
    """Values inside a graph, by name, for each example.

    Args:
        model: the graph.
        names: of the values.
        examples: inputs.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for example in examples:
        yield dict(zip(names, session.run(list(names), example), strict=True))
