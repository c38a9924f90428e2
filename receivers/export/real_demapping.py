"""Exact demapping in real arithmetic, in the operators that runtimes execute fast."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from receivers.neural.detection import levels_by_bit
from receivers.neural.hybrid import levels_by_order

BitLevels = Sequence[tuple[list[int], list[int]]]
"""Of each bit of an axis: labels in which it is 1, and in which it is 0."""


def exact_llrs(metrics: torch.Tensor, bits: BitLevels) -> torch.Tensor:
    """LLRs ``(B, K, S, F)``; bits alternate between the two axes (TS 38.211, 5.1).

    Args:
        metrics: log-probabilities of the levels of both axes, up to a constant each, ``(B, 2, L, S, F)``.
        bits: labels of each bit.
    """
    return torch.cat(
        [torch.logsumexp(metrics[:, :, ones], 2) - torch.logsumexp(metrics[:, :, zeros], 2) for ones, zeros in bits], 1
    )


class RealDemapper(nn.Module):
    """:func:`receivers.classical.demapping.demap` without complex numbers, for any modulation up to K bits.

    Args:
        num_bits: LLRs per resource element K.
    """

    _levels: torch.Tensor

    def __init__(self, num_bits: int) -> None:
        super().__init__()
        self.register_buffer("_levels", levels_by_order(num_bits))
        self._bits = [(ones.tolist(), zeros.tolist()) for ones, zeros in levels_by_bit(num_bits)]

    def forward(self, z: torch.Tensor, inverse_var: torch.Tensor, bits_per_symbol: torch.Tensor) -> torch.Tensor:
        """Compute LLRs.

        Args:
            z: symbol estimates, real and imaginary parts, float32 ``(B, 2, S, F)``.
            inverse_var: reciprocal of their complex error power, float32 ``(B, 1, S, F)``.
            bits_per_symbol: of each slot's modulation, int64 ``(B,)``.

        Returns:
            float32 ``(B, K, S, F)``.
        """
        levels = self._levels[bits_per_symbol // 2 - 1][:, None, :, None, None]
        return exact_llrs(-(z[:, :, None] - levels).square() * inverse_var[:, :, None], self._bits)
