"""The linear programme of receiving sites: which receiver runs where, when and at which transmit power.

::

    traffic of a site ---> receiver s at site j ---> energy of j: grid, harvest, battery, traded energy
                      ---> transmit power that s needs ---> energy of the transmitter
    job ---> site j, slot t ---> energy of j

Shares of a site's traffic are variables, so a slot of time may have several receivers. A site may receive the radio
slots of another one if the way there and back leaves time for the receiver. Their I/Q samples then cost transport.
The computers of a site may sleep while another one receives its traffic. Waking them takes energy and time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from carbon.deta.edge_network import Battery
from carbon.deta.programme import Array, Rows, waking_rows
from carbon.deta.receiver_network import ReceiverNetwork, job_slots
from carbon.link_table import carrier_link
from carbon.receiver_options import ReceiverFamily, ReceiverOption
from channels.grid import NUM_SYMBOLS
from leanrx_core.errors import UserError

SitePolicyName = Literal["B0", "B1", "DET", "DAT", "DETA", "DETA+wait"]
_CELLS = ("grid", "own", "charge", "discharge", "level", "exports", "imports", "awake", "wakes")
"""Variables of every slot and site."""
_BITS_PER_GB = 8e9
_SUBCARRIERS = 12


@dataclass(frozen=True)
class SitePolicy:
    """What sites may do.

    Attributes:
        title: in words.
        harvests: whether own harvest and battery are used.
        trades: whether harvest is traded.
        moves: whether traffic and jobs may run at other sites, so that computers may sleep.
        waits: whether jobs may wait until their deadline.
    """

    title: str
    harvests: bool = True
    trades: bool = False
    moves: bool = False
    waits: bool = False


SITE_POLICIES: dict[SitePolicyName, SitePolicy] = {
    "B0": SitePolicy("grid alone", harvests=False),
    "B1": SitePolicy("own harvest and battery"),
    "DET": SitePolicy("trades energy", trades=True),
    "DAT": SitePolicy("moves traffic and jobs, and sleeps", moves=True),
    "DETA": SitePolicy("trades energy, moves traffic and jobs, and sleeps", trades=True, moves=True),
    "DETA+wait": SitePolicy("as DETA, and jobs wait", trades=True, moves=True, waits=True),
}


@dataclass(frozen=True)
class ReceptionPaths:
    """Ways of receiving the traffic of a site: each is one receiver at one site.

    Attributes:
        homes, places, options: index of the site whose traffic it is, of the site that computes, and of the receiver,
            ``(paths,)``.
    """

    homes: NDArray[np.int64]
    places: NDArray[np.int64]
    options: NDArray[np.int64]


class ReceiverProgramme:
    """The programme of one network, one family of receivers and one policy.

    Args:
        network: sites and jobs.
        family: receivers with their required SINR, joules and times.
        policy: a key of :data:`SITE_POLICIES`.
        receivers: names of those that may be used; all if not given.
        has_full_power: whether transmitters send at their limit, and not at the power that the receiver needs.
        gains_db: by which the SINR of each site is higher, ``(sites,)``; 0 if not given.

    Raises:
        UserError: if no receiver meets the target of a site in a slot of time.
    """

    def __init__(
        self,
        network: ReceiverNetwork,
        family: ReceiverFamily,
        policy: SitePolicyName,
        receivers: Sequence[str] | None = None,
        has_full_power: bool = False,
        gains_db: Array | None = None,
    ) -> None:
        self.network, self.family, self.policy, self._has_full_power = network, family, policy, has_full_power
        self._can = SITE_POLICIES[policy]
        self.options = [o for o in family.options if receivers is None or o.name in receivers]
        self.sites, self.slots, self.hours = len(network.sites), network.slots, network.slot_s / 3600
        self.link = carrier_link(network.link)
        self.g_per_kwh = self._profiles("g_per_kwh")
        self.harvest_kwh = self._profiles("harvest_kwh") * self._can.harvests
        none = Battery(capacity_kwh=0)
        self.batteries = [(s.battery if self._can.harvests else None) or none for s in network.sites]
        self.idle_kwh = self.hours * np.array([s.idle_kw for s in network.sites])
        sleep_kw = np.array([s.idle_kw if s.sleep_kw is None else s.sleep_kw for s in network.sites])
        self.sleep_kwh = self.hours * sleep_kw
        self.wake_kwh = np.array([s.wake_kwh for s in network.sites])
        self.sleepers = np.array([s.sleep_kw is not None for s in network.sites]) & np.bool_(self._can.moves)
        carriers = np.array([s.carriers for s in network.sites])
        self.radio_slots = self._profiles("activity") * carriers * network.slot_s / family.slot_s
        self.received_kwh = np.array([o.energy_j for o in self.options]) / 3.6e6
        self._set_power(np.zeros(self.sites) if gains_db is None else gains_db)
        self.paths = self._reception_paths()
        self.job_cells = self._job_cells()
        self.unit_kwh = self._unit_kwh()
        self.columns = self._columns()
        self.size = max(c.stop for c in self.columns.values())

    @property
    def site_names(self) -> list[str]:
        """Names of the sites."""
        return [site.name for site in self.network.sites]

    def _profiles(self, key: str) -> Array:
        return np.array([getattr(site, key) for site in self.network.sites], dtype=float).T

    def _set_power(self, gains_db: Array) -> None:
        """Power of each carrier and energy of the transmitter, ``(slots, sites, receivers)``; NaN where impossible."""
        sinr_db = np.array([o.bits.required_sinr_db(self.network.ber)[0] for o in self.options])
        self.required_sinr_db = sinr_db
        loss_db = self._profiles("path_loss_db") - gains_db
        noise_w, limit_w = self.link.noise_w(self.family), self.link.max_output_w(self.family.num_prb)
        output_w = noise_w * 10 ** ((loss_db[..., None] + sinr_db) / 10)
        output_w = np.where(output_w <= limit_w * (1 + 1e-9), output_w, np.nan)
        self.output_w = np.where(np.isnan(output_w), np.nan, limit_w) if self._has_full_power else output_w
        self.sent_kwh = self.link.transmitter.slope * self.output_w * self.family.slot_s / 3.6e6

    @cached_property
    def slot_bits(self) -> int:
        """I/Q samples of a radio slot of all antennas."""
        network, elements = self.network, self.family.num_prb * _SUBCARRIERS * NUM_SYMBOLS
        return elements * network.antennas * network.sample_bits

    @cached_property
    def transport_kwh_per_bit(self) -> Array:
        """Energy of moving a bit between sites, ``(sites, sites)``; 0 at home."""
        network = self.network
        energy = network.transport_kwh_per_gb + network.transport_kwh_per_gb_km * network.distances_km
        return np.where(np.eye(self.sites, dtype=bool), 0.0, energy / _BITS_PER_GB)

    def _reception_paths(self) -> ReceptionPaths:
        """Receivers and sites that are in time, with a target that is reached in at least one slot."""
        network = self.network
        way_ms = 2 * network.distances_km / network.fibre_km_per_ms
        time_ms = 1e3 * np.array([o.duration_s for o in self.options])
        in_time: NDArray[np.bool_] = np.asarray(way_ms[..., None] + time_ms <= network.deadline_ms * (1 + 1e-9))
        if not self._can.moves:
            in_time &= np.eye(self.sites, dtype=bool)[..., None]
        possible = np.isfinite(self.output_w)
        in_time &= np.asarray(possible.any(0))[:, None, :]
        for home, site in enumerate(network.sites):
            reachable = possible[:, home] & in_time[home, home]
            missing = np.flatnonzero(~reachable.any(1) & (self.radio_slots[:, home] > 0))
            if len(missing):
                reasons = [self._reason(index) for index in range(len(self.options))]
                others = f"; and {len(reasons) - 2} more" if len(reasons) > 2 else ""
                raise UserError(
                    f"site {site.name}, slot {missing[0] + 1}: no receiver reaches BER {network.ber:g}: "
                    f"{'; '.join(reasons[:2])}{others}; raise ber or deadline_ms, or lower path_loss_db"
                )
        homes, places, options = np.nonzero(in_time)
        return ReceptionPaths(homes, places, options)

    def _reason(self, index: int) -> str:
        option: ReceiverOption = self.options[index]
        if math.isnan(self.required_sinr_db[index]):
            return f"{option.name} has an error floor"
        if 1e3 * option.duration_s > self.network.deadline_ms:
            return f"{option.name} takes {1e3 * option.duration_s:.3g} ms"
        return f"{option.name} needs too much power"

    def _job_cells(self) -> NDArray[np.int64]:
        """Job, site and slot of every part of a job, ``(cells, 3)``."""
        names = self.site_names
        cells = [
            (number, place, slot)
            for number, job in enumerate(self.network.jobs)
            for place in (range(self.sites) if self._can.moves else [names.index(job.site)])
            for slot in job_slots(job, self.network.slot_s, self._can.waits)
        ]
        return np.array(cells, dtype=np.int64).reshape(-1, 3)

    def _unit_kwh(self) -> float:
        jobs_kwh = sum(job.kwh for job in self.network.jobs)
        reception = self.radio_slots * self.received_kwh.mean()
        total = float(reception.sum() + self.slots * self.idle_kwh.sum() + jobs_kwh)
        return total / (self.slots * self.sites) or 1.0

    def _columns(self) -> dict[str, slice]:
        cells = self.slots * self.sites
        sizes = {"shares": self.slots * len(self.paths.homes), "jobs": len(self.job_cells)}
        sizes |= dict.fromkeys(_CELLS, cells)
        columns, begin = {}, 0
        for name, size in sizes.items():
            columns[name] = slice(begin, begin + size)
            begin += size
        return columns

    def values(self, solution: Array, name: str) -> Array:
        """Energies in kWh ``(slots, sites)``; shares of traffic ``(slots, paths)``; parts of jobs ``(cells,)``.

        ``awake`` is the part of a slot, and ``wakes`` counts.
        """
        values = solution[self.columns[name]]
        if name == "jobs":
            return values
        return values.reshape(self.slots, -1) * (1.0 if name in ("shares", "awake", "wakes") else self.unit_kwh)

    @property
    def path_sent_kwh(self) -> Array:
        """Energy of the transmitter for all traffic of a site over a path, ``(slots, paths)``; NaN if impossible."""
        homes, options = self.paths.homes, self.paths.options
        return self.radio_slots[:, homes] * self.sent_kwh[:, homes, options]

    @property
    def path_received_kwh(self) -> Array:
        """Energy of receiving all traffic of a site over a path, ``(slots, paths)``."""
        return self.radio_slots[:, self.paths.homes] * self.received_kwh[self.paths.options]

    @property
    def path_transport_kwh(self) -> Array:
        """Energy of moving all traffic of a site over a path, ``(slots, paths)``."""
        per_slot = self.slot_bits * self.transport_kwh_per_bit[self.paths.homes, self.paths.places]
        return self.radio_slots[:, self.paths.homes] * per_slot

    @property
    def job_transport_kwh(self) -> Array:
        """Energy of moving a job's data to the site of each part, ``(cells,)``."""
        jobs, places, _ = self.job_cells.T
        homes = np.array([self.site_names.index(job.site) for job in self.network.jobs], dtype=int)[jobs]
        bits = np.array([job.gigabytes * _BITS_PER_GB for job in self.network.jobs])[jobs]
        return np.asarray(bits * self.transport_kwh_per_bit[homes, places])

    @cached_property
    def transmits_from_grid(self) -> NDArray[np.bool_]:
        """Whether the transmitter of a site has the grid of the place, ``(sites,)``."""
        return np.array([not site.has_transmitter for site in self.network.sites])

    @property
    def objective(self) -> Array:
        """Scaled grams of each variable; one unit is ``unit_kwh`` at 1 g/kWh."""
        grams = np.zeros(self.size)
        grams[self.columns["grid"]] = self.g_per_kwh.ravel()
        homes, network_g = self.paths.homes, self.network.network_g_per_kwh
        sent = np.nan_to_num(self.path_sent_kwh) * self.g_per_kwh[:, homes] * self.transmits_from_grid[homes]
        path_g = sent + self.path_transport_kwh * network_g
        grams[self.columns["shares"]] = path_g.ravel() / self.unit_kwh
        grams[self.columns["jobs"]] = self.job_transport_kwh * network_g / self.unit_kwh
        return grams

    @property
    def bounds(self) -> Array:
        """Lower and upper bound of each variable, ``(variables, 2)``."""
        bounds = np.tile([0.0, np.inf], (self.size, 1))
        possible = np.isfinite(self.output_w[:, self.paths.homes, self.paths.options]) | (
            self.radio_slots[:, self.paths.homes] == 0
        )
        bounds[self.columns["shares"], 1] = possible.ravel()
        for name, key in (("charge", "charge_kw"), ("discharge", "discharge_kw"), ("level", "capacity_kwh")):
            limits = np.array([np.inf if (v := getattr(b, key)) is None else v for b in self.batteries])
            factor = 1.0 if name == "level" else self.hours
            empty = np.array([b.capacity_kwh == 0 for b in self.batteries])
            limits = np.where(empty, 0.0, limits * factor / self.unit_kwh)
            bounds[self.columns[name], 1] = np.tile(limits, self.slots)
        bounds[self.columns["awake"]] = np.tile(np.stack([~self.sleepers, np.ones(self.sites)], 1), (self.slots, 1))
        if not self._can.trades:
            bounds[self.columns["exports"], 1] = 0.0
            bounds[self.columns["imports"], 1] = 0.0
        return bounds

    @property
    def whole_numbers(self) -> NDArray[np.int64]:
        """1 for each variable that is a whole number, else 0."""
        whole = np.zeros(self.size, dtype=int)
        if self.network.sleeps_whole_slots:
            whole[self.columns["awake"]] = np.tile(self.sleepers, self.slots)
        return whole

    @cached_property
    def rows(self) -> list[Rows]:
        """All rows: balances first, then limits."""
        energy = (self.unit_kwh, "kWh")
        harvest = [(name, 1.0) for name in ("own", "charge", "exports")]
        cap = self.network.trade_cap * self.harvest_kwh
        rows = [
            *(self._served(), self._balance(), self._battery(), self._pool()),
            self._cells("harvest", harvest, self.harvest_kwh / self.unit_kwh, energy),
            self._cells("trading cap", [("exports", 1.0)], cap / self.unit_kwh, energy),
            *(self._computers(), self._battery_end()),
        ]
        if len(self.job_cells):
            rows += [self._jobs_done(), self._job_speed()]
        if any(site.grid_limit_kw is not None for site in self.network.sites):
            rows.append(self._grid_limit())
        if self.whole_numbers.any():
            rows.append(waking_rows(self.columns, self.sites, self.slots, self.size))
        return rows

    def _matrix(self, parts: list[tuple[NDArray[np.int64], NDArray[np.int64], Array]], rows: int) -> sparse.csr_array:
        row, column, data = (np.concatenate(part) for part in zip(*parts, strict=True))
        return sparse.csr_array((data, (row, column)), shape=(rows, self.size))

    def _cell_parts(self, terms: list[tuple[str, float]]) -> list[tuple[NDArray[np.int64], NDArray[np.int64], Array]]:
        cells = np.arange(self.slots * self.sites)
        return [(cells, self.columns[name].start + cells, np.full(len(cells), sign)) for name, sign in terms]

    def _cells(
        self,
        name: str,
        terms: list[tuple[str, float]],
        limits: Array,
        unit: tuple[float, str],
    ) -> Rows:
        """A row for every slot and site, at most ``limits``, ``(slots, sites)``."""
        cells = np.arange(self.slots * self.sites)
        matrix = self._matrix(self._cell_parts(terms), len(cells))
        return Rows(name, matrix, limits.ravel(), cells % self.sites, cells // self.sites, unit)

    def _grid_limit(self) -> Rows:
        """Energy from the grid, of the sites that have a limit."""
        limit_kw = np.array([np.inf if s.grid_limit_kw is None else s.grid_limit_kw for s in self.network.sites])
        cells = np.arange(self.slots * self.sites).reshape(self.slots, -1)[:, np.isfinite(limit_kw)].ravel()
        count = len(cells)
        matrix = self._matrix([(np.arange(count), self.columns["grid"].start + cells, np.ones(count))], count)
        places = cells % self.sites, cells // self.sites
        limits = self.hours * limit_kw[places[0]] / self.unit_kwh
        return Rows("grid limit", matrix, limits, *places, (self.unit_kwh, "kWh"), is_elastic=True)

    def _share_part(self, sites: NDArray[np.int64], data: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Entries of all shares in the rows of their slot and a site. ``data`` is ``(slots, paths)``."""
        rows = np.arange(self.slots)[:, None] * self.sites + sites
        columns = self.columns["shares"].start + np.arange(data.size)
        return rows.ravel(), columns, data.ravel()

    def _job_part(self, data: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Entries of all parts of jobs in the rows of their slot and site."""
        _, places, slots = self.job_cells.T
        return slots * self.sites + places, self.columns["jobs"].start + np.arange(len(data)), data

    def _served(self) -> Rows:
        """All traffic of a site is received."""
        count = self.slots * self.sites
        ones = np.ones((self.slots, len(self.paths.homes)))
        matrix = self._matrix([self._share_part(self.paths.homes, ones)], count)
        cells = np.arange(count)
        limits = (self.radio_slots > 0).ravel().astype(float)
        return Rows("traffic", matrix, limits, cells % self.sites, cells // self.sites, (1.0, ""), True)

    def _balance(self) -> Rows:
        """Grid, harvest, battery and trade are the load of the site."""
        received = self._share_part(self.paths.places, -self.path_received_kwh / self.unit_kwh)
        own = ~self.transmits_from_grid[self.paths.homes]
        sent = self._share_part(self.paths.homes, -np.nan_to_num(self.path_sent_kwh) * own / self.unit_kwh)
        kwh = np.array([job.kwh for job in self.network.jobs])[self.job_cells[:, 0]]
        supplies = self._cell_parts([(name, 1.0) for name in ("grid", "own", "discharge", "imports")])
        cells = np.arange(self.slots * self.sites)
        awake_kwh = self.idle_kwh - self.sleep_kwh
        sleep = [
            (cells, self.columns[name].start + cells, -np.tile(values / self.unit_kwh, self.slots))
            for name, values in (("awake", awake_kwh), ("wakes", self.wake_kwh))
        ]
        parts = [*supplies, received, sent, self._job_part(-kwh / self.unit_kwh), *sleep]
        least = np.tile(self.sleep_kwh / self.unit_kwh, self.slots)
        unit = (self.unit_kwh, "kWh")
        matrix = self._matrix(parts, len(cells))
        return Rows("balance", matrix, least, cells % self.sites, cells // self.sites, unit, True)

    def _battery(self) -> Rows:
        """Level after a slot from the level before, charge and discharge."""
        count = self.slots * self.sites
        hold, charge, discharge, begin = (
            np.array([getattr(b, key) for b in self.batteries], dtype=float)
            for key in ("self_discharge", "charge_efficiency", "discharge_efficiency", "begin_kwh")
        )
        cells, tiled = np.arange(count), np.arange(count) % self.sites
        later = cells[self.sites :]
        parts = [
            (cells, self.columns["level"].start + cells, np.ones(count)),
            (cells, self.columns["charge"].start + cells, -charge[tiled]),
            (cells, self.columns["discharge"].start + cells, 1 / discharge[tiled]),
            (later, self.columns["level"].start + later - self.sites, hold[tiled[self.sites :]] - 1),
        ]
        limits = np.zeros(count)
        limits[: self.sites] = (1 - hold) * begin / self.unit_kwh
        return Rows(
            "battery", self._matrix(parts, count), limits, tiled, cells // self.sites, (self.unit_kwh, "kWh"), True
        )

    def _pool(self) -> Rows:
        """What is sent reaches the sites, less the loss."""
        cells = np.arange(self.slots * self.sites)
        slots = cells // self.sites
        loss = 1 - self.network.trading_loss
        parts = [
            (slots, self.columns["exports"].start + cells, np.full(len(cells), loss)),
            (slots, self.columns["imports"].start + cells, np.full(len(cells), -1.0)),
        ]
        matrix, every = self._matrix(parts, self.slots), np.full(self.slots, -1)
        return Rows("pool", matrix, np.zeros(self.slots), every, np.arange(self.slots), (self.unit_kwh, "kWh"), True)

    def _computers(self) -> Rows:
        """Time of receiving and of jobs is within that of the computers while they are awake."""
        durations = np.array([o.duration_s for o in self.options])[self.paths.options]
        busy = self.radio_slots[:, self.paths.homes] * durations / self.network.slot_s
        hours = np.array([job.hours for job in self.network.jobs])[self.job_cells[:, 0]] / self.hours
        cells = np.arange(self.slots * self.sites)
        computers = np.tile([float(site.computers) for site in self.network.sites], self.slots)
        waking = computers * np.tile([s.wake_s / self.network.slot_s for s in self.network.sites], self.slots)
        parts = [
            self._share_part(self.paths.places, busy),
            self._job_part(hours),
            (cells, self.columns["awake"].start + cells, -computers),
            (cells, self.columns["wakes"].start + cells, waking),
        ]
        places = cells % self.sites, cells // self.sites
        matrix, limits = self._matrix(parts, len(cells)), np.zeros(len(cells))
        return Rows("computers", matrix, limits, *places, (1.0, "computers"), is_elastic=True, sizes=computers)

    def _battery_end(self) -> Rows:
        """The last level is at least the required one, so that the day does not use up the battery."""
        sites, last = np.arange(self.sites), self.columns["level"].stop - self.sites
        matrix = self._matrix([(sites, last + sites, -np.ones(self.sites))], self.sites)
        limits = -np.array([b.last_kwh for b in self.batteries]) / self.unit_kwh
        slots, unit = np.full(self.sites, self.slots - 1), (self.unit_kwh, "kWh")
        return Rows("battery level at the end", matrix, limits, sites, slots, unit, is_elastic=True)

    def _jobs_done(self) -> Rows:
        """All parts of a job are done."""
        count, jobs = len(self.network.jobs), self.job_cells[:, 0]
        columns = self.columns["jobs"].start + np.arange(len(jobs))
        homes = np.array([self.site_names.index(job.site) for job in self.network.jobs])
        slots = np.array([job.deadline - 1 for job in self.network.jobs])
        matrix = self._matrix([(jobs, columns, np.ones(len(jobs)))], count)
        return Rows("jobs", matrix, np.ones(count), homes, slots, (1.0, ""), True)

    def _job_speed(self) -> Rows:
        """A job takes one computer at a time."""
        jobs, _, slots = self.job_cells.T
        keys, rows = np.unique(jobs * self.slots + slots, return_inverse=True)
        columns = self.columns["jobs"].start + np.arange(len(jobs))
        matrix = self._matrix([(rows, columns, np.ones(len(jobs)))], len(keys))
        hours = np.array([job.hours for job in self.network.jobs])[keys // self.slots]
        homes = np.array([self.site_names.index(job.site) for job in self.network.jobs])[keys // self.slots]
        return Rows("speed of a job", matrix, np.minimum(self.hours / hours, 1.0), homes, keys % self.slots, (1.0, ""))
