"""Means over seeds: against hand-made curves, Student's t, and simulated experiments."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from receivers.evaluation.comparison import mean_gap_db, mean_ratio
from receivers.evaluation.required_sinr import gap_db

SINR_DB = (0.0, 5.0, 10.0, 15.0)


def curves(shift_db: dict[str, float], factors: np.ndarray | None = None, floor: float = 0.0) -> pd.DataFrame:
    """Counts of receivers whose BER is 0.1 at 0 dB and falls tenfold in 10 dB, ``shift_db`` sooner; scaled by block."""
    factors = np.ones(4) if factors is None else factors
    table = pd.MultiIndex.from_product(
        [shift_db, SINR_DB, range(len(factors))], names=["receiver", "sinr_db", "block"]
    ).to_frame(index=False)
    ber = np.maximum(0.1 * 10 ** (-(table["sinr_db"] + table["receiver"].map(shift_db)) / 10), floor)
    return table.assign(bits=10**7, bit_errors=(1e7 * factors[table["block"]] * ber).round().astype(int))


def test_the_mean_over_seeds_has_students_interval_without_slot_variance() -> None:
    counts = curves({"scratch-1": 0.0, "kd-1": 1.0, "scratch-2": 0.5, "kd-2": 3.5})
    comparison = mean_gap_db(counts, [("scratch-1", "kd-1"), ("scratch-2", "kd-2")], 0.02)
    assert comparison.per_seed == pytest.approx((1.0, 3.0), abs=1e-3)
    half = stats.t.ppf(0.975, 1) * math.sqrt(2.0) / math.sqrt(2)  # deviation of (1, 3) is sqrt(2)
    assert (comparison.value, comparison.low, comparison.high) == pytest.approx((2.0, 2.0 - half, 2.0 + half), rel=1e-3)
    assert comparison.interval_scope == "slots and seeds"


def test_equal_gains_on_common_slots_have_no_sampling_error() -> None:
    """Slots that are good or bad for all receivers, and seeds of equal gain: the interval is a point."""
    counts = curves(
        {"scratch-1": 0.0, "kd-1": 2.0, "scratch-2": 1.0, "kd-2": 3.0}, factors=np.array([0.5, 1.0, 2.0, 0.7])
    )
    comparison = mean_gap_db(counts, [("scratch-1", "kd-1"), ("scratch-2", "kd-2")], 0.02)
    assert (comparison.value, comparison.low, comparison.high) == pytest.approx((2.0, 2.0, 2.0), abs=1e-3)


def test_one_seed_is_the_paired_gap() -> None:
    rng = np.random.default_rng(1)
    counts = curves({"a": 0.0, "b": 1.0}, factors=rng.lognormal(0, 0.5, 6))
    counts["bit_errors"] = rng.binomial(counts["bits"], counts["bit_errors"] / counts["bits"])
    comparison, gap = mean_gap_db(counts, [("a", "b")], 0.02), gap_db(counts, "a", "b", 0.02)
    assert (comparison.value, comparison.low, comparison.high) == pytest.approx((gap.gap_db, gap.low_db, gap.high_db))
    assert comparison.low < comparison.value
    assert comparison.interval_scope == "slots"


def test_a_curve_that_does_not_reach_the_ber_gives_a_bound() -> None:
    floored = curves({"scratch-1": 0.0, "scratch-2": 0.0}, floor=0.02)
    counts = pd.concat([floored, curves({"kd-1": 4.0, "kd-2": 6.0})])
    comparison = mean_gap_db(counts, [("scratch-1", "kd-1"), ("scratch-2", "kd-2")], 0.005)
    # 0.005 is at 13 dB; the scratch baselines are above it at 15 dB
    assert comparison.lower_bound == pytest.approx(((15 - 13.01 + 4) + (15 - 13.01 + 6)) / 2, abs=0.01)
    assert math.isnan(comparison.value)
    assert comparison.interval_scope == "nothing"
    swapped = mean_gap_db(counts, [("kd-1", "scratch-1")], 0.005)
    assert math.isnan(swapped.lower_bound)


def test_ratio_at_one_point() -> None:
    counts = curves({"scratch-1": 0.0, "kd-1": 10 * math.log10(2), "scratch-2": 0.0, "kd-2": 10 * math.log10(8)})
    comparison = mean_ratio(counts, [("scratch-1", "kd-1"), ("scratch-2", "kd-2")], 15.0)
    assert comparison.per_seed == pytest.approx((2.0, 8.0), rel=1e-3)
    half = stats.t.ppf(0.975, 1) * math.log(4) / math.sqrt(2) / math.sqrt(2)
    ends = [4 * math.exp(x) for x in (-half, half)]
    assert (comparison.value, comparison.low, comparison.high) == pytest.approx((4.0, *ends), rel=1e-2)
    no_errors = counts.assign(bit_errors=counts["bit_errors"].where(counts["receiver"] != "kd-1", 0))
    assert math.isnan(mean_ratio(no_errors, [("scratch-1", "kd-1")], 15.0).value)


def test_the_interval_covers_slots_and_seeds_together() -> None:
    """Gains of 1 dB on average that vary from seed to seed and, alike for all seeds, from slot to slot."""
    rng = np.random.default_rng(3)
    pairs = [(f"scratch-{s}", f"kd-{s}") for s in range(3)]
    covered = covered_by_slots = 0
    for _ in range(150):
        shifts = {name: i + rng.normal(0, 0.2) for pair in pairs for i, name in enumerate(pair)}
        counts = curves(shifts, np.ones(8))
        factors = np.exp(rng.normal(0, 0.15, 8))[counts["block"]]
        counts["bit_errors"] *= np.where(counts["receiver"].str.startswith("kd"), factors, 1.0)
        comparison = mean_gap_db(counts, pairs, 0.02)
        covered += comparison.low <= 1.0 <= comparison.high
        single = mean_gap_db(counts, pairs[:1], 0.02)
        covered_by_slots += single.low <= 1.0 <= single.high
    assert covered >= 0.93 * 150
    assert covered_by_slots < covered
