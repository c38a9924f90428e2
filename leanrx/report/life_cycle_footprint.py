"""The footprint of a run's receivers by stage, component and scope: table, sentences and plain values."""

from __future__ import annotations

from typing import Any

import pandas as pd

from carbon.footprint import NOT_MODELLED, Footprint
from leanrx.life_cycle.adaptation import shipped_adaptation
from leanrx.life_cycle.inventory import LifeCycleInventory
from leanrx.life_cycle.life_cycle_result import RUN_TEACHER, LifeCycleResult
from leanrx.life_cycle.stage_footprint import (
    STAGES,
    LifeCycleSites,
    carbon_payback_slots,
    g_per_application_bit,
    slots_at_development_share,
    stage_footprint,
)
from leanrx.report.life_cycle_text import duration, slot_count

_SHARES = (0.2, 0.1)


def footprint_frame(
    inventory: LifeCycleInventory, sites: LifeCycleSites, inferences: int | None = None, adaptations: int = 1
) -> pd.DataFrame:
    """The footprint of every receiver by the reference instrument.

    Args:
        inventory: of the run.
        sites: where the stages happen.
        inferences: slots in service; the run's own setting if not given.
        adaptations: to other scenarios in service.

    Returns:
        one row per receiver and process: ``receiver, stage, process, component, scope, energy_j, g, provenance,
        intensity``; joules and grams are empty where a process is not modelled.
    """
    rows = []
    for result in _results(inventory, inferences):
        for row in _footprint(inventory, result, sites, adaptations).rows:
            keys = ("stage", "process", "component", "scope", "energy_j", "g", "provenance", "intensity")
            rows.append({"receiver": result.receiver, **{key: getattr(row, key) for key in keys}})
    return pd.DataFrame(rows)


def _footprint(
    inventory: LifeCycleInventory, result: LifeCycleResult, sites: LifeCycleSites, adaptations: int
) -> Footprint:
    return stage_footprint(inventory, result, sites, adaptations * shipped_adaptation().ratio * result.training_j)


def _results(inventory: LifeCycleInventory, inferences: int | None) -> list[LifeCycleResult]:
    method = inventory.reference_instrument
    return [inventory.result(name, method, inferences=inferences) for name in inventory.roles]


def receiver_frame(
    inventory: LifeCycleInventory, sites: LifeCycleSites, inferences: int | None = None, adaptations: int = 1
) -> pd.DataFrame:
    """Totals of every receiver by the reference instrument.

    Args:
        inventory, sites, inferences, adaptations: as of :func:`footprint_frame`.

    Returns:
        one row per receiver: ``receiver, role, provenance, total_g``, grams by stage, ``g_per_bit``,
        ``ecal_j_per_bit``, ``slots_at_share_0.2`` and ``slots_at_share_0.1`` (slots after which development is this
        share of all joules), and ``carbon_payback_slots`` against running the teacher; empty where there is none.
    """
    paybacks = {
        p.student: p.slots
        for p in inventory.paybacks()
        if (p.method, p.teacher_allocation, p.against, p.per)
        == (inventory.reference_instrument, inventory.settings.teacher_allocation, RUN_TEACHER, "slot")
    }
    rows: list[dict[str, Any]] = []
    for result in _results(inventory, inferences):
        footprint = _footprint(inventory, result, sites, adaptations)
        slots = paybacks.get(result.receiver)
        row: dict[str, Any] = {"receiver": result.receiver, "role": result.role, "provenance": result.provenance}
        row |= {"total_g": footprint.total_g, **{f"{stage}_g": footprint.sums("stage").get(stage) for stage in STAGES}}
        row |= {"g_per_bit": g_per_application_bit(footprint, result), "ecal_j_per_bit": result.ecal.ecal_j_per_bit}
        row |= {f"slots_at_share_{share:g}": slots_at_development_share(result, share) for share in _SHARES}
        row["carbon_payback_slots"] = None if slots is None else carbon_payback_slots(slots, sites)
        rows.append(row)
    return pd.DataFrame(rows)


def sentences(
    inventory: LifeCycleInventory, sites: LifeCycleSites, inferences: int | None = None, adaptations: int = 1
) -> list[str]:
    """The footprints as text, one line per receiver, and what is not modelled.

    Args:
        inventory, sites, inferences, adaptations: as of :func:`footprint_frame`.
    """
    frame = receiver_frame(inventory, sites, inferences, adaptations)
    places = f"{_place(sites, 'development')} to develop, {_place(sites, 'application')} in service"
    count = inventory.settings.inferences if inferences is None else inferences
    text = [f"{slot_count(count)} slots in service; {places}; joules by {inventory.reference_instrument}."]
    text.append(f"Recycling is assumed as {adaptations} adaptation(s), each at {shipped_adaptation().text}.")
    for row in frame.to_dict("records"):
        stages = ", ".join(f"{stage} {_grams(row[f'{stage}_g'])}" for stage in STAGES)
        text.append(
            f"{row['receiver']}: {row['total_g']:.4g} g ({row['provenance']}): {stages}; {row['g_per_bit']:.3g} g and "
            f"{row['ecal_j_per_bit']:.3g} J per application bit."
        )
    for row in frame[frame["role"] != "classical"].to_dict("records"):
        shares = " and ".join(
            f"{share:.0%} of all joules after {slot_count(row[f'slots_at_share_{share:g}'])} slots "
            f"({duration(row[f'slots_at_share_{share:g}'] * inventory.slot_s)})"
            for share in _SHARES
        )
        text.append(f"{row['receiver']}: development is {shares}.")
        if not pd.isna(row["carbon_payback_slots"]):
            text.append(
                f"{row['receiver']}: its carbon is paid back against running the teacher after "
                f"{slot_count(row['carbon_payback_slots'])} slots, if all of development is at its place."
            )
    missing: list[str] = []
    for result in _results(inventory, inferences):
        missing += _footprint(inventory, result, sites, adaptations).not_modelled
    return [*text, f"{NOT_MODELLED.capitalize()}: {'; '.join(dict.fromkeys(missing))}."]


def _place(sites: LifeCycleSites, stage: str) -> str:
    site = sites.of_stage(stage)
    return f"{site.intensity.name} {site.intensity.g_per_kwh:.4g} g/kWh x PUE {site.pue:g}"


def _grams(value: float | None) -> str:
    return NOT_MODELLED if value is None or pd.isna(value) else f"{value:.3g} g"
