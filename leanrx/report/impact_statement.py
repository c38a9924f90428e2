"""The carbon impact statement of a run: its electricity by kind, emissions, and what is not counted."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from carbon import Emission, Footprint, Site, carbon_intensity
from carbon.footprint import Provenance
from energy.metering.table import SUM, TRAINER_RUNTIME
from leanrx.experiment.run import Run
from leanrx.life_cycle.inventory import LifeCycleInventory
from leanrx.report.formatting import PageTable
from leanrx_core.units import JOULES_PER_KWH

STATEMENT_INTENSITY = "world-2023"
"""Carbon intensity of a statement where none is given."""
NOT_COUNTED = (
    "simulation of test slots",
    "export and report",
    "trainings that were interrupted and begun again",
    "idle machines",
    "memory, storage and network, unless the instrument includes them",
)
_ROLES = {"teacher": "training of teachers", "student": "training of students", "scratch": "training from scratch"}


def default_site() -> Site:
    """The site of a statement where none is given."""
    return Site(intensity=carbon_intensity(STATEMENT_INTENSITY))


def run_footprint(inventory: LifeCycleInventory, site: Site) -> Footprint:
    """Emissions of everything that a run did: trainings, evaluation and metering, by the reference instrument.

    Evaluation is test slots times joules per slot, so it is modelled. Windows of metering are those of all workloads.

    Args:
        inventory: of the run.
        site: where the run was.
    """
    method = inventory.reference_instrument
    results = [inventory.result(name, method) for name in inventory.roles]
    rows = []
    for role, process in _ROLES.items():
        trained = [r for r in results if r.role == role]
        if trained:
            training_j, provenance = sum(r.training_j for r in trained), _provenance(r.provenance for r in trained)
            rows.append(_row(process, training_j, provenance, site))
    evaluated_j = sum(r.ecal.development["evaluation"] for r in results)
    rows.append(_row("evaluation", evaluated_j, "modelled", site))
    table = inventory.run.energy()
    windows = table[(table["method"] == method) & (table["component"] == SUM) & (table["runtime"] != TRAINER_RUNTIME)]
    rows.append(_row("metering", float(windows["energy_j"].sum()), _provenance(windows["provenance"]), site))
    if site.embodied_kg:
        duration_s = float(table.loc[table["method"] == method, "duration_s"].sum())
        grams = site.embodied_g(duration_s)
        rows.append(
            Emission(
                stage="development",
                process="making of hardware",
                component="edge/cloud",
                scope=3,
                g=grams,
                provenance="assumed",
                boundary="whole device",
            )
        )
    else:
        rows.append(Emission(stage="development", process="making of hardware", component="edge/cloud", scope=3))
    return Footprint(rows=tuple(rows))


def _provenance(parts: Iterable[str]) -> Provenance:
    return "measured" if set(parts) == {"measured"} else "modelled"


def _row(process: str, energy_j: float, provenance: Provenance, site: Site) -> Emission:
    return Emission.of_energy(
        "development", "edge/cloud", 2, energy_j, site.intensity, provenance, site.pue, process=process
    )


def statement_table(footprint: Footprint) -> pd.DataFrame:
    """One row per kind: ``process, kwh, g, provenance``; empty where a kind is not modelled."""
    return pd.DataFrame(
        [
            {
                "process": row.process,
                "kwh": None if row.energy_j is None else row.energy_j / JOULES_PER_KWH,
                "g": row.g,
                "provenance": row.provenance or "",
            }
            for row in footprint.rows
        ]
    )


def statement_page_table(footprint: Footprint) -> PageTable:
    """Kilowatt-hours and grams by kind."""
    rows = [
        [row.process, f"{(row.energy_j or 0.0) / JOULES_PER_KWH:.3g}", f"{row.g:.3g}", str(row.provenance)]
        for row in footprint.rows
        if row.energy_j is not None and row.g is not None
    ]
    return PageTable(["kind", "energy [kWh]", "emissions [gCO2e]", "provenance"], rows, files=["carbon-statement.csv"])


def statement_sentences(inventory: LifeCycleInventory, footprint: Footprint, site: Site, is_default: bool) -> list[str]:
    """The statement as text.

    Args:
        inventory: of the run.
        footprint: of :func:`run_footprint`.
        site: where the run was.
        is_default: whether nobody gave the intensity.
    """
    electric = [row for row in footprint.rows if row.energy_j is not None]
    kwh = sum(row.energy_j or 0.0 for row in electric) / JOULES_PER_KWH
    parts = ", ".join(f"{row.process} {(row.energy_j or 0.0) / JOULES_PER_KWH:.3g}" for row in electric)
    intensity = site.intensity
    assumed = ", which was not given and is assumed" if is_default else ""
    return [
        f"Carbon impact statement: this run used {kwh:.3g} kWh, which emit {footprint.total_g:.3g} gCO2e.",
        f"The intensity is {intensity.name}, {intensity.g_per_kwh:g} g/kWh{assumed}, and the PUE is {site.pue:g}.",
        f"By kind in kWh, by {inventory.reference_instrument}: {parts}.",
        f"Not counted: {', '.join([*_processes(footprint), *NOT_COUNTED])}.",
    ]


def _processes(footprint: Footprint) -> list[str]:
    return [row.process for row in footprint.rows if row.g is None]


def statement_lines(run: Run, site: Site | None) -> list[str]:
    """The statement of a run, at a site or at the default one."""
    inventory, place = LifeCycleInventory(run), site or default_site()
    return statement_sentences(inventory, run_footprint(inventory, place), place, is_default=site is None)
