"""Dispatch with forecasts: plan a window of slots, commit its first slot, and go on from the state that it leaves.

The present slot is known, and later ones are forecast. Levels of batteries and the rest of a carbon budget go from one
window to the next. The regret is what this emits above the dispatch that knows everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from carbon.deta.dispatch import Dispatch, dispatch
from carbon.deta.edge_network import Battery, CarbonBudget, EdgeNetwork, EdgeSite
from carbon.deta.programme import Array, Policy
from carbon.deta.solution import InfeasibleNetwork
from leanrx_core.checks import integer, number
from leanrx_core.errors import UserError

_SMALL_KWH = 1e-9
_FLOWS = (
    *("slot_g", "grid_kwh", "own_kwh", "charge_kwh", "discharge_kwh", "level_kwh", "sent_kwh", "received_kwh"),
    *("curtailed_kwh", "sent_batches", "received_batches", "run_batches", "awake", "load_kwh", "marginal_g_per_kwh"),
)


class Forecast:
    """Forecasts of harvest, tasks and intensity: the true values times lognormal factors of mean 1.

    Each target slot has one factor for each profile of each site. A site is never forecast to get more tasks than it
    can run.

    Args:
        network: with the true profiles.
        error: relative standard deviation of the factors.
        seed: of the factors.

    Raises:
        UserError: if the error is negative.
    """

    def __init__(self, network: EdgeNetwork, error: float, seed: int = 1) -> None:
        number("forecast error", error, 0.0, 10.0)
        spread = math.sqrt(math.log1p(error**2))
        normal = np.random.default_rng(seed).standard_normal((3, len(network.sites), network.slots))
        factors = np.exp(spread * normal - spread**2 / 2)
        self._sites = [
            (
                np.array(site.g_per_kwh) * factors[0, index],
                np.minimum(np.array(site.batches) * factors[1, index], _capacity(site)),
                np.array(site.harvest_kwh) * factors[2, index],
            )
            for index, site in enumerate(network.sites)
        ]

    def profiles(self, site: int, begin: int, end: int) -> tuple[Array, Array, Array]:
        """Intensity, batches and harvest of a site, forecast for slots from ``begin`` up to ``end``."""
        intensity, batches, harvest = self._sites[site]
        return intensity[begin:end], batches[begin:end], harvest[begin:end]


def _capacity(site: EdgeSite) -> float:
    return math.inf if site.capacity_batches is None else site.capacity_batches


@dataclass(frozen=True)
class RollingDispatch:
    """A dispatch that was decided slot by slot.

    Attributes:
        dispatch: what each site did.
        shortfall_kwh: what batteries miss of their smallest last level, by site.
        shortfall_g: emissions of filling them at the highest intensity of their site.
    """

    dispatch: Dispatch
    shortfall_kwh: Array
    shortfall_g: float

    @property
    def total_g(self) -> float:
        """Emissions, those of filling the batteries included."""
        return self.dispatch.total_g + self.shortfall_g


def rolling_dispatch(
    network: EdgeNetwork, policy: Policy, window: int, forecast: Forecast | None = None
) -> RollingDispatch:
    """Dispatch slot by slot, each with a plan for a window of slots.

    A plan ends with batteries at their smallest last level, or as high as their forecast harvest can bring them. A plan
    may use the rest of the present carbon budget, and all of later ones that begin in the window.

    Args:
        network: the sites, with the true profiles.
        policy: a key of :data:`carbon.deta.programme.POLICIES`.
        window: slots of a plan. It ends at the horizon at the latest.
        forecast: of later slots; the true values where not given.

    Raises:
        InfeasibleNetwork: if a window has limits that cannot be met together. It names the window.
        UserError: if the window is not 1 slot or more, or a site sleeps for whole slots.

    Example:
        >>> network = EdgeNetwork(
        ...     sites=({
        ...         "name": "one", "g_per_kwh": (500, 500, 50, 50), "batches": (10,) * 4, "batch_kwh": 0.1,
        ...         "harvest_kwh": (2, 0, 0, 0), "battery": {"capacity_kwh": 1},
        ...     },),
        ...     slot_s=3600,
        ... )
        >>> [round(rolling_dispatch(network, "B1", window).total_g) for window in (1, 2, 4)]
        [600, 100, 100]
    """
    integer("window", window, 1)
    if network.sleeps_whole_slots:
        raise UserError(
            "rolling horizon: a site sleeps for whole slots, and this state is not kept from window to window; "
            "leave out wake_kwh, wake_s and whole_slot_sleep"
        )
    truth = forecast or Forecast(network, 0.0)
    levels = np.array([site.battery.begin_kwh if site.battery else 0.0 for site in network.sites])
    emitted_g, committed = 0.0, []
    budget_ends = np.cumsum([budget.slots for budget in network.budgets])
    for slot in range(network.slots):
        end = min(slot + window, network.slots)
        part = _window(network, truth, slot, end, levels, emitted_g)
        try:
            plan = dispatch(part, policy)
        except InfeasibleNetwork as error:
            raise InfeasibleNetwork(f"{error} (window of slots {slot + 1} to {end}, numbered from 1 here)") from None
        committed.append(plan)
        levels = plan.level_kwh[0]
        emitted_g = 0.0 if slot + 1 in budget_ends else emitted_g + float(plan.slot_g[0])
    return _joined(network, policy, committed)


def _window(
    network: EdgeNetwork, forecast: Forecast, begin: int, end: int, levels: Array, emitted_g: float
) -> EdgeNetwork:
    """The network from ``begin`` up to ``end``: the true first slot, forecasts after it, and the present state."""
    sites = []
    for index, site in enumerate(network.sites):
        intensity, batches, harvest = (
            (true[begin], *later.tolist())
            for true, later in zip(
                (site.g_per_kwh, site.batches, site.harvest_kwh),
                forecast.profiles(index, begin + 1, end),
                strict=True,
            )
        )
        battery = site.battery
        if battery is not None:
            level = min(max(float(levels[index]), 0.0), battery.capacity_kwh)
            last = min(battery.last_kwh, _highest_level(battery, level, harvest, network.slot_s))
            battery = battery.model_copy(update={"begin_kwh": level, "end_kwh": max(last, 0.0)})
        values = {"g_per_kwh": intensity, "batches": batches, "harvest_kwh": harvest, "battery": battery}
        sites.append(site.model_copy(update=values))
    budgets = _rest_of_budgets(network.budgets, begin, end, emitted_g)
    return network.model_copy(update={"sites": tuple(sites), "budgets": budgets})


def _highest_level(battery: Battery, level_kwh: float, harvest_kwh: Sequence[float], slot_s: float) -> float:
    """The level after the last slot if a battery takes all it can. A margin covers the solver's tolerance."""
    charge_kwh = math.inf if battery.charge_kw is None else battery.charge_kw * slot_s / 3600
    for harvest in harvest_kwh:
        taken = battery.charge_efficiency * min(harvest, charge_kwh)
        level_kwh = min(battery.capacity_kwh, (1 - battery.self_discharge) * level_kwh + taken)
    return level_kwh * (1 - _SMALL_KWH)


def _rest_of_budgets(
    budgets: Sequence[CarbonBudget], begin: int, end: int, emitted_g: float
) -> tuple[CarbonBudget, ...]:
    """Budgets of the slots from ``begin`` up to ``end``, the first one less what was emitted in it."""
    rest, first = [], 0
    for budget in budgets:
        last = first + budget.slots
        slots = min(last, end) - max(first, begin)
        if slots > 0:
            spent_g = emitted_g if first <= begin else 0.0
            rest.append(CarbonBudget(slots=slots, g=max(budget.g - spent_g, 0.0)))
        first = last
    return tuple(rest)


def _joined(network: EdgeNetwork, policy: Policy, committed: Sequence[Dispatch]) -> RollingDispatch:
    """The first slots of all plans as one dispatch."""
    flows = {name: np.stack([getattr(plan, name)[0] for plan in committed]) for name in _FLOWS}
    grid_g = (flows["grid_kwh"] * np.array([site.g_per_kwh for site in network.sites]).T).sum()
    total_g = float(flows["slot_g"].sum())
    result = Dispatch(
        network=network,
        policy=policy,
        total_g=total_g,
        transport_g=max(total_g - float(grid_g), 0.0),
        **flows,
        gap=0.0,
        holds_whole_numbers=False,
    )
    batteries = [site.battery or Battery(capacity_kwh=0) for site in network.sites]
    shortfall = np.maximum([b.last_kwh for b in batteries] - result.level_kwh[-1], 0.0)
    shortfall[shortfall < 1e-6 * np.array([b.capacity_kwh for b in batteries])] = 0.0
    highest = [max(site.g_per_kwh) / b.charge_efficiency for site, b in zip(network.sites, batteries, strict=True)]
    return RollingDispatch(result, shortfall, float(shortfall @ highest))


@dataclass(frozen=True)
class Regret:
    """Emissions above those of the dispatch that knows everything, relative to them.

    Attributes:
        error: of the forecast.
        mean: over seeds.
        low, high: 95 % confidence interval of the mean; equal to it with one seed.
        highest: of the seeds.
        seeds: their number.
    """

    error: float
    mean: float
    low: float
    high: float
    highest: float
    seeds: int


def regrets(
    network: EdgeNetwork, policy: Policy, window: int, errors: Sequence[float], seeds: int = 20
) -> list[Regret]:
    """Regret over forecast error. All errors share the seeds of their factors.

    Args:
        network: the sites, with the true profiles.
        policy: a key of :data:`carbon.deta.programme.POLICIES`.
        window: slots of a plan.
        errors: relative standard deviations of the forecasts. An error of 0 needs one seed.
        seeds: number of seeds, from 1 on.

    Raises:
        UserError: if the dispatch that knows everything emits nothing.
    """
    integer("seeds", seeds, 1)
    least_g = dispatch(network, policy).total_g
    if not least_g > 0:
        raise UserError("rolling horizon: the dispatch that knows everything emits 0 g, so there is no relative regret")
    results = []
    for error in errors:
        count = seeds if error else 1
        forecasts = (Forecast(network, error, seed) for seed in range(1, count + 1))
        values = [rolling_dispatch(network, policy, window, forecast).total_g / least_g - 1 for forecast in forecasts]
        mean = float(np.mean(values))
        half = 0.0
        if count > 1:
            half = float(special.stdtrit(count - 1, 0.975) * np.std(values, ddof=1)) / math.sqrt(count)
        results.append(Regret(error, mean, mean - half, mean + half, max(values), count))
    return results
