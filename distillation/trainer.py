"""Training of several receivers on one stream of slots.

Each block is generated once, each teacher processes it once, and each receiver takes a step on it.

::

    block ---> teachers' LLRs ---> step of receiver 1, step of receiver 2, ...

A receiver's step depends on the block and on its own state alone. Its weights are therefore the same as if it were
trained by itself. Each receiver has its own checkpoints; after a kill, receivers that are behind catch up first.

Energy is read for the whole training group and divided by :mod:`distillation.energy_allocation`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from channels import Slots
from channels.dataset import DatasetStream
from distillation.checkpoint import Checkpoint
from distillation.distributed import ProcessGroup, current
from distillation.energy_allocation import EnergyAllocator, EnergyMeter
from distillation.job import Job, Training
from distillation.losses import bit_loss
from distillation.objective import Objective
from distillation.optim import Lamb
from distillation.teachers import Teacher, TeacherOutput
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
    meter: EnergyMeter | None = None,
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
    folder, training, processes = Path(folder), jobs[0].training, current()
    for job in jobs:
        job.check()
        _check_processes(job, processes)
    teachers = _teachers(jobs)
    trainers = [_Trainer(job, [teachers[t.name] for t in job.teachers], folder, device, processes) for job in jobs]
    stream = jobs[0].stream(device)
    num_blocks = stream.dataset.num_blocks if isinstance(stream, DatasetStream) else training.steps
    log_every = max(1, training.steps // 200)
    allocator = EnergyAllocator(device, meter, training.batch_slots, processes)
    with allocator:
        for step in range(min(x.step for x in trainers), training.steps):
            active = [x for x in trainers if x.step == step and not x.failed]
            with allocator.attribute(_names(active)):
                slots, weight = processes.shard(stream.block(step % num_blocks))
                features = {type(x.net): x.net.features(slots) for x in active}
            teacher_outputs = {}
            for name, teacher in teachers.items():
                students = [x for x in active if name in x.teacher_names]
                if students:
                    with allocator.attribute(_names(students), name):
                        teacher_outputs[name] = teacher(slots)
            for trainer in active:
                with allocator.attribute([trainer.job.name]):
                    logged = (step + 1) % log_every == 0 or step + 1 == training.steps
                    state = trainer.train_step(slots, features[type(trainer.net)], teacher_outputs, logged, weight)
                if state is not None:
                    on_step(trainer.job, state)
            if (step + 1) % training.checkpoint_steps == 0 or step + 1 == training.steps:
                costs = allocator.allocate()
                for trainer in active:
                    trainer.cost += costs[trainer.job.name]
                    if not trainer.failed:
                        trainer.save_checkpoint()
    failed = [x.job.name for x in trainers if x.failed]
    receivers = [x.save_receiver([job.name for job in jobs]) for x in trainers if not x.failed]
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


class _Trainer:
    """One receiver in training."""

    def __init__(
        self, job: Job, teachers: Sequence[Teacher], folder: Path, device: str, processes: ProcessGroup
    ) -> None:
        self.job, self.failed, self._device, self._processes = job, False, device, processes
        self.teacher_names = [t.name for t in teachers]
        self._folder = folder / "receivers" / job.name
        self._log = folder / "training" / f"{job.name}.jsonl"
        net = build(job.receiver, job.scenario.grid.num_rx, job.scenario.bits_per_symbol, job.seed)
        if processes.size > 1 and torch.device(device).type == "cuda":
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        self.net: Network = net.to(device, memory_format=net.memory_format).train()  # type: ignore[call-overload]
        together = processes.wrap(self.net)
        self._forward = torch.compile(together) if job.training.compiled else together
        self._early_weight = job.training.deep_supervision_weight if net.has_intermediate_llrs else 0.0
        self._objective = Objective(job.distillation, self.net, teachers, job.seed)
        self._parameters = [*self.net.parameters(), *self._objective.parameters()]
        self._optimizer = _optimizer(self._parameters, job.training)
        self._autocast = torch.autocast(
            torch.device(device).type, torch.bfloat16, job.training.precision == "auto" and _has_bfloat16(device)
        )
        path = folder / "checkpoints" / f"{job.name}.safetensors"
        self._checkpoint = Checkpoint(path, job.name, job.description(device, processes.size))
        self.step, self.cost = self._checkpoint.load(self._parts(), self._optimizer)
        if processes.rank == 0:
            _truncate_log(self._log, self.step)

    def _parts(self) -> dict[str, nn.Module]:
        return {"net": self.net, "objective": self._objective}

    def train_step(
        self,
        slots: Slots,
        features: torch.Tensor,
        teacher_outputs: Mapping[str, TeacherOutput],
        logged: bool,
        weight: float,
    ) -> StepState | None:
        """Take a step; its state if it is to be logged. ``weight`` is that of this rank's loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.job.training.learning_rate_at(self.step)
        with full_precision(), self._autocast:
            asked = {"intermediate": True} if self._early_weight else {}
            out = self._forward(features.contiguous(memory_format=self.net.memory_format), **asked)
        llrs, *intermediate = (x.float() for x in (out if asked else [out]))
        progress = self.step / self.job.training.steps
        loss = self._objective(llrs, slots, [teacher_outputs[name] for name in self.teacher_names], progress)
        if intermediate:
            loss = loss + self._early_weight * sum(bit_loss(x, slots) for x in intermediate) / len(intermediate)
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
        values = self._processes.mean(weight * torch.stack([loss.detach(), wrong.float().mean()]))
        state = StepState(self.step, *values.tolist())
        self.failed = not math.isfinite(state.loss)
        if self._processes.rank:
            return state
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as lines:
            lines.write(json.dumps(asdict(state)) + "\n")
        return state

    def save_checkpoint(self) -> None:
        """Write the checkpoint."""
        if self._processes.rank == 0:
            self._checkpoint.save(self._parts(), self._optimizer, self.step, self.cost)

    def save_receiver(self, training_group: list[str]) -> NeuralReceiver:
        """Save the receiver."""
        job = self.job
        self._objective.remove()
        if self._processes.rank:
            self._processes.barrier()
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
                "teacher_slots": dict(self.cost.teacher_slots),
                "energy": asdict(self.cost.reading) if self.cost.reading else None,
                "training_group": training_group,
                "recorded": job.recorded,
                "processes": self._processes.size,
            },
        )
        receiver = save(self._folder, self.net, card)
        self._checkpoint.path.unlink(missing_ok=True)
        self._processes.barrier()
        return receiver


def _names(trainers: Sequence[_Trainer]) -> list[str]:
    return [trainer.job.name for trainer in trainers]


def _check_processes(job: Job, processes: ProcessGroup) -> None:
    if processes.size > job.training.batch_slots:
        raise UserError(
            f"training.batch_slots: {job.training.batch_slots} is too few for {processes.size} processes; start fewer"
        )


def _optimizer(parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
    if training.optimizer == "lamb":
        return Lamb(parameters, training.learning_rate, weight_decay=training.weight_decay)
    return torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)


def _has_bfloat16(device: str) -> bool:
    return torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _truncate_log(log: Path, step: int) -> None:
    """Drop lines after ``step``: they will be written again."""
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        try:
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{log}: not a training log; delete it and run again") from None
        write_atomic(log, "".join(kept))
