"""Cells of the page's tables, and tables as the page takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def number(value: float, form: str, missing: str = "") -> str:
    """A number, or ``missing`` for NaN."""
    return missing if np.isnan(value) else form.format(value)


def interval(value: float, low: float, high: float, form: str) -> str:
    """A number and the ends of its interval, as far as they are known."""
    if np.isnan(value):
        return ""
    if np.isnan(low):
        return form.format(value)
    return f"{form.format(value)} ({form.format(low)} to {form.format(high)})"


def table(head: list[str], rows: list[list[str]], note: str = "", files: Sequence[str] = ()) -> dict[str, Any]:
    """A table with a note and links to its files."""
    names = {file: "CSV" if len(files) == 1 else file for file in files}
    link = " ".join(f'<a href="{file}">{name}</a>' for file, name in names.items())
    return {"head": head, "rows": rows, "note": note, "link": link}
