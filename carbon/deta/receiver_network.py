"""Sites that receive radio slots, read from a YAML file: traffic, channel, grid, sun, battery, computers and jobs."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, Tag, model_validator

from carbon.accounting import IntensityBasis, carbon_intensity
from carbon.deta.edge_network import (
    Battery,
    IdlePower,
    Profile,
    check_bases,
    check_waking,
    profile_form,
    sleeps_whole_slots,
)
from carbon.deta.network_file import (
    MAX_SLOTS,
    Amount,
    DailyTraffic,
    SlotValues,
    site_intensity,
    slot_profile,
    solar_harvest,
)
from carbon.deta.solar import SolarPanel
from carbon.link_table import MAX_PATH_LOSS_DB
from leanrx_core.errors import UserError
from leanrx_core.records import Record

_EARTH_KM = 6371.0
_DAY_HOURS = 24.0


class DailyActivity(Record):
    """Part of the radio slots in use, as a cosine over the day.

    Attributes:
        mean: over the day.
        lowest_over_highest: activity at the lowest hour over that at the peak.
        peak_hour: of the day, local time.
    """

    mean: float = Field(ge=0, le=1)
    lowest_over_highest: float = Field(0.25, ge=0, le=1)
    peak_hour: float = Field(20.0, ge=0, lt=_DAY_HOURS)

    def profile(self, slots: int, slot_s: float, begin_hour: float) -> Profile:
        """Activity of each slot, at most 1."""
        shape = self.model_dump(include={"lowest_over_highest", "peak_hour"})
        values = DailyTraffic(mean_batches=self.mean, **shape).batches(slots, slot_s, begin_hour)
        return tuple(min(1.0, value) for value in values)


class ReceivingHardware(IdlePower):
    """What a site has. Its computers sleep, and its radio does not.

    Attributes:
        latitude, longitude: degrees, north and east. Distances give latency and transport energy between sites.
        carriers: that it receives. Each has the resource blocks of the receivers.
        computers: that receive and do jobs, one slot or one job at a time each.
        has_transmitter: whether the transmitter takes its power from the site. If not, it has the grid of the place.
        battery: of the site.
        grid_limit_kw: largest power from the grid; not limited where not given.
    """

    latitude: float = Field(0.0, ge=-90, le=90)
    longitude: float = Field(0.0, ge=-180, le=180)
    carriers: float = Field(1.0, ge=0)
    computers: float = Field(gt=0)
    has_transmitter: bool = False
    battery: Battery | None = None
    grid_limit_kw: float | None = Field(None, ge=0)


class ReceivingSite(ReceivingHardware):
    """A site with what it meets in each slot of time.

    Attributes:
        intensity: name of the carbon intensity.
        g_per_kwh: of the grid by slot.
        basis: of the intensity; not given where it is not known.
        activity: part of the radio slots in use, by slot.
        path_loss_db: between transmitter and receiver, by slot.
        harvest_kwh: renewable energy by slot.
    """

    intensity: str = "own value"
    g_per_kwh: Profile = Field(min_length=1)
    basis: IntensityBasis | None = None
    activity: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    path_loss_db: tuple[Annotated[float, Field(ge=0, le=MAX_PATH_LOSS_DB)], ...]
    harvest_kwh: Profile


class ComputingJob(Record):
    """A training or an adaptation that may wait, and may run at another site.

    Attributes:
        name: of the job.
        stage: of the life cycle: development or recycling.
        site: that needs it and has its data.
        kwh: energy.
        hours: of one computer. A job never takes two computers at once.
        gigabytes: that move if it runs elsewhere.
        release: first slot in which it can run, from 1.
        deadline: last slot in which it can run.
    """

    name: str = Field(min_length=1)
    stage: str = Field("recycling", pattern="^(development|recycling)$")
    site: str
    kwh: float = Field(gt=0)
    hours: float = Field(gt=0)
    gigabytes: float = Field(0.0, ge=0)
    release: int = Field(1, ge=1)
    deadline: int = Field(ge=1)


class TransportRules(Record):
    """Between sites, and what the receivers have to reach.

    Attributes:
        slot_s: length of a slot of time.
        link: transmitter and noise: a link of ``leanrx carbon link``, or its YAML file.
        ber: target of every site.
        deadline_ms: longest time of receiving a radio slot, with the way to another site and back.
        fibre_km_per_ms: along which bits travel.
        transport_kwh_per_gb: of moving data to another site at any distance.
        transport_kwh_per_gb_km: of moving data, per km of distance.
        antennas: of a receiver.
        sample_bits: of one I/Q sample.
        trade_cap: largest part of its harvest that a site may send to others in a slot.
        trading_loss: part of traded energy that is lost.
        network_g_per_kwh: carbon intensity of transport.
        whole_slot_sleep: whether a site is awake or asleep for whole slots. Waking with a cost implies it.
    """

    slot_s: float = Field(gt=0)
    link: str
    ber: float = Field(gt=0, lt=1)
    deadline_ms: float = Field(gt=0)
    fibre_km_per_ms: float = Field(130.0, gt=0)
    transport_kwh_per_gb: float = Field(2e-6, ge=0)
    transport_kwh_per_gb_km: float = Field(2e-6, ge=0)
    antennas: int = Field(2, ge=1)
    sample_bits: int = Field(32, ge=1)
    trade_cap: float = Field(0.5, ge=0, le=1)
    trading_loss: float = Field(0.05, ge=0, lt=1)
    network_g_per_kwh: float | None = Field(None, ge=0)
    whole_slot_sleep: bool = False


class ReceiverNetwork(TransportRules):
    """Sites and jobs.

    Attributes:
        sites: with equally long profiles and intensities of one basis.
        jobs: that some of them need.

    Raises:
        UserError: on parsing, for unequal profiles, two bases, equal names, or a job that cannot end in time.
    """

    network_g_per_kwh: float = Field(ge=0)
    sites: tuple[ReceivingSite, ...] = Field(min_length=1)
    jobs: tuple[ComputingJob, ...] = ()

    @property
    def slots(self) -> int:
        """Number of slots of time."""
        return len(self.sites[0].g_per_kwh)

    @property
    def sleeps_whole_slots(self) -> bool:
        """Whether the programme has whole-number variables."""
        return sleeps_whole_slots(self.sites, self.whole_slot_sleep)

    @property
    def distances_km(self) -> NDArray[np.float64]:
        """Great-circle distances, ``(sites, sites)``."""
        latitude, longitude = np.radians([[s.latitude, s.longitude] for s in self.sites]).T
        half = np.sin((latitude[:, None] - latitude) / 2) ** 2
        half += np.cos(latitude[:, None]) * np.cos(latitude) * np.sin((longitude[:, None] - longitude) / 2) ** 2
        return np.asarray(2 * _EARTH_KM * np.arcsin(np.sqrt(np.minimum(half, 1.0))))

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        for kind, names in (("sites", [s.name for s in self.sites]), ("jobs", [j.name for j in self.jobs])):
            name, count = Counter(names or [""]).most_common(1)[0]
            if count > 1:
                raise UserError(f"network: {count} {kind} have the name '{name}'; give each its own")
        for site in self.sites:
            for key in ("g_per_kwh", "activity", "path_loss_db", "harvest_kwh"):
                if len(getattr(site, key)) != self.slots:
                    raise UserError(
                        f"site {site.name}: {key} has {len(getattr(site, key))} values; give {self.slots}, one a slot"
                    )
        check_waking(self.sites, self.slot_s)
        check_bases(self.sites)
        for job in self.jobs:
            self._check_job(job)
        return self

    def _check_job(self, job: ComputingJob) -> None:
        names = [site.name for site in self.sites]
        if job.site not in names:
            raise UserError(f"job {job.name}: no site '{job.site}'; choose from {', '.join(names)}")
        if not job.release <= job.deadline <= self.slots:
            raise UserError(
                f"job {job.name}: slots {job.release} to {job.deadline} are not allowed; give a release up to the "
                f"deadline, and a deadline up to {self.slots}"
            )
        window_h = (job.deadline - job.release + 1) * self.slot_s / 3600
        if job.hours > window_h * (1 + 1e-9):
            raise UserError(
                f"job {job.name}: {job.hours:g} h do not fit into slots {job.release} to {job.deadline} "
                f"({window_h:g} h); give a later deadline"
            )


class ReceivingSiteEntry(ReceivingHardware):
    """A site as a file describes it.

    Attributes:
        intensity: a name such as ``US-VT-2023``, a number in g/kWh, one number per slot, or a CSV file of a series.
        activity: a number for all slots, one per slot, or a daily activity.
        path_loss_db: a number for all slots, or one per slot.
        harvest_kwh: a number for all slots, one per slot, or a solar panel.
    """

    intensity: Annotated[
        Annotated[str, Tag("name")] | Amount | SlotValues,
        profile_form("a name such as US-VT-2023, a number, one number per slot, or a CSV file"),
    ]
    activity: Annotated[
        Amount | SlotValues | Annotated[DailyActivity, Tag("record")],
        profile_form("a number, one per slot, or a daily activity such as {mean: 0.3}"),
    ]
    path_loss_db: Annotated[Amount | SlotValues, profile_form("a number, or one per slot")]
    harvest_kwh: Annotated[
        Amount | SlotValues | Annotated[SolarPanel, Tag("record")],
        profile_form("a number, one per slot, or a panel such as {latitude: 44, longitude: -73, peak_kw: 2}"),
    ] = 0.0


class ReceiverNetworkFile(TransportRules):
    """Sites and jobs as a file describes them.

    Attributes:
        slots: number of slots of time.
        begin: of the first slot, ISO 8601 with the offset from UTC. Solar panels need it. Activity begins at its hour,
            or at midnight where it is not given.
        basis: of intensities that are given as numbers.
        network_intensity: name of the carbon intensity of transport.
        sites: all of them.
        jobs: trainings and adaptations.
    """

    slots: int = Field(ge=1, le=MAX_SLOTS)
    begin: datetime | None = None
    basis: IntensityBasis | None = None
    network_intensity: str | None = None
    sites: tuple[ReceivingSiteEntry, ...] = Field(min_length=1)
    jobs: tuple[ComputingJob, ...] = ()


def read_receiver_network(path: str | Path) -> ReceiverNetwork:
    """Read sites and jobs from a YAML file. Paths in it are relative to its folder.

    Raises:
        UserError: if the file is missing or wrong, a profile has another length, or two bases meet.
    """
    file, folder = ReceiverNetworkFile.load(path), Path(path).parent
    sites = [_site(file, entry, folder) for entry in file.sites]
    values = {**file.model_dump(include=set(TransportRules.model_fields)), "jobs": file.jobs}
    if (file.network_intensity is None) == (file.network_g_per_kwh is None):
        raise UserError(f"{path}: give one of network_intensity and network_g_per_kwh")
    if file.network_intensity is not None:
        transport = carbon_intensity(file.network_intensity)
        bases = {str(site["basis"] or "not stated") for site in sites} | {str(transport.basis or "not stated")}
        if len(bases) > 1:
            raise UserError(f"{path}: network_intensity and sites have two bases: {' and '.join(sorted(bases))}")
        values["network_g_per_kwh"] = transport.g_per_kwh
    if (folder / file.link).is_file():
        values["link"] = str(folder / file.link)
    return ReceiverNetwork.parse({"sites": sites, **values}, str(path))


def _site(file: ReceiverNetworkFile, entry: ReceivingSiteEntry, folder: Path) -> dict[str, Any]:
    record, basis, name = site_intensity(entry.name, entry.intensity, file.basis, file.slot_s, folder)
    activity, harvest = entry.activity, entry.harvest_kwh
    if isinstance(activity, DailyActivity):
        begin_hour = 0.0 if file.begin is None else file.begin.hour + file.begin.minute / 60
        activity = activity.profile(file.slots, file.slot_s, begin_hour)
    if isinstance(harvest, SolarPanel):
        harvest = solar_harvest(entry.name, harvest, file.begin, file.slots, file.slot_s)
    profiles = {
        "g_per_kwh": record,
        "activity": activity,
        "path_loss_db": entry.path_loss_db,
        "harvest_kwh": harvest,
    }
    values = {key: slot_profile(value, file.slots) for key, value in profiles.items()}
    hardware = entry.model_dump(include=set(ReceivingHardware.model_fields))
    return {**hardware, **values, "basis": basis, "intensity": name}


def job_slots(job: ComputingJob, slot_s: float, may_wait: bool) -> range:
    """Slots in which a job may run, from 0: those from its release, as few as it needs, or up to its deadline."""
    needed = math.ceil(job.hours * 3600 / slot_s - 1e-9)
    return range(job.release - 1, job.deadline if may_wait else job.release - 1 + needed)
