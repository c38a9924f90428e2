"""Cells and tables of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PageTable:
    """A table of the page.

    Attributes:
        head: names of the columns, with units.
        rows: texts of the cells, as long as ``head``.
        note: sentences below the table.
        files: CSV files with the same results, beside the page.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    files: Sequence[str] = ()

    @property
    def links(self) -> list[tuple[str, str]]:
        """File and text of each link."""
        return [(file, "CSV" if len(self.files) == 1 else file) for file in self.files]


def number(value: float, form: str, missing: str = "") -> str:
    """A number, or ``missing`` for NaN.

    >>> number(0.1234, "{:.2f}"), number(float("nan"), "{:.2f}", "none")
    ('0.12', 'none')
    """
    return missing if math.isnan(value) else form.format(value)


def interval(value: float, low: float, high: float, form: str) -> str:
    """A number with the ends of its interval, as far as they are known.

    >>> interval(1.5, 1.0, 2.0, "{:+.1f}"), interval(1.5, float("nan"), float("nan"), "{:+.1f}")
    ('+1.5 (+1.0 to +2.0)', '+1.5')
    """
    if math.isnan(value):
        return ""
    if math.isnan(low):
        return form.format(value)
    return f"{form.format(value)} ({form.format(low)} to {form.format(high)})"
