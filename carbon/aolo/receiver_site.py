"""A receiver site over one day of 96 quarter hours, with battery, sun, grid intensity and the energy of changes.

The site receives slots. Its receiver runs from sun, battery and grid, in this order. The sender runs from the grid. A
larger receiver lets the sender send less, so it suits hours with sun and hours of high intensity. A battery that is
spent now is missing later, and every change of the receiver costs a reload. Both couple the quarter hours.

The sender knows the path loss with a Gaussian error. With a power offset ``o`` dB, a slot fails with the probability
that the error exceeds ``o``, and is repeated. So ``1 / (1 - Q(o / sd))`` slots are sent for each delivered one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy import special

from carbon.aolo.requests import Array
from carbon.link_table import LinkTable
from leanrx_core.errors import UserError
from leanrx_core.records import Range, Record
from leanrx_core.units import JOULES_PER_KWH

try:
    import gymnasium
except ModuleNotFoundError:
    raise UserError("carbon: gymnasium is not installed; run: pip install 'leanrx[carbon]'") from None

QUARTERS = 96
QUARTER_S = 900.0


class SiteReceiver(Record):
    """One receiver that the site can run.

    Attributes:
        name: of the receiver.
        received_j: energy of receiving one slot, at the site.
        sent_j: energy of the sender per slot at an offset of 0 dB.
    """

    name: str
    received_j: float = Field(gt=0)
    sent_j: float = Field(gt=0)


class ReceiverSite(Record):
    """The hardware of a site.

    Attributes:
        receivers: to choose from.
        battery_j: capacity.
        battery_begin: charge at midnight, as part of the capacity.
        charge_efficiency, discharge_efficiency: of the battery.
        reload_j: energy of changing the receiver, at the site.
        estimate_sd_db: standard deviation of the error of the path loss.
        offset_db: bounds of the power offset.
        traffic_slots: slots of a quarter hour at the mean traffic.
        panel_w: peak power of the solar panel.

    Example:
        >>> site = ReceiverSite(receivers=({"name": "a", "received_j": 1e-3, "sent_j": 2e-3},))
        >>> float(site.repetitions(0.0))  # half of the slots fail
        2.0
    """

    receivers: tuple[SiteReceiver, ...] = Field(min_length=1)
    battery_j: float = Field(20e3, gt=0)
    battery_begin: float = Field(0.5, ge=0, le=1)
    charge_efficiency: float = Field(0.95, gt=0, le=1)
    discharge_efficiency: float = Field(0.95, gt=0, le=1)
    reload_j: float = Field(480.0, ge=0)
    estimate_sd_db: float = Field(2.0, gt=0)
    offset_db: Range = (0.0, 8.0)
    traffic_slots: float = Field(45e3, gt=0)
    panel_w: float = Field(2.5, ge=0)

    def repetitions(self, offset_db: ArrayLike) -> Array:
        """Slots sent for each delivered one."""
        return np.asarray(1 / special.ndtr(np.asarray(offset_db, dtype=float) / self.estimate_sd_db))

    def quarter(
        self,
        day: SiteDay,
        index: int,
        battery_j: ArrayLike,
        current: ArrayLike,
        receiver: ArrayLike,
        offset_db: ArrayLike,
    ) -> tuple[Array, Array]:
        """One quarter hour; all arguments from ``battery_j`` on broadcast.

        Args:
            day: sun, intensity and traffic.
            index: of the quarter hour.
            battery_j: charge at its begin.
            current, receiver: indices of the receivers before and now.
            offset_db: power offset.

        Returns:
            Emissions, gCO2e, and the charge at its end, J.
        """
        received_j = np.array([r.received_j for r in self.receivers])
        sent_j = np.array([r.sent_j for r in self.receivers])
        running, offset = np.asarray(receiver), np.asarray(offset_db, dtype=float)
        slots = day.slots[index] * self.repetitions(offset)
        sender_j = slots * sent_j[running] * 10 ** (offset / 10)
        demand_j = slots * received_j[running] + self.reload_j * (running != np.asarray(current))
        surplus_j = day.sun_j[index] - demand_j
        battery = np.asarray(battery_j, dtype=float)
        charged = np.minimum(battery + self.charge_efficiency * np.maximum(surplus_j, 0), self.battery_j)
        drawn_j = np.minimum(np.maximum(-surplus_j, 0), battery * self.discharge_efficiency)
        grid_j = np.maximum(-surplus_j, 0) - drawn_j
        return (grid_j + sender_j) * day.g_per_j[index], charged - drawn_j / self.discharge_efficiency


@dataclass(frozen=True)
class SiteDay:
    """A day, by quarter hour: each ``(96,)``.

    Attributes:
        sun_j: solar energy.
        g_per_j: intensity of the grid.
        slots: to deliver.
    """

    sun_j: Array
    g_per_j: Array
    slots: Array


def expected_day(site: ReceiverSite) -> SiteDay:
    """The mean day: clear sky times the mean of the clouds, an intensity with an evening peak, traffic by hour."""
    return _day(site, clouds=np.full(QUARTERS, _MEAN_CLOUD), intensity_scale=1.0, traffic=np.ones(QUARTERS))


def random_day(site: ReceiverSite, seed: int) -> SiteDay:
    """A day with clouds, traffic and a level of intensity of its own, from a seed."""
    rng = np.random.default_rng([seed, 0x51])
    noise = rng.normal(size=(2, QUARTERS))
    for i in range(1, QUARTERS):
        noise[:, i] = _CORRELATION * noise[:, i - 1] + np.sqrt(1 - _CORRELATION**2) * noise[:, i]
    level = rng.normal()
    clouds = np.clip(_MEAN_CLOUD + 0.2 * level + 0.15 * noise[0], 0.05, 1.0)
    return _day(site, clouds, float(np.exp(0.2 * rng.normal() - 0.02)), np.exp(0.2 * noise[1] - 0.02))


_CORRELATION, _MEAN_CLOUD = 0.9, 0.6


def _day(site: ReceiverSite, clouds: Array, intensity_scale: float, traffic: Array) -> SiteDay:
    hour = (np.arange(QUARTERS) + 0.5) / 4
    clear = np.maximum(np.sin(np.pi * (hour - 6) / 12), 0.0)
    evening, noon = np.exp(-(((hour - 20) / 2.0) ** 2)), np.exp(-(((hour - 13) / 3.0) ** 2))
    g_per_kwh = intensity_scale * (250 + 350 * evening - 150 * noon)
    load = 0.5 + 0.5 * np.exp(-(((hour - 14) / 4.0) ** 2)) + 0.8 * np.exp(-(((hour - 20.5) / 2.0) ** 2))
    slots = site.traffic_slots * load / load.mean() * traffic
    return SiteDay(site.panel_w * QUARTER_S * clear * clouds, g_per_kwh / JOULES_PER_KWH, slots)


def site_of_link(table: LinkTable, **changes: Any) -> ReceiverSite:
    """A site that can run the receivers of a link table.

    Args:
        table: its rows that reach the target within the limits become receivers.
        changes: other fields of the site.

    Raises:
        UserError: if no receiver can be used.
    """
    rows = [row for row in table.rows if row.verdict in ("chosen", "more carbon")]
    if not rows:
        raise UserError("site: no receiver of the link can be used; raise the target, or lower the path loss")
    rows.sort(key=lambda row: row.received_j)
    receivers = [{"name": r.receiver, "received_j": r.received_j, "sent_j": r.sent_j} for r in rows]
    return ReceiverSite.parse({"receivers": receivers, **changes}, "site")


class SiteEnvironment(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """The site as a Gymnasium environment; an episode is one random day.

    The action has two numbers in [-1, 1]: the receiver, in equal parts of the range, and the power offset.

    Args:
        site: its hardware.
        first_day: seed of the first day; each episode takes the next one.
        days: number of different days.

    Example:
        >>> site = ReceiverSite(receivers=({"name": "a", "received_j": 1e-3, "sent_j": 2e-3},))
        >>> observation, _ = SiteEnvironment(site).reset(seed=1)
        >>> observation.shape
        (7,)
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - the name and type are Gymnasium's

    def __init__(self, site: ReceiverSite, first_day: int = 1_000_000, days: int = 1_000) -> None:
        self.site, self.first_day, self.days = site, first_day, days
        count = 6 + len(site.receivers)
        self.observation_space = gymnasium.spaces.Box(-3.0, 3.0, (count,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        expected = expected_day(site)
        self._means = expected.sun_j.mean(), expected.g_per_j.mean(), expected.slots.mean()
        cheapest = min(r.received_j + r.sent_j for r in site.receivers)
        self.scale_g = float(expected.slots.mean() * cheapest * expected.g_per_j.mean())
        self.number, self.index, self.current, self.battery_j = 0, 0, 0, 0.0
        self.day = expected

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin a day at midnight with the smallest receiver."""
        super().reset(seed=seed, options=options)
        self.begin(self.first_day + int(self.np_random.integers(self.days)))
        return self._observation(), {}

    def begin(self, number: int) -> None:
        """Begin a certain day."""
        self.number, self.day = number, random_day(self.site, number)
        self.index, self.current = 0, 0
        self.battery_j = self.site.battery_begin * self.site.battery_j

    def _observation(self) -> NDArray[np.float32]:
        return self.observe(min(self.index, QUARTERS - 1), self.battery_j, self.current)

    def observe(self, index: int, battery_j: float, current: int) -> NDArray[np.float32]:
        """What an agent sees: hour, battery, sun, intensity, traffic and receiver, within [-3, 3]."""
        phase = 2 * np.pi * index / QUARTERS
        now = self.day.sun_j[index], self.day.g_per_j[index], self.day.slots[index]
        relative = [value / mean - 1 if mean else 0.0 for value, mean in zip(now, self._means, strict=True)]
        running = np.arange(len(self.site.receivers)) == current
        values = [np.sin(phase), np.cos(phase), 2 * battery_j / self.site.battery_j - 1, *relative, *running]
        return np.clip(np.array(values), -3, 3).astype(np.float32)

    def decision(self, action: NDArray[np.floating[Any]]) -> tuple[int, float]:
        """Receiver and offset of an action."""
        share = (np.clip(np.asarray(action, dtype=float), -1, 1) + 1) / 2
        low, high = self.site.offset_db
        count = len(self.site.receivers)
        return min(int(share[0] * count), count - 1), float(low + share[1] * (high - low))

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Run one quarter hour."""
        receiver, offset_db = self.decision(action)
        grams, battery = self.site.quarter(self.day, self.index, self.battery_j, self.current, receiver, offset_db)
        self.battery_j, self.current = float(battery), receiver
        self.index += 1
        info = {"shortfalls": np.zeros(1), "footprint_g": float(grams)}
        return self._observation(), -float(grams) / self.scale_g, self.index >= QUARTERS, False, info

    def state(self) -> dict[str, Any]:
        """What the environment remembers between two decisions, beside its generator."""
        return {"number": self.number, "index": self.index, "current": self.current, "battery_j": self.battery_j}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state of :meth:`state`."""
        self.begin(state["number"])
        self.index, self.current, self.battery_j = state["index"], state["current"], state["battery_j"]
