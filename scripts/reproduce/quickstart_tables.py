"""Write what the quick start gave into README.md, docs/results.md and docs/ecal.md: tables, and figures of its report.

    leanrx sweep configs/quickstart.yaml
    python scripts/reproduce/quickstart_tables.py runs/quickstart

The main table of the report is kept in ``docs/data/quickstart.csv``, and what eCAL says of the students in
``docs/data/quickstart-ecal.csv``. Without a run, the script only writes the tables from these files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from leanrx.experiment.sweep_config import SweepConfig
from leanrx.report.formatting import interval, number
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content
from receivers.classical import GENIE_AIDED

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "quickstart.yaml"
KEPT = ROOT / "docs" / "data" / "quickstart.csv"
KEPT_ECAL = ROOT / "docs" / "data" / "quickstart-ecal.csv"
IMAGES = {"ber-interference-0.png": "quickstart-ber.png", "trade-off.png": "quickstart-trade-off.png"}
"""Figures of the report, and their names in ``docs/images``."""
ROLES = {"student": "student, distilled", "scratch": "scratch baseline", "classical": "classical", "teacher": "teacher"}


def main_table() -> pd.DataFrame:
    """The report's main table of the quick start, by receiver."""
    return pd.read_csv(KEPT).set_index("receiver", drop=False)


def readme_table() -> str:
    """LMMSE and the learned receivers that a newcomer looks at."""
    table = main_table()
    return _markdown(table[(table["receiver"] == "LMMSE") | table["role"].isin(["teacher", "student"])], short=True)


def results_table() -> str:
    """All receivers."""
    return _markdown(main_table(), short=False)


SHARES = ("teacher_j", "distillation_j", "development_j", "inference_j")
"""Columns of the parts of a student's joules: teacher, distillation, its own training and tests, and reception."""

COMPARISONS = {
    "running the teacher": "payback against running the teacher (95 %)",
    "LS": "against LS",
    "LMMSE": "against LMMSE",
    "the scratch baseline": "against the scratch baseline",
}
"""What students are compared with, and the headings."""


def ecal_table() -> str:
    """Joules of the students over their life, and when they pay back."""
    table = pd.read_csv(KEPT_ECAL)
    head = [f"J for {table['inferences'].iloc[0]:,} slots", "teacher / distillation / training and tests / reception"]
    head = ["student", *head, *COMPARISONS.values()]
    lines = []
    for student, rows in table.groupby("student", sort=False):
        first, paybacks = rows.iloc[0], rows.set_index("against")
        shares = " / ".join(f"{100 * first[column] / first['absolute_j']:.0f}" for column in SHARES)
        cells = [_payback(paybacks.loc[name], with_interval=index == 0) for index, name in enumerate(COMPARISONS)]
        name = str(student).removesuffix("-kd")
        lines.append([f"`{name}`", f"{first['absolute_j']:,.0f}", f"{shares} %", *cells])
    return markdown_table(head, lines, text_columns=1)


def _payback(row: pd.Series, with_interval: bool) -> str:
    if row["outcome"] != "payback":
        return str(row["outcome"])
    slots, low, high = (f"{float(f'{row[column]:.3g}'):,.0f}" for column in ("slots", "low", "high"))
    return f"{slots} slots" + f" ({low} to {high})" * with_interval


PAGES: dict[str, Callable[[], str]] = {
    "README.md": readme_table,
    "docs/results.md": results_table,
    "docs/ecal.md": ecal_table,
}


def page(path: str) -> str:
    """A page with the present table between its two marks.

    Raises:
        UserError: if the page has no marks.
    """
    return with_marked_content(ROOT / path, {"quick start": PAGES[path]()})


def _markdown(table: pd.DataFrame, short: bool) -> str:
    config = SweepConfig.load(CONFIG)
    head = ["receiver", "", "parameters", "MACs per slot", "mJ per slot", f"BER at {config.report.sinr_db:g} dB"]
    head += [] if short else [f"SINR for BER {config.report.target_ber:g}", "gain over scratch baseline"]
    return markdown_table(head, [_cells(row, config, short) for _, row in table.iterrows()], text_columns=2)


def _cells(row: pd.Series, config: SweepConfig, short: bool) -> list[str]:
    name = row["receiver"]
    shown = name if row["role"] == "classical" else f"`{_network(name, config)}`"
    ber = interval(row["ber"], row["ber_low"], row["ber_high"], "{:.3f}")
    role = "genie-aided" if name in GENIE_AIDED else ROLES[row["role"]]
    cells = [shown, role, f"{row['parameters']:,}" if row["parameters"] else ""]
    cells += [f"{row['macs_per_slot']:,}", number(1e3 * row["energy_j_per_slot"], "{:.2g}"), ber]
    if short:
        return cells
    low, high = row["gain_over_scratch_db_low"], row["gain_over_scratch_db_high"]
    gain = interval(row["gain_over_scratch_db"], low, high, "{:+.2f}")
    return [*cells, number(row["sinr_db_at_target"], "{:.1f} dB", "not reached"), gain and f"{gain} dB"]


def _network(name: str, config: SweepConfig) -> str:
    return config.teacher.receiver[0] if name == "teacher" else name.removesuffix("-kd").removesuffix("-scratch")


def keep(run: Path) -> None:
    """Keep the main table and the figures of a run's report."""
    report = run / "report"
    if not (report / "receivers.csv").is_file():
        raise UserError(f"{report}: has no receivers.csv; run: leanrx report {run}")
    write_atomic(KEPT, (report / "receivers.csv").read_text())
    write_atomic(KEPT_ECAL, _student_ecal(run).to_csv(index=False, float_format="%.6g"))
    for figure, image in IMAGES.items():
        write_atomic(ROOT / "docs" / "images" / image, (report / figure).read_bytes())


def _student_ecal(run: Path) -> pd.DataFrame:
    """One row per student and comparison, by the reference instrument of the run and its allocation of the teacher."""
    settings = json.loads((run / "ecal.json").read_text(encoding="utf-8"))
    instrument, allocation = settings["reference_instrument"], settings["settings"]["teacher_allocation"]
    joules = pd.read_csv(run / "report" / "life-cycle.csv").rename(columns={"receiver": "student"})
    joules = joules[(joules["method"] == instrument) & (joules["role"] == "student")]
    joules = joules.assign(development_j=joules["training_j"] + joules["evaluation_j"])
    paybacks = pd.read_csv(run / "report" / "payback.csv")
    is_allocated = (paybacks["teacher_allocation"] == allocation) & (paybacks["per"] == "slot")
    paybacks = paybacks[(paybacks["method"] == instrument) & is_allocated]
    scratch = paybacks["student"].str.removesuffix("-kd") + "-scratch"
    against = paybacks["against"].where(paybacks["against"] != scratch, "the scratch baseline")
    paybacks = paybacks.assign(against=against)[lambda table: table["against"].isin(COMPARISONS)]
    return joules[["student", "inferences", "absolute_j", *SHARES]].merge(
        paybacks[["student", "against", "outcome", "slots", "low", "high"]], on="student"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="a run folder of configs/quickstart.yaml with its report")
    arguments = parser.parse_args()
    try:
        if arguments.run:
            keep(arguments.run)
        for path in PAGES:
            write_atomic(ROOT / path, page(path))
    except UserError as error:
        sys.exit(f"quickstart_tables: {error}")


if __name__ == "__main__":
    main()
