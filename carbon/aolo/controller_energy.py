"""Energy of an agent's own decisions: by proxies of 45 nm silicon, and by the meter.

The usual proxy of spiking networks counts 0.9 pJ for each addition that a spike causes, against 4.6 pJ for a MAC. It
leaves out updates of neurons, reading of weights, states and spikes, and everything around the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from carbon.aolo.agents import Agent
from carbon.aolo.popsan import POPULATION, TIME_STEPS
from energy.estimation.per_operation import J_PER_BYTE_CACHE_45NM, J_PER_MAC_45NM
from energy.metering.measurement import Instrument, Measurement
from energy.metering.session import MeteringProtocol, measure

J_PER_ADDITION_45NM = 0.9e-12
"""Addition in fp32 at 45 nm and 0.9 V (M. Horowitz, ISSCC 2014)."""
_BYTES = 4
_STATES = 2
DECISIONS = 10_000


@dataclass(frozen=True)
class ProxyEnergy:
    """Energy of one deterministic decision by proxies, J.

    Attributes:
        arithmetic_j: MACs, or the additions that spikes cause.
        with_updates_j: and two multiplications per neuron and time step.
        with_traffic_j: and weights and states from a 1 MB cache.
    """

    arithmetic_j: float
    with_updates_j: float
    with_traffic_j: float


def dense_proxy(observations: int, actions: int, hidden: Sequence[int] = (256, 256)) -> ProxyEnergy:
    """The dense actor: each weight and each activation is moved once.

    Example:
        >>> round(1e9 * dense_proxy(observations=5, actions=2).arithmetic_j, 1)
        309.7
    """
    sizes = (observations, *hidden, actions)
    macs = sum(a * b for a, b in pairwise(sizes))
    arithmetic_j = J_PER_MAC_45NM["fp32"] * macs
    moved = macs + sum(sizes)
    return ProxyEnergy(arithmetic_j, arithmetic_j, arithmetic_j + _BYTES * J_PER_BYTE_CACHE_45NM * moved)


def spiking_proxy(
    observations: int, actions: int, spike_rates: Sequence[float], hidden: Sequence[int] = (256, 256)
) -> ProxyEnergy:
    """The spiking actor: each spike reads and adds the weights of its synapses.

    Args:
        observations, actions: numbers of either.
        spike_rates: spikes per neuron and time step of the encoder and of each hidden layer; a further rate, of the
            output, is not used.
        hidden: neurons of the hidden layers.

    Example:
        >>> round(1e9 * spiking_proxy(5, 2, spike_rates=(0.120, 0.123, 0.151)).arithmetic_j, 1)
        46.7
    """
    sizes = (observations * POPULATION, *hidden, actions * POPULATION)
    pairs = list(pairwise(sizes))
    additions = TIME_STEPS * sum(rate * a * b for rate, (a, b) in zip(spike_rates, pairs, strict=False))
    neurons = TIME_STEPS * sum(sizes[1:])
    arithmetic_j = J_PER_ADDITION_45NM * additions
    updates_j = arithmetic_j + J_PER_MAC_45NM["fp32"] * 2 * neurons
    moved = additions + 2 * _STATES * neurons  # a weight for each addition; states are read and written
    return ProxyEnergy(arithmetic_j, updates_j, updates_j + _BYTES * J_PER_BYTE_CACHE_45NM * moved)


@dataclass(frozen=True)
class ControllerEnergy:
    """Metered energy of an agent.

    Attributes:
        decision: of one decision.
        gradient_step: of one gradient step of the training.
    """

    decision: Measurement
    gradient_step: Measurement


def meter_agent(
    agent: Agent,
    observations: NDArray[np.float32],
    decisions: int = DECISIONS,
    instruments: Sequence[Instrument] | None = None,
    protocol: MeteringProtocol | None = None,
) -> ControllerEnergy:
    """Meter single decisions and gradient steps of an agent with the meter of leanrx.

    Args:
        agent: trained, with a replay.
        observations: to decide on, one after the other.
        decisions: in one call of the meter.
        instruments, protocol: as :func:`energy.metering.session.measure`.

    Returns:
        energies by the best instrument, over all components that are not assumed.
    """

    def decide() -> None:
        for index in range(decisions):
            agent.act(observations[index % len(observations)][None])

    def take_gradient_step() -> None:
        agent.model.train(gradient_steps=1, batch_size=agent.settings.batch)

    return ControllerEnergy(
        _per_decision(_best(measure(decide, instruments, protocol)), decisions),
        _best(measure(take_gradient_step, instruments, protocol)),
    )


def _best(measurements: Sequence[Measurement]) -> Measurement:
    """A measured energy before a modelled one; assumed energies are left out."""
    ranked = [m for provenance in ("measured", "modelled") for m in measurements if m.provenance == provenance]
    return ranked[0] if ranked else measurements[0]


def _per_decision(measurement: Measurement, decisions: int) -> Measurement:
    return Measurement(**{**measurement.__dict__, "repeats": measurement.repeats * decisions})
