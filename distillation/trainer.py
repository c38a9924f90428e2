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
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize

from channels import Slots, Stream
from channels.dataset import DatasetStream
from distillation.checkpoint import Checkpoint
from distillation.distributed import ProcessGroup, current
from distillation.energy_allocation import EnergyAllocator, EnergyMeter, TrainingCost
from distillation.job import Job, Training
from distillation.losses import bit_loss
from distillation.objective import Objective
from distillation.optim import Lamb
from distillation.teachers import Teacher, TeacherOutput
from leanrx_core.errors import UserError
from leanrx_core.files import append_lines, write_atomic
from receivers.neural.network import Network
from receivers.neural.registry import build
from receivers.neural.weight_quantization import fix_rounded_weights, quantize_weights
from receivers.neural.weights import Card, NeuralReceiver, full_precision, load, save


class DivergenceError(UserError):
    """The loss or a weight of a training is not finite."""


@dataclass(frozen=True)
class StepState:
    """Progress of a training after a step.

    Attributes:
        step: number of the step, from 1.
        loss: loss that the step lowered, the sum of all terms.
        ber: bit error rate of the step's slots before the step.
    """

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
    """Train receivers together and save them. If there are checkpoints, training resumes from them.

    Args:
        jobs: receivers to train. They see the same slots: scenario, seed, dataset, steps, ``batch_slots`` and
            ``checkpoint_steps`` are equal, and all or none are teachers. Other settings may differ.
        folder: run folder. Weights and cards go to ``receivers/<name>``. Checkpoints stay in ``checkpoints`` until
            the training is complete. Step, loss and BER of about 200 steps go to ``training/<name>.jsonl``.
        device: torch device.
        meter: meter of the energy. The energy of steps that a kill undoes is not counted.
        on_step: called after each logged step.

    Returns:
        The trained receivers, in the order of the jobs.

    Raises:
        UserError: if a checkpoint belongs to another job, if teacher and student do not match, or if the jobs do not
            see the same slots.
        DivergenceError: if the loss of a receiver is not finite. The other receivers are trained and saved first.

    Example:
        >>> import tempfile
        >>> from channels import Channels, Grid, Scenario
        >>> scenario = Scenario(name="example", grid=Grid(num_prb=1), channels=Channels(train=("Rayleigh",)))
        >>> training = Training(steps=2, batch_slots=2, warmup_steps=0)
        >>> job = Job("teacher", "teacher", "deeprx-w0.03125-d3", scenario, training, seed=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (teacher,) = train([job], folder)
        >>> teacher.name, teacher.card.training["slots"]
        ('teacher', 4)
    """
    folder, training, processes = Path(folder), jobs[0].training, current()
    for job in jobs:
        job.check()
        _check_processes(job, processes)
        _check_same_slots(job, jobs[0])
    teachers = _teachers(jobs)
    trainers = [_Trainer(job, [teachers[t.name] for t in job.teachers], folder, device, processes) for job in jobs]
    stream = jobs[0].stream(device)
    num_blocks = stream.dataset.num_blocks if isinstance(stream, DatasetStream) else training.steps
    with EnergyAllocator(device, meter, training.batch_slots, processes) as allocator:
        for step in range(min(x.step for x in trainers), training.steps):
            active = [x for x in trainers if x.step == step and not x.failed]
            for job, state in _train_on_block(active, teachers, stream, step % num_blocks, allocator, processes):
                on_step(job, state)
            if (step + 1) % training.checkpoint_steps == 0 or step + 1 == training.steps:
                costs = allocator.allocate()
                for trainer in active:
                    if not trainer.failed:
                        trainer.save_checkpoint(costs[trainer.job.name])
    for trainer in trainers:
        trainer.failed |= not trainer.has_finite_weights()
    receivers = [x.save_receiver(_names(trainers)) for x in trainers if not x.failed]
    failed = [x.job.name for x in trainers if x.failed]
    if failed:
        raise DivergenceError(
            f"{', '.join(failed)}: loss is not finite; lower learning_rate and change label to train again"
        )
    return receivers


def _train_on_block(
    active: Sequence[_Trainer],
    teachers: Mapping[str, Teacher],
    stream: Stream,
    number: int,
    allocator: EnergyAllocator,
    processes: ProcessGroup,
) -> Iterator[tuple[Job, StepState]]:
    """Let each trainer take a step on a block, and give the states that are logged."""
    with allocator.attribute(_names(active)):
        slots, weight = processes.shard(stream.block(number))
        features = {type(x.net): x.net.features(slots) for x in active}
    teacher_outputs = _teacher_outputs(teachers, slots, active, allocator)
    for trainer in active:
        with allocator.attribute([trainer.job.name]):
            state = trainer.train_step(slots, features[type(trainer.net)], teacher_outputs, weight)
        if state is not None:
            yield trainer.job, state


def _teachers(jobs: Sequence[Job]) -> dict[str, Teacher]:
    """The teachers of all jobs by name, with the activations that their students follow."""
    paths: dict[str, list[str]] = {}
    for job in jobs:
        for teacher in job.teachers:
            transfers = job.distillation.transfers if job.distillation else ()
            paths.setdefault(teacher.name, []).extend(transfer.teacher for transfer in transfers)
    return {t.name: Teacher(t, paths[t.name]) for job in jobs for t in job.teachers}


def _teacher_outputs(
    teachers: Mapping[str, Teacher], slots: Slots, active: Sequence[_Trainer], allocator: EnergyAllocator
) -> dict[str, TeacherOutput]:
    """Outputs of the teachers that have a student in this step. Their time is attributed to these students."""
    outputs = {}
    for name, teacher in teachers.items():
        students = [x for x in active if name in x.teacher_names]
        if students:
            with allocator.attribute(_names(students), name):
                outputs[name] = teacher(slots)
    return outputs


class _Trainer:
    """One receiver in training: network, objective, optimiser, checkpoint and log."""

    def __init__(
        self, job: Job, teachers: Sequence[Teacher], folder: Path, device: str, processes: ProcessGroup
    ) -> None:
        self.job, self.failed, self._device, self._processes = job, False, device, processes
        self.teacher_names = [t.name for t in teachers]
        self._folder = folder / "receivers" / job.name
        self._log = folder / "training" / f"{job.name}.jsonl"
        net = build(job.receiver, job.scenario.grid.num_rx, job.scenario.num_bits, job.seed)
        if job.initial is not None:
            net.load_state_dict(job.initial.net.state_dict())
        if job.training.weight_bits is not None:
            quantize_weights(net, job.training.weight_bits)
        if processes.size > 1 and torch.device(device).type == "cuda":
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        self.net: Network = net.to(device, memory_format=net.memory_format).train()  # type: ignore[call-overload]
        wrapper = processes.wrap(self.net)
        self._forward = torch.compile(wrapper) if job.training.compiled and _has_compiler(job.name) else wrapper
        self._deep_supervision_weight = job.training.deep_supervision_weight if net.has_intermediate_llrs else 0.0
        self._objective = Objective(job.distillation, self.net, teachers, job.seed)
        self._parameters = [*self.net.parameters(), *self._objective.parameters()]
        self._optimizer = _optimizer(self._parameters, job.training)
        self._autocast = torch.autocast(
            torch.device(device).type, torch.bfloat16, _uses_bfloat16(job.training.precision, device, job.name)
        )
        path = folder / "checkpoints" / f"{job.name}.safetensors"
        self._checkpoint = Checkpoint(path, job.name, job.description(device, processes.size))
        self.step, self._cost = self._checkpoint.load(self._modules(), self._optimizer)
        if processes.rank == 0:
            _truncate_log(self._log, self.step)

    def _modules(self) -> dict[str, nn.Module]:
        return {"net": self.net, "objective": self._objective}

    def train_step(
        self, slots: Slots, features: torch.Tensor, teacher_outputs: Mapping[str, TeacherOutput], weight: float
    ) -> StepState | None:
        """Take a step.

        Args:
            slots: this rank's slots.
            features: features of these slots, float32 ``(B, C, S, F)``.
            teacher_outputs: outputs of the teachers for these slots, by name.
            weight: factor of this rank's loss.

        Returns:
            The state, about 200 times per training and after the last step; else ``None``.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = self.job.training.learning_rate_at(self.step)
        llrs, loss = self._loss(slots, features, teacher_outputs)
        self._optimizer.zero_grad()
        with full_precision():
            (weight * loss).backward()
        if self.job.training.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self.job.training.max_gradient_norm)
        self._optimizer.step()
        self.step += 1
        steps = self.job.training.steps
        if self.step % max(1, steps // 200) and self.step < steps:
            return None
        errors = ((llrs > 0) != slots.bits.bool())[slots.bit_mask]
        values = self._processes.mean(weight * torch.stack([loss.detach(), errors.float().mean()]))
        state = StepState(self.step, *values.tolist())
        self.failed = not math.isfinite(state.loss)
        if self._processes.rank == 0:
            append_lines(self._log, json.dumps(asdict(state)) + "\n")
        return state

    def _loss(
        self, slots: Slots, features: torch.Tensor, teacher_outputs: Mapping[str, TeacherOutput]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """LLRs, float32 ``(B, K, S, F)``, and the loss, a scalar."""
        options = {"intermediate": True} if self._deep_supervision_weight else {}
        with full_precision(), self._autocast, parametrize.cached():
            output = self._forward(features.contiguous(memory_format=self.net.memory_format), **options)
        llrs, *intermediate = (x.float() for x in (output if options else [output]))
        outputs = [teacher_outputs[name] for name in self.teacher_names]
        loss = self._objective(llrs, slots, outputs, self.step / self.job.training.steps)
        if intermediate:
            supervision = sum(bit_loss(x, slots) for x in intermediate)
            loss = loss + self._deep_supervision_weight * supervision / len(intermediate)
        return llrs, loss

    def save_checkpoint(self, cost: TrainingCost) -> None:
        """Write the checkpoint. ``cost`` is that of the steps since the last one."""
        self._cost += cost
        if self._processes.rank == 0:
            self._checkpoint.save(self._modules(), self._optimizer, self.step, self._cost)

    def has_finite_weights(self) -> bool:
        """Whether no weight is infinite or not a number. The last step can leave such weights behind a finite loss."""
        return all(bool(torch.isfinite(value).all()) for value in self.net.state_dict().values())

    def save_receiver(self, training_group: list[str]) -> NeuralReceiver:
        """Save the receiver with its card and delete the checkpoint.

        Args:
            training_group: names of the receivers that were trained together.
        """
        job = self.job
        self._objective.remove()
        if self._processes.rank:
            self._processes.barrier()
            return load(self._folder, self._device)
        fix_rounded_weights(self.net)
        card = Card(
            name=job.name,
            role=job.role,
            receiver=job.receiver,
            num_rx=job.scenario.grid.num_rx,
            num_bits=job.scenario.num_bits,
            parameters=sum(p.numel() for p in self.net.parameters()),
            scenario=job.scenario.name,
            channels=tuple(dict.fromkeys(c for m in job.scenario.training_members for c in m.channels.train)),
            conditions=job.scenario,
            trained_sinr_db=job.scenario.training_sinr_db,
            seed=job.seed,
            training={
                **job.training.model_dump(mode="json"),
                "deep_supervision_weight": self._deep_supervision_weight,
                "slots": job.training.steps * job.training.batch_slots,
                "distillation": job.distillation.model_dump(mode="json") if job.distillation else None,
                "teachers": {t.name: t.digest for t in job.teachers},
                "teacher_slots": dict(self._cost.teacher_slots),
                "energy": self._cost.energy.as_json() if self._cost.energy else None,
                "training_group": training_group,
                "dataset": DatasetStream(job.dataset).dataset.label if job.dataset else None,
                "dataset_sha256": DatasetStream(job.dataset).digest if job.dataset else None,
                "initial_sha256": job.initial.digest if job.initial else None,
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


def _check_same_slots(job: Job, other: Job) -> None:
    for name in ("scenario", "seed", "dataset"):
        if getattr(job, name) != getattr(other, name):
            raise UserError(f"{job.name}: its {name} is not that of {other.name}; train them one after the other")
    for name in ("steps", "batch_slots", "checkpoint_steps"):
        values = [getattr(x.training, name) for x in (job, other)]
        if values[0] != values[1]:
            raise UserError(
                f"{job.name}: training.{name} is {values[0]}, that of {other.name} {values[1]}; "
                "train them one after the other"
            )
    if (job.role == "teacher") != (other.role == "teacher"):
        raise UserError(f"{job.name}: teachers have other slots than {other.name}; train them one after the other")


def _optimizer(parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
    if training.optimizer == "lamb":
        return Lamb(parameters, training.learning_rate, weight_decay=training.weight_decay)
    return torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)


def _uses_bfloat16(precision: str, device: str, name: str) -> bool:
    """Whether a training uses bfloat16 autocast; says so if the device lacks what ``bfloat16`` asks for."""
    kind = torch.device(device).type
    if precision == "float32" or (precision == "auto" and kind != "cuda"):
        return False
    if kind == "cuda":
        available = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        cpu = torch.cpu.get_capabilities()
        available = kind == "cpu" and bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))
    if precision == "bfloat16" and not available:
        print(f"{name}: {device} has no instructions for bfloat16; it is trained in float32", file=sys.stderr)
    return available


def _has_compiler(name: str) -> bool:
    """Whether torch.compile finds a C++ compiler that works; says so once per receiver if not."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler):
        command = [compiler, "-x", "c++", "-fsyntax-only", "-"]
        if subprocess.run(command, input="#include <vector>", text=True, capture_output=True).returncode == 0:
            return True
        compiler += ", which fails on an empty program"
    print(f"{name}: compiled needs the C++ compiler {compiler}; it is trained without torch.compile", file=sys.stderr)
    return False


def _truncate_log(log: Path, step: int) -> None:
    """Remove lines after ``step``. Training writes them again."""
    if log.exists():
        try:
            lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
            complete = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UserError(f"{log}: not a training log; delete it and run again") from None
        write_atomic(log, "".join(complete))
