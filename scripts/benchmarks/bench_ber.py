"""Slots and seconds to know a gap in dB, and the cost of counting beside Sionna's ``sim_ber``.

First, two receivers on the same slots against independent runs, each until the 95 % interval of their gap is narrow
enough. Independent runs draw fresh slots for every receiver and SINR, as ``sim_ber`` does; "own slots" are fresh for
every receiver but repeat over SINR. Slots are those that are drawn at each point, for both receivers together.
A quick run extrapolates from 1024 slots: half-widths fall with the square root of the slots.

Second, the same receivers, slots and points through ``count_errors`` and through ``sim_ber``, in turns, on one torch
thread each. ``count_errors`` draws slots once for all receivers, keeps a journal, and computes intervals after every
block.

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
FEWEST_BLOCKS, MOST_BLOCKS = 8, 1024
TDL_6PRB = scenario("tdl-6prb")
TWO_PILOTS = TDL_6PRB.model_copy(
    update={"name": "tdl_6prb, two pilots", "grid": TDL_6PRB.grid.model_copy(update={"pilot_patterns": ((2, 11),)})}
)


@dataclass(frozen=True)
class Question:
    """How many dB lie between two receivers at a BER, to plus or minus how many?"""

    scenario: Scenario
    first: str
    second: str
    target_ber: float
    points_db: tuple[float, ...]
    half_width_db: float
    extrapolate: bool = False  # independent runs would take hours


COARSE, FINE = (0.0, 3.0, 6.0, 9.0, 12.0), (9.0, 12.0, 15.0, 18.0)
QUESTIONS = (
    Question(TDL_6PRB, "LS", "LMMSE", 0.2, COARSE, 0.1),
    Question(TDL_6PRB, "LMMSE", "perfect CSI", 0.2, COARSE, 0.2),
    Question(TDL_6PRB, "LMMSE", "LMMSE-IRC", 0.2, COARSE, 0.01, extrapolate=True),
    Question(TWO_PILOTS, "LS", "LMMSE", 0.02, FINE, 0.07),
    Question(TWO_PILOTS, "LMMSE", "perfect CSI", 0.02, FINE, 0.07),
)
Seed = Callable[[int, int], int]
DESIGNS: dict[str, Seed] = {  # seed by receiver and point
    "same slots": lambda receiver, point: 0,
    "own slots": lambda receiver, point: receiver,
    "fresh slots": lambda receiver, point: 100 * receiver + point,
}


def until_known(asked: Question, seed: Seed, run: int, extrapolate: bool) -> tuple[float, float]:
    """Slots drawn per point, and seconds, until the gap's half-width is the one asked for.

    Receivers with slots of their own are joined by block number: their blocks are independent, and so the jackknife's
    spread is that of independent runs.
    """
    names, receivers = (asked.first, asked.second), {r.name: r for r in classical_receivers(asked.scenario)}
    seeds = {(r, p): 1000 * run + seed(r, p) for r in range(2) for p in range(len(asked.points_db))}
    counters = {
        s: BlockCounter(
            [receivers[n] for n in names], SlotStream(asked.scenario, s, BLOCK_SLOTS, "test", purpose="bench")
        )
        for s in set(seeds.values())
    }
    shared = seeds[0, 0] == seeds[1, 0]
    rows: list[dict[str, object]] = []
    begin = time.perf_counter()
    for number in range(MOST_BLOCKS):
        for p, sinr_db in enumerate(asked.points_db):
            for r, told in enumerate([names] if shared else [names[:1], names[1:]]):
                rows += map(asdict, counters[seeds[r, p]].rows(0.0, sinr_db, number, told))
        blocks = number + 1
        if blocks >= FEWEST_BLOCKS and blocks % 4 == 0:
            gap = gap_db(pd.DataFrame(rows), *names, asked.target_ber)
            half = (gap.high_db - gap.low_db) / 2
            if half <= asked.half_width_db or (extrapolate and blocks >= 2 * FEWEST_BLOCKS):
                break
    scale = (half / asked.half_width_db) ** 2 if extrapolate else 1.0
    drawn = blocks * BLOCK_SLOTS * (1 if shared else 2)
    return drawn * scale, (time.perf_counter() - begin) * scale


def gap_cases(quick: bool, runs: int) -> list[dict[str, object]]:
    cases: list[dict[str, object]] = []
    for asked in QUESTIONS:
        found: dict[str, list[tuple[float, float]]] = {design: [] for design in DESIGNS}
        for run in range(runs):
            for design, seed in DESIGNS.items():
                extrapolate = quick or (asked.extrapolate and design != "same slots")
                found[design].append(until_known(asked, seed, run + 1, extrapolate))
        slots = {d: statistics.median(f[0] for f in found[d]) for d in DESIGNS}
        seconds = {d: statistics.median(f[1] for f in found[d]) for d in DESIGNS}
        cases.append(
            {
                "case": f"{asked.scenario.name}: {asked.first} - {asked.second} at {asked.target_ber:g}, "
                f"±{asked.half_width_db:g} dB",
                "slots": slots,
                "seconds": seconds,
                "extrapolated": quick or asked.extrapolate,
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


def seconds(make: Callable[[], object]) -> float:
    begin = time.perf_counter()
    make()
    return time.perf_counter() - begin


def counting_cases(quick: bool, runs: int) -> list[dict[str, object]]:
    cases: list[dict[str, object]] = []
    for names in (["LMMSE"], ["LS", "LMMSE", "LMMSE-IRC", "perfect CSI"]):
        makers = {"leanrx": leanrx(names, 4 if quick else 16), "sionna": sionna(names, 4 if quick else 16)}
        times: dict[str, list[float]] = {name: [] for name in makers}
        for make in makers.values():
            make()
        for _ in range(runs):
            for name, make in makers.items():
                times[name].append(seconds(make))
        ratio = statistics.median(s / o for s, o in zip(times["sionna"], times["leanrx"], strict=True))
        shown = {name: statistics.median(values) for name, values in times.items()}
        cases.append({"case": f"sim_ber, same slots: {', '.join(names)}", "ratio": ratio, "seconds": shown})
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
        spent = c["seconds"]
        assert isinstance(spent, dict)
        table.add_row(str(c["case"]), f"{spent['leanrx']:.2f}", f"{spent['sionna']:.2f}", f"{c['ratio']:.2f}")
    console.print(table)
    headline = min(float(str(c["ratio"])) for c in gaps)
    print(
        json.dumps(
            {
                "bench": "ber",
                "peer": "independent runs, as sionna.phy.utils.sim_ber makes them",
                "ratio": headline,
                "runs": runs,
                "cases": [*gaps, *counting],
            }
        )
    )


if __name__ == "__main__":
    main()
