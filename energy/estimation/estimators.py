"""Estimators of time and energy behind one interface, from simple to good.

============== ==================================================== ==========================================
estimator      time of a call                                       energy
============== ==================================================== ==========================================
FLOPs/W        energy / power                                       FLOPs / (FLOP/s per W) / utilisation
FLOPs/clock    FLOPs / (FLOPs per clock x clock x cores) / util.    time x load power
roofline       sum over layers of max(FLOPs / rate, bytes / rate),  load power while layers run, idle power in
               and an overhead per layer                            the overheads between them
per operation  none                                                 MACs and bytes at 45 nm, for orientation
============== ==================================================== ==========================================

An estimator as it is made knows the device alone. ``fitted`` returns one that has learnt from observed calls: the
naive two learn one factor, the utilisation; the roofline learns the share of the peak that dense and grouped layers
reach, the share of the memory bandwidth, and the overheads of a layer and of a call. The fit is least squares on
logarithms, so a factor of two counts the same for a small receiver and a large one; a weak prior keeps what the
observations do not show at its value before. Where observed joules are measured, power is learnt too, as idle power and
energies per FLOP and per byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

import numpy as np
from scipy import optimize

from energy.counting.profile import KINDS, Work
from energy.estimation.flops import Estimate, flops_per_clock, flops_per_watt
from energy.hardware.devices import Device
from leanrx_core.errors import UserError


@dataclass(frozen=True)
class Observed:
    """A metered call, as far as estimators learn from it.

    Attributes:
        receiver: whose call; a receiver is left out as a whole.
        runtime: ``eager``, ``compiled``, ``onnx-fp32``, ``onnx-int8``: utilisations are those of a runtime.
        work: of the call.
        duration_s: of the call.
        phase: ``inference`` or ``training``.
        energy_j: of the call, none if it was not metered.
        kind: of its joules; only measured ones say anything about power.
        cycles, cycles_from: clock cycles of all cores in the call, and in words how they are known.
    """

    receiver: str
    runtime: str
    work: Work
    duration_s: float
    energy_j: float | None = None
    kind: str = "none"
    phase: str = "inference"
    cycles: float = math.nan
    cycles_from: str = ""

    @property
    def flops_per_clock(self) -> float:
        """Achieved by one core; NaN where no cycles are known."""
        return self.work.flops / self.cycles


class Estimator(Protocol):
    """Time and energy of a call on a device.

    Attributes:
        name: as in tables.
        relative_sd: standard deviation of what was seen around what was estimated, relative; none before a fit, when
            the estimate is a bound or an orientation.
    """

    @property
    def name(self) -> str: ...
    @property
    def relative_sd(self) -> float | None: ...

    def estimate(self, work: Work, device: Device) -> Estimate: ...

    def fitted(self, seen: Sequence[Observed], device: Device) -> Estimator:
        """The estimator after it has learnt from observed calls of one runtime.

        Raises:
            UserError: if there are none.
        """
        ...


@dataclass(frozen=True)
class FlopsPerWatt:
    """Energy from FLOP/s per watt."""

    utilisation: float | None = None
    relative_sd: float | None = None

    @property
    def name(self) -> str:
        return "FLOPs/W" + (", fitted" if self.utilisation else "")

    def estimate(self, work: Work, device: Device) -> Estimate:
        return _scaled(flops_per_watt(work.flops, device), self.name, self.utilisation, self.relative_sd)

    def fitted(self, seen: Sequence[Observed], device: Device) -> FlopsPerWatt:
        return _with_utilisation(self, seen, device)


@dataclass(frozen=True)
class FlopsPerClock:
    """Time from FLOPs per clock, in the precision of the work."""

    utilisation: float | None = None
    relative_sd: float | None = None

    @property
    def name(self) -> str:
        return "FLOPs/clock" + (", fitted" if self.utilisation else "")

    def estimate(self, work: Work, device: Device) -> Estimate:
        made = flops_per_clock(work.flops, device, work.precision)
        return _scaled(made, self.name, self.utilisation, self.relative_sd)

    def fitted(self, seen: Sequence[Observed], device: Device) -> FlopsPerClock:
        return _with_utilisation(self, seen, device)


def _scaled(made: Estimate, name: str, utilisation: float | None, relative_sd: float | None) -> Estimate:
    if utilisation is None:
        return made
    return Estimate(
        name,
        made.duration_s / utilisation,
        made.energy_j / utilisation,
        made.assumption.removesuffix(", fully used") + f", {utilisation:.1%} used",
        relative_sd,
    )


_Simple = TypeVar("_Simple", FlopsPerWatt, FlopsPerClock)


def _with_utilisation(estimator: _Simple, seen: Sequence[Observed], device: Device) -> _Simple:
    """The factor that brings the geometric mean of estimated over observed times to 1."""
    _some(seen)
    bare = replace(estimator, utilisation=None)
    logs = np.log([bare.estimate(o.work, device).duration_s / o.duration_s for o in seen])
    return replace(estimator, utilisation=float(np.exp(logs.mean())), relative_sd=_spread(logs - logs.mean(), 1))


_PRIOR_SD = math.log(30)  # shares of a peak are known within a factor of thirty or so before anything was observed
_RESIDUAL_SD = 0.1  # and observations are trusted to a tenth
_PRIOR_OVERHEAD_S = 5e-6


@dataclass(frozen=True)
class Roofline:
    """Every layer takes the larger of its compute and its memory time, and an overhead.

    Attributes:
        dense, grouped: shares of the peak that layers of that kind reach.
        memory: share of the memory bandwidth; above 1 where caches serve.
        overhead_s: per layer.
        overhead_call_s: per call.
        j_per_flop, j_per_byte, idle_w: energy; none of them before measured joules were seen.
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
        return "roofline" + (", fitted" if self.overhead_s else "")

    def layer_times_s(self, work: Work, device: Device) -> tuple[np.ndarray, np.ndarray]:
        """Compute and memory time of every layer.

        Raises:
            UserError: if the device's memory bandwidth is not known.
        """
        table = _table(work)
        compute = table[:, 0] / _peak(work, device) / np.array([self.dense, self.grouped, 1.0])[table[:, 2].astype(int)]
        return compute, table[:, 1] / _bandwidth(device) / self.memory

    def estimate(self, work: Work, device: Device) -> Estimate:
        compute, memory = self.layer_times_s(work, device)
        busy_s = float(np.maximum(compute, memory).sum())
        waiting_s = self.overhead_s * len(work.layers) + self.overhead_call_s
        idle_w = device.power_w if device.idle_w is None else device.idle_w
        if self.j_per_flop is not None and self.j_per_byte is not None and self.idle_w is not None:
            energy_j = self.j_per_flop * work.flops + self.j_per_byte * work.bytes + self.idle_w * (busy_s + waiting_s)
            power = (
                f"{1e12 * self.j_per_flop:.3g} pJ/FLOP, {1e12 * self.j_per_byte:.3g} pJ/byte and {self.idle_w:.3g} W"
            )
        else:
            energy_j = device.power_w * busy_s + idle_w * waiting_s
            power = f"{device.power_w:g} W in layers, {idle_w:g} W between them"
        bound = float(np.maximum(compute, memory)[memory > compute].sum()) / busy_s if busy_s else 0.0
        return Estimate(
            self.name,
            busy_s + waiting_s,
            energy_j,
            f"dense layers at {self.dense:.1%} of the peak, grouped ones at {self.grouped:.1%}, memory at "
            f"{self.memory:.1%} of its bandwidth, {1e6 * self.overhead_s:.3g} us a layer; {bound:.0%} of the time in "
            f"layers bound by memory; {power}",
            self.relative_sd,
        )

    def fitted(self, seen: Sequence[Observed], device: Device) -> Self:
        _some(seen)
        tables = [_table(o.work) for o in seen]
        peaks = np.array([_peak(o.work, device) for o in seen])
        bandwidth, times = _bandwidth(device), np.log([o.duration_s for o in seen])
        prior = np.log([0.5, 0.1, 1.0, _PRIOR_OVERHEAD_S, _PRIOR_OVERHEAD_S])

        def residuals(logs: np.ndarray) -> np.ndarray:
            dense, grouped, memory, layer_s, call_s = np.exp(logs)
            shares = np.array([dense, grouped, 1.0])
            made = [
                np.maximum(t[:, 0] / (peak * shares[t[:, 2].astype(int)]), t[:, 1] / (bandwidth * memory)).sum()
                + layer_s * len(t)
                + call_s
                for t, peak in zip(tables, peaks, strict=True)
            ]
            return np.concatenate([(np.log(made) - times) / _RESIDUAL_SD, (logs - prior) / _PRIOR_SD])

        starts = [prior, prior + np.log([1, 1, 10, 1, 1]), prior + np.log([0.1, 0.1, 10, 1, 1]), prior - np.log(5)]
        best = min((optimize.least_squares(residuals, s) for s in starts), key=lambda found: found.cost)
        dense, grouped, memory, layer_s, call_s = map(float, np.exp(best.x))
        learnt = replace(
            self,
            dense=dense,
            grouped=grouped,
            memory=memory,
            overhead_s=layer_s,
            overhead_call_s=call_s,
            relative_sd=_spread(_RESIDUAL_SD * residuals(best.x)[: len(seen)], 5),
        )
        return learnt._with_power(seen, device)

    def _with_power(self, seen: Sequence[Observed], device: Device) -> Self:
        """Energies per FLOP and byte, and idle power, from measured joules: non-negative, relative least squares."""
        known = [(o, o.energy_j) for o in seen if o.kind == "measured" and o.energy_j]
        if len(known) < 4:
            return self
        rows = np.array(
            [[o.work.flops / j, o.work.bytes / j, self.estimate(o.work, device).duration_s / j] for o, j in known]
        )
        scale = rows.max(axis=0)
        found = optimize.nnls(rows / scale, np.ones(len(rows)))[0] / scale
        return replace(self, j_per_flop=float(found[0]), j_per_byte=float(found[1]), idle_w=float(found[2]))


# Energies at 45 nm and 0.9 V: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014,
# figure 1.1.9. A multiply and an add; int8 products are added up in 32 bits. Bytes come from a 1 MB cache (100 pJ per
# 64 bits) at best, from DRAM (1.3 to 2.6 nJ per 64 bits) at worst.
J_PER_MAC_45NM = {"fp32": 3.7e-12 + 0.9e-12, "fp16": 1.1e-12 + 0.4e-12, "int8": 0.2e-12 + 0.1e-12}
J_PER_BYTE_CACHE_45NM, J_PER_BYTE_DRAM_45NM = 100e-12 / 8, 2600e-12 / 8


@dataclass(frozen=True)
class PerOperation:
    """Joules of the arithmetic and of moving operands in 45 nm silicon: what a computation costs, not a computer.

    No instruction is fetched and nothing idles. The estimate lies midway, by ratio, between all bytes from a cache and
    all from DRAM; it knows no time, and says nothing in a precision that the table lacks.
    """

    name: str = "per operation"
    relative_sd: float | None = None

    def bounds_j(self, work: Work) -> tuple[float, float]:
        """All operands from a 1 MB cache, and all from DRAM.

        Raises:
            UserError: if the table lacks the precision.
        """
        if work.precision not in J_PER_MAC_45NM:
            raise UserError(f"precision: {work.precision} is not in the 45 nm table; there are {list(J_PER_MAC_45NM)}")
        macs_j = J_PER_MAC_45NM[work.precision] * work.macs
        return macs_j + J_PER_BYTE_CACHE_45NM * work.bytes, macs_j + J_PER_BYTE_DRAM_45NM * work.bytes

    def estimate(self, work: Work, device: Device) -> Estimate:
        if work.precision not in J_PER_MAC_45NM:
            return Estimate(self.name, math.nan, math.nan, f"the 45 nm table has no {work.precision}")
        low, high = self.bounds_j(work)
        return Estimate(
            self.name,
            math.nan,
            math.sqrt(low * high),
            f"45 nm silicon, no particular device: {low:.3g} J with all operands in a cache, {high:.3g} J from DRAM",
            math.sqrt(high / low) - 1,
        )

    def fitted(self, seen: Sequence[Observed], device: Device) -> Self:
        return self


ESTIMATORS: tuple[Estimator, ...] = (FlopsPerWatt(), FlopsPerClock(), Roofline(), PerOperation())
"""Before any fit."""

FROM_FLOPS: tuple[Estimator, ...] = (FlopsPerWatt(), FlopsPerClock())
"""Those of them that need no bytes."""


def _some(seen: Sequence[Observed]) -> None:
    if not seen:
        raise UserError("calibration: nothing was metered to learn from; meter some receivers first")


def _spread(residuals: np.ndarray, parameters: int) -> float:
    """Relative standard deviation around a fit; of at least one degree of freedom."""
    return float(np.sqrt((residuals**2).sum() / max(1, len(residuals) - parameters)))


def _table(work: Work) -> np.ndarray:
    """FLOPs, bytes and the number of the kind of every layer."""
    return np.array([[x.flops, x.bytes, KINDS.index(x.kind)] for x in work.layers], dtype=float).reshape(-1, 3)


def _peak(work: Work, device: Device) -> float:
    """In the work's precision; a timed rate replaces the data sheet's in fp32."""
    if work.precision == device.precision and device.matmul_flops_per_s:
        return device.matmul_flops_per_s
    return device.peak(work.precision)


def _bandwidth(device: Device) -> float:
    if device.bytes_per_s is None:
        raise UserError(f"device: memory bandwidth of {device.name} is not known; the roofline needs it")
    return device.bytes_per_s
