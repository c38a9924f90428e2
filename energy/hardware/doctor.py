"""What this machine can measure, and what stands in the way."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from energy.hardware.detect import host
from energy.hardware.devices import Device
from energy.metering.instruments import Nvml, Perf, Rapl
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
class Finding:
    """One instrument or device: whether it can be used, and if not, why and what would help."""

    name: str
    usable: bool
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look for every instrument that leanrx can use."""
    return [
        _instrument("RAPL", Rapl, "CPU energy is measured"),
        _instrument("NVML", Nvml, "GPU energy is measured"),
        _instrument("perf", Perf, "cycles and instructions are counted"),
        _codecarbon(),
        _cuda(),
    ]


def report(again: bool = False) -> dict[str, Any]:
    """Host, packages and instruments as plain data, for ``environment.json`` and ``leanrx doctor --json``.

    Args:
        again: time the machine's rates anew, see :func:`energy.hardware.detect.host`.
    """
    machine: Device = host(again=again)
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {p: _version(p) for p in PACKAGES},
        "threads": torch.get_num_threads(),
        "device": machine.model_dump(),
        "instruments": [asdict(f) for f in examine()],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _instrument(name: str, make: Callable[[], object], what: str) -> Finding:
    """Whether an instrument opens; if not, its own words, of which the last part is the remedy."""
    try:
        make()
    except UserError as error:
        detail, _, remedy = str(error).removeprefix(f"{name}: ").partition("; ")
        return Finding(name, False, detail, remedy)
    return Finding(name, True, what)


def _codecarbon() -> Finding:
    from energy.metering.meter import Meter

    meter = Meter(device="cuda:0" if torch.cuda.is_available() else "cpu")
    meter.start()
    reading = meter.stop()
    detail = f"{reading.instrument}: CPU {reading.cpu_kind}, GPU {reading.gpu_kind}, RAM {reading.ram_kind}"
    remedy = "" if reading.cpu_kind == "measured" else "CPU joules are TDP x CPU share, not a measurement: see RAPL"
    return Finding("CodeCarbon", True, detail, remedy)


def _cuda() -> Finding:
    if not torch.cuda.is_available():
        return Finding("CUDA", False, "torch finds no CUDA device", "install a CUDA build of torch on a GPU machine")
    return Finding("CUDA", True, torch.cuda.get_device_name(0))
