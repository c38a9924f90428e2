"""Training receivers on one stream: every block is made once, every teacher hears it once, every learner takes a step.

::

    block ---> teachers' LLRs ---> step of learner 1, step of learner 2, ...

A learner's step depends on the block and its own state alone, so its weights are those that it would have alone.
Learners keep checkpoints of their own; those that are behind after a kill catch up first.

Energy is read for the cohort and divided by time: a learner is billed for its own steps and for equal parts of the
blocks that it shared and of the teachers that it listened to, so that the bills add up to the meter's reading.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from channels import Slots
from channels.dataset import DatasetStream
from distillation.checkpoint import Bill, Checkpoint
from distillation.distributed import ALONE, ProcessGroup, current
from distillation.job import Job, Training
from distillation.losses import bit_loss
from distillation.objective import Objective
from distillation.optim import Lamb
from distillation.teachers import Teacher, TeacherOutput
from energy.metering.meter import Meter
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers.neural.network import Network
from receivers.neural.registry import build
from receivers.neural.weights import Card, NeuralReceiver, full_precision, load, save


class Diverged(UserError):
    """A training whose loss is no longer finite."""


@dataclass(frozen=True)
class StepState:
    """Progress of a training: the step just taken (counted from 1), the loss that it lowered, all terms together, and
    the bit error rate."""

    step: int
    loss: float
    ber: float


def train(
    jobs: Sequence[Job],
    folder: str | Path,
    device: str = "cpu",
    meter: Meter | None = None,
    on_step: Callable[[Job, StepState], None] = lambda job, state: None,
) -> list[NeuralReceiver]:
    """Train receivers together and save them; go on from their checkpoints if there are any.

    Args:
        jobs: what to train: of one role, scenario, seed and training.
        folder: of the run: weights and cards go to ``receivers/<name>``, checkpoints to ``checkpoints`` until done, and
            step, loss and BER of about 200 steps to ``training/<name>.jsonl``.
        device: torch device.
        meter: meters the energy; joules of steps lost to a kill are not counted.
        on_step: called after each logged step.

    Raises:
        UserError: if a checkpoint belongs to another job, or teacher and student do not fit.
        Diverged: if a loss is not finite (the others are trained all the same).
    """
    folder, training, ranks = Path(folder), jobs[0].training, current()
    for job in jobs:
        job.check()
        _check_ranks(job, ranks)
    teachers = _teachers(jobs)
    learners = [_Learner(job, [teachers[t.name] for t in job.teachers], folder, device, ranks) for job in jobs]
    stream = jobs[0].stream(device)
    num_blocks = stream.dataset.num_blocks if isinstance(stream, DatasetStream) else training.steps
    log_every = max(1, training.steps // 200)
    account = _Account(device, meter, training.batch_slots, ranks)
    with account:
        for step in range(min(x.step for x in learners), training.steps):
            active = [x for x in learners if x.step == step and not x.failed]
            with account.spend(active):
                slots, weight = ranks.part(stream.block(step % num_blocks))
                features = {type(x.net): x.net.features(slots) for x in active}
            told = {}
            for name, teacher in teachers.items():
                listeners = [x for x in active if name in x.teacher_names]
                if listeners:
                    with account.spend(listeners, name):
                        told[name] = teacher(slots)
            for learner in active:
                with account.spend([learner]):
                    logged = (step + 1) % log_every == 0 or step + 1 == training.steps
                    state = learner.learn(slots, features[type(learner.net)], told, logged, weight)
                if state is not None:
                    on_step(learner.job, state)
            if (step + 1) % training.checkpoint_steps == 0 or step + 1 == training.steps:
                account.settle()
                for learner in active:
                    if not learner.failed:
                        learner.keep()
    failed = [x.job.name for x in learners if x.failed]
    receivers = [x.finish([job.name for job in jobs]) for x in learners if not x.failed]
    if failed:
        raise Diverged(f"{', '.join(failed)}: loss is not finite; lower learning_rate, change label")
    return receivers


def _teachers(jobs: Sequence[Job]) -> dict[str, Teacher]:
    """Those whom anyone listens to, with the activations that anyone follows."""
    paths: dict[str, list[str]] = {}
    for job in jobs:
        for teacher in job.teachers:
            followed = job.distillation.transfers if job.distillation else ()
            paths.setdefault(teacher.name, []).extend(transfer.teacher for transfer in followed)
    return {t.name: Teacher(t, paths[t.name]) for job in jobs for t in job.teachers}


class _Learner:
    """One receiver in training."""

    def __init__(self, job: Job, teachers: Sequence[Teacher], folder: Path, device: str, ranks: ProcessGroup) -> None:
        self.job, self.failed, self._device, self._ranks = job, False, device, ranks
        self.teacher_names = [t.name for t in teachers]
        self._folder = folder / "receivers" / job.name
        self._log = folder / "training" / f"{job.name}.jsonl"
        net = build(job.receiver, job.scenario.grid.num_rx, job.scenario.bits_per_symbol, job.seed)
        if ranks.size > 1 and torch.device(device).type == "cuda":
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        self.net: Network = net.to(device, memory_format=net.memory_format).train()  # type: ignore[call-overload]
        together = ranks.wrap(self.net)
        self._forward = torch.compile(together) if job.training.compiled else together
        self._early_weight = job.training.deep_supervision_weight if net.has_intermediate_llrs else 0.0
        self._objective = Objective(job.distillation, self.net, teachers, job.seed)
        self._parameters = [*self.net.parameters(), *self._objective.parameters()]
        self._optimizer = _optimizer(self._parameters, job.training)
        self._autocast = torch.autocast(
            torch.device(device).type, torch.bfloat16, job.training.precision == "auto" and _has_bfloat16(device)
        )
        path = folder / "checkpoints" / f"{job.name}.safetensors"
        self._checkpoint = Checkpoint(path, job.name, job.description(device, ranks.size))
        self.step, self.bill = self._checkpoint.load(self._parts(), self._optimizer)
        if ranks.rank == 0:
            _cut_log(self._log, self.step)

    def _parts(self) -> dict[str, nn.Module]:
        return {"net": self.net, "objective": self._objective}

    def learn(
        self, slots: Slots, features: torch.Tensor, told: Mapping[str, TeacherOutput], logged: bool, weight: float
    ) -> StepState | None:
        """Take a step; its state if it is to be logged. ``weight`` is that of this rank's loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.job.training.rate(self.step)
        with full_precision(), self._autocast:
            asked = {"early": True} if self._early_weight else {}
            out = self._forward(features.contiguous(memory_format=self.net.memory_format), **asked)
        llrs, *early = (x.float() for x in (out if asked else [out]))
        progress = self.step / self.job.training.steps
        loss = self._objective(llrs, slots, [told[name] for name in self.teacher_names], progress)
        if early:
            loss = loss + self._early_weight * sum(bit_loss(x, slots) for x in early) / len(early)
        self._optimizer.zero_grad()
        with full_precision():
            (weight * loss).backward()
        if self.job.training.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self.job.training.max_gradient_norm)
        self._optimizer.step()
        self.step += 1
        if not logged:
            return None
        wrong = ((llrs > 0) != slots.bits.bool())[slots.bit_mask]
        values = self._ranks.mean(weight * torch.stack([loss.detach(), wrong.float().mean()]))
        state = StepState(self.step, *values.tolist())
        self.failed = not math.isfinite(state.loss)
        if self._ranks.rank:
            return state
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as lines:
            lines.write(json.dumps(asdict(state)) + "\n")
        return state

    def keep(self) -> None:
        """Write the checkpoint."""
        if self._ranks.rank == 0:
            self._checkpoint.save(self._parts(), self._optimizer, self.step, self.bill)

    def finish(self, cohort: list[str]) -> NeuralReceiver:
        """Save the receiver."""
        job = self.job
        self._objective.remove()
        if self._ranks.rank:
            self._ranks.wait()
            return load(self._folder, self._device)
        card = Card(
            name=job.name,
            role=job.role,
            receiver=job.receiver,
            num_rx=job.scenario.grid.num_rx,
            num_bits=job.scenario.bits_per_symbol,
            parameters=sum(p.numel() for p in self.net.parameters()),
            scenario=job.scenario.name,
            channels=tuple(job.scenario.channels.train),
            trained_sinr_db=job.scenario.sinr_range_db,
            seed=job.seed,
            training={
                **job.training.model_dump(mode="json"),
                "deep_supervision_weight": self._early_weight,
                "slots": job.training.steps * job.training.batch_slots,
                "distillation": job.distillation.model_dump(mode="json") if job.distillation else None,
                "teachers": {t.name: t.digest for t in job.teachers},
                "teacher_slots": dict(self.bill.teacher_slots),
                "energy": asdict(self.bill.reading) if self.bill.reading else None,
                "cohort": cohort,
                "recorded": job.recorded,
                "processes": self._ranks.size,
            },
        )
        receiver = save(self._folder, self.net, card)
        self._checkpoint.path.unlink(missing_ok=True)
        self._ranks.wait()
        return receiver


class _Account:
    """Who has spent the device's time since the last settlement, and the meter that runs beside."""

    def __init__(self, device: str, meter: Meter | None, batch_slots: int, ranks: ProcessGroup = ALONE) -> None:
        self._ranks = ranks
        self._cuda, self._meter, self._batch_slots = torch.device(device).type == "cuda", meter, batch_slots
        self._spans: list[tuple[str, list[_Learner], Any, Any]] = []

    def __enter__(self) -> _Account:
        if self._meter:
            self._meter.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._meter and self._meter.running:
            self._meter.stop()

    @contextmanager
    def spend(self, learners: list[_Learner], teacher: str = "") -> Iterator[None]:
        """Time that these learners bear in equal parts, for the slots that ``teacher`` received if one is named."""
        begin = self._now()
        yield
        self._spans.append((teacher, learners, begin, self._now()))

    def settle(self) -> None:
        """Bill every learner for its part of the time and of the energy."""
        reading = self._ranks.total(self._meter.stop()) if self._meter else None
        seconds: dict[_Learner, float] = {}
        heard: dict[_Learner, dict[str, float]] = {}
        for teacher, learners, begin, end in self._spans:
            spent_s = 1e-3 * begin.elapsed_time(end) if self._cuda else end - begin
            for learner in learners:
                seconds[learner] = seconds.get(learner, 0.0) + spent_s / len(learners)
                if teacher:
                    of = heard.setdefault(learner, {})
                    of[teacher] = of.get(teacher, 0.0) + self._batch_slots / len(learners)
        total_s = sum(seconds.values())
        for learner, spent_s in seconds.items():
            part = reading * (spent_s / total_s) if reading else None
            learner.bill += Bill(part, heard.get(learner, {}))
        self._spans.clear()
        if self._meter:
            self._meter.start()

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _check_ranks(job: Job, ranks: ProcessGroup) -> None:
    if ranks.size > job.training.batch_slots:
        raise UserError(
            f"training.batch_slots: {job.training.batch_slots} is too few for {ranks.size} processes; start fewer"
        )


def _optimizer(parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
    if training.optimizer == "lamb":
        return Lamb(parameters, training.learning_rate, weight_decay=training.weight_decay)
    return torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)


def _has_bfloat16(device: str) -> bool:
    return torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _cut_log(log: Path, step: int) -> None:
    """Drop lines after ``step``: they will be written again."""
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        try:
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{log}: not a training log; delete it and run again") from None
        write_atomic(log, "".join(kept))
