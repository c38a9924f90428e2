"""What this machine can measure, and what stands in the way."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from energy.devices import Device, host

_RAPL = Path("/sys/class/powercap")
PACKAGES = (
    "torch", "sionna-no-rt", "fvcore", "codecarbon", "onnx", "onnxruntime", "tensorflow", "ray", "optuna",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One instrument or device: whether it can be used, and if not, why and what would help."""

    name: str
    usable: bool
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look for every instrument that leanrx can use."""
    return [_rapl(), _nvml(), _codecarbon(), _cuda()]


def report(again: bool = False) -> dict[str, Any]:
    """Host, packages and instruments as plain data, for ``environment.json`` and ``leanrx doctor --json``.

    Args:
        again: time the machine's rates anew, see :func:`energy.devices.host`.
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


def _rapl() -> Finding:
    counters = sorted(_RAPL.glob("*/energy_uj")) if _RAPL.is_dir() else []
    if not counters:
        return Finding(
            "RAPL", False, f"no energy counter under {_RAPL}; usual in virtual machines and on other CPUs",
            "run on bare metal with an Intel or AMD CPU, or read a wattmeter",
        )  # fmt: skip
    unreadable = [c for c in counters if not os.access(c, os.R_OK)]
    if unreadable:
        return Finding(
            "RAPL", False, f"{unreadable[0]} is readable by root only",
            "sudo chmod a+r /sys/class/powercap/*/energy_uj (again after each boot)",
        )  # fmt: skip
    return Finding("RAPL", True, f"{len(counters)} counters, CPU energy is measured")


def _nvml() -> Finding:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Finding("NVML", False, f"no NVIDIA driver ({error})", "needs an NVIDIA GPU and its driver")
    try:
        names = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            names.append(str(pynvml.nvmlDeviceGetName(handle)))
        return Finding("NVML", bool(names), f"energy counter of {', '.join(names) or 'no GPU'}")
    except pynvml.NVMLError as error:
        return Finding(
            "NVML",
            False,
            f"a GPU without an energy counter ({error})",
            "Volta or later; no virtual GPU slices",
        )
    finally:
        pynvml.nvmlShutdown()


def _codecarbon() -> Finding:
    from energy.meter import Meter

    meter = Meter()
    meter.start()
    reading = meter.stop()
    detail = f"{reading.instrument}: CPU {reading.cpu_kind}, GPU {reading.gpu_kind}, RAM {reading.ram_kind}"
    remedy = "" if reading.cpu_kind == "measured" else "CPU joules are TDP x CPU share, not a measurement: see RAPL"
    return Finding("CodeCarbon", True, detail, remedy)


def _cuda() -> Finding:
    if not torch.cuda.is_available():
        return Finding("CUDA", False, "torch finds no CUDA device", "install a CUDA build of torch on a GPU machine")
    return Finding("CUDA", True, torch.cuda.get_device_name(0))
