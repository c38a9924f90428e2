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


def test_gradients_are_those_of_the_recursions() -> None:
    """Autograd through the recursions, with the rectangular and the straight-through slope written out."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(5, 40, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, 5, 40, generator=generator, dtype=torch.float64)
    results = []
    for of_layer in (fire, _fire_by_autograd):
        own = inputs.clone().requires_grad_()
        voltages, spikes = of_layer(own)
        (weights[0] * voltages + weights[1] * spikes).sum().backward()
        results.append(own.grad)
    assert torch.allclose(*results, rtol=0, atol=1e-12)
    results = []
    for of_drive in (encode_spikes, _encode_by_autograd):
        own = inputs[0].sigmoid().requires_grad_()
        (weights[1] * of_drive(own)).sum().backward()
        results.append(own.grad)
    assert torch.allclose(*results, rtol=0, atol=1e-12)


def _step(value: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """A step at 0 with a slope of its own."""
    return (value > 0).double() + (slope * value - (slope * value).detach())


def _fire_by_autograd(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    current = voltage = spike = torch.zeros_like(inputs[0])
    voltages, spikes = [], []
    for value in inputs:
        current = 0.5 * current + value
        voltage = 0.75 * voltage * (1 - spike) + current
        spike = _step(voltage - 0.5, ((voltage - 0.5).abs() < 0.5).double().detach())
        voltages.append(voltage)
        spikes.append(spike)
    return torch.stack(voltages), torch.stack(spikes)


def _encode_by_autograd(drive: torch.Tensor) -> torch.Tensor:
    voltage, spikes = torch.zeros_like(drive), []
    for _ in range(5):
        voltage = voltage + drive
        spikes.append(_step(voltage - 0.999, torch.ones_like(drive)))
        voltage = voltage - 0.999 * spikes[-1]
    return torch.stack(spikes)
