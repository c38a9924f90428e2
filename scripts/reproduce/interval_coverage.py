"""Coverage of the 95 % intervals, over simulated experiments with the stop rules of an evaluation.

There are three error models, each for two receivers with a gap of 1 dB and a random difference: 16-QAM over two flat
Rayleigh branches, a log-normal BER, and bursts in the slots below an outage threshold. A slot has one channel, so its
bit errors are clustered. The slots are the same for all SINRs and for both receivers. The truth is the mean over two
million slots. The true gap is interpolated from the true curves at the same points, as the counted gap is.

    python scripts/reproduce/interval_coverage.py [--quick] [--figure docs/images/coverage.png]
    python scripts/reproduce/interval_coverage.py --bias  # of the rates, where points stop early
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import special, stats

from receivers.evaluation.error_counts import Counts
from receivers.evaluation.rates import MIN_RELIABLE_ERRORS
from receivers.evaluation.required_sinr import bracketing_points, paired_gap, sinr_at_ber
from receivers.evaluation.stopping import Evaluation

Array = NDArray[np.float64]

BITS, BLOCK_SLOTS = 3744, 64  # 6 PRB, 13 data symbols, 16-QAM
CORRECTED = 0.04  # fraction of wrong bits up to which a transport block is decoded
TRUTH_SLOTS = 2_000_000
LOSS_DB = np.array([0.0, 1.0])  # of the receivers; the second is the better one


def qam16_ber(snr: Array) -> Array:
    """Exact BER of Gray-mapped 16-QAM in white noise."""
    a = np.sqrt(snr / 5)
    return np.asarray(0.75 * special.ndtr(-a) + 0.5 * special.ndtr(-3 * a) - 0.25 * special.ndtr(-5 * a))


@dataclass(frozen=True)
class SimulatedSlots:
    """Random numbers of slots, the same for all SINRs.

    Attributes:
        power: of two Rayleigh branches together; any shape.
        deviation: standard normal.
        severity: mean 1.
        receiver_db: random SINR offset of each receiver, ``(2, *shape)``; both share the three above.
    """

    power: Array
    deviation: Array
    severity: Array
    receiver_db: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, *shape: int) -> SimulatedSlots:
        receiver_db = 0.5 * rng.normal(size=(2, *shape))
        return cls(rng.gamma(2, size=shape), rng.normal(size=shape), rng.gamma(0.7, 1 / 0.7, shape), receiver_db)

    def effective_db(self, sinr_db: float) -> Array:
        """SINR of each receiver before fading; ``(2, *shape)``."""
        return sinr_db + LOSS_DB.reshape(2, *[1] * self.deviation.ndim) + self.receiver_db


def rayleigh(slots: SimulatedSlots, sinr_db: float) -> Array:
    """BER per receiver and slot of 16-QAM over two Rayleigh branches, combined."""
    return qam16_ber(slots.power * 10 ** (slots.effective_db(sinr_db) / 10))


def lognormal(slots: SimulatedSlots, sinr_db: float) -> Array:
    """A BER that falls tenfold in 6 dB, with a standard deviation of a factor e."""
    return np.minimum(0.5, 0.3 * np.exp(slots.deviation) * 10 ** (-slots.effective_db(sinr_db) / 6))


def bursts(slots: SimulatedSlots, sinr_db: float) -> Array:
    """About 10 % wrong bits where the power of two Rayleigh branches is below 8 dB, else none."""
    power_db = 10 * np.log10(slots.power) + slots.effective_db(sinr_db)
    return np.where(power_db < 8, np.minimum(0.5, 0.1 * slots.severity), 0.0)


Kind = Callable[[SimulatedSlots, float], Array]
KINDS: dict[str, Kind] = {"Rayleigh": rayleigh, "log-normal": lognormal, "bursts": bursts}
TARGETS = {"Rayleigh": (1e-2, 3e-3), "log-normal": (1e-2, 2e-3), "bursts": (2e-2, 8e-3)}  # BER at which gaps are read
POINTS_DB = {"Rayleigh": np.arange(6.0, 27, 3), "log-normal": np.arange(3.0, 21, 3), "bursts": np.arange(3.0, 21, 3)}
SINGLE_DB = {"Rayleigh": (10, 16, 19, 22, 25), "log-normal": (6, 12, 18, 22), "bursts": (4, 8, 11, 14, 17)}


@dataclass(frozen=True)
class Case:
    """Coverage of one kind of interval in one setting.

    Attributes:
        of: BER, BLER or gap.
        stop: how the experiments stopped.
        errors: median number of slots (or blocks) with errors behind the interval; for a gap, the minimum over the
            points that bracket a crossing.
        covered, low, high: fractions of intervals that cover the truth, lie below it, or above it.
        undefined: fraction of experiments without an interval; the other fractions exclude them.
    """

    of: str
    kind: str
    stop: str
    errors: float
    covered: float
    low: float
    high: float
    undefined: float = 0.0

    @property
    def by_errors(self) -> bool:
        return self.stop in STOPS and self.stop != "1024 slots"


@dataclass(frozen=True)
class StopBias:
    """Relative bias of rates at points that stopped by a rule, over all kinds of slots.

    Attributes:
        rule: the target.
        kind: of slots.
        ber, bler: mean estimate over the truth, minus 1; BLER NaN where blocks hardly fail.
        ber_sd, bler_sd: standard deviations of these means.
    """

    rule: str
    kind: str
    ber: float
    ber_sd: float
    bler: float
    bler_sd: float


def _case(of: str, kind: str, stop: str, errors: list[float], ends: Array, truth: float) -> Case:
    defined = ~np.isnan(ends).any(1)
    ends = ends[defined]
    low, high = float((ends[:, 1] < truth).mean()), float((ends[:, 0] > truth).mean())
    middle = float(np.median(np.array(errors)[defined]))
    return Case(of, kind, stop, middle, 1 - low - high, low, high, 1 - float(defined.mean()))


def _evaluation(**rules: object) -> Evaluation:
    return Evaluation.parse(
        {
            "sinr_db": (0.0,),
            "block_slots": BLOCK_SLOTS,
            "min_slots": 256,
            "code_rate": 0.5,
            "target_slot_errors": None,
            **rules,
        },
        "coverage",
    )


STOPS = {
    "1024 slots": _evaluation(max_slots=1024),
    "100 slots with errors": _evaluation(max_slots=64 * 64, target_slot_errors=100),
    "±30 %": _evaluation(max_slots=64 * 64, target_relative_half_width=0.3),
    "±10 %": _evaluation(max_slots=64 * 64, target_relative_half_width=0.1),
    "100 block errors": _evaluation(max_slots=64 * 64, target_block_errors=100),
}


def counts(errors: NDArray[np.int64]) -> Counts:
    """Counts of slots of ``BITS`` bits each."""
    e = errors.astype(float)
    total, squares = float(e.sum()), float((e * e).sum())
    return Counts(
        slots=errors.size,
        bits=BITS * errors.size,
        bit_errors=int(total),
        slot_errors=int((errors > 0).sum()),
        transport_blocks=errors.size,
        block_errors=int((errors > CORRECTED * BITS).sum()),
        bit_errors_sq=int(squares),
        bit_errors_x_bits=BITS * int(total),
        bits_sq=BITS**2 * errors.size,
        bit_errors_cu=float((e**3).sum()),
        bit_errors_sq_x_bits=squares * BITS,
        bit_errors_x_bits_sq=total * BITS**2,
        bits_cu=float(BITS) ** 3 * errors.size,
    )


def stopped(errors: NDArray[np.int64], evaluation: Evaluation) -> Counts:
    """Counts of one receiver when it stops; ``errors`` is ``(blocks, BLOCK_SLOTS)``."""
    total = Counts()
    for block in errors[: evaluation.max_slots // BLOCK_SLOTS]:
        total = total + counts(block)
        if evaluation.targets_met([total]):
            break
    return total


def single(kind: str, sinr_db: float, stop: str, experiments: int, rng: np.random.Generator) -> list[Case]:
    """Coverage of BER and BLER at one point."""
    long_run = KINDS[kind](SimulatedSlots.draw(rng, TRUTH_SLOTS), sinr_db)[0]
    truth, bler = float(long_run.mean()), float(stats.binom.sf(int(CORRECTED * BITS), BITS, long_run).mean())
    evaluation, ends = STOPS[stop], []
    for _ in range(experiments):
        slots = SimulatedSlots.draw(rng, evaluation.max_slots // BLOCK_SLOTS, BLOCK_SLOTS)
        ends.append(stopped(rng.binomial(BITS, KINDS[kind](slots, sinr_db)[0]), evaluation))
    ber = np.array([c.ber_interval() for c in ends])
    block = np.array([c.bler_interval() for c in ends])
    return [
        _case("BER", kind, stop, [c.slot_errors for c in ends], ber, truth),
        _case("BLER", kind, stop, [c.block_errors for c in ends], block, bler),
    ]


BIAS_RULES: dict[str, dict[str, float]] = {
    "10 slots with errors": {"target_slot_errors": 10},
    "20 slots with errors": {"target_slot_errors": 20},
    "100 slots with errors": {"target_slot_errors": 100},
    "10 block errors": {"target_block_errors": 10},
    "±50 %": {"target_relative_half_width": 0.5},
    "±30 %": {"target_relative_half_width": 0.3},
}
BIAS_DB = {"Rayleigh": 22, "log-normal": 22, "bursts": 14}


def stop_bias(kind: str, rule: str, experiments: int, rng: np.random.Generator) -> StopBias:
    """Bias of BER and BLER where a point stops as soon as one block of slots meets the target."""
    evaluation = _evaluation(min_slots=BLOCK_SLOTS, max_slots=256 * BLOCK_SLOTS, **BIAS_RULES[rule])
    sinr_db = BIAS_DB[kind]
    long_run = KINDS[kind](SimulatedSlots.draw(rng, TRUTH_SLOTS), sinr_db)[0]
    truth = np.array([long_run.mean(), stats.binom.sf(int(CORRECTED * BITS), BITS, long_run).mean()])
    estimates = []
    for _ in range(experiments):
        total = Counts()
        while not evaluation.targets_met([total]) and total.slots < evaluation.max_slots:
            slots = SimulatedSlots.draw(rng, BLOCK_SLOTS)
            total = total + counts(rng.binomial(BITS, KINDS[kind](slots, sinr_db)[0]))
        estimates.append((total.ber, total.block_errors / total.transport_blocks))
    ratio = np.array(estimates) / np.where(truth > 1e-4, truth, np.nan)
    bias, sd = ratio.mean(0) - 1, ratio.std(0) / experiments**0.5
    return StopBias(rule, kind, float(bias[0]), float(sd[0]), float(bias[1]), float(sd[1]))


def print_bias(experiments: int, seed: int = 1) -> None:
    """Print the bias of every rule."""
    rng = np.random.default_rng(seed)
    table = Table("stopped by", "slots", "bias of the BER", "of the BLER")
    for rule in BIAS_RULES:
        for kind in KINDS:
            b = stop_bias(kind, rule, experiments, rng)
            pairs = ((b.ber, b.ber_sd), (b.bler, b.bler_sd))
            cells = ("-" if np.isnan(x) else f"{100 * x:+.1f} ± {100 * sd:.1f} %" for x, sd in pairs)
            table.add_row(rule, kind, *cells)
    Console(width=120).print(table)


def gap(kind: str, target: float, stop: str, blocks: int, experiments: int, rng: np.random.Generator) -> Case:
    """Coverage of the gap; ``stop`` is empty for the same number of blocks at all points."""
    points = POINTS_DB[kind]
    long_run = SimulatedSlots.draw(rng, TRUTH_SLOTS)
    curves = np.stack([KINDS[kind](long_run, s).mean(1) for s in points], 1)
    true_sinr = sinr_at_ber(points, curves * 1e12, np.full_like(curves, 1e12), target)
    truth = float(true_sinr[0] - true_sinr[1])
    brackets = bracketing_points(points, true_sinr)
    ends, error_slots = [], []
    for _ in range(experiments):
        slots = SimulatedSlots.draw(rng, blocks, BLOCK_SLOTS)
        errors = np.stack([rng.binomial(BITS, KINDS[kind](slots, s)) for s in points], -1)  # (2, blocks, slots, points)
        if stop:
            for i in range(len(points)):
                totals = [Counts(), Counts()]
                for b in range(blocks):
                    if STOPS[stop].targets_met(totals):
                        errors[:, b:, :, i] = -1
                        break
                    totals = [c + counts(errors[r, b, :, i]) for r, c in enumerate(totals)]
        has_block = errors[:, :, 0] >= 0
        interval = paired_gap(
            points, np.maximum(errors, 0).sum(2).astype(float), BITS * BLOCK_SLOTS * has_block.astype(float), target
        )
        ends.append((interval.low_db, interval.high_db))
        error_slots.append(float((errors > 0).sum((1, 2))[:, brackets].min()))
    return _case("gap", kind, stop or f"{blocks * BLOCK_SLOTS} slots", error_slots, np.array(ends), truth)


def all_cases(experiments: int, seed: int = 1) -> list[Case]:
    """Every kind of slots, point and stop rule."""
    rng = np.random.default_rng(seed)
    cases: list[Case] = []
    for kind in KINDS:
        for sinr_db in SINGLE_DB[kind]:
            cases += single(kind, sinr_db, "1024 slots", experiments, rng)
        for stop in ("100 slots with errors", "±30 %", "±10 %", "100 block errors"):
            cases += single(kind, SINGLE_DB[kind][1], stop, experiments, rng)
        for target in TARGETS[kind]:
            cases += [gap(kind, target, "", blocks, experiments, rng) for blocks in (4, 8, 16)]
            cases.append(gap(kind, target, "100 slots with errors", 16, experiments, rng))
    return cases


def coverage_by_interval(cases: list[Case]) -> dict[str, float]:
    """Mean coverage by kind of interval, over cases with at least 100 slots or blocks with errors."""
    return {
        of: float(np.mean([c.covered for c in cases if c.of == of and c.errors >= MIN_RELIABLE_ERRORS]))
        for of in ("BER", "BLER", "gap")
    }


def draw(cases: list[Case], experiments: int, path: Path) -> None:
    """Coverage over erring slots, a panel for each kind of interval."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
    colours = dict(zip(KINDS, ("#0072b2", "#d55e00", "#009e73"), strict=True))
    for axis, of, title in zip(axes, ("BER", "BLER", "gap"), ("BER", "BLER", "gap in dB"), strict=True):
        axis.axhspan(0.93, 0.97, color="0.92")
        axis.axhline(0.95, color="0.6", linewidth=0.8)
        axis.axvline(MIN_RELIABLE_ERRORS, color="0.6", linewidth=0.8, linestyle=":")
        for kind, colour in colours.items():
            for by_errors, marker, label in ((False, "o", "fixed number of slots"), (True, "s", "stopped by errors")):
                rows = [c for c in cases if (c.of, c.kind, c.by_errors) == (of, kind, by_errors)]
                axis.plot(
                    [max(c.errors, 1) for c in rows],
                    [c.covered for c in rows],
                    marker,
                    color=colour,
                    markersize=5,
                    markerfacecolor="white" if by_errors else colour,
                    label=f"{kind}, {label}",
                )
        axis.set(
            xscale="log", title=title, ylim=(0.85, 1.0), xlabel="block errors" if of == "BLER" else "slots with errors"
        )
    axes[0].set_ylabel(f"fraction of {experiments} intervals\nthat cover the truth")
    axes[2].legend(fontsize=7, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 experiments in place of 1000")
    parser.add_argument("--bias", action="store_true", help="print the bias of the stop rules only")
    parser.add_argument("--figure", type=Path, help="write the figure to this file")
    arguments = parser.parse_args()
    experiments = 100 if arguments.quick else 1000
    if arguments.bias:
        print_bias(experiments)
        return
    cases = all_cases(experiments)
    table = Table("interval", "slots", "stopped by", "with errors", "cover", "too low", "too high", "no interval")
    for c in sorted(cases, key=lambda c: (c.of, c.kind, c.errors)):
        fractions = (f"{fraction:.3f}" for fraction in (c.covered, c.low, c.high, c.undefined))
        table.add_row(c.of, c.kind, c.stop, f"{c.errors:.0f}", *fractions)
    Console(width=120).print(table)
    for of, coverage in coverage_by_interval(cases).items():
        print(f"{of}: {coverage:.3f} of the intervals with at least {MIN_RELIABLE_ERRORS} errors cover the truth")
    if arguments.figure:
        draw(cases, experiments, arguments.figure)


if __name__ == "__main__":
    main()
