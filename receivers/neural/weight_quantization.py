"""Weights of few bits: quantisation-aware training of a network's convolutions.

Each weight is a small integer times a scale of its output channel. The forward pass rounds the weights. The training
learns the scales with them (learned step size quantisation, S. K. Esser et al., ICLR 2020, 1902.08153): the gradient
takes rounding for the identity, and weights beyond the largest integer are clipped. Biases and activations stay in
float32.

An output channel has one scale for the weights of all its inputs. A layer whose inputs differ much in size would lose
the small weights of the large inputs. Its attribute ``weight_unit`` then holds a fixed factor of each input's weights,
which the scale multiplies.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn
from torch.nn.utils import parametrize

MIN_SCALE = 1e-8
"""Lower limit of a scale, for channels whose weights are all 0."""

_CLIPPINGS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)
"""Limits of the weights that are tried before a training, over the largest weight of the channel."""


def round_weight(
    weight: torch.Tensor, weight_bits: int, limit: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers and scales of a convolution's weight.

    Args:
        weight: float32 ``(channels, ...)``.
        weight_bits: bits of an integer; it lies between ``-(2^(bits-1) - 1)`` and ``2^(bits-1) - 1``.
        limit: magnitude that the largest integer stands for, float32 ``(channels, 1, ...)``; the largest weight of each
            channel if not given. It counts where it is below the largest weight.

    Returns:
        Integers, int8 like the weight, and scales, float32 ``(channels, 1, ...)``. Their product is the rounded weight.
        Its integers and scales are the same.

    Example:
        >>> integers, scale = round_weight(torch.tensor([[0.7, -0.21], [0.0, 0.0]]), weight_bits=4)
        >>> integers.tolist(), round(scale[0, 0].item(), 3)
        ([[7, -2], [0, 0]], 0.1)
    """
    largest = _largest(weight_bits)
    scale = _scale(weight, largest, limit)
    return (weight / scale).round().clamp(-largest, largest).to(torch.int8), scale


def quantize_weights(net: nn.Module, weight_bits: int) -> None:
    """Let the convolutions of a network compute with rounded weights, and keep their parameters in float32.

    Each has one more parameter, the limit of its rounded weights. At first it is the one of least squared error.

    Args:
        net: network, changed in place.
        weight_bits: bits of a weight.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            rounding = _Rounding(module.weight.detach(), weight_unit(module), weight_bits)
            parametrize.register_parametrization(module, "weight", rounding)


def fix_rounded_weights(net: nn.Module) -> None:
    """Make the rounded weights the parameters of the network, which is changed in place."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def weight_unit(module: nn.Module) -> torch.Tensor:
    """The fixed factor of the weights of each input of a convolution, float32 ``(1, inputs, 1, 1)``; 1 without any."""
    unit = getattr(module, "weight_unit", None)
    return torch.ones(1, 1, 1, 1) if unit is None else cast(torch.Tensor, unit)


class _Rounding(nn.Module):
    """From a weight to the rounded weight, with a limit for each output channel that is learned."""

    unit: torch.Tensor

    def __init__(self, weight: torch.Tensor, unit: torch.Tensor, weight_bits: int) -> None:
        super().__init__()
        self._largest = _largest(weight_bits)
        self.register_buffer("unit", unit.clone(), persistent=False)
        self.limit = nn.Parameter(_best_limit(weight / unit, weight_bits))
        self._gradient_scale = 1 / math.sqrt(weight[0].numel() * self._largest)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        weight = weight / self.unit
        scale = _scale(weight.detach(), self._largest, self.limit)
        scale = _scale_gradient(scale, self._gradient_scale)
        steps = (weight / scale).clamp(-self._largest, self._largest)
        with torch.no_grad():
            rounding = steps.round() - steps
        return (steps + rounding) * scale * self.unit


def _largest(weight_bits: int) -> int:
    return int(2 ** (weight_bits - 1)) - 1


def _scale(weight: torch.Tensor, largest: int, limit: torch.Tensor | None) -> torch.Tensor:
    largest_weight = weight.abs().amax(tuple(range(1, weight.ndim)), keepdim=True)
    limit = largest_weight if limit is None else torch.minimum(limit, largest_weight)
    return limit.clamp_min(MIN_SCALE) / largest


def _scale_gradient(value: torch.Tensor, factor: float) -> torch.Tensor:
    """The same value, whose gradient is multiplied by a factor."""
    product = value * factor
    return value.detach() + (product - product.detach())


def _best_limit(weight: torch.Tensor, weight_bits: int) -> torch.Tensor:
    """The limits of :data:`_CLIPPINGS` whose rounded weights have the least squared error.

    A channel of zeros, as in a last layer before its training, gets the limit 1. So its largest weight counts until it
    is above 1.
    """
    axes = tuple(range(1, weight.ndim))
    largest_weight = weight.abs().amax(axes, keepdim=True)
    limits = torch.stack([clipping * largest_weight for clipping in _CLIPPINGS])
    errors = []
    for limit in limits:
        integers, scale = round_weight(weight, weight_bits, limit)
        errors.append((integers * scale - weight).square().sum(axes, keepdim=True))
    limit = limits.gather(0, torch.stack(errors).argmin(0, keepdim=True))[0]
    return torch.where(largest_weight > 0, limit, 1.0)
