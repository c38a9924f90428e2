"""The linear programme of energy trading and task allocation: its variables, rows and limits.

All variables of one kind form a block of ``slots x n`` values, slot by slot. With one loss and one transport energy
for all pairs, a site sends to a pool and takes from it, so the programme grows linearly with the sites. With values
per pair, every ordered pair of sites is an edge. Local batches are those that arrive less those that move away.
Energies are scaled by the mean load, and batches by their mean, because the solver's tolerances are absolute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from carbon.deta.edge_network import Battery, EdgeNetwork

Array = NDArray[np.float64]
Policy = Literal["B0", "B1", "DET", "DAT", "DETA"]
POLICIES: dict[Policy, str] = {
    "B0": "grid alone",
    "B1": "own harvest and battery",
    "DET": "trades energy",
    "DAT": "moves tasks and sleeps",
    "DETA": "trades energy, moves tasks and sleeps",
}
"""The policies. Each is a set of constraints on one programme."""

VARIABLES = ("moves", "trades", "grid", "own", "charge", "discharge", "level", "awake", "wakes")
"""Kinds of variables. ``level`` is that of the battery after the slot."""


@dataclass(frozen=True)
class Rows:
    """Rows of one kind: equal to, or at most, ``limits``.

    Attributes:
        name: what is limited, as a phrase.
        matrix: over all variables, ``(rows, variables)``.
        limits: scaled right-hand sides, ``(rows,)``.
        sites, slots: of each row; -1 where a row belongs to all sites.
        unit: size of one scaled unit, and its name.
        is_equality: a balance, which holds exactly.
        is_elastic: whether the search for infeasible limits may exceed it.
        sizes: of each limit, scaled, where ``limits`` does not give it, ``(rows,)``.
    """

    name: str
    matrix: sparse.csr_array
    limits: Array
    sites: NDArray[np.int64]
    slots: NDArray[np.int64]
    unit: tuple[float, str]
    is_equality: bool = False
    is_elastic: bool = False
    sizes: Array | None = None


class Programme:
    """The programme of one network and one policy.

    Args:
        network: the sites.
        policy: a key of :data:`POLICIES`.
        pairwise: whether each pair of sites is an edge. By default only where the network has values per pair.

    Example:
        >>> site = {"g_per_kwh": (50, 500), "batches": (10, 5), "batch_kwh": 0.1, "harvest_kwh": (0, 1)}
        >>> programme = Programme(EdgeNetwork(sites=({"name": "a", **site},), slot_s=3600), "B1")
        >>> programme.size, [rows.name for rows in programme.rows if rows.is_elastic]
        (22, ['offloading cap', 'trading cap', 'battery level at the end'])
    """

    def __init__(self, network: EdgeNetwork, policy: Policy, pairwise: bool | None = None) -> None:
        self.network, self.policy = network, policy
        self.sites, self.slots = len(network.sites), network.slots
        self.pairwise = network.is_pairwise if pairwise is None else pairwise or network.is_pairwise
        self.wake_kwh = self._values("wake_kwh")
        self.hours = network.slot_s / 3600
        self.batches = np.array([site.batches for site in network.sites]).T
        self.batch_kwh = self._values("batch_kwh")
        self.idle_kwh = self.hours * self._values("idle_kw")
        self.sleep_kwh = np.where(self._sleepers, self.hours * self._values("sleep_kw"), self.idle_kwh)
        harvest = np.array([site.harvest_kwh for site in network.sites]).T
        self.harvest_kwh = harvest if policy != "B0" else np.zeros_like(harvest)
        stored = policy != "B0"
        self.batteries = [(s.battery if stored else None) or Battery(capacity_kwh=0) for s in network.sites]
        self.g_per_kwh = np.array([site.g_per_kwh for site in network.sites]).T
        load_kwh = self.batches * self.batch_kwh + self.idle_kwh
        self.unit_kwh = float(load_kwh.mean()) or 1.0
        self.unit_batches = 1.0 if network.whole_batches else float(self.batches.mean()) or 1.0
        self.senders, self.receivers = self._edges()
        self.size = sum(n * self.slots for n in self._widths.values())
        self.columns = self._columns()

    @property
    def site_names(self) -> list[str]:
        """Names of the sites."""
        return [site.name for site in self.network.sites]

    def _values(self, key: str) -> Array:
        values = [getattr(site, key) for site in self.network.sites]
        return np.array([np.inf if value is None else value for value in values], dtype=float)

    @cached_property
    def _sleepers(self) -> NDArray[np.bool_]:
        return np.isfinite(self._values("sleep_kw"))

    def _edges(self) -> tuple[sparse.csr_array, sparse.csr_array]:
        """What leaves and what reaches each site over the edges, ``(sites, edges)``."""
        n = self.sites
        if not self.pairwise:
            eye, none = sparse.eye_array(n), sparse.csr_array((n, n))
            return sparse.hstack([eye, none], "csr"), sparse.hstack([none, eye], "csr")
        self.pairs = np.array([(i, j) for i in range(n) for j in range(n) if i != j], dtype=int).reshape(-1, 2)
        edges, ones = np.arange(len(self.pairs)), np.ones(len(self.pairs))
        shape = (n, len(self.pairs))
        senders = sparse.csr_array((ones, (self.pairs[:, 0], edges)), shape=shape)
        return senders, sparse.csr_array((ones, (self.pairs[:, 1], edges)), shape=shape)

    def _pair_values(self, values: float | tuple[tuple[float, ...], ...]) -> Array:
        """A value for every edge. In a pool, it belongs to what a site sends."""
        if self.pairwise:
            matrix = np.broadcast_to(np.array(values, dtype=float), (self.sites, self.sites))
            return matrix[self.pairs[:, 0], self.pairs[:, 1]]
        return np.repeat([float(np.asarray(values)), 0.0], self.sites)

    @cached_property
    def _widths(self) -> dict[str, int]:
        edges = self.senders.shape[1]
        return {name: edges if name in ("moves", "trades") else self.sites for name in VARIABLES}

    def _columns(self) -> dict[str, slice]:
        columns, begin = {}, 0
        for name, width in self._widths.items():
            columns[name] = slice(begin, begin + width * self.slots)
            begin = columns[name].stop
        return columns

    def values(self, solution: Array, name: str) -> Array:
        """The values of one kind of variable in kWh, batches or parts, ``(slots, n)``."""
        unit = self.unit_batches if name == "moves" else 1.0 if name in ("awake", "wakes") else self.unit_kwh
        return unit * solution[self.columns[name]].reshape(self.slots, self._widths[name])

    @property
    def objective(self) -> Array:
        """Scaled grams of each variable; one unit is ``unit_kwh`` at 1 g/kWh."""
        grams = np.zeros(self.size)
        grams[self.columns["grid"]] = self.g_per_kwh.ravel()
        grams[self.columns["moves"]] = np.tile(self.transport_g * self.unit_batches / self.unit_kwh, self.slots)
        return grams

    @property
    def transport_g(self) -> Array:
        """Grams of moving a batch over each edge."""
        return self._pair_values(self.network.transport_kwh) * (self.network.network_g_per_kwh or 0.0)

    @property
    def bounds(self) -> Array:
        """Lower and upper bound of each variable, ``(variables, 2)``."""
        bounds = np.tile([0.0, np.inf], (self.size, 1))
        for name, key in (("charge", "charge_kw"), ("discharge", "discharge_kw"), ("level", "capacity_kwh")):
            limits = np.array([np.inf if (v := getattr(b, key)) is None else v for b in self.batteries])
            factor = 1 if name == "level" else self.hours
            bounds[self.columns[name], 1] = np.tile(limits * factor / self.unit_kwh, self.slots)
        empty = np.tile([b.capacity_kwh == 0 for b in self.batteries], self.slots)
        for name in ("charge", "discharge"):
            bounds[self.columns[name], 1] = np.where(empty, 0.0, bounds[self.columns[name], 1])
        can_sleep = self._sleepers & np.bool_(self.policy in ("DAT", "DETA"))
        bounds[self.columns["awake"]] = np.tile(np.stack([~can_sleep, np.ones(self.sites)], 1), (self.slots, 1))
        if self.policy not in ("DAT", "DETA"):
            bounds[self.columns["moves"], 1] = 0.0
        if self.policy not in ("DET", "DETA"):
            bounds[self.columns["trades"], 1] = 0.0
        return bounds

    @property
    def whole_numbers(self) -> NDArray[np.int64]:
        """1 for each variable that is a whole number, else 0."""
        whole = np.zeros(self.size, dtype=int)
        if self.policy not in ("DAT", "DETA"):
            return whole
        if self.network.sleeps_whole_slots:
            whole[self.columns["awake"]] = np.tile(self._sleepers, self.slots)
        whole[self.columns["moves"]] = self.network.whole_batches
        return whole

    @cached_property
    def rows(self) -> list[Rows]:
        """All rows: balances first, then limits."""
        return [
            *(self._balance(), *self._pools(), self._battery()),
            *(self._harvest(), self._offload_cap(), self._trade_cap()),
            *(rows for rows in (self._capacity(), self._storage(), self._grid_limit()) if len(rows.limits)),
            self._battery_end(),
            *([waking_rows(self.columns, self.sites, self.slots, self.size)] if self._has_waking else []),
            *([self._carbon_budgets()] if self.network.budgets else []),
        ]

    @property
    def _has_waking(self) -> bool:
        return bool(self.whole_numbers[self.columns["awake"]].any())

    def _blocks(self, blocks: dict[str, sparse.csr_array], rows: int) -> sparse.csr_array:
        """A matrix over all variables with the same block in each slot, ``(rows, n)`` for each named variable."""
        slots, parts = np.arange(self.slots)[:, None], []
        for name, block in blocks.items():
            entries = block.tocoo()
            begin, width = self.columns[name].start, self._widths[name]
            row, column = slots * rows + entries.row, begin + slots * width + entries.col
            parts.append((np.broadcast_to(entries.data, row.shape).ravel(), row.ravel(), column.ravel()))
        data, row, column = (np.concatenate(part) for part in zip(*parts, strict=True))
        return sparse.csr_array((data, (row, column)), shape=(rows * self.slots, self.size))

    def _rows(
        self,
        name: str,
        blocks: dict[str, sparse.csr_array],
        limits: Array,
        unit: str,
        chosen: NDArray[np.bool_] | None = None,
        is_equality: bool = False,
        is_elastic: bool = False,
    ) -> Rows:
        """Rows of every slot and every chosen site. ``limits`` is ``(slots, sites)`` in kWh or batches."""
        kept = np.arange(self.sites) if chosen is None else np.flatnonzero(chosen)
        size = self.unit_batches if unit == "batches" else self.unit_kwh
        blocks = {key: sparse.csr_array(block)[kept] for key, block in blocks.items()}
        return Rows(
            name=name,
            matrix=self._blocks(blocks, len(kept)),
            limits=limits[:, kept].ravel() / size,
            sites=np.tile(kept, self.slots),
            slots=np.repeat(np.arange(self.slots), len(kept)),
            unit=(size, unit),
            is_equality=is_equality,
            is_elastic=is_elastic,
        )

    @cached_property
    def arrivals(self) -> sparse.csr_array:
        """Traded energy that reaches each site, ``(sites, edges)``. In a pool, the loss is in the pool's row."""
        if self.pairwise:
            return self.receivers @ sparse.diags_array(1 - self._pair_values(self.network.trading_loss))
        return self.receivers

    def _balance(self) -> Rows:
        """Grid, harvest, battery and trade together are the load."""
        eye = sparse.eye_array(self.sites)
        awake_kwh = self.idle_kwh - self.sleep_kwh
        batch = self.batch_kwh * self.unit_batches / self.unit_kwh
        blocks = {
            **dict.fromkeys(("grid", "own", "discharge"), eye),
            "trades": self.arrivals,
            "moves": -sparse.diags_array(batch) @ (self.receivers - self.senders),
            "awake": -sparse.diags_array(awake_kwh / self.unit_kwh),
            "wakes": -sparse.diags_array(self.wake_kwh / self.unit_kwh),
        }
        load = self.batches * self.batch_kwh + self.sleep_kwh
        return self._rows("balance", blocks, load, "kWh", is_equality=True)

    def _pools(self) -> list[Rows]:
        """What leaves the sites reaches the sites, less the loss."""
        if self.pairwise:
            return []
        loss = self._pair_values(self.network.trading_loss)[0]
        pools = []
        for name, factor in (("moves", 1.0), ("trades", 1.0 - loss)):
            block = sparse.csr_array(np.repeat([factor, -1.0], self.sites)[None])
            slots = np.arange(self.slots)
            none = np.full(self.slots, -1)
            matrix = self._blocks({name: block}, 1)
            pools.append(Rows(f"pool of {name}", matrix, np.zeros(self.slots), none, slots, (1.0, ""), True))
        return pools

    def _battery(self) -> Rows:
        """Level after a slot from the level before, charge and discharge."""
        hold = np.array([1 - b.self_discharge for b in self.batteries])
        charge = np.array([b.charge_efficiency for b in self.batteries])
        discharge = np.array([b.discharge_efficiency for b in self.batteries])
        blocks = {
            "level": sparse.eye_array(self.sites),
            "charge": -sparse.diags_array(charge),
            "discharge": sparse.diags_array(1 / discharge),
        }
        begin = np.zeros((self.slots, self.sites))
        begin[0] = hold * [b.begin_kwh for b in self.batteries]
        rows = self._rows("battery", blocks, begin, "kWh", is_equality=True)
        later = np.arange(self.sites, self.sites * self.slots)
        earlier = self.columns["level"].start + later - self.sites
        held = sparse.csr_array((hold[later % self.sites], (later, earlier)), shape=rows.matrix.shape)
        matrix = rows.matrix - held
        return Rows(rows.name, matrix, rows.limits, rows.sites, rows.slots, rows.unit, is_equality=True)

    def _harvest(self) -> Rows:
        """Harvest is used, stored, sent, or curtailed."""
        eye = sparse.eye_array(self.sites)
        return self._rows("harvest", {"own": eye, "charge": eye, "trades": self.senders}, self.harvest_kwh, "kWh")

    def _offload_cap(self) -> Rows:
        cap = self.network.offload_cap * self.batches
        return self._rows("offloading cap", {"moves": self.senders}, cap, "batches", is_elastic=True)

    def _trade_cap(self) -> Rows:
        cap = self.network.trade_cap * self.harvest_kwh
        return self._rows("trading cap", {"trades": self.senders}, cap, "kWh", is_elastic=True)

    def _capacity(self) -> Rows:
        capacity = self._values("capacity_batches")
        limited = np.isfinite(capacity)
        scaled = np.where(limited, capacity, 0.0) / self.unit_batches
        waking = scaled * self._values("wake_s") / self.network.slot_s
        blocks = {
            "moves": self.receivers - self.senders,
            "awake": -sparse.diags_array(scaled),
            "wakes": sparse.diags_array(waking),
        }
        rows = self._rows("capacity", blocks, -self.batches, "batches", limited, is_elastic=True)
        return replace(rows, sizes=np.tile(scaled[limited], self.slots))

    def _storage(self) -> Rows:
        storage = self._values("storage_batches")
        limited = np.isfinite(storage)
        limits = np.tile(np.where(limited, storage, 0.0), (self.slots, 1))
        return self._rows("storage", {"moves": self.receivers}, limits, "batches", limited, is_elastic=True)

    def _grid_limit(self) -> Rows:
        limit = self.hours * self._values("grid_limit_kw")
        limited = np.isfinite(limit)
        limits = np.tile(np.where(limited, limit, 0.0), (self.slots, 1))
        return self._rows("grid limit", {"grid": sparse.eye_array(self.sites)}, limits, "kWh", limited, is_elastic=True)

    def _battery_end(self) -> Rows:
        """The last level is by default at least the first one, so that the horizon does not use up the battery."""
        last_kwh = np.array([b.last_kwh for b in self.batteries])
        sites, last = np.arange(self.sites), self.columns["level"].stop - self.sites
        matrix = sparse.csr_array((-np.ones(self.sites), (sites, last + sites)), shape=(self.sites, self.size))
        slots = np.full(self.sites, self.slots - 1)
        unit = (self.unit_kwh, "kWh")
        limits = -last_kwh / self.unit_kwh
        return Rows("battery level at the end", matrix, limits, sites, slots, unit, is_elastic=True)

    def _carbon_budgets(self) -> Rows:
        """Emissions of all sites in the slots of each budget."""
        lengths = [budget.slots for budget in self.network.budgets]
        budget_of_slot = np.repeat(np.arange(len(lengths)), lengths)
        grams = self.objective
        columns = np.flatnonzero(grams)
        slot_of_column = np.concatenate([np.repeat(np.arange(self.slots), n) for n in self._widths.values()])
        rows = budget_of_slot[slot_of_column[columns]]
        matrix = sparse.csr_array((grams[columns], (rows, columns)), shape=(len(lengths), self.size))
        limits = np.array([budget.g for budget in self.network.budgets]) / self.unit_kwh
        none, last = np.full(len(lengths), -1), np.cumsum(lengths) - 1
        return Rows("carbon budget", matrix, limits, none, last, (self.unit_kwh, "g"), is_elastic=True)


def waking_rows(columns: Mapping[str, slice], sites: int, slots: int, size: int) -> Rows:
    """A site wakes where it is awake and was asleep in the slot before. The last slot is before the first one.

    Args:
        columns: of the variables ``awake`` and ``wakes``, slot by slot.
        sites, slots, size: numbers of sites, of slots and of variables.
    """
    n = sites * slots
    rows, awake, wakes = np.arange(n), columns["awake"].start, columns["wakes"].start
    places = np.concatenate([awake + rows, awake + (rows - sites) % n, wakes + rows])
    data = np.repeat([1.0, -1.0, -1.0], n)
    matrix = sparse.csr_array((data, (np.tile(rows, 3), places)), shape=(n, size))
    return Rows("waking", matrix, np.zeros(n), rows % sites, rows // sites, (1.0, ""))
