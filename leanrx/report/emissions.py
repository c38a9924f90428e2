"""What receiving emits: the SCI of every receiver of a run, by its metered energy and its errors on the test slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from carbon import FUNCTIONAL_UNITS, Site, SoftwareCarbonIntensity, software_carbon_intensity
from leanrx.life_cycle.inventory import METERED, LifeCycleInventory
from leanrx_core.errors import UserError


@dataclass(frozen=True)
class Footing:
    """On what emissions are stated.

    Attributes:
        site: where the receivers run.
        unit: one of :data:`carbon.FUNCTIONAL_UNITS`. A decoded bit is an information bit of a correct
            transport block where the run counts blocks, and a correct data bit elsewhere.
    """

    site: Site
    unit: str = "slot"


def emissions(
    inventory: LifeCycleInventory, energy: pd.DataFrame, footing: Footing
) -> dict[str, SoftwareCarbonIntensity | None]:
    """The SCI by receiver, inference alone; none where a receiver delivered no such unit.

    Args:
        inventory: its point says at which SINR units are delivered.
        energy: of inference, per slot, as :class:`leanrx.report.analysis.Analysis` has it.

    Raises:
        UserError: if the unit is unknown, or the run counted no transport blocks and they are the unit.
    """
    metered = energy[energy["source"] == METERED].set_index("receiver")
    at = (inventory.goodput["interference_fraction"] == inventory.interference_fraction) & (
        inventory.goodput["sinr_db"] == inventory.sinr_db
    )
    found: dict[str, SoftwareCarbonIntensity | None] = {}
    for row in inventory.goodput[at].itertuples():
        spent, units = metered.loc[row.receiver], _units(row, footing.unit)
        per_slot = spent["energy_j_per_slot"], spent["duration_s_per_slot"]
        found[row.receiver] = (
            software_carbon_intensity(footing.site, *per_slot, units, footing.unit, spent["kind"]) if units else None
        )
    return found


def _units(row: Any, unit: str) -> float:
    """Functional units that a slot delivers."""
    coded = row.transport_blocks > 0
    if unit not in FUNCTIONAL_UNITS:
        raise UserError(f"carbon: functional unit '{unit}' is not known; units: {', '.join(FUNCTIONAL_UNITS)}")
    if unit == "slot":
        return 1.0
    if unit == "decoded bit":
        return float(row.bits_of_correct_slots_per_slot if coded else row.correct_bits_per_slot)
    if not coded:
        raise UserError("carbon: this run decodes no transport blocks; set evaluation.code_rate, or state it per slot")
    return 1.0 - float(row.bler)


def emission_table(found: dict[str, SoftwareCarbonIntensity | None], unit: str) -> pd.DataFrame:
    """One row per receiver, NaN where it delivered nothing."""
    return pd.DataFrame(
        [
            {
                "receiver": name,
                "unit": unit,
                "units_per_slot": s.units if s else 0.0,
                "g_per_unit": s.g_per_unit if s else float("nan"),
                "kind": s.provenance if s else "",
                "line": s.summary() if s else f"no {unit} was delivered",
            }
            for name, s in found.items()
        ]
    )
