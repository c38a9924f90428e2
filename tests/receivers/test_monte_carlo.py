import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from channels import Scenario, Slots, SlotStream
from channels.grid import modulate
from leanrx_core.errors import UserError
from receivers.evaluation.error_counts import Counts, count_block
from receivers.evaluation.intervals import slot_clustered, wilson
from receivers.evaluation.monte_carlo import count_errors, sinr_range_warnings
from receivers.evaluation.rates import rates
from receivers.evaluation.required_sinr import gap_db, sinr_at_ber
from receivers.evaluation.stopping import Evaluation


class FlippingReceiver:
    """Puts out the true bits, but flips the first ``flips`` data bits of every ``every``-th slot."""

    def __init__(self, name: str, flips: int = 0, every: int = 1) -> None:
        self.name, self.digest, self.flips, self.every, self.calls = name, f"{flips}/{every}", flips, every, 0

    def __call__(self, slots: Slots) -> torch.Tensor:
        self.calls += 1
        llrs = 2.0 * slots.bits.float() - 1
        for i in range(0, len(slots), self.every):
            indices = slots.bit_mask[i].nonzero()[: self.flips].T
            llrs[i][tuple(indices)] *= -1
        return llrs


EVALUATION = Evaluation(
    sinr_db=(0, 10), interference_fractions=(0, 0.5), block_slots=8, min_slots=16, max_slots=40, target_slot_errors=12
)


@pytest.fixture
def stream(small: Scenario) -> SlotStream:
    return SlotStream(small, 2, EVALUATION.block_slots, "test")


def run(receivers, stream, path, evaluation=EVALUATION) -> pd.DataFrame:
    for _ in count_errors(receivers, stream, evaluation, path):
        pass
    return pd.read_parquet(path)


def test_counts_are_exact(stream: SlotStream) -> None:
    slots = stream.block(0)
    per_slot = slots.bit_mask.sum((1, 2, 3))
    counts = count_block(FlippingReceiver("x", 5, 2), slots)
    assert counts["bits"] == int(per_slot.sum())
    assert counts["bit_errors"] == 5 * 4
    assert counts["slot_errors"] == 4
    assert counts["correct_slot_bits"] == int(per_slot[1::2].sum())
    assert counts["bit_errors_sq"] == 25 * 4
    assert counts["bit_errors_x_bits"] == 5 * int(per_slot[::2].sum())


def test_stop_rule(tmp_path, stream: SlotStream) -> None:
    table = run([FlippingReceiver("half", 1, 2), FlippingReceiver("all", 1)], stream, tmp_path / "ber.parquet")
    # half of the slots of "half" err: 12 errors after 24 slots
    assert (table.groupby(["interference_fraction", "sinr_db", "receiver"])["slots"].sum() == 24).all()
    never = run([FlippingReceiver("none")], stream, tmp_path / "other.parquet")
    assert (never.groupby(["interference_fraction", "sinr_db"])["slots"].sum() == 40).all()


@pytest.mark.parametrize("stop_after", [1, 4, 9])
@pytest.mark.parametrize("torn", [False, True])
def test_an_interrupted_count_ends_with_the_same_table(tmp_path, stream, stop_after: int, torn: bool) -> None:
    receivers = [FlippingReceiver("a", 3, 2), FlippingReceiver("b", 1)]
    whole = run(receivers, stream, tmp_path / "whole.parquet")
    path = tmp_path / "ber.parquet"
    states = count_errors(receivers, stream, EVALUATION, path)
    for _ in range(stop_after):
        next(states)
    states.close()
    journal = path.with_suffix(".journal.jsonl")
    if torn:
        journal.write_bytes(journal.read_bytes()[:-30])
    calls = receivers[0].calls
    pd.testing.assert_frame_equal(run(receivers, stream, path), whole)
    assert receivers[0].calls - calls < len(whole) / 2
    assert not journal.exists()


def test_more_receivers_and_points_join_the_table(tmp_path, stream: SlotStream) -> None:
    path = tmp_path / "ber.parquet"
    first = FlippingReceiver("a", 1)
    run([first], stream, path)
    calls = first.calls
    more = EVALUATION.model_copy(update={"sinr_db": (0, 10, 20)})
    table = run([first, FlippingReceiver("b", 1)], stream, path, more)
    assert set(table["receiver"]) == {"a", "b"}
    assert first.calls - calls == 2 * 2  # only the new point: two fractions, two blocks


def test_a_receiver_with_another_digest_is_counted_again(tmp_path, stream: SlotStream) -> None:
    path = tmp_path / "ber.parquet"
    run([FlippingReceiver("a", 1)], stream, path)
    table = run([FlippingReceiver("a", 2)], stream, path)
    assert set(table["digest"]) == {"2/1"}
    assert (table["bit_errors"] == 2 * table["slots"]).all()


def test_names_must_differ_and_tables_must_be_readable(tmp_path, stream: SlotStream) -> None:
    with pytest.raises(UserError, match="names must differ"):
        next(count_errors([FlippingReceiver("a"), FlippingReceiver("a")], stream, EVALUATION, tmp_path / "x.parquet"))
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="delete it"):
        next(count_errors([FlippingReceiver("a")], stream, EVALUATION, tmp_path / "x.parquet"))


def test_wilson_equals_scipy() -> None:
    for errors, trials in ((0, 10), (3, 50), (50, 50)):
        expected = stats.binomtest(errors, trials).proportion_ci(0.95, "wilson")
        assert wilson(errors, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def interval(errors: np.ndarray, bits: np.ndarray) -> tuple[float, float]:
    residuals = errors - bits * (errors.sum() / bits.sum())
    return slot_clustered(
        len(errors),
        int((errors > 0).sum()),
        int(bits.sum()),
        int(errors.sum()),
        float((residuals**2).sum()),
        float((residuals**3).sum()),
    )


def test_clustered_interval_covers_where_a_binomial_one_would_not() -> None:
    """Errors whose rate varies from slot to slot: 95 % intervals cover the truth in about 95 % of experiments."""
    rng = np.random.default_rng(1)
    bits = np.full(200, 1000)
    covered = binomial_covered = 0
    for _ in range(1000):
        errors = rng.binomial(1000, rng.beta(0.5, 9.5, 200))  # mean 0.05
        low, high = interval(errors, bits)
        covered += low <= 0.05 <= high
        low, high = wilson(int(errors.sum()), int(bits.sum()))
        binomial_covered += low <= 0.05 <= high
    assert 925 <= covered <= 970
    assert binomial_covered < 500


@pytest.mark.parametrize(("snr_db", "minimum"), [(16, 935), (19, 935), (22, 910), (25, 870)])
def test_interval_covers_in_fading_until_few_slots_have_errors(snr_db: float, minimum: int) -> None:
    """16-QAM over two Rayleigh branches: about 470, 190, 60 and 18 of 1024 slots have errors."""
    rng = np.random.default_rng(3)

    def ber(snr: np.ndarray) -> np.ndarray:
        a = np.sqrt(snr / 5)
        return 0.75 * stats.norm.sf(a) + 0.5 * stats.norm.sf(3 * a) - 0.25 * stats.norm.sf(5 * a)

    mean_snr = 10 ** (snr_db / 10)
    truth = ber(mean_snr * rng.gamma(2, size=2_000_000)).mean()
    bits, covered = np.full(1024, 3744), 0
    for _ in range(1000):
        low, high = interval(rng.binomial(3744, ber(mean_snr * rng.gamma(2, size=1024))), bits)
        covered += low <= truth <= high
    assert covered >= minimum


def test_no_errors_give_an_upper_bound_over_slots() -> None:
    low, high = interval(np.zeros(100, int), np.full(100, 1000))
    assert low == 0
    assert high == pytest.approx(0.5 * 3 / 100, rel=0.02)


def test_one_slot_with_errors_gives_a_higher_bound_than_none() -> None:
    none = interval(np.zeros(100, int), np.full(100, 1000))
    single = interval(np.eye(1, 100, dtype=int)[0], np.full(100, 1000))
    assert single[0] == 0
    assert single[1] > none[1]


@pytest.mark.parametrize("seed", range(4))
def test_intervals_contain_their_estimate(seed: int) -> None:
    """Any slots: few or many, equal or not, of one size or several, with BERs up to 1."""
    rng = np.random.default_rng(seed)
    for _ in range(500):
        slots, most = int(rng.integers(1, 50)), int(rng.choice([1, 12, 624, 340_000]))
        bits = rng.choice([most, 2 * most], slots) if rng.random() < 0.5 else np.full(slots, most)
        share = rng.choice([0.0, 0.01, 0.3, 0.5, 0.6, 1.0])
        errors = rng.binomial(bits, share * rng.choice([1.0, rng.random()])) * (
            rng.random(slots) < rng.choice([1, 0.1])
        )
        if rng.random() < 0.5:
            errors = np.rint(share * bits).astype(int)  # equal BERs
        low, high = interval(errors, bits)
        assert 0 <= low <= errors.sum() / bits.sum() <= high <= 1, (errors, bits)
        slot_errors = int((errors > 0).sum())
        low, high = wilson(slot_errors, slots)
        assert 0 <= low <= slot_errors / slots <= high <= 1


def test_one_slot_says_little() -> None:
    """One slot at -50 dB has a BER above that of a guess."""
    assert interval(np.array([5353]), np.array([10_000])) == (0.0, 1.0)
    assert interval(np.array([1000]), np.array([10_000])) == (0.0, 0.5)


def test_equal_slots_narrow_the_interval_with_their_number() -> None:
    """29 slots of BER 0.6: with q^28 = 0.05, a fraction of q = 0.8985 of all slots has it. 30 slots say a bit more."""
    ends = [interval(np.full(n, 600), np.full(n, 1000)) for n in (29, 30, 1000)]
    assert ends[0] == pytest.approx((0.6 * 0.8985, 0.6 * 0.8985 + 0.1015), abs=1e-4)
    assert ends[0][0] < ends[1][0] < ends[2][0] < 0.6 < ends[2][1] < ends[1][1] < ends[0][1]


def test_equal_slots_cover_a_rare_other_slot() -> None:
    """3 % of the slots have another BER: 29 slots show none of them in 41 % of experiments."""
    rng, covered = np.random.default_rng(5), 0
    truth = 0.97 * 0.6 + 0.03 * 0.1
    for _ in range(1000):
        low, high = interval(np.where(rng.random(29) < 0.03, 100, 600), np.full(29, 1000))
        covered += low <= truth <= high
    assert covered >= 935


def test_rates_sum_blocks(tmp_path, stream: SlotStream) -> None:
    table = rates(run([FlippingReceiver("a", 3, 2)], stream, tmp_path / "ber.parquet"))
    row = table.iloc[0]
    assert row["ber"] == row["bit_errors"] / row["bits"]
    assert row["slot_error_rate"] == 0.5
    assert row["ber_low"] < row["ber"] < row["ber_high"]


def test_crossing_is_exact_on_a_straight_line() -> None:
    sinr, bits = np.array([0.0, 5.0, 10.0, 20.0]), np.full(4, 1e6)
    assert float(sinr_at_ber(sinr, 1e6 * 10 ** (-sinr / 10), bits, 10**-0.73)) == pytest.approx(7.3)
    assert np.isnan(sinr_at_ber(sinr, np.full(4, 1e5), bits, 0.01))
    assert np.isnan(sinr_at_ber(sinr, np.full(4, 1e3), bits, 0.01))
    # a point without errors counts as half an error
    log_half = np.log10(0.5e-6)
    required = sinr_at_ber(sinr, np.array([1e6, 1e5, 1e4, 0]), bits, 1e-3)
    assert float(required) == pytest.approx(10 - 10 / (log_half + 2))


def test_common_variation_cancels_in_the_paired_gap() -> None:
    """Two receivers with a gap of 1 dB, whose errors vary together from block to block."""
    rng = np.random.default_rng(2)
    rows = []
    for block in range(24):
        slot_factor = rng.lognormal(0, 0.5)
        for sinr in (0.0, 5.0, 10.0, 15.0):
            for name, shift in (("a", 0.0), ("b", 1.0)):
                ber = 0.3 * slot_factor * 10 ** (-(sinr + shift) / 10)
                rows.append(
                    {"receiver": name, "sinr_db": sinr, "block": block, "bits": 10**6, "bit_errors": round(1e6 * ber)}
                )
    gap = gap_db(pd.DataFrame(rows), "a", "b", 0.05)
    assert (gap.gap_db, gap.low_db, gap.high_db) == pytest.approx((1.0, 1.0, 1.0), abs=1e-3)


def gap_rows(rng: np.random.Generator, blocks: dict[float, int], spread: float) -> pd.DataFrame:
    """Two receivers with a gap of 1 dB on slots whose BER varies from block to block, almost alike for both."""
    rows = []
    shared = rng.normal(0, spread, max(blocks.values()))
    for sinr, count in blocks.items():
        for block in range(count):
            for name, shift in (("a", 0.0), ("b", 1.0)):
                ber = 0.3 * np.exp(shared[block] + rng.normal(0, spread / 3)) * 10 ** (-(sinr + shift) / 10)
                rows.append(
                    {"receiver": name, "sinr_db": sinr, "block": block, "bits": 10**6, "bit_errors": round(1e6 * ber)}
                )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("blocks", [{0.0: 8, 5.0: 8, 10.0: 8}, {0.0: 6, 5.0: 8, 10.0: 16}])
def test_gap_interval_covers_with_few_and_unequal_blocks(blocks: dict[float, int]) -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(300):
        gap = gap_db(gap_rows(rng, blocks, 0.3), "a", "b", 0.08)
        covered += gap.low_db <= 1.0 <= gap.high_db
    assert covered >= 0.92 * 300


def test_gap_uses_blocks_that_both_receivers_have() -> None:
    rows = gap_rows(np.random.default_rng(5), {0.0: 8, 5.0: 8, 10.0: 8}, 0.3)
    fewer = rows[~((rows["receiver"] == "b") & ((rows["sinr_db"] == 10.0) | (rows["block"] > 4)))]
    common = rows[(rows["sinr_db"] < 10) & (rows["block"] <= 4)]
    assert gap_db(fewer, "a", "b", 0.15) == gap_db(common, "a", "b", 0.15)
    assert np.isnan(gap_db(rows[rows["receiver"] == "a"], "a", "b", 0.15).gap_db)


def test_counts_of_other_slots_are_not_reused(tmp_path, stream: SlotStream, small: Scenario) -> None:
    path = tmp_path / "ber.parquet"
    receiver = FlippingReceiver("a", 1)
    run([receiver], stream, path)
    calls = receiver.calls
    other = SlotStream(small, 2, EVALUATION.block_slots, "test", purpose="other")
    run([receiver], other, path)
    assert receiver.calls == 2 * calls


def test_a_warning_names_the_training_range(small: Scenario) -> None:
    class TrainedReceiver(FlippingReceiver):
        card = type("Card", (), {"trained_sinr_db": (0.0, 8.0)})()

    assert sinr_range_warnings([FlippingReceiver("x")], EVALUATION) == []
    (warning,) = sinr_range_warnings([TrainedReceiver("x")], EVALUATION)
    assert warning == "x: tested at 10 dB SINR, trained on 0.0..8.0 dB"


def test_an_old_key_is_refused_with_its_new_name() -> None:
    with pytest.raises(UserError, match="interference_shares: renamed to 'interference_fractions'"):
        Evaluation.parse({"sinr_db": [0], "interference_shares": [0.5]}, "x")


def test_impossible_evaluations_are_refused() -> None:
    for wrong in ({"min_slots": 50}, {"sinr_db": (1, 1)}, {"interference_fractions": (1.0,)}, {"sinr_db": ()}):
        with pytest.raises(UserError):
            Evaluation.parse({**json.loads(EVALUATION.model_dump_json()), **wrong}, "x")


@pytest.mark.parametrize("target", [10, 40])
def test_stopping_at_errors_biases_a_rate_by_less_than_one_over_the_target(target: int) -> None:
    """Slots that fail independently are counted until k fail. The mean of k/N follows the negative binomial."""
    evaluation = Evaluation(sinr_db=(0,), block_slots=1, min_slots=1, max_slots=10**6, target_slot_errors=target)
    rng, rate, experiments = np.random.default_rng(target), 0.1, 300
    estimates = []
    for _ in range(experiments):
        slots = 0
        failures = np.flatnonzero(rng.random(40 * target) < rate)
        for count in range(1, target + 1):
            slots = int(failures[count - 1]) + 1
            if evaluation.targets_met([Counts(slots=slots, bits=slots, bit_errors=count, slot_errors=count)]):
                break
        estimates.append(count / slots)
    correct_slots = np.arange(200 * target)
    expected = float((stats.nbinom.pmf(correct_slots, target, rate) * target / (target + correct_slots)).sum())
    assert np.mean(estimates) == pytest.approx(expected, rel=4 / (target * experiments) ** 0.5)
    assert rate * (1 + 0.5 / target) < expected < rate * (1 + 1 / (target - 1))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"target_slot_errors": 5}, r"x: target_slot_errors: .*greater than or equal to 10"),
        ({"target_block_errors": 9, "code_rate": 0.5}, r"x: target_block_errors: .*greater than or equal to 10"),
        ({"target_relative_half_width": 0.8}, r"x: target_relative_half_width: .*less than or equal to 0\.5"),
    ],
)
def test_targets_that_bias_a_rate_by_a_tenth_and_more_are_refused(targets: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Evaluation.parse({"sinr_db": [0], **targets}, "x")


def test_llrs_that_are_not_finite_are_refused(stream: SlotStream) -> None:
    class BrokenReceiver:
        name, digest = "broken", "x"

        def __call__(self, slots: Slots) -> torch.Tensor:
            return torch.full(slots.bits.shape, float("nan"))

    with pytest.raises(UserError, match="broken: LLRs are not finite"):
        count_block(BrokenReceiver(), stream.block(0))


def test_rounding_does_not_make_equal_slots_unequal() -> None:
    """Sums of powers of 1 % wrong bits do not cancel exactly in floating point."""
    for slots, bits, errors in ((29, 340_000, 204_000), (7, 3743, 37), (1000, 3_000, 30)):
        counts = Counts(
            slots=slots,
            bits=slots * bits,
            bit_errors=slots * errors,
            slot_errors=slots,
            bit_errors_sq=slots * errors**2,
            bit_errors_x_bits=slots * errors * bits,
            bits_sq=slots * bits**2,
            bit_errors_cu=float(slots * errors**3),
            bit_errors_sq_x_bits=float(slots * errors**2 * bits),
            bit_errors_x_bits_sq=float(slots * errors * bits**2),
            bits_cu=float(slots * bits**3),
        )
        expected = interval(np.full(slots, errors), np.full(slots, bits))
        assert counts.ber_interval() == pytest.approx(expected, rel=1e-9)


def test_the_realised_sinr_is_the_ratio_of_mean_powers(tmp_path, stream: SlotStream) -> None:
    """From the samples themselves, over all slots of a point. The mean of the slots' SINRs in dB is lower."""
    table = rates(run([FlippingReceiver("a", 1)], stream, tmp_path / "ber.parquet")).set_index(
        ["interference_fraction", "sinr_db"]
    )
    for fraction, sinr_db in table.index:
        powers, mean_db = torch.zeros(2, dtype=torch.float64), []
        for number in range(table.loc[(fraction, sinr_db), "slots"] // EVALUATION.block_slots):
            slots = stream.at_sinr(sinr_db, fraction).block(number)
            mean_db.append(float(slots.sinr_db.mean()))
            x = torch.zeros_like(slots.pilots)
            for order in slots.bits_per_symbol.unique().tolist():
                of_order = slots.bits_per_symbol == order
                x[of_order] = modulate(slots.bits[of_order, :order])
            for i, data in enumerate(slots.is_data):
                wanted = (slots.h[i] * x[i])[:, data]
                unwanted = slots.y[i][:, data] - wanted
                powers += torch.stack([wanted.abs().square().mean(), unwanted.abs().square().mean()])
        expected = 10 * math.log10(powers[0] / powers[1])
        assert table.loc[(fraction, sinr_db), "realised_sinr_db"] == pytest.approx(expected, abs=0.02)
        assert np.mean(mean_db) < expected - 0.3
