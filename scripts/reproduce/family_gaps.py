"""Write how the receivers of the family compare, with and without an interferer, into docs/results.md.

    leanrx sweep configs/family.yaml
    leanrx sweep configs/small.yaml
    python scripts/reproduce/family_gaps.py runs/family runs/small

The table has differences of the SINR that receivers need for the target BER, ratios of BERs at the highest SINR,
and the number of SINRs at which a network has a lower BER than LMMSE and LMMSE-IRC, with separate 95 % intervals. The
numbers are kept in ``docs/data/family-gaps.csv``. Without a run, the script only writes the table from this file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from leanrx.experiment.plan import Plan
from leanrx.experiment.run import Run, load_run
from leanrx.report.comparisons import scratch_pairs, teacher_pairs
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content
from receivers.evaluation.comparison import Comparison, Pairs, mean_gap_db, mean_ratio
from receivers.evaluation.rates import rates

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
NUMBERS = ROOT / "docs" / "data" / "family-gaps.csv"
BOUNDS = ("perfect CSI", "perfect CSI-IRC")
BASELINES = ("LMMSE", "LMMSE-IRC")
FORMS = {"dB": "{:.2f}", "ratio": "{:.2f}", "SINRs": "{:.0f}"}
"""Units of the values, and how they are written."""

Row = tuple[str, str, float, float, float]
"""Comparison, unit, value, and ends of its 95 % interval."""


def numbers(runs: Sequence[Run]) -> pd.DataFrame:
    """The comparisons of runs with one teacher, one row per comparison and interference fraction."""
    table = pd.concat([_of_run(run) for run in runs])
    return table.drop_duplicates(["interference_fraction", "comparison"], ignore_index=True)


def _of_run(run: Run) -> pd.DataFrame:
    counts, config = run.counts(), run.config
    rows = []
    for fraction in config.evaluation.interference_fractions:
        at_fraction = counts[counts["interference_fraction"] == fraction]
        rows += [(fraction, *row) for row in _gaps(at_fraction, run.plan, config.report.target_ber)]
        rows += [(fraction, *row) for row in _lower_bers(at_fraction, run.plan)]
    return pd.DataFrame(rows, columns=["interference_fraction", "comparison", "unit", "value", "low", "high"])


def _gaps(counts: pd.DataFrame, plan: Plan, target_ber: float) -> Iterator[Row]:
    names, highest_db = sorted(counts["receiver"].unique()), float(counts["sinr_db"].max())
    pairs: dict[str, Pairs] = {
        f"{_label(teacher.name, plan)}: SINR beyond {bound}": [(teacher.name, bound)]
        for teacher in plan.neural
        if teacher.role == "teacher"
        for bound in BOUNDS
        if bound in names
    }
    to_teacher, to_scratch = teacher_pairs(names, plan), scratch_pairs(names, plan)
    pairs |= {f"{_label(name, plan)}: loss to the teacher": pair for name, pair in to_teacher.items()}
    pairs |= {f"{_label(name, plan)}: gain over scratch": pair for name, pair in to_scratch.items()}
    for text, pair in pairs.items():
        yield _row(text, "dB", mean_gap_db(_of(counts, pair), pair, target_ber))
    for name, pair in to_scratch.items():
        text = f"{_label(name, plan)}: BER of scratch over BER, {highest_db:g} dB"
        yield _row(text, "ratio", mean_ratio(_of(counts, pair), pair, highest_db))


def _of(counts: pd.DataFrame, pairs: Pairs) -> pd.DataFrame:
    return counts[counts["receiver"].isin({name for pair in pairs for name in pair})]


def _row(text: str, unit: str, comparison: Comparison) -> Row:
    return text, unit, comparison.value, comparison.low, comparison.high


def _lower_bers(counts: pd.DataFrame, plan: Plan) -> Iterator[Row]:
    """SINRs at which a network has a lower BER than both baselines; fewest and most over its trainings."""
    table = rates(counts).set_index(["receiver", "sinr_db"])
    limit = np.minimum(*(table.loc[name, "ber_low"] for name in BASELINES))
    for spec in dict.fromkeys(record.spec for record in plan.neural):
        wins = [int((table.loc[r.name, "ber_high"] < limit).sum()) for r in plan.neural if r.spec == spec]
        trainings = f"{len(wins)} training{'s' if len(wins) > 1 else ''}"
        yield f"`{spec}`: SINRs of {len(limit)} below LMMSE, {trainings}", "SINRs", min(wins), min(wins), max(wins)


def _label(variant: str, plan: Plan) -> str:
    record = next(r for r in plan.neural if variant in (r.name, r.variant))
    role = {"student": "distilled", "scratch": "scratch baseline"}.get(record.role, record.role)
    return f"`{record.spec}`, {role}"


def markdown(table: pd.DataFrame) -> str:
    """One row per comparison, with a column for each interference fraction."""
    fractions = sorted(table["interference_fraction"].unique())
    head = ["comparison", *("with an interferer" if fraction else "without interferer" for fraction in fractions)]
    rows = []
    for name, group in table.groupby("comparison", sort=False):
        by_fraction = group.set_index("interference_fraction")
        rows.append([str(name), *(_cell(by_fraction.loc[fraction]) for fraction in fractions)])
    return markdown_table(head, rows)


def _cell(row: pd.Series) -> str:
    if pd.isna(row["value"]):
        return "not reached"
    form = FORMS[str(row["unit"])].format
    if row["unit"] == "SINRs":
        return form(row["low"]) if row["low"] == row["high"] else f"{form(row['low'])} to {form(row['high'])}"
    unit = " dB" if row["unit"] == "dB" else ""
    interval = "" if pd.isna(row["low"]) else f" ({form(row['low'])} to {form(row['high'])})"
    return f"{form(row['value'])}{unit}{interval}"


def page() -> str:
    """The page with the present table between its marks.

    Raises:
        UserError: if the page has no marks.
    """
    return with_marked_content(PAGE, {"family gaps": markdown(pd.read_csv(NUMBERS))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders of evaluated runs with one teacher")
    arguments = parser.parse_args()
    try:
        if arguments.runs:
            table = numbers([load_run(run) for run in arguments.runs])
            write_atomic(NUMBERS, table.to_csv(index=False, float_format="%.6g"))
        write_atomic(PAGE, page())
    except UserError as error:
        sys.exit(f"family_gaps: {error}")


if __name__ == "__main__":
    main()
