"""The instruments of this machine, and why others cannot be used."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from energy.hardware.detect import host
from energy.hardware.devices import Device
from energy.metering.codecarbon import CodeCarbon
from energy.metering.nvml import Nvml
from energy.metering.perf import Perf
from energy.metering.rapl import Rapl
from leanrx_core.errors import UserError

PACKAGES = (
    "torch",
    "sionna-no-rt",
    "fvcore",
    "codecarbon",
    "onnx",
    "onnxruntime",
    "tensorflow",
    "ray",
    "optuna",
)


@dataclass(frozen=True)
class Check:
    """Whether an instrument or a device can be used.

    Attributes:
        name: of the instrument or device.
        usable: whether it can be used.
        detail: what it gives, or why it cannot be used.
        remedy: what would help; empty if nothing is missing.
    """

    name: str
    usable: bool
    detail: str
    remedy: str = ""


def run_checks() -> list[Check]:
    """Check every instrument that leanrx can use."""
    return [
        _instrument("RAPL", Rapl, "CPU energy is measured"),
        _instrument("NVML", Nvml, "GPU energy is measured"),
        _instrument("perf", Perf, "cycles and instructions are counted"),
        _codecarbon(),
        _cuda(),
    ]


def report(recalibrate: bool = False) -> dict[str, Any]:
    """Host, packages and instruments as plain data, for ``environment.json`` and ``leanrx doctor --json``.

    Args:
        recalibrate: time the machine's rates again, see :func:`energy.hardware.detect.host`.
    """
    machine: Device = host(recalibrate=recalibrate)
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {p: _version(p) for p in PACKAGES},
        "threads": torch.get_num_threads(),
        "device": machine.model_dump(),
        "instruments": [asdict(check) for check in run_checks()],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _instrument(name: str, instrument: Callable[[], object], detail: str) -> Check:
    """Whether an instrument opens; if not, its error message, of which the last part is the remedy."""
    try:
        instrument()
    except UserError as error:
        reason, _, remedy = str(error).removeprefix(f"{name}: ").partition("; ")
        return Check(name, False, reason, remedy)
    return Check(name, True, detail)


def _codecarbon() -> Check:
    instrument = CodeCarbon(device="cuda:0" if torch.cuda.is_available() else "cpu")
    instrument.begin()
    measurements = instrument.end()
    provenances = {m.component: m.provenance for m in measurements}
    parts = ", ".join(f"{component.upper()} {provenance}" for component, provenance in provenances.items())
    detail = f"{measurements[0].instrument_version}: {parts}"
    measured = provenances.get("cpu") == "measured"
    return Check("CodeCarbon", True, detail, "" if measured else "CPU joules are TDP x CPU share, see RAPL")


def _cuda() -> Check:
    if not torch.cuda.is_available():
        return Check("CUDA", False, "torch finds no CUDA device", "install a CUDA build of torch on a GPU machine")
    return Check("CUDA", True, torch.cuda.get_device_name(0))
