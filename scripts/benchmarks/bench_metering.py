"""What metering costs: opening and closing every usable instrument, and the same work metered and unmetered.

Opening and closing is timed outside the window, and set against it. While the window is open, CodeCarbon samples in a
thread of its own: the CPU time of the process less that of the thread that works. Windows of the same work with and
without all instruments take turns; calls per second of the process' CPU time, which neighbours hardly disturb, are
compared, and the ratio is the median over pairs. perf counts cycles beside the instruments.

    python scripts/benchmarks/bench_metering.py [--seconds 5] [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.table import Table

from energy.metering.instruments import available, cycle_counter
from energy.metering.nvml import Nvml
from leanrx_core.errors import UserError

SIZE = 256


class Counter(Protocol):
    """An instrument, or perf."""

    def begin(self) -> None: ...
    def end(self) -> object: ...


def usable() -> dict[str, tuple[Counter, float]]:
    """By name, with the shortest window that each can say something about."""
    found: dict[str, tuple[Counter, float]] = {i.name: (i, i.shortest_s) for i in available(allow_model=True)}
    if torch.cuda.is_available():
        try:
            found["NVML"] = (nvml := Nvml()), nvml.shortest_s
        except UserError as error:
            print(error)
    if (perf := cycle_counter()) is not None:
        found["perf"] = perf, 0.1
    return found


def opening_s(counter: Counter, shortest_s: float, repeats: int) -> tuple[float, float]:
    """Median seconds of opening and of closing a window."""
    begins, ends = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        counter.begin()
        opened = time.perf_counter()
        time.sleep(shortest_s)
        closing = time.perf_counter()
        counter.end()
        begins.append(opened - start)
        ends.append(time.perf_counter() - closing)
    return statistics.median(begins), statistics.median(ends)


def rate_hz(work: Callable[[], object], counters: Sequence[Counter], duration_s: float) -> tuple[float, float]:
    """Calls per second of CPU time while the counters are open, and the share of other threads in the window."""
    for counter in counters:
        counter.begin()
    begin, process, thread, calls = time.perf_counter(), time.process_time(), time.thread_time(), 0
    while time.perf_counter() - begin < duration_s:
        work()
        calls += 1
    spent_s, process_s = time.perf_counter() - begin, time.process_time() - process
    others = (process_s - (time.thread_time() - thread)) / spent_s
    for counter in reversed(counters):
        counter.end()
    return calls / process_s, others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="window that the costs are set against")
    parser.add_argument("--quick", action="store_true", help="three pairs of windows in place of fifteen")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = 3 if options.quick else 15
    found = usable()
    table = Table("instrument", "open [ms]", "close [ms]", f"of a window of {options.seconds:g} s")
    cases: list[dict[str, Any]] = []
    for name, (counter, shortest_s) in found.items():
        begin_s, end_s = opening_s(counter, shortest_s, pairs)
        share = (begin_s + end_s) / options.seconds
        table.add_row(name, f"{1e3 * begin_s:.2f}", f"{1e3 * end_s:.2f}", f"{share:.2%}")
        cases.append({"case": f"open and close {name}", "begin_s": begin_s, "end_s": end_s, "share": share})
    a = torch.ones(SIZE, SIZE)
    counters, window_s = [c for c, _ in found.values()], max(1.5, *(s for _, s in found.values()))
    ratios, shares = [], []
    for index in range(pairs):
        order: list[list[Counter]] = [counters, []] if index % 2 else [[], counters]
        rates = {bool(open_): rate_hz(lambda: a @ a, open_, window_s) for open_ in order}
        ratios.append(rates[True][0] / rates[False][0])
        shares.append(rates[True][1] - rates[False][1])
    ratio = statistics.median(ratios)
    spread, background = statistics.stdev(ratios) / len(ratios) ** 0.5, statistics.median(shares)
    total = sum(case["share"] for case in cases)
    Console(width=120).print(table)
    print(f"all of them: {total:.2%} of the window to open and close (under 1 %: {'yes' if total < 0.01 else 'NO'})")
    print(
        f"while all windows are open, other threads take {background:.2%} of a core, and a second of CPU time does "
        f"{ratio:.4f} +- {spread:.4f} of the unmetered work (medians, standard error, {pairs} pairs of {window_s:g} s)"
    )
    cases.append(
        {
            "case": "work while open",
            "ratio": ratio,
            "standard_error": spread,
            "background_share": background,
            "window_s": window_s,
        }
    )
    peer = "the same work unmetered"
    print(json.dumps({"bench": "metering", "peer": peer, "ratio": ratio, "runs": pairs, "cases": cases}))


if __name__ == "__main__":
    main()
