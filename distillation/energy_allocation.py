"""Energy and teacher passes of a training group, divided among its receivers.

::

    block of slots        [a b c]      each bears a third of this time
    teacher's LLRs        [a b]        each bears a half
    step of a, b, c       [a] [b] [c]  each bears its own

Receivers that are trained together share blocks of slots and teachers. One meter reads the energy of the whole group.
The energy is divided in proportion to time, and shared time is divided equally. The parts add up to the metered energy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, Self

import torch

from distillation.distributed import SINGLE_PROCESS, ProcessGroup
from energy.metering.training import TrainingEnergy


class EnergyMeter(Protocol):
    """Meters a training in windows, such as :class:`energy.metering.training.TrainingMeter`."""

    running: bool

    def open(self) -> None:
        """Open a window."""

    def close(self) -> TrainingEnergy:
        """Close the window and read it."""
        ...


@dataclass(frozen=True)
class TrainingCost:
    """What the training of one receiver has cost so far.

    Attributes:
        energy: the receiver's part of the energy; ``None`` if the training is not metered.
        teacher_slots: slots that each teacher processed for this receiver. A slot that several students share counts
            in equal parts.
    """

    energy: TrainingEnergy | None = None
    teacher_slots: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: TrainingCost) -> TrainingCost:
        energy = self.energy + other.energy if self.energy and other.energy else self.energy or other.energy
        names = [*self.teacher_slots, *(n for n in other.teacher_slots if n not in self.teacher_slots)]
        slots = {n: self.teacher_slots.get(n, 0.0) + other.teacher_slots.get(n, 0.0) for n in names}
        return TrainingCost(energy, slots)


@dataclass(frozen=True)
class _Span:
    """A stretch of time that ``names`` share; ``teacher`` processed a block in it, if one is named."""

    names: Sequence[str]
    teacher: str
    begin: float | torch.cuda.Event
    end: float | torch.cuda.Event

    @property
    def duration_s(self) -> float:
        if isinstance(self.begin, torch.cuda.Event):
            return 1e-3 * self.begin.elapsed_time(self.end)  # type: ignore[arg-type]
        return self.end - self.begin  # type: ignore[operator]


class EnergyAllocator:
    """Attributes time to receivers by name, and allocates the metered energy in proportion.

    The meter runs while the allocator is entered as a context.

    Args:
        device: torch device that computes. Times on CUDA are those of its events.
        meter: reads the energy; without one, only teacher passes are allocated.
        batch_slots: slots of a block.
        processes: processes that train together; their energies are summed.
    """

    def __init__(
        self, device: str, meter: EnergyMeter | None, batch_slots: int, processes: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        self._cuda = torch.device(device).type == "cuda"
        self._meter, self._batch_slots, self._processes = meter, batch_slots, processes
        self._spans: list[_Span] = []

    def __enter__(self) -> Self:
        if self._meter:
            self._meter.open()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._meter and self._meter.running:
            self._meter.close()

    @contextmanager
    def attribute(self, names: Sequence[str], teacher: str = "") -> Iterator[None]:
        """Attribute the time of the ``with`` block to these receivers in equal parts.

        Args:
            names: of the receivers.
            teacher: name of the teacher that processes the block of slots in this time, if one does.
        """
        begin = self._now()
        yield
        self._spans.append(_Span(names, teacher, begin, self._now()))

    def allocate(self) -> dict[str, TrainingCost]:
        """Cost of each receiver since the last call, by name; the meter then starts a new window."""
        energy = self._processes.sum_energy(self._meter.close()) if self._meter else None
        seconds: dict[str, float] = {}
        teacher_slots: dict[str, dict[str, float]] = {}
        for span in self._spans:
            duration_s = span.duration_s
            for name in span.names:
                seconds[name] = seconds.get(name, 0.0) + duration_s / len(span.names)
                if span.teacher:
                    by_teacher = teacher_slots.setdefault(name, {})
                    slots = by_teacher.get(span.teacher, 0.0)
                    by_teacher[span.teacher] = slots + self._batch_slots / len(span.names)
        total_s = sum(seconds.values())
        self._spans.clear()
        if self._meter:
            self._meter.open()
        return {
            name: TrainingCost(energy * (own_s / total_s) if energy else None, teacher_slots.get(name, {}))
            for name, own_s in seconds.items()
        }

    def _now(self) -> float | torch.cuda.Event:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
