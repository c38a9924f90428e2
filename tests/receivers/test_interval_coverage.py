"""Simulated experiments of ``scripts/reproduce/interval_coverage.py``: intervals cover the truth at their level."""

import numpy as np
import pytest

from receivers.evaluation.rates import MIN_RELIABLE_ERRORS
from scripts.reproduce import interval_coverage


def test_the_simulated_counts_are_those_of_slots() -> None:
    rng = np.random.default_rng(1)
    errors = rng.binomial(
        interval_coverage.BITS, interval_coverage.rayleigh(interval_coverage.SimulatedSlots.draw(rng, 50), 12.0)[0]
    )
    total = interval_coverage.counts(errors)
    parts = interval_coverage.counts(errors[:20]) + interval_coverage.counts(errors[20:])
    assert parts.ber_interval() == pytest.approx(total.ber_interval(), rel=1e-9)
    assert total.bit_errors == errors.sum()


def test_a_narrower_interval_would_be_noticed() -> None:
    """The experiments distinguish 95 % from 90 %."""
    rng = np.random.default_rng(2)
    truth, covered = 0.1, {0.95: 0, 0.9: 0}
    for _ in range(1000):
        errors = int(rng.binomial(1024, truth))
        for level in covered:
            low, high = interval_coverage.Counts(slots=1024, slot_errors=errors).slot_error_interval(level)
            covered[level] += low <= truth <= high
    assert covered[0.95] >= 930
    assert covered[0.9] < 930


@pytest.mark.slow
def test_intervals_cover_the_truth_in_95_of_100_experiments() -> None:
    cases = interval_coverage.all_cases(1000)
    reliable = [c for c in cases if c.errors >= MIN_RELIABLE_ERRORS]
    assert {(c.of, c.kind) for c in reliable} == {
        (of, kind) for of in ("BER", "BLER", "gap") for kind in interval_coverage.KINDS
    }
    for of, fraction in interval_coverage.coverage_by_interval(cases).items():
        assert 0.94 <= fraction <= 0.96, of
    noise = 2 * (0.95 * 0.05 / 1000) ** 0.5  # of a fraction over 1000 experiments
    for case in reliable:
        assert 0.93 - noise <= case.covered <= 0.97 + noise, case
        assert case.undefined == 0
