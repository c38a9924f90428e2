"""Validation of estimates against metered calls, without scoring an estimator on calls that it was fitted to.

Fitted estimators are scored leave-one-receiver-out: the calls of one receiver (all batches) are estimated from a fit to
the calls of all others in the same runtime and phase. Receivers with equal operations, as a student and its scratch
baseline, are left out together, because one determines the other. Estimators without a fit are scored as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from energy.estimation.estimate import Estimator, MeteredCall
from energy.estimation.estimators import ESTIMATORS
from energy.hardware.devices import Device


@dataclass(frozen=True)
class ValidationRow:
    """One estimate and the metered call that it is for.

    Attributes:
        receiver, runtime, phase, batch_slots: of the call.
        estimator: its name.
        flops, bytes, layers, flops_per_byte: of the call; no bytes and NaN where it was counted by formula.
        assumed_flops_per_clock: of one core, in the precision of the call.
        achieved_flops_per_clock, cycle_source: of one core, and where its cycles come from; NaN where they are unknown.
        metered_s, metered_j: of the call; joules are NaN where none were metered.
        provenance: of the metered joules: measured, modelled or none.
        estimated_s, estimated_j: NaN where the estimator gives none.
        relative_sd: uncertainty that the estimator states; NaN for a bound.
    """

    receiver: str
    runtime: str
    phase: str
    batch_slots: int
    estimator: str
    flops: int
    bytes: int
    layers: int
    flops_per_byte: float
    assumed_flops_per_clock: float
    achieved_flops_per_clock: float
    cycle_source: str
    metered_s: float
    metered_j: float
    provenance: str
    estimated_s: float
    estimated_j: float
    relative_sd: float


def leave_one_out(
    calls: Sequence[MeteredCall], device: Device, estimators: Sequence[Estimator] = ESTIMATORS
) -> list[ValidationRow]:
    """Estimates of every call, by every estimator before a fit and after a fit to receivers with other operations."""
    rows = []
    for call in calls:
        same_kind = [c for c in calls if (c.runtime, c.phase) == (call.runtime, call.phase)]
        equal = {c.receiver for c in same_kind if _signature(c) == _signature(call)}
        others = [c for c in same_kind if c.receiver not in equal]
        for estimator in estimators:
            rows.append(_row(call, estimator, device))
            if others and (fit := estimator.fitted(others, device)) is not estimator:
                rows.append(_row(call, fit, device))
    return rows


def _signature(call: MeteredCall) -> tuple[object, ...]:
    """All that an estimator knows of a call."""
    return call.profile.precision, tuple((x.kind, x.macs, x.bytes) for x in call.profile.layers)


def _row(call: MeteredCall, estimator: Estimator, device: Device) -> ValidationRow:
    estimate, profile = estimator.estimate(call.profile, device), call.profile
    return ValidationRow(
        receiver=call.receiver,
        runtime=call.runtime,
        phase=call.phase,
        batch_slots=profile.batch_slots,
        estimator=estimator.name,
        flops=profile.flops,
        bytes=profile.bytes,
        layers=len(profile.layers),
        flops_per_byte=profile.intensity or math.nan,
        assumed_flops_per_clock=device.peak(profile.precision) / device.cores / device.clock_hz,
        achieved_flops_per_clock=call.flops_per_clock,
        cycle_source=call.cycle_source,
        metered_s=call.duration_s,
        metered_j=math.nan if call.energy_j is None else call.energy_j,
        provenance=call.provenance,
        estimated_s=estimate.duration_s,
        estimated_j=estimate.energy_j,
        relative_sd=math.nan if estimate.relative_sd is None else estimate.relative_sd,
    )


def validation_table(rows: Sequence[ValidationRow]) -> pd.DataFrame:
    """The rows as a table."""
    return pd.DataFrame([asdict(r) for r in rows])


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Per phase, runtime (and all together) and estimator: points, MAPE and rank correlation of time and of energy.

    MAPE is the mean of ``|estimate / metered - 1|`` in percent; the rank correlation is Spearman's. A score is NaN
    where an estimator gives no value, or all calls are equal. Calls without bytes are scored in their own runtime only,
    since not every estimator applies to them.
    """
    scored = []
    for runtime in ["all", *rows["runtime"].unique()]:
        part = rows[rows["flops_per_byte"].notna()] if runtime == "all" else rows[rows["runtime"] == runtime]
        for (phase, estimator), calls in part.groupby(["phase", "estimator"], sort=False):
            scored.append(
                {
                    "phase": phase,
                    "runtime": runtime,
                    "estimator": estimator,
                    "calls": len(calls),
                    "receivers": calls["receiver"].nunique(),
                    "mape_time_percent": _mape(calls["estimated_s"], calls["metered_s"]),
                    "worst_time_percent": _worst(calls["estimated_s"], calls["metered_s"]),
                    "rank_time": _rank(calls["estimated_s"], calls["metered_s"]),
                    "mape_energy_percent": _mape(calls["estimated_j"], calls["metered_j"]),
                    "rank_energy": _rank(calls["estimated_j"], calls["metered_j"]),
                }
            )
    return pd.DataFrame(scored)


def _mape(estimated: pd.Series, metered: pd.Series) -> float:
    return float(100 * (estimated / metered - 1).abs().mean())


def _worst(estimated: pd.Series, metered: pd.Series) -> float:
    return float(100 * (estimated / metered - 1).abs().max())


def _rank(estimated: pd.Series, metered: pd.Series) -> float:
    valid = estimated.notna() & metered.notna()
    estimated, metered = estimated[valid], metered[valid]
    if min(estimated.nunique(), metered.nunique()) < 2:
        return math.nan
    return float(np.corrcoef(estimated.rank(), metered.rank())[0, 1])
