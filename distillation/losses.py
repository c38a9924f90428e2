"""What a receiver is trained on: true bits, and a teacher's LLRs.

Losses are means over the bits that were sent; what a net says about other entries of the grid has no effect on them.
"""

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
    loss = binary_cross_entropy_with_logits(llrs, slots.bits.to(llrs.dtype), reduction="none")
    return _mean(loss, slots)


def distillation_loss(
    llrs: torch.Tensor,
    teacher_llrs: torch.Tensor,
    slots: Slots,
    temperature: float,
    alpha: float,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """``alpha T^2 H(sigmoid(t/T), sigmoid(s/T)) + (1 - alpha) H(bits, sigmoid(s))``, after Hinton et al. (1503.02531).

    H is binary cross-entropy over the bits that were sent, s and t are the student's and the teacher's LLRs.

    Args:
        llrs, teacher_llrs: float ``(B, K, S, F)``; no gradient flows into the teacher's.
        slots: the slots they belong to.
        temperature: T, above 0.
        alpha: weight of the teacher, 0 to 1.
        weights: of the teacher's term, broadcastable to the LLRs; 1 if not given.
    """
    soft = torch.sigmoid(teacher_llrs / temperature)
    distilled = binary_cross_entropy_with_logits(llrs / temperature, soft, reduction="none")
    return alpha * temperature**2 * _mean(distilled, slots, weights) + (1 - alpha) * bit_loss(llrs, slots)


def regression_loss(
    llrs: torch.Tensor,
    teacher_llrs: torch.Tensor,
    slots: Slots,
    clip: float,
    alpha: float,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """``alpha E[(c(s) - c(t))^2] / 8 + (1 - alpha) H(bits, sigmoid(s))`` with the smooth clip ``c(x) = C tanh(x / C)``.

    Matching of logits (Ba and Caruana, 1312.6184; Kim et al., 2105.08919). It is what the soft bits of
    :func:`distillation_loss` tend to for ``T -> inf`` (1503.02531, section 2.1), the factor 1/8 included, so that alpha
    means the same in both. The clip keeps the student from spending its capacity on how certain a certain bit is;
    being smooth, it still calls back a student that is certain of the wrong bit (in float32 up to 9 C).

    Args:
        llrs, teacher_llrs: float ``(B, K, S, F)``; no gradient flows into the teacher's.
        slots: the slots they belong to.
        clip: C, the LLR magnitude in nats that neither side exceeds, above 0.
        alpha: weight of the teacher, 0 to 1.
        weights: of the teacher's term, broadcastable to the LLRs; 1 if not given.
    """
    error = clip * (torch.tanh(llrs / clip) - torch.tanh(teacher_llrs / clip))
    return alpha * _mean(error.square() / 8, slots, weights) + (1 - alpha) * bit_loss(llrs, slots)


def confidence_weights(teacher_llrs: torch.Tensor, slots: Slots) -> torch.Tensor:
    """How sure the teacher is of each bit, ``|P(1) - P(0)| = |tanh(t/2)|``, over its mean.

    It falls with the entropy of the bit, by which Kwon et al. (ICASSP 2020, doi 10.1109/ICASSP40776.2020.9054698)
    weight teachers.

    Args:
        teacher_llrs: float ``(B, K, S, F)``.
        slots: the slots they belong to.

    Returns:
        float ``(B, K, S, F)`` with mean 1 over the bits that were sent (0 if the teacher knows nothing of any).
    """
    sure = torch.tanh(teacher_llrs / 2).abs()
    return sure / _mean(sure, slots).clamp_min(torch.finfo(sure.dtype).tiny)


def sinr_weights(slots: Slots) -> torch.Tensor:
    """``log2(1 + SINR)`` of each slot over its mean in the block, after EqDeepRx (2602.11834, eq. (13), with SNR).

    Args:
        slots: the block; its realised SINR counts.

    Returns:
        float32 ``(B, 1, 1, 1)`` with mean 1.
    """
    bits_per_use = torch.log2(1 + 10 ** (slots.sinr_db / 10))
    return (bits_per_use / bits_per_use.mean())[:, None, None, None]


def _mean(loss: torch.Tensor, slots: Slots, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Mean over the bits that were sent; other entries have no effect, infinite ones included."""
    mask = slots.bit_mask
    if weights is not None:
        loss = loss * weights
    return torch.where(mask, loss, 0.0).sum() / mask.sum()
