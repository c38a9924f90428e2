"""The steps of a run: check, train, evaluate, merge. A step keeps existing results.

Metering is in :mod:`leanrx.experiment.energy_metering`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch

from channels import NUM_SYMBOLS, SlotStream, Stream
from channels.dataset import DatasetStream
from distillation.distributed import current
from distillation.job import Job, check_fit
from distillation.objective import Objective
from distillation.teachers import Teacher
from distillation.trainer import DivergenceError, train
from energy.counting.counter import count
from energy.counting.profile import OperationProfile
from energy.counting.torch_net import check_countable
from energy.metering.training import TrainingMeter
from leanrx.experiment.artefacts import check_counts, check_receivers
from leanrx.experiment.plan import Plan, ReceiverRecord, TrainingGroup
from leanrx.experiment.progress import ProgressCallback, StepCallback
from leanrx.experiment.run import Run, previous_config
from leanrx.experiment.sweep_config import SweepConfig
from leanrx_core.errors import UserError
from receivers.base import Receiver
from receivers.classical import GENIE_AIDED, classical_receivers
from receivers.evaluation.merge import merge_counts
from receivers.evaluation.monte_carlo import ALL_BLOCKS, Shard, count_errors, sinr_range_warnings
from receivers.evaluation.stopping import Evaluation
from receivers.neural.registry import build
from receivers.neural.trained_range import condition_warnings
from receivers.neural.weights import Card, NeuralReceiver, save
from receivers.zoo import load

MIN_SLOTS_OF_WORKERS = 4_000
"""Test slots of a sweep below which processes are not worth their start."""


def check_run(run: Run, only: str | None = None) -> None:
    """Check that a run can be trained and tested as configured. Nothing is written, and its folder may be missing.

    Args:
        run: its folder and configuration.
        only: train this receiver and its teachers only.

    Raises:
        UserError: as :func:`leanrx.experiment.plan.build_plan`; if ``only`` is not in the run; if the device is not
            available, a network has no such module for feature transfer or cannot be counted, a pretrained teacher does
            not fit, the scenario has no such test point, or a dataset lacks slots; if a file in the folder is damaged
            or belongs to another configuration.
    """
    config, plan = run.config, run.plan if only is None else run.plan.subset(only)
    device, previous = config.torch_device(), previous_config(run)
    check_receivers(run, previous)
    for record in plan.neural:
        _pretrained(run, record)
    pending = [record for group in pending_groups(run, only) for record in group]
    for training in {record.training for record in pending if config.dataset.train and record.training}:
        assert config.dataset.train is not None
        DatasetStream(config.dataset.train).require(config.scenario, "train", training.batch_slots)
    check_counts(run, run.ber_path, _test_stream(run, config.evaluation, device), previous)
    _check_transfers(run)
    _check_operations(config, plan)


def _check_operations(config: SweepConfig, plan: Plan) -> None:
    """Check that the operations of all networks can be counted."""
    for spec, record in {record.spec: record for record in plan.neural}.items():
        net, grid = _untrained(config, record).net, config.scenario.grid
        inputs = torch.empty(1, net.input_channels(grid.num_rx), NUM_SYMBOLS, grid.num_subcarriers, device="meta")
        check_countable(net, inputs, name=spec)


def check_artefacts(run: Run) -> None:
    """Check that the receivers and error counts of an existing run belong to its configuration.

    Raises:
        UserError: as :func:`leanrx.experiment.artefacts.check_receivers` and
            :func:`leanrx.experiment.artefacts.check_counts`.
    """
    check_receivers(run)
    folder = run.config.dataset.test
    if folder is None or Path(folder).is_dir():  # without its dataset, a run can still be reported
        stream = _test_stream(run, run.config.evaluation, run.config.torch_device())
        check_counts(run, run.ber_path, stream)


def _check_transfers(run: Run) -> None:
    """Check that the modules of feature transfers exist."""
    config, plan = run.config, run.plan
    genies = {r.name: r for r in classical_receivers(config.scenario) if r.name in GENIE_AIDED}
    for record in plan.neural:
        if record.distillation and record.distillation.transfers:
            paths = [transfer.teacher for transfer in record.distillation.transfers]
            teachers = [genies[n] if n in genies else _untrained(config, plan[n]) for n in record.teachers]
            Objective(record.distillation, _untrained(config, record).net, [Teacher(r, paths) for r in teachers])


def _untrained(config: SweepConfig, record: ReceiverRecord) -> NeuralReceiver:
    """A receiver of the right architecture with initial weights."""
    scenario = config.scenario
    card = Card(
        name=record.name,
        receiver=record.spec,
        role=record.role,
        num_rx=scenario.grid.num_rx,
        num_bits=scenario.num_bits,
        parameters=0,
        scenario=scenario.name,
        channels=tuple(scenario.channels.train),
        trained_sinr_db=scenario.training_sinr_db,
        seed=record.seed,
        training={},
    )
    return NeuralReceiver(build(card.receiver, card.num_rx, card.num_bits), card)


def train_all(run: Run, progress: ProgressCallback, only: str | None = None) -> dict[str, str]:
    """Train the teachers, the students and the scratch baselines.

    Args:
        run: its folder and configuration.
        progress: receives the progress.
        only: train this receiver and its teachers only.

    Returns:
        the receivers that have no weights because their training diverged, or that of a teacher, with the reason. All
        others are trained.

    Raises:
        UserError: as :func:`check_run`, or if a training fails for another reason.
    """
    groups = begin_training(run, progress, only)
    return train_groups(run, groups, progress).report(progress)


def train_groups(run: Run, groups: Sequence[TrainingGroup], progress: ProgressCallback) -> TrainingFailures:
    """Train groups one after the other in this process.

    Raises:
        UserError: if a training fails for another reason than divergence.
    """
    failures = TrainingFailures()
    meter = training_meter(run.config) if groups else None
    for group in groups:
        trainable = failures.without_dependents(group)
        if trainable:
            try:
                train_group(run, trainable, progress.on_training, meter)
            except DivergenceError as error:
                failures.add(trainable, run.names_with_weights(), error)
    return failures


class TrainingFailures:
    """The receivers of a run whose training diverged, and those that are distilled from them.

    Attributes:
        reasons: one sentence by receiver.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def add(self, group: TrainingGroup, complete: Collection[str], error: DivergenceError) -> None:
        """Add the receivers of a group that are not complete."""
        self.reasons |= {r.name: str(error) for r in group if r.name not in complete}

    def without_dependents(self, group: TrainingGroup) -> TrainingGroup:
        """The group without the students of a failed teacher, which fail too."""
        for record in group:
            teacher = next((t for t in record.teachers if t in self.reasons), None)
            if teacher is not None:
                self.reasons[record.name] = f"{record.name}: not trained, because its teacher {teacher} diverged"
        return tuple(r for r in group if r.name not in self.reasons)

    def report(self, progress: ProgressCallback) -> dict[str, str]:
        """Warn of all failures, and return them."""
        for text in dict.fromkeys(self.reasons.values()):
            progress.on_warning(text)
        return self.reasons


def begin_training(run: Run, progress: ProgressCallback, only: str | None = None) -> list[TrainingGroup]:
    """Check a run, import its pretrained teachers, and return the groups that are still to be trained.

    Raises:
        UserError: as :func:`check_run`.
    """
    check_run(run, only)
    plan = run.plan if only is None else run.plan.subset(only)
    import_pretrained(run, plan)
    complete = run.names_with_weights()
    for record in plan.neural:
        if record.name in complete:
            progress.on_skipped(record.name)
    return pending_groups(run, only)


def pending_groups(run: Run, only: str | None = None) -> list[TrainingGroup]:
    """The training groups without the receivers that are trained already.

    Raises:
        UserError: if ``only`` is not in the run; if a trained receiver is damaged; if torchrun started this process and
            a student is pending.
    """
    plan = run.plan if only is None else run.plan.subset(only)
    complete = run.names_with_weights()
    for name in sorted(complete):
        run.receiver(name)
    groups = [tuple(r for r in group if r.name not in complete) for group in plan.training_groups()]
    student = next((record.name for group in groups for record in group if record.teachers), None)
    if student is not None and current().size > 1:
        raise UserError(
            f"torchrun: trains teachers and scratch baselines only, and {student} is a student; run 'train CONFIG "
            "teacher' with torchrun, and the rest without it"
        )
    return [group for group in groups if group]


def training_meter(config: SweepConfig, num_trainings: Callable[[], int] = lambda: 1) -> TrainingMeter:
    """The instruments that meter the trainings of a run; ``num_trainings`` share the machine."""
    return TrainingMeter.of_device(config.torch_device(), config.metering.cpu_power_w, num_trainings)


def train_group(
    run: Run,
    group: Sequence[ReceiverRecord],
    on_training: Callable[[Sequence[Job]], StepCallback],
    meter: TrainingMeter | None,
) -> None:
    """Train receivers on one stream of slots; their teachers must be complete.

    Args:
        run: its folder and configuration.
        group: the receivers.
        on_training: as :meth:`ProgressCallback.on_training`.
        meter: as of :func:`distillation.trainer.train`.

    Raises:
        UserError: as :func:`distillation.trainer.train`.
    """
    device = run.config.torch_device()
    jobs = make_jobs(run, group, device)
    train(jobs, run.folder, device, meter, on_training(jobs))


def make_jobs(run: Run, group: Sequence[ReceiverRecord], device: str) -> list[Job]:
    """The training jobs of a group, with loaded teachers."""
    genies = {r.name: r for r in classical_receivers(run.config.scenario, device) if r.name in GENIE_AIDED}
    names = {teacher for record in group for teacher in record.teachers}
    teachers = {n: genies[n] if n in genies else run.receiver(n, device) for n in names}
    return [make_job(run.config, record, [teachers[t] for t in record.teachers]) for record in group]


def make_job(config: SweepConfig, record: ReceiverRecord, teachers: Sequence[Receiver] = ()) -> Job:
    """The training job of one receiver."""
    assert record.training is not None, "a trained receiver has training settings"
    assert record.seed is not None, "a trained receiver has a seed"
    return Job(
        name=record.name,
        role=record.role,
        receiver=record.spec,
        scenario=config.scenario,
        training=record.training,
        seed=record.seed,
        distillation=record.distillation,
        teachers=tuple(teachers),
        dataset=config.dataset.train,
    )


def import_pretrained(run: Run, plan: Plan) -> None:
    """Copy the pretrained teachers of a plan into the run.

    Raises:
        UserError: if a receiver has another spec string or another scenario than the configuration says.
    """
    for record in plan.neural:
        receiver = _pretrained(run, record)
        if receiver is not None:
            card = receiver.card.model_copy(update={"name": record.name, "role": "teacher"})
            save(run.receivers_folder / record.name, receiver.net, card)


def _pretrained(run: Run, record: ReceiverRecord) -> NeuralReceiver | None:
    """The pretrained receiver of a teacher that the run has not yet; none for other records."""
    config = run.config
    folder = config.teacher.pretrained.get(record.spec)
    if record.role != "teacher" or folder is None or record.name in run.names_with_weights():
        return None
    try:
        receiver = load(folder)
        if receiver.card.receiver != record.spec:
            raise UserError(f"{folder} is {receiver.card.receiver}, not {record.spec}; name another receiver")
        check_fit(receiver, config.scenario, record.name)
    except UserError as error:
        raise UserError(f"teacher.pretrained: {error}") from None
    return receiver


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(run: Run) -> int:
    """Processes that count the errors of a sweep: one per core, or this one alone if there is little to count."""
    evaluation = run.config.evaluation
    slots = len(evaluation.sinr_db) * len(evaluation.interference_fractions) * evaluation.min_slots
    on_cpu = torch.device(run.config.torch_device()).type == "cpu"
    return num_cores() if on_cpu and slots >= MIN_SLOTS_OF_WORKERS else 1


def evaluate_all(
    run: Run,
    progress: ProgressCallback,
    evaluation: Evaluation | None = None,
    workers: int = 1,
    shard: Shard | None = None,
) -> Path:
    """Count the errors of all receivers, classical and neural, on the same test slots.

    Args:
        run: its folder and configuration.
        progress: receives the progress.
        evaluation: other points than those of the configuration; their counts join the run's table.
        workers: number of processes that count.
        shard: count only this part of the blocks, into a table of its own.

    Returns:
        the path of the table of counts.

    Raises:
        UserError: if nothing is trained yet, or a dataset lacks slots.
    """
    evaluation = evaluation or run.config.evaluation
    device = run.config.torch_device()
    receivers = all_receivers(run, device)
    path = run.shard_path(shard) if shard else run.ber_path
    warnings = sinr_range_warnings(receivers, evaluation) + condition_warnings(receivers, run.config.scenario)
    for warning in warnings:
        progress.on_warning(warning)
    stream = _test_stream(run, evaluation, device)
    check_counts(run, path, stream)
    states = count_errors(receivers, stream, evaluation, path, workers, shard or ALL_BLOCKS)
    progress.on_evaluation(states, [r.name for r in receivers])
    return path


def _test_stream(run: Run, evaluation: Evaluation, device: str) -> Stream:
    """Test slots, simulated or from a dataset."""
    config = run.config
    stream: Stream
    if config.dataset.test is None:
        stream = SlotStream(config.scenario, config.seed, evaluation.block_slots, "test", device)
        _check_points(stream, evaluation)
        return stream
    stream = DatasetStream(config.dataset.test, device).require(config.scenario, "test", evaluation.block_slots)
    _check_points(stream, evaluation)
    if evaluation.max_slots > stream.dataset.num_blocks * stream.block_slots:
        raise UserError(
            f"evaluation.max_slots: {evaluation.max_slots} is more than the {stream.dataset.num_blocks} blocks of "
            f"{stream.block_slots} slots per point in {config.dataset.test}; lower it or write a longer dataset"
        )
    return stream


def _check_points(stream: Stream, evaluation: Evaluation) -> None:
    """Check that a stream has all test points."""
    for fraction in evaluation.interference_fractions:
        for sinr_db in evaluation.sinr_db:
            try:
                stream.at_sinr(sinr_db, fraction)
            except UserError as error:
                raise UserError(f"evaluation: {error}") from None


def merge_shards(run: Run, parts: Sequence[Path] = ()) -> list[tuple[float, float]]:
    """Join the counts of shards into the run's table.

    Args:
        run: its folder and configuration.
        parts: tables of shards, or their folders; by default those below the run's ``shards`` folder.

    Returns:
        interference fraction and SINR of points that still lack blocks; ``leanrx evaluate`` counts them.

    Raises:
        UserError: if a part does not belong to this run, see :func:`receivers.evaluation.merge.merge_counts`.
    """
    evaluation = run.config.evaluation
    stream = _test_stream(run, evaluation, "cpu")
    tables = [p / "ber.parquet" if p.is_dir() else p for p in parts] or sorted(run.folder.glob("shards/*/ber.parquet"))
    return merge_counts(all_receivers(run, "cpu"), stream, evaluation, run.ber_path, tables)


def all_receivers(run: Run, device: str) -> list[Receiver]:
    """The classical receivers, then the trained receivers of the run.

    Raises:
        UserError: if nothing is trained yet.
    """
    names = run.receiver_names()
    if not names:
        raise UserError(f"{run.folder}: no trained receiver; run: leanrx sweep on its configuration")
    check_receivers(run)
    return [*classical_receivers(run.config.scenario, device), *(run.receiver(n, device) for n in names)]


def operation_profiles(run: Run, receivers: list[Receiver]) -> dict[str, OperationProfile]:
    """Operations on one slot, by receiver name.

    Raises:
        UserError: if an operator of a network is not known, or two counts of it contradict each other.
    """
    grid, bits = run.config.scenario.grid, run.config.scenario.bits_per_symbol
    profiles = {r.name: count(r, grid, num_bits=bits) for r in receivers}
    for profile in profiles.values():
        profile.check_agreement()
    return profiles
