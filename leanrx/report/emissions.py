"""Emissions: the SCI of every receiver of a run, from its metered energy and its errors on the test slots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from carbon import FUNCTIONAL_UNITS, Site, SoftwareCarbonIntensity, software_carbon_intensity
from leanrx.life_cycle.inventory import LifeCycleInventory
from leanrx_core.errors import UserError


@dataclass(frozen=True)
class EmissionBasis:
    """Site and functional unit of the emissions.

    Attributes:
        site: where the receivers run.
        unit: one of :data:`carbon.FUNCTIONAL_UNITS`. A decoded bit is an information bit of a correct
            transport block where the run counts blocks, and a correct data bit elsewhere.

    Raises:
        UserError: if the unit is not known.
    """

    site: Site
    unit: str = "slot"

    def __post_init__(self) -> None:
        if self.unit not in FUNCTIONAL_UNITS:
            units = ", ".join(FUNCTIONAL_UNITS)
            raise UserError(f"carbon: functional unit '{self.unit}' is not known; units: {units}")


def emissions(
    inventory: LifeCycleInventory, energy: pd.DataFrame, basis: EmissionBasis
) -> dict[str, SoftwareCarbonIntensity | None]:
    """The SCI by receiver, of inference only; none for a receiver that delivers no functional unit.

    Args:
        inventory: of the run. Its point is the SINR at which units are delivered.
        energy: of inference, as :attr:`leanrx.report.results.RunResults.deployed_energy`.
        basis: site and functional unit.

    Raises:
        UserError: if the unit is a transport block and the run counts none.
    """
    goodput = inventory.goodput
    at_fraction = goodput["interference_fraction"] == inventory.interference_fraction
    at_point = at_fraction & (goodput["sinr_db"] == inventory.sinr_db)
    by_receiver: dict[str, SoftwareCarbonIntensity | None] = {}
    for row in goodput[at_point].itertuples():
        inference, units = energy.loc[row.receiver], _units_per_slot(row, basis.unit)
        per_slot = inference["energy_j_per_slot"], inference["duration_s_per_slot"]
        by_receiver[row.receiver] = (
            software_carbon_intensity(basis.site, *per_slot, units, basis.unit, inference["provenance"])
            if units
            else None
        )
    return by_receiver


def _units_per_slot(row: Any, unit: str) -> float:
    """Functional units that one slot delivers."""
    coded = row.transport_blocks > 0
    if unit == "slot":
        return 1.0
    if unit == "decoded bit":
        return float(row.bits_of_correct_slots_per_slot if coded else row.correct_bits_per_slot)
    if not coded:
        raise UserError("carbon: this run decodes no transport blocks; set evaluation.code_rate or choose unit 'slot'")
    return 1.0 - float(row.bler)


def emission_table(
    by_receiver: dict[str, SoftwareCarbonIntensity | None], unit: str, forms: Mapping[str, str]
) -> pd.DataFrame:
    """Emissions as a table.

    Args:
        by_receiver: of :func:`emissions`.
        unit: the functional unit.
        forms: deployed form in words, by receiver.

    Returns:
        one row per receiver: ``receiver, form, unit, units_per_slot``, ``g_per_unit`` (gCO2e, NaN without a delivered
        unit), ``provenance`` of the energy, and ``line``, the result as text.
    """
    return pd.DataFrame(
        [
            {
                "receiver": name,
                "form": forms[name],
                "unit": unit,
                "units_per_slot": s.units if s else 0.0,
                "g_per_unit": s.g_per_unit if s else float("nan"),
                "provenance": s.provenance if s else "",
                "line": s.summary() if s else f"no {unit} was delivered",
            }
            for name, s in by_receiver.items()
        ]
    )
