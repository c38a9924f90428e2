"""PopSAN, the population-coded spiking actor network (G. Tang et al., CoRL 2020, 2010.09635).

Each observation drives a population of neurons with Gaussian receptive fields. Their spikes pass through layers of
current-based leaky integrate-and-fire neurons, for some time steps. Firing rates of the last layer's populations become
actions. Layers have no feedback, so each processes all time steps before the next one begins.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

TIME_STEPS = 5
POPULATION = 10
CURRENT_DECAY = 0.5
VOLTAGE_DECAY = 0.75
THRESHOLD = 0.5
ENCODER_THRESHOLD = 0.999
ENCODER_RANGE = 3.0
ENCODER_VARIANCE = 0.15


class _RectangularSpike(torch.autograd.Function):
    """Step at the threshold; its gradient is 1 where the voltage is within 0.5 of it."""

    @staticmethod
    def forward(ctx: Any, voltage: Tensor) -> Tensor:
        ctx.save_for_backward(voltage)
        return (voltage > THRESHOLD).to(voltage.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (voltage,) = ctx.saved_tensors
        return gradients[0] * ((voltage - THRESHOLD).abs() < 0.5).to(voltage.dtype)


class _StraightSpike(torch.autograd.Function):
    """Step at the encoder's threshold; its gradient is 1."""

    @staticmethod
    def forward(ctx: Any, voltage: Tensor) -> Tensor:
        return (voltage > ENCODER_THRESHOLD).to(voltage.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def encode_spikes(drive: Tensor, steps: int = TIME_STEPS) -> Tensor:
    """Spikes of integrate-and-fire neurons with soft reset under a constant drive.

    Args:
        drive: ``(...)``.
        steps: number of time steps.

    Returns:
        ``(steps, ...)`` of 0 and 1.

    Example:
        >>> encode_spikes(torch.tensor(0.6)).int().tolist()
        [0, 1, 0, 1, 1]
    """
    voltage, spikes = torch.zeros_like(drive), []
    for _ in range(steps):
        voltage = voltage + drive
        spike = _StraightSpike.apply(voltage)
        voltage = voltage - ENCODER_THRESHOLD * spike
        spikes.append(spike)
    return torch.stack(spikes)


def fire(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Voltages and spikes of current-based leaky integrate-and-fire neurons.

    The reset multiplies the voltage before the new input arrives, so that it spares the input.

    Args:
        inputs: weighted input of each time step, bias included, ``(steps, ...)``.

    Returns:
        Voltages before the reset, and spikes, both ``(steps, ...)``.
    """
    current = voltage = spike = torch.zeros_like(inputs[0])
    voltages, spikes = [], []
    for value in inputs:
        current = CURRENT_DECAY * current + value
        voltage = VOLTAGE_DECAY * voltage * (1 - spike) + current
        spike = _RectangularSpike.apply(voltage)
        voltages.append(voltage)
        spikes.append(spike)
    return torch.stack(voltages), torch.stack(spikes)


class PopulationEncoder(nn.Module):
    """Gaussian receptive fields, evenly spaced on [-3, 3]; their means and widths are trained.

    Args:
        observations: number of observations.
    """

    def __init__(self, observations: int) -> None:
        super().__init__()
        means = torch.linspace(-ENCODER_RANGE, ENCODER_RANGE, POPULATION)
        self.mean = nn.Parameter(means.repeat(observations, 1))
        self.std = nn.Parameter(torch.full((observations, POPULATION), ENCODER_VARIANCE**0.5))

    def forward(self, observation: Tensor) -> Tensor:
        """Spikes ``(steps, batch, observations x population)`` of observations ``(batch, observations)``."""
        distance = (observation.unsqueeze(-1) - self.mean) / self.std
        return encode_spikes(torch.exp(-0.5 * distance**2).flatten(1))


class SpikingActorNet(nn.Module):
    """Means of actions from observations.

    Args:
        observations, actions: numbers of either.
        hidden: neurons of the hidden layers.

    Example:
        >>> net = SpikingActorNet(observations=5, actions=2)
        >>> net(torch.zeros(3, 5)).shape
        torch.Size([3, 2])
    """

    def __init__(self, observations: int, actions: int, hidden: tuple[int, ...] = (256, 256)) -> None:
        super().__init__()
        self.encoder = PopulationEncoder(observations)
        sizes = (observations * POPULATION, *hidden, actions * POPULATION)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.decoder = nn.Conv1d(actions, actions, POPULATION, groups=actions)

    def forward(self, observation: Tensor) -> Tensor:
        """Means ``(batch, actions)`` of observations ``(batch, observations)``."""
        rates = self.spikes(observation)[-1].mean(0)
        return self.decoder(rates.view(len(observation), -1, POPULATION)).squeeze(-1)

    def spikes(self, observation: Tensor) -> list[Tensor]:
        """Spikes of the encoder and of every layer, each ``(steps, batch, neurons)``."""
        spikes = [self.encoder(observation)]
        for layer in self.layers:
            spikes.append(fire(layer(spikes[-1]))[1])
        return spikes

    def spike_rates(self, observation: Tensor) -> list[float]:
        """Spikes per neuron and time step of the encoder and of every layer."""
        with torch.no_grad():
            return [float(s.mean()) for s in self.spikes(observation)]
