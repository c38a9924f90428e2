"""Policies of a receiver site: dynamic programming as the reference, a planner, a constant choice, and a myopic one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from carbon.aolo.receiver_site import QUARTERS, ReceiverSite, SiteDay
from carbon.aolo.requests import Array
from leanrx_core.errors import UserError

OFFSETS = 33
"""Power offsets that dynamic programming compares."""
TOLERANCE = 0.005
"""The battery's grid is halved until the value moves by less than this fraction."""

Policy = Callable[[SiteDay, int, float, int], tuple[int, float]]
"""Maps day, quarter hour, charge and current receiver to the receiver and the offset."""


@dataclass(frozen=True)
class SiteValues:
    """Emissions to go of a day, by quarter hour, receiver and charge.

    Attributes:
        levels_j: charges, ``(levels,)``.
        to_go_g: ``(97, receivers, levels)``; the last quarter hour's end has 0.
    """

    levels_j: Array
    to_go_g: Array

    def at(self, index: int, battery_j: Array, receiver: int) -> Array:
        """Emissions to go from the begin of a quarter hour, linear between charges."""
        return np.interp(battery_j, self.levels_j, self.to_go_g[index, receiver])


def site_values(site: ReceiverSite, day: SiteDay, levels: int) -> SiteValues:
    """Backward induction over a day.

    Args:
        site: its hardware.
        day: known in advance.
        levels: charges of the battery's grid.
    """
    battery = np.linspace(0, site.battery_j, levels)
    count = len(site.receivers)
    to_go = np.zeros((QUARTERS + 1, count, levels))
    values = SiteValues(battery, to_go)
    for index in reversed(range(QUARTERS)):
        for current in range(count):
            totals = [_totals(site, day, values, index, battery, current, receiver) for receiver in range(count)]
            to_go[index, current] = np.min(totals, axis=(0, 1))
    return values


def _totals(
    site: ReceiverSite, day: SiteDay, values: SiteValues, index: int, battery_j: Array, current: int, receiver: int
) -> Array:
    """Emissions from a quarter hour on, ``(offsets, charges)``, for one receiver."""
    offsets = np.linspace(*site.offset_db, OFFSETS)[:, None]
    grams, battery = site.quarter(day, index, battery_j, current, receiver, offsets)
    return np.asarray(grams + values.at(index + 1, battery, receiver))


def reference_values(site: ReceiverSite, day: SiteDay, levels: int = 17) -> SiteValues:
    """Emissions to go of a day that is known in advance, on a grid that is halved until its value hardly moves."""
    begin = np.array([site.battery_begin * site.battery_j])
    values = site_values(site, day, levels)
    while True:
        levels = 2 * levels - 1
        finer = site_values(site, day, levels)
        before, after = (v.at(0, begin, 0).item() for v in (values, finer))
        if abs(before / after - 1) < TOLERANCE:
            return finer
        values = finer


def greedy_policy(site: ReceiverSite, values: SiteValues) -> Policy:
    """The best decision by the present quarter hour as it is, and the emissions to go of ``values``.

    With the values of the day itself this is the reference. With those of the expected day it is the planner. With
    zeros it is the myopic policy.
    """
    offsets = np.linspace(*site.offset_db, OFFSETS)

    def decide(day: SiteDay, index: int, battery_j: float, current: int) -> tuple[int, float]:
        charge = np.array([battery_j])
        totals = np.stack(
            [_totals(site, day, values, index, charge, current, c)[:, 0] for c in range(len(site.receivers))]
        )
        receiver, offset = np.unravel_index(totals.argmin(), totals.shape)
        return int(receiver), float(offsets[offset])

    return decide


def myopic_policy(site: ReceiverSite) -> Policy:
    """The policy that counts the present quarter hour alone."""
    zeros = np.zeros((QUARTERS + 1, len(site.receivers), 2))
    return greedy_policy(site, SiteValues(np.array([0.0, site.battery_j]), zeros))


def constant_policy(site: ReceiverSite, day: SiteDay) -> Policy:
    """The receiver and the offset of least emissions on a day among those that never change."""
    receivers, offsets = np.arange(len(site.receivers))[:, None], np.linspace(*site.offset_db, OFFSETS)
    battery = np.full((len(site.receivers), OFFSETS), site.battery_begin * site.battery_j)
    total, current = np.zeros_like(battery), np.zeros_like(receivers)
    for index in range(QUARTERS):
        grams, battery = site.quarter(day, index, battery, current, receivers, offsets)
        total, current = total + grams, receivers
    receiver, offset = np.unravel_index(total.argmin(), total.shape)
    return lambda *_: (int(receiver), float(offsets[offset]))


@dataclass(frozen=True)
class DayRecord:
    """A day under a policy, by quarter hour.

    Attributes:
        footprint_g: emissions.
        receiver: index of the receiver.
        offset_db: power offset.
        battery_j: charge at the end.
    """

    footprint_g: Array
    receiver: Array
    offset_db: Array
    battery_j: Array

    @property
    def total_g(self) -> float:
        """Emissions of the day."""
        return float(self.footprint_g.sum())


def run_day(site: ReceiverSite, day: SiteDay, policy: Policy) -> DayRecord:
    """Run a day from midnight with the smallest receiver."""
    battery_j, current = site.battery_begin * site.battery_j, 0
    rows = []
    for index in range(QUARTERS):
        receiver, offset_db = policy(day, index, battery_j, current)
        grams, battery = site.quarter(day, index, battery_j, current, receiver, offset_db)
        battery_j, current = float(battery), receiver
        rows.append((float(grams), receiver, offset_db, battery_j))
    return DayRecord(*np.array(rows).T)


MIN_GAP = 0.1
"""A case in which the myopic policy is less than this fraction worse than the reference compares nothing."""


def closed_part(myopic_g: Sequence[float], policy_g: Sequence[float], reference_g: Sequence[float]) -> float:
    """Part of the gap between the myopic policy and the reference that a policy closes, over all days together.

    Raises:
        UserError: if the gap is below :data:`MIN_GAP`.

    Example:
        >>> closed_part([12.0], [11.0], [10.0])
        0.5
    """
    myopic, policy, reference = (sum(grams) for grams in (myopic_g, policy_g, reference_g))
    if myopic < (1 + MIN_GAP) * reference:
        raise UserError(
            f"site: the myopic policy is {myopic / reference - 1:.1%} worse than the reference, below {MIN_GAP:.0%}; "
            "change the site, such as battery_j, panel_w or reload_j"
        )
    return (myopic - policy) / (myopic - reference)
