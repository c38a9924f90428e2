"""Write the joules, times and MACs of exported files into docs/results.md.

    leanrx sweep configs/family.yaml
    leanrx export runs/family hybrid-w5-d5-kd-s1
    leanrx energy runs/family
    leanrx sweep configs/small.yaml
    python scripts/reproduce/file_energy_tables.py runs/family runs/small

``leanrx energy`` meters C files of all receivers that have a C form, and the ONNX files that were exported. Both runs
have the same teacher, and a receiver of both has the rows of the first one. The numbers are kept in
``docs/data/file-energy.csv``. Without a run, the script only writes the table from this file.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd

from energy.metering.table import file_rows, reference_instrument
from energy.metering.workloads import C_RUNTIME
from leanrx.experiment.run import Run, load_run
from leanrx.experiment.workflow import all_receivers, operation_profiles
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
NUMBERS = ROOT / "docs" / "data" / "file-energy.csv"
ONNX_RUNTIME = "onnx-fp32"
ROLES = ("classical", "teacher", "student")
"""Roles of the receivers in the table: scratch baselines are the same networks as students."""

GOAL_RATIO = 1.5
"""Goal: the ratio of joules of any two networks is within this factor of the ratio of their MACs."""


def numbers(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per receiver and runtime, with one slot a call or as few as were metered.

    Raises:
        UserError: if a run has no metered C file.
    """
    table = pd.concat([_of_run(run) for run in runs]).drop_duplicates(["receiver", "runtime"])
    return table.sort_values(["macs_per_slot", "receiver", "runtime"])


def _of_run(run: Run) -> pd.DataFrame:
    table = run.energy()
    rows = file_rows(table)
    rows = rows[rows["method"] == reference_instrument(table, run.config.metering.reference_instrument)]
    rows = rows[rows["runtime"].isin([C_RUNTIME, ONNX_RUNTIME])].sort_values("batch_slots", kind="stable")
    rows = rows.drop_duplicates(["receiver", "runtime"])
    records = {name: run.plan[name] for name in rows["receiver"].unique()}
    rows = rows[[records[name].role in ROLES for name in rows["receiver"]]]
    if not (rows["runtime"] == C_RUNTIME).any():
        raise UserError(f"{run.folder}: no C file was metered; run: leanrx energy {run.folder}")
    receivers = [r for r in all_receivers(run, "cpu") if r.name in set(rows["receiver"])]
    macs = {name: profile.macs for name, profile in operation_profiles(run, receivers).items()}
    return pd.DataFrame(
        {
            "receiver": rows["receiver"],
            "network": [records[name].spec or name for name in rows["receiver"]],
            "macs_per_slot": rows["receiver"].map(macs),
            "runtime": rows["runtime"],
            "batch_slots": rows["batch_slots"],
            "method": rows["method"],
            "provenance": rows["provenance"],
            "machine": rows["machine"],
            "energy_j_per_slot": rows["energy_j"] / rows["slots"],
            "duration_s_per_slot": rows["duration_s"] / rows["slots"],
        }
    )


def networks(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds by network: MACs, and energy and time by runtime; NaN where none was metered."""
    values = ["energy_j_per_slot", "duration_s_per_slot"]
    means = table.pivot_table(index="network", columns="runtime", values=values)
    means.columns = [f"{value} {runtime}" for value, runtime in means.columns]
    for value in values:
        if f"{value} {ONNX_RUNTIME}" not in means:
            means[f"{value} {ONNX_RUNTIME}"] = float("nan")
    means.insert(0, "macs_per_slot", table.groupby("network")["macs_per_slot"].first())
    return means.dropna(subset=[f"energy_j_per_slot {C_RUNTIME}"]).sort_values("macs_per_slot", ascending=False)


def energy_over_macs(means: pd.DataFrame) -> Iterator[tuple[str, str, float]]:
    """Of every two networks, the ratio of their joules in C over the ratio of their MACs, above 1 by their order."""
    j_per_mac = means[f"energy_j_per_slot {C_RUNTIME}"] / means["macs_per_slot"]
    for a, b in combinations(means.index, 2):
        larger, smaller = (a, b) if j_per_mac[a] >= j_per_mac[b] else (b, a)
        yield larger, smaller, float(j_per_mac[larger] / j_per_mac[smaller])


def markdown(table: pd.DataFrame) -> str:
    """The table, and what it says in sentences."""
    means = networks(table)
    learned = [name for name in means.index if name.startswith(("hybrid", "deeprx"))]
    reference = learned[-1]
    unit = means.loc[reference, f"energy_j_per_slot {C_RUNTIME}"] / means.loc[reference, "macs_per_slot"]
    head = [
        *("receiver", "MACs per slot", "C: ms per slot", "C: mJ per slot", "C: pJ per MAC"),
        *(f"joules over MACs, relative to `{reference}`", "ONNX: ms per slot", "ONNX: mJ per slot"),
    ]
    rows = []
    for name, row in means.iterrows():
        j_per_mac = row[f"energy_j_per_slot {C_RUNTIME}"] / row["macs_per_slot"]
        cells = [f"`{name}`" if name in learned else str(name), f"{row['macs_per_slot']:,.0f}"]
        cells += [_milli(row[f"{value}_per_slot {C_RUNTIME}"]) for value in ("duration_s", "energy_j")]
        cells += [f"{1e12 * j_per_mac:.0f}", f"{j_per_mac / unit:.2f}"]
        cells += [_milli(row[f"{value}_per_slot {ONNX_RUNTIME}"]) for value in ("duration_s", "energy_j")]
        rows.append(cells)
    text = textwrap.fill(" ".join(_sentences(table, means, learned)), 120)
    return f"{markdown_table(head, rows)}\n\n{text}"


def _milli(value: float) -> str:
    return "" if pd.isna(value) else f"{1e3 * value:.3g}"


def _sentences(table: pd.DataFrame, means: pd.DataFrame, learned: Sequence[str]) -> Iterator[str]:
    machines = ", ".join(dict.fromkeys(table["machine"]))
    provenance = "measured" if (table["provenance"] == "measured").all() else "modelled"
    methods = ", ".join(dict.fromkeys(table["method"]))
    yield f"The machine is {machines}. Joules are {provenance} by {methods}."
    if provenance != "measured":
        yield "This is a model times time: the assumed power of the CPU times the CPU time of the call."
    calls = " or ".join(str(n) for n in sorted(table.loc[table["runtime"] == C_RUNTIME, "batch_slots"].unique()))
    yield f"A call of a C file has {calls} slot{'' if calls == '1' else 's, one after the other'}."
    pairs = list(energy_over_macs(means))
    for group, text in ((learned, "two networks"), (list(means.index), "two receivers of the table")):
        chosen = [pair for pair in pairs if pair[0] in group and pair[1] in group]
        if chosen:
            larger, smaller, ratio = max(chosen, key=lambda pair: pair[2])
            yield (
                f"For any {text}, the ratio of joules is within a factor of {ratio:.2f} of the ratio of MACs. The "
                f"largest factor is that of {larger} and {smaller}."
            )
    networks_apart = [ratio for larger, smaller, ratio in pairs if larger in learned and smaller in learned]
    if networks_apart:
        verdict = "met" if max(networks_apart) <= GOAL_RATIO else "**not met**"
        yield f"We aimed at a factor of at most {GOAL_RATIO:g} for any two networks. This goal is {verdict}."


def page() -> str:
    """The page with the present table between its marks.

    Raises:
        UserError: if the page has no marks.
    """
    return with_marked_content(PAGE, {"file energy": markdown(pd.read_csv(NUMBERS))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders of runs that were metered by leanrx energy")
    arguments = parser.parse_args()
    try:
        if arguments.runs:
            table = numbers([load_run(run) for run in arguments.runs])
            write_atomic(NUMBERS, table.to_csv(index=False, float_format="%.6g"))
        write_atomic(PAGE, page())
    except UserError as error:
        sys.exit(f"file_energy_tables: {error}")


if __name__ == "__main__":
    main()
