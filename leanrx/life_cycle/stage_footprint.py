"""The footprint of a receiver's life cycle: preparation, development, application and recycling, from its joules.

::

    preparation  collection of training and test slots over hops
    development  teacher, distillation, training, evaluation
    application  distribution of the weights, collection of received slots over hops, inference
    recycling    adaptation of the receiver to another scenario

Joules are those of the life cycle (:mod:`leanrx.life_cycle.inventory`), times one plus the overhead of virtualisation.
So the rows that eCAL counts add up to its ``absolute_j``. eCAL counts no distribution of weights and no recycling.
"""

from __future__ import annotations

from carbon import Emission, Footprint, Site
from carbon.footprint import Provenance
from energy.ecal import AccountingConvention, hop, transport_energy_j
from leanrx.life_cycle.inventory import LifeCycleInventory
from leanrx.life_cycle.life_cycle_result import LifeCycleResult
from leanrx_core.checks import number, positive
from leanrx_core.records import Record

_DISTRIBUTION = "distribution of weights"
_ADAPTATION = "adaptation"
NOT_IN_ECAL = (_DISTRIBUTION, _ADAPTATION)
"""Processes that eCAL does not count."""
_PLACES: dict[str, tuple[str, str]] = {
    "collection": ("preparation", "core"),
    "teacher": ("development", "edge/cloud"),
    "distillation": ("development", "edge/cloud"),
    "training": ("development", "edge/cloud"),
    "evaluation": ("development", "edge/cloud"),
    _DISTRIBUTION: ("application", "core"),
    "inference_collection": ("application", "core"),
    "inference": ("application", "RAN"),
    _ADAPTATION: ("recycling", "edge/cloud"),
}
"""Stage and component of each process. A receiver is a part of the base station."""
_TRANSPORTS = ("collection", "inference_collection")
STAGES = tuple(dict.fromkeys(stage for stage, _ in _PLACES.values()))


class LifeCycleSites(Record):
    """Where the stages happen.

    Attributes:
        development: of preparation, development and recycling.
        application: of everything in service.
    """

    development: Site
    application: Site

    def of_stage(self, stage: str) -> Site:
        """The site of a stage."""
        return self.application if stage == "application" else self.development


def stage_footprint(
    inventory: LifeCycleInventory,
    result: LifeCycleResult,
    sites: LifeCycleSites,
    adaptation_j: float | None = None,
) -> Footprint:
    """The footprint of one receiver by stage, process, component and scope.

    Transport without hops, distribution without hops, adaptation without joules, user devices and the making of
    hardware are rows that are not modelled.

    Args:
        inventory: of the run.
        result: one of its life cycles.
        sites: intensities and PUE of development and application.
        adaptation_j: joules of adapting the receiver to other scenarios, such as a measured part of its training.

    Returns:
        the rows, in the order of the life cycle. The sum of ``energy_j`` over those that eCAL counts is ``absolute_j``
        where PUE is 1.

    Raises:
        UserError: if the two sites have intensities of two bases, or ``adaptation_j`` is negative.
    """
    ecal = result.ecal
    factor = 1 + ecal.virtualisation
    energies: dict[str, float | None] = {**ecal.development, **ecal.inference}
    for process in _TRANSPORTS:
        energies[process] = energies.get(process) or None
    energies[_DISTRIBUTION] = _distribution_j(inventory, result)
    energies[_ADAPTATION] = None if adaptation_j is None else number("adaptation_j", adaptation_j, 0.0)
    rows = []
    for process, (stage, component) in _PLACES.items():
        if process not in energies:
            continue
        energy_j, provenance = energies[process], _provenance(process, result)
        rows.append(_row(stage, process, component, energy_j, factor, sites, provenance))
    rows.append(Emission(stage="application", process="transmission", component="user device", scope=3))
    rows.append(Emission(stage="preparation", process="making of hardware", component="edge/cloud", scope=3))
    return Footprint(rows=tuple(rows))


def _row(
    stage: str,
    process: str,
    component: str,
    energy_j: float | None,
    factor: float,
    sites: LifeCycleSites,
    provenance: Provenance,
) -> Emission:
    name = process.replace("inference_collection", "collection")
    if energy_j is None:
        return Emission(stage=stage, process=name, component=component, scope=2)
    site = sites.of_stage(stage)
    return Emission.of_energy(
        stage, component, 2, factor * energy_j, site.intensity, provenance, site.pue, process=name
    )


def _distribution_j(inventory: LifeCycleInventory, result: LifeCycleResult) -> float | None:
    """Energy of sending the weights, 32 bits each, over the hops of development; none without hops or weights."""
    settings = inventory.settings
    if result.role == "classical" or not settings.development_hops:
        return None
    bits = 32 * inventory.run.receiver(result.receiver).card.parameters
    convention = AccountingConvention(**settings.convention.model_dump())
    return transport_energy_j(bits, settings.development_hops * (hop("generic"),), convention)


def _provenance(process: str, result: LifeCycleResult) -> Provenance:
    """Of a process: the weakest of the result, assumed for transport, and modelled for products with joules."""
    if process in (*_TRANSPORTS, _DISTRIBUTION):
        return "assumed"
    energy: Provenance = "measured" if result.provenance == "measured" else "modelled"
    return "modelled" if process in ("distillation", "evaluation", _ADAPTATION) else energy


def g_per_application_bit(footprint: Footprint, result: LifeCycleResult) -> float:
    """Grams per application bit, beside eCAL's joules per bit."""
    return footprint.total_g / result.ecal.bits


def carbon_payback_slots(payback_slots: float, sites: LifeCycleSites) -> float:
    """Slots until the carbon of development is saved, from those until its energy is, where all of it moves.

    Example:
        >>> from carbon import CarbonIntensity
        >>> def site(g_per_kwh: float) -> Site:
        ...     return Site(intensity=CarbonIntensity(name="x", place="x", g_per_kwh=g_per_kwh, source="x"))
        >>> round(carbon_payback_slots(203_000, LifeCycleSites(development=site(23.7), application=site(659.8))))
        7292
    """
    development, application = (site.intensity.g_per_kwh * site.pue for site in (sites.development, sites.application))
    return payback_slots * development / positive("carbon intensity in service", application)


def slots_at_development_share(result: LifeCycleResult, share: float) -> float:
    """Slots in service after which development is a share of all joules: ``D (1 - s)/(s E)``.

    Args:
        result: with joules of development D and joules per slot in service E.
        share: above 0 and below 1.
    """
    number("share", share, 0.0, 1.0, open_low=True)
    ecal = result.ecal
    return ecal.development_j * (1 - share) / (share * ecal.inference_j_per_inference)
