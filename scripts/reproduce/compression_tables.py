"""Write what few-bit weights and fewer channels do to hybrids into docs/receivers.md.

    python scripts/reproduce/few_bits.py runs/family
    python scripts/reproduce/compression_tables.py

The numbers are in ``docs/data/compression.csv`` and ``docs/data/compression-ber.csv``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "receivers.md"
NUMBERS = ROOT / "docs" / "data" / "compression.csv"
BERS = ROOT / "docs" / "data" / "compression-ber.csv"
LARGE = "hybrid-w13-d8"


def few_bits(table: pd.DataFrame) -> str:
    """One row per network and form of its weights."""
    target = f"{table['target_ber'].iloc[0]:g}"
    head = ["network", "weights", "steps", "bytes of weights", "bytes of the C file", "time over float"]
    head += [f"loss at BER {target}"]
    rows = []
    for _, row in table[~table["form"].str.startswith("pruned")].iterrows():
        reference = _row(table, row["network"], "float")
        cells = [f"`{row['network']}`", row["form"], f"{row['steps']}", f"{row['weight_bytes']:,}"]
        cells += [f"{row['file_bytes']:,}", f"{row['wall_s'] / reference['wall_s']:.2f}"]
        rows.append([*cells, _gap(row, "loss_db")])
    return markdown_table(head, rows, text_columns=2)


def fewer_channels(table: pd.DataFrame) -> str:
    """One row per pruned network, and those of the family beside them."""
    target = f"{table['target_ber'].iloc[0]:g}"
    head = ["network", "training", "steps", "MACs per slot", "bytes of the C file", f"time over `{LARGE}`"]
    head += [f"loss to `{LARGE}` at BER {target}", "loss to distillation with equal steps"]
    reference, forms = _row(table, LARGE, "float"), ("float", "float, more steps", "pruned", "pruned, trained")
    rows = []
    for _, row in (
        table[table["form"].isin(forms)].sort_values("macs_per_slot", ascending=False, kind="stable").iterrows()
    ):
        form = row["form"].replace("float, more steps", "distilled, more steps").replace("float", "distilled")
        cells = [f"`{row['network']}`", form, f"{row['steps']}", f"{row['macs_per_slot']:,}", f"{row['file_bytes']:,}"]
        cells += [f"{row['wall_s'] / reference['wall_s']:.2f}"]
        cells += [_gap(row, "large_db"), _gap(row, "equal_steps_db")]
        rows.append(cells)
    return markdown_table(head, rows, text_columns=2)


def bers(table: pd.DataFrame) -> str:
    """BER of each form over SINR, over all seeds."""
    by_sinr = table.pivot_table(index=["network", "form"], columns="sinr_db", values="ber", sort=False)
    rows = [
        [f"`{network}`", form, *(f"{row[sinr_db]:#.3g}" for sinr_db in by_sinr)]
        for (network, form), row in by_sinr.iterrows()
    ]
    return markdown_table(["network", "form", *(f"{sinr_db:g} dB" for sinr_db in by_sinr)], rows, text_columns=2)


def _row(table: pd.DataFrame, network: str, form: str) -> pd.Series:
    return table[(table["network"] == network) & (table["form"] == form)].iloc[0]


def _gap(row: pd.Series, column: str) -> str:
    """A gap with its interval, or a lower bound of a gap; empty for the reference itself."""
    if pd.isna(row[column]):
        return "" if pd.isna(row[f"{column}_bound"]) else f"at least {row[f'{column}_bound']:.1f} dB"
    value, low, high = (f"{row[name]:.2f}" for name in (column, f"{column}_low", f"{column}_high"))
    return f"{value} dB ({low} to {high})"


def page() -> str:
    """The page with the present tables between their marks.

    Raises:
        UserError: if the page has no marks.
    """
    numbers = pd.read_csv(NUMBERS)
    tables = {"few bits": few_bits(numbers), "fewer channels": fewer_channels(numbers)}
    return with_marked_content(PAGE, tables | {"compression ber": bers(pd.read_csv(BERS))})


def main() -> None:
    try:
        write_atomic(PAGE, page())
    except UserError as error:
        sys.exit(f"compression_tables: {error}")


if __name__ == "__main__":
    main()
