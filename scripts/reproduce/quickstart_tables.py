"""Write what the quick start gave into README.md and docs/results.md: tables, and figures from the run's report.

    leanrx sweep configs/quickstart.yaml
    python scripts/reproduce/quickstart_tables.py runs/quickstart

The main table of the report is kept in ``docs/data/quickstart.csv``. Without a run, the script only writes the tables
from this file.
"""

from __future__ import annotations

import argparse
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


PAGES: dict[str, Callable[[], str]] = {"README.md": readme_table, "docs/results.md": results_table}


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
    for figure, image in IMAGES.items():
        write_atomic(ROOT / "docs" / "images" / image, (report / figure).read_bytes())


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
