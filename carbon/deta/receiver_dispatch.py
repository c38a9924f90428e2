"""The dispatch of least carbon of receiving sites, what each choice saves, and what a dB is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carbon.deta.programme import Array
from carbon.deta.receiver_network import ReceiverNetwork
from carbon.deta.receiver_programme import SITE_POLICIES, ReceiverProgramme, SitePolicyName
from carbon.deta.site_energy import SiteEnergy
from carbon.deta.solution import Solution, solve
from carbon.receiver_options import ReceiverFamily
from leanrx_core.checks import choice

STAGES = ("transmission", "reception", "idle", "development", "recycling", "transport")
"""What the energy is for. Training is development, and adaptation is recycling. Sleeping and waking are idle."""


@dataclass(frozen=True, kw_only=True)
class ReceiverDispatch(SiteEnergy):
    """What each site does in each slot of time. Arrays are ``(slots, sites)``, in kWh per slot, unless said otherwise.

    The load is that of the site's computers, and of its transmitter where it has its power.

    Attributes:
        network: the sites.
        family: the receivers.
        policy: of the programme.
        receivers: names of the receivers that were allowed.
        shares: part of a site's traffic by receiver, ``(slots, sites, receivers)``; 0 without traffic.
        moved_shares: part of a site's traffic that runs elsewhere.
        output_w: mean power that the transmitter sends on each carrier in use; NaN without traffic.
        job_parts: part of each job, ``(jobs, slots, sites)``.
        stage_kwh, stage_g: energy and emissions by stage of :data:`STAGES` and site, ``(stages, sites)``.
    """

    network: ReceiverNetwork
    family: ReceiverFamily
    policy: SitePolicyName
    receivers: tuple[str, ...]
    shares: Array
    moved_shares: Array
    output_w: Array
    job_parts: Array
    stage_kwh: Array
    stage_g: Array

    @property
    def site_names(self) -> list[str]:
        return [site.name for site in self.network.sites]


def receiver_dispatch(
    network: ReceiverNetwork,
    family: ReceiverFamily,
    policy: SitePolicyName = "DETA+wait",
    receivers: Sequence[str] | None = None,
    has_full_power: bool = False,
    gains_db: Array | None = None,
) -> ReceiverDispatch:
    """The dispatch of least carbon.

    Args:
        network: sites and jobs.
        family: receivers with their required SINR, joules and times.
        policy: a key of :data:`carbon.deta.receiver_programme.SITE_POLICIES`.
        receivers: names of those that may be used; all if not given.
        has_full_power: whether transmitters send at their limit.
        gains_db: by which the SINR of each site is higher, ``(sites,)``.

    Raises:
        UserError: if no receiver meets the target of a site.
        InfeasibleNetwork: if limits cannot be met together. It names site, slot, limit and amount.
    """
    choice("policy", policy, SITE_POLICIES)
    programme = ReceiverProgramme(network, family, policy, receivers, has_full_power, gains_db)
    return _result(programme, solve(programme))


def _summed(slots: int, sites: int, places: NDArray[np.int64], data: Array) -> Array:
    """Sums over paths by site, ``(slots, sites)``."""
    result = np.zeros((sites, slots))
    np.add.at(result, places, data.T)
    return result.T


def _result(p: ReceiverProgramme, solution: Solution) -> ReceiverDispatch:
    x, paths, has_traffic = solution.values, p.paths, p.radio_slots > 0
    shares = p.values(x, "shares") * has_traffic[:, p.paths.homes]
    by_receiver = np.zeros((p.sites, len(p.options), p.slots))
    np.add.at(by_receiver, (paths.homes, paths.options), shares.T)
    by_receiver = by_receiver.transpose(2, 0, 1)
    away = _summed(p.slots, p.sites, paths.homes, shares * (paths.homes != paths.places))
    power = (by_receiver * np.nan_to_num(p.output_w)).sum(2)
    parts = np.zeros((len(p.network.jobs), p.slots, p.sites))
    jobs, places, slots = p.job_cells.T
    parts[jobs, slots, places] = p.values(x, "jobs")
    energies = {name: p.values(x, name) for name in p.columns if name not in ("shares", "jobs")}
    idle_kwh = p.sleep_kwh + (p.idle_kwh - p.sleep_kwh) * energies["awake"] + p.wake_kwh * energies["wakes"]
    stage_kwh, stage_g, load_kwh = _stages(p, shares, parts, idle_kwh, energies["grid"])
    count = p.slots * p.sites
    return ReceiverDispatch(
        network=p.network,
        family=p.family,
        policy=p.policy,
        total_g=solution.least * p.unit_kwh,
        receivers=tuple(o.name for o in p.options),
        shares=by_receiver,
        moved_shares=away,
        output_w=np.where(has_traffic, power, np.nan),
        job_parts=parts,
        **{f"{name}_kwh": energies[name] for name in ("grid", "own", "charge", "discharge", "level")},
        sent_kwh=energies["exports"],
        received_kwh=energies["imports"],
        awake=energies["awake"],
        load_kwh=load_kwh,
        stage_kwh=stage_kwh.sum(1),
        stage_g=stage_g.sum(1),
        slot_g=stage_g.sum((0, 2)),
        marginal_g_per_kwh=solution.marginals[count : 2 * count].reshape(p.slots, p.sites),
        gap=solution.gap,
        holds_whole_numbers=solution.holds_whole_numbers,
    )


def _stages(
    p: ReceiverProgramme, shares: Array, parts: Array, idle_kwh: Array, grid_kwh: Array
) -> tuple[Array, Array, Array]:
    """Energy and emissions, ``(stages, slots, sites)``, and the load of the sites.

    All that a site consumes in a slot has the same mix of grid and other energy.
    """
    homes, places = p.paths.homes, p.paths.places
    sent = _summed(p.slots, p.sites, homes, shares * np.nan_to_num(p.path_sent_kwh))
    own_transmitter = ~p.transmits_from_grid
    received = _summed(p.slots, p.sites, places, shares * p.path_received_kwh)
    moved = _summed(p.slots, p.sites, homes, shares * p.path_transport_kwh)
    by_stage = {stage: np.zeros((p.slots, p.sites)) for stage in ("development", "recycling")}
    transport = np.zeros((len(p.network.jobs), p.slots, p.sites))
    jobs, job_places, job_slots = p.job_cells.T
    transport[jobs, job_slots, job_places] = p.job_transport_kwh
    for index, job in enumerate(p.network.jobs):
        by_stage[job.stage] += job.kwh * parts[index]
        moved[:, p.site_names.index(job.site)] += (transport[index] * parts[index]).sum(1)
    load_kwh = received + idle_kwh + sum(by_stage.values()) + sent * own_transmitter
    mix = p.g_per_kwh * grid_kwh / np.where(load_kwh > 0, load_kwh, 1.0)
    kwh = np.array([sent, received, idle_kwh, by_stage["development"], by_stage["recycling"], moved])
    site_g = np.where(own_transmitter, mix, p.g_per_kwh)
    network_g = np.full_like(mix, p.network.network_g_per_kwh)
    intensities = np.array([site_g, mix, mix, mix, mix, network_g])
    return kwh, kwh * intensities, load_kwh
