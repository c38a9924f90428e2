"""What a receiver is trained on: true bits, and a teacher's soft bits."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from channels import Slots


def bit_loss(llrs: torch.Tensor, slots: Slots) -> torch.Tensor:
    """Mean binary cross-entropy in nats over the bits that were sent (DeepRx, 2005.01494).

    Args:
        llrs: float ``(B, K, S, F)``.
        slots: the slots they belong to.
    """
    return _masked_cross_entropy(llrs, slots.bits.to(llrs.dtype), slots.bit_mask)


def distillation_loss(
    llrs: torch.Tensor, teacher_llrs: torch.Tensor, slots: Slots, temperature: float, alpha: float
) -> torch.Tensor:
    """``alpha T^2 H(sigmoid(t/T), sigmoid(s/T)) + (1 - alpha) H(bits, sigmoid(s))``, after Hinton et al. (1503.02531).

    H is binary cross-entropy over the bits that were sent, s and t are the student's and the teacher's LLRs.

    Args:
        llrs, teacher_llrs: float ``(B, K, S, F)``; no gradient flows into the teacher's.
        slots: the slots they belong to.
        temperature: T, above 0.
        alpha: weight of the teacher, 0 to 1.
    """
    soft = torch.sigmoid(teacher_llrs / temperature)
    distilled = _masked_cross_entropy(llrs / temperature, soft, slots.bit_mask)
    return alpha * temperature**2 * distilled + (1 - alpha) * bit_loss(llrs, slots)


def _masked_cross_entropy(llrs: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    loss = binary_cross_entropy_with_logits(llrs, target, reduction="none")
    return (loss * mask).sum() / mask.sum()
