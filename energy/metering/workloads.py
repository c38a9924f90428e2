"""Metering a family of receivers in several runtimes, and what estimators may learn from it.

A *subject* is a call that can be repeated, beside the work that was counted for it. Windows are kept in one file of
JSON lines as they come, so that an interrupted campaign goes on where it was; everything else is computed from them.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import safetensors.torch
import torch
from torch import nn

from channels import Slots
from energy.counting.onnx_file import count_onnx
from energy.counting.profile import OperationProfile
from energy.counting.torch_net import count_module
from energy.estimation.estimate import MeteredCall
from energy.hardware.devices import Device
from energy.metering.instruments import Instrument, Perf
from energy.metering.session import PerCall, Protocol, Window, meter_windows, per_call
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers.base import Receiver
from receivers.neural.network import Network
from receivers.neural.weights import full_precision


@dataclass(frozen=True)
class Subject:
    """One call to meter.

    Attributes:
        receiver: whose.
        runtime: ``eager``, ``eager-bf16``, ``compiled``, ``onnx-fp32``, ``onnx-int8`` or ``classical``.
        phase: ``inference`` or ``training``.
        profile: operations of one call.
        call: does it.
        digest: fingerprint of what computes, so that windows of another artefact are not taken for its own.
        on_gpu: whether a GPU computes.
    """

    receiver: str
    runtime: str
    phase: str
    profile: OperationProfile
    call: Callable[[], object]
    digest: str
    on_gpu: bool = False

    @property
    def name(self) -> str:
        """As in the file of windows."""
        return f"{self.receiver}/{self.runtime}/{self.phase}/{self.profile.batch_slots}@{self.digest[:8]}"


def module_subject(
    net: Network, receiver: str, inputs: torch.Tensor, compiled: bool = False, bf16: bool = False
) -> Subject:
    """Inference by torch, in the memory format in which receivers run.

    Args:
        inputs: of one call, slots first, on the network's device.
        bf16: weights and activations in bfloat16, on a copy of the network, in place of float32.
    """
    net, digest = net.eval(), _digest(net)
    profile = count_module(net, inputs, name=receiver, precision="bf16" if bf16 else "fp32")
    if bf16:
        net, inputs = copy.deepcopy(net).bfloat16(), inputs.bfloat16()
    inputs = inputs.contiguous(memory_format=net.memory_format)
    run = torch.compile(net) if compiled else net

    @torch.no_grad()
    def call() -> torch.Tensor:
        with full_precision():
            return run(inputs)

    runtime = ("compiled" if compiled else "eager") + ("-bf16" if bf16 else "")
    return Subject(receiver, runtime, "inference", profile, call, digest, inputs.is_cuda)


def training_subject(net: Network, receiver: str, inputs: torch.Tensor) -> Subject:
    """A training step: forward, binary cross-entropy against drawn bits, backward, AdamW; on a copy of the network."""
    digest = _digest(net)
    net = copy.deepcopy(net).train()
    profile = count_module(net, inputs, name=receiver, training=True)
    inputs = inputs.contiguous(memory_format=net.memory_format)
    with torch.no_grad():
        bits = (net(inputs) > 0).float()
    step = torch.optim.AdamW(net.parameters(), lr=1e-4)

    def call() -> None:
        with full_precision():
            loss = nn.functional.binary_cross_entropy_with_logits(net(inputs), bits)
            step.zero_grad()
            loss.backward()
            step.step()

    return Subject(receiver, "eager", "training", profile, call, digest, inputs.is_cuda)


def classical_subject(receiver: Receiver, slots: Slots, profile: OperationProfile) -> Subject:
    """Inference of a receiver that is counted by formula: its MACs are known, its bytes are not.

    Args:
        slots: of one call.
        profile: of one call.
    """
    digest = hashlib.sha256(receiver.digest.encode()).hexdigest()
    return Subject(receiver.name, "classical", "inference", profile, lambda: receiver(slots), digest, slots.y.is_cuda)


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
    profile = count_onnx(path, list(inputs.shape))
    feed = {session.get_inputs()[0].name: inputs.cpu().contiguous().numpy()}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Subject(receiver, f"onnx-{profile.precision}", "inference", profile, lambda: session.run(None, feed), digest)


def _digest(net: nn.Module) -> str:
    """Fingerprint of a network's class and state."""
    state = {name: value.cpu().contiguous() for name, value in net.state_dict().items()}
    return hashlib.sha256(repr(net).encode() + safetensors.torch.save(state)).hexdigest()


def meter_subjects(
    subjects: Sequence[Subject],
    instruments: Sequence[Instrument],
    protocol: Protocol,
    path: Path,
    perf: Perf | None = None,
) -> Iterator[Window]:
    """Meter what the file does not hold yet; every window is in it before it is returned.

    Args:
        path: of the file of windows.
        perf: counts cycles, too.

    Raises:
        UserError: if the file is damaged, or as :func:`energy.metering.session.meter_windows`.
    """
    windows = read_windows(path) if path.exists() else []
    done = frozenset((w.name, w.round) for w in windows)
    works = {s.name: s.call for s in subjects}
    for window in meter_windows(works, instruments, protocol, done, perf):
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
    except ValueError:
        raise UserError(f"{path}: damaged or of another version; delete it and meter again") from None


def observed(
    subjects: Sequence[Subject], windows: Sequence[Window], instrument: str, device: Device, cpu_time: bool = False
) -> list[MeteredCall]:
    """What estimators may learn: time, gross energy as one instrument saw it, and clock cycles.

    Args:
        device: that computed; its clock stands in where ``perf`` counted no cycles.
        cpu_time: take this process's CPU time per thread for the time of a call, which other processes hardly disturb,
            in place of the wall clock; the two are the same on a quiet machine.

    Raises:
        UserError: if the instrument did not see a subject.
    """
    found = []
    for subject in subjects:
        seen = per_call(windows, subject.name, instrument)
        duration_s = seen.cpu_s / torch.get_num_threads() if cpu_time else seen.duration_s
        cycles, known_from = _cycles(subject, seen, device)
        found.append(
            MeteredCall(
                subject.receiver,
                subject.runtime,
                subject.profile,
                duration_s,
                seen.gross_j,
                seen.kind,
                subject.phase,
                cycles,
                known_from,
            )
        )
    return found


def _cycles(subject: Subject, seen: PerCall, device: Device) -> tuple[float, str]:
    """Cycles of all cores in a call. Threads that wait in a spin count; multiprocessors that wait do, too."""
    if subject.on_gpu:
        return seen.duration_s * device.clock_hz * device.cores, "time x highest clock"
    if seen.cycles is not None:
        return seen.cycles, "perf"
    return seen.cpu_s * device.clock_hz, "CPU time x nominal clock"


def side_by_side(subjects: Sequence[Subject], windows: Sequence[Window]) -> pd.DataFrame:
    """What every instrument says of the same windows, one row per call and instrument.

    Returns:
        columns ``receiver, runtime, phase, batch_slots, instrument, kind, windows, calls, duration_s, gross_j, net_j,
        uncertainty_j``, the last four per call.
    """
    rows = []
    for subject in subjects:
        seen = [{j.instrument for j in w.joules if j.kind != "assumed"} for w in windows if w.name == subject.name]
        for instrument in sorted(set.intersection(*seen)) if seen else ():
            call = per_call(windows, subject.name, instrument)
            rows.append(
                {
                    "receiver": subject.receiver,
                    "runtime": subject.runtime,
                    "phase": subject.phase,
                    "batch_slots": subject.profile.batch_slots,
                    "instrument": instrument,
                    "kind": call.kind,
                    "windows": call.windows,
                    "calls": call.calls,
                    "duration_s": call.duration_s,
                    "gross_j": call.gross_j,
                    "net_j": call.net_j,
                    "uncertainty_j": call.uncertainty_j,
                }
            )
    return pd.DataFrame(rows)
