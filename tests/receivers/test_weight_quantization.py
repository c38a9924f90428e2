"""Rounded weights: the grid of values, the gradient, and what a training with few bits leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from factories import SHORT_TRAINING, job, train_job
from torch import nn

from channels import Scenario
from receivers.neural.weight_quantization import fix_rounded_weights, quantize_weights, round_weight

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


def test_gradients_are_those_at_the_rounded_weights() -> None:
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    conv, rounded = (nn.Conv2d(3, 4, 3) for _ in range(2))
    rounded.load_state_dict(conv.state_dict())
    integers, scale = round_weight(conv.weight.detach(), 3)
    rounded.weight.data.copy_(integers * scale)
    quantize_weights(conv, 3)
    for layer in (conv, rounded):
        layer(x).square().sum().backward()
    original = conv.parametrizations["weight"].original  # type: ignore[index, union-attr]
    torch.testing.assert_close(original.grad, rounded.weight.grad)
    fix_rounded_weights(conv)
    torch.testing.assert_close(conv.state_dict(), rounded.state_dict())


@pytest.mark.parametrize("spec", SPECS)
def test_a_trained_receiver_has_rounded_weights(spec: str, small: Scenario, tmp_path: Path) -> None:
    training = SHORT_TRAINING.model_copy(update={"weight_bits": 3})
    receiver = train_job(job(small, receiver=spec, training=training), tmp_path)
    assert receiver.card.training["weight_bits"] == 3
    for module in receiver.net.modules():
        if isinstance(module, nn.Conv2d):
            integers, scale = round_weight(module.weight.detach(), 3)
            assert torch.equal(integers * scale, module.weight)
            assert integers.abs().max() <= 3


def test_a_training_with_rounded_weights_resumes_to_the_same_weights(small: Scenario, tmp_path: Path) -> None:
    training = SHORT_TRAINING.model_copy(update={"weight_bits": 4})
    rounded = job(small, receiver=SPECS[0], training=training)
    assert train_job(rounded, tmp_path / "a").digest == train_job(rounded, tmp_path / "b", 4).digest
