"""What the receivers of a run cost: metered, estimated, and how well both agree. Resumes where it was."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

import pandas as pd
import torch

from channels import SlotStream
from energy.counting.counter import count
from energy.counting.profile import OperationProfile
from energy.estimation.estimators import ESTIMATORS, FLOP_ESTIMATORS
from energy.estimation.validation import leave_one_out, scores, validation_table
from energy.hardware.detect import gpu, gpu_uuid, host
from energy.hardware.devices import Device
from energy.metering.instruments import Instrument, Nvml, Wattmeter, available, cycle_counter
from energy.metering.meter import Meter, Reading
from energy.metering.session import Protocol, with_log
from energy.metering.table import TRAINING_FACTOR, EnergyRow, inference_rows, training_rows
from energy.metering.workloads import (
    Subject,
    classical_subject,
    meter_subjects,
    module_subject,
    observed,
    onnx_subject,
    read_windows,
    side_by_side,
    training_subject,
)
from leanrx.experiment.progress import ProgressCallback
from leanrx.experiment.run import Run
from leanrx.experiment.workflow import all_receivers, operation_profiles
from leanrx.report.estimator_charts import estimator_charts
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers.classical import GENIE_AIDED, classical_receivers
from receivers.neural.weights import NeuralReceiver


def meter_all(run: Run, progress: ProgressCallback) -> None:
    """Meter and estimate inference of every receiver that can be built, and account for training; resumes.

    Perfect CSI is nothing that a receiver can have, so those that do have no energy.

    Raises:
        UserError: if nothing was trained yet, or the device's clock and power cannot be read.
    """
    config, device = run.config, run.config.torch_device()
    machine = _machine(run, device)
    receivers = [r for r in all_receivers(run, device) if r.name not in GENIE_AIDED]
    counts = operation_profiles(run, receivers)
    rows = [r for r in _known_rows(run, {r.name: r.digest for r in receivers}) if r.machine == machine.name]
    todo = [r for r in receivers if not any(row.receiver == r.name for row in rows)]
    if not todo:
        return
    slots = _stream(run, device, config.metering.batch_slots).block(0)
    meter = Meter(config.metering.cpu_power_w, device)
    for index, receiver in enumerate(todo):
        progress.on_metering(receiver.name, index, len(todo))
        new = inference_rows(
            counts[receiver.name],
            receiver.digest,
            partial(receiver, slots),
            len(slots),
            meter,
            machine,
            config.metering.min_duration_s,
        )
        if isinstance(receiver, NeuralReceiver):
            new += _training_rows(receiver, counts, machine)
        rows += new
        write_atomic(run.energy_path, pd.DataFrame([asdict(r) for r in rows]).to_parquet())


@dataclass(frozen=True)
class Agreement:
    """Estimates beside the meter.

    Attributes:
        rows: one per call and estimator, see :class:`energy.estimation.validation.ValidationRow`.
        scores: see :func:`energy.estimation.validation.scores`.
        instruments: joules per call by every instrument, see :func:`energy.metering.workloads.side_by_side`.
        instrument: whose joules the estimators are scored against.
    """

    rows: pd.DataFrame
    scores: pd.DataFrame
    instruments: pd.DataFrame
    instrument: str

    @property
    def kind(self) -> str:
        """What the metered joules are: ``measured`` if all of them are, else ``modelled``."""
        return "measured" if (self.rows["provenance"] == "measured").all() else "modelled"

    @property
    def clocks(self) -> pd.DataFrame:
        """FLOPs per clock that each call achieved, beside those that the device record assumes."""
        shown = [
            "receiver",
            "runtime",
            "phase",
            "batch_slots",
            "achieved_flops_per_clock",
            "assumed_flops_per_clock",
            "cycle_source",
        ]
        return self.rows[shown].drop_duplicates().reset_index(drop=True)

    def by_instrument(self) -> pd.DataFrame:
        """Millijoules per slot, gross, one row per call and one column per instrument and kind."""
        call = ["receiver", "runtime", "phase", "batch_slots"]
        each = self.instruments.assign(mj=1e3 * self.instruments["gross_j"] / self.instruments["batch_slots"])
        each["column"] = each["instrument"] + " [mJ per slot, " + each["kind"] + "]"
        return each.pivot(index=call, columns="column", values="mj").rename_axis(columns=None)


def agree_all(
    run: Run,
    progress: ProgressCallback,
    rounds: int = 3,
    compiled: bool = False,
    log: Wattmeter | None = None,
    modelled: bool = False,
) -> Agreement:
    """Meter every receiver in every runtime, for inference and a training step, and score the estimators.

    Runtimes of learned receivers are eager, compiled if asked for, and ONNX Runtime for each exported file; one slot a
    call, and the run's batch. Classical receivers are counted by formula, which tells no bytes: estimates from FLOPs
    alone stand beside them. Windows are kept in ``agreement/windows.jsonl``; the tables, scores and figures beside it
    are made from them.

    Args:
        rounds: windows per call.
        log: of a wattmeter that saw all windows; its joules then are the measurement.
        modelled: go on with CodeCarbon's model where the CPU's counter is there and cannot be read.

    Raises:
        UserError: if nothing was trained yet, a counter cannot be read, or the log does not cover the windows.
    """
    config, device = run.config, run.config.torch_device()
    machine, folder = _machine(run, device), run.agreement_folder
    learned = [s for name in run.receiver_names() for s in _subjects(run, run.receiver(name, device), device, compiled)]
    if not learned:
        raise UserError(f"{run.folder}: no trained receiver; run: leanrx sweep on its configuration")
    classical = _classical_subjects(run, device)
    subjects = [*learned, *classical]
    instruments = _instruments(config.metering.cpu_power_w, device, modelled or log is not None)
    window_s = max(config.metering.min_duration_s, *(i.shortest_s for i in instruments))
    protocol = Protocol(min_duration_s=window_s, idle_s=window_s, cool_down_s=window_s / 5, rounds=rounds)
    path = folder / "windows.jsonl"
    names, total = [s.name for s in subjects], len(subjects) * rounds
    done = 0
    for window in meter_subjects(subjects, instruments, protocol, path, cycle_counter()):
        if window.name in names:
            progress.on_metering(window.name, done, total)
            done += 1
    windows = read_windows(path)
    if log is not None:
        windows = with_log(windows, log)
    instrument = windows[-1].joules[-1].instrument if log is not None else instruments[-1].name
    rows = validation_table(
        [
            *leave_one_out(observed(learned, windows, instrument, machine), machine, ESTIMATORS),
            *leave_one_out(observed(classical, windows, instrument, machine), machine, FLOP_ESTIMATORS),
        ]
    )
    found = Agreement(rows, scores(rows), side_by_side(subjects, windows), instrument)
    for name, part in (
        ("agreement", rows),
        ("scores", found.scores.assign(instrument=instrument, kind=found.kind)),
        ("instruments", found.instruments),
    ):
        write_atomic(folder / f"{name}.csv", part.to_csv(index=False, lineterminator="\n"))
    shown = [e for e in ("FLOPs/clock", "FLOPs/clock, fitted", "roofline, fitted") if e in set(rows["estimator"])]
    for quantity, name in (("s", "time"), ("j", "energy")):
        for kind, data in estimator_charts(rows, shown, quantity).items():
            write_atomic(folder / f"agreement-{name}.{kind}", data)
    return found


def _instruments(cpu_power_w: float | None, device: str, modelled: bool) -> list[Instrument]:
    """Those that see the device; a GPU is metered by its own counter alone."""
    if device != "cpu":
        return [Nvml(gpu_uuid(torch.device(device).index or 0))]
    return available(cpu_power_w, modelled)


def _stream(run: Run, device: str, batch_slots: int) -> SlotStream:
    return SlotStream(run.config.scenario, run.config.seed, batch_slots, "test", device, "metering")


def _subjects(run: Run, receiver: NeuralReceiver, device: str, compiled: bool) -> list[Subject]:
    name = receiver.name
    inputs = receiver.net.features(_stream(run, device, run.config.metering.batch_slots).block(0))
    batches = [inputs[:n] for n in sorted({1, len(inputs)})]
    exported = sorted((run.folder / "exports" / name).glob("*.onnx")) if device == "cpu" else []
    found = [module_subject(receiver.net, name, x) for x in batches]
    found += [module_subject(receiver.net, name, x, compiled=True) for x in batches if compiled]
    found += [onnx_subject(path, name, x) for path in exported for x in batches]
    return [*found, training_subject(receiver.net, name, inputs)]


def _classical_subjects(run: Run, device: str) -> list[Subject]:
    scenario = run.config.scenario
    batches = [_stream(run, device, n).block(0) for n in sorted({1, run.config.metering.batch_slots})]
    return [
        classical_subject(
            receiver,
            slots,
            count(receiver, scenario.grid, num_bits=scenario.bits_per_symbol, batch_slots=len(slots)),
        )
        for receiver in classical_receivers(scenario, device)
        if receiver.name not in GENIE_AIDED
        for slots in batches
    ]


def _machine(run: Run, device: str) -> Device:
    """The device that estimates are made for: the one that the run's receivers run on."""
    if device != "cpu":
        return gpu(torch.device(device).index or 0)
    return host(run.config.metering.cpu_power_w)


def _known_rows(run: Run, digests: dict[str, str]) -> list[EnergyRow]:
    if not run.energy_path.exists():
        return []
    rows = [EnergyRow(**r) for r in run.energy().to_dict("records")]
    return [r for r in rows if digests.get(r.receiver) == r.digest]


def _training_rows(receiver: NeuralReceiver, counts: dict[str, OperationProfile], device: Device) -> list[EnergyRow]:
    training = receiver.card.training
    if training.get("energy") is None:
        return []
    flops = TRAINING_FACTOR * counts[receiver.name].flops
    for teacher, slots in training.get("teacher_slots", {}).items():
        if teacher in counts:  # bounds have no operations
            flops += round(counts[teacher].flops * slots / training["slots"])
    return training_rows(
        receiver.name,
        receiver.digest,
        Reading(**training["energy"]),
        training["steps"],
        training["batch_slots"],
        flops,
        device,
    )
