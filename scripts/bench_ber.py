"""Slots and seconds to know a gap in dB, and the cost of counting beside Sionna's ``sim_ber``.

First, two receivers on the same slots against independent runs, each until the 95 % interval of their gap is narrow
enough. Independent runs draw fresh slots for every receiver and SINR, as ``sim_ber`` does; "own slots" are fresh for
every receiver but repeat over SINR. Slots are those that each receiver sees at each point; independent runs also draw
twice as many. A quick run extrapolates: half-widths fall with the square root of the slots.

Second, the same receivers, slots and points through ``count_errors`` and through ``sim_ber``, in turns, on one torch
thread each. ``count_errors`` draws slots once for all receivers, keeps a journal, and computes intervals after every
block.

    python scripts/bench_ber.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from channels import SlotStream, scenario
from receivers.ber import Evaluation, count_errors
from receivers.classical import classical_receivers
from receivers.counting import Counter
from receivers.crossing import gap_db
from receivers.protocol import Receiver

SCENARIO = scenario("desk")
RECEIVERS = {r.name: r for r in classical_receivers(SCENARIO)}
BLOCK_SLOTS = 64
TARGET_BER, POINTS_DB = 0.2, (0.0, 3.0, 6.0, 9.0, 12.0)
FEWEST_BLOCKS, MOST_BLOCKS = 8, 1024
Seed = Callable[[int, int], int]
DESIGNS: dict[str, Seed] = {  # seed by receiver and point
    "same slots": lambda receiver, point: 0,
    "own slots": lambda receiver, point: receiver,
    "fresh slots": lambda receiver, point: len(POINTS_DB) * receiver + point,
}


def stream(seed: int) -> SlotStream:
    return SlotStream(SCENARIO, seed, BLOCK_SLOTS, "test", purpose="bench")


def until_known(names: tuple[str, str], half_width_db: float, seed: Seed, run: int, quick: bool) -> tuple[float, float]:
    """Slots per receiver and point, and seconds, until the gap's half-width is ``half_width_db``.

    Receivers with slots of their own are joined by block number: their blocks are independent, and so the jackknife's
    spread is that of independent runs.
    """
    seeds = {(r, p): 1000 * run + seed(r, p) for r in range(2) for p in range(len(POINTS_DB))}
    counters = {s: Counter([RECEIVERS[n] for n in names], stream(s)) for s in set(seeds.values())}
    rows: list[dict[str, object]] = []
    begin = time.perf_counter()
    for number in range(MOST_BLOCKS):
        for p, sinr_db in enumerate(POINTS_DB):
            if seeds[0, p] == seeds[1, p]:
                rows += map(asdict, counters[seeds[0, p]].rows(0.0, sinr_db, number, names))
            else:
                for r, name in enumerate(names):
                    rows += map(asdict, counters[seeds[r, p]].rows(0.0, sinr_db, number, (name,)))
        blocks = number + 1
        if blocks >= FEWEST_BLOCKS and blocks % 4 == 0:
            gap = gap_db(pd.DataFrame(rows), *names, TARGET_BER)
            half = (gap.high_db - gap.low_db) / 2
            if half <= half_width_db or (quick and blocks >= 2 * FEWEST_BLOCKS):
                break
    seconds = time.perf_counter() - begin
    scale = (half / half_width_db) ** 2 if quick else 1.0
    return blocks * BLOCK_SLOTS * scale, seconds * scale


def gap_cases(quick: bool, runs: int) -> list[dict[str, object]]:
    cases: list[dict[str, object]] = []
    for names, half_width_db in (
        (("LS", "LMMSE"), 0.1),
        (("LMMSE", "perfect CSI"), 0.2),
        (("LMMSE", "LMMSE-IRC"), 0.01),
    ):
        found: dict[str, list[tuple[float, float]]] = {design: [] for design in DESIGNS}
        for run in range(runs):
            for design, seed in DESIGNS.items():
                extrapolate = quick or (design != "same slots" and names[1] == "LMMSE-IRC")
                found[design].append(until_known(names, half_width_db, seed, run + 1, extrapolate))
        slots = {d: statistics.median(f[0] for f in found[d]) for d in DESIGNS}
        seconds = {d: statistics.median(f[1] for f in found[d]) for d in DESIGNS}
        cases.append({
            "case": f"{names[0]} - {names[1]} known to {half_width_db:g} dB", "slots": slots, "seconds": seconds,
            "ratio": slots["fresh slots"] / slots["same slots"],
            "ratio_own_slots": slots["own slots"] / slots["same slots"],
            "ratio_seconds": seconds["fresh slots"] / seconds["same slots"],
            "extrapolated": quick or names[1] == "LMMSE-IRC",
        })  # fmt: skip
    return cases


def leanrx(names: list[str], blocks: int) -> Callable[[], object]:
    evaluation = Evaluation(
        sinr_db=POINTS_DB, block_slots=BLOCK_SLOTS, min_slots=blocks * BLOCK_SLOTS, max_slots=blocks * BLOCK_SLOTS
    )
    receivers, slots = [RECEIVERS[n] for n in names], stream(1)

    def count() -> object:
        with tempfile.TemporaryDirectory() as folder:
            return list(count_errors(receivers, slots, evaluation, Path(folder) / "ber.parquet"))

    return count


def sionna(names: list[str], blocks: int) -> Callable[[], object]:
    from sionna.phy.utils import sim_ber

    slots_of = stream(1)

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
                chain(RECEIVERS[n]), torch.tensor(POINTS_DB), BLOCK_SLOTS, blocks, soft_estimates=True,
                early_stop=False, verbose=False, device="cpu",
            )
            for n in names
        ]  # fmt: skip

    return count


def seconds(make: Callable[[], object]) -> float:
    begin = time.perf_counter()
    make()
    return time.perf_counter() - begin


def counting_cases(quick: bool, runs: int) -> list[dict[str, object]]:
    cases: list[dict[str, object]] = []
    for names in (["LMMSE"], list(RECEIVERS)):
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
    parser.add_argument("--quick", action="store_true", help="extrapolate from 1024 slots; fewer repeats")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    runs = 3 if quick else 5
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
    headline = min(c["ratio"] for c in gaps)  # type: ignore[type-var]
    print(json.dumps({
        "bench": "ber", "peer": "independent runs, as sionna.phy.utils.sim_ber makes them", "ratio": headline,
        "runs": runs, "target_ber": TARGET_BER, "points_db": POINTS_DB, "cases": [*gaps, *counting],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
