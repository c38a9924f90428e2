"""What receivers cost: metered and estimated energy side by side, one row each.

``energy_j`` and ``duration_s`` belong to the whole window of ``slots``; ``kind`` marks each joule as measured, modelled
or assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from energy.counting.profile import OperationProfile
from energy.ecal.metric import TRAINING_FACTOR as TRAINING_FACTOR
from energy.estimation.estimators import FLOP_ESTIMATORS
from energy.hardware.devices import Device
from energy.metering.meter import Meter, Reading, meter_repeats


@dataclass(frozen=True)
class EnergyRow:
    """One figure for the energy of a receiver.

    Attributes:
        receiver, digest: which artefact.
        machine: device that it was metered on and estimated for.
        phase: ``inference`` or ``training``.
        source: ``CodeCarbon``, ``FLOPs/clock`` or ``FLOPs/W``.
        kind: measured, modelled or assumed.
        instrument: the instrument, or the estimate's assumption.
        slots: slots in the window.
        repeats: calls in the window.
        batch_slots: slots per call.
        flops: FLOPs per slot.
        duration_s, energy_j: of the window; CPU and GPU.
        ram_j: of the window, a constant power in CodeCarbon: assumed, and not in ``energy_j``.
    """

    receiver: str
    digest: str
    machine: str
    phase: str
    source: str
    kind: str
    instrument: str
    slots: int
    repeats: int
    batch_slots: int
    flops: int
    duration_s: float
    energy_j: float
    ram_j: float


def inference_rows(
    profile: OperationProfile,
    digest: str,
    work: Callable[[], object],
    batch_slots: int,
    meter: Meter,
    device: Device,
    min_duration_s: float,
) -> list[EnergyRow]:
    """Meter repeated calls of ``work``, and estimate the same number of slots."""
    window = meter_repeats(meter, work, min_duration_s)
    return _rows(
        profile.name,
        digest,
        "inference",
        window.reading,
        window.repeats * batch_slots,
        window.repeats,
        batch_slots,
        profile.flops // profile.batch_slots,
        device,
    )


def training_rows(
    name: str, digest: str, reading: Reading, steps: int, batch_slots: int, flops: int, device: Device
) -> list[EnergyRow]:
    """The energy that was metered during training, and its estimates.

    Args:
        flops: FLOPs of training on one slot, a teacher's forward pass included.
    """
    slots = steps * batch_slots
    return _rows(name, digest, "training", reading, slots, steps, batch_slots, flops, device)


def _rows(
    name: str,
    digest: str,
    phase: str,
    reading: Reading,
    slots: int,
    repeats: int,
    batch_slots: int,
    flops: int,
    device: Device,
) -> list[EnergyRow]:
    rows = [
        EnergyRow(
            name,
            digest,
            device.name,
            phase,
            "CodeCarbon",
            reading.kind,
            reading.instrument,
            slots,
            repeats,
            batch_slots,
            flops,
            reading.duration_s,
            reading.energy_j,
            reading.ram_j,
        )
    ]
    for estimator in FLOP_ESTIMATORS:
        estimate = estimator.estimate(OperationProfile.from_formula(name, flops * slots // 2), device)
        rows.append(
            EnergyRow(
                name,
                digest,
                device.name,
                phase,
                estimate.method,
                "modelled",
                estimate.assumption,
                slots,
                repeats,
                batch_slots,
                flops,
                estimate.duration_s,
                estimate.energy_j,
                0.0,
            )
        )
    return rows
