"""A network of edge sites over slots of time: load, harvest, batteries, grid intensity, and what may move.

Energies are in kWh per slot, powers in kW, and tasks in batches per slot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, Self

from pydantic import Discriminator, Field, Tag, model_validator

from carbon.accounting import IntensityBasis
from leanrx_core.errors import UserError
from leanrx_core.records import Record

Profile = tuple[Annotated[float, Field(ge=0)], ...]
"""One value per slot."""
PairValues = tuple[tuple[Annotated[float, Field(ge=0)], ...], ...]
"""One value per sender (row) and receiver (column)."""

MAX_PAIRWISE_SITES = 30
"""Sites of a network with values per pair. The programme grows with the square of their number."""


def _kind(value: Any) -> str:
    """Which of several forms a value has, so that a message is about this form alone."""
    if isinstance(value, Mapping | Record):
        return "record"
    return "profile" if isinstance(value, list | tuple) else "name" if isinstance(value, str) else "number"


def profile_form(allowed: str) -> Discriminator:
    """Which of several forms of a profile a value has; a message says what is allowed."""
    return Discriminator(_kind, custom_error_type="form", custom_error_message=f"give {allowed}")


class Battery(Record):
    """A battery that stores harvest of its site.

    Attributes:
        capacity_kwh: largest level.
        charge_kw, discharge_kw: largest powers; not limited where not given.
        charge_efficiency, discharge_efficiency: one way, above 0 and up to 1.
        self_discharge: part of the level that is lost in a slot.
        begin_kwh: level before the first slot.
        end_kwh: smallest level after the last slot; ``begin_kwh`` where not given.
    """

    capacity_kwh: float = Field(ge=0)
    charge_kw: float | None = Field(None, ge=0)
    discharge_kw: float | None = Field(None, ge=0)
    charge_efficiency: float = Field(1.0, gt=0, le=1)
    discharge_efficiency: float = Field(1.0, gt=0, le=1)
    self_discharge: float = Field(0.0, ge=0, lt=1)
    begin_kwh: float = Field(0.0, ge=0)
    end_kwh: float | None = Field(None, ge=0)

    @property
    def last_kwh(self) -> float:
        """Smallest level after the last slot."""
        return self.begin_kwh if self.end_kwh is None else self.end_kwh

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        for key in ("begin_kwh", "end_kwh"):
            level = getattr(self, key) or 0.0
            if level > self.capacity_kwh:
                raise ValueError(f"{key} {level:g} is above capacity_kwh {self.capacity_kwh:g}; write less")
        return self


class CarbonBudget(Record):
    """Emissions that all sites together may cause in a number of consecutive slots.

    Attributes:
        slots: that it covers.
        g: gCO2e of grid and transport.
    """

    slots: int = Field(ge=1)
    g: float = Field(ge=0)


class IdlePower(Record):
    """Name of a site, and its power without work, awake and asleep.

    Attributes:
        name: of the site.
        idle_kw: power of an awake site without work.
        sleep_kw: power asleep; a site without it never sleeps.
        wake_kwh: energy of waking up.
        wake_s: time of waking up. The site does no work in it.
    """

    name: str = Field(min_length=1)
    idle_kw: float = Field(0.0, ge=0)
    sleep_kw: float | None = Field(None, ge=0)
    wake_kwh: float = Field(0.0, ge=0)
    wake_s: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _check_sleep(self) -> Self:
        if self.sleep_kw is None and (self.wake_kwh or self.wake_s):
            raise UserError(f"site {self.name}: wake_kwh and wake_s have no effect without sleep_kw; add sleep_kw")
        if self.sleep_kw is not None and self.sleep_kw > self.idle_kw:
            raise UserError(
                f"site {self.name}: sleep_kw {self.sleep_kw:g} is above idle_kw {self.idle_kw:g}; write at most idle_kw"
            )
        return self


def sleeps_whole_slots(sites: Sequence[IdlePower], whole_slot_sleep: bool) -> bool:
    """Whether a site that sleeps does so for whole slots: by the rule, or because waking costs something."""
    sleepers = [site for site in sites if site.sleep_kw is not None]
    return any(whole_slot_sleep or site.wake_kwh or site.wake_s for site in sleepers)


def check_waking(sites: Sequence[IdlePower], slot_s: float) -> None:
    """Refuse a site that wakes up for longer than a slot.

    Raises:
        UserError: if there is one.
    """
    for site in sites:
        if site.wake_s > slot_s:
            raise UserError(f"site {site.name}: wake_s {site.wake_s:g} is longer than a slot; write a shorter one")


class _HasBasis(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def basis(self) -> IntensityBasis | None: ...


def check_bases(sites: Sequence[_HasBasis]) -> None:
    """Refuse carbon intensities of two bases in one programme.

    Raises:
        UserError: if there are two.
    """
    bases = {str(site.basis or "not stated"): site.name for site in sites}
    if len(bases) > 1:
        named = " and ".join(f"'{basis}' ({site})" for basis, site in bases.items())
        raise UserError(f"network: intensities have two bases: {named}; choose intensities of one basis")


class SiteHardware(IdlePower):
    """Computers, battery and limits of a site.

    Attributes:
        batch_kwh: energy of a batch above idle.
        battery: of the site.
        capacity_batches: batches that it can run in a slot; not limited where not given.
        storage_batches: batches of other sites that it can hold in a slot; not limited where not given.
        grid_limit_kw: largest power from the grid; not limited where not given.
    """

    batch_kwh: float = Field(gt=0)
    battery: Battery | None = None
    capacity_batches: float | None = Field(None, ge=0)
    storage_batches: float | None = Field(None, ge=0)
    grid_limit_kw: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _check_capacity(self) -> Self:
        if self.sleep_kw is not None and self.capacity_batches is None:
            raise UserError(f"site {self.name}: a site that sleeps needs a capacity; add capacity_batches")
        return self


class EdgeSite(SiteHardware):
    """One site with its computers, its grid, and what arrives in each slot.

    Attributes:
        intensity: name of the carbon intensity.
        g_per_kwh: carbon intensity of the grid by slot.
        basis: of the intensity; not given where it is not known.
        batches: tasks that arrive by slot.
        harvest_kwh: renewable energy by slot.
    """

    intensity: str = "own value"
    g_per_kwh: Profile = Field(min_length=1)
    basis: IntensityBasis | None = None
    batches: Profile
    harvest_kwh: Profile

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        lengths = {key: len(getattr(self, key)) for key in ("g_per_kwh", "batches", "harvest_kwh")}
        if len(set(lengths.values())) > 1:
            given = ", ".join(f"{key} {length}" for key, length in lengths.items())
            raise UserError(f"site {self.name}: profiles have different numbers of slots ({given}); give equal ones")
        return self


class NetworkLimits(Record):
    """What may move between the sites of a network, and what it costs.

    Attributes:
        slot_s: length of a slot.
        offload_cap: largest part of its batches that a site may send to others in a slot.
        trade_cap: largest part of its harvest that a site may send to others in a slot.
        trading_loss: part of traded energy that is lost: one value, or one per pair.
        transport_kwh: energy of moving a batch: one value, or one per pair.
        network_g_per_kwh: carbon intensity of transport, of the same basis as that of the sites.
        whole_slot_sleep: whether a site is awake or asleep for whole slots. Waking with a cost implies it.
        whole_batches: whether batches move as a whole. A site may always run a part of a batch that arrives at it.
        budgets: of carbon, one after the other from the first slot to the last one.
    """

    slot_s: float = Field(gt=0)
    offload_cap: float = Field(0.5, ge=0, le=1)
    trade_cap: float = Field(0.5, ge=0, le=1)
    trading_loss: Annotated[
        Annotated[float, Field(ge=0, lt=1), Tag("number")] | Annotated[PairValues, Tag("profile")],
        profile_form("a number, or a row for each sender"),
    ] = 0.0
    transport_kwh: Annotated[
        Annotated[float, Field(ge=0), Tag("number")] | Annotated[PairValues, Tag("profile")],
        profile_form("a number, or a row for each sender"),
    ] = 0.0
    network_g_per_kwh: float | None = Field(None, ge=0)
    whole_slot_sleep: bool = False
    whole_batches: bool = False
    budgets: tuple[CarbonBudget, ...] = ()


class EdgeNetwork(NetworkLimits):
    """Sites, and what may move between them.

    Attributes:
        sites: all of them, with equally long profiles and intensities of one basis.

    Raises:
        UserError: on parsing, for unequal profiles, two bases, equal names, or values per pair that do not fit.

    Example:
        >>> site = {"batches": (10,), "batch_kwh": 0.1, "harvest_kwh": (0,)}
        >>> network = EdgeNetwork(
        ...     sites=({"name": "clean", "g_per_kwh": (50,), **site}, {"name": "dirty", "g_per_kwh": (500,), **site}),
        ...     slot_s=3600,
        ... )
        >>> network.slots, network.is_pairwise
        (1, False)
    """

    sites: tuple[EdgeSite, ...] = Field(min_length=1)

    @property
    def slots(self) -> int:
        """Number of slots."""
        return len(self.sites[0].g_per_kwh)

    @property
    def is_pairwise(self) -> bool:
        """Whether a loss or a transport energy differs between pairs of sites."""
        return isinstance(self.trading_loss, tuple) or isinstance(self.transport_kwh, tuple)

    @property
    def sleeps_whole_slots(self) -> bool:
        """Whether the programme has whole-number variables."""
        return sleeps_whole_slots(self.sites, self.whole_slot_sleep)

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        name, count = Counter(site.name for site in self.sites).most_common(1)[0]
        if count > 1:
            raise UserError(f"network: {count} sites have the name '{name}'; give each its own")
        for site in self.sites:
            if len(site.g_per_kwh) != self.slots:
                first = self.sites[0].name
                raise UserError(
                    f"network: site {site.name} has {len(site.g_per_kwh)} slots and {first} has {self.slots}; "
                    "give all sites equally many"
                )
        check_waking(self.sites, self.slot_s)
        check_bases(self.sites)
        covered = sum(budget.slots for budget in self.budgets)
        if self.budgets and covered != self.slots:
            where = "ends inside a budget" if covered > self.slots else "goes on after the last budget"
            raise UserError(
                f"network: the horizon {where}: budgets cover {covered} slots and the network has {self.slots}; "
                "give budgets whose slots add up to those of the network"
            )
        self._check_pairs()
        return self

    def _check_pairs(self) -> None:
        for key in ("trading_loss", "transport_kwh"):
            values = getattr(self, key)
            if isinstance(values, tuple) and {len(values), *map(len, values)} != {len(self.sites)}:
                raise UserError(f"network: {key} needs {len(self.sites)} rows and columns, one of each for every site")
            if key == "trading_loss" and isinstance(values, tuple) and any(v >= 1 for row in values for v in row):
                raise UserError("network: trading_loss must be below 1 for every pair; write the part that is lost")
        if self.is_pairwise and len(self.sites) > MAX_PAIRWISE_SITES:
            raise UserError(
                f"network: {len(self.sites)} sites with values per pair; {MAX_PAIRWISE_SITES} are allowed. "
                "Give one trading_loss and one transport_kwh for all pairs"
            )
        transport = self.transport_kwh
        moves = any(map(any, transport)) if isinstance(transport, tuple) else transport > 0
        if moves and self.network_g_per_kwh is None:
            raise UserError("network: transport_kwh needs a carbon intensity; add network_g_per_kwh")
