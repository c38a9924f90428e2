"""Weights of few bits: quantisation-aware training of a network's convolutions.

Each weight is a small integer times a scale of its output channel. The forward pass rounds the weights, and the
backward pass takes the rounding for the identity (straight-through estimator, B. Jacob et al., 1712.05877, section 3).
Biases and activations stay in float32.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

MIN_SCALE = 1e-8
"""Lower limit of a scale, for channels whose weights are all 0."""


def round_weight(weight: torch.Tensor, weight_bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers and scales of a convolution's weight.

    Args:
        weight: float32 ``(channels, ...)``.
        weight_bits: bits of an integer; it lies between ``-(2^(bits-1) - 1)`` and ``2^(bits-1) - 1``.

    Returns:
        Integers, int8 like the weight, and scales, float32 ``(channels, 1, ...)``. Their product is the rounded weight.

    Example:
        >>> integers, scale = round_weight(torch.tensor([[0.7, -0.21], [0.0, 0.0]]), weight_bits=4)
        >>> integers.tolist(), round(scale[0, 0].item(), 3)
        ([[7, -2], [0, 0]], 0.1)
    """
    largest = 2 ** (weight_bits - 1) - 1
    scale = weight.abs().amax(tuple(range(1, weight.ndim)), keepdim=True).clamp_min(MIN_SCALE) / largest
    return (weight / scale).round().clamp(-largest, largest).to(torch.int8), scale


def quantize_weights(net: nn.Module, weight_bits: int) -> None:
    """Let the convolutions of a network compute with rounded weights, and keep their parameters in float32.

    Args:
        net: network, changed in place.
        weight_bits: bits of a weight.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            parametrize.register_parametrization(module, "weight", _Rounding(weight_bits))


def fix_rounded_weights(net: nn.Module) -> None:
    """Make the rounded weights the parameters of the network, which is changed in place."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


class _Rounding(nn.Module):
    def __init__(self, weight_bits: int) -> None:
        super().__init__()
        self._weight_bits = weight_bits

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            integers, scale = round_weight(weight, self._weight_bits)
            rounding = integers * scale - weight
        return weight + rounding
