"""Losses against closed forms, values by hand, and the papers' limits."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div, logsigmoid

from channels import Scenario, Slots, SlotStream
from distillation.losses import bit_loss, confidence_weights, distillation_loss, regression_loss, sinr_weights
from distillation.objective import MAX_TEMPERATURE


@pytest.fixture(scope="module")
def slots(small: Scenario) -> Slots:
    """Slots of two modulations, so that some LLRs are unused."""
    block = SlotStream(small.model_copy(update={"modulations": ("QPSK", "64-QAM")}), 1, 8).block(0)
    assert block.bits_per_symbol.unique().tolist() == [2, 6]
    return block


def llrs_like(slots, seed: int) -> torch.Tensor:
    return 3 * torch.randn(slots.bits.shape, generator=torch.Generator().manual_seed(seed))


def test_bit_loss_counts_sent_bits_only(small: Scenario) -> None:
    slots = SlotStream(small.model_copy(update={"modulations": ("QPSK", "64-QAM")}), 1, 16).block(0)
    llrs = llrs_like(slots, 1)
    signed = llrs * (2 * slots.bits.float() - 1)
    torch.testing.assert_close(bit_loss(llrs, slots), -logsigmoid(signed[slots.bit_mask]).mean())
    unsent_llr = torch.where(slots.bit_mask, llrs, 1e3)
    torch.testing.assert_close(bit_loss(unsent_llr, slots), bit_loss(llrs, slots))


def test_with_alpha_0_losses_are_the_bit_loss(slots: Slots) -> None:
    student, teacher = llrs_like(slots, 1), llrs_like(slots, 2)
    torch.testing.assert_close(distillation_loss(student, teacher, slots, 3.0, 0.0), bit_loss(student, slots))
    torch.testing.assert_close(regression_loss(student, teacher, slots, 8.0, 0.0), bit_loss(student, slots))


def test_soft_part_has_the_gradient_of_the_divergence(small: Scenario) -> None:
    """Cross-entropy with soft bits differs from KL(teacher || student) by the teacher's entropy only."""
    slots = SlotStream(small, 1, 4).block(0)
    temperature, teacher = 2.5, llrs_like(slots, 2)
    llrs, reference_llrs = (llrs_like(slots, 1).requires_grad_() for _ in range(2))
    distillation_loss(llrs, teacher, slots, temperature, 1.0).backward()
    mask = slots.bit_mask
    student, target = reference_llrs[mask] / temperature, teacher[mask] / temperature
    log_q = torch.stack([logsigmoid(student), logsigmoid(-student)], -1)
    log_p = torch.stack([logsigmoid(target), logsigmoid(-target)], -1)
    (temperature**2 * kl_div(log_q, log_p, log_target=True, reduction="sum") / mask.sum()).backward()
    torch.testing.assert_close(llrs.grad, reference_llrs.grad)
    same = teacher.clone().requires_grad_()
    distillation_loss(same, teacher, slots, temperature, 1.0).backward()
    assert same.grad.abs().max() < 1e-7


def test_regression_by_hand(slots: Slots) -> None:
    """(1 - 3)^2 / 8 without a clip; with C = 2: (2 tanh 0.5 - 2 tanh 1.5)^2 / 8 = (2 (0.462117 - 0.905148))^2 / 8."""
    student, teacher = torch.full(slots.bits.shape, 1.0), torch.full(slots.bits.shape, 3.0)
    assert regression_loss(student, teacher, slots, 1e5, 1.0).item() == pytest.approx(0.5, rel=1e-4)
    assert regression_loss(student, teacher, slots, 2.0, 1.0).item() == pytest.approx(0.0981383, rel=1e-5)


def test_regression_gradient_points_to_the_teacher_and_is_zero_there(slots: Slots) -> None:
    teacher = llrs_like(slots, 2)
    same = teacher.clone().requires_grad_()
    regression_loss(same, teacher, slots, 8.0, 1.0).backward()
    assert same.grad.abs().max() == 0
    student = (4 * llrs_like(slots, 1)).requires_grad_()
    assert student.detach().abs().max() > 5 * 8  # the clip leaves a slope far outside
    regression_loss(student, teacher, slots, 8.0, 1.0).backward()
    mask = slots.bit_mask
    assert torch.equal(student.grad.sign()[mask], (student.detach() - teacher).sign()[mask])


def test_soft_bits_at_high_temperature_are_regression(slots: Slots) -> None:
    """Section 2.1 of 1503.02531 for two classes: the gradient tends to that of (s - t)^2 / 8, which is (s - t) / 4."""
    teacher, mask = llrs_like(slots, 2).double(), slots.bit_mask
    hot, plain = (llrs_like(slots, 1).double().requires_grad_() for _ in range(2))
    distillation_loss(hot, teacher, slots, 1e4, 1.0).backward()
    regression_loss(plain, teacher, slots, 1e6, 1.0).backward()
    expected = torch.where(mask, (hot.detach() - teacher) / 4 / mask.sum(), 0.0)
    torch.testing.assert_close(hot.grad, expected, rtol=1e-5, atol=1e-12)
    torch.testing.assert_close(plain.grad, expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t, slots, w: distillation_loss(s, t, slots, 2.0, 0.7, w),
        lambda s, t, slots, w: regression_loss(s, t, slots, 8.0, 0.7, w),
    ],
    ids=["soft-bits", "regression"],
)
def test_weights_apply_to_the_teachers_term_only(slots: Slots, loss: Callable[..., torch.Tensor]) -> None:
    student, teacher = llrs_like(slots, 1), llrs_like(slots, 2)
    bits = 0.3 * bit_loss(student, slots)
    plain, none = loss(student, teacher, slots, None), loss(student, teacher, slots, torch.zeros(()))
    torch.testing.assert_close(none, bits)
    torch.testing.assert_close(loss(student, teacher, slots, torch.full((), 3.0)) - bits, 3 * (plain - bits))
    first = torch.zeros(len(slots), 1, 1, 1)
    first[0] = 1
    first_slot = replace(slots, is_data=slots.is_data & first[:, 0].bool())
    share = first_slot.bit_mask.sum() / slots.bit_mask.sum()
    of_first = loss(student, teacher, first_slot, None) - 0.3 * bit_loss(student, first_slot)
    torch.testing.assert_close(loss(student, teacher, slots, first) - bits, share * of_first)


@pytest.mark.parametrize("unsent_llr", [1e3, math.inf, -math.inf])
@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t, slots: bit_loss(s, slots),
        lambda s, t, slots: distillation_loss(s, t, slots, 2.0, 0.5),
        lambda s, t, slots: distillation_loss(s, t, slots, 2.0, 0.5, confidence_weights(t, slots)),
        lambda s, t, slots: regression_loss(s, t, slots, 8.0, 0.5, sinr_weights(slots)),
    ],
    ids=["bits", "soft-bits", "confidence", "regression"],
)
def test_unsent_bits_have_no_effect(slots: Slots, loss: Callable[..., torch.Tensor], unsent_llr: float) -> None:
    results = []
    for off_mask in (0.0, unsent_llr):
        student, teacher = (torch.where(slots.bit_mask, llrs_like(slots, seed), off_mask) for seed in (1, 2))
        student.requires_grad_()
        value = loss(student, teacher, slots)
        value.backward()
        results.append((value.detach(), student.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not results[1][1][~slots.bit_mask].any()


def test_confidence_by_hand(slots: Slots) -> None:
    """|tanh(t / 2)| is 0, 1/2 and 1 for t = 0, ln 3 and infinity, whatever the sign."""
    mask = slots.bit_mask
    values = torch.tensor([0.0, math.log(3), -math.log(3), math.inf])
    llrs = torch.zeros(slots.bits.shape)
    llrs[mask] = values[torch.arange(int(mask.sum())) % 4]
    weights = confidence_weights(llrs, slots)[mask]
    assert mask.sum() % 4 == 0
    torch.testing.assert_close(weights[:4], torch.tensor([0.0, 1.0, 1.0, 2.0]))  # over their mean, 1/2
    assert weights.mean().item() == pytest.approx(1.0, abs=1e-5)
    random = confidence_weights(llrs_like(slots, 1), slots)
    assert random[mask].mean().item() == pytest.approx(1.0, abs=1e-5)
    assert not confidence_weights(torch.zeros(slots.bits.shape), slots).any()


def test_sinr_by_hand(slots: Slots) -> None:
    """SINR 1, 3 and 7 are worth 1, 2 and 3 bits per use."""
    sinr_db = 10 * torch.tensor([1.0, 3.0, 7.0, 3.0, 1.0, 3.0, 7.0, 3.0]).log10()
    weights = sinr_weights(replace(slots, sinr_db=sinr_db))
    torch.testing.assert_close(weights[:, 0, 0, 0], torch.tensor([0.5, 1.0, 1.5, 1.0, 0.5, 1.0, 1.5, 1.0]))
    assert sinr_weights(slots).mean().item() == pytest.approx(1.0, abs=1e-6)


def test_soft_bits_equal_the_formula_bit_for_bit(slots: Slots) -> None:
    """Bit for bit: loss and gradient of the formula written out, with the mask as a factor."""
    llrs, reference_llrs = (llrs_like(slots, 1).requires_grad_() for _ in range(2))
    teacher, mask = llrs_like(slots, 2), slots.bit_mask

    def mean(llrs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (binary_cross_entropy_with_logits(llrs, target, reduction="none") * mask).sum() / mask.sum()

    expected = 0.3 * 3.0**2 * mean(reference_llrs / 3.0, torch.sigmoid(teacher / 3.0)) + 0.7 * mean(
        reference_llrs, slots.bits.float()
    )
    loss = distillation_loss(llrs, teacher, slots, 3.0, 0.3)
    loss.backward()
    expected.backward()
    assert torch.equal(loss, expected)
    assert torch.equal(llrs.grad, reference_llrs.grad)


def test_gradients_are_exact_up_to_the_highest_temperature(slots: Slots) -> None:
    """In float32 against float64; at 1e8 little is left of the gradient."""

    def gradient(temperature: float, dtype: torch.dtype) -> torch.Tensor:
        student, teacher = (llrs_like(slots, seed).to(dtype) for seed in (1, 2))
        student.requires_grad_()
        return torch.autograd.grad(distillation_loss(student, teacher, slots, temperature, 1.0), student)[0].double()

    def error(temperature: float) -> float:
        exact = gradient(temperature, torch.float64)
        return float((gradient(temperature, torch.float32) - exact).norm() / exact.norm())

    assert error(MAX_TEMPERATURE) < 1e-3
    assert error(1e8) > 0.5
