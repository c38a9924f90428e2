import torch
from torch.nn.functional import kl_div, logsigmoid

from channels import Scenario, SlotStream
from distillation.lamb import Lamb
from distillation.losses import bit_loss, distillation_loss


def llrs_like(slots, seed: int) -> torch.Tensor:
    return 3 * torch.randn(slots.bits.shape, generator=torch.Generator().manual_seed(seed))


def test_bit_loss_counts_sent_bits_only(small: Scenario) -> None:
    slots = SlotStream(small.model_copy(update={"modulations": ("QPSK", "64-QAM")}), 1, 16).block(0)
    llrs = llrs_like(slots, 1)
    signed = llrs * (2 * slots.bits.float() - 1)
    torch.testing.assert_close(bit_loss(llrs, slots), -logsigmoid(signed[slots.bit_mask]).mean())
    spoiled = torch.where(slots.bit_mask, llrs, 1e3)
    torch.testing.assert_close(bit_loss(spoiled, slots), bit_loss(llrs, slots))


def test_without_alpha_it_is_the_bit_loss(small: Scenario) -> None:
    slots = SlotStream(small, 1, 4).block(0)
    student, teacher = llrs_like(slots, 1), llrs_like(slots, 2)
    torch.testing.assert_close(distillation_loss(student, teacher, slots, 3.0, 0.0), bit_loss(student, slots))


def test_soft_part_has_the_gradient_of_the_divergence(small: Scenario) -> None:
    """Cross-entropy with soft bits differs from KL(teacher || student) by the teacher's entropy alone."""
    slots = SlotStream(small, 1, 4).block(0)
    temperature, teacher = 2.5, llrs_like(slots, 2)
    ours, theirs = (llrs_like(slots, 1).requires_grad_() for _ in range(2))
    distillation_loss(ours, teacher, slots, temperature, 1.0).backward()
    mask = slots.bit_mask
    student, target = theirs[mask] / temperature, teacher[mask] / temperature
    log_q = torch.stack([logsigmoid(student), logsigmoid(-student)], -1)
    log_p = torch.stack([logsigmoid(target), logsigmoid(-target)], -1)
    (temperature**2 * kl_div(log_q, log_p, log_target=True, reduction="sum") / mask.sum()).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    same = teacher.clone().requires_grad_()
    distillation_loss(same, teacher, slots, temperature, 1.0).backward()
    assert same.grad.abs().max() < 1e-7


def test_lamb_follows_its_algorithm() -> None:
    """Against the algorithm of the paper written out for one tensor."""
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(5, 3, generator=generator)
    p, zero = torch.nn.Parameter(w.clone()), torch.nn.Parameter(torch.zeros(2))
    optimizer = Lamb([p, zero], lr=0.1, weight_decay=0.01)
    m = v = torch.zeros_like(w)
    for t in range(1, 6):
        g = torch.randn(5, 3, generator=generator)
        p.grad, zero.grad = g.clone(), torch.ones(2)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        r = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-6) + 0.01 * w
        w = w - 0.1 * w.norm() / r.norm() * r
        torch.testing.assert_close(p.data, w, atol=1e-5, rtol=1e-5)
        if t == 1:
            torch.testing.assert_close(zero.data, torch.full((2,), -0.1), atol=1e-5, rtol=0)
