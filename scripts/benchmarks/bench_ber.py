"""Slots and seconds to determine a gap in dB, and the cost of counting compared with Sionna's ``sim_ber``.

The first part compares two receivers on the same slots with independent runs, each until the 95 % interval of their gap
is narrow enough. Independent runs use fresh slots for every receiver and SINR, as ``sim_ber`` does. "own slots" are
fresh for every receiver but the same for all SINRs. The number of slots is that of a point, both receivers together. A
quick run extrapolates from 1024 slots: half-widths fall with the square root of the slots.

The second part sends the same receivers, slots and points through ``count_errors`` and ``sim_ber``, alternately, on one
torch thread each. ``count_errors`` generates slots once for all receivers, writes a journal, and computes
intervals after every block.

    python scripts/benchmarks/bench_ber.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from channels import Scenario, SlotStream, scenario
from receivers.base import Receiver
from receivers.classical import classical_receivers
from receivers.evaluation.block_counter import BlockCounter
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.required_sinr import gap_db
from receivers.evaluation.stopping import Evaluation

BLOCK_SLOTS = 64
MIN_BLOCKS, MAX_BLOCKS = 8, 1024
TDL_6PRB = scenario("tdl-6prb")
TWO_PILOTS = TDL_6PRB.model_copy(
    update={"name": "tdl-6prb, two pilots", "grid": TDL_6PRB.grid.model_copy(update={"pilot_patterns": ((2, 11),)})}
)


@dataclass(frozen=True)
class GapCase:
    """A gap between two receivers at a BER, and the half width of its interval to reach."""

    scenario: Scenario
    first: str
    second: str
    target_ber: float
    points_db: tuple[float, ...]
    half_width_db: float
    extrapolate: bool = False  # independent runs would take hours


COARSE, FINE = (0.0, 3.0, 6.0, 9.0, 12.0), (9.0, 12.0, 15.0, 18.0)
GAP_CASES = (
    GapCase(TDL_6PRB, "LS", "LMMSE", 0.2, COARSE, 0.1),
    GapCase(TDL_6PRB, "LMMSE", "perfect CSI", 0.2, COARSE, 0.2),
    GapCase(TDL_6PRB, "LMMSE", "LMMSE-IRC", 0.2, COARSE, 0.01, extrapolate=True),
    GapCase(TWO_PILOTS, "LS", "LMMSE", 0.02, FINE, 0.07),
    GapCase(TWO_PILOTS, "LMMSE", "perfect CSI", 0.02, FINE, 0.07),
)
Seed = Callable[[int, int], int]
DESIGNS: dict[str, Seed] = {  # seed by receiver and point
    "same slots": lambda receiver, point: 0,
    "own slots": lambda receiver, point: receiver,
    "fresh slots": lambda receiver, point: 100 * receiver + point,
}


def slots_for_gap(case: GapCase, seed: Seed, run: int, extrapolate: bool) -> tuple[float, float]:
    """Slots per point, and seconds, until the gap's interval has the half width of the case.

    Receivers with different slots are paired by block number. Their blocks are independent, so the jackknife's standard
    error is that of independent runs.
    """
    names, receivers = (case.first, case.second), {r.name: r for r in classical_receivers(case.scenario)}
    seeds = {(r, p): 1000 * run + seed(r, p) for r in range(2) for p in range(len(case.points_db))}
    counters = {
        s: BlockCounter(
            [receivers[n] for n in names], SlotStream(case.scenario, s, BLOCK_SLOTS, "test", purpose="bench")
        )
        for s in set(seeds.values())
    }
    shared = seeds[0, 0] == seeds[1, 0]
    rows: list[dict[str, object]] = []
    begin = time.perf_counter()
    for number in range(MAX_BLOCKS):
        for p, sinr_db in enumerate(case.points_db):
            for r, group in enumerate([names] if shared else [names[:1], names[1:]]):
                rows += map(asdict, counters[seeds[r, p]].rows(0.0, sinr_db, number, group))
        blocks = number + 1
        if blocks >= MIN_BLOCKS and blocks % 4 == 0:
            gap = gap_db(pd.DataFrame(rows), *names, case.target_ber)
            half = (gap.high_db - gap.low_db) / 2
            if half <= case.half_width_db or (extrapolate and blocks >= 2 * MIN_BLOCKS):
                break
    scale = (half / case.half_width_db) ** 2 if extrapolate else 1.0
    num_slots = blocks * BLOCK_SLOTS * (1 if shared else 2)
    return num_slots * scale, (time.perf_counter() - begin) * scale


def gap_cases(quick: bool, runs: int) -> list[dict[str, object]]:
    cases: list[dict[str, object]] = []
    for case in GAP_CASES:
        results: dict[str, list[tuple[float, float]]] = {design: [] for design in DESIGNS}
        for run in range(runs):
            for design, seed in DESIGNS.items():
                extrapolate = quick or (case.extrapolate and design != "same slots")
                results[design].append(slots_for_gap(case, seed, run + 1, extrapolate))
        slots = {d: statistics.median(f[0] for f in results[d]) for d in DESIGNS}
        seconds = {d: statistics.median(f[1] for f in results[d]) for d in DESIGNS}
        cases.append(
            {
                "case": f"{case.scenario.name}: {case.first} - {case.second} at {case.target_ber:g}, "
                f"±{case.half_width_db:g} dB",
                "slots": slots,
                "seconds": seconds,
                "extrapolated": quick or case.extrapolate,
                "ratio": slots["fresh slots"] / slots["same slots"],
                "ratio_own_slots": slots["own slots"] / slots["same slots"],
                "ratio_seconds": seconds["fresh slots"] / seconds["same slots"],
            }
        )
    return cases


def leanrx(names: list[str], blocks: int) -> Callable[[], object]:
    evaluation = Evaluation(
        sinr_db=COARSE, block_slots=BLOCK_SLOTS, min_slots=blocks * BLOCK_SLOTS, max_slots=blocks * BLOCK_SLOTS
    )
    receivers = [r for r in classical_receivers(TDL_6PRB) if r.name in names]
    slots = SlotStream(TDL_6PRB, 1, BLOCK_SLOTS, "test")

    def count() -> object:
        with tempfile.TemporaryDirectory() as folder:
            return list(count_errors(receivers, slots, evaluation, Path(folder) / "ber.parquet"))

    return count


def sionna(names: list[str], blocks: int) -> Callable[[], object]:
    from sionna.phy.utils import sim_ber

    slots_of = SlotStream(TDL_6PRB, 1, BLOCK_SLOTS, "test")
    receivers = [r for r in classical_receivers(TDL_6PRB) if r.name in names]

    def chain(receiver: Receiver) -> Callable[[int, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        numbers = iter(range(10**9))

        def run(batch_size: int, ebno_db: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            slots = slots_of.at_sinr(float(ebno_db)).block(next(numbers) % blocks)
            mask = slots.bit_mask  # the same number of data bits in every slot of this scenario
            llrs, bits = receiver(slots)[mask], slots.bits[mask]
            return bits.view(batch_size, -1).float(), llrs.view(batch_size, -1)

        return run

    def count() -> object:
        return [
            sim_ber(
                chain(r),
                torch.tensor(COARSE),
                BLOCK_SLOTS,
                blocks,
                soft_estimates=True,
                early_stop=False,
                verbose=False,
                device="cpu",
            )
            for r in receivers
        ]

    return count


def elapsed_s(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def counting_cases(quick: bool, runs: int) -> list[dict[str, object]]:
    cases: list[dict[str, object]] = []
    for names in (["LMMSE"], ["LS", "LMMSE", "LMMSE-IRC", "perfect CSI"]):
        runners = {"leanrx": leanrx(names, 4 if quick else 16), "sionna": sionna(names, 4 if quick else 16)}
        times: dict[str, list[float]] = {name: [] for name in runners}
        for run in runners.values():
            run()
        for _ in range(runs):
            for name, run in runners.items():
                times[name].append(elapsed_s(run))
        ratio = statistics.median(s / o for s, o in zip(times["sionna"], times["leanrx"], strict=True))
        medians = {name: statistics.median(values) for name, values in times.items()}
        cases.append({"case": f"sim_ber, same slots: {', '.join(names)}", "ratio": ratio, "seconds": medians})
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="extrapolate every run from 1024 slots")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    runs = 3
    gaps, counting = gap_cases(quick, runs), counting_cases(quick, runs)
    console = Console(width=130)
    table = Table("gap", *(f"slots: {d}" for d in DESIGNS), "fresh / same", "own / same", "seconds, fresh / same")
    for c in gaps:
        slots = c["slots"]
        assert isinstance(slots, dict)
        ratios = (f"{c[name]:.1f}" for name in ("ratio", "ratio_own_slots", "ratio_seconds"))
        table.add_row(
            str(c["case"]) + (" *" if c["extrapolated"] else ""), *(f"{slots[d]:.0f}" for d in DESIGNS), *ratios
        )
    console.print(table)
    print("* independent runs extrapolated")
    table = Table("counting", "leanrx s", "sim_ber s", "ratio")
    for c in counting:
        times = c["seconds"]
        assert isinstance(times, dict)
        table.add_row(str(c["case"]), f"{times['leanrx']:.2f}", f"{times['sionna']:.2f}", f"{c['ratio']:.2f}")
    console.print(table)
    headline = min(float(str(c["ratio"])) for c in gaps)
    print(
        json.dumps(
            {
                "bench": "ber",
                "peer": "independent runs, as of sionna.phy.utils.sim_ber",
                "ratio": headline,
                "runs": runs,
                "cases": [*gaps, *counting],
            }
        )
    )


if __name__ == "__main__":
    main()
