"""Write the times of exported files into docs/results.md.

    python scripts/benchmarks/bench_latency.py --march x86-64-v3 --slots 100 > runtimes.txt
    python scripts/benchmarks/bench_latency.py tdl-6prb-hybrid-w5-d5-kd --march x86-64-v3 --c-only --cadence \
        --real-time --slots 500 --rounds 180 --prb 26 > quiet.txt
    python scripts/reproduce/latency_tables.py runtimes.txt quiet.txt

The table also has outputs beside other programs, with ``--rounds 400 --prb 26`` and ``--rounds 200 --prb 6``.

The numbers are kept in ``docs/data/latency.csv``. Without an output, the script only writes the tables from this file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
NUMBERS = ROOT / "docs" / "data" / "latency.csv"
SETTINGS = ("cpu", "cores", "load", "real_time", "march", "cadence")
QUANTILES = {"median": "median_s", "99 %": "q99_s", "99.9 %": "q999_s", "most": "most_s"}
"""Columns of the numbers, by their names in an output."""
HEADINGS = ("median, us", "99 %, us", "99.9 %, us", "maximum, us")


IRC = "LMMSE-IRC in "
"""Begin of the runtimes of LMMSE-IRC."""


def numbers(paths: Sequence[str]) -> pd.DataFrame:
    """One row per receiver, bandwidth and runtime of each output.

    Raises:
        UserError: if a file is no output of ``bench_latency.py``.
    """
    rows = []
    for path in paths:
        try:
            answer = json.loads(Path(path).read_text(encoding="utf-8").splitlines()[-1])
            for case in answer["cases"]:
                row = {name: answer[name] for name in SETTINGS}
                row |= {name: case[name] for name in ("receiver", "num_prb", "runtime", "calls", "misses")}
                row |= {column: case["seconds"][name] for name, column in QUANTILES.items()}
                row |= {"least_cpu_s": case["least_cpu_s"], "cpu_over_c": case["cpu_over_c"]}
                row |= {"start_s": case.get("start_s")}
                rows.append(row)
        except (OSError, ValueError, IndexError, KeyError, TypeError):
            raise UserError(f"{path}: is no output of bench_latency.py; run it with '> {path}'") from None
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """Both tables: all runtimes in turns, then C files at one slot per millisecond."""
    turns, cadence = table[~table["cadence"]], table[table["cadence"]]
    heads = ["receiver", "runtime", "PRB", "median, us", "CPU, us", "CPU over C", "above 1 ms", "first call, ms"]
    rows = [
        [
            *_receiver_and_runtime(row.receiver, row.runtime),
            str(row.num_prb),
            _micro(row.median_s),
            _micro(row.least_cpu_s),
            f"{row.cpu_over_c:.2f}",
            f"{row.misses:,} of {row.calls:,}",
            "" if pd.isna(row.start_s) else f"{1e3 * row.start_s:.1f}",
        ]
        for row in turns.itertuples()
    ]
    slot_heads = ["receiver", "PRB", "load average", *HEADINGS, "CPU, us", "above 1 ms"]
    slot_rows = [
        [
            _receiver_and_runtime(row.receiver, row.runtime)[0],
            str(row.num_prb),
            f"{row.load:.1f}",
            *(_micro(getattr(row, column)) for column in QUANTILES.values()),
            _micro(row.least_cpu_s),
            f"{row.misses:,} of {row.calls:,}",
        ]
        for row in cadence.itertuples()
    ]
    return "\n\n".join(
        [
            _conditions(turns) + " All runtimes take turns:",
            markdown_table(heads, rows, 2),
            _conditions(cadence) + " A slot begins every millisecond:",
            markdown_table(slot_heads, slot_rows),
        ]
    )


def _conditions(table: pd.DataFrame) -> str:
    machines, march = (", ".join(table[name].unique()) for name in ("cpu", "march"))
    cores = table["cores"].max()
    loads = " to ".join(dict.fromkeys(f"{load:.1f}" for load in (table["load"].min(), table["load"].max())))
    priority = " The receivers had a real-time priority." if table["real_time"].all() else ""
    return (
        f"The CPU is {machines}, with {cores} cores. The load average before the test was {loads}."
        f"{priority} C files are compiled for `{march}`."
    )


def _receiver_and_runtime(receiver: str, runtime: str) -> tuple[str, str]:
    """Both in words: LMMSE-IRC is timed beside each receiver."""
    if runtime.startswith(IRC):
        return "LMMSE-IRC", runtime.removeprefix(IRC)
    return f"`{receiver}`", runtime.replace("as shipped", "default threads")


def _micro(value: float) -> str:
    return f"{1e6 * value:.0f}"


def page() -> str:
    """The page with the present tables between their marks.

    Raises:
        UserError: if the page has no marks.
    """
    return with_marked_content(PAGE, {"latency": markdown(pd.read_csv(NUMBERS))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", nargs="*", metavar="OUTPUT", help="of bench_latency.py")
    arguments = parser.parse_args()
    try:
        if arguments.outputs:
            write_atomic(NUMBERS, numbers(arguments.outputs).to_csv(index=False, float_format="%.6g"))
        write_atomic(PAGE, page())
    except UserError as error:
        sys.exit(f"latency_tables: {error}")


if __name__ == "__main__":
    main()
