"""What every dispatch of a network of sites has: the energy of each site in each slot, and its emissions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from carbon.deta.programme import Array


@dataclass(frozen=True, kw_only=True)
class SiteEnergy(ABC):
    """Energy and emissions of sites. Arrays are ``(slots, sites)``, in kWh per slot, unless said otherwise.

    Attributes:
        policy: of the programme.
        total_g: emissions, gCO2e.
        slot_g: emissions of all sites by slot, ``(slots,)``, transport included.
        grid_kwh: taken from the grid.
        own_kwh: harvest that is used at once.
        charge_kwh, discharge_kwh: of the battery.
        level_kwh: of the battery after the slot.
        sent_kwh, received_kwh: traded energy, before and after the loss.
        awake: part of the slot in which the computers are awake.
        load_kwh: consumption.
        marginal_g_per_kwh: emissions of one more kWh of load.
        gap: largest relative distance from the optimum; 0 without whole numbers.
        holds_whole_numbers: whether marginal emissions hold the whole numbers.
    """

    policy: str
    total_g: float
    slot_g: Array
    grid_kwh: Array
    own_kwh: Array
    charge_kwh: Array
    discharge_kwh: Array
    level_kwh: Array
    sent_kwh: Array
    received_kwh: Array
    awake: Array
    load_kwh: Array
    marginal_g_per_kwh: Array
    gap: float
    holds_whole_numbers: bool

    @property
    def imbalance(self) -> float:
        """Largest error of the energy balance of a site in a slot, as part of the mean load."""
        supply = self.grid_kwh + self.own_kwh + self.discharge_kwh + self.received_kwh
        return float(np.abs(supply - self.load_kwh).max() / (self.load_kwh.mean() or 1.0))

    @property
    @abstractmethod
    def site_names(self) -> list[str]:
        """Names of the sites, in the order of the columns."""

    def marginal_sentences(self) -> list[str]:
        """Emissions of one more kWh at each site, from the cheapest slot to the dearest one. Slots begin at 1."""
        sentences = []
        for name, values in zip(self.site_names, self.marginal_g_per_kwh.T, strict=True):
            low, high = int(values.argmin()), int(values.argmax())
            text = f"{self.policy}: one more kWh at {name} emits {_grams(values[low])} in slot {low + 1}"
            if values[high] - values[low] > 1e-6 * max(1.0, values[high]):
                text += f", and {_grams(values[high])} in slot {high + 1}"
            sentences.append(f"{text}.")
        if self.holds_whole_numbers:
            sentences.append(
                "These values hold what sleeps in each slot, and whole batches that move: whole numbers have no "
                "marginal."
            )
        return sentences


def _grams(value: float) -> str:
    return f"{value if value > 0 else 0.0:.4g} g"
