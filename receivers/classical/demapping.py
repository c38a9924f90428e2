"""Soft demapping of QAM symbols to LLRs."""

from __future__ import annotations

from typing import Literal

import torch

from channels.grid import pam_levels
from receivers.classical.slot_sizes import SlotSizes

Demapper = Literal["app", "maxlog"]
"""``app``: exact a posteriori probabilities. ``maxlog``: only the nearest symbol of either bit value."""


def demap(
    z: torch.Tensor, error_var: torch.Tensor, bits_per_symbol: torch.Tensor, num_bits: int, method: Demapper = "app"
) -> torch.Tensor:
    """LLRs of Gray-mapped QAM (TS 38.211, 5.1); each axis is a PAM of its own.

    Args:
        z: symbol estimates, complex64 ``(B, S, F)``.
        error_var: their complex error power, float32 ``(B, S, F)``.
        bits_per_symbol: the modulation of each slot, int64 ``(B,)``.
        num_bits: LLRs per RE of the result (K); those beyond the modulation are 0.
        method: exact, or the max-log approximation.

    Returns:
        float32 ``(B, K, S, F)``; positive means 1.

    Example:
        One QPSK symbol, whose LLRs are ``-4 / sqrt(2) x / error_var`` per axis:

        >>> import torch
        >>> z = torch.tensor([0.1 - 0.2j]).view(1, 1, 1)
        >>> llrs = demap(z, torch.full((1, 1, 1), 0.5), torch.tensor([2]), num_bits=2)
        >>> [round(x, 4) for x in llrs.flatten().tolist()]
        [-0.5657, 1.1314]
    """
    over_levels = torch.logsumexp if method == "app" else torch.amax
    llrs = z.real.new_zeros(z.shape[0], num_bits, *z.shape[1:])
    for order in bits_per_symbol.unique().tolist():
        indices = torch.nonzero(bits_per_symbol == order)[:, 0]
        levels, labels = pam_levels(order // 2, z.device)
        for axis, part in enumerate((z[indices].real, z[indices].imag)):
            metric = -(part[:, None] - levels[:, None, None]).square() / error_var[indices, None]
            for i in range(order // 2):
                is_one = labels[:, i] == 1
                llrs[indices, 2 * i + axis] = over_levels(metric[:, is_one], 1) - over_levels(metric[:, ~is_one], 1)
    return llrs


def demap_macs(sizes: SlotSizes, num_bits: int) -> int:
    """Complex MACs of :func:`demap`: ``L = 2^(K/2)`` per data RE (square and scale of 2 L distances)."""
    return 2 ** (num_bits // 2) * sizes.data_res


def demap_elements(sizes: SlotSizes, num_bits: int, method: Demapper = "app") -> dict[str, int]:
    """Exponentials of :func:`demap`, or the maxima that take their place with max-log: ``K L`` per data RE."""
    return {"exp" if method == "app" else "max": 2 ** (num_bits // 2) * num_bits * sizes.data_res}
