"""Information that the LLRs of a receiver lose: a measure of soft bits, where the BER judges hard decisions only."""

from __future__ import annotations

import math

import torch

from channels import Slots


def information_loss_bits(llrs: torch.Tensor, slots: Slots) -> torch.Tensor:
    """Information on the transmitted bits that LLRs do not hold, summed over the bits of each slot.

    A bit with the LLR L of its true value loses ``log2(1 + exp(-L))``. One minus the mean loss per bit is the
    generalised mutual information of bit-wise decoding (A. Martinez et al., IEEE Trans. Inf. Theory 55, 2009). LLRs of
    a wrong scale or a low limit lose information, though their decisions are right.

    Args:
        llrs: log P(bit = 1) / P(bit = 0), float32 ``(B, K, S, F)``.
        slots: with the transmitted bits.

    Returns:
        bits, float64 ``(B,)``.

    Example:
        >>> from channels import SlotStream, scenario
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2, split="test").block(0)
        >>> no_information = information_loss_bits(torch.zeros(slots.bits.shape), slots)
        >>> bool((no_information == slots.bit_mask.sum((1, 2, 3))).all())
        True
    """
    true_llrs = torch.where(slots.bits.bool(), llrs, -llrs).double()
    losses = torch.nn.functional.softplus(-true_llrs) / math.log(2)
    return (losses * slots.bit_mask).sum((1, 2, 3))
