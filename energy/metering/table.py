"""The table of a run's energy: rows of every instrument and of every estimate, and the reference among them.

Energies and times of a row belong to all its ``slots``. They are those of the median call times the number of calls, so
that a window that was disturbed has little effect. The table is made from the recorded windows and from the energy of
trainings; eCAL, carbon, zoo, report and validation read nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
import torch

from energy.counting.profile import OperationProfile
from energy.estimation.estimate import MeteredCall
from energy.estimation.estimators import FLOP_ESTIMATORS
from energy.hardware.devices import Device
from energy.metering.instruments import rank
from energy.metering.measurement import Measurement, counted, weakest
from energy.metering.power_log import Wattmeter
from energy.metering.session import Window, call_statistics
from energy.metering.training import TrainingEnergy
from energy.metering.workloads import (
    C_RUNTIME,
    CLASSICAL_RUNTIME,
    LITERT_RUNTIME,
    ONNX_RUNTIME,
    RECEIVER_RUNTIME,
    Workload,
    cycles,
)
from leanrx_core.errors import UserError
from leanrx_core.tables import TableSchema, columns_of, impossible_values

SUM = "sum"
"""Component of a row that holds all components of an instrument that are not assumed."""

TRAINER_RUNTIME = "trainer"
"""Runtime of the training that made a receiver; a single metered training step has the runtime of its network."""


@dataclass(frozen=True)
class EnergyRow:
    """Energy of one receiver in one phase and runtime, by one instrument or estimator.

    Attributes:
        receiver, digest: of the receiver, or of the file that computes.
        machine: device that it was metered on and estimated for.
        phase: ``inference`` or ``training``.
        runtime: see :class:`energy.metering.workloads.Workload`; ``trainer`` for the training that made the receiver.
        batch_slots: slots per call.
        slots: slots of all calls.
        repeats: calls; steps of a training.
        windows: metering windows.
        component: ``cpu``, ``gpu``, ``ram``, ``whole``, or ``sum`` of all that are not assumed.
        method: name of the instrument or of the estimator.
        description: version and mode of the instrument, or the assumption of the estimate.
        provenance: measured, modelled or assumed; the weakest of a sum.
        estimated: whether an estimator gave the row.
        energy_j: gross energy.
        idle_j: idle power times the duration; NaN where idle power was not metered.
        uncertainty_j: standard uncertainty; NaN for estimates.
        duration_s: time of the calls.
        cpu_s: CPU time of all threads; NaN where it was not metered.
        cycles, cycle_source: clock cycles of all cores, and where they come from; NaN where they are unknown.
        flops: per slot.
    """

    receiver: str
    digest: str
    machine: str
    phase: str
    runtime: str
    batch_slots: int
    slots: int
    repeats: int
    windows: int
    component: str
    method: str
    description: str
    provenance: str
    estimated: bool
    energy_j: float
    idle_j: float
    uncertainty_j: float
    duration_s: float
    cpu_s: float
    cycles: float
    cycle_source: str
    flops: int


def _impossible_energy(table: pd.DataFrame) -> str:
    """What no metering can give; empty if there is nothing."""
    estimated, energy_j, duration_s = table["estimated"], table["energy_j"], table["duration_s"]
    is_part = table["component"] != SUM
    rules = {f"{c} of 1 or more": table[c] >= 1 for c in ("batch_slots", "slots", "repeats")}
    rules |= {f"{c} of 0 or more": table[c] >= 0 for c in ("windows", "flops")}
    rules |= {
        f"{c} not infinite or negative": table[c].isna() | ((table[c] >= 0) & (table[c] < math.inf))
        for c in ("energy_j", "idle_j", "uncertainty_j", "duration_s", "cpu_s", "cycles")
    }
    rules |= {
        "energy_j above 0 where it is metered": estimated | (energy_j > 0) | (is_part & (energy_j == 0)),
        "duration_s above 0 where it is metered": estimated | (duration_s > 0),
        "phase is inference or training": table["phase"].isin(["inference", "training"]),
        "provenance is measured, modelled or assumed": table["provenance"].isin(["measured", "modelled", "assumed"]),
        "one row per receiver, call, component and method": ~table.duplicated(_KEY),
    }
    return impossible_values(table, rules)


_KEY = ["receiver", "digest", "machine", "phase", "runtime", "batch_slots", "component", "method"]

ENERGY = TableSchema("energy", 1, columns_of(EnergyRow), _impossible_energy)
"""The table of energy: see :class:`EnergyRow`."""


def workload_rows(workload: Workload, windows: Sequence[Window], device: Device) -> list[EnergyRow]:
    """Rows of a workload by every instrument that saw all its windows, and estimates where it is a whole receiver.

    Args:
        workload: metered in ``windows``; there are no rows where it was not.
        windows: of the session.
        device: that computed.
    """
    own = [w for w in windows if w.name == workload.name]
    components = [{(m.instrument, m.component) for m in w.measurements} for w in own]
    summed = [{(m.instrument, SUM) for m in counted(w.measurements)} for w in own]
    keys = [key for sets in (summed, components) if sets for key in sorted(set.intersection(*sets))]
    rows = [_metered_row(workload, windows, device, *key) for key in keys]
    if rows and workload.is_whole_receiver:
        first = rows[0]
        rows += _estimate_rows(workload.profile, first, device)
    return rows


def _metered_row(
    workload: Workload, windows: Sequence[Window], device: Device, instrument: str, component: str
) -> EnergyRow:
    call = call_statistics(windows, workload.name, instrument, None if component == SUM else component)
    clock_cycles, source = cycles(workload, call, device)
    return EnergyRow(
        receiver=workload.receiver,
        digest=workload.digest,
        machine=device.name,
        phase=workload.phase,
        runtime=workload.runtime,
        batch_slots=workload.profile.batch_slots,
        slots=call.calls * workload.profile.batch_slots,
        repeats=call.calls,
        windows=call.windows,
        component=component,
        method=instrument,
        description=call.instrument_version,
        provenance=call.provenance,
        estimated=False,
        energy_j=call.calls * call.gross_j,
        idle_j=call.calls * (call.gross_j - call.net_j),
        uncertainty_j=call.calls * call.uncertainty_j,
        duration_s=call.calls * call.duration_s,
        cpu_s=call.calls * call.cpu_s,
        cycles=call.calls * clock_cycles,
        cycle_source=source,
        flops=round(workload.profile.flops_per_slot),
    )


def _estimate_rows(profile: OperationProfile, metered: EnergyRow, device: Device) -> list[EnergyRow]:
    """Estimates from FLOPs for the slots of a metered row."""
    rows = []
    for estimator in FLOP_ESTIMATORS:
        estimate, calls = estimator.estimate(profile, device), metered.slots / profile.batch_slots
        changes = {
            "component": SUM,
            "method": estimate.method,
            "description": estimate.assumption,
            "provenance": "modelled",
            "estimated": True,
            "energy_j": calls * estimate.energy_j,
            "idle_j": math.nan,
            "uncertainty_j": math.nan,
            "duration_s": calls * estimate.duration_s,
            "cpu_s": math.nan,
            "cycles": math.nan,
            "cycle_source": "",
        }
        rows.append(EnergyRow(**{**asdict(metered), **changes}))
    return rows


def training_rows(
    receiver: str,
    digest: str,
    energy: TrainingEnergy,
    steps: int,
    batch_slots: int,
    flops: int,
    device: Device,
    log: Wattmeter | None = None,
) -> list[EnergyRow]:
    """Rows of the training that made a receiver, and estimates for the same slots.

    Args:
        receiver, digest: of the receiver.
        energy: its part of the training.
        steps: optimiser steps.
        batch_slots: slots of a step.
        flops: of training on one slot, a teacher's forward pass included.
        device: that computed.
        log: of a wattmeter; it gives a row where it covers the training, see
            :meth:`energy.metering.training.TrainingEnergy.by_log`.
    """
    parts = [energy.by(name) for name in energy.instruments]
    if log is not None and (whole := energy.by_log(log)) is not None:
        parts.append([whole])
    rows = []
    for part in parts:
        sums = [(SUM, part), *((m.component, [m]) for m in part)]
        rows += [
            _training_row(receiver, digest, component, measurements, energy, (steps, batch_slots, flops), device)
            for component, measurements in sums
        ]
    if rows:
        rows += _estimate_rows(OperationProfile.from_formula(receiver, flops // 2), rows[0], device)
    return rows


def _training_row(
    receiver: str,
    digest: str,
    component: str,
    measurements: Sequence[Measurement],
    energy: TrainingEnergy,
    sizes: tuple[int, int, int],
    device: Device,
) -> EnergyRow:
    steps, batch_slots, flops = sizes
    first = measurements[0]
    return EnergyRow(
        receiver=receiver,
        digest=digest,
        machine=device.name,
        phase="training",
        runtime=TRAINER_RUNTIME,
        batch_slots=batch_slots,
        slots=steps * batch_slots,
        repeats=steps,
        windows=len(energy.windows),
        component=component,
        method=first.instrument,
        description=first.instrument_version,
        provenance=weakest(m.provenance for m in measurements),
        estimated=False,
        energy_j=sum(m.energy_j for m in measurements),
        idle_j=math.nan,
        uncertainty_j=math.hypot(*(m.uncertainty_j for m in measurements)),
        duration_s=first.duration_s,
        cpu_s=math.nan,
        cycles=math.nan,
        cycle_source="",
        flops=flops,
    )


def metered_calls(
    workloads: Sequence[Workload], table: pd.DataFrame, method: str, cpu_time: bool = False
) -> list[MeteredCall]:
    """The calls of workloads by one instrument, for estimators.

    Args:
        workloads: with the operations of a call.
        table: the energy of a run.
        method: name of the instrument.
        cpu_time: take the CPU time per thread of this process for the time of a call, in place of the wall clock. Other
            processes hardly disturb it, and both are equal on a quiet machine.

    Raises:
        UserError: if the instrument did not meter a workload.
    """
    rows = {
        (r.receiver, r.runtime, r.phase, r.batch_slots): r
        for r in table[(table["method"] == method) & (table["component"] == SUM)].itertuples()
    }
    calls = []
    for workload in workloads:
        row = rows.get((workload.receiver, workload.runtime, workload.phase, workload.profile.batch_slots))
        if row is None:
            raise UserError(
                f"{method}: saw no window of {workload.name}; meter it again with this instrument, or name another one "
                "with --reference"
            )
        duration_s = row.cpu_s / torch.get_num_threads() if cpu_time else row.duration_s
        calls.append(
            MeteredCall(
                workload.receiver,
                workload.runtime,
                workload.profile,
                duration_s / row.repeats,
                row.energy_j / row.repeats,
                row.provenance,
                workload.phase,
                row.cycles / row.repeats,
                row.cycle_source,
            )
        )
    return calls


def instruments_of(workloads: Sequence[Workload], table: pd.DataFrame) -> list[str]:
    """The instruments that metered every one of the workloads, best first.

    Args:
        workloads: of the run.
        table: the energy of the run.
    """
    rows = table[(table["component"] == SUM) & ~table["estimated"]]
    keys = {(w.receiver, w.runtime, w.phase, w.profile.batch_slots) for w in workloads}
    columns = ["receiver", "runtime", "phase", "batch_slots"]
    complete = [
        str(method)
        for method, part in rows.groupby("method", sort=False)
        if keys <= set(part[columns].itertuples(index=False, name=None))
    ]
    modelled = {m for m in complete if (rows.loc[rows["method"] == m, "provenance"] != "measured").any()}
    return sorted(complete, key=lambda m: (m in modelled, rank(m)))


def compare_instruments(table: pd.DataFrame) -> pd.DataFrame:
    """Energy of one call by every instrument that saw it.

    Returns:
        columns ``receiver, runtime, phase, batch_slots, method, provenance, windows, calls, duration_s, gross_j,
        net_j, uncertainty_j``, the last four per call.
    """
    rows = table[(table["component"] == SUM) & ~table["estimated"] & (table["runtime"] != TRAINER_RUNTIME)]
    columns = ["receiver", "runtime", "phase", "batch_slots", "method", "provenance", "windows"]
    calls = rows["repeats"]
    return (
        rows[columns]
        .assign(
            calls=calls,
            duration_s=rows["duration_s"] / calls,
            gross_j=rows["energy_j"] / calls,
            net_j=(rows["energy_j"] - rows["idle_j"]) / calls,
            uncertainty_j=rows["uncertainty_j"] / calls,
        )
        .reset_index(drop=True)
    )


def energy_table(rows: Iterable[EnergyRow]) -> pd.DataFrame:
    """The rows as a table."""
    return pd.DataFrame([asdict(row) for row in rows])


def inference_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of receivers as tested, in torch: the whole receiver at its largest batch, all components summed.

    Estimates from FLOPs belong to these. :func:`energy.metering.deployment.deployed_rows` has the form to deploy.
    """
    runtimes = table["runtime"].isin([RECEIVER_RUNTIME, CLASSICAL_RUNTIME])
    rows = table[(table["phase"] == "inference") & runtimes & (table["component"] == SUM)]
    largest = rows.groupby("receiver")["batch_slots"].transform("max")
    return rows[rows["batch_slots"] == largest].reset_index(drop=True)


def file_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of exported files, ONNX, LiteRT and C, all components summed."""
    is_file = (table["runtime"] == C_RUNTIME) | table["runtime"].str.startswith((ONNX_RUNTIME, LITERT_RUNTIME))
    rows = table[(table["phase"] == "inference") & is_file & (table["component"] == SUM)]
    return rows.reset_index(drop=True)


def trainer_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the trainings that made the receivers, all components summed."""
    rows = table[(table["phase"] == "training") & (table["runtime"] == TRAINER_RUNTIME) & (table["component"] == SUM)]
    return rows.reset_index(drop=True)


def reference_instrument(table: pd.DataFrame, name: str | None = None) -> str:
    """The instrument whose energy a run uses.

    Args:
        table: the energy of a run.
        name: of the instrument that the run names. Without a name, it is the best instrument that measures: a
            wattmeter, RAPL, NVML, then CodeCarbon. Where none measures, it is CodeCarbon with its model.

    Raises:
        UserError: if there is no energy of inference by it, or not of every receiver.
    """
    rows = inference_rows(table)
    metered = rows[~rows["estimated"]]
    receivers = set(rows["receiver"])
    complete = [m for m, part in metered.groupby("method", sort=False) if set(part["receiver"]) == receivers]
    if name is not None:
        if name not in complete:
            raise UserError(
                f"metering.reference_instrument: no energy of every receiver by '{name}'; instruments: "
                f"{', '.join(complete) or 'none'}; a wattmeter is read by: leanrx energy RUN --wattmeter LOG"
            )
        return name
    if not complete:
        raise UserError("energy: no instrument metered every receiver; delete energy.parquet and run leanrx energy")
    measuring = [m for m in complete if (metered.loc[metered["method"] == m, "provenance"] == "measured").all()]
    return min(measuring, key=rank) if measuring else max(complete, key=lambda m: m == "CodeCarbon")
