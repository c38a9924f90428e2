"""Write what the family of hybrids gave into README.md and docs/results.md.

    leanrx sweep configs/family.yaml
    leanrx sweep configs/small.yaml
    python scripts/reproduce/family_tables.py runs/family runs/small

Both runs have the same teacher, and test on the same slots. A receiver of both has the row of the first one. The
numbers are kept in ``docs/data/family.csv``. Without a run, the script only writes the tables from this file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from leanrx.experiment.run import load_run
from leanrx.report.results import RunResults, run_results
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content

ROOT = Path(__file__).parents[2]
NUMBERS = ROOT / "docs" / "data" / "family.csv"
SINR_DB = (3.0, 9.0, 15.0, 21.0)
ROLES = {"teacher": "teacher", "student": "distilled", "scratch": "scratch baseline"}


def numbers(runs: Sequence[RunResults]) -> pd.DataFrame:
    """One row per receiver: sizes, energy, BER at ``SINR_DB``, and the comparisons of its variant."""
    return pd.concat([_of_run(results) for results in runs]).drop_duplicates("receiver", ignore_index=True)


def _of_run(results: RunResults) -> pd.DataFrame:
    point, comparisons = results.point, results.comparisons
    columns = ["receiver", "variant", "role", "parameters", "macs_per_slot"]
    columns += ["energy_j_per_slot", "provenance", "runtime"]
    table = results.receivers[[*columns, "sinr_db_at_target"]].rename(columns={"sinr_db_at_target": "required_sinr_db"})
    specs = comparisons.variants.set_index("variant")["spec"]
    table.insert(1, "spec", table["variant"].map(specs))
    rates = results.rates[results.rates["interference_fraction"] == point.interference_fraction]
    ber = rates.pivot(index="receiver", columns="sinr_db", values="ber")
    for value in SINR_DB:
        table[f"ber at {value:g} dB"] = table["receiver"].map(ber[value])
    for kind, gaps in (("gain", comparisons.gains), ("loss", comparisons.losses)):
        at_target = gaps[gaps["target_ber"] == point.target_ber].set_index("variant")
        for end in ("", "_low", "_high"):
            table[f"{kind}_db{end}"] = table["variant"].map(at_target[f"{kind}_db{end}"])
    table.insert(2, "target_ber", point.target_ber)
    return table


def readme_table(table: pd.DataFrame) -> str:
    """LMMSE, the teacher and its distilled students, with the BER at 15 dB."""
    shown = table[(table["receiver"] == "LMMSE") | table["role"].isin(["teacher", "student"])]
    return _markdown(shown, ["ber at 15 dB"])


def results_table(table: pd.DataFrame) -> str:
    """All receivers; several BERs in a cell are those of the seeds."""
    bers = [column for column in table.columns if column.startswith("ber at ")]
    target = f"{table['target_ber'].iloc[0]:g}"
    comparisons = [f"SINR [dB] for BER {target}", "loss to the teacher [dB]", "gain over scratch [dB]"]
    return _markdown(table, bers, comparisons)


def _markdown(table: pd.DataFrame, bers: list[str], comparisons: Sequence[str] = ()) -> str:
    headings = ["receiver", "parameters", "MACs per slot", "mJ per slot", *(c.replace("ber", "BER") for c in bers)]
    headings += comparisons
    groups = table.groupby("variant", sort=False)
    return markdown_table(headings, [_cells(rows, bers)[: len(headings)] for _, rows in groups])


def _cells(rows: pd.DataFrame, bers: list[str]) -> list[str]:
    first = rows.iloc[0]
    name = str(first["variant"]) if first["role"] not in ROLES else f"`{first['spec']}`, {ROLES[str(first['role'])]}"
    energy_mj = 1e3 * rows["energy_j_per_slot"].mean()
    return [
        name,
        f"{first['parameters']:,}" if first["parameters"] else "",
        f"{first['macs_per_slot']:,}",
        f"{energy_mj:.2g}" if pd.notna(energy_mj) else "",
        *(" ".join(f"{value:#.3g}" for value in rows[column]) for column in bers),
        " ".join(f"{value:.1f}" for value in rows["required_sinr_db"].dropna()) or "not reached",
        _gap(first, "loss"),
        _gap(first, "gain"),
    ]


def _gap(row: pd.Series, kind: str) -> str:
    value, low, high = (row[f"{kind}_db{end}"] for end in ("", "_low", "_high"))
    if pd.isna(value):
        return ""
    return f"{value:.2f} ({low:.2f} to {high:.2f})" if pd.notna(low) and pd.notna(high) else f"{value:.2f}"


PAGES: dict[str, Callable[[pd.DataFrame], str]] = {"README.md": readme_table, "docs/results.md": results_table}


def page(path: str) -> str:
    """A page with the present tables between their marks.

    Raises:
        UserError: if the page has no marks.
    """
    return with_marked_content(ROOT / path, {"family": PAGES[path](pd.read_csv(NUMBERS))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders of evaluated and metered runs with one teacher")
    arguments = parser.parse_args()
    try:
        if arguments.runs:
            table = numbers([run_results(load_run(run)) for run in arguments.runs])
            write_atomic(NUMBERS, table.to_csv(index=False, float_format="%.6g"))
        for path in PAGES:
            write_atomic(ROOT / path, page(path))
    except UserError as error:
        sys.exit(f"family_tables: {error}")


if __name__ == "__main__":
    main()
