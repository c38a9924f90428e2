"""Conditions of a scenario that lie outside those that a receiver was trained on, by its card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from channels import Scenario
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
    trained = card.conditions
    if trained is None:
        return []
    pairs = [
        *_outside_range("Doppler", "Hz", 1, scenario.max_doppler_hz, trained.max_doppler_hz),
        *_outside_range("delay spread", "ns", 1e9, scenario.delay_spread_s, trained.delay_spread_s),
        *_outside_values("modulation", scenario.modulations, trained.modulations),
    ]
    grid, trained_grid = scenario.grid, trained.grid
    for noun, tested, trained_value in (
        ("subcarriers", grid.num_subcarriers, trained_grid.num_subcarriers),
        ("subcarrier spacing in Hz", grid.subcarrier_spacing_hz, trained_grid.subcarrier_spacing_hz),
        ("interferers", len(scenario.interferers), len(trained.interferers)),
    ):
        pairs += _outside_values(noun, [tested], [trained_value])
    if (grid.dmrs, trained_grid.dmrs) == (None, None):
        pairs += _outside_values("pilot symbols", grid.pilot_patterns, trained_grid.pilot_patterns)
    elif grid.dmrs != trained_grid.dmrs:
        pairs.append(("other DMRS", "those of its card"))
    return pairs


def _outside_range(
    noun: str, unit: str, scale: float, tested: tuple[float, float], trained: tuple[float, float]
) -> list[tuple[str, str]]:
    if trained[0] <= tested[0] and tested[1] <= trained[1]:
        return []
    texts = [f"{noun} {scale * low:g}..{scale * high:g} {unit}" for low, high in (tested, trained)]
    return [(texts[0], texts[1])]


def _outside_values(noun: str, tested: Sequence[Any], trained: Sequence[Any]) -> list[tuple[str, str]]:
    outside = [value for value in tested if value not in trained]
    return [(f"{noun} {_listed(outside)}", f"{noun} {_listed(trained)}")] if outside else []


def _listed(values: Sequence[Any]) -> str:
    return ", ".join("+".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values)
