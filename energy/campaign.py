"""Metering a family of receivers in several runtimes, and what estimators may learn from it.

A *subject* is a call that can be repeated, beside the work that was counted for it. Windows are kept in one file of
JSON lines as they come, so that an interrupted campaign goes on where it was; everything else is computed from them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from channels import UserError
from channels.records import write_atomic
from energy.estimators import Observed
from energy.graph import count_onnx
from energy.instruments.reading import Instrument
from energy.layers import count_layers
from energy.window import Protocol, Window, meter_windows, per_call
from energy.work import Work
from receivers.weights import full_precision


@dataclass(frozen=True)
class Subject:
    """One call to meter.

    Attributes:
        receiver: whose.
        runtime: ``eager``, ``compiled``, ``onnx-fp32`` or ``onnx-int8``.
        phase: ``inference`` or ``training``.
        work: of one call.
        call: does it.
    """

    receiver: str
    runtime: str
    phase: str
    work: Work
    call: Callable[[], object]

    @property
    def name(self) -> str:
        """As in the file of windows."""
        return f"{self.receiver}/{self.runtime}/{self.phase}/{self.work.batch_slots}"


def module_subject(net: nn.Module, receiver: str, inputs: torch.Tensor, compiled: bool = False) -> Subject:
    """Inference by torch, in the memory format in which receivers run.

    Args:
        inputs: of one call, slots first, on the network's device.
    """
    net = net.eval()
    work = count_layers(net, inputs, name=receiver)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    run = torch.compile(net) if compiled else net

    @torch.no_grad()
    def call() -> torch.Tensor:
        with full_precision():
            return run(inputs)

    return Subject(receiver, "compiled" if compiled else "eager", "inference", work, call)


def training_subject(net: nn.Module, receiver: str, inputs: torch.Tensor) -> Subject:
    """A training step: forward, binary cross-entropy against drawn bits, backward, AdamW; on a copy of the network."""
    net = copy.deepcopy(net).train()
    work = count_layers(net, inputs, name=receiver, training=True)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        bits = (net(inputs) > 0).float()
    step = torch.optim.AdamW(net.parameters(), lr=1e-4)

    def call() -> None:
        with full_precision():
            loss = nn.functional.binary_cross_entropy_with_logits(net(inputs), bits)
            step.zero_grad()
            loss.backward()
            step.step()

    return Subject(receiver, "eager", "training", work, call)


def onnx_subject(path: Path, receiver: str, inputs: torch.Tensor) -> Subject:
    """Inference by ONNX Runtime on the CPU, on as many threads as torch has.

    Raises:
        UserError: if the file cannot be loaded or counted.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"{path}: ONNX Runtime cannot load it ({type(error).__name__}); export again") from None
    work = count_onnx(path, list(inputs.shape))
    feed = {session.get_inputs()[0].name: inputs.cpu().contiguous().numpy()}
    return Subject(receiver, f"onnx-{work.precision}", "inference", work, lambda: session.run(None, feed))


def meter_subjects(
    subjects: Sequence[Subject], instruments: Sequence[Instrument], protocol: Protocol, path: Path
) -> Iterator[Window]:
    """Meter what the file does not hold yet; every window is in it before it is returned.

    Args:
        path: of the file of windows.

    Raises:
        UserError: if the file is damaged, or as :func:`energy.window.meter_windows`.
    """
    windows = read_windows(path) if path.exists() else []
    done = frozenset((w.name, w.round) for w in windows)
    works = {s.name: s.call for s in subjects}
    for window in meter_windows(works, instruments, protocol, done):
        windows.append(window)
        write_atomic(path, "".join(json.dumps(w.as_json()) + "\n" for w in windows))
        yield window


def read_windows(path: Path) -> list[Window]:
    """The file of windows.

    Raises:
        UserError: if it is missing or damaged.
    """
    try:
        return [Window.from_json(json.loads(line)) for line in path.read_text().splitlines()]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; meter first") from None
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path}: damaged or of another version; delete it and meter again") from None


def observed(
    subjects: Sequence[Subject], windows: Sequence[Window], instrument: str, cpu_time: bool = False
) -> list[Observed]:
    """What estimators may learn: time, and gross energy as one instrument saw it.

    Args:
        cpu_time: take this process's CPU time per thread for the time of a call, which other processes hardly disturb,
            in place of the wall clock; the two are the same on a quiet machine.

    Raises:
        UserError: if the instrument did not see a subject.
    """
    found = []
    for subject in subjects:
        seen = per_call(windows, subject.name, instrument)
        duration_s = seen.cpu_s / torch.get_num_threads() if cpu_time else seen.duration_s
        found.append(
            Observed(
                subject.receiver, subject.runtime, subject.work, duration_s, seen.gross_j, seen.kind, subject.phase
            )
        )  # fmt: skip
    return found


def achieved_flops_per_clock(work: Work, cpu_s: float, clock_hz: float) -> float:
    """FLOPs per clock and core that a call reached: over its CPU time at the nominal clock.

    Args:
        cpu_s: CPU time of all threads in one call, waiting in a spin included.
    """
    return work.flops / (cpu_s * clock_hz)
