"""Break-even against simulation: the bounds must hold as often as they say."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.ecal import Cost, break_even, correct_bits
from leanrx_core.errors import UserError

joules = st.floats(1e-3, 1e6)


@given(joules, joules, joules, joules)
def test_without_uncertainty_the_costs_are_equal_there(start: float, other: float, unit: float, more: float) -> None:
    candidate, alternative = Cost(start + other, unit), Cost(other, unit + more)
    found = break_even(candidate, alternative, coverage=2.0)
    assert found.units is not None
    assert candidate.at(found.units)[0] == pytest.approx(alternative.at(found.units)[0])
    assert found.low == pytest.approx(found.units, rel=1e-6)
    assert found.high == pytest.approx(found.units, rel=1e-6)
    assert found.outcome == "payback"


@pytest.mark.parametrize(
    ("candidate", "alternative", "units", "low", "high", "outcome"),
    [
        (Cost(5, 2), Cost(1, 1), None, None, None, "never"),
        (Cost(5, 1), Cost(1, 1), None, None, None, "never"),
        (Cost(1, 1), Cost(5, 2), 0, 0, 0, "immediate"),
        (Cost(1, 1), Cost(5, 1), 0, 0, 0, "immediate"),
        (Cost(1, 2), Cost(5, 1), None, 0, None, "temporary"),
    ],
)
def test_the_ends(candidate, alternative, units, low, high, outcome) -> None:
    found = break_even(candidate, alternative, 2.0)
    assert (found.units, found.low, found.high) == (units, low, high)
    assert found.outcome == outcome
    assert found.significant


def noisy(start: float, unit: float, share: float, name: str) -> Cost:
    return Cost(start, unit, {f"{name} start": (share * start, 0.0), f"{name} unit": (0.0, share * unit)})


def test_a_saving_within_its_uncertainty_is_no_significant_payback() -> None:
    found = break_even(noisy(100, 1.0, 0.05, "a"), noisy(0, 1.05, 0.05, "b"), 2.0)
    assert found.units == pytest.approx(2000)
    assert found.low is not None
    assert 0 < found.low < 2000
    assert found.high is None
    assert (found.outcome, found.significant) == ("payback", False)


def test_dearer_within_the_uncertainty_is_not_called_never() -> None:
    found = break_even(noisy(100, 1.05, 0.05, "a"), noisy(0, 1.0, 0.05, "b"), 2.0)
    assert (found.units, found.high) == (None, None)
    assert found.low is not None
    assert (found.outcome, found.significant) == ("never", False)


def test_what_both_share_cancels() -> None:
    """A teacher that both had to train, however uncertain its energy, moves nothing."""
    shared = {"teacher": (50.0, 0.0)}
    found = break_even(Cost(110, 1, shared), Cost(100, 2, shared), 2.0)
    assert found.low == pytest.approx(10)
    assert found.high == pytest.approx(10)


def test_unknown_uncertainty_gives_no_bounds() -> None:
    found = break_even(Cost(2, 1), Cost(0, 2), None)
    assert (found.units, found.low, found.high, found.significant) == (2, None, None, None)


def test_prices_that_differ_by_rounding_are_equal() -> None:
    assert break_even(Cost(1, 0.1 + 0.2), Cost(0, 0.3), 2.0).outcome == "never"
    assert break_even(Cost(1, 0.3), Cost(0, 0.1 + 0.2), 2.0).outcome == "never"


@pytest.mark.parametrize("share", [0.02, 0.05])
def test_the_bounds_hold_as_often_as_they_say(share: float) -> None:
    """Costs drawn around the truth: the true break-even of 1000 lies within 95 % bounds in about 95 of 100 draws."""
    draw = random.Random(7)
    held, trials = 0, 4000
    for _ in range(trials):
        start, mine, theirs = (v * (1 + share * draw.gauss(0, 1)) for v in (500.0, 1.0, 1.5))
        found = break_even(
            Cost(start, mine, {"start": (share * 500.0, 0), "mine": (0, share * 1.0)}),
            Cost(0.0, theirs, {"theirs": (0, share * 1.5)}),
            1.959964,
        )
        assert found.low is not None
        held += found.low <= 1000 <= (math.inf if found.high is None else found.high)
    assert held / trials == pytest.approx(0.95, abs=3.5 * math.sqrt(0.05 * 0.95 / trials))


def test_the_bounds_are_where_the_curves_part() -> None:
    a, b = noisy(500, 1.0, 0.05, "a"), noisy(0, 1.5, 0.05, "b")
    found = break_even(a, b, 2.0)
    for n in (found.low, found.high):
        assert n is not None
        (mine, sd_mine), (theirs, sd_theirs) = a.at(n), b.at(n)
        assert abs(mine - theirs) == pytest.approx(2.0 * math.hypot(sd_mine, sd_theirs), rel=1e-9)


def test_goodput() -> None:
    assert correct_bits(1000, 0.1) == 900
    assert correct_bits(1000, 1) == 0
    with pytest.raises(UserError, match=r"error_rate: 1\.1"):
        correct_bits(1000, 1.1)
