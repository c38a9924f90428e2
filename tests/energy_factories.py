"""Records of energy that several tests make."""

import math
from dataclasses import replace
from typing import Any

from energy.metering.measurement import Measurement
from energy.metering.table import SUM, TRAINER_RUNTIME, EnergyRow
from energy.metering.training import TrainingEnergy, TrainingWindow
from energy.metering.workloads import CLASSICAL_RUNTIME, RECEIVER_RUNTIME

_CLASSICAL = ("LS", "LMMSE", "LMMSE-IRC")


def energy_row(
    receiver: str, digest: str, phase: str, method: str, slots: int, energy_j: float, **changes: Any
) -> EnergyRow:
    """A row of a run's energy; a method whose name begins with FLOPs is an estimate."""
    runtime = CLASSICAL_RUNTIME if receiver in _CLASSICAL else RECEIVER_RUNTIME
    row = EnergyRow(
        receiver=receiver,
        digest=digest,
        machine="m",
        phase=phase,
        runtime=runtime if phase == "inference" else TRAINER_RUNTIME,
        batch_slots=1,
        slots=slots,
        repeats=1,
        windows=1,
        component=SUM,
        method=method,
        description="i",
        provenance="modelled",
        estimated=method.startswith("FLOPs"),
        energy_j=energy_j,
        idle_j=math.nan,
        uncertainty_j=math.nan,
        duration_s=1.0,
        cpu_s=math.nan,
        cycles=math.nan,
        cycle_source="",
        flops=1,
    )
    return replace(row, **changes)


def training_energy(
    cpu_j: float = 1.0, gpu_j: float = 3.0, ram_j: float = 0.5, provenance: str = "modelled", duration_s: float = 2.0
) -> TrainingEnergy:
    """One window of a training, by one instrument."""
    parts = (("cpu", cpu_j, provenance), ("gpu", gpu_j, "measured"), ("ram", ram_j, "assumed"))
    measurements = tuple(
        Measurement(component, energy_j, kind, "fake", "1", 0.0, duration_s)  # type: ignore[arg-type]
        for component, energy_j, kind in parts
    )
    return TrainingEnergy(measurements, (TrainingWindow(0.0, duration_s),))


class FakeMeter:
    """Meters one joule per window on the CPU, and more on the GPU."""

    def __init__(self, **energy: float) -> None:
        self.running, self.readings, self._energy = False, 0, energy

    def open(self) -> None:
        self.running = True

    def close(self) -> TrainingEnergy:
        self.running = False
        self.readings += 1
        return training_energy(**self._energy)
