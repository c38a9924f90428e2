"""The forward pass of hybrids for training against the one for inference, whose gradients torch derives itself."""

import pytest
import torch

from channels import Channels, Grid, Interferer, Scenario, SlotStream
from receivers.neural import hybrid_training
from receivers.neural.depthwise_conv import DepthwiseConv2d
from receivers.neural.registry import build


def perturbed(spec: str, num_rx: int, num_bits: int) -> torch.nn.Module:
    """A network as after training: no layer is zero."""
    net = build(spec, num_rx, num_bits, seed=3)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return net


def outputs_and_gradients(net: torch.nn.Module, x: torch.Tensor, weights: list[torch.Tensor], training: bool):
    net.train(training).zero_grad()
    outputs = net(x, intermediate=True)
    sum((w * torch.tanh(llrs / 8)).sum() for w, llrs in zip(weights, outputs, strict=True)).backward()
    return outputs, {name: p.grad.clone() for name, p in net.named_parameters()}


@pytest.mark.parametrize("modulations", [("QPSK",), ("16-QAM",), ("QPSK", "64-QAM", "256-QAM")])
def test_llrs_and_gradients_are_those_of_inference(modulations: tuple) -> None:
    """In double precision, with boosted pilots and REs that are empty."""
    conditions = Scenario(
        name="all",
        modulations=modulations,
        channels=Channels(train=("TDL-C",)),
        grid=Grid(num_prb=2, num_rx=3, pilot_patterns=(), dmrs={"config_type": 2, "cdm_groups_without_data": 3}),
        snr_db=(0.0, 25.0),
        interferers=(Interferer(),),
    )
    slots = SlotStream(conditions, 3, 6).block(0)
    net = perturbed("hybrid-w4-d5", 3, conditions.bits_per_symbol).double()
    x = net.features(slots).double()
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(slots.bits.shape, generator=generator, dtype=torch.float64) for _ in range(5)]
    inference, expected = outputs_and_gradients(net, x, weights, training=False)
    training, gradients = outputs_and_gradients(net, x, weights, training=True)
    for a, b in zip(training, inference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-7, atol=1e-7 * float(expected[name].abs().max()))


def test_single_precision_and_bfloat16_weights_stay_close(small: Scenario) -> None:
    slots = SlotStream(small, 1, 8).block(0)
    net = perturbed("hybrid-w8-d6", 2, 4)
    x = net.features(slots)
    weights = [torch.ones(slots.bits.shape) / slots.bits.numel()] * 6
    inference, expected = outputs_and_gradients(net, x, weights, training=False)
    training, gradients = outputs_and_gradients(net, x, weights, training=True)
    torch.testing.assert_close(training[0], inference[0], rtol=1e-4, atol=2e-3)
    norm = torch.stack([g.norm() for g in expected.values()]).norm()
    for name, gradient in gradients.items():
        assert float((gradient - expected[name]).norm()) < 1e-4 * float(norm)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, gradients = outputs_and_gradients(net, x, weights, training=True)
    assert rounded[0].dtype == torch.float32
    torch.testing.assert_close(rounded[0], training[0], rtol=0.1, atol=2.0)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


def test_interpolation_is_linear_between_states() -> None:
    states = torch.randn(2, 3, 14, 4, dtype=torch.float64)
    expected = torch.nn.functional.interpolate(states, scale_factor=(1.0, 6.0), mode="bilinear")
    interpolated = hybrid_training._join_states(hybrid_training._interpolate(states))
    torch.testing.assert_close(interpolated, expected)


@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (3, 2), (2, 3), (3, 6)])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_convolutions_train_as_torchs(dilation: tuple[int, int], multiplier: int) -> None:
    padding = (2 * dilation[0], dilation[1])
    conv = DepthwiseConv2d(3, 3 * multiplier, (5, 3), padding=padding, dilation=dilation, groups=3).double()
    x = torch.randn(2, 3, 14, 13, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3 * multiplier, 14, 13, dtype=torch.float64)
    gradients = []
    for training in (True, False):
        y = conv.train(training)(x)
        parameters = (x, conv.weight, conv.bias)
        gradients.append((y, *torch.autograd.grad((y * weights).sum(), parameters)))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
