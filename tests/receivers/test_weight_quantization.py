"""Rounded weights: the grid of values, the gradient, and what a training with few bits leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from factories import SHORT_TRAINING, job, train_job
from torch import nn

from channels import Scenario
from receivers import build
from receivers.neural.hybrid import Hybrid, HybridBlock
from receivers.neural.weight_quantization import fix_rounded_weights, quantize_weights, round_weight, weight_unit

SPECS = ("hybrid-w4-d2", "deeprx-w0.0625-d3")


def test_integers_and_scales_of_a_weight() -> None:
    weight = torch.tensor([[0.7, -0.26, 0.04], [-1.4, 0.0, 0.31], [0.0, 0.0, 0.0]])
    integers, scale = round_weight(weight, 4)
    assert integers.tolist() == [[7, -3, 0], [-7, 0, 2], [0, 0, 0]]
    assert scale[:2, 0].tolist() == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_errs_by_at_most_half_a_step_and_only_once(bits: int) -> None:
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    integers, scale = round_weight(weight, bits)
    assert ((integers * scale - weight).abs() <= scale / 2 * (1 + 1e-5)).all()
    again, _ = round_weight(integers * scale, bits)
    assert (again == integers).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_rounded_weight_has_its_own_integers_and_scales(bits: int) -> None:
    """For any limits, and bit for bit: a file finds the integers of a trained weight."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(50, 9, generator=generator)
    limit = 3 * torch.rand(50, 1, generator=generator)
    integers, scale = round_weight(weight, bits, limit)
    rounded = integers * scale
    assert (rounded.abs().amax(1, keepdim=True) <= limit * (1 + 1e-6)).all()
    again, same_scale = round_weight(rounded, bits)
    assert torch.equal(again, integers)
    assert torch.equal(same_scale, scale)


def layer_and_rounded_layer(bits: int) -> tuple[nn.Conv2d, nn.Conv2d, torch.Tensor, torch.Tensor]:
    """A layer that rounds, and one that has the rounded weights; then limits and integers with their fractions."""
    conv, rounded = (nn.Conv2d(3, 4, 3) for _ in range(2))
    nn.init.normal_(conv.weight, generator=torch.Generator().manual_seed(4))
    weight = conv.weight.detach().clone()
    rounded.load_state_dict(conv.state_dict())
    quantize_weights(conv, bits)
    limit = conv.parametrizations["weight"][0].limit.detach()  # type: ignore[index, union-attr]
    integers, scale = round_weight(weight, bits, limit)
    rounded.weight.data.copy_(integers * scale)
    return conv, rounded, limit, weight / scale


def test_gradients_are_those_at_the_rounded_weights_and_0_beyond_the_limit() -> None:
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    conv, rounded, _, steps = layer_and_rounded_layer(3)
    for layer in (conv, rounded):
        layer(x).square().sum().backward()
    inside = steps.abs() <= 3
    assert 0 < (~inside).sum() < inside.sum()
    original = conv.parametrizations["weight"].original  # type: ignore[index, union-attr]
    torch.testing.assert_close(original.grad, inside * rounded.weight.grad)  # type: ignore[operator]
    fix_rounded_weights(conv)
    torch.testing.assert_close(conv.state_dict(), rounded.state_dict())


def test_gradients_of_limits_are_those_of_learned_step_sizes() -> None:
    """Equations 3 and 5 of 1902.08153 by hand, for a loss that is linear in the weights: 3 x 3 x 3 of a channel."""
    conv, _, _, steps = layer_and_rounded_layer(3)
    slope = torch.randn(conv.weight.shape, generator=torch.Generator().manual_seed(5))
    (conv.weight * slope).sum().backward()
    change = torch.where(steps.abs() < 3, steps.round() - steps, 3 * steps.sign())
    expected = (slope * change).sum((1, 2, 3), keepdim=True) / 3 / (27 * 3) ** 0.5
    limit = conv.parametrizations["weight"][0].limit  # type: ignore[index, union-attr]
    torch.testing.assert_close(limit.grad, expected)


def test_first_limits_have_less_error_than_the_largest_weights() -> None:
    conv, rounded, limit, _ = layer_and_rounded_layer(3)
    weight = conv.parametrizations["weight"].original.detach()  # type: ignore[index, union-attr]
    integers, scale = round_weight(weight, 3)
    errors = [(w - weight).square().sum((1, 2, 3)) for w in (rounded.weight.detach(), integers * scale)]
    assert (errors[0] <= errors[1]).all()
    assert (limit[:, 0, 0, 0] < weight.abs().amax((1, 2, 3))).any()


def test_directions_of_a_hybrid_have_a_unit_of_their_own() -> None:
    """Of the inputs of a block, 4 x 2 after the state of 4 channels."""
    block = cast(HybridBlock, cast(Hybrid, build("hybrid-w4-d2")).blocks[1])
    unit = weight_unit(block.expand)[0, :, 0, 0]
    assert unit.tolist() == [1.0] * 4 + [2.0] * 8 + [1.0] * 6


@pytest.mark.parametrize("spec", SPECS)
def test_a_trained_receiver_has_rounded_weights(spec: str, small: Scenario, tmp_path: Path) -> None:
    training = SHORT_TRAINING.model_copy(update={"weight_bits": 3})
    receiver = train_job(job(small, receiver=spec, training=training), tmp_path)
    assert receiver.card.training["weight_bits"] == 3
    assert receiver.card.parameters == sum(p.numel() for p in build(spec).parameters())
    for module in receiver.net.modules():
        if isinstance(module, nn.Conv2d):
            integers, scale = round_weight(module.weight.detach() / weight_unit(module), 3)
            assert torch.equal(integers * scale * weight_unit(module), module.weight)
            assert integers.abs().max() <= 3


def test_a_training_with_rounded_weights_resumes_to_the_same_weights(small: Scenario, tmp_path: Path) -> None:
    training = SHORT_TRAINING.model_copy(update={"weight_bits": 4})
    rounded = job(small, receiver=SPECS[0], training=training)
    assert train_job(rounded, tmp_path / "a").digest == train_job(rounded, tmp_path / "b", 4).digest
