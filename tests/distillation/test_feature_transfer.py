import math

import pytest
import torch

from channels import Scenario, Slots, SlotStream
from distillation.feature_transfer import (
    ActivationRecorder,
    activation_channels,
    attention_loss,
    channel_adapter,
    feature_loss,
    match_resolution,
)
from leanrx_core.errors import UserError
from receivers.neural.network import Network
from receivers.neural.registry import build

SPECS = {
    "deeprx-w0.0625-d3": ["conv_in", "blocks.1.conv2.0", "norm_out"],
    "hybrid-w4-d2": ["blocks.0.expand", "blocks.1.depthwise"],
}


def planes(*rows: list[float]) -> torch.Tensor:
    """Activations ``(1, C, 1, F)`` of one slot and symbol, a row for each channel."""
    return torch.tensor(rows)[None, :, None]


@pytest.mark.parametrize("spec", SPECS)
def test_recorder_changes_nothing_and_is_removed(small: Scenario, spec: str) -> None:
    net = build(spec, seed=1).eval()
    x = net.features(SlotStream(small, 1, 2).block(0))
    before = net(x)
    with ActivationRecorder(net, SPECS[spec]) as recorder:
        assert torch.equal(net(x), before)
        activations = recorder.pop()
        assert recorder.pop() == {}
    assert list(activations) == SPECS[spec]
    assert activations[SPECS[spec][0]].requires_grad
    assert not any(module._forward_hooks for module in net.modules())
    net(x)
    assert recorder.pop() == {}


def test_recorder_gives_the_last_output(small: Scenario) -> None:
    net = build("deeprx-w0.0625-d3", seed=1).eval()
    first, second = (net.features(SlotStream(small, 1, 2).block(i)) for i in range(2))
    with ActivationRecorder(net, ["conv_in"]) as recorder:
        net(first)
        net(second)
        assert torch.equal(recorder.pop()["conv_in"], net.conv_in(second))


@pytest.mark.parametrize("spec", SPECS)
def test_channels_come_from_a_copy_of_the_network(small: Scenario, spec: str) -> None:
    net = build(spec, seed=1).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    channels = activation_channels(net, SPECS[spec], "student")
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    with ActivationRecorder(net, SPECS[spec]) as recorder:
        net(net.features(SlotStream(small, 1, 2).block(0)))
    assert {path: a.shape[1] for path, a in recorder.pop().items()} == channels


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ("deeprx-w0.0625-d3", "blocks.3", "student has no module 'blocks.3'; near names: .*blocks.2"),
        ("deeprx-w0.0625-d3", "conv_inn", "near names: conv_in, "),
        ("deeprx-w0.0625-d3", "xyz", "near names: conv_in, blocks, norm_out, conv_out"),
        ("hybrid-w4-d2", "blocks.0", "output of module 'blocks.0' of student is not a tensor.* blocks.0.expand"),
        ("hybrid-w4-d2", "blocks", "output of module 'blocks' of student is not a tensor.* blocks.0"),
    ],
)
def test_unsuitable_modules_are_refused(spec: str, path: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        activation_channels(build(spec), [path], "student")


def test_a_tensor_not_over_the_grid_is_refused() -> None:
    class Pooled(Network):
        def __init__(self) -> None:
            super().__init__(2, 4)
            self.pool = torch.nn.AdaptiveAvgPool2d(1)
            self.out = torch.nn.Conv2d(2, 4, 1)

        @staticmethod
        def features(slots: Slots) -> torch.Tensor:
            return slots.y.real

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(x + self.pool(x))

    with pytest.raises(UserError, match=r"output of module 'pool' of teacher is not a tensor .*; name another module"):
        activation_channels(Pooled(), ["out", "pool"], "teacher")


def test_the_finer_grid_is_averaged_to_the_coarser() -> None:
    fine, coarse = planes([1.0, 3.0, 5.0, 9.0]), planes([2.0, 7.0], [0.0, 1.0])
    for student, teacher in ((fine, coarse), (coarse, fine)):
        student_activation, teacher_activation = match_resolution(student, teacher)
        assert student_activation.shape[2:] == teacher_activation.shape[2:] == (1, 2)
        assert torch.equal(student_activation if student is fine else teacher_activation, planes([2.0, 7.0]))
        assert torch.equal(teacher_activation if student is fine else student_activation, coarse)


def test_adapters_are_convolutions_between_unequal_channels() -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    assert channel_adapter(3, 3)(x) is x
    adapter = channel_adapter(3, 7)
    expected = torch.einsum("oc,bcsf->bosf", adapter.weight[:, :, 0, 0], x) + adapter.bias[:, None, None]
    torch.testing.assert_close(adapter(x), expected)


def test_feature_loss_by_hand() -> None:
    """((3 - 1)^2 + (0 - 1)^2) / (1 + 1) = 5 / 2, at any scale."""
    student, teacher = planes([3.0, 0.0]), planes([1.0, 1.0])
    assert feature_loss(student, teacher).item() == pytest.approx(2.5)
    assert feature_loss(1e3 * student, 1e3 * teacher).item() == pytest.approx(2.5)
    assert feature_loss(teacher, teacher).item() == 0
    assert feature_loss(0 * teacher, teacher).item() == 1


def test_attention_loss_by_hand() -> None:
    one_re, other_re, equal_power = planes([3.0, 0.0]), planes([0.0, 1.0], [0.0, 1.0]), planes([1.0, 0.0], [0.0, -1.0])
    assert attention_loss(one_re, other_re).item() == pytest.approx(2.0)
    assert attention_loss(one_re, planes([5.0, 0.0], [-5.0, 0.0])).item() == 0
    # maps (1, 0) and (1, 1) / sqrt(2): (1 - 1 / sqrt(2))^2 + 1/2
    assert attention_loss(one_re, equal_power).item() == pytest.approx(2 - math.sqrt(2), abs=1e-6)
    # the map is of squares: (4, 1) / sqrt(17) for activations 2 and 1
    assert attention_loss(one_re, planes([2.0, 1.0])).item() == pytest.approx(2 - 8 / math.sqrt(17), abs=1e-6)
    mean = attention_loss(torch.cat([one_re, one_re]), torch.cat([planes([0.0, 1.0]), one_re])).item()
    assert mean == pytest.approx(1.0)


def test_zero_activations_have_a_finite_gradient() -> None:
    student = torch.zeros(1, 2, 3, 4, requires_grad=True)
    attention_loss(student, torch.ones(1, 2, 3, 4)).backward()
    assert torch.isfinite(student.grad).all()
