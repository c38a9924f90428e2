import math

import pytest
import torch

from channels import Scenario, Slots, SlotStream
from distillation.losses import regression_loss
from distillation.teachers import MAX_LLR, Teacher, TeacherOutput, ensemble_llrs
from leanrx_core.errors import UserError
from receivers.classical import LsReceiver, PerfectCsiReceiver
from receivers.neural.registry import build
from receivers.neural.weights import Card, NeuralReceiver


def receiver(name: str, seed: int, spec: str = "deeprx-w0.0625-d3") -> NeuralReceiver:
    card = Card(
        name=name,
        receiver=spec,
        role="teacher",
        num_rx=2,
        num_bits=4,
        parameters=1,
        scenario="small",
        channels=("TDL-B",),
        trained_sinr_db=(0, 20),
        seed=seed,
        training={},
        weights_sha256=f"sha-{seed}",
    )
    return NeuralReceiver(build(spec, seed=seed), card)


@pytest.fixture(scope="module")
def slots(small: Scenario) -> Slots:
    return SlotStream(small, 1, 4).block(0)


def test_a_teacher_says_what_its_receiver_says(slots: Slots) -> None:
    one = receiver("a", 1)
    teacher = Teacher(one, ["conv_in", "blocks.2", "conv_in"])
    told = teacher(slots)
    assert torch.equal(told.llrs, one(slots))
    assert teacher.name == "a"
    assert list(told.activations) == ["conv_in", "blocks.2"]
    assert (
        teacher.channels == {path: a.shape[1] for path, a in told.activations.items()} == {"conv_in": 4, "blocks.2": 4}
    )
    assert torch.equal(told.activations["conv_in"], one.net.conv_in(one.net.features(slots)))
    assert not told.llrs.requires_grad
    assert not told.activations["blocks.2"].requires_grad
    assert not any(module._forward_hooks for module in one.net.modules())
    assert Teacher(one)(slots).activations == {}


def test_mean_of_probabilities_by_hand() -> None:
    """0.9 and 0.5 make 0.7; certain and undecided make 3/4; two certain ones of unequal mind know nothing."""
    inf = math.inf
    first = torch.tensor([math.log(9), inf, inf, inf, -inf, 50.0, -50.0])
    second = torch.tensor([0.0, 0.0, -inf, inf, -inf, 50.0, 50.0])
    expected = torch.tensor([math.log(7 / 3), math.log(3), 0.0, inf, -inf, 50.0, 0.0])
    torch.testing.assert_close(ensemble_llrs([TeacherOutput(first, {}), TeacherOutput(second, {})]), expected)


def test_an_ensemble_of_equals_is_one_of_them(slots: Slots) -> None:
    a, b = (Teacher(receiver(name, seed))(slots) for name, seed in (("a", 1), ("b", 2)))
    assert ensemble_llrs([a]) is a.llrs
    torch.testing.assert_close(ensemble_llrs([a, a, a]), a.llrs, atol=1e-5, rtol=1e-5)
    expected = (a.llrs.double().sigmoid() + b.llrs.double().sigmoid()) / 2
    torch.testing.assert_close(ensemble_llrs([a, b]).double().sigmoid(), expected, atol=1e-6, rtol=0)


def test_perfect_csi_teaches_what_it_knows(slots: Slots) -> None:
    def errors(llrs: torch.Tensor) -> int:
        return int((((llrs > 0) != slots.bits.bool()) & slots.bit_mask).sum())

    told = Teacher(PerfectCsiReceiver())(slots)
    assert torch.equal(told.llrs, PerfectCsiReceiver()(slots))
    assert told.activations == {}
    assert errors(told.llrs) < 0.5 * errors(LsReceiver()(slots))


def test_llrs_without_end_are_cut(small: Scenario) -> None:
    clean = SlotStream(small.model_copy(update={"snr_db": (60.0, 60.0), "interferers": ()}), 1, 4).block(0)
    raw = PerfectCsiReceiver()(clean)
    assert raw.abs().max() > 10 * MAX_LLR
    told = Teacher(PerfectCsiReceiver())(clean)
    torch.testing.assert_close(told.llrs, raw.clamp(-MAX_LLR, MAX_LLR))
    certain = Teacher(_Says(math.inf))(clean)
    assert (ensemble_llrs([certain, certain]) == MAX_LLR).all()
    student = torch.zeros_like(raw, requires_grad=True)
    regression_loss(student, certain.llrs, clean, 8.0, 1.0).backward()
    assert torch.isfinite(student.grad).all()
    assert torch.sigmoid(torch.tensor(MAX_LLR / 500)) == 1


class _Says:
    """A receiver that says the same of every bit."""

    name = digest = "says"

    def __init__(self, llr: float) -> None:
        self._llr = llr

    def __call__(self, slots: Slots) -> torch.Tensor:
        return torch.full(slots.bits.shape, self._llr)


def test_only_a_net_can_be_followed() -> None:
    with pytest.raises(UserError, match="'perfect CSI' has no network to follow; name a neural receiver as teacher"):
        Teacher(PerfectCsiReceiver(), ["conv_in"])


def test_a_path_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"teacher 'a' has no module 'conv.in'; near names: conv_in"):
        Teacher(receiver("a", 1), ["conv.in"])
