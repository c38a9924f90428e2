"""Time and energy from FLOPs alone: the two estimates of the DeepRx energy case study (arXiv 2507.10409).

The abstract of the study names FLOPs/clock and FLOPs/Watt. Its own equations were not available to us; the forms below
are the usual ones of these two. Both assume that the device computes all the time at the given rate. They see neither
memory traffic nor idle time. A fit adds one factor, the utilisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from energy.counting.profile import OperationProfile
from energy.estimation.estimate import Estimate, MeteredCall, require_observations, residual_sd
from energy.hardware.devices import Device


@dataclass(frozen=True)
class FlopsPerClock:
    """``time = FLOPs / (FLOPs per clock x clock x cores)``, ``energy = time x power``, in the profile's precision.

    Attributes:
        utilisation: part of the rate that calls achieve; none before a fit.
        relative_sd: see :class:`energy.estimation.estimate.Estimator`.

    Example:
        >>> device = Device(name="x", cores=4, clock_hz=2e9, flops_per_clock=16, power_w=10, source="example")
        >>> estimate = FlopsPerClock().estimate(OperationProfile.from_formula("net", macs=64_000_000_000), device)
        >>> estimate.duration_s, estimate.energy_j
        (1.0, 10.0)
    """

    utilisation: float | None = None
    relative_sd: float | None = None

    @property
    def name(self) -> str:
        """In tables."""
        return "FLOPs/clock" + (", fitted" if self.utilisation else "")

    def estimate(self, profile: OperationProfile, device: Device) -> Estimate:
        """Time and energy at the device's peak rate, over the utilisation.

        Raises:
            UserError: if the device does not compute in the profile's precision.
        """
        peak = device.peak(profile.precision)
        duration_s = profile.flops / peak
        per_clock = peak / device.cores / device.clock_hz
        assumption = (
            f"{per_clock:g} FLOP/clock x {device.clock_hz / 1e9:.2f} GHz x {device.cores} cores, {device.power_w:g} W"
        )
        return _at_utilisation(self, duration_s, duration_s * device.power_w, assumption)

    def fitted(self, observations: Sequence[MeteredCall], device: Device) -> FlopsPerClock:
        """With the utilisation of metered calls."""
        return _fit_utilisation(self, observations, device)


@dataclass(frozen=True)
class FlopsPerWatt:
    """``energy = FLOPs / (FLOP/s per W)``, ``time = energy / power``.

    Attributes:
        utilisation: part of the rate that calls achieve; none before a fit.
        relative_sd: see :class:`energy.estimation.estimate.Estimator`.
    """

    utilisation: float | None = None
    relative_sd: float | None = None

    @property
    def name(self) -> str:
        """In tables."""
        return "FLOPs/W" + (", fitted" if self.utilisation else "")

    def estimate(self, profile: OperationProfile, device: Device) -> Estimate:
        """Time and energy at the device's FLOP/s per watt, over the utilisation.

        Raises:
            UserError: if the device does not compute in the profile's precision.
        """
        device.peak(profile.precision)
        energy_j = profile.flops / device.flops_per_w
        rate = "timed on matrix products" if device.matmul_flops_per_s else "at the peak of the data sheet"
        assumption = f"{device.flops_per_w / 1e9:.3g} GFLOP/s per W, {rate}"
        return _at_utilisation(self, energy_j / device.power_w, energy_j, assumption)

    def fitted(self, observations: Sequence[MeteredCall], device: Device) -> FlopsPerWatt:
        """With the utilisation of metered calls."""
        return _fit_utilisation(self, observations, device)


_Simple = TypeVar("_Simple", FlopsPerWatt, FlopsPerClock)


def _at_utilisation(
    estimator: FlopsPerWatt | FlopsPerClock, duration_s: float, energy_j: float, assumption: str
) -> Estimate:
    used = estimator.utilisation
    if used is None:
        return Estimate(estimator.name, duration_s, energy_j, f"{assumption}, fully used")
    return Estimate(
        estimator.name, duration_s / used, energy_j / used, f"{assumption}, {used:.1%} used", estimator.relative_sd
    )


def _fit_utilisation(estimator: _Simple, observations: Sequence[MeteredCall], device: Device) -> _Simple:
    """The factor that brings the geometric mean of estimated over metered times to 1."""
    require_observations(observations)
    peak = replace(estimator, utilisation=None)
    logs = np.log([peak.estimate(o.profile, device).duration_s / o.duration_s for o in observations])
    return replace(estimator, utilisation=float(np.exp(logs.mean())), relative_sd=residual_sd(logs - logs.mean(), 1))
