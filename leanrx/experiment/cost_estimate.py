"""What a run will take: time and memory of its steps, from samples of a few slots on this machine. Nothing is written.

::

    sample of a few slots ---> seconds and bytes per slot ---> x slots of the configuration ---> time, memory

Times grow linearly with slots, and a sample is small, so an estimate is right within a factor of about two, if nothing
else needs the cores. Receivers that are trained already cost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property

import psutil
import torch
from torch.autograd.graph import saved_tensors_hooks

from channels import Slots, SlotStream
from channels.mixture_stream import training_stream
from distillation.losses import bit_loss
from energy.metering.session import synchronise
from leanrx.experiment.plan import ReceiverRecord, TrainingGroup
from leanrx.experiment.run import Run
from leanrx.experiment.workflow import pending_groups
from receivers.base import Receiver
from receivers.classical import GENIE_AIDED, classical_receivers
from receivers.evaluation.ldpc import TransportBlocks
from receivers.neural.registry import build

SAMPLE_SLOTS = 4
_SAMPLE_S = 0.2
_WINDOW_MARGIN = 1.4
"""A metering window with its warm-up and its pause, over its shortest duration."""
_OPTIMISER_COPIES = 4
"""Weights, gradients, and the two moments of the optimiser."""


@dataclass(frozen=True)
class CostEstimate:
    """Time and memory of a run.

    Attributes:
        trained, to_train: numbers of receivers.
        training_s: wall clock of the trainings on ``cores`` cores.
        cores: that train at the same time.
        points: test points.
        evaluation_s: shortest and longest wall clock of the evaluation with ``workers`` processes: each point stops
            between ``min_slots`` and ``max_slots``.
        workers: processes that count.
        metering_s: wall clock of the metering, if each receiver has a C form.
        training_bytes, evaluation_bytes: memory of all processes of a step.
        available_bytes: memory that is free now; on a GPU that of the GPU.
    """

    trained: int
    to_train: int
    training_s: float
    cores: int
    points: int
    evaluation_s: tuple[float, float]
    workers: int
    metering_s: float
    training_bytes: int
    evaluation_bytes: int
    available_bytes: int


def estimate_cost(run: Run, cores: int, workers: int = 1) -> CostEstimate:
    """Estimate time and memory of a run.

    Args:
        run: checked; its folder may be missing.
        cores: CPU cores for training.
        workers: processes that count errors.

    Raises:
        UserError: if a trained receiver is damaged.
    """
    samples, config = _Samples(run), run.config
    groups = pending_groups(run)
    to_train = [record for group in groups for record in group]
    cores = max(1, min(cores, len(to_train))) if config.torch_device() == "cpu" else 1
    evaluation = config.evaluation
    points = len(evaluation.sinr_db) * len(evaluation.interference_fractions)
    block_s = samples.evaluation_s_per_slot * points / workers
    metered = len([r for r in run.plan if r.name not in GENIE_AIDED])
    windows = config.metering.rounds * (metered * (1 + config.metering.c_files) + 1)
    return CostEstimate(
        trained=len(run.plan.neural) - len(to_train),
        to_train=len(to_train),
        training_s=sum(samples.group_core_s(group) for group in groups) / cores,
        cores=cores,
        points=points,
        evaluation_s=(evaluation.min_slots * block_s, evaluation.max_slots * block_s),
        workers=workers,
        metering_s=_WINDOW_MARGIN * windows * config.metering.min_duration_s,
        training_bytes=cores * max((samples.training_bytes(record) for record in to_train), default=0),
        evaluation_bytes=workers * samples.evaluation_bytes,
        available_bytes=_available_bytes(config.torch_device()),
    )


class _Samples:
    """Seconds and bytes per slot of everything that a run computes, each sampled once, on one thread."""

    def __init__(self, run: Run) -> None:
        self._run, self._device = run, run.config.torch_device()
        self._step_s: dict[str, float] = {}
        self._forward_s: dict[str, float] = {}
        self._saved_bytes: dict[str, int] = {}
        self._genies = {r.name: r for r in classical_receivers(run.config.scenario, self._device)}

    @cached_property
    def _slots(self) -> Slots:
        return self._stream.block(0)

    @cached_property
    def _stream(self) -> SlotStream:
        config = self._run.config
        return SlotStream(config.scenario, config.seed, SAMPLE_SLOTS, "train", self._device, "estimate")

    @cached_property
    def _block_s(self) -> float:
        return _seconds(lambda: self._stream.block(0)) / SAMPLE_SLOTS

    @cached_property
    def _training_blocks(self) -> list[Slots]:
        """A block of training slots of each member of the scenario's mixture."""
        config = self._run.config
        stream = training_stream(config.scenario, config.seed, SAMPLE_SLOTS, self._device, "estimate")
        return [stream.block(number) for number in range(len(config.scenario.training_members))]

    def group_core_s(self, group: TrainingGroup) -> float:
        """Core seconds of a training group. Its receivers share blocks of slots and the passes of teachers."""
        training = group[0].training
        assert training is not None, "a trained receiver has training settings"
        teachers = {name for record in group for name in record.teachers}
        per_slot_s = self._block_s + sum(self._teacher_s(name) for name in teachers)
        per_slot_s += sum(self._sampled_step(record.spec)[0] for record in group)
        return training.steps * training.batch_slots * per_slot_s

    def _teacher_s(self, name: str) -> float:
        record = self._run.plan[name]
        return self.forward_s(record.spec or name)

    def forward_s(self, name: str) -> float:
        """Seconds per slot of a receiver: a spec string, or the name of a classical receiver."""
        if name not in self._forward_s:
            call = self._forward(name)
            with torch.no_grad():
                self._forward_s[name] = _seconds(lambda: call(self._slots)) / SAMPLE_SLOTS
        return self._forward_s[name]

    def _forward(self, name: str) -> Receiver | Callable[[Slots], torch.Tensor]:
        if name in self._genies:
            return self._genies[name]
        scenario = self._run.config.scenario
        net = build(name, scenario.grid.num_rx, scenario.num_bits).to(self._device).eval()
        return lambda slots: net(net.features(slots))

    def _sampled_step(self, spec: str) -> tuple[float, int]:
        """Seconds of a training step per slot, and bytes per slot that its backward pass keeps."""
        if spec not in self._step_s:
            scenario = self._run.config.scenario
            net = build(spec, scenario.grid.num_rx, scenario.num_bits).to(self._device).train()
            blocks, slots = self._training_blocks, SAMPLE_SLOTS * len(self._training_blocks)
            sizes: dict[int, int] = {}

            def keep(tensor: torch.Tensor) -> torch.Tensor:
                storage = tensor.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
                return tensor

            def step() -> None:
                for block in blocks:
                    bit_loss(net(net.features(block)), block).backward()

            with saved_tensors_hooks(keep, lambda tensor: tensor):
                step()
            self._saved_bytes[spec] = sum(sizes.values()) // slots
            self._step_s[spec] = _seconds(step) / slots
        return self._step_s[spec], self._saved_bytes[spec]

    @property
    def _slot_bytes(self) -> int:
        values = (getattr(self._slots, field.name) for field in fields(Slots))
        return sum(v.nbytes for v in values if isinstance(v, torch.Tensor)) // SAMPLE_SLOTS

    def training_bytes(self, record: ReceiverRecord) -> int:
        """Memory of a process that trains this receiver. Slots exist twice while they are computed."""
        assert record.training is not None, "a trained receiver has training settings"
        _, saved = self._sampled_step(record.spec)
        parameters = sum(p.nbytes for p in build(record.spec).parameters())
        per_slot = saved + 2 * self._slot_bytes
        return self._base_bytes + _OPTIMISER_COPIES * parameters + record.training.batch_slots * per_slot

    @property
    def _base_bytes(self) -> int:
        """Memory of a process before it computes: this one's, with all packages loaded."""
        return 0 if self._device != "cpu" else _resident_bytes()

    @cached_property
    def evaluation_s_per_slot(self) -> float:
        """Seconds of one core for one test slot, through all receivers and decoders."""
        names = [record.spec or record.name for record in self._run.plan]
        code_rate = self._run.config.evaluation.code_rate
        decoding_s = 0.0
        if code_rate is not None:
            transport = TransportBlocks(code_rate, device=self._device)
            llrs = self._genies["LMMSE"](self._slots)
            decoding_s = len(names) * _seconds(lambda: transport.errors(self._slots, llrs)) / SAMPLE_SLOTS
        return self._block_s + sum(map(self.forward_s, names)) + decoding_s

    @property
    def evaluation_bytes(self) -> int:
        """Memory of a process that counts: slots, and the activations of the largest network without gradients."""
        specs = {record.spec for record in self._run.plan.neural}
        activations = max((self._sampled_step(spec)[1] for spec in specs), default=0)
        return self._base_bytes + self._run.config.evaluation.block_slots * (2 * self._slot_bytes + activations // 2)


def _seconds(call: Callable[[], object]) -> float:
    """Time of a call on one thread: the shortest of several after a warm-up. Other programs do not count on a CPU."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        call()
        durations_s: list[float] = []
        while sum(durations_s) < _SAMPLE_S:
            begin = clock()
            call()
            synchronise()
            durations_s.append(clock() - begin)
        return min(durations_s)
    finally:
        torch.set_num_threads(threads)


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def _available_bytes(device: str) -> int:
    if device != "cpu":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return int(psutil.virtual_memory().available)
