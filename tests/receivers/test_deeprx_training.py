"""The forward pass of DeepRx for training against its modules, one after the other, which a hook asks for."""

import copy

import pytest
import torch

from receivers.neural.deeprx import DeepRx
from receivers.neural.registry import build


def outputs_gradients_and_statistics(net: DeepRx, x: torch.Tensor, weights: torch.Tensor, with_hook: bool):
    net = copy.deepcopy(net)
    if with_hook:
        net.conv_out.register_forward_hook(lambda *_: None)
    llrs = net(x)
    (weights * torch.tanh(llrs)).mean().backward()
    return llrs, {n: p.grad for n, p in net.named_parameters()}, dict(net.named_buffers())


@pytest.mark.parametrize(
    ("spec", "num_subcarriers"), [("deeprx-w0.0625", 36), ("deeprx-w0.0625", 25), ("deeprx-w0.0625-d5", 12)]
)
def test_llrs_gradients_and_statistics_are_those_of_the_modules(spec: str, num_subcarriers: int) -> None:
    """Dilations that divide the slot and that do not, in double precision."""
    generator = torch.Generator().manual_seed(2)
    net = build(spec, seed=1).double().to(memory_format=torch.channels_last)
    x = torch.randn(3, net.num_features, 14, num_subcarriers, generator=generator, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last)
    weights = torch.randn(3, 4, 14, num_subcarriers, generator=generator, dtype=torch.float64)
    llrs, gradients, statistics = outputs_gradients_and_statistics(net, x, weights, with_hook=False)
    expected_llrs, expected, expected_statistics = outputs_gradients_and_statistics(net, x, weights, with_hook=True)
    torch.testing.assert_close(llrs, expected_llrs)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-7, atol=1e-12)
    for name, value in statistics.items():
        torch.testing.assert_close(value, expected_statistics[name])


@pytest.mark.parametrize("path", ["blocks.2", "blocks.2.conv1.0", "norm_out"])
def test_hooks_see_the_grid(path: str) -> None:
    net, shapes = build("deeprx-w0.0625").train(), []
    net.get_submodule(path).register_forward_hook(lambda module, args, output: shapes.append(output.shape))
    net(torch.zeros(2, net.num_features, 14, 36))
    assert [tuple(shape[2:]) for shape in shapes] == [(14, 36)]
