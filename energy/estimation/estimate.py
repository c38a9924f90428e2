"""What an estimate is, what estimators do, and what they are fitted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from energy.counting.profile import OperationProfile
from energy.hardware.devices import Device
from leanrx_core.errors import UserError


@dataclass(frozen=True)
class Estimate:
    """Modelled time and energy of one call on a device.

    Attributes:
        method: name of the estimator.
        duration_s: modelled time; NaN where the estimator gives none.
        energy_j: modelled energy; NaN where the estimator gives none.
        assumption: under which the estimate holds.
        relative_sd: standard deviation of metered calls around the estimate, relative; none for a bound.
    """

    method: str
    duration_s: float
    energy_j: float
    assumption: str
    relative_sd: float | None = None


@dataclass(frozen=True)
class MeteredCall:
    """A metered call: what estimators are fitted to and scored on.

    Attributes:
        receiver: of the call; validation leaves out a receiver as a whole.
        runtime: such as ``eager`` or ``onnx-int8``; fitted parameters are those of a runtime.
        profile: operations of the call.
        duration_s: of the call.
        energy_j: of the call; none if it was not metered.
        provenance: of its joules; power is fitted to measured ones only.
        phase: ``inference`` or ``training``.
        cycles, cycle_source: clock cycles of all cores in the call, and where they come from.
    """

    receiver: str
    runtime: str
    profile: OperationProfile
    duration_s: float
    energy_j: float | None = None
    provenance: str = "none"
    phase: str = "inference"
    cycles: float = math.nan
    cycle_source: str = ""

    @property
    def flops_per_clock(self) -> float:
        """Achieved by one core; NaN where no cycles are known."""
        return self.profile.flops / self.cycles


class Estimator(Protocol):
    """A model of time and energy.

    Attributes:
        name: in tables.
        relative_sd: standard deviation of metered calls around the estimates, relative; none before a fit, when the
            estimate is a bound or an orientation.
    """

    @property
    def name(self) -> str: ...
    @property
    def relative_sd(self) -> float | None: ...

    def estimate(self, profile: OperationProfile, device: Device) -> Estimate:
        """Time and energy of a call on a device.

        Raises:
            UserError: if the device lacks a rate that the estimator needs.
        """
        ...

    def fitted(self, observations: Sequence[MeteredCall], device: Device) -> Estimator:
        """The estimator after a fit to metered calls of one runtime.

        Raises:
            UserError: if there are none.
        """
        ...


def require_observations(observations: Sequence[MeteredCall]) -> None:
    """Refuse a fit to nothing.

    Raises:
        UserError: if there are no observations.
    """
    if not observations:
        raise UserError("calibration: no metered calls to fit an estimator to; meter some receivers first")


def residual_sd(residuals: np.ndarray, parameters: int) -> float:
    """Standard deviation around a fit; of at least one degree of freedom."""
    return float(np.sqrt((residuals**2).sum() / max(1, len(residuals) - parameters)))
