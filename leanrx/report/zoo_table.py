"""The shipped receivers as a table and as cards: size, operations, required SINR, conditions and provenance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from carbon.receiver_options import error_curve
from channels import Scenario
from channels.grid import NUM_SYMBOLS
from energy.metering.deployment import deployed_form
from leanrx.report.coded_table import coded_lines, coded_rows, sinr_phrase, sinr_values
from leanrx.report.page import pilot_phrase
from leanrx_core.errors import UserError
from receivers import zoo
from receivers.evaluation.error_counts import Counts
from receivers.neural.weights import Card
from receivers.zoo.shipped_results import Point, Results

TARGET_BER = 1e-2
ROLES = {"teacher": "teacher", "student": "student", "scratch": "scratch baseline"}


@dataclass(frozen=True)
class ShippedReceiver:
    """A receiver of the zoo with its card, its results and its weights file.

    Attributes:
        name: in the zoo.
        card: what it is and how it was trained.
        results: error counts, operations and energy.
        weights_path: its weights file.
        weights_bytes: size of the file.
    """

    name: str
    card: Card
    results: Results
    weights_path: Path
    weights_bytes: int

    @property
    def macs_per_re(self) -> float:
        """Multiply-accumulates per RE of the grid it was tested on, with front end and detection."""
        return self.results.macs / (self.results.scenario.grid.num_subcarriers * NUM_SYMBOLS)

    @property
    def interference_fractions(self) -> list[float]:
        """Parts of interference in the interference-plus-noise power at its test points."""
        return sorted({point.interference_fraction for point in self.results.points})

    def points(self, interference_fraction: float) -> list[Point]:
        """Test points of an interference fraction by SINR."""
        points = [p for p in self.results.points if p.interference_fraction == interference_fraction]
        return sorted(points, key=lambda point: point.sinr_db)

    def required_sinr_db(self, interference_fraction: float) -> tuple[float, float, float]:
        """SINR at which the BER falls to 1e-2, and the ends of its 95 % interval; NaN where it never does."""
        counts = {point.sinr_db: point.counts for point in self.points(interference_fraction)}
        return error_curve(counts).required_sinr_db(TARGET_BER)

    def row(self) -> dict[str, Any]:
        """The row of the table: plain values, ``None`` where the receiver does not reach the BER."""
        fraction = self.interference_fractions[0]
        return {
            "name": self.name,
            "network": self.card.receiver,
            "role": self.card.role,
            "scenario": self.results.scenario.name,
            "parameters": self.card.parameters,
            "macs_per_re": self.macs_per_re,
            "weights_bytes": self.weights_bytes,
            "interference_fraction": fraction,
            "target_ber": TARGET_BER,
            **sinr_values(self.required_sinr_db(fraction)),
        }

    def as_json(self) -> dict[str, Any]:
        """The row, required SINRs with the code, the card and the results."""
        coded = [] if self.results.coded is None else coded_rows(self.name, self.results.coded)
        parts = {"card": self.card.model_dump(mode="json"), "results": self.results.model_dump(mode="json")}
        return {**self.row(), "coded": coded, "weights_path": str(self.weights_path), **parts}

    def required_sinr(self, interference_fraction: float) -> str:
        """Required SINR with its interval in words."""
        return sinr_phrase(*self.required_sinr_db(interference_fraction))


def shipped_receiver(name: str, folder: Path | None = None) -> ShippedReceiver:
    """A receiver of the zoo, with files that belong together.

    Args:
        name: of the receiver.
        folder: of the zoo; the one that ships with leanrx if not given.

    Raises:
        UserError: if there is no such receiver, or a file is missing, damaged, or belongs to another.

    Example:
        >>> receiver = shipped_receiver("tdl-6prb-hybrid-w5-d5-kd")
        >>> receiver.macs_per_re, receiver.required_sinr(0.0)
        (1070.0, '16.10 (15.54 to 16.68)')
    """
    card, results = zoo.card(name, folder), zoo.results(name, folder)
    path = (folder or zoo.SHIPPED) / name / "weights.safetensors"
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != card.weights_sha256:
        raise UserError(f"{path}: missing or damaged (its SHA-256 is not the card's); restore the file")
    return ShippedReceiver(name, card, results, path, len(data))


def shipped_receivers(folder: Path | None = None) -> list[ShippedReceiver]:
    """All receivers of a zoo, by name."""
    return [shipped_receiver(name, folder) for name in zoo.names(folder)]


def card_lines(receiver: ShippedReceiver) -> list[str]:
    """A receiver's card in words: what it is, its conditions, its training, its results, its file."""
    card, results = receiver.card, receiver.results
    return [
        f"{receiver.name}: {ROLES[card.role]}, network {card.receiver}",
        f"{card.parameters:,} parameters, {results.macs:,} MACs per slot, {receiver.macs_per_re:,.0f} MACs per RE "
        "(front end and detection included)",
        "",
        "Conditions of the training",
        *_condition_lines(card),
        "",
        "Training",
        *_training_lines(card),
        "",
        "Test",
        *_test_lines(receiver),
        *(line for fraction in receiver.interference_fractions for line in _count_lines(receiver, fraction)),
        "",
        "Test with the LDPC code of 5G",
        *(f"  {line}" for line in coded_lines(receiver.name, results)),
        "",
        "Energy of inference",
        *_energy_lines(results),
        "",
        "File",
        f"  {receiver.weights_path}, {receiver.weights_bytes:,} bytes",
        f"  SHA-256 {card.weights_sha256}, equal to the file's",
    ]


def _condition_lines(card: Card) -> list[str]:
    low, high = card.trained_sinr_db
    lines = [f"  {'SINR':<14}{low:.1f} to {high:.1f} dB", f"  {'channels':<14}{', '.join(card.channels)}"]
    scenario = card.conditions
    if scenario is None:
        return [*lines, f"  {'scenario':<14}{card.scenario}; the card is of an earlier version and does not hold it"]
    facts = _scenario_facts(scenario)
    if card.tested_conditions is not None:
        tested = card.tested_conditions
        facts["tested in"] = (
            f"{tested['cells']} cells, {tested['points']} points; BER below LMMSE-IRC's at "
            f"{tested['below_lmmse_irc']}, not separated at {tested['not_separated_lmmse_irc']}, above at "
            f"{tested['above_lmmse_irc']}"
        )
    return [*lines, *(f"  {name:<14}{text}" for name, text in facts.items())]


def _scenario_facts(scenario: Scenario) -> dict[str, str]:
    """Conditions of a scenario's training slots in words; those of a mixture are the range of its members."""
    members = scenario.training_members
    grids = [member.grid for member in members]
    spreads_ns = [1e9 * end for member in members for end in member.delay_spread_s]
    dopplers_hz = [end for member in members for end in member.max_doppler_hz]
    return {
        "scenario": scenario.name + (f", a mixture of {len(members)} conditions" if scenario.mixture else ""),
        "grid": f"{_listed(sorted({grid.num_subcarriers for grid in grids}))} subcarriers at "
        f"{_listed(f'{hz / 1e3:g}' for hz in sorted(grid.subcarrier_spacing_hz for grid in grids))} kHz, "
        f"carrier at {_listed(f'{grid.carrier_frequency_hz / 1e9:g}' for grid in grids)} GHz",
        "antennas": f"{_listed(sorted(grid.num_rx for grid in grids))} receive antennas",
        "modulation": _listed(modulation for member in members for modulation in member.modulations),
        "pilots": " or ".join(dict.fromkeys(map(pilot_phrase, grids))),
        "delay spread": f"{min(spreads_ns):g} to {max(spreads_ns):g} ns",
        "Doppler": f"{min(dopplers_hz):g} to {max(dopplers_hz):g} Hz",
        "interferers": _interferer_phrase(members),
    }


def _interferer_phrase(members: Sequence[Scenario]) -> str:
    """How often and how strong interferers are; of a mixture, the range over its members."""
    if len(members) > 1:
        interferers = [interferer for member in members for interferer in member.interferers]
        sir_db = [end for interferer in interferers for end in interferer.sir_db]
        if not interferers:
            return "none"
        most = max(100 * interferer.probability for interferer in interferers)
        return f"in up to {most:g} % of the slots at an SIR of {min(sir_db):g} to {max(sir_db):g} dB"
    phrases = (
        f"in {100 * i.probability:g} % of the slots at an SIR of {i.sir_db[0]:g} to {i.sir_db[1]:g} dB"
        for i in members[0].interferers
    )
    return "; ".join(phrases) or "none"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _training_lines(card: Card) -> list[str]:
    training = card.training
    teachers = [f"{name} (SHA-256 {digest[:12]})" for name, digest in training.get("teachers", {}).items()]
    lines = [
        f"  {training['steps']:,} steps of {training['batch_slots']} slots, {training['optimizer']} at "
        f"{training['learning_rate']:g}, seed {card.seed}"
    ]
    distillation = training.get("distillation")
    if teachers and distillation:
        lines.append(
            f"  distilled from {' and '.join(teachers)}, loss {distillation['loss']}, temperature "
            f"{distillation['temperature']:g}, alpha {distillation['alpha']:g}"
        )
    for part in training.get("energy", {}).get("measurements", []):
        duration = timedelta(seconds=round(part["duration_s"]))
        lines.append(
            f"  {part['energy_j']:,.0f} J of {part['component'].upper()} in {duration} "
            f"({part['provenance']}, {part['instrument']})"
        )
    return lines


def _test_lines(receiver: ShippedReceiver) -> list[str]:
    results = receiver.results
    models = ", ".join(results.scenario.channels.test)
    return [
        f"  channels {models}, seed {results.test_seed}, slots {results.stream} in blocks of {results.block_slots}, "
        f"on {results.device}",
        *(
            f"  SINR for BER {TARGET_BER:g}, interference fraction {fraction:g}: {receiver.required_sinr(fraction)} dB"
            for fraction in receiver.interference_fractions
        ),
    ]


def _count_lines(receiver: ShippedReceiver, fraction: float) -> list[str]:
    """Counts at the points of one interference fraction, with LMMSE on the same slots."""
    head = f"  {'SINR':>6} {'slots':>6} {'bits':>12} {'bit errors':>11}  {'BER (95 % interval)':<32} LMMSE"
    lines = [f"  interference fraction {fraction:g}:", head]
    for point in receiver.points(fraction):
        counts, lmmse = point.counts, point.classical.get("LMMSE")
        lines.append(
            f"  {point.sinr_db:>3g} dB {counts.slots:>6,} {counts.bits:>12,} {counts.bit_errors:>11,}  "
            f"{rate(counts):<32} {'' if lmmse is None else f'{lmmse.ber:.2e}'}"
            + (f", BLER {counts.block_errors / counts.transport_blocks:.2e}" if counts.transport_blocks else "")
        )
    return lines


def rate(counts: Counts) -> str:
    """BER with its interval, or the upper end of an interval that begins at zero."""
    low, high = counts.ber_interval()
    return f"{counts.ber:.2e} ({low:.2e} to {high:.2e})" if low > 0 else f"below {high:.2e}"


def _energy_lines(results: Results) -> list[str]:
    return [
        f"  {1e3 * e.energy_j_per_slot:.3g} mJ and {1e3 * e.duration_s / e.slots:.3g} ms per slot: "
        f"{deployed_form(e.runtime, e.batch_slots)} ({e.provenance}, {e.instrument}, {e.machine})"
        for e in results.energy
    ] or ["  not metered"]
