"""What each choice of receiving sites saves, what the receivers' part of it is, and what a dB is worth."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carbon.deta.receiver_dispatch import ReceiverDispatch, receiver_dispatch
from carbon.deta.receiver_network import ReceiverNetwork
from carbon.deta.receiver_programme import SitePolicyName
from carbon.deta.solution import InfeasibleNetwork
from carbon.receiver_options import ReceiverFamily
from leanrx_core.checks import choice
from leanrx_core.errors import UserError


class SiteSolutions:
    """Dispatches of one network and one family of receivers, each solved once.

    Args:
        network: sites and jobs.
        family: the receivers.

    Attributes:
        network, family: as given.
    """

    def __init__(self, network: ReceiverNetwork, family: ReceiverFamily) -> None:
        self.network, self.family = network, family
        self._solved: dict[tuple[SitePolicyName, tuple[str, ...], bool], ReceiverDispatch | UserError] = {}

    def dispatch(
        self,
        policy: SitePolicyName = "DETA+wait",
        receivers: Sequence[str] | None = None,
        has_full_power: bool = False,
    ) -> ReceiverDispatch:
        """As :func:`carbon.deta.receiver_dispatch.receiver_dispatch`."""
        names = tuple(option.name for option in self.family.options) if receivers is None else tuple(receivers)
        key = policy, names, has_full_power
        if key not in self._solved:
            try:
                self._solved[key] = receiver_dispatch(self.network, self.family, policy, names, has_full_power)
            except UserError as error:
                self._solved[key] = error
        result = self._solved[key]
        if isinstance(result, UserError):
            raise result
        return result

    def total_g(
        self,
        policy: SitePolicyName = "DETA+wait",
        receivers: Sequence[str] | None = None,
        has_full_power: bool = False,
    ) -> float:
        """Emissions; NaN where limits cannot be met."""
        try:
            return self.dispatch(policy, receivers, has_full_power).total_g
        except UserError:
            return np.nan


@dataclass(frozen=True)
class ChoiceStep:
    """Emissions where more and more is chosen.

    Attributes:
        title: what is chosen at this step, with all of the earlier ones.
        total_g: emissions.
    """

    title: str
    total_g: float


@dataclass(frozen=True)
class ReceiverPart:
    """What choosing receivers saves.

    Attributes:
        single: the one receiver that would serve all sites and slots with the least emissions, with all else chosen.
        single_g: its emissions; NaN if no single receiver can.
        menu_g: emissions where receivers are chosen, with all else.
        first_g, first_menu_g: the same pair where nothing else is chosen but the power.
        by_receiver_g: emissions with one receiver at all sites and all else chosen, by receiver; NaN if it cannot.
    """

    single: str
    single_g: float
    menu_g: float
    first_g: float
    first_menu_g: float
    by_receiver_g: dict[str, float]


def _least(totals: dict[str, float]) -> str:
    """The name of the least total; the first one where all are NaN."""
    return min(totals, key=lambda name: totals[name] if totals[name] == totals[name] else np.inf)


def receiver_part(solutions: SiteSolutions) -> ReceiverPart:
    """What choosing receivers by site and slot saves against the best single one.

    Raises:
        UserError: if the network is infeasible even with all receivers.
    """
    names = [option.name for option in solutions.family.options]
    last = {name: solutions.total_g("DETA+wait", [name]) for name in names}
    first = {name: solutions.total_g("B1", [name]) for name in names}
    best = _least(last)
    return ReceiverPart(
        single=best,
        single_g=last[best],
        menu_g=solutions.dispatch("DETA+wait").total_g,
        first_g=first[_least(first)],
        first_menu_g=solutions.dispatch("B1").total_g,
        by_receiver_g=last,
    )


def choice_steps(solutions: SiteSolutions) -> list[ChoiceStep]:
    """Emissions from nothing chosen to everything chosen: power, receiver, place, hour.

    Nothing chosen is one receiver everywhere, the best of those at full power, own harvest and battery, and jobs that
    run at once at their own site. A step that cannot be met has NaN.
    """
    totals = {o.name: solutions.total_g("B1", [o.name], has_full_power=True) for o in solutions.family.options}
    single = _least(totals)
    return [
        ChoiceStep(f"{single} everywhere, full power", totals[single]),
        ChoiceStep("+ transmit power", solutions.total_g("B1", [single])),
        ChoiceStep("+ receivers", solutions.total_g("B1")),
        ChoiceStep("+ place: trades, moves and sleep", solutions.total_g("DETA")),
        ChoiceStep("+ hour of jobs", solutions.total_g("DETA+wait")),
    ]


def grams_per_db(solutions: SiteSolutions, site: str, policy: SitePolicyName = "DETA+wait") -> float:
    """Emissions that one dB more of SINR at a site would save, by solving again.

    The programme has no constraint on the SINR in dB, so no marginal value is its price.

    Raises:
        UserError: if there is no such site.
    """
    network = solutions.network
    names = [s.name for s in network.sites]
    choice("site", site, names)
    gains_db = np.array([float(name == site) for name in names])
    better = receiver_dispatch(network, solutions.family, policy, gains_db=gains_db)
    return solutions.dispatch(policy).total_g - better.total_g


def stages_over_sites(solutions: SiteSolutions, counts: Sequence[int]) -> dict[int, ReceiverDispatch]:
    """Dispatches of the first sites of a network, with everything chosen, by their number.

    A job goes with its site. Numbers whose limits cannot be met are left out.
    """
    network, results = solutions.network, {}
    for count in counts:
        sites = network.sites[:count]
        names = {site.name for site in sites}
        jobs = tuple(job for job in network.jobs if job.site in names)
        part = network.model_copy(update={"sites": sites, "jobs": jobs})
        with contextlib.suppress(InfeasibleNetwork):
            results[count] = receiver_dispatch(part, solutions.family)
    return results
