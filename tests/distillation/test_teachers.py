import math

import pytest
import torch
from factories import untrained_receiver

from channels import Scenario, Slots, SlotStream
from distillation.losses import regression_loss
from distillation.teachers import MAX_LLR, Teacher, TeacherOutput, ensemble_llrs
from leanrx_core.errors import UserError
from receivers.classical import LsReceiver, PerfectCsiReceiver
from receivers.neural.weights import NeuralReceiver


def receiver(name: str, seed: int, spec: str = "deeprx-w0.0625-d3") -> NeuralReceiver:
    return untrained_receiver(spec, seed, name=name, weights_sha256=f"sha-{seed}")


@pytest.fixture(scope="module")
def slots(small: Scenario) -> Slots:
    return SlotStream(small, 1, 4).block(0)


def test_a_teacher_gives_its_receivers_llrs_and_activations(slots: Slots) -> None:
    teacher_receiver = receiver("a", 1)
    teacher = Teacher(teacher_receiver, ["conv_in", "blocks.2", "conv_in"])
    output = teacher(slots)
    assert torch.equal(output.llrs, teacher_receiver(slots))
    assert teacher.name == "a"
    assert list(output.activations) == ["conv_in", "blocks.2"]
    assert (
        teacher.channels
        == {path: a.shape[1] for path, a in output.activations.items()}
        == {"conv_in": 4, "blocks.2": 4}
    )
    assert torch.equal(
        output.activations["conv_in"], teacher_receiver.net.conv_in(teacher_receiver.net.features(slots))
    )
    assert not output.llrs.requires_grad
    assert not output.activations["blocks.2"].requires_grad
    assert not any(module._forward_hooks for module in teacher_receiver.net.modules())
    assert Teacher(teacher_receiver)(slots).activations == {}


def test_mean_of_probabilities_by_hand() -> None:
    """The mean of 0.9 and 0.5 is 0.7, that of 1 and 0.5 is 0.75, and that of 1 and 0 is 0.5."""
    inf = math.inf
    first = torch.tensor([math.log(9), inf, inf, inf, -inf, 50.0, -50.0])
    second = torch.tensor([0.0, 0.0, -inf, inf, -inf, 50.0, 50.0])
    expected = torch.tensor([math.log(7 / 3), math.log(3), 0.0, inf, -inf, 50.0, 0.0])
    torch.testing.assert_close(ensemble_llrs([TeacherOutput(first, {}), TeacherOutput(second, {})]), expected)


def test_an_ensemble_of_equal_teachers_is_one_of_them(slots: Slots) -> None:
    a, b = (Teacher(receiver(name, seed))(slots) for name, seed in (("a", 1), ("b", 2)))
    assert ensemble_llrs([a]) is a.llrs
    torch.testing.assert_close(ensemble_llrs([a, a, a]), a.llrs, atol=1e-5, rtol=1e-5)
    expected = (a.llrs.double().sigmoid() + b.llrs.double().sigmoid()) / 2
    torch.testing.assert_close(ensemble_llrs([a, b]).double().sigmoid(), expected, atol=1e-6, rtol=0)


def test_perfect_csi_can_be_a_teacher(slots: Slots) -> None:
    def errors(llrs: torch.Tensor) -> int:
        return int((((llrs > 0) != slots.bits.bool()) & slots.bit_mask).sum())

    output = Teacher(PerfectCsiReceiver())(slots)
    assert torch.equal(output.llrs, PerfectCsiReceiver()(slots))
    assert output.activations == {}
    assert errors(output.llrs) < 0.5 * errors(LsReceiver()(slots))


def test_large_llrs_are_clipped(small: Scenario) -> None:
    clean = SlotStream(small.model_copy(update={"snr_db": (60.0, 60.0), "interferers": ()}), 1, 4).block(0)
    raw = PerfectCsiReceiver()(clean)
    assert raw.abs().max() > 10 * MAX_LLR
    output = Teacher(PerfectCsiReceiver())(clean)
    torch.testing.assert_close(output.llrs, raw.clamp(-MAX_LLR, MAX_LLR))
    certain = Teacher(_ConstantReceiver(math.inf))(clean)
    assert (ensemble_llrs([certain, certain]) == MAX_LLR).all()
    student = torch.zeros_like(raw, requires_grad=True)
    regression_loss(student, certain.llrs, clean, 8.0, 1.0).backward()
    assert torch.isfinite(student.grad).all()
    assert torch.sigmoid(torch.tensor(MAX_LLR / 500)) == 1


class _ConstantReceiver:
    """A receiver with one LLR for all bits."""

    name = digest = "constant"

    def __init__(self, llr: float) -> None:
        self._llr = llr

    def __call__(self, slots: Slots) -> torch.Tensor:
        return torch.full(slots.bits.shape, self._llr)


def test_classical_teachers_have_no_activations() -> None:
    with pytest.raises(UserError, match="'perfect CSI' has no network to follow; name a neural receiver as teacher"):
        Teacher(PerfectCsiReceiver(), ["conv_in"])


def test_an_unknown_path_is_refused() -> None:
    with pytest.raises(UserError, match=r"teacher 'a' has no module 'conv.in'; near names: conv_in"):
        Teacher(receiver("a", 1), ["conv.in"])
