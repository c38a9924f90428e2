"""Solve a programme: the dispatch of least carbon, marginal emissions as sentences, and what is infeasible.

HiGHS solves it: by simplex, and by its interior-point method from 200 sites. With sites that sleep for whole slots the
programme has whole numbers and no marginal values. Those given are then of the programme with these numbers held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, linprog, milp

from carbon.deta.edge_network import EdgeNetwork
from carbon.deta.programme import POLICIES, Array, Policy, Programme, Rows
from leanrx_core.checks import choice
from leanrx_core.errors import UserError

INTERIOR_POINT_SITES = 200
"""Sites from which the interior-point method is faster."""
MILP_SECONDS = 300.0
_MILP_GAP = 1e-7
_INFEASIBLE = 2
_SMALL = 1e-7


class InfeasibleNetwork(UserError):
    """Limits of a network that a policy cannot meet together."""


@dataclass(frozen=True)
class Dispatch:
    """What each site does in each slot. Arrays are ``(slots, sites)``, in kWh or batches per slot.

    Attributes:
        network: the sites.
        policy: of the programme.
        total_g: emissions of grid and transport, gCO2e.
        transport_g: of transport alone.
        slot_g: emissions of all sites by slot, ``(slots,)``, transport included.
        grid_kwh: taken from the grid.
        own_kwh: harvest that is used at once.
        charge_kwh, discharge_kwh: of the battery.
        level_kwh: of the battery after the slot.
        sent_kwh, received_kwh: traded energy, before and after the loss.
        curtailed_kwh: harvest without use.
        sent_batches, received_batches: tasks that move.
        run_batches: tasks that the site runs.
        awake: part of the slot.
        load_kwh: consumption.
        marginal_g_per_kwh: emissions of one more kWh of load.
        gap: largest relative distance from the optimum; 0 without whole numbers.
        holds_whole_numbers: whether marginal emissions hold the whole numbers.
    """

    network: EdgeNetwork
    policy: Policy
    total_g: float
    transport_g: float
    slot_g: Array
    grid_kwh: Array
    own_kwh: Array
    charge_kwh: Array
    discharge_kwh: Array
    level_kwh: Array
    sent_kwh: Array
    received_kwh: Array
    curtailed_kwh: Array
    sent_batches: Array
    received_batches: Array
    run_batches: Array
    awake: Array
    load_kwh: Array
    marginal_g_per_kwh: Array
    gap: float
    holds_whole_numbers: bool

    @property
    def imbalance(self) -> float:
        """Largest error of the energy balance of a site in a slot, as part of the mean load."""
        supply = self.grid_kwh + self.own_kwh + self.discharge_kwh + self.received_kwh
        return float(np.abs(supply - self.load_kwh).max() / (self.load_kwh.mean() or 1.0))

    def marginal_sentences(self) -> list[str]:
        """Emissions of one more kWh at each site, from the cheapest slot to the dearest one. Slots begin at 1."""
        sentences = []
        for site, values in zip(self.network.sites, self.marginal_g_per_kwh.T, strict=True):
            low, high = int(values.argmin()), int(values.argmax())
            text = f"{self.policy}: one more kWh at {site.name} emits {_grams(values[low])} in slot {low + 1}"
            if values[high] - values[low] > 1e-6 * max(1.0, values[high]):
                text += f", and {_grams(values[high])} in slot {high + 1}"
            sentences.append(f"{text}.")
        if self.holds_whole_numbers:
            sentences.append("These values hold what sleeps in each slot, because whole numbers have no marginal.")
        return sentences


def _grams(value: float) -> str:
    return f"{max(value, 0.0):.4g} g"


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
    bounds, gap = programme.bounds, 0.0
    has_whole_numbers = bool(programme.whole_numbers.any())
    if has_whole_numbers:
        values, gap = _whole_numbers(programme)
        awake = np.round(values[programme.columns["awake"]])
        fixed = np.flatnonzero(programme.whole_numbers)
        bounds[fixed] = awake[fixed - programme.columns["awake"].start, None]
    result = solve(programme, bounds)
    if result.status == _INFEASIBLE:
        raise InfeasibleNetwork(infeasible_text(programme))
    if result.x is None:
        raise UserError(f"network: {policy} was not solved ({result.message}); make the values more alike in size")
    return _result(programme, result, gap, has_whole_numbers)


def ladder(network: EdgeNetwork) -> dict[Policy, Dispatch]:
    """The dispatch of every policy."""
    return {policy: dispatch(network, policy) for policy in POLICIES}


class LinearProgramme(Protocol):
    """What a solution needs of a programme. Attributes are those of :class:`carbon.deta.programme.Programme`."""

    sites: int
    size: int

    @property
    def policy(self) -> str: ...
    @property
    def site_names(self) -> list[str]: ...
    @property
    def rows(self) -> list[Rows]: ...
    @property
    def bounds(self) -> Array: ...
    @property
    def objective(self) -> Array: ...


def _stacked(rows: list[Rows]) -> tuple[sparse.csr_array, Array]:
    return sparse.vstack([r.matrix for r in rows], "csr"), np.concatenate([r.limits for r in rows])


def solve(programme: LinearProgramme, bounds: Array) -> OptimizeResult:
    """The solution of least emissions, without whole numbers."""
    equal, equals = _stacked([r for r in programme.rows if r.is_equality])
    limited, limits = _stacked([r for r in programme.rows if not r.is_equality])
    method = "highs-ipm" if programme.sites >= INTERIOR_POINT_SITES else "highs"
    return linprog(programme.objective, limited, limits, equal, equals, bounds, method=method)


def _whole_numbers(programme: Programme) -> tuple[Array, float]:
    """The best solution with whole numbers, and its relative gap."""
    constraints = []
    for rows in programme.rows:
        low = rows.limits if rows.is_equality else np.full(len(rows.limits), -np.inf)
        constraints.append(LinearConstraint(rows.matrix, low, rows.limits))
    bounds = programme.bounds
    result = milp(
        programme.objective,
        integrality=programme.whole_numbers,
        bounds=Bounds(bounds[:, 0], bounds[:, 1]),
        constraints=constraints,
        options={"time_limit": MILP_SECONDS, "mip_rel_gap": _MILP_GAP},
    )
    if result.status == _INFEASIBLE:
        raise InfeasibleNetwork(infeasible_text(programme))
    if result.x is None:
        raise UserError(
            f"network: {programme.policy} has no solution after {MILP_SECONDS:g} s; "
            "leave out wake_kwh, wake_s and whole_slot_sleep, or give fewer slots"
        )
    return result.x, float(result.mip_gap or 0.0)


def infeasible_text(programme: LinearProgramme) -> str:
    """Name limits that cannot be met together, by the least sum of relative excesses.

    Balances hold exactly. Each limit may be exceeded, at a price of one over its scale: its size, or the mean size of
    its kind if that is larger.
    """
    equal, equals = _stacked([r for r in programme.rows if r.is_equality])
    limits = [r for r in programme.rows if not r.is_equality]
    limited, values = _stacked(limits)
    elastic = np.concatenate([np.full(len(r.limits), r.is_elastic) for r in limits])
    scales = np.concatenate([np.maximum(np.abs(r.limits), np.abs(r.limits).mean() or 1.0) for r in limits])
    chosen = np.flatnonzero(elastic)
    excess = sparse.csr_array((np.ones(len(chosen)), (chosen, np.arange(len(chosen)))), (len(values), len(chosen)))
    bounds = programme.bounds
    result = linprog(
        np.concatenate([np.zeros(programme.size), 1 / scales[chosen]]),
        sparse.hstack([limited, -excess], "csr"),
        values,
        sparse.hstack([equal, sparse.csr_array((len(equals), len(chosen)))], "csr"),
        equals,
        np.concatenate([bounds, np.tile([0.0, np.inf], (len(chosen), 1))]),
        method="highs",
    )
    if result.x is None:
        raise UserError(f"network: {programme.policy} was not solved ({result.message})")
    amounts = np.zeros(len(values))
    amounts[chosen] = result.x[programme.size :]
    places = list(_excesses(programme, limits, amounts))
    more = f"; and {len(places) - 3} more" if len(places) > 3 else ""
    return (
        f"network: {programme.policy} is infeasible: {'; '.join(places[:3])}{more}; raise these limits or lower loads"
    )


def _excesses(programme: LinearProgramme, limits: list[Rows], amounts: Array) -> Iterator[str]:
    begin = 0
    for rows in limits:
        excesses = amounts[begin : begin + len(rows.limits)]
        begin += len(rows.limits)
        size, unit = rows.unit
        for index in np.flatnonzero(excesses > _SMALL):
            site = rows.sites[index]
            place = "all sites" if site < 0 else f"site {programme.site_names[site]}"
            amount = f"{size * excesses[index]:.4g} {unit}"
            yield f"{place}, slot {rows.slots[index] + 1}, {rows.name} is short by {amount}"


def _result(programme: Programme, result: OptimizeResult, gap: float, holds_whole_numbers: bool) -> Dispatch:
    values = {name: np.maximum(programme.values(result.x, name), 0.0) for name in programme.columns}
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
        total_g=float(result.fun * programme.unit_kwh),
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
        marginal_g_per_kwh=result.eqlin.marginals[:count].reshape(programme.slots, programme.sites),
        gap=gap,
        holds_whole_numbers=holds_whole_numbers,
    )
