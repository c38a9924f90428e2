"""Receivers to choose from: what SINR each needs, what each consumes per slot, and how well both are known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energy.metering.deployment import deployed_form
from leanrx_core.errors import UserError
from receivers import zoo
from receivers.evaluation.error_counts import Counts
from receivers.evaluation.required_sinr import sinr_at_ber
from receivers.zoo.coded_results import CodedResults
from receivers.zoo.shipped_results import InferenceEnergy, Results

Array = NDArray[np.float64]
COVERAGE = 1.959964
"""Standard deviations on each side of a 95 % interval."""


@dataclass(frozen=True)
class ErrorCurve:
    """Error rate over SINR, with its interval.

    Attributes:
        sinr_db: increasing, ``(points,)``.
        errors, trials: counts, ``(points,)``.
        low, high: ends of the 95 % interval of the rate, ``(points,)``.
    """

    sinr_db: Array
    errors: Array
    trials: Array
    low: Array
    high: Array

    def required_sinr_db(self, target: float) -> tuple[float, float, float]:
        """SINR at which the rate first falls to the target, and the ends of its interval; NaN where it never does.

        The ends are the SINRs at which the interval's own ends fall to the target.
        """
        rates = np.stack([self.errors, self.low * self.trials, self.high * self.trials])
        value, low, high = (float(x) for x in sinr_at_ber(self.sinr_db, rates, self.trials, target))
        if math.isnan(low) and self.low[0] <= target:
            low = float(self.sinr_db[0])
        return value, low, high

    def rate(self, sinr_db: Array) -> Array:
        """Rate at SINRs inside the tested range, linear in dB over its logarithm; NaN outside."""
        logs = np.log10(np.maximum(self.errors, 0.5) / self.trials)
        return np.asarray(10 ** np.interp(sinr_db, self.sinr_db, logs, left=np.nan, right=np.nan))


def error_curve(counts: Mapping[float, Counts], blocks: bool = False) -> ErrorCurve:
    """The curve of counts by SINR: of bits, or of transport blocks.

    Raises:
        UserError: if blocks are asked for and none were counted, or fewer than two points were tested.
    """
    if len(counts) < 2:
        raise UserError(f"carbon: {len(counts)} test points; a required SINR needs two or more; run: leanrx evaluate")
    if blocks and not all(c.transport_blocks for c in counts.values()):
        raise UserError("carbon: no transport blocks were counted; set evaluation.code_rate and run leanrx evaluate")
    ordered = [counts[s] for s in sorted(counts)]
    ends = np.array([c.bler_interval() if blocks else c.ber_interval() for c in ordered])
    return ErrorCurve(
        sinr_db=np.array(sorted(counts), dtype=float),
        errors=np.array([c.block_errors if blocks else c.bit_errors for c in ordered], dtype=float),
        trials=np.array([c.transport_blocks if blocks else c.bits for c in ordered], dtype=float),
        low=ends[:, 0],
        high=ends[:, 1],
    )


@dataclass(frozen=True)
class ReceiverOption:
    """One receiver of a link.

    Attributes:
        name: of the receiver.
        network: its architecture; equal to the name for a classical receiver.
        bits: BER over SINR.
        blocks: BLER over SINR; none where no blocks were counted.
        bits_per_slot: data bits of a slot.
        energy_j: of receiving one slot.
        energy_sd: relative standard deviation of one measurement; NaN where nothing was metered twice.
        duration_s: of receiving one slot by what is deployed.
        timed: what was timed, in words.
        provenance: of the joules.
    """

    name: str
    network: str
    bits: ErrorCurve
    blocks: ErrorCurve | None
    bits_per_slot: float
    energy_j: float
    energy_sd: float
    duration_s: float
    timed: str
    provenance: str

    @property
    def energy_interval_j(self) -> tuple[float, float]:
        """95 % interval of the energy of one slot."""
        half = COVERAGE * self.energy_sd
        return self.energy_j * math.exp(-half), self.energy_j * math.exp(half)


@dataclass(frozen=True)
class ReceiverFamily:
    """Receivers that were tested on the same slots.

    Attributes:
        name: of the run or of the zoo's family.
        options: the receivers.
        num_prb: resource blocks of their grid.
        subcarrier_spacing_hz: of the grid.
        interference_fraction: part of interference in the interference-plus-noise power at the test points.
    """

    name: str
    options: tuple[ReceiverOption, ...]
    num_prb: int
    subcarrier_spacing_hz: float
    interference_fraction: float

    @property
    def slot_s(self) -> float:
        """Duration of a slot."""
        return 1e-3 * 15e3 / self.subcarrier_spacing_hz


def pooled_sd(energies_j: Iterable[tuple[str, float]]) -> float:
    """Relative standard deviation of one measurement, from networks of one architecture that were each metered.

    Networks of one architecture differ in their weights, not in their operations, so their energies differ by the
    measurement alone.

    Args:
        energies_j: architecture and energy of each.

    Returns:
        pooled over architectures; NaN where no architecture was metered twice.

    Example:
        >>> round(pooled_sd([("a", 1.0), ("a", 1.1), ("b", 5.0)]), 4)
        0.0674
    """
    groups: dict[str, list[float]] = {}
    for network, energy_j in energies_j:
        groups.setdefault(network, []).append(math.log(energy_j))
    squares = sum(float(np.var(logs)) * len(logs) for logs in groups.values())
    freedom = sum(len(logs) - 1 for logs in groups.values())
    return math.sqrt(squares / freedom) if freedom else math.nan


def zoo_families() -> dict[str, list[str]]:
    """Names of the zoo's receivers by family: those of one scenario and one stream of test slots."""
    families: dict[str, list[str]] = {}
    streams: dict[str, str] = {}
    for name in zoo.names():
        results = zoo.results(name)
        family = results.scenario.name
        if streams.setdefault(family, results.stream) != results.stream:
            family = f"{family}-{results.stream[:6]}"
        families.setdefault(family, []).append(name)
    return families


def zoo_family(name: str, interference_fraction: float = 0.0) -> ReceiverFamily:
    """The shipped receivers of a family, and the classical receivers that were metered with them.

    Args:
        name: of the family, such as ``tdl-6prb``.
        interference_fraction: of the test points.

    Raises:
        UserError: if there is no such family or no such test points.
    """
    families = zoo_families()
    if name not in families:
        raise UserError(f"carbon: no run folder and no family '{name}' in the zoo; families: {', '.join(families)}")
    results = {member: zoo.results(member) for member in families[name]}
    first = next(iter(results.values()))
    fractions = sorted({p.interference_fraction for p in first.points})
    if interference_fraction not in fractions:
        listed = ", ".join(f"{f:g}" for f in fractions)
        raise UserError(f"carbon: interference fraction {interference_fraction:g} was not tested; choose from {listed}")
    networks = {member: zoo.card(member).receiver for member in results}
    forms = {member: f"{networks[member]}, {r.energy[0].runtime}" for member, r in results.items() if r.energy}
    sd = pooled_sd((form, results[member].energy[0].energy_j_per_slot) for member, form in forms.items())
    options = [_shipped_option(m, networks[m], r, interference_fraction, sd) for m, r in results.items()]
    options += [_classical_option(name, first, interference_fraction, sd) for name in first.classical_energy]
    grid = first.scenario.grid
    return ReceiverFamily(name, tuple(options), grid.num_prb, grid.subcarrier_spacing_hz, interference_fraction)


def _shipped_option(name: str, network: str, results: Results, fraction: float, sd: float) -> ReceiverOption:
    if not results.energy:
        raise UserError(
            f"carbon: {name} was published without joules; meter its run with leanrx energy, and publish it"
        )
    counts = {p.sinr_db: p.counts for p in results.points if p.interference_fraction == fraction}
    blocks = _block_curve(results.coded, fraction, counts)
    return _option(name, network, counts, blocks, results.energy[0], sd)


def _classical_option(name: str, results: Results, fraction: float, sd: float) -> ReceiverOption:
    counts = {p.sinr_db: p.classical[name] for p in results.points if p.interference_fraction == fraction}
    blocks = _block_curve(results.coded, fraction, counts, name)
    return _option(name, name, counts, blocks, results.classical_energy[name][0], sd)


def _block_curve(
    coded: CodedResults | None, fraction: float, counts: Mapping[float, Counts], classical: str = ""
) -> ErrorCurve | None:
    """BLER in the test with a code, or in a test of the BER that decoded blocks too; none if neither did."""
    coded_counts = coded.counts(fraction, classical) if coded else {}
    if len(coded_counts) > 1:
        return error_curve(coded_counts, blocks=True)
    return error_curve(counts, blocks=True) if all(c.transport_blocks for c in counts.values()) else None


def _option(
    name: str,
    network: str,
    counts: Mapping[float, Counts],
    blocks: ErrorCurve | None,
    energy: InferenceEnergy,
    sd: float,
) -> ReceiverOption:
    first = next(iter(counts.values()))
    return ReceiverOption(
        name=name,
        network=network,
        bits=error_curve(counts),
        blocks=blocks,
        bits_per_slot=first.bits / first.slots,
        energy_j=energy.energy_j_per_slot,
        energy_sd=sd,
        duration_s=energy.duration_s / energy.slots,
        timed=f"{deployed_form(energy.runtime, energy.batch_slots)}, on {energy.machine}",
        provenance=energy.provenance,
    )
