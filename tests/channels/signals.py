"""Signals that the tests compute from a batch of slots."""

from dataclasses import fields

import torch

from channels import Grid, Scenario, Slots, SlotStream
from channels.grid import modulate

GRID = Grid(num_prb=6, num_rx=1, pilot_patterns=((2,),))


def equal(first: Slots, second: Slots) -> bool:
    """Whether all fields of two batches are equal."""
    return all(torch.equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(Slots))


def transmitted(slots: Slots) -> torch.Tensor:
    """Transmitted symbols ``(B, 1, S, F)``, from bits and pilots (one modulation)."""
    return torch.where(slots.is_data, modulate(slots.bits), slots.pilots)[:, None]


def without_interferers(scenario: Scenario) -> Scenario:
    return scenario.model_copy(update={"interferers": ()})


def received_interference(scenario: Scenario, num_slots: int, split: str = "train") -> torch.Tensor:
    """Interference alone at the receiver: the difference of two streams."""
    with_interferers = SlotStream(scenario, 1, num_slots, split).block(0)
    return with_interferers.y - SlotStream(without_interferers(scenario), 1, num_slots, split).block(0).y


def distortion(slots: Slots) -> float:
    """Power of the received signal without channel times symbols, relative to the power of channel times symbols."""
    signal = slots.h * transmitted(slots)
    return float((slots.y - signal).abs().square().mean() / signal.abs().square().mean())


def block(model: str = "AWGN", slots: int = 64, **settings: object) -> Slots:
    """Slots of one channel model on :data:`GRID`, almost without noise."""
    scenario = Scenario.model_validate(
        {
            "name": "x",
            "grid": GRID,
            "channels": {"train": [model]},
            "snr_db": (90, 90),
            **settings,
        }
    )
    return SlotStream(scenario, 1, slots).block(0)
