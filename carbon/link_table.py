"""Which receiver, at which transmit power, for the least carbon at an error target.

A receiver that needs less SINR lets the transmitter send less. With noise power ``N``, interference fraction ``f``,
path loss ``L`` and required SINR ``s``, the transmitter sends ``P = s L N / (1 - f)`` over the receiver's resource
blocks and consumes ``slope P`` for it. The static power of the transmitter is the same for all receivers and is left
out. The power of interferers is held: only then does a dB of own power bring a dB of SINR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from carbon.accounting import Site
from carbon.receiver_options import ErrorCurve, ReceiverFamily, ReceiverOption
from carbon.transmitters import Transmitter
from leanrx_core.checks import number, positive
from leanrx_core.errors import UserError
from leanrx_core.records import Record, read_yaml

Array = NDArray[np.float64]
Metric = Literal["BER", "BLER"]
MAX_PATH_LOSS_DB = 300.0
_PRB_SUBCARRIERS = 12
_THERMAL_DBM_PER_HZ = -174.0


class CarrierLink(Record):
    """A transmitter and the noise of the receiver that it serves.

    Attributes:
        name: of the link.
        transmitter: sends over the whole carrier.
        carrier_prb: resource blocks over which its power is spread; none where the receiver's own carry all of it.
        noise_figure_db: of the receiver.
        component: that sends: a base station of the operator, or a user's device.

    Example:
        >>> link = carrier_link("radio-head")
        >>> round(link.transmitter.load_w(link.max_output_w(num_prb=6)), 2)  # 6 of 50 blocks of 20 W, 2.8 W a watt
        6.72
    """

    name: str
    transmitter: Transmitter
    carrier_prb: int | None = Field(None, ge=1, le=100_000)
    noise_figure_db: float = Field(ge=0, le=100)
    component: Literal["RAN", "user device"] = "RAN"

    def max_output_w(self, num_prb: int) -> float:
        """Highest power over some resource blocks, W.

        Raises:
            UserError: if the carrier has fewer blocks.
        """
        if self.carrier_prb is None:
            return self.transmitter.max_output_w
        if num_prb > self.carrier_prb:
            raise UserError(
                f"link: carrier_prb: {self.carrier_prb} is below the {num_prb} resource blocks of the receiver; "
                f"give {num_prb} or more"
            )
        return self.transmitter.max_output_w * num_prb / self.carrier_prb

    def noise_w(self, family: ReceiverFamily) -> float:
        """Interference-plus-noise power over the receiver's resource blocks, W."""
        bandwidth_hz = family.num_prb * _PRB_SUBCARRIERS * family.subcarrier_spacing_hz
        noise_dbm = _THERMAL_DBM_PER_HZ + self.noise_figure_db + 10 * math.log10(bandwidth_hz)
        return float(10 ** (noise_dbm / 10 - 3) / (1 - family.interference_fraction))


@cache
def carrier_links() -> dict[str, CarrierLink]:
    """The links that come with leanrx, by name."""
    path = resources.files("carbon") / "presets" / "links.yaml"
    return {name: CarrierLink.parse({"name": name, **entry}, name) for name, entry in read_yaml(str(path)).items()}


def carrier_link(name_or_file: str) -> CarrierLink:
    """A link by name, or from a YAML file.

    Raises:
        UserError: if there is no such link, or the file describes none.
    """
    links = carrier_links()
    if name_or_file in links:
        return links[name_or_file]
    if not Path(name_or_file).exists():
        raise UserError(f"link: no link and no file '{name_or_file}'; choose from {', '.join(links)}, or give a file")
    return CarrierLink.load(name_or_file)


@dataclass(frozen=True)
class LinkCase:
    """Conditions under which receivers are compared.

    Attributes:
        link: transmitter and noise.
        receiver_site: intensity and PUE of the computer that receives.
        transmitter_site: of the transmitter.
        metric, target: the error rate that must be reached.
        deadline_s: longest time of receiving one slot; none without a limit.
        path_loss_db: none for the loss at which the last receiver that reaches the target needs full power.

    Raises:
        UserError: if the target, the deadline or an intensity is not allowed, or two intensities differ in their basis.
    """

    link: CarrierLink
    receiver_site: Site
    transmitter_site: Site
    metric: Metric = "BER"
    target: float = 0.01
    deadline_s: float | None = None
    path_loss_db: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise UserError(f"link: target {self.metric} {self.target:g} is not allowed; give a rate between 0 and 1")
        if self.deadline_s is not None:
            positive("link: deadline_s", self.deadline_s)
        if self.path_loss_db is not None:
            number("link: path_loss_db", self.path_loss_db, 0, MAX_PATH_LOSS_DB)
        for site in (self.receiver_site, self.transmitter_site):
            positive(f"link: intensity {site.intensity.name}", site.intensity.g_per_kwh)
        bases = [site.intensity.basis for site in (self.receiver_site, self.transmitter_site)]
        if bases[0] != bases[1]:
            named = " and ".join(f"'{basis or 'not stated'}'" for basis in bases)
            raise UserError(f"link: the two intensities have the bases {named}; choose two of one basis")


Verdict = Literal["chosen", "more carbon", "too slow", "error floor above the target", "power above the limit"]


@dataclass(frozen=True)
class LinkRow:
    """One receiver on a link. NaN stands for what has no value.

    Attributes:
        receiver: its name.
        verdict: of the comparison.
        sinr_db, sinr_low_db, sinr_high_db: required SINR with its 95 % interval.
        output_w: power that the transmitter sends over the receiver's blocks.
        sent_j, sent_low_j, sent_high_j: what it consumes for it per slot, with the interval of the SINR.
        received_j, received_low_j, received_high_j: energy of receiving one slot, with the interval of the meter.
        duration_s, timed: time of receiving one slot, and of what.
        slot_g, slot_low_g, slot_high_g: emissions per slot.
        correct_bit_g, correct_block_g: emissions per correct data bit and per correct transport block.
        provenance: of the joules of receiving.
    """

    receiver: str
    verdict: Verdict
    sinr_db: float
    sinr_low_db: float
    sinr_high_db: float
    output_w: float
    sent_j: float
    sent_low_j: float
    sent_high_j: float
    received_j: float
    received_low_j: float
    received_high_j: float
    duration_s: float
    timed: str
    slot_g: float
    slot_low_g: float
    slot_high_g: float
    correct_bit_g: float
    correct_block_g: float
    provenance: str


@dataclass(frozen=True)
class LinkTable:
    """The comparison of receivers on a link.

    Attributes:
        family, case: what was compared, and how.
        path_loss_db: of the rows.
        rows: one per receiver, by emissions, those without a decision last.
    """

    family: ReceiverFamily
    case: LinkCase
    path_loss_db: float
    rows: tuple[LinkRow, ...]

    @property
    def choice(self) -> LinkRow | None:
        """The row of least carbon; none where no receiver can be used."""
        return next((row for row in self.rows if row.verdict == "chosen"), None)

    @property
    def is_distinct(self) -> bool:
        """Whether the interval of the choice is below those of all others that could be used."""
        choice = self.choice
        others = [row for row in self.rows if row.verdict == "more carbon"]
        return choice is not None and all(choice.slot_high_g < row.slot_low_g for row in others)


def link_table(family: ReceiverFamily, case: LinkCase) -> LinkTable:
    """Compare the receivers of a family on a link.

    Raises:
        UserError: if the target is a BLER and no transport blocks were counted.
    """
    required = {o.name: curve(o, case.metric).required_sinr_db(case.target) for o in family.options}
    path_loss_db = case.path_loss_db
    if path_loss_db is None:
        path_loss_db = edge_path_loss_db(family, case)
    rows = [_row(option, required[option.name], family, case, path_loss_db) for option in family.options]
    usable = [row for row in rows if row.verdict == "more carbon"]
    least = min((row.slot_g for row in usable), default=math.nan)
    rows.sort(key=lambda row: (row.verdict != "more carbon", row.slot_g if row.slot_g == row.slot_g else math.inf))
    final = [_with_verdict(row, "chosen") if row in usable and row.slot_g == least else row for row in rows]
    return LinkTable(family, case, path_loss_db, tuple(final))


def _with_verdict(row: LinkRow, verdict: Verdict) -> LinkRow:
    return LinkRow(**{**row.__dict__, "verdict": verdict})


def curve(option: ReceiverOption, metric: Metric) -> ErrorCurve:
    """BER or BLER of a receiver over SINR.

    Raises:
        UserError: if no transport blocks were counted.
    """
    if metric == "BER":
        return option.bits
    if option.blocks is None:
        raise UserError(
            f"link: {option.name} has no counted transport blocks; set evaluation.code_rate and run leanrx evaluate, "
            "or give a target BER"
        )
    return option.blocks


def edge_path_loss_db(family: ReceiverFamily, case: LinkCase) -> float:
    """Path loss at which the receiver that needs the most SINR of those in time reaches the target at full power.

    Raises:
        UserError: if no receiver reaches the target in time.
    """
    needed = [
        curve(option, case.metric).required_sinr_db(case.target)[0]
        for option in family.options
        if case.deadline_s is None or option.duration_s <= case.deadline_s
    ]
    reached = [sinr for sinr in needed if not math.isnan(sinr)]
    if not reached:
        within = f" within {1e3 * case.deadline_s:g} ms" if case.deadline_s is not None else ""
        raise UserError(
            f"link: no receiver of {family.name} reaches {case.metric} {case.target:g}{within}; "
            "raise the target, or the deadline"
        )
    return 10 * math.log10(case.link.max_output_w(family.num_prb) / case.link.noise_w(family)) - max(reached)


def _row(
    option: ReceiverOption,
    required: tuple[float, float, float],
    family: ReceiverFamily,
    case: LinkCase,
    path_loss_db: float,
) -> LinkRow:
    link = case.link
    scale_w = link.noise_w(family) * 10 ** (path_loss_db / 10)
    outputs_w = [scale_w * 10 ** (sinr / 10) for sinr in required]
    sent = [link.transmitter.load_w(w) * family.slot_s if not math.isnan(w) else math.nan for w in outputs_w]
    received = (option.energy_j, *option.energy_interval_j)
    sent_g = [case.transmitter_site.operational_g(j) for j in sent]
    received_g = [case.receiver_site.operational_g(j) for j in received]
    slot_g = sent_g[0] + received_g[0]
    low_g = slot_g - math.hypot(sent_g[0] - sent_g[1], received_g[0] - received_g[1])
    high_g = slot_g + math.hypot(sent_g[2] - sent_g[0], received_g[2] - received_g[0])
    ber = float(option.bits.rate(np.array(required[0])))
    bler = float(option.blocks.rate(np.array(required[0]))) if option.blocks else math.nan
    return LinkRow(
        receiver=option.name,
        verdict=_verdict(option, required[0], outputs_w[0], family, case),
        sinr_db=required[0],
        sinr_low_db=required[1],
        sinr_high_db=required[2],
        output_w=outputs_w[0],
        sent_j=sent[0],
        sent_low_j=sent[1],
        sent_high_j=sent[2],
        received_j=received[0],
        received_low_j=received[1],
        received_high_j=received[2],
        duration_s=option.duration_s,
        timed=option.timed,
        slot_g=slot_g,
        slot_low_g=low_g,
        slot_high_g=high_g,
        correct_bit_g=slot_g / (option.bits_per_slot * (1 - ber)),
        correct_block_g=slot_g / (1 - bler),
        provenance=option.provenance,
    )


def _verdict(
    option: ReceiverOption, required_db: float, output_w: float, family: ReceiverFamily, case: LinkCase
) -> Verdict:
    if math.isnan(required_db):
        return "error floor above the target"
    if case.deadline_s is not None and option.duration_s > case.deadline_s:
        return "too slow"
    if output_w > case.link.max_output_w(family.num_prb) * (1 + 1e-9):
        return "power above the limit"
    return "more carbon"


def choose(
    required_sinr_db: ArrayLike,
    received_g: ArrayLike,
    watt_g: ArrayLike,
    output_w_at_0_db: ArrayLike,
    max_output_w: ArrayLike,
) -> NDArray[np.intp]:
    """The receiver of least carbon on many links at once.

    Args:
        required_sinr_db: by receiver, ``(receivers,)``; NaN for one that never reaches the target.
        received_g: emissions of receiving one slot, ``(receivers,)`` or ``(links, receivers)``.
        watt_g: emissions per slot and watt sent, ``(links,)`` or a number.
        output_w_at_0_db: power that gives an SINR of 0 dB, ``(links,)``.
        max_output_w: limit of the power, ``(links,)`` or a number.

    Returns:
        index of the receiver, ``(links,)``; -1 where none can be used.

    Example:
        >>> choose([10.0, 7.0], [1.0, 3.0], 1.0, [0.1, 1.0, 10.0], 60.0).tolist()
        [0, 1, 1]
    """
    ratio = 10 ** (np.asarray(required_sinr_db, dtype=float) / 10)
    output_w = np.asarray(output_w_at_0_db, dtype=float)[:, None] * ratio
    total_g = np.asarray(received_g) + np.asarray(watt_g, dtype=float)[..., None] * output_w
    total_g = np.where(output_w <= np.asarray(max_output_w, dtype=float)[..., None], total_g, np.inf)
    best = total_g.argmin(1)
    return np.where(np.isfinite(total_g[np.arange(len(best)), best]), best, -1)


def architecture_options(family: ReceiverFamily, target: float, metric: Metric = "BER") -> list[ReceiverOption]:
    """For each architecture that reaches a target, the receiver that needs the least SINR.

    Receivers of one architecture need equal joules: what the meter saw between them is its own spread.
    """
    best: dict[str, tuple[float, ReceiverOption]] = {}
    for option in family.options:
        sinr_db = curve(option, metric).required_sinr_db(target)[0]
        if not math.isnan(sinr_db) and (option.network not in best or sinr_db < best[option.network][0]):
            best[option.network] = (sinr_db, option)
    return [option for _, option in best.values()]


@dataclass(frozen=True)
class BreakEvenPower:
    """Consumption above which a larger receiver is worth its joules.

    Attributes:
        smaller, larger: names of the receivers.
        gain_db: SINR that the larger one needs less.
        extra_j: joules per slot that it needs more.
        consumed_w: power that the transmitter consumes for the smaller one, above which the larger one pays.
    """

    smaller: str
    larger: str
    gain_db: float
    extra_j: float
    consumed_w: float


def break_even_powers(family: ReceiverFamily, target: float, metric: Metric = "BER") -> list[BreakEvenPower]:
    """Break-even between the receivers that win at some power, from the smallest to the largest.

    With equal intensities, the emissions are affine in the power that the transmitter consumes, and the receivers that
    win at some power are the lower convex hull of joules and required SINR (as a ratio). A larger one pays above
    ``extra energy / (slot (1 - 10^(-gain / 10)))``.
    """
    hull: list[tuple[float, float, str]] = []
    for energy_j, sinr_db, name in _frontier(family, target, metric):
        point = (energy_j, 10 ** (sinr_db / 10), name)
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    result = []
    for (small_j, small, smaller), (large_j, large, larger) in pairwise(hull):
        consumed_w = (large_j - small_j) / (family.slot_s * (1 - large / small))
        result.append(BreakEvenPower(smaller, larger, 10 * math.log10(small / large), large_j - small_j, consumed_w))
    return result


def _frontier(family: ReceiverFamily, target: float, metric: Metric) -> list[tuple[float, float, str]]:
    """Joules, required SINR and name of the receivers that no other beats in both, by joules."""
    options = architecture_options(family, target, metric)
    points = [(o.energy_j, curve(o, metric).required_sinr_db(target)[0], o.name) for o in options]
    front: list[tuple[float, float, str]] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def _slope(first: tuple[float, float, str], second: tuple[float, float, str]) -> float:
    return (second[1] - first[1]) / (second[0] - first[0])
