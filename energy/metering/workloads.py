"""Workloads: calls of receivers in several runtimes, with their operations, and the file of their windows.

A *workload* is a call that can be repeated, and the operations of one call. Windows are kept in one file of JSON lines
as they come, so that an interrupted session resumes; everything else is computed from them.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from channels import Slots
from energy.counting.onnx_file import count_onnx
from energy.counting.profile import OperationProfile
from energy.counting.torch_net import count_module
from energy.hardware.devices import Device
from energy.metering.measurement import Instrument
from energy.metering.perf import Perf
from energy.metering.session import CallStatistics, MeteringProtocol, Window, meter_windows
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers.base import Receiver
from receivers.export.exported_receiver import ExportedReceiver, runtime_arguments
from receivers.neural.network import Network
from receivers.neural.weights import NeuralReceiver, full_precision
from receivers.runtime import CLibrary, LiteRtSession, OnnxSession

RECEIVER_RUNTIME, CLASSICAL_RUNTIME = "receiver", "classical"
"""Runtimes of whole receivers, from slots to LLRs: neural ones with their front end, and classical ones."""

C_RUNTIME = "c"
"""Runtime of an exported C file, compiled for this machine: one thread, and one slot after the other."""

ONNX_RUNTIME = "onnx"
"""Runtime of an exported ONNX file, on as many threads as torch has. Its precision follows after a dash."""

LITERT_RUNTIME = "litert"
"""Runtime of an exported LiteRT file: one thread, and one slot after the other. Its precision follows after a dash."""

OMITTED_OF_NETWORKS = (
    f"Calls of '{RECEIVER_RUNTIME}', '{CLASSICAL_RUNTIME}' and exported files go from slots to LLRs. Calls "
    "of a network in torch start at its features: their time, joules and operations leave out what computes the "
    "features, such as a front end."
)
"""What the calls of each runtime contain."""


@dataclass(frozen=True)
class Workload:
    """One call to meter.

    Attributes:
        receiver: its name.
        runtime: ``receiver`` or ``classical`` for a whole receiver; ``onnx-fp32``, ``onnx-int8``, ``litert-fp32``,
            ``litert-int8`` or ``c`` for its file; ``eager``, ``eager-bf16`` or ``compiled`` for a network on features.
        phase: ``inference`` or ``training``.
        profile: operations of one call.
        call: computes.
        digest: hash of what computes, so that windows of another artefact are not taken for its own.
        on_gpu: whether a GPU computes.
        build: hash of sources, compiler and flags, where ``digest`` is that of the receiver which they belong to.
    """

    receiver: str
    runtime: str
    phase: str
    profile: OperationProfile
    call: Callable[[], object]
    digest: str
    on_gpu: bool = False
    build: str = ""

    @property
    def name(self) -> str:
        """In the file of windows."""
        digest = hashlib.sha256((self.digest + self.build).encode()).hexdigest()[:8]
        return f"{self.receiver}/{self.runtime}/{self.phase}/{self.profile.batch_slots}@{digest}"

    @property
    def is_whole_receiver(self) -> bool:
        """Whether the call goes from slots to LLRs in torch."""
        return self.runtime in (RECEIVER_RUNTIME, CLASSICAL_RUNTIME)


def receiver_workload(receiver: Receiver, slots: Slots, profile: OperationProfile) -> Workload:
    """A whole receiver, from slots to LLRs.

    Args:
        receiver: neural or classical.
        slots: of one call.
        profile: of one call.
    """
    runtime = RECEIVER_RUNTIME if isinstance(receiver, NeuralReceiver) else CLASSICAL_RUNTIME
    return Workload(
        receiver.name, runtime, "inference", profile, lambda: receiver(slots), receiver.digest, slots.y.is_cuda
    )


def network_workload(
    net: Network, receiver: str, inputs: torch.Tensor, compiled: bool = False, bf16: bool = False
) -> Workload:
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
    return Workload(receiver, runtime, "inference", profile, call, digest, inputs.is_cuda)


def training_workload(net: Network, receiver: str, inputs: torch.Tensor) -> Workload:
    """A training step: forward, binary cross-entropy against random bits, backward, AdamW; on a copy of the network."""
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

    return Workload(receiver, "eager", "training", profile, call, digest, inputs.is_cuda)


def onnx_workload(path: Path, receiver: str, slots: Slots) -> Workload:
    """Inference of an exported receiver by ONNX Runtime on the CPU, on as many threads as torch has.

    Args:
        path: of the file.
        receiver: its name.
        slots: of one call.

    Raises:
        UserError: if the file cannot be loaded or counted.
    """
    session, arrays = OnnxSession(path, torch.get_num_threads()), runtime_arguments(slots)
    profile = count_onnx(path, [*slots.y.shape, 2])
    return Workload(
        receiver, f"{ONNX_RUNTIME}-{profile.precision}", "inference", profile, lambda: session(*arrays), session.digest
    )


def litert_workload(path: Path, receiver: Receiver, slots: Slots, profile: OperationProfile) -> Workload:
    """Inference of an exported receiver by LiteRT on one thread; it computes the slots of a call one after the other.

    Args:
        path: of the file.
        receiver: that it was exported from.
        slots: of one call.
        profile: operations of the receiver in one call.

    Raises:
        UserError: if the file cannot be loaded, or LiteRT is not installed.
    """
    session, arrays = LiteRtSession(path), runtime_arguments(slots)
    runtime = f"{LITERT_RUNTIME}-{'int8' if session.is_quantised else 'fp32'}"
    return Workload(receiver.name, runtime, "inference", profile, lambda: session(*arrays), session.digest)


def c_workload(file: ExportedReceiver, receiver: Receiver, slots: Slots, profile: OperationProfile) -> Workload:
    """Inference of a compiled C file on one thread; it computes the slots of a call one after the other.

    Args:
        file: compiled, see :func:`receivers.export.exported_file.open_exported`. It may be deleted afterwards.
        receiver: that it was exported from.
        slots: of one call.
        profile: operations of the receiver in one call.

    Raises:
        UserError: if the file cannot be loaded.
    """
    library, arrays = CLibrary(file.path), runtime_arguments(slots)

    def call() -> object:
        return library(*arrays)

    return Workload(receiver.name, C_RUNTIME, "inference", profile, call, receiver.digest, build=file.digest)


def _digest(net: nn.Module) -> str:
    """Hash of a network's class and state."""
    state = {name: value.cpu().contiguous() for name, value in net.state_dict().items()}
    return hashlib.sha256(repr(net).encode() + safetensors.torch.save(state)).hexdigest()


def meter_workloads(
    workloads: Sequence[Workload],
    instruments: Sequence[Instrument],
    protocol: MeteringProtocol,
    path: Path,
    perf: Perf | None = None,
) -> Iterator[Window]:
    """Meter what the file does not hold yet; every window is in it before it is returned.

    Args:
        workloads: to meter.
        instruments, protocol: as in :func:`energy.metering.session.meter_windows`.
        path: of the file of windows.
        perf: counts cycles, too.

    Raises:
        UserError: if the file is damaged, or as :func:`energy.metering.session.meter_windows`.
    """
    windows = read_windows(path) if path.exists() else []
    done = frozenset((w.name, w.round) for w in windows)
    calls = {w.name: w.call for w in workloads}
    for window in meter_windows(calls, instruments, protocol, done, perf):
        windows.append(window)
        write_windows(path, windows)
        yield window


def write_windows(path: Path, windows: Sequence[Window]) -> None:
    """Write the file of windows."""
    write_atomic(path, "".join(json.dumps(w.as_json()) + "\n" for w in windows))


def read_windows(path: Path) -> list[Window]:
    """Read the file of windows.

    Raises:
        UserError: if it is missing or damaged.
    """
    try:
        windows = [Window.from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise UserError(f"{path}: {error.strerror}; meter first") from None
    except (OSError, ValueError, RecursionError):
        windows = []
    if not windows or not all(w.is_possible for w in windows):
        raise UserError(f"{path}: damaged or of another version; delete it and meter again")
    return windows


def cycles(workload: Workload, call: CallStatistics, device: Device) -> tuple[float, str]:
    """Cycles of all cores in a call, and where they come from. Busy-waiting threads and multiprocessors count."""
    if workload.on_gpu:
        return call.duration_s * device.clock_hz * device.cores, "time x highest clock"
    if call.cycles is not None:
        return call.cycles, "perf"
    return call.cpu_s * device.clock_hz, "CPU time x nominal clock"
