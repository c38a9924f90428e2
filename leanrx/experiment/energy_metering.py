"""The energy of a run: one metering session, the table of its rows, and the validation of estimators. All resume.

::

    receivers, runtimes ---> session ---> metering/windows-*.jsonl --+
    a wattmeter's log ----------------------------------------------+---> energy.parquet ---> validation, eCAL, report
    cards (energy of trainings) ------------------------------------+

Windows are recorded as they come, and the table is made from them. A wattmeter's log can therefore be joined later.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from channels import SlotStream
from energy.counting.counter import count
from energy.counting.profile import OperationProfile
from energy.ecal.metric import TRAINING_FACTOR
from energy.estimation.estimators import ESTIMATORS, FLOP_ESTIMATORS
from energy.estimation.validation import leave_one_out, scores, validation_table
from energy.hardware.detect import gpu, host
from energy.hardware.devices import Device
from energy.metering.instruments import BEST_FIRST, available, cycle_counter
from energy.metering.power_log import WATTMETER, Wattmeter
from energy.metering.session import IDLE, MeteringProtocol, join_log
from energy.metering.table import (
    ENERGY,
    TRAINER_RUNTIME,
    EnergyRow,
    compare_instruments,
    energy_table,
    inference_rows,
    instruments_of,
    metered_calls,
    reference_instrument,
    training_rows,
    workload_rows,
)
from energy.metering.training import TrainingEnergy
from energy.metering.workloads import (
    C_RUNTIME,
    CLASSICAL_RUNTIME,
    LITERT_RUNTIME,
    RECEIVER_RUNTIME,
    Workload,
    c_workload,
    litert_workload,
    meter_workloads,
    network_workload,
    onnx_workload,
    read_windows,
    receiver_workload,
    training_workload,
    write_windows,
)
from leanrx.experiment.progress import ProgressCallback
from leanrx.experiment.run import Run
from leanrx.experiment.run_export import exported_files
from leanrx.experiment.sweep_config import MeteringConfig
from leanrx.experiment.workflow import all_receivers, operation_profiles
from leanrx_core.checks import choice
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.tables import write_table
from receivers.base import Receiver
from receivers.classical import GENIE_AIDED
from receivers.export.c_export import find_compiler
from receivers.export.c_source import c_sources, has_c_form
from receivers.export.export_card import file_name
from receivers.export.exported_file import open_exported
from receivers.neural.weights import NeuralReceiver

_CALL = ["receiver", "runtime", "phase", "batch_slots"]


def meter_all(run: Run, progress: ProgressCallback) -> None:
    """Meter inference of every receiver that can be built, and add the energy of trainings and estimates.

    Genie-aided receivers cannot be built and have no energy.

    Raises:
        UserError: if nothing was trained yet, a counter cannot be read, or ``energy.parquet`` is of another version.
    """
    receivers = _receivers(run)
    if _is_complete(run, receivers):
        return
    workloads = _receiver_workloads(run, receivers, [run.config.metering.batch_slots])
    workloads += _c_workloads(run, receivers, progress)
    _meter(run, workloads, progress, run.config.metering.rounds, allow_model=True)
    _write_table(run, receivers, workloads, None)


@dataclass(frozen=True)
class ValidationOptions:
    """How the estimators of a run are validated.

    Attributes:
        rounds: windows per call; the run's own if not given.
        compiled: meter ``torch.compile``, too.
        log: of a wattmeter that metered the recorded windows. With a log nothing is metered again.
        allow_model: use CodeCarbon alone where the device's own counter cannot be read.
        reference: name of the reference instrument; the run's own if not given. Where neither names one, and the best
            instrument did not meter all workloads, the best one that did is the reference of the scores.
    """

    rounds: int | None = None
    compiled: bool = False
    log: Wattmeter | None = None
    allow_model: bool = False
    reference: str | None = None

    def __post_init__(self) -> None:
        """Refuse options that have no effect, and names that are no instruments.

        Raises:
            UserError: if there is one.
        """
        for name, is_given in (("rounds", self.rounds is not None), ("allow-model", self.allow_model)):
            if self.log is not None and is_given:
                raise UserError(f"--{name}: has no effect with a wattmeter's log, which meters nothing; leave it out")
        if self.reference is not None:
            choice("--reference", self.reference, BEST_FIRST)


@dataclass(frozen=True)
class Validation:
    """Estimates and metered energy.

    Attributes:
        rows: one per call and estimator, see :class:`energy.estimation.validation.ValidationRow`.
        scores: see :func:`energy.estimation.validation.scores`.
        instruments: joules per call by every instrument, see :func:`energy.metering.table.compare_instruments`.
        reference: name of the instrument that the estimators are scored against.
    """

    rows: pd.DataFrame
    scores: pd.DataFrame
    instruments: pd.DataFrame
    reference: str

    @property
    def provenance(self) -> str:
        """``measured`` if all metered joules are, else ``modelled``."""
        return "measured" if (self.rows["provenance"] == "measured").all() else "modelled"

    @property
    def clocks(self) -> pd.DataFrame:
        """FLOPs per clock that each call achieved, and those that the device record assumes."""
        columns = [*_CALL, "achieved_flops_per_clock", "assumed_flops_per_clock", "cycle_source"]
        return self.rows[columns].drop_duplicates().reset_index(drop=True)

    def by_instrument(self) -> pd.DataFrame:
        """Millijoules per slot, gross, one row per call and one column per instrument and provenance."""
        table = self.instruments
        names = table["method"] + " [mJ per slot, " + table["provenance"] + "]"
        energies = table.assign(mj=1e3 * table["gross_j"] / table["batch_slots"], column=names)
        return energies.pivot(index=_CALL, columns="column", values="mj").rename_axis(columns=None)


def validate_all(run: Run, progress: ProgressCallback, options: ValidationOptions | None = None) -> Validation:
    """Meter every receiver in every runtime, for inference and a training step, and score the estimators.

    Runtimes of a neural receiver are the whole receiver, its network in torch, compiled if asked for, and in ONNX
    Runtime for each exported file; one slot per call, and the run's batch. Classical receivers are counted by formula,
    which gives no bytes, so they are scored with estimators from FLOPs alone. Receivers that can be written in C are
    metered as compiled C files, too, and exported LiteRT files in LiteRT. These use one core, and estimates are for
    all, so they are not scored. Tables and scores are written to the run's ``validation`` folder.

    Args:
        run: trained.
        progress: called as windows are metered.
        options: the defaults if not given.

    Raises:
        UserError: if nothing was trained yet, a counter cannot be read, the log does not cover the windows, or
            ``energy.parquet`` is of another version.
    """
    receivers, options = _receivers(run), options or ValidationOptions()
    if run.energy_path.exists():
        run.energy()  # refuses a table of another version before anything is metered
    workloads = _all_workloads(run, receivers, options.compiled)
    workloads += _c_workloads(run, receivers, progress) + _litert_workloads(run, receivers, progress)
    if options.log is None:
        _meter(run, workloads, progress, options.rounds or run.config.metering.rounds, options.allow_model)
    else:
        workloads = _recorded(run, workloads)
    table = _write_table(run, receivers, workloads, options.log)
    if options.log is not None:
        _warn_of_part_of_log(run, receivers, options.log, progress)
    machine = _machine(run)
    unscored = (RECEIVER_RUNTIME, C_RUNTIME, LITERT_RUNTIME)
    scored = [w for w in workloads if w.runtime.partition("-")[0] not in unscored]
    reference = run.config.metering.reference_instrument if options.reference is None else options.reference
    instrument = _score_reference(table, scored, reference, progress)
    classical = [w for w in scored if w.runtime == CLASSICAL_RUNTIME]
    neural = [w for w in scored if w.runtime != CLASSICAL_RUNTIME]
    rows = validation_table(
        [
            *leave_one_out(metered_calls(neural, table, instrument), machine, ESTIMATORS),
            *leave_one_out(metered_calls(classical, table, instrument), machine, FLOP_ESTIMATORS),
        ]
    )
    validation = Validation(rows, scores(rows), compare_instruments(table), instrument)
    _write_validation(run, validation)
    return validation


def _score_reference(
    table: pd.DataFrame, scored: Sequence[Workload], name: str | None, progress: ProgressCallback
) -> str:
    """The instrument that estimates are scored against.

    Args:
        table: the energy of the run.
        scored: workloads with an estimate.
        name: of the instrument that the run or the user names; none for the best one that metered all workloads.
        progress: is warned if that is not the reference instrument of the run.

    Raises:
        UserError: if there is no energy of inference by the named instrument.
    """
    instrument, complete = reference_instrument(table, name), instruments_of(scored, table)
    if name is not None or instrument in complete or not complete:
        return instrument
    remedy = " Give a log of the new windows with --wattmeter." if instrument == WATTMETER else ""
    progress.on_warning(
        f"{instrument} is the run's reference instrument, but did not meter all workloads. The estimates are scored "
        f"against {complete[0]}.{remedy}"
    )
    return complete[0]


def _warn_of_part_of_log(run: Run, receivers: Sequence[Receiver], log: Wattmeter, progress: ProgressCallback) -> None:
    """Name the trainings of which a log covers a part."""
    for receiver in receivers:
        energy = _training_energy(run, receiver) if isinstance(receiver, NeuralReceiver) else None
        coverage = energy.log_coverage(log) if energy is not None else 0.0
        if energy is None or not 0 < coverage < 1:
            continue
        use = (
            "the rest is taken at the same mean power" if energy.by_log(log) else "too little, so it is not used there"
        )
        progress.on_warning(f"{log.name} covers {coverage:.1%} of the training of {receiver.name}: {use}")


def _write_validation(run: Run, validation: Validation) -> None:
    scored = validation.scores.assign(instrument=validation.reference, provenance=validation.provenance)
    for name, part in (("estimates", validation.rows), ("scores", scored), ("instruments", validation.instruments)):
        write_atomic(run.validation_folder / f"{name}.csv", part.to_csv(index=False, lineterminator="\n"))


def _receivers(run: Run) -> list[Receiver]:
    """All receivers that can be built, on the run's device."""
    receivers = [r for r in all_receivers(run, run.config.torch_device()) if r.name not in GENIE_AIDED]
    if not any(isinstance(r, NeuralReceiver) for r in receivers):
        raise UserError(f"{run.folder}: no trained receiver; run: leanrx sweep on its configuration")
    return receivers


def _is_complete(run: Run, receivers: Sequence[Receiver]) -> bool:
    """Whether the table has energy of inference of every receiver as it is now, as configured, on this machine."""
    if not run.energy_path.exists():
        return False
    rows, settings, previous = inference_rows(run.energy()), run.config.metering, _stored_settings(run)
    is_current = previous.cpu_power_w == settings.cpu_power_w and previous.min_duration_s >= settings.min_duration_s
    rows = rows[~rows["estimated"] & (rows["machine"] == _machine(run).name) & is_current]
    rows = rows[(rows["batch_slots"] == settings.batch_slots) & (rows["windows"] >= settings.rounds)]
    return {(r.name, r.digest) for r in receivers} <= set(zip(rows["receiver"], rows["digest"], strict=True))


def _settings_path(run: Run) -> Path:
    return _windows_path(run).with_suffix(".yaml")


def _stored_settings(run: Run) -> MeteringConfig:
    """The settings of the table's rows from this machine; the present ones if they are not known."""
    path = _settings_path(run)
    return MeteringConfig.load(path) if path.exists() else run.config.metering


def _discard_outdated_windows(run: Run) -> None:
    """Remove windows that are shorter than configured now, or were modelled with another power of the CPU."""
    path, settings, previous = _windows_path(run), run.config.metering, _stored_settings(run)
    if path.exists() and previous != settings:
        windows = read_windows(path) if previous.cpu_power_w == settings.cpu_power_w else []
        write_windows(path, [w for w in windows if w.duration_s >= settings.min_duration_s])


def _meter(run: Run, workloads: Sequence[Workload], progress: ProgressCallback, rounds: int, allow_model: bool) -> None:
    metering, device = run.config.metering, run.config.torch_device()
    instruments = available(device, metering.cpu_power_w, allow_model)
    window_s = max(metering.min_duration_s, *(i.shortest_s for i in instruments))
    protocol = MeteringProtocol(min_duration_s=window_s, idle_s=window_s, cool_down_s=window_s / 5, rounds=rounds)
    _discard_outdated_windows(run)
    total, done = len(workloads) * rounds, 0
    for window in meter_workloads(workloads, instruments, protocol, _windows_path(run), cycle_counter()):
        if window.name != IDLE:
            progress.on_metering(window.name, done, total)
            done += 1


def _recorded(run: Run, workloads: Sequence[Workload]) -> list[Workload]:
    """The workloads that have recorded windows."""
    names = {w.name for w in read_windows(_windows_path(run))}
    return [w for w in workloads if w.name in names]


def _write_table(
    run: Run, receivers: Sequence[Receiver], workloads: Sequence[Workload], log: Wattmeter | None
) -> pd.DataFrame:
    """Write ``energy.parquet``. Rows that an earlier session recorded of the same receivers stay.

    A log is joined with the recorded windows. A log that is refused changes no file.
    """
    windows, machine = read_windows(_windows_path(run)), _machine(run)
    if log is not None:
        windows = join_log(windows, log, frozenset(w.name for w in workloads))
    rows = [row for w in workloads for row in workload_rows(w, windows, machine)]
    profiles = operation_profiles(run, list(receivers))
    for receiver in receivers:
        if isinstance(receiver, NeuralReceiver):
            rows += _training_rows(run, receiver, profiles, machine, log)
    table = energy_table(rows)
    if run.energy_path.exists():
        still_valid = _still_valid(run.energy(), table, run.config.metering.batch_slots)
        table = pd.concat([table, still_valid], ignore_index=True)
    if log is not None:
        write_windows(_windows_path(run), windows)
    write_table(run.energy_path, table, ENERGY)
    if log is None:
        write_atomic(_settings_path(run), run.config.metering.to_yaml())
    return table


def _still_valid(old: pd.DataFrame, new: pd.DataFrame, batch_slots: int) -> pd.DataFrame:
    """Rows of the old table that the new one lacks, of receivers, a machine and a batch that have not changed since."""
    old = old[(old["runtime"] == TRAINER_RUNTIME) | old["batch_slots"].isin([1, batch_slots])]
    artefact, key = ["receiver", "digest", "machine"], [*_CALL, "component", "method"]
    unchanged = inference_rows(old)[artefact].merge(inference_rows(new)[artefact])
    rows = old[old["receiver"].isin(unchanged["receiver"])]
    replaced = set(new[key].itertuples(index=False, name=None))
    return rows[[row not in replaced for row in rows[key].itertuples(index=False, name=None)]]


def _all_workloads(run: Run, receivers: Sequence[Receiver], compiled: bool) -> list[Workload]:
    batch = run.config.metering.batch_slots
    neural = [r for r in receivers if isinstance(r, NeuralReceiver)]
    classical = [r for r in receivers if not isinstance(r, NeuralReceiver)]
    return [
        *(w for r in neural for w in _network_workloads(run, r, compiled)),
        *(w for r in receivers for w in _onnx_workloads(run, r)),
        *_receiver_workloads(run, neural, [batch]),
        *_receiver_workloads(run, classical, sorted({1, batch})),
    ]


def _receiver_workloads(run: Run, receivers: Sequence[Receiver], batches: Sequence[int]) -> list[Workload]:
    """Whole receivers, from slots to LLRs."""
    scenario = run.config.scenario
    workloads = []
    for batch in batches:
        slots = _stream(run, batch).block(0)
        for receiver in receivers:
            profile = count(receiver, scenario.grid, num_bits=scenario.bits_per_symbol, batch_slots=batch)
            workloads.append(receiver_workload(receiver, slots, profile))
    return workloads


def _network_workloads(run: Run, receiver: NeuralReceiver, compiled: bool) -> list[Workload]:
    """The network of a receiver on features in torch, and a training step."""
    name = receiver.name
    inputs = receiver.net.features(_stream(run, run.config.metering.batch_slots).block(0))
    batches = [inputs[:n] for n in sorted({1, len(inputs)})]
    workloads = [network_workload(receiver.net, name, x) for x in batches]
    workloads += [network_workload(receiver.net, name, x, compiled=True) for x in batches if compiled]
    return [*workloads, training_workload(receiver.net, name, inputs)]


def _onnx_workloads(run: Run, receiver: Receiver) -> list[Workload]:
    """The exported ONNX files of a receiver, one slot a call and the run's batch; none on a GPU."""
    files = exported_files(run, receiver) if run.config.torch_device() == "cpu" else []
    slots = [_stream(run, n).block(0) for n in sorted({1, run.config.metering.batch_slots})] if files else []
    return [onnx_workload(path, receiver.name, x) for path in files for x in slots]


def _c_workloads(run: Run, receivers: Sequence[Receiver], progress: ProgressCallback) -> list[Workload]:
    """Receivers as compiled C files, one slot a call; none on a GPU, nor without a C compiler, which is said."""
    is_wanted = run.config.metering.c_files and run.config.torch_device() == "cpu"
    writable = [r for r in receivers if is_wanted and has_c_form(r)]
    if not writable:
        return []
    try:
        find_compiler()
    except UserError as error:
        progress.on_warning(f"no C file is metered; {error}")
        return []
    workloads = []
    for receiver in writable:
        try:
            workloads.append(_c_workload(run, receiver))
        except UserError as error:
            progress.on_warning(f"{receiver.name} is not metered in C; {error}")
    return workloads


def _c_workload(run: Run, receiver: Receiver) -> Workload:
    """A receiver as a C file, compiled with the flags of its build line for this machine."""
    scenario = run.config.scenario
    profile = count(receiver, scenario.grid, num_bits=scenario.bits_per_symbol, batch_slots=1)
    with tempfile.TemporaryDirectory() as work:
        for name, text in c_sources(receiver, scenario.grid).items():
            (Path(work) / name).write_text(text)
        file = open_exported(Path(work) / f"{file_name(receiver)}.c", work)
        return c_workload(file, receiver, _stream(run, 1).block(0), profile)


def _litert_workloads(run: Run, receivers: Sequence[Receiver], progress: ProgressCallback) -> list[Workload]:
    """The run's LiteRT files, one slot a call; none on a GPU, nor without LiteRT, which is said."""
    scenario, workloads = run.config.scenario, []
    for receiver in receivers if run.config.torch_device() == "cpu" else []:
        profile = count(receiver, scenario.grid, num_bits=scenario.bits_per_symbol, batch_slots=1)
        for path in exported_files(run, receiver, "litert"):
            try:
                workloads.append(litert_workload(path, receiver, _stream(run, 1).block(0), profile))
            except UserError as error:
                progress.on_warning(f"{path.name} is not metered; {error}")
    return workloads


def _training_rows(
    run: Run,
    receiver: NeuralReceiver,
    profiles: dict[str, OperationProfile],
    machine: Device,
    log: Wattmeter | None,
) -> list[EnergyRow]:
    training, energy = receiver.card.training, _training_energy(run, receiver)
    if energy is None:
        return []
    flops = TRAINING_FACTOR * profiles[receiver.name].flops
    for teacher, slots in training.get("teacher_slots", {}).items():
        if teacher in profiles:  # genie-aided teachers have no operations
            flops += round(profiles[teacher].flops * slots / training["slots"])
    steps, batch_slots = training["steps"], training["batch_slots"]
    return training_rows(receiver.name, receiver.digest, energy, steps, batch_slots, flops, machine, log)


def _training_energy(run: Run, receiver: NeuralReceiver) -> TrainingEnergy | None:
    """Energy of the training that made a receiver, from its card; none if it was not metered."""
    energy = receiver.card.training.get("energy")
    return None if energy is None else TrainingEnergy.from_json(energy, str(run.receivers_folder / receiver.name))


def _windows_path(run: Run) -> Path:
    """The recorded windows of this machine."""
    machine = re.sub(r"[^A-Za-z0-9]+", "-", _machine(run).name).strip("-")
    return run.metering_folder / f"windows-{machine}.jsonl"


def _stream(run: Run, batch_slots: int) -> SlotStream:
    device = run.config.torch_device()
    return SlotStream(run.config.scenario, run.config.seed, batch_slots, "test", device, "metering")


def _machine(run: Run) -> Device:
    """The device that estimates are made for: the one that the run's receivers run on."""
    device = run.config.torch_device()
    if device != "cpu":
        return gpu(torch.device(device).index or 0)
    return host(run.config.metering.cpu_power_w)
