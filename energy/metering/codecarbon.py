"""CodeCarbon's offline tracker as an instrument.

What CodeCarbon knows depends on the machine. With RAPL it reads the CPU's energy counter, and with NVML the GPU's:
*measured*. It would add all GPUs of a machine; here the one that computes is counted, and none for work on the CPU.
Without RAPL it multiplies the CPU's TDP by this process's share of CPU time: *modelled*. Its RAM power is a constant:
*assumed*, and left out of all energies.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

import torch

from energy.hardware.detect import host_power, nvml_index
from energy.hardware.topology import Topology
from energy.metering.measurement import Measurement, Provenance, check_power, reading_uncertainty_j
from leanrx_core.units import JOULES_PER_KWH

SAMPLING_S = 1.0
_COUNTERS = ("intel_rapl", "intel_power_gadget", "windows_emi")


class CodeCarbon:
    """CPU, GPU and RAM as CodeCarbon sees them, each with its own provenance.

    Args:
        cpu_power_w: power of all CPUs at full load for the load model, where no counter can be read; that of
            :func:`energy.hardware.processor_power.processor_power` if not given.
        device: that computes, in torch's notation; of several GPUs only this one is counted.
        country: ISO 3166-1 alpha-3 code. CodeCarbon wants one; energies do not depend on it.
    """

    name, shortest_s = "CodeCarbon", SAMPLING_S

    def __init__(self, cpu_power_w: float | None = None, device: str = "cpu", country: str = "FRA") -> None:
        os.environ.setdefault("CODECARBON_LOG_LEVEL", "error")
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.core.cpu import is_rapl_available
        from codecarbon.core.util import count_cpus

        power_w, self._power_source = host_power(cpu_power_w)
        # with a given power, CodeCarbon would use its model although there is a counter. In a Slurm job, it takes the
        # share of a process in the CPUs of the job, so it gets the power of these alone
        model_w = None if is_rapl_available() else power_w * count_cpus() / Topology.read().num_cpus
        self._gpus = [] if device == "cpu" else [nvml_index(torch.device(device).index or 0)]
        self._tracker: Any = OfflineEmissionsTracker(
            country_iso_code=country,
            save_to_file=False,
            log_level="error",
            tracking_mode="process",
            allow_multiple_runs=True,
            force_cpu_power=model_w,
            gpu_ids=self._gpus,
        )
        self._window = 0
        self.begin()  # the first window creates the tracker's hardware
        self._tracker.stop_task()
        self._provenances, mode = self._power_modes()
        self._version = f"{version('codecarbon')} ({mode})"

    def begin(self) -> None:
        """Open a window."""
        self._window += 1
        self._tracker.start_task(f"window {self._window}")

    def end(self) -> list[Measurement]:
        """Close it."""
        data = self._tracker.stop_task()
        energies_j = {
            "cpu": data.cpu_energy * JOULES_PER_KWH,
            "gpu": data.gpu_energy * JOULES_PER_KWH,
            "ram": data.ram_energy * JOULES_PER_KWH,
        }
        for component, energy_j in energies_j.items():
            check_power(f"CodeCarbon: {component} took {energy_j:g} J", energy_j, data.duration, delay_s=SAMPLING_S)
        return [
            Measurement(
                component,
                energy_j,
                self._provenances[component],
                self.name,
                self._version,
                reading_uncertainty_j(energy_j / max(data.duration, SAMPLING_S) * SAMPLING_S),
                data.duration,
            )
            for component, energy_j in energies_j.items()
            if component in self._provenances
        ]

    def _power_modes(self) -> tuple[dict[str, Provenance], str]:
        """Provenance by component, and a description of CodeCarbon's power modes."""
        provenances: dict[str, Provenance] = {"ram": "assumed"}
        modes: list[str] = []
        for part in self._tracker._hardware:
            name = type(part).__name__
            if name == "CPU":
                provenances["cpu"] = "measured" if part._mode in _COUNTERS else "modelled"
                descriptions = {
                    "intel_rapl": "CPU: RAPL counter",
                    "constant": f"{self._power_source} at a constant share",
                    "cpu_load": f"{self._power_source} x process CPU share",
                }
                modes.append(descriptions.get(part._mode, f"CPU: {part._mode}"))
            elif name == "GPU" and self._gpus:
                provenances["gpu"] = "measured"
                modes.append("GPU: NVML energy counter")
            elif name == "AppleSiliconChip":
                provenances["cpu"] = "measured"
                modes.append("powermetrics")
        return provenances, "; ".join(modes)
