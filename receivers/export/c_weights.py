"""Weights of a hybrid as constants of a C file: floats, or packed integers where they were trained with few bits."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from receivers.export.c_constants import by_fours, c_array, float64
from receivers.neural.hybrid import Hybrid, HybridBlock
from receivers.neural.recurrent_hybrid import FilterPass, RecurrentHybrid
from receivers.neural.weight_quantization import round_weight, weight_unit

_PACKED_BITS = (2, 4, 8)
"""Bits that an integer can take in the file: a byte holds whole integers."""


def hybrid_weights(net: Hybrid, weight_bits: int | None) -> dict[str, str]:
    """Values of the template for the weights of a hybrid.

    Args:
        net: the network.
        weight_bits: with which it was trained; none for floats. Weights that are not of so few bits stay floats.
    """
    blocks = [cast(HybridBlock, block) for block in net.blocks]
    convolutions = [layer for block in blocks for layer in (block.expand, block.depthwise, block.project)]
    packed_bits = 0
    if weight_bits is not None and all(_has_few_bits(layer, weight_bits) for layer in convolutions):
        packed_bits = min(bits for bits in _PACKED_BITS if bits >= weight_bits)
    if packed_bits and weight_bits is not None:
        initialisers = [_packed_block(block, weight_bits, packed_bits) for block in blocks]
    else:
        initialisers = [_block(block) for block in blocks]
    kind, separator = "PackedBlock" if packed_bits else "Block", ",\n"
    unit = c_array(float64(weight_unit(blocks[0].expand)).ravel())
    arrays = [
        *([f"static const float EXPAND_UNIT[EXPAND_INPUTS] = {unit};"] if packed_bits else []),
        f"static const {kind} BLOCKS[] = {{\n{separator.join(initialisers)}\n}};",
        f"static const float OUT_WEIGHT[2 * K][WIDTH] = {c_array(float64(net.conv_out.weight)[:, :, 0, 0])};",
        f"static const float OUT_BIAS[2 * K] = {c_array(float64(net.conv_out.bias))};",
    ]
    return {"PACKED_BITS": str(packed_bits), "WEIGHTS": "\n\n".join(arrays)}


def recurrent_hybrid_weights(net: RecurrentHybrid) -> dict[str, str]:
    """Values of the template for the weights of a recurrent hybrid, all of them floats.

    Args:
        net: the network.
    """
    initialisers = []
    for filter_pass in net.sweeps:
        assert isinstance(filter_pass, FilterPass)
        arrays = [
            _matrix(float64(filter_pass.expand.weight)),
            float64(filter_pass.expand.bias),
            float64(filter_pass.depthwise.weight).reshape(net.width, -1),
            float64(filter_pass.depthwise.bias),
            _matrix(float64(filter_pass.project.weight)),
            float64(filter_pass.project.bias),
            *(
                float64(x).ravel()
                for x in (filter_pass.smoothing.weight, filter_pass.neighbours.weight, filter_pass.decay)
            ),
        ]
        initialisers.append("{" + ",\n".join(map(c_array, arrays)) + "}")
    separator = ",\n"
    return {"WEIGHTS": f"static const Pass PASSES[] = {{\n{separator.join(initialisers)}\n}};"}


def _has_few_bits(layer: nn.Module, weight_bits: int) -> bool:
    weight = cast(torch.Tensor, layer.weight).detach().cpu() / weight_unit(layer)
    integers, scale = round_weight(weight, weight_bits)
    return torch.equal(integers * scale, weight)


def _matrix(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of a pointwise convolution in groups of four outputs, ``(groups of inputs, 4)``."""
    return by_fours(weight[:, :, 0, 0]).reshape(-1, 4)


def _block(block: HybridBlock) -> str:
    expand, depthwise, project = block.expand, block.depthwise, block.project
    arrays = [
        _matrix(float64(expand.weight)),
        float64(expand.bias),
        float64(depthwise.weight).reshape(len(depthwise.weight), -1),
        float64(depthwise.bias),
        _matrix(float64(project.weight)),
        float64(project.bias),
    ]
    return _initialiser([c_array(values) for values in arrays], block)


def _packed_block(block: HybridBlock, weight_bits: int, packed_bits: int) -> str:
    integers, scales = {}, {}
    for name in ("expand", "depthwise", "project"):
        layer = getattr(block, name)
        values, scale = round_weight(layer.weight.detach().cpu() / weight_unit(layer), weight_bits)
        integers[name], scales[name] = values.numpy().astype(np.float64), c_array(float64(scale).ravel())
    for name in ("expand", "project"):
        integers[name] = _matrix(integers[name])
    packed = {name: _bytes(values, packed_bits) for name, values in integers.items()}
    parts = [packed["expand"], packed["depthwise"], packed["project"]]
    for name in ("expand", "depthwise", "project"):
        parts += [scales[name], c_array(float64(getattr(block, name).bias))]
    return _initialiser(parts, block)


def _initialiser(parts: list[str], block: HybridBlock) -> str:
    return "{" + ",\n".join(parts) + f", {', '.join(map(str, block.depthwise.dilation))}}}"


def _bytes(integers: NDArray[np.float64], packed_bits: int) -> str:
    """Integers in two's complement, the first in the lowest bits of a byte."""
    per_byte, mask = 8 // packed_bits, 2**packed_bits - 1
    values = integers.astype(np.int64).ravel() & mask
    values = np.pad(values, (0, -len(values) % per_byte)).reshape(-1, per_byte)
    return "{" + ", ".join(map(str, (values << packed_bits * np.arange(per_byte)).sum(1))) + "}"
