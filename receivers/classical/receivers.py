"""The classical receivers that learned ones are compared with."""

from __future__ import annotations

from functools import lru_cache

import torch

from channels import Scenario, Slots
from receivers.classical.demapper import combine, demap
from receivers.classical.estimation import Covariance, ls_estimate
from receivers.classical.interference import combine_rejecting, residual_covariance
from receivers.protocol import Receiver


class LsReceiver:
    """Least squares, linear interpolation, LMMSE combining, exact demapping: the practical baseline."""

    name = "LS"
    digest = "classical/ls/1"

    def __call__(self, slots: Slots) -> torch.Tensor:
        return _detect(slots, ls_estimate(slots), 0.0)


class LmmseReceiver:
    """LMMSE channel estimation with the covariance of the scenario under test, which favours it.

    Args:
        scenario: conditions whose covariance is used.
        device: torch device of the slots.
    """

    name = "LMMSE"

    def __init__(self, scenario: Scenario, device: str = "cpu") -> None:
        self._scenario, self._device = scenario, device
        self.digest = f"classical/lmmse/1/{scenario.name}"

    @property
    def _covariance(self) -> Covariance:
        return _test_covariance(self._scenario, self._device)

    def __call__(self, slots: Slots) -> torch.Tensor:
        h, error_var = self._covariance.estimate(slots)
        return _detect(slots, h, error_var[:, 0])


class LmmseIrcReceiver(LmmseReceiver):
    """LMMSE channel estimation as :class:`LmmseReceiver`, and combining that rejects interference.

    Like it, it is told the mean noise-plus-interference power for the channel estimate; the covariance across antennas
    is not told but estimated from the pilots of each slot.
    """

    name = "LMMSE-IRC"

    def __init__(self, scenario: Scenario, device: str = "cpu") -> None:
        super().__init__(scenario, device)
        self.digest = f"classical/lmmse-irc/1/{scenario.name}"

    def __call__(self, slots: Slots) -> torch.Tensor:
        h, error_var = self._covariance.estimate(slots)
        z, z_var = combine_rejecting(slots.y, h, residual_covariance(slots, h), error_var[:, 0])
        return demap(z, z_var, slots.bits_per_symbol, slots.bits.shape[1])


class PerfectCsiReceiver:
    """The true channel in place of an estimate: a bound for receivers that treat interference as white noise."""

    name = "perfect CSI"
    digest = "classical/perfect-csi/1"

    def __call__(self, slots: Slots) -> torch.Tensor:
        return _detect(slots, slots.h, 0.0)


def classical_receivers(scenario: Scenario, device: str = "cpu") -> list[Receiver]:
    """The classical receivers, weakest first (without interference)."""
    return [LsReceiver(), LmmseReceiver(scenario, device), LmmseIrcReceiver(scenario, device), PerfectCsiReceiver()]


@lru_cache(maxsize=8)
def _test_covariance(scenario: Scenario, device: str) -> Covariance:
    """Made when first needed, and shared by receivers of one scenario."""
    return Covariance(scenario, device=device)


def _detect(slots: Slots, h: torch.Tensor, error_var: torch.Tensor | float) -> torch.Tensor:
    var = (slots.noise_var + slots.interference_var)[:, None, None] + error_var
    z, z_var = combine(slots.y, h, var)
    return demap(z, z_var, slots.bits_per_symbol, slots.bits.shape[1])
