"""Constants of the C files of DeepRx: its weights, in which normalisations and biases are contained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from channels import NUM_SYMBOLS
from channels.grid import SUBCARRIERS_PER_PRB
from receivers.export.c_constants import by_fours, c_array, float64, padded
from receivers.neural.deeprx import DeepRx, InterpolatedDeepRx, ResidualBlock

_Array = NDArray[np.float64]

_FEATURE_SYMBOLS = 3
"""Symbols that the first convolution reads."""


@dataclass(frozen=True)
class _BlockWeights:
    """A residual block with C channels in and D out, both multiples of 4.

    Attributes:
        scale, shift: of the first normalisation, ``(C,)``.
        depthwise: both convolutions, ``(C, 18)`` and ``(D, 18)``: two kernels of each channel.
        pointwise: both convolutions, ``(D, 2 C)`` and ``(D, 2 D)``, the latter with C more columns for a shortcut.
        bias: of the first convolution, ``(D,)``.
        dilation: over symbols and subcarriers.
    """

    scale: _Array
    shift: _Array
    depthwise: tuple[_Array, _Array]
    pointwise: tuple[_Array, _Array]
    bias: _Array
    dilation: tuple[int, int]

    @property
    def active_rows(self) -> int:
        """Rows between the normalisation and the first convolution that are kept."""
        return (2 * self.dilation[0] + 1) * len(self.scale)

    @property
    def hidden_rows(self) -> int:
        """Rows between both convolutions that are kept."""
        return (2 * self.dilation[0] + 1) * len(self.bias)

    def arrays(self, number: int) -> list[str]:
        """Definitions of the arrays that :meth:`initialiser` names."""
        return [
            _array(f"SCALE_{number}[]", self.scale),
            _array(f"SHIFT_{number}[]", self.shift),
            _array(f"BIAS_{number}[]", self.bias),
            *(_array(f"DEPTHWISE_{number}_{i}[][18]", weight) for i, weight in enumerate(self.depthwise, 1)),
            *(_matrix(f"POINTWISE_{number}_{i}", weight) for i, weight in enumerate(self.pointwise, 1)),
        ]

    def initialiser(self, number: int) -> str:
        """The element of ``BLOCKS``."""
        has_shortcut = self.pointwise[1].shape[1] > 2 * len(self.bias)
        fields = [
            *(len(self.scale), len(self.bias), *self.dilation, int(has_shortcut)),
            *(f"{name}_{number}" for name in ("SCALE", "SHIFT", "BIAS")),
            *(f"{name}_{number}_{i}" for name in ("DEPTHWISE", "POINTWISE") for i in (1, 2)),
        ]
        return f"{{{', '.join(map(str, fields))}}}"


def deeprx_values(net: DeepRx) -> dict[str, str]:
    """Values of the template of DeepRx.

    A normalisation behind a convolution is part of its weights. The stream that passes from block to block has no
    biases: they are part of the shifts of the normalisations that read it.

    Args:
        net: the network.
    """
    in_weight = float64(net.conv_in.weight).transpose(0, 2, 3, 1)
    in_weight = padded(in_weight.reshape(len(in_weight), -1), 4, 1)
    offset, blocks = float64(net.conv_in.bias), []
    for module in net.blocks:
        block, offset = _fold(cast(ResidualBlock, module), offset)
        blocks.append(block)
    out_scale, out_shift = (padded(values, 4) for values in _normalisation(net.norm_out, offset))
    out_weight = padded(float64(net.conv_out.weight)[:, :, 0, 0], 4, 4)
    matrices = [in_weight, *(matrix for block in blocks for matrix in block.pointwise), out_weight]
    initialisers = ",\n".join(block.initialiser(i) for i, block in enumerate(blocks))
    weights = [
        _matrix("IN_WEIGHT", in_weight),
        *(array for i, block in enumerate(blocks) for array in block.arrays(i)),
        f"static const Block BLOCKS[] = {{\n{initialisers}\n}};",
        _array("OUT_SCALE[]", out_scale),
        _array("OUT_SHIFT[]", out_shift),
        _matrix("OUT_WEIGHT", out_weight),
        _array("OUT_BIAS[]", padded(float64(net.conv_out.bias), 4)),
    ]
    sizes = {
        "NUM_BITS": net.num_bits,
        "INTERPOLATES": int(isinstance(net, InterpolatedDeepRx)),
        "FEATURE_SYMBOLS": _FEATURE_SYMBOLS,
        "OUTPUTS": len(out_weight),
        "MAX_INPUTS": max(matrix.shape[1] for matrix in matrices),
        "NUM_BLOCKS": len(blocks),
        "LAST_CHANNELS": len(out_scale),
        **_rows(net, blocks),
    }
    return {
        "WEIGHTS": "\n".join(weights),
        **{name: str(size) for name, size in sizes.items()},
    }


def deeprx_bytes_per_prb(values: dict[str, str]) -> int:
    """Static memory per resource block, from the sizes of :func:`deeprx_values`."""
    rows = NUM_SYMBOLS * int(values["CHANNELS"]) + int(values["ACTIVE_ROWS"]) + int(values["HIDDEN_ROWS"])
    return 4 * SUBCARRIERS_PER_PRB * (rows + 1 + int(values["NUM_BITS"]))


def _rows(net: DeepRx, blocks: list[_BlockWeights]) -> dict[str, int]:
    """Rows of subcarriers in the arrays of the template."""
    return {
        "CHANNELS": max(len(values) for block in blocks for values in (block.scale, block.bias)),
        "ACTIVE_ROWS": max(_FEATURE_SYMBOLS * net.num_features, *(block.active_rows for block in blocks)),
        "HIDDEN_ROWS": max(block.hidden_rows for block in blocks),
    }


def _fold(block: ResidualBlock, offset: _Array) -> tuple[_BlockWeights, _Array]:
    """The constants of a block, and the biases of the stream behind it, which are not in its constants.

    Args:
        block: of the network.
        offset: biases of the stream before it.
    """
    scale, shift = _normalisation(block.norm1, offset)
    second_scale, second_shift = _normalisation(block.norm2, np.zeros(block.norm2.num_features))
    convolutions = [_separable(layers) for layers in (block.conv1, block.conv2)]
    (_, weight1, bias1), (_, weight2, bias2) = convolutions
    matrix1 = padded(second_scale[:, None] * weight1, 4, 8)
    matrix2 = padded(weight2, 4, 8)
    if block.shortcut is None:
        offset = offset + bias2
    else:
        matrix2 = np.hstack([matrix2, padded(float64(block.shortcut.weight)[:, :, 0, 0], 4, 4)])
        offset = float64(block.shortcut.bias) + bias2
    first, second = (padded(kernels, 4, 1) for kernels, _, _ in convolutions)
    return _BlockWeights(
        padded(scale, 4),
        padded(shift, 4),
        (first, second),
        (matrix1, matrix2),
        padded(second_scale * bias1 + second_shift, 4),
        block.dilation,
    ), offset


def _separable(layers: nn.Sequential) -> tuple[_Array, _Array, _Array]:
    """Kernels ``(C, 18)``, matrix ``(D, 2 C)`` and bias ``(D,)`` of a separable convolution."""
    depthwise, pointwise = (cast(nn.Conv2d, layer) for layer in layers)
    weight = float64(pointwise.weight)[:, :, 0, 0]
    kernels = float64(depthwise.weight).reshape(depthwise.in_channels, -1)
    return kernels, weight, weight @ float64(depthwise.bias) + float64(pointwise.bias)


def _normalisation(norm: nn.BatchNorm2d, offset: _Array) -> tuple[_Array, _Array]:
    """Scale and shift of a normalisation of values that lack an offset."""
    mean, var = float64(cast(torch.Tensor, norm.running_mean)), float64(cast(torch.Tensor, norm.running_var))
    scale = float64(norm.weight) / np.sqrt(var + norm.eps)
    return scale, float64(norm.bias) + scale * (offset - mean)


def _matrix(name: str, weight: _Array) -> str:
    """A matrix ``(outputs, inputs)`` in groups of four outputs."""
    return _array(f"{name}[][4]", by_fours(weight).reshape(-1, 4))


def _array(name: str, values: _Array) -> str:
    return f"static const float {name} = {c_array(values)};"
