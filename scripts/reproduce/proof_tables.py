"""Write the verdicts of ``leanrx verify`` on exported files into docs/receivers.md.

    leanrx export tdl-6prb-hybrid-w5-d5-kd --format c
    leanrx verify exports/tdl-6prb-hybrid-w5-d5-kd-c
    python scripts/reproduce/proof_tables.py exports/tdl-6prb-hybrid-w5-d5-kd-c

Each argument is the folder of an export with its folder ``verification``. The numbers are kept in
``docs/data/proofs.csv``, where a new verdict replaces that of a file of the same name. Without an argument, the script
only writes the table from this file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from leanrx.experiment.file_verification import FOLDER
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "receivers.md"
NUMBERS = ROOT / "docs" / "data" / "proofs.csv"
FORMATS = {".c": "C", ".onnx": "ONNX", ".tflite": "LiteRT"}
ARITHMETIC = {"float": "float32", "fp16": "float16", "int8": "int8"}
"""Types of the table, by the arithmetic in a verdict."""


def verdicts(folders: Sequence[str]) -> pd.DataFrame:
    """One row per exported file and interference fraction.

    Raises:
        UserError: if a folder has no verdict, or a verdict without a count.
    """
    rows: list[dict[str, Any]] = []
    for folder in folders:
        paths = sorted((Path(folder) / FOLDER).glob("*.json"))
        if not paths:
            raise UserError(f"{folder}: has no {FOLDER}/*.json; run 'leanrx verify' on it")
        for path in paths:
            verdict = json.loads(path.read_text(encoding="utf-8"))
            file, receiver = verdict["file"], verdict["receiver"]
            slots = sum(p["slots"] for p in verdict["points"] if p["receiver"] == file["name"])
            tests = [test for test in verdict["tests"] if test["measure"] == "BER"]
            if not tests:
                raise UserError(f"{path}: has no count of errors; run 'leanrx verify' on the file again")
            for test in tests:
                row = {"receiver": receiver["name"], "file": file["name"], "arithmetic": file["arithmetic"]}
                row |= {"digest": file["digest"], "slots": slots, "proven": verdict["proven"]}
                row |= {x: test[x] for x in ("interference_fraction", "target", "margin_db")}
                rows.append(row | {x: test[x] for x in ("gap_db", "low_db", "high_db")})
    return pd.DataFrame(rows)


def merge(present: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The present verdicts, with those of files of the same name replaced."""
    table = pd.concat([present[~present["file"].isin(new["file"])], new])
    table["suffix"] = [Path(file).suffix for file in table["file"]]
    order = ["receiver", "suffix", "arithmetic", "interference_fraction"]
    return table.sort_values(order, ignore_index=True).drop(columns="suffix")


def markdown(table: pd.DataFrame) -> str:
    """A row per file, with its gaps without and with an interferer."""
    heads = ["receiver", "format", "type", "slots", "BER", "gap without interferer, dB", "with an interferer, dB"]
    heads += ["allowed, dB", "proven"]
    rows = []
    for (receiver, file), group in table.groupby(["receiver", "file"], sort=False):
        first = group.iloc[0]
        gaps = {bool(row.interference_fraction): _gap(row) for row in group.itertuples()}
        rows.append(
            [
                f"`{receiver}`",
                FORMATS[Path(file).suffix],
                ARITHMETIC[first.arithmetic],
                f"{first.slots:,}",
                f"{first.target:g}",
                gaps[False],
                gaps.get(True, ""),
                f"{first.margin_db:g}",
                "yes" if first.proven else "no",
            ]
        )
    return markdown_table(heads, rows, text_columns=3)


def _gap(row: Any) -> str:
    gap, low, high = (f"{round(value, 4) + 0.0:.4f}" for value in (row.gap_db, row.low_db, row.high_db))  # no -0.0000
    return f"{gap} ({low} to {high})"


def page() -> str:
    """The page with the present table between its marks.

    Raises:
        UserError: if the page has no marks.
    """
    return with_marked_content(PAGE, {"proofs": markdown(pd.read_csv(NUMBERS))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="of an export")
    arguments = parser.parse_args()
    try:
        if arguments.folders:
            table = merge(pd.read_csv(NUMBERS), verdicts(arguments.folders))
            write_atomic(NUMBERS, table.to_csv(index=False, float_format="%.6g"))
        write_atomic(PAGE, page())
    except UserError as error:
        sys.exit(f"proof_tables: {error}")


if __name__ == "__main__":
    main()
