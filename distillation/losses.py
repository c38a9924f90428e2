"""Losses: true bits, and the LLRs of a teacher.

Losses are means over the bits that were sent. LLRs at other entries of the grid have no effect.
"""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from channels import Slots


def bit_loss(llrs: torch.Tensor, slots: Slots) -> torch.Tensor:
    """Mean binary cross-entropy in nats between LLRs and the bits that were sent (DeepRx, 2005.01494).

    Args:
        llrs: float ``(B, K, S, F)``.
        slots: the slots of these LLRs.

    Returns:
        The loss, a scalar.

    Example:
        An LLR of 0 says nothing about a bit and costs ln 2.

        >>> from channels import SlotStream, scenario
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2).block(0)
        >>> bit_loss(torch.zeros(slots.bits.shape), slots)
        tensor(0.6931)
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

    H is the binary cross-entropy over the bits that were sent; s and t are the LLRs of student and teacher.

    Args:
        llrs, teacher_llrs: float ``(B, K, S, F)``. No gradient reaches the teacher's.
        slots: the slots of these LLRs.
        temperature: T, above 0.
        alpha: weight of the teacher's term, 0 to 1.
        weights: per-bit weights of the teacher's term, broadcastable to the LLRs; 1 if omitted.

    Returns:
        The loss, a scalar.

    Example:
        The loss of a student with the teacher's LLRs is the entropy of the soft bits.

        >>> from channels import SlotStream, scenario
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2).block(0)
        >>> llrs = torch.full(slots.bits.shape, 4.0)
        >>> distillation_loss(llrs, llrs, slots, temperature=2.0, alpha=1.0)
        tensor(1.4613)
    """
    soft_bits = torch.sigmoid(teacher_llrs / temperature)
    loss = binary_cross_entropy_with_logits(llrs / temperature, soft_bits, reduction="none")
    return alpha * temperature**2 * _mean(loss, slots, weights) + (1 - alpha) * bit_loss(llrs, slots)


def regression_loss(
    llrs: torch.Tensor,
    teacher_llrs: torch.Tensor,
    slots: Slots,
    clip: float,
    alpha: float,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """``alpha E[(c(s) - c(t))^2] / 8 + (1 - alpha) H(bits, sigmoid(s))`` with the smooth clip ``c(x) = C tanh(x / C)``.

    The first term matches logits (Ba and Caruana, 1312.6184; Kim et al., 2105.08919). It is the limit of the soft bits
    of :func:`distillation_loss` for ``T -> inf`` (1503.02531, section 2.1). The factor 1/8 belongs to that limit, so
    alpha means the same in both losses.

    The clip saves the student from learning how certain a certain bit is. It is smooth, so a student that is certain
    of the wrong bit still has a gradient (in float32 up to 9 C).

    Args:
        llrs, teacher_llrs: float ``(B, K, S, F)``. No gradient reaches the teacher's.
        slots: the slots of these LLRs.
        clip: C, the largest LLR magnitude in nats after clipping, above 0.
        alpha: weight of the teacher's term, 0 to 1.
        weights: per-bit weights of the teacher's term, broadcastable to the LLRs; 1 if omitted.

    Returns:
        The loss, a scalar.
    """
    error = clip * (torch.tanh(llrs / clip) - torch.tanh(teacher_llrs / clip))
    return alpha * _mean(error.square() / 8, slots, weights) + (1 - alpha) * bit_loss(llrs, slots)


def confidence_weights(teacher_llrs: torch.Tensor, slots: Slots) -> torch.Tensor:
    """Confidence of the teacher in each bit, ``|P(1) - P(0)| = |tanh(t/2)|``, over its mean.

    It falls with the entropy of the bit. Kwon et al. (ICASSP 2020, doi 10.1109/ICASSP40776.2020.9054698) weight
    teachers by that entropy.

    Args:
        teacher_llrs: float ``(B, K, S, F)``.
        slots: the slots of these LLRs.

    Returns:
        float ``(B, K, S, F)`` with mean 1 over the bits that were sent; 0 if all LLRs are 0.
    """
    confidence = torch.tanh(teacher_llrs / 2).abs()
    return confidence / _mean(confidence, slots).clamp_min(torch.finfo(confidence.dtype).tiny)


def sinr_weights(slots: Slots) -> torch.Tensor:
    """``log2(1 + SINR)`` of each slot over its mean in the block, after EqDeepRx (2602.11834, eq. (13), with SNR).

    Args:
        slots: the block of slots, with its realised SINR.

    Returns:
        float32 ``(B, 1, 1, 1)`` with mean 1.
    """
    bits_per_use = torch.log2(1 + 10 ** (slots.sinr_db / 10))
    return (bits_per_use / bits_per_use.mean())[:, None, None, None]


def _mean(loss: torch.Tensor, slots: Slots, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Mean over the bits that were sent. Other entries have no effect, even if they are infinite."""
    mask = slots.bit_mask
    if weights is not None:
        loss = loss * weights
    return torch.where(mask, loss, 0.0).sum() / mask.sum()
