"""The main job, step by step: train, evaluate, meter, eCAL. Every step skips what is already there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Protocol

import pandas as pd
import torch

from channels import SlotStream, Stream, UserError
from channels.dataset import RecordedStream
from channels.records import write_atomic
from distillation.cohort import StepState, train
from distillation.lifecycle import Ledger
from distillation.plan import Cohort, Planned, ancestors, cohorts, planned
from distillation.ranks import current
from distillation.runs import Run
from distillation.settings import Ecal, Sweep
from distillation.training import Job, check_fit
from energy.account import TRAINING_FACTOR, EnergyRow, inference_rows, training_rows
from energy.agreement import draw, leave_one_out, scores, table
from energy.campaign import (
    Subject,
    meter_subjects,
    module_subject,
    observed,
    onnx_subject,
    read_windows,
    training_subject,
)
from energy.devices import Device, gpu, host
from energy.instruments import Instrument, Nvml, Wattmeter, available
from energy.meter import Meter, Reading
from energy.operations import OperationCount, count, count_classical
from energy.window import Protocol as Metering
from energy.window import with_log
from receivers.ber import WHOLE, Evaluation, PointState, Shard, count_errors, out_of_range
from receivers.ber import merge as merge_counts
from receivers.classical import BOUNDS, classical_receivers
from receivers.protocol import Receiver
from receivers.weights import NeuralReceiver, load, save


class Watcher(Protocol):
    """What wants to know how a run proceeds (the console does)."""

    def training(self, jobs: Sequence[Job]) -> Callable[[Job, StepState], None]: ...
    def skipped(self, name: str) -> None: ...
    def counting(self, states: Iterator[PointState], receivers: list[str]) -> None: ...
    def metering(self, name: str, index: int, total: int) -> None: ...
    def warn(self, text: str) -> None: ...


def train_all(run: Run, watcher: Watcher, only: str | None = None) -> None:
    """Train the teachers, every student and every twin, or ``only`` one of them and those it listens to.

    Raises:
        UserError: if ``only`` is not in the run, a teacher that is trained already does not fit, or a training fails by
            its settings.
    """
    left = unfinished(run, watcher, only)
    listener = next((p.name for cohort in left for p in cohort if p.teachers), None)
    if listener is not None and current().size > 1:
        raise UserError(
            f"torchrun: trains a teacher or a twin, and {listener} is a student; write: train CONFIG teacher, and "
            "train the others without torchrun"
        )
    meter = Meter(run.config.metering.cpu_power_w) if left else None
    for cohort in left:
        train_cohort(run, cohort, watcher.training, meter)


def unfinished(run: Run, watcher: Watcher, only: str | None = None) -> list[Cohort]:
    """What is to be trained, in cohorts, each after those that it listens to; what was trained elsewhere is taken.

    Raises:
        UserError: if ``only`` is not in the run, or a teacher that is trained already does not fit.
    """
    plan = planned(run.config)
    if only is not None:
        if only not in [p.name for p in plan]:
            raise UserError(f"receiver: no '{only}' in this run; there are: {', '.join(p.name for p in plan)}")
        wanted = {only, *(p.name for p in ancestors(only, plan))}
        plan = [p for p in plan if p.name in wanted]
    take_trained(run, plan)
    done = set(run.receiver_names())
    for entry in plan:
        if entry.name in done:
            watcher.skipped(entry.name)
    left = [tuple(p for p in cohort if p.name not in done) for cohort in cohorts(plan)]
    return [cohort for cohort in left if cohort]


def train_cohort(
    run: Run,
    cohort: Sequence[Planned],
    announce: Callable[[Sequence[Job]], Callable[[Job, StepState], None]],
    meter: Meter | None,
) -> None:
    """Train receivers whose teachers are complete, on one stream.

    Args:
        run: its folder and configuration.
        cohort: the receivers.
        announce: as :meth:`Watcher.training`.
        meter: as of :func:`distillation.cohort.train`.

    Raises:
        UserError: as :func:`distillation.cohort.train`.
    """
    config, device = run.config, run.config.torch_device()
    bounds = {r.name: r for r in classical_receivers(config.scenario, device) if r.name in BOUNDS}
    names = {t for entry in cohort for t in entry.teachers}
    teachers = {n: bounds[n] if n in bounds else run.receiver(n, device) for n in names}
    jobs = [job(config, entry, [teachers[t] for t in entry.teachers]) for entry in cohort]
    train(jobs, run.folder, device, meter, announce(jobs))


def job(config: Sweep, entry: Planned, teachers: Sequence[Receiver] = ()) -> Job:
    """What a receiver's training is to do."""
    return Job(
        name=entry.name, role=entry.role, receiver=entry.receiver, scenario=config.scenario,
        training=entry.training, seed=entry.seed, distillation=entry.distillation, teachers=tuple(teachers),
        recorded=config.recorded.train,
    )  # fmt: skip


def take_trained(run: Run, plan: Sequence[Planned]) -> None:
    """Copy teachers that were trained elsewhere into the run.

    Raises:
        UserError: if one is another receiver than its spec string says, or of another scenario.
    """
    config = run.config
    for entry in plan:
        folder = config.teacher.trained.get(entry.receiver)
        if entry.role != "teacher" or folder is None or entry.name in run.receiver_names():
            continue
        receiver = load(folder)
        if receiver.card.receiver != entry.receiver:
            raise UserError(f"teacher.trained: {folder} is {receiver.card.receiver}, not {entry.receiver}")
        check_fit(receiver, config.scenario, entry.name)
        save(
            run.receivers_folder / entry.name, receiver.net,
            receiver.card.model_copy(update={"name": entry.name, "role": "teacher"}),
        )  # fmt: skip


def evaluate(
    run: Run, watcher: Watcher, evaluation: Evaluation | None = None, workers: int = 1, shard: Shard | None = None
) -> Path:
    """Count errors of all receivers, learned and classical, on the same test slots.

    Args:
        evaluation: other points than the run's configuration; their counts join the run's table.
        workers: processes that count side by side.
        shard: count this part of the blocks alone, into a table of its own.

    Returns:
        the table of counts.
    """
    evaluation = evaluation or run.config.evaluation
    device = run.config.torch_device()
    receivers = all_receivers(run, device)
    path = run.shard_path(shard) if shard else run.ber_path
    for warning in out_of_range(receivers, evaluation):
        watcher.warn(warning)
    stream = _test_stream(run, evaluation, device)
    states = count_errors(receivers, stream, evaluation, path, workers, shard or WHOLE)
    watcher.counting(states, [r.name for r in receivers])
    return path


def _test_stream(run: Run, evaluation: Evaluation, device: str) -> Stream:
    """Test slots, made or recorded."""
    config = run.config
    if config.recorded.test is None:
        return SlotStream(config.scenario, config.seed, evaluation.block_slots, "test", device)
    stream = RecordedStream(config.recorded.test, device).serve(config.scenario, "test", evaluation.block_slots)
    for share in evaluation.interference_shares:
        for sinr_db in evaluation.sinr_db:
            stream.at_sinr(sinr_db, share)
    if evaluation.max_slots > stream.dataset.num_blocks * stream.block_slots:
        raise UserError(
            f"evaluation.max_slots: {evaluation.max_slots} is more than the {stream.dataset.num_blocks} blocks of "
            f"{stream.block_slots} slots per point in {config.recorded.test}; lower it or write a longer dataset"
        )
    return stream


def merge(run: Run, parts: Sequence[Path] = ()) -> list[tuple[float, float]]:
    """Join the counts of shards into the run's table.

    Args:
        parts: tables of shards, or their folders; without any, those below the run's ``shards`` folder.

    Returns:
        interference share and SINR of points that still miss blocks; ``leanrx evaluate`` counts them.

    Raises:
        UserError: if a part does not belong to this run, see :func:`receivers.ber.merge`.
    """
    evaluation = run.config.evaluation
    stream = _test_stream(run, evaluation, "cpu")
    tables = [p / "ber.parquet" if p.is_dir() else p for p in parts] or sorted(run.folder.glob("shards/*/ber.parquet"))
    return merge_counts(all_receivers(run, "cpu"), stream, evaluation, run.ber_path, tables)


def all_receivers(run: Run, device: str) -> list[Receiver]:
    """Classical receivers, then the learned ones of the run.

    Raises:
        UserError: if nothing was trained yet.
    """
    names = run.receiver_names()
    if not names:
        raise UserError(f"{run.folder}: no trained receiver; run: leanrx sweep on its configuration")
    return [*classical_receivers(run.config.scenario, device), *(run.receiver(n, device) for n in names)]


def operations(run: Run, receivers: list[Receiver]) -> dict[str, OperationCount]:
    """Operation counts by receiver name.

    Raises:
        UserError: if the two counters disagree on a network.
    """
    grid, bits = run.config.scenario.grid, run.config.scenario.bits_per_symbol
    counts = {
        r.name: count(r.net, grid, r.name) if isinstance(r, NeuralReceiver) else count_classical(r.name, grid, bits)
        for r in receivers
    }
    for c in counts.values():
        if not c.agreed:
            raise UserError(f"{c.name}: fvcore counts {c.flops} FLOPs, torch {c.witness_flops}; see leanrx count")
    return counts


def meter_all(run: Run, watcher: Watcher) -> None:
    """Meter and estimate inference of every receiver that can be built, and account for training; resumes.

    Perfect CSI is nothing that a receiver can have, so those that do have no energy.

    Raises:
        UserError: if nothing was trained yet, or the device's clock and power cannot be read.
    """
    config, device = run.config, run.config.torch_device()
    machine = _machine(run, device)
    receivers = [r for r in all_receivers(run, device) if r.name not in BOUNDS]
    counts = operations(run, receivers)
    rows = [r for r in _known_rows(run, {r.name: r.digest for r in receivers}) if r.machine == machine.name]
    todo = [r for r in receivers if not any(row.receiver == r.name for row in rows)]
    if not todo:
        return
    stream = SlotStream(config.scenario, config.seed, config.metering.batch_slots, "test", device, "metering")
    slots = stream.block(0)
    meter = Meter(config.metering.cpu_power_w)
    for index, receiver in enumerate(todo):
        watcher.metering(receiver.name, index, len(todo))
        new = inference_rows(
            counts[receiver.name], receiver.digest, partial(receiver, slots), len(slots), meter, machine,
            config.metering.min_duration_s,
        )  # fmt: skip
        if isinstance(receiver, NeuralReceiver):
            new += _training_rows(receiver, counts, machine)
        rows += new
        write_atomic(run.energy_path, pd.DataFrame([asdict(r) for r in rows]).to_parquet())


def agree_all(
    run: Run, watcher: Watcher, rounds: int = 3, compiled: bool = False, log: Wattmeter | None = None
) -> pd.DataFrame:
    """Meter every learned receiver in every runtime, for inference and a training step, and score the estimators.

    Runtimes are eager, compiled if asked for, and ONNX Runtime for each exported file; one slot a call, and the run's
    batch. Windows are kept in ``agreement/windows.jsonl``; the table, scores and figures beside it are made from them.

    Args:
        rounds: windows per call.
        log: of a wattmeter that saw all windows; its joules then are the measurement.

    Returns:
        scores, see :func:`energy.agreement.scores`.

    Raises:
        UserError: if nothing was trained yet, a counter cannot be read, or the log does not cover the windows.
    """
    config, device = run.config, run.config.torch_device()
    machine, folder = _machine(run, device), run.agreement_folder
    subjects = [
        s for name in run.receiver_names() for s in _subjects(run, run.receiver(name, device), device, compiled)
    ]  # fmt: skip
    if not subjects:
        raise UserError(f"{run.folder}: no trained receiver; run: leanrx sweep on its configuration")
    instruments = _instruments(config.metering.cpu_power_w, device)
    window_s = max(config.metering.min_duration_s, *(i.shortest_s for i in instruments))
    protocol = Metering(min_duration_s=window_s, idle_s=window_s, cool_down_s=window_s / 5, rounds=rounds)
    path = folder / "windows.jsonl"
    names, total = [s.name for s in subjects], len(subjects) * rounds
    done = 0
    for window in meter_subjects(subjects, instruments, protocol, path):
        if window.name in names:
            watcher.metering(window.name, done, total)
            done += 1
    windows = read_windows(path)
    if log is not None:
        windows = with_log(windows, log)
    instrument = windows[-1].joules[-1].instrument if log is not None else instruments[-1].name
    rows = table(leave_one_out(observed(subjects, windows, instrument), machine))
    found = scores(rows)
    write_atomic(folder / "agreement.csv", rows.to_csv(index=False, lineterminator="\n"))
    write_atomic(folder / "scores.csv", found.assign(instrument=instrument).to_csv(index=False, lineterminator="\n"))
    shown = [e for e in ("FLOPs/clock", "FLOPs/clock, fitted", "roofline, fitted") if e in set(rows["estimator"])]
    for quantity, name in (("s", "time"), ("j", "energy")):
        for kind, data in draw(rows, shown, quantity).items():
            write_atomic(folder / f"agreement-{name}.{kind}", data)
    return found


def _instruments(cpu_power_w: float | None, device: str) -> list[Instrument]:
    """Those that see the device; a GPU is metered by its own counter alone."""
    return available(cpu_power_w) if device == "cpu" else [Nvml(torch.device(device).index or 0)]


def _subjects(run: Run, receiver: NeuralReceiver, device: str, compiled: bool) -> list[Subject]:
    config, name = run.config, receiver.name
    stream = SlotStream(config.scenario, config.seed, config.metering.batch_slots, "test", device, "metering")
    inputs = receiver.net.features(stream.block(0))
    batches = [inputs[:n] for n in sorted({1, len(inputs)})]
    exported = sorted((run.folder / "exports" / name).glob("*.onnx")) if device == "cpu" else []
    found = [module_subject(receiver.net, name, x) for x in batches]
    found += [module_subject(receiver.net, name, x, compiled=True) for x in batches if compiled]
    found += [onnx_subject(path, name, x) for path in exported for x in batches]
    return [*found, training_subject(receiver.net, name, inputs)]


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


def _training_rows(receiver: NeuralReceiver, counts: dict[str, OperationCount], device: Device) -> list[EnergyRow]:
    training = receiver.card.training
    if training.get("energy") is None:
        return []
    flops = TRAINING_FACTOR * counts[receiver.name].flops
    for teacher, slots in training.get("teacher_slots", {}).items():
        if teacher in counts:  # bounds have no operations
            flops += round(counts[teacher].flops * slots / training["slots"])
    return training_rows(
        receiver.name, receiver.digest, Reading(**training["energy"]), training["steps"], training["batch_slots"],
        flops, device,
    )  # fmt: skip


def ecal_all(run: Run, settings: Ecal | None = None) -> Ledger:
    """Write ``ecal.json``: the life cycle of every receiver, from metered and from estimated energy.

    Args:
        settings: other than the run's own.

    Raises:
        UserError: if the run was not evaluated or metered yet.
    """
    ledger = Ledger(run, settings)
    write_atomic(run.ecal_path, json.dumps(ledger.as_json(), indent=2) + "\n")
    return ledger
