"""The roofline: layers are bound by computing or by memory, and each has an overhead.

A fit finds the part of the peak that dense and grouped layers reach, the part of the memory bandwidth, and the
overheads of a layer and of a call. It is least squares on logarithms, so that a factor of two counts the same for a
small receiver and a large one. A weak prior keeps parameters at their value before where observations do not determine
them. Where joules are measured, power is fitted too, as idle power and energies per FLOP and per byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy import optimize

from energy.counting.profile import LAYER_KINDS, OperationProfile
from energy.estimation.estimate import Estimate, MeteredCall, require_observations, residual_sd
from energy.hardware.devices import Device
from leanrx_core.errors import UserError

_PRIOR_SD = math.log(30)  # parts of a peak are known within a factor of about thirty before any observation
_RESIDUAL_SD = 0.1  # observations are trusted to a tenth
_PRIOR_OVERHEAD_S = 5e-6


@dataclass(frozen=True)
class Roofline:
    """Every layer takes the larger of its compute and its memory time, and an overhead (doi 10.1145/1498765.1498785).

    Attributes:
        dense, grouped: parts of the peak that layers of that kind reach.
        memory: part of the memory bandwidth; above 1 where caches serve.
        overhead_s: per layer.
        overhead_call_s: per call.
        relative_sd: see :class:`energy.estimation.estimate.Estimator`.
        j_per_flop, j_per_byte, idle_w: of energy; none before a fit to measured joules.
    """

    dense: float = 1.0
    grouped: float = 1.0
    memory: float = 1.0
    overhead_s: float = 0.0
    overhead_call_s: float = 0.0
    relative_sd: float | None = None
    j_per_flop: float | None = None
    j_per_byte: float | None = None
    idle_w: float | None = None

    @property
    def name(self) -> str:
        """In tables."""
        return "roofline" + (", fitted" if self.overhead_s else "")

    def layer_times_s(self, profile: OperationProfile, device: Device) -> tuple[np.ndarray, np.ndarray]:
        """Compute and memory time of every layer.

        Raises:
            UserError: if the device's memory bandwidth is not known.
        """
        table = _layer_table(profile)
        compute = (
            table[:, 0] / _rate(profile, device) / np.array([self.dense, self.grouped, 1.0])[table[:, 2].astype(int)]
        )
        return compute, table[:, 1] / _bandwidth(device) / self.memory

    def estimate(self, profile: OperationProfile, device: Device) -> Estimate:
        """Time and energy, layer by layer.

        Raises:
            UserError: if the device's memory bandwidth is not known.
        """
        compute, memory = self.layer_times_s(profile, device)
        layers_s = float(np.maximum(compute, memory).sum())
        overhead_s = self.overhead_s * len(profile.layers) + self.overhead_call_s
        idle_w = device.power_w if device.idle_w is None else device.idle_w
        if self.j_per_flop is not None and self.j_per_byte is not None and self.idle_w is not None:
            energy_j = (
                self.j_per_flop * profile.flops
                + self.j_per_byte * profile.bytes
                + self.idle_w * (layers_s + overhead_s)
            )
            power = (
                f"{1e12 * self.j_per_flop:.3g} pJ/FLOP, {1e12 * self.j_per_byte:.3g} pJ/byte and {self.idle_w:.3g} W"
            )
        else:
            energy_j = device.power_w * layers_s + idle_w * overhead_s
            power = f"{device.power_w:g} W in layers, {idle_w:g} W between them"
        bound = float(np.maximum(compute, memory)[memory > compute].sum()) / layers_s if layers_s else 0.0
        return Estimate(
            self.name,
            layers_s + overhead_s,
            energy_j,
            f"dense layers at {self.dense:.1%} of the peak, grouped ones at {self.grouped:.1%}, memory at "
            f"{self.memory:.1%} of its bandwidth, {1e6 * self.overhead_s:.3g} us a layer; {bound:.0%} of the time in "
            f"layers bound by memory; {power}{profile.missing_bytes}",
            self.relative_sd,
        )

    def fitted(self, observations: Sequence[MeteredCall], device: Device) -> Self:
        """With parts of the peak and overheads fitted to times, and power fitted to measured joules.

        Raises:
            UserError: if there are no observations, or the device's memory bandwidth is not known.
        """
        require_observations(observations)
        tables = [_layer_table(o.profile) for o in observations]
        peaks = np.array([_rate(o.profile, device) for o in observations])
        bandwidth, times = _bandwidth(device), np.log([o.duration_s for o in observations])
        prior = np.log([0.5, 0.1, 1.0, _PRIOR_OVERHEAD_S, _PRIOR_OVERHEAD_S])

        def residuals(logs: np.ndarray) -> np.ndarray:
            dense, grouped, memory, layer_s, call_s = np.exp(logs)
            shares = np.array([dense, grouped, 1.0])
            estimated = [
                np.maximum(t[:, 0] / (peak * shares[t[:, 2].astype(int)]), t[:, 1] / (bandwidth * memory)).sum()
                + layer_s * len(t)
                + call_s
                for t, peak in zip(tables, peaks, strict=True)
            ]
            return np.concatenate([(np.log(estimated) - times) / _RESIDUAL_SD, (logs - prior) / _PRIOR_SD])

        starts = [prior, prior + np.log([1, 1, 10, 1, 1]), prior + np.log([0.1, 0.1, 10, 1, 1]), prior - np.log(5)]
        best = min((optimize.least_squares(residuals, s) for s in starts), key=lambda solution: solution.cost)
        dense, grouped, memory, layer_s, call_s = map(float, np.exp(best.x))
        fit = replace(
            self,
            dense=dense,
            grouped=grouped,
            memory=memory,
            overhead_s=layer_s,
            overhead_call_s=call_s,
            relative_sd=residual_sd(_RESIDUAL_SD * residuals(best.x)[: len(observations)], 5),
        )
        return fit._with_power(observations, device)

    def _with_power(self, observations: Sequence[MeteredCall], device: Device) -> Self:
        """Energies per FLOP and byte, and idle power, from measured joules: non-negative, relative least squares."""
        measured = [(o, o.energy_j) for o in observations if o.provenance == "measured" and o.energy_j]
        if len(measured) < 4:
            return self
        rows = np.array(
            [
                [o.profile.flops / j, o.profile.bytes / j, self.estimate(o.profile, device).duration_s / j]
                for o, j in measured
            ]
        )
        scale = rows.max(axis=0)
        solution = optimize.nnls(rows / scale, np.ones(len(rows)))[0] / scale
        return replace(self, j_per_flop=float(solution[0]), j_per_byte=float(solution[1]), idle_w=float(solution[2]))


def _layer_table(profile: OperationProfile) -> np.ndarray:
    """FLOPs, bytes and the number of the kind of every layer."""
    return np.array([[x.flops, x.bytes, LAYER_KINDS.index(x.kind)] for x in profile.layers], dtype=float).reshape(-1, 3)


def _rate(profile: OperationProfile, device: Device) -> float:
    """FLOP/s in the profile's precision; a timed rate replaces the data sheet's in fp32."""
    if profile.precision == device.precision and device.matmul_flops_per_s:
        return device.matmul_flops_per_s
    return device.peak(profile.precision)


def _bandwidth(device: Device) -> float:
    if device.bytes_per_s is None:
        raise UserError(f"device: memory bandwidth of {device.name} is not known; the roofline needs it")
    return device.bytes_per_s
