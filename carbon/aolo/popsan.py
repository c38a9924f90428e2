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
SURROGATE_HALF_WIDTH = 0.5
ENCODER_THRESHOLD = 0.999
ENCODER_RANGE = 3.0
ENCODER_VARIANCE = 0.15


class _EncoderSpikes(torch.autograd.Function):
    """Spikes of integrate-and-fire neurons with soft reset; the gradient of a step is 1."""

    @staticmethod
    def forward(ctx: Any, drive: Tensor, steps: int) -> Tensor:
        voltage = torch.zeros_like(drive)
        spikes = drive.new_empty((steps, *drive.shape))
        for spike in spikes:
            voltage += drive
            torch.gt(voltage, ENCODER_THRESHOLD, out=spike)
            voltage.sub_(spike, alpha=ENCODER_THRESHOLD)
        return spikes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (of_spikes,) = gradients
        # A spike lowers the voltage by the threshold, so the rest of a voltage's gradient reaches the next time step.
        of_voltage = torch.zeros_like(of_spikes[0])
        of_drive = torch.zeros_like(of_spikes[0])
        for gradient in reversed(of_spikes):
            of_voltage = gradient + (1 - ENCODER_THRESHOLD) * of_voltage
            of_drive += of_voltage
        return of_drive, None


class _LayerSpikes(torch.autograd.Function):
    """Voltages and spikes of leaky integrate-and-fire neurons over all time steps.

    The gradient of a step is 1 where the voltage is within 0.5 of the threshold, and 0 elsewhere.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> tuple[Tensor, Tensor]:
        voltages, spikes = torch.empty_like(inputs), torch.empty_like(inputs)
        current = torch.zeros_like(inputs[0])
        for index, value in enumerate(inputs):
            current = torch.add(value, current, alpha=CURRENT_DECAY)
            voltage = voltages[index]
            if index:
                torch.addcmul(voltages[index - 1], voltages[index - 1], spikes[index - 1], value=-1, out=voltage)
                torch.add(current, voltage, alpha=VOLTAGE_DECAY, out=voltage)
            else:
                voltage.copy_(current)
            torch.gt(voltage, THRESHOLD, out=spikes[index])
        ctx.save_for_backward(voltages, spikes)
        return voltages, spikes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        of_voltages, of_spikes = gradients
        voltages, spikes = ctx.saved_tensors
        slopes = ((voltages - THRESHOLD).abs_() < SURROGATE_HALF_WIDTH).to(voltages.dtype)
        kept = 1 - spikes
        of_inputs = torch.empty_like(voltages)
        of_current = torch.zeros_like(voltages[0])
        of_next = None  # gradient of the next time step's voltage
        for index in reversed(range(len(voltages))):
            of_spike = of_spikes[index]
            if of_next is not None:
                of_spike = torch.addcmul(of_spike, voltages[index], of_next, value=-VOLTAGE_DECAY)
            of_voltage = torch.addcmul(of_voltages[index], of_spike, slopes[index])
            if of_next is not None:
                of_voltage.addcmul_(kept[index], of_next, value=VOLTAGE_DECAY)
            of_current = torch.add(of_voltage, of_current, alpha=CURRENT_DECAY, out=of_inputs[index])
            of_next = of_voltage
        return of_inputs


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
    return _EncoderSpikes.apply(drive, steps)


def fire(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Voltages and spikes of current-based leaky integrate-and-fire neurons.

    The reset multiplies the voltage before the new input arrives, so that it spares the input.

    Args:
        inputs: weighted input of each time step, bias included, ``(steps, ...)``.

    Returns:
        Voltages before the reset, and spikes, both ``(steps, ...)``.
    """
    return _LayerSpikes.apply(inputs)


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
