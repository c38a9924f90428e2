"""Perfect CSI on the scenario of Sionna's neural-receiver tutorial, beside a chain of Sionna's own blocks."""

import importlib
import math
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def tutorial() -> ModuleType:
    return importlib.import_module("scripts.benchmarks.sionna_tutorial")  # takes seconds, which only these tests need


def test_bit_error_rate_is_that_of_sionna(tutorial: ModuleType) -> None:
    """Slots have equal power and two antennas, so the BER of a slot varies little: by 6 % from slot to slot."""
    slots = 150
    rates = [
        errors.bit_errors / errors.bits
        for errors in (side(0.0, slots, 1, False) for side in (tutorial.leanrx_errors, tutorial.sionna_errors))
    ]
    assert rates[0] == pytest.approx(rates[1], rel=4 * 0.06 * math.sqrt(2 / slots))


def test_block_error_rate_is_that_of_sionna(tutorial: ModuleType) -> None:
    """In the waterfall of equally many bits, within 3.3 standard errors of the difference of both counts."""
    slots = 48
    first, second = (side(-1.9, slots, 1) for side in (tutorial.leanrx_errors, tutorial.sionna_errors))
    rate = (first.block_errors + second.block_errors) / (2 * slots)
    assert 0.1 < rate < 0.9, "the point is not in the waterfall"
    assert abs(first.block_errors - second.block_errors) / slots < 3.3 * math.sqrt(2 * rate * (1 - rate) / slots)
