"""The dispatch of least carbon of a network of edge sites, and the emissions of one more kilowatt-hour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from carbon.deta.edge_network import EdgeNetwork
from carbon.deta.programme import POLICIES, Array, Policy, Programme
from carbon.deta.site_energy import SiteEnergy
from carbon.deta.solution import Solution, solve
from leanrx_core.checks import choice


@dataclass(frozen=True, kw_only=True)
class Dispatch(SiteEnergy):
    """What each site does in each slot. Arrays are ``(slots, sites)``, in kWh or batches per slot.

    Attributes:
        network: the sites.
        policy: of the programme.
        transport_g: emissions of transport alone.
        curtailed_kwh: harvest without use.
        sent_batches, received_batches: tasks that move.
        run_batches: tasks that the site runs.
    """

    network: EdgeNetwork
    policy: Policy
    transport_g: float
    curtailed_kwh: Array
    sent_batches: Array
    received_batches: Array
    run_batches: Array

    @property
    def site_names(self) -> list[str]:
        return [site.name for site in self.network.sites]


def dispatch(network: EdgeNetwork, policy: Policy, pairwise: bool | None = None) -> Dispatch:
    """The dispatch of least carbon.

    Args:
        network: the sites.
        policy: a key of :data:`carbon.deta.programme.POLICIES`.
        pairwise: whether each pair of sites is an edge; by default only where the network has values per pair.

    Raises:
        InfeasibleNetwork: if limits cannot be met together. It names site, slot, limit and amount.

    Example:
        >>> site = {"batches": (10,), "batch_kwh": 0.1}
        >>> network = EdgeNetwork(
        ...     sites=(
        ...         {"name": "clean", "g_per_kwh": (50,), "harvest_kwh": (0.6,), **site},
        ...         {"name": "dirty", "g_per_kwh": (500,), "harvest_kwh": (0.2,), **site},
        ...     ),
        ...     slot_s=3600, trading_loss=0.1,
        ... )
        >>> {policy: round(dispatch(network, policy).total_g, 6) for policy in POLICIES}
        {'B0': 550.0, 'B1': 420.0, 'DET': 300.0, 'DAT': 195.0, 'DETA': 75.0}
        >>> dispatch(network, "DETA").marginal_sentences()[1]
        'DETA: one more kWh at dirty emits 500 g in slot 1.'
    """
    choice("policy", policy, POLICIES)
    programme = Programme(network, policy, pairwise)
    return _result(programme, solve(programme))


def ladder(network: EdgeNetwork) -> dict[Policy, Dispatch]:
    """The dispatch of every policy."""
    return {policy: dispatch(network, policy) for policy in POLICIES}


def _result(programme: Programme, solution: Solution) -> Dispatch:
    values = {name: programme.values(solution.values, name) for name in programme.columns}
    moves, trades = values.pop("moves"), values.pop("trades")
    wakes = values.pop("wakes")
    sent, received = moves @ programme.senders.T, moves @ programme.receivers.T
    run = programme.batches - sent + received
    awake_kwh = programme.idle_kwh - programme.sleep_kwh
    load = run * programme.batch_kwh + programme.sleep_kwh + awake_kwh * values["awake"] + wakes * programme.wake_kwh
    sent_kwh = trades @ programme.senders.T
    count = programme.slots * programme.sites
    return Dispatch(
        network=programme.network,
        policy=programme.policy,
        total_g=solution.least * programme.unit_kwh,
        transport_g=float((moves @ programme.transport_g).sum()),
        slot_g=(values["grid"] * programme.g_per_kwh).sum(1) + moves @ programme.transport_g,
        grid_kwh=values["grid"],
        own_kwh=values["own"],
        charge_kwh=values["charge"],
        discharge_kwh=values["discharge"],
        level_kwh=values["level"],
        sent_kwh=sent_kwh,
        received_kwh=trades @ programme.arrivals.T,
        curtailed_kwh=np.maximum(programme.harvest_kwh - values["own"] - values["charge"] - sent_kwh, 0.0),
        sent_batches=sent,
        received_batches=received,
        run_batches=run,
        awake=values["awake"],
        load_kwh=load,
        marginal_g_per_kwh=solution.marginals[:count].reshape(programme.slots, programme.sites),
        gap=solution.gap,
        holds_whole_numbers=solution.holds_whole_numbers,
    )
