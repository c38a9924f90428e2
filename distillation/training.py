"""Training one receiver from a stream of blocks, with checkpoints that resume bit-exactly.

Step *i* trains on block *i* of the stream, and nothing else is random, so weights, optimiser state and the step
number are all there is to a checkpoint. It is one safetensors file, replaced atomically.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import Field
from torch import nn

from channels import Record, Scenario, SlotStream, Stream, UserError
from channels.dataset import RecordedStream
from channels.records import write_atomic
from distillation.lamb import Lamb
from distillation.losses import bit_loss, distillation_loss
from energy.meter import Meter, Reading
from receivers.ber import device_name
from receivers.spec import build
from receivers.weights import Card, NeuralReceiver, full_precision, save


class Training(Record):
    """How a receiver is trained.

    Attributes:
        steps: optimiser steps.
        batch_slots: slots per step (the stream's block).
        optimizer: ``lamb`` (as DeepRx) or ``adamw``.
        learning_rate: after warm-up; held, then falling linearly to 0.
        weight_decay: decoupled.
        warmup_steps: linear rise of the learning rate.
        decay_from: part of ``steps`` after which the rate falls.
        precision: ``auto`` uses bfloat16 autocast on CUDA devices that have it, ``float32`` never.
        checkpoint_steps: steps between checkpoints.
    """

    steps: int = Field(30000, ge=1)
    batch_slots: int = Field(80, ge=1)
    optimizer: Literal["lamb", "adamw"] = "lamb"
    learning_rate: float = Field(1e-2, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_steps: int = Field(800, ge=0)
    decay_from: float = Field(0.3, ge=0, le=1)
    precision: Literal["auto", "float32"] = "auto"
    checkpoint_steps: int = Field(200, ge=1)

    def rate(self, step: int) -> float:
        """Learning rate of a step (counted from 0)."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        falling = self.steps * (1 - self.decay_from)
        return self.learning_rate * min(warm, (self.steps - step) / falling if falling else 1.0, 1.0)


class Distillation(Record):
    """How a student listens to its teacher: :func:`distillation.losses.distillation_loss`."""

    temperature: float = Field(2.0, gt=0)
    alpha: float = Field(0.5, ge=0, le=1)


@dataclass(frozen=True)
class Job:
    """One receiver to train.

    Attributes:
        name, role: as on its card.
        receiver: spec string.
        scenario: training slots.
        training: how.
        seed: of initial weights and of the slots.
        distillation, teacher: both or none.
        recorded: folder of a dataset to train on, in place of slots made for it.
    """

    name: str
    role: str
    receiver: str
    scenario: Scenario
    training: Training
    seed: int
    distillation: Distillation | None = None
    teacher: NeuralReceiver | None = None
    recorded: str | None = None

    def stream(self, device: str) -> Stream:
        """Training slots. The teacher has slots of its own, so that students hear it on slots that it does not know.

        Raises:
            UserError: if a dataset does not hold what is wanted.
        """
        if self.recorded is not None:
            recorded = RecordedStream(self.recorded, device)
            return recorded.serve(self.scenario, "train", self.training.batch_slots)
        purpose = "teacher" if self.role == "teacher" else ""
        return SlotStream(self.scenario, self.seed, self.training.batch_slots, "train", device, purpose)

    def description(self, device: str) -> dict[str, Any]:
        """All that determines the trained weights; a checkpoint of another description is refused."""
        return {
            "device": device_name(device),
            "receiver": self.receiver,
            "scenario": self.scenario.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json", exclude={"checkpoint_steps"}),
            "seed": self.seed,
            "distillation": self.distillation.model_dump(mode="json") if self.distillation else None,
            "teacher_sha256": self.teacher.digest if self.teacher else None,
            "recorded_sha256": RecordedStream(self.recorded).digest if self.recorded else None,
        }


@dataclass(frozen=True)
class StepState:
    """Progress of a training: the step just taken (counted from 1), and its loss and bit error rate."""

    step: int
    loss: float
    ber: float


def train(
    job: Job,
    folder: str | Path,
    checkpoint: str | Path,
    log: str | Path,
    device: str = "cpu",
    meter: Meter | None = None,
    on_step: Callable[[StepState], None] = lambda state: None,
) -> NeuralReceiver:
    """Train a receiver and save it; go on from its checkpoint if there is one.

    Args:
        job: what to train.
        folder: where weights and card go.
        checkpoint: the checkpoint file; removed when done.
        log: JSON lines with step, loss and BER of about 200 steps.
        device: torch device.
        meter: meters the energy; joules of steps lost to a kill are not counted.
        on_step: called after each logged step.

    Raises:
        UserError: if the checkpoint belongs to another job, or teacher and student do not fit.
    """
    scenario, training = job.scenario, job.training
    _check_teacher(job)
    net = build(job.receiver, scenario.grid.num_rx, scenario.bits_per_symbol, job.seed)
    net = net.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = _optimizer(net, training)
    stream = job.stream(device)
    num_blocks = stream.dataset.num_blocks if isinstance(stream, RecordedStream) else training.steps
    checkpoint, log = Path(checkpoint), Path(log)
    first, reading = _resume(checkpoint, job, device, net, optimizer)
    _cut_log(log, first)
    log_every = max(1, training.steps // 200)
    autocast = training.precision == "auto" and _has_bfloat16(device)

    log.parent.mkdir(parents=True, exist_ok=True)
    if meter:
        meter.start()
    try:
        with log.open("a") as lines:
            for step in range(first, training.steps):
                for group in optimizer.param_groups:
                    group["lr"] = training.rate(step)
                slots = stream.block(step % num_blocks)
                inputs = net.features(slots).contiguous(memory_format=torch.channels_last)
                with full_precision(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=autocast):
                    llrs = net(inputs).float()
                if job.teacher is not None and job.distillation is not None:
                    told = job.teacher(slots)
                    temperature, alpha = job.distillation.temperature, job.distillation.alpha
                    loss = distillation_loss(llrs, told, slots, temperature, alpha)
                else:
                    loss = bit_loss(llrs, slots)
                optimizer.zero_grad()
                with full_precision():
                    loss.backward()
                optimizer.step()
                if (step + 1) % log_every == 0 or step + 1 == training.steps:
                    wrong = ((llrs > 0) != slots.bits.bool())[slots.bit_mask]
                    state = StepState(step + 1, loss.item(), wrong.float().mean().item())
                    if not torch.isfinite(loss):
                        raise UserError(
                            f"{job.name}: loss {state.loss} at step {step + 1}; lower learning_rate, change label"
                        )
                    lines.write(json.dumps(asdict(state)) + "\n")
                    lines.flush()
                    on_step(state)
                if (step + 1) % training.checkpoint_steps == 0:
                    if meter:
                        reading = _sum(reading, meter.stop())
                    _save_checkpoint(checkpoint, job, device, net, optimizer, step + 1, reading)
                    if meter:
                        meter.start()
    finally:
        if meter and meter.running:
            reading = _sum(reading, meter.stop())
    receiver = save(folder, net, _card(job, net, reading))
    checkpoint.unlink(missing_ok=True)
    return receiver


def _check_teacher(job: Job) -> None:
    if (job.teacher is None) != (job.distillation is None):
        raise UserError(f"{job.name}: distillation needs a teacher, and a teacher needs distillation settings")
    if job.teacher is not None:
        for field, ours in (("num_rx", job.scenario.grid.num_rx), ("num_bits", job.scenario.bits_per_symbol)):
            theirs = getattr(job.teacher.card, field)
            if theirs != ours:
                raise UserError(f"{job.name}: teacher has {field} {theirs}, student {ours}; they must be equal")


def _optimizer(net: nn.Module, training: Training) -> torch.optim.Optimizer:
    if training.optimizer == "lamb":
        return Lamb(net.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    return torch.optim.AdamW(net.parameters(), training.learning_rate, weight_decay=training.weight_decay)


def _has_bfloat16(device: str) -> bool:
    return torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _sum(reading: Reading | None, more: Reading) -> Reading:
    return more if reading is None else reading + more


def _save_checkpoint(
    path: Path,
    job: Job,
    device: str,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    reading: Reading | None,
) -> None:
    tensors = {f"net.{k}": v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v.detach().cpu().contiguous() for k, v in state.items()}
    metadata = {
        "job": json.dumps(job.description(device), sort_keys=True),
        "step": str(step),
        "reading": json.dumps(asdict(reading) if reading else None),
    }
    write_atomic(path, safetensors.torch.save(tensors, metadata))


def _resume(
    path: Path, job: Job, device: str, net: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, Reading | None]:
    """Load a checkpoint if there is one; the step to go on from and the energy spent so far."""
    if not path.exists():
        return 0, None
    try:
        with safetensors.safe_open(str(path), "pt") as file:
            metadata = file.metadata()
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError:
        metadata = None
    if not metadata or not {"job", "step", "reading"} <= metadata.keys():
        raise UserError(f"{path}: damaged checkpoint; delete it to train {job.name} from the start") from None
    if metadata["job"] != json.dumps(job.description(device), sort_keys=True):
        raise UserError(f"{path}: checkpoint of another configuration; delete it or use another label")
    net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
    parameters = list(net.parameters())
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            if value.dim():  # moments get the memory format of their parameter: sums depend on the order
                value = torch.empty_like(parameters[int(index)]).copy_(value)
            state.setdefault(int(index), {})[name] = value.detach()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    reading = json.loads(metadata["reading"])
    return int(metadata["step"]), Reading(**reading) if reading else None


def _cut_log(log: Path, step: int) -> None:
    """Drop lines after ``step``: they will be written again."""
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        try:
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{log}: not a training log; delete it and run again") from None
        write_atomic(log, "".join(kept))


def _card(job: Job, net: nn.Module, reading: Reading | None) -> Card:
    return Card(
        name=job.name,
        role=job.role,
        receiver=job.receiver,
        num_rx=job.scenario.grid.num_rx,
        num_bits=job.scenario.bits_per_symbol,
        parameters=sum(p.numel() for p in net.parameters()),
        scenario=job.scenario.name,
        channels=tuple(job.scenario.channels.train),
        trained_sinr_db=job.scenario.sinr_range_db,
        seed=job.seed,
        training={
            **job.training.model_dump(mode="json"),
            "slots": job.training.steps * job.training.batch_slots,
            "distillation": job.distillation.model_dump() if job.distillation else None,
            "teacher_sha256": job.teacher.digest if job.teacher else None,
            "energy": asdict(reading) if reading else None,
            "recorded": job.recorded,
        },
    )
