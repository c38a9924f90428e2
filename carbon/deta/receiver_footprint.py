"""The footprint of receiving sites by stage, component and scope."""

from __future__ import annotations

from carbon.accounting import CarbonIntensity
from carbon.deta.receiver_dispatch import STAGES, ReceiverDispatch
from carbon.footprint import Emission, Footprint, Provenance, Scope
from carbon.link_table import carrier_link
from leanrx_core.units import JOULES_PER_KWH

_PLACES = {
    "transmission": ("application", ""),
    "reception": ("application", "RAN"),
    "idle": ("application", "RAN"),
    "development": ("development", "edge/cloud"),
    "recycling": ("recycling", "edge/cloud"),
    "transport": ("application", "core"),
}
"""Stage of the life cycle and component of each use. That of a transmission is the link's."""


def receiver_footprint(result: ReceiverDispatch) -> Footprint:
    """Emissions of all sites by use.

    Joules of reception are as good as those of the receivers. Transmission is modelled. Idling, jobs and transport are
    assumed, because their joules come from the file of the network.

    Args:
        result: of a network of receiving sites.

    Returns:
        one row for each use, in the order of :data:`carbon.deta.receiver_dispatch.STAGES`. The collection of training
        data and the making of hardware are not modelled.
    """
    sender = carrier_link(result.network.link).component
    measured = {option.provenance for option in result.family.options} == {"measured"}
    reception: Provenance = "measured" if measured else "modelled"
    provenances: dict[str, Provenance] = {"transmission": "modelled", "reception": reception}
    rows = [Emission(stage="preparation", process="collection", component="core", scope=2)]
    for index, use in enumerate(STAGES):
        stage, component = _PLACES[use]
        kwh, grams = float(result.stage_kwh[index].sum()), float(result.stage_g[index].sum())
        intensity = CarbonIntensity(
            name="mean over the energy of the dispatch",
            place="all sites",
            year=None,
            g_per_kwh=grams / kwh if kwh else 0.0,
            source="mean over the energy of the dispatch",
            basis=result.network.sites[0].basis,
        )
        component = component or sender
        scope: Scope = 3 if component == "user device" else 2
        joules, provenance = kwh * JOULES_PER_KWH, provenances.get(use, "assumed")
        rows.append(Emission.of_energy(stage, component, scope, joules, intensity, provenance, process=use))
    if sender != "user device":
        rows.append(Emission(stage="application", process="transmission", component="user device", scope=3))
    rows.append(Emission(stage="preparation", process="making of hardware", component="RAN", scope=3))
    return Footprint(rows=tuple(rows))
