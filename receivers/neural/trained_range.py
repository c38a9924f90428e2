"""Conditions of a scenario that lie outside those that a receiver was trained on, by its card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from channels import Grid, Scenario
from channels.pilots import pilot_layouts
from receivers.base import Receiver
from receivers.neural.weights import Card


def condition_warnings(receivers: Iterable[Receiver], scenario: Scenario) -> list[str]:
    """One warning per learned receiver and condition outside of its training.

    The SINR is not among them, see :func:`receivers.evaluation.monte_carlo.sinr_range_warnings`. Channel models always
    differ between training and testing.

    Args:
        receivers: receivers to be tested. Those without a card, or with one of an earlier version, give no warning.
        scenario: of the test.
    """
    cards = [(receiver.name, getattr(receiver, "card", None)) for receiver in receivers]
    return [
        f"{name}: tested at {tested}, trained on {trained}"
        for name, card in cards
        if isinstance(card, Card)
        for tested, trained in outside_conditions(card, scenario)
    ]


def outside_conditions(card: Card, scenario: Scenario) -> list[tuple[str, str]]:
    """Conditions of a scenario outside of a card's, and the card's own, in words.

    Example:
        >>> from channels import scenario
        >>> from receivers import zoo
        >>> card = zoo.card("tdl-6prb-hybrid-w5-d5-kd")
        >>> faster = scenario("tdl-6prb").model_copy(update={"max_doppler_hz": (0.0, 900.0)})
        >>> outside_conditions(card, faster)
        [('Doppler 0..900 Hz', 'Doppler 0..500 Hz')]
    """
    if card.conditions is None:
        return []
    trained = card.conditions.training_members
    grid, trained_grids = scenario.grid, [member.grid for member in trained]
    pairs = [
        *_outside_range("Doppler", "Hz", 1, scenario.max_doppler_hz, [m.max_doppler_hz for m in trained]),
        *_outside_range("delay spread", "ns", 1e9, scenario.delay_spread_s, [m.delay_spread_s for m in trained]),
        *_outside_values("modulation", scenario.modulations, [n for m in trained for n in m.modulations]),
    ]
    for noun, tested, trained_values in (
        ("receive antennas", grid.num_rx, [g.num_rx for g in trained_grids]),
        ("subcarriers", grid.num_subcarriers, [g.num_subcarriers for g in trained_grids]),
        ("subcarrier spacing in Hz", grid.subcarrier_spacing_hz, [g.subcarrier_spacing_hz for g in trained_grids]),
        ("interferers", len(scenario.interferers), [len(m.interferers) for m in trained]),
    ):
        pairs += _outside_values(noun, [tested], trained_values)
    return pairs + _outside_pilots(grid, trained_grids)


def _outside_range(
    noun: str, unit: str, scale: float, tested: tuple[float, float], trained: Sequence[tuple[float, float]]
) -> list[tuple[str, str]]:
    """A range of a test outside of the range from the lowest to the highest value of training."""
    limits = min(low for low, _ in trained), max(high for _, high in trained)
    if limits[0] <= tested[0] and tested[1] <= limits[1]:
        return []
    texts = [f"{noun} {scale * low:g}..{scale * high:g} {unit}" for low, high in (tested, limits)]
    return [(texts[0], texts[1])]


def _outside_values(noun: str, tested: Sequence[Any], trained: Sequence[Any]) -> list[tuple[str, str]]:
    outside = [value for value in tested if value not in trained]
    return (
        [(f"{noun} {_listed(outside)}", f"{noun} {_listed(sorted(set(trained), key=trained.index))}")]
        if outside
        else []
    )


def _outside_pilots(grid: Grid, trained: Sequence[Grid]) -> list[tuple[str, str]]:
    """Places of pilots that no slot of training had."""
    patterns = [pattern for trained_grid in trained for pattern in trained_grid.pilot_patterns]
    if grid.dmrs is None and patterns:
        return _outside_values("pilot symbols", grid.pilot_patterns, patterns)
    layouts = [layout for trained_grid in trained for layout in pilot_layouts(trained_grid)]
    return [("other DMRS", "those of its card")] if any(x not in layouts for x in pilot_layouts(grid)) else []


def _listed(values: Sequence[Any]) -> str:
    return ", ".join("+".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values)
