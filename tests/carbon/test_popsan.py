"""The spiking actor against a trace by hand, and its shapes and gradients."""

import torch

from carbon.aolo.popsan import PopulationEncoder, SpikingActorNet, encode_spikes, fire


def test_trace_by_hand() -> None:
    """Drive 0.6; then one neuron with weight 0.4 and bias 0.05 on these spikes."""
    spikes = encode_spikes(torch.tensor(0.6, dtype=torch.float64))
    assert spikes.tolist() == [0, 1, 0, 1, 1]
    voltages, fired = fire(0.4 * spikes + 0.05)
    expected = torch.tensor([0.05, 0.5125, 0.2875, 0.809375, 0.746875], dtype=torch.float64)
    assert torch.allclose(voltages, expected, rtol=0, atol=1e-12)
    assert fired.tolist() == [0, 1, 0, 1, 1]


def test_sizes_of_the_network() -> None:
    net = SpikingActorNet(observations=5, actions=2)
    assert [tuple(layer.weight.shape) for layer in net.layers] == [(256, 50), (256, 256), (20, 256)]
    assert net.decoder.weight.numel() + net.decoder.bias.numel() == 2 * 11
    spikes = net.spikes(torch.zeros(3, 5))
    assert [tuple(s.shape) for s in spikes] == [(5, 3, 50), (5, 3, 256), (5, 3, 256), (5, 3, 20)]
    assert all(0 <= rate <= 1 for rate in net.spike_rates(torch.zeros(3, 5)))


def test_encoder_begins_with_even_fields() -> None:
    encoder = PopulationEncoder(2)
    assert torch.allclose(encoder.mean[1], torch.linspace(-3, 3, 10))
    assert torch.allclose(encoder.std**2, torch.tensor(0.15))


def test_gradients_reach_the_encoder() -> None:
    torch.manual_seed(1)
    net = SpikingActorNet(observations=3, actions=2, hidden=(32, 32))
    net(torch.randn(64, 3)).pow(2).sum().backward()
    for parameter in (net.encoder.mean, net.encoder.std, *(layer.weight for layer in net.layers)):
        assert parameter.grad is not None
        assert float(parameter.grad.abs().sum()) > 0
