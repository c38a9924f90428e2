"""Metering a window of work with CodeCarbon's offline tracker.

::

    meter.start()                                             meter.stop()
        |<------------------- duration_s ------------------------>|
        |   work, repeated until the window is long enough        |
        +--- CodeCarbon samples CPU load (1 s) or reads counters--+

What CodeCarbon knows depends on the machine. With RAPL it reads the CPU's energy counter, with NVML the GPU's:
*measured*. It would add all GPUs of a machine; here the one that computes is counted, and none for work on the CPU.
Without RAPL it multiplies the CPU's TDP by this process's share of CPU time: *modelled*. Its RAM power
is a constant: *assumed*. Every reading says which of the three each of its joules is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch

from energy.hardware.detect import cpu_power, nvml_index
from leanrx_core.errors import UserError
from leanrx_core.units import JOULES_PER_KWH


@dataclass(frozen=True)
class Reading:
    """Energy of one window.

    Attributes:
        duration_s: wall-clock length.
        cpu_j, gpu_j, ram_j: energy by component.
        cpu_kind, gpu_kind, ram_kind: ``measured``, ``modelled``, ``assumed``, or ``none``.
        instrument: what was read, with its version and power mode.
    """

    duration_s: float
    cpu_j: float
    gpu_j: float
    ram_j: float
    cpu_kind: str
    gpu_kind: str
    ram_kind: str
    instrument: str

    @property
    def energy_j(self) -> float:
        """CPU and GPU together; RAM, a constant in CodeCarbon, is left out."""
        return self.cpu_j + self.gpu_j

    @property
    def kind(self) -> str:
        """The weaker of the marks of the CPU and the GPU joules."""
        kinds = {self.cpu_kind, self.gpu_kind}
        return next(k for k in ("assumed", "modelled", "measured", "none") if k in kinds)

    def __add__(self, other: Reading) -> Reading:
        """Two windows, one after the other, on the same instruments."""
        return Reading(
            self.duration_s + other.duration_s,
            self.cpu_j + other.cpu_j,
            self.gpu_j + other.gpu_j,
            self.ram_j + other.ram_j,
            self.cpu_kind,
            self.gpu_kind,
            self.ram_kind,
            other.instrument,
        )

    def __mul__(self, part: float) -> Reading:
        """A part of the window."""
        return replace(
            self,
            duration_s=part * self.duration_s,
            cpu_j=part * self.cpu_j,
            gpu_j=part * self.gpu_j,
            ram_j=part * self.ram_j,
        )


class Meter:
    """CodeCarbon's offline tracker, one per process; windows do not overlap.

    Args:
        cpu_tdp_w: power of the CPU share at full load for the load model, where no counter can be read; CodeCarbon's
            table if not given.
        device: that computes, as torch calls it; of several GPUs only this one is counted.
        country: ISO 3166-1 alpha-3 code; CodeCarbon wants one, energies do not depend on it.
    """

    def __init__(self, cpu_tdp_w: float | None = None, device: str = "cpu", country: str = "FRA") -> None:
        os.environ.setdefault("CODECARBON_LOG_LEVEL", "error")
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.core.cpu import is_rapl_available

        # given a power, CodeCarbon would take its model although there is a counter
        self._cpu_tdp_w = None if is_rapl_available() else cpu_tdp_w
        self._gpus = [] if device == "cpu" else [nvml_index(torch.device(device).index or 0)]
        self._tracker: Any = OfflineEmissionsTracker(
            country_iso_code=country,
            save_to_file=False,
            log_level="error",
            tracking_mode="process",
            allow_multiple_runs=True,
            force_cpu_power=self._cpu_tdp_w,
            gpu_ids=self._gpus,
        )
        self._window = 0
        self.running = False
        self.start()
        self._modes = self._power_modes()
        self.stop()

    def start(self) -> None:
        """Open a window."""
        _synchronise()
        self._window += 1
        self.running = True
        self._tracker.start_task(f"window {self._window}")

    def stop(self) -> Reading:
        """Close the window and read it."""
        _synchronise()
        self.running = False  # first, so that an interrupted stop is not stopped again
        data = self._tracker.stop_task()
        cpu_kind, gpu_kind, mode = getattr(self, "_modes", ("none", "none", ""))
        return Reading(
            duration_s=data.duration,
            cpu_j=data.cpu_energy * JOULES_PER_KWH,
            gpu_j=data.gpu_energy * JOULES_PER_KWH,
            ram_j=data.ram_energy * JOULES_PER_KWH,
            cpu_kind=cpu_kind,
            gpu_kind=gpu_kind,
            ram_kind="assumed",
            instrument=f"CodeCarbon {version('codecarbon')} ({mode})",
        )

    def _power_modes(self) -> tuple[str, str, str]:
        """Kinds of the CPU's and the GPU's joules, and CodeCarbon's power mode in words."""
        cpu_kind, gpu_kind, words = "none", "none", []
        for part in self._tracker._hardware:
            name = type(part).__name__
            if name == "CPU":
                counter = part._mode in ("intel_rapl", "intel_power_gadget", "windows_emi")
                cpu_kind = "measured" if counter else "modelled"
                tdp = cpu_power(self._cpu_tdp_w)[1]
                words.append(
                    {
                        "intel_rapl": "CPU: RAPL counter",
                        "constant": f"{tdp} at a constant share",
                        "cpu_load": f"{tdp} x process CPU share",
                    }.get(part._mode, f"CPU: {part._mode}")
                )
            elif name == "GPU" and self._gpus:
                gpu_kind = "measured"
                words.append("GPU: NVML energy counter")
            elif name == "AppleSiliconChip":
                cpu_kind = "measured"
                words.append("powermetrics")
        return cpu_kind, gpu_kind, "; ".join(words)


@dataclass(frozen=True)
class Metered:
    """A window of repeated work.

    Attributes:
        reading: energy of the whole window.
        repeats: calls in the window.
    """

    reading: Reading
    repeats: int


def meter_repeats(meter: Meter, work: Callable[[], object], min_duration_s: float = 5.0) -> Metered:
    """Warm ``work`` up, then repeat it in one window for at least ``min_duration_s``.

    Raises:
        UserError: if the window would be shorter than a second, CodeCarbon's sampling interval.
    """
    if min_duration_s < 1:
        raise UserError(f"min_duration_s: {min_duration_s} is below CodeCarbon's sampling interval; give 1 or more")
    work()
    meter.start()
    begin, repeats = time.perf_counter(), 0
    while time.perf_counter() - begin < min_duration_s:
        work()
        repeats += 1
    return Metered(meter.stop(), repeats)


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
