"""The main job, step by step: train, evaluate, eCAL (and :mod:`leanrx.experiment.energy_metering`). Steps skip what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from channels import SlotStream, Stream
from channels.dataset import DatasetStream
from distillation.distributed import current
from distillation.job import Job, check_fit
from distillation.objective import Objective
from distillation.teachers import Teacher
from distillation.trainer import StepState, train
from energy.counting.counter import count
from energy.counting.profile import OperationProfile
from energy.metering.meter import Meter
from leanrx.experiment.plan import Plan, ReceiverRecord, TrainingGroup
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import SweepConfig
from leanrx_core.errors import UserError
from receivers.base import Receiver
from receivers.classical import GENIE_AIDED, classical_receivers
from receivers.evaluation.merge import merge_counts
from receivers.evaluation.monte_carlo import ALL_BLOCKS, PointState, Shard, count_errors, sinr_range_warnings
from receivers.evaluation.stopping import Evaluation
from receivers.neural.registry import build
from receivers.neural.weights import Card, NeuralReceiver, save
from receivers.zoo import load


class ProgressCallback(Protocol):
    """What wants to know how a run proceeds (the console does)."""

    def training(self, jobs: Sequence[Job]) -> Callable[[Job, StepState], None]: ...
    def skipped(self, name: str) -> None: ...
    def counting(self, states: Iterator[PointState], receivers: list[str]) -> None: ...
    def metering(self, name: str, index: int, total: int) -> None: ...
    def warn(self, text: str) -> None: ...


def check(run: Run) -> None:
    """Whether a run can be trained and tested as it is configured; nothing is written, and its folder may be missing.

    Raises:
        UserError: as :func:`leanrx.experiment.plan.build_plan`; if the device is not there, a module to follow is not there, a
            teacher that is trained already does not fit, or a dataset does not hold what is wanted.
    """
    config = run.config
    config.torch_device()
    plan = run.plan
    for entry in plan.neural:
        _trained(run, entry)
    if config.dataset.train is not None:
        for training in {training for entry in plan if (training := entry.training)}:
            DatasetStream(config.dataset.train).require(config.scenario, "train", training.batch_slots)
    _test_stream(run, config.evaluation, "cpu")
    bounds = {r.name: r for r in classical_receivers(config.scenario) if r.name in GENIE_AIDED}
    for entry in plan.neural:
        if entry.distillation and entry.distillation.transfers:
            paths = [transfer.teacher for transfer in entry.distillation.transfers]
            heard = [bounds[n] if n in bounds else _untrained(config, plan[n]) for n in entry.teachers]
            Objective(entry.distillation, _untrained(config, entry).net, [Teacher(r, paths) for r in heard])


def _untrained(config: SweepConfig, entry: ReceiverRecord) -> NeuralReceiver:
    """A receiver as it will be, with other weights."""
    scenario = config.scenario
    card = Card(
        name=entry.name,
        receiver=entry.spec,
        role=entry.role,
        num_rx=scenario.grid.num_rx,
        num_bits=scenario.bits_per_symbol,
        parameters=0,
        scenario=scenario.name,
        channels=tuple(scenario.channels.train),
        trained_sinr_db=scenario.sinr_range_db,
        seed=entry.seed,
        training={},
    )
    return NeuralReceiver(build(card.receiver, card.num_rx, card.num_bits), card)


def train_all(run: Run, watcher: ProgressCallback, only: str | None = None) -> None:
    """Train the teachers, every student and every twin, or ``only`` one of them and those it listens to.

    Raises:
        UserError: as :func:`check`; if ``only`` is not in the run, or a training fails by its settings.
    """
    left = unfinished(run, watcher, only)
    listener = next((p.name for cohort in left for p in cohort if p.teachers), None)
    if listener is not None and current().size > 1:
        raise UserError(
            f"torchrun: trains a teacher or a twin, and {listener} is a student; write: train CONFIG teacher, and "
            "train the others without torchrun"
        )
    meter = Meter(run.config.metering.cpu_power_w, run.config.torch_device()) if left else None
    for cohort in left:
        train_cohort(run, cohort, watcher.training, meter)


def unfinished(run: Run, watcher: ProgressCallback, only: str | None = None) -> list[TrainingGroup]:
    """What is to be trained, in cohorts, each after those that it listens to; what was trained elsewhere is taken.

    Raises:
        UserError: as :func:`check`, or if ``only`` is not in the run.
    """
    check(run)
    plan = run.plan if only is None else run.plan.subset(only)
    take_trained(run, plan)
    done = set(run.receiver_names())
    for entry in plan.neural:
        if entry.name in done:
            watcher.skipped(entry.name)
    left = [tuple(p for p in cohort if p.name not in done) for cohort in plan.training_groups()]
    return [cohort for cohort in left if cohort]


def train_cohort(
    run: Run,
    cohort: Sequence[ReceiverRecord],
    announce: Callable[[Sequence[Job]], Callable[[Job, StepState], None]],
    meter: Meter | None,
) -> None:
    """Train receivers whose teachers are complete, on one stream.

    Args:
        run: its folder and configuration.
        cohort: the receivers.
        announce: as :meth:`ProgressCallback.training`.
        meter: as of :func:`distillation.trainer.train`.

    Raises:
        UserError: as :func:`distillation.trainer.train`.
    """
    device = run.config.torch_device()
    jobs = jobs_of(run, cohort, device)
    train(jobs, run.folder, device, meter, announce(jobs))


def jobs_of(run: Run, cohort: Sequence[ReceiverRecord], device: str) -> list[Job]:
    """What there is to train, with its teachers."""
    config = run.config
    bounds = {r.name: r for r in classical_receivers(config.scenario, device) if r.name in GENIE_AIDED}
    names = {t for entry in cohort for t in entry.teachers}
    teachers = {n: bounds[n] if n in bounds else run.receiver(n, device) for n in names}
    return [job(config, entry, [teachers[t] for t in entry.teachers]) for entry in cohort]


def job(config: SweepConfig, entry: ReceiverRecord, teachers: Sequence[Receiver] = ()) -> Job:
    """What a receiver's training is to do."""
    assert entry.training is not None, "a trained receiver has training settings"
    assert entry.seed is not None, "a trained receiver has a seed"
    return Job(
        name=entry.name,
        role=entry.role,
        receiver=entry.spec,
        scenario=config.scenario,
        training=entry.training,
        seed=entry.seed,
        distillation=entry.distillation,
        teachers=tuple(teachers),
        dataset=config.dataset.train,
    )


def take_trained(run: Run, plan: Plan) -> None:
    """Copy teachers that were trained elsewhere into the run.

    Raises:
        UserError: if one is another receiver than its spec string says, or of another scenario.
    """
    for entry in plan.neural:
        receiver = _trained(run, entry)
        if receiver is not None:
            card = receiver.card.model_copy(update={"name": entry.name, "role": "teacher"})
            save(run.receivers_folder / entry.name, receiver.net, card)


def _trained(run: Run, entry: ReceiverRecord) -> NeuralReceiver | None:
    """A teacher that is to be taken, or none; one that the run has already stays."""
    config = run.config
    folder = config.teacher.pretrained.get(entry.spec)
    if entry.role != "teacher" or folder is None or entry.name in run.receiver_names():
        return None
    try:
        receiver = load(folder)
        if receiver.card.receiver != entry.spec:
            raise UserError(f"{folder} is {receiver.card.receiver}, not {entry.spec}")
        check_fit(receiver, config.scenario, entry.name)
    except UserError as error:
        raise UserError(f"teacher.pretrained: {error}") from None
    return receiver


def evaluate(
    run: Run,
    watcher: ProgressCallback,
    evaluation: Evaluation | None = None,
    workers: int = 1,
    shard: Shard | None = None,
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
    for warning in sinr_range_warnings(receivers, evaluation):
        watcher.warn(warning)
    stream = _test_stream(run, evaluation, device)
    states = count_errors(receivers, stream, evaluation, path, workers, shard or ALL_BLOCKS)
    watcher.counting(states, [r.name for r in receivers])
    return path


def _test_stream(run: Run, evaluation: Evaluation, device: str) -> Stream:
    """Test slots, made or recorded."""
    config = run.config
    if config.dataset.test is None:
        return SlotStream(config.scenario, config.seed, evaluation.block_slots, "test", device)
    stream = DatasetStream(config.dataset.test, device).require(config.scenario, "test", evaluation.block_slots)
    for share in evaluation.interference_fractions:
        for sinr_db in evaluation.sinr_db:
            stream.at_sinr(sinr_db, share)
    if evaluation.max_slots > stream.dataset.num_blocks * stream.block_slots:
        raise UserError(
            f"evaluation.max_slots: {evaluation.max_slots} is more than the {stream.dataset.num_blocks} blocks of "
            f"{stream.block_slots} slots per point in {config.dataset.test}; lower it or write a longer dataset"
        )
    return stream


def merge(run: Run, parts: Sequence[Path] = ()) -> list[tuple[float, float]]:
    """Join the counts of shards into the run's table.

    Args:
        parts: tables of shards, or their folders; without any, those below the run's ``shards`` folder.

    Returns:
        interference share and SINR of points that still miss blocks; ``leanrx evaluate`` counts them.

    Raises:
        UserError: if a part does not belong to this run, see :func:`receivers.evaluation.merge.merge_counts`.
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


def operation_profiles(run: Run, receivers: list[Receiver]) -> dict[str, OperationProfile]:
    """Operations on one slot, by receiver name.

    Raises:
        UserError: if the two counters disagree on a network.
    """
    grid, bits = run.config.scenario.grid, run.config.scenario.bits_per_symbol
    profiles = {r.name: count(r, grid, num_bits=bits) for r in receivers}
    for name, profile in profiles.items():
        if not profile.counters_agree:
            raise UserError(
                f"{name}: torch counts {profile.flops} FLOPs, fvcore {profile.cross_check_flops}; see leanrx count"
            )
    return profiles
