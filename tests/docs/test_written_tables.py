"""Tables in pages are what their commands write from the numbers in ``docs/data``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from leanrx_core.errors import UserError
from leanrx_core.markdown import with_marked_content
from scripts.reproduce import early_exit, family_gaps, file_energy_tables, table_fig6a


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (early_exit.PAGE, early_exit.page),
        (family_gaps.PAGE, family_gaps.page),
        (file_energy_tables.PAGE, file_energy_tables.page),
        (table_fig6a.PAGE, table_fig6a.page),
        (table_fig6a.PAGE, table_fig6a.family_page),
    ],
)
def test_the_page_is_what_the_command_writes(page: Path, text: Callable[[], str]) -> None:
    assert page.read_text(encoding="utf-8") == text()


def test_joules_over_macs_by_hand() -> None:
    """Twice the MACs for three times the joules is a factor of 1.5; a network without a C file is left out."""
    common = {"batch_slots": 1, "provenance": "modelled", "method": "x", "machine": "m", "duration_s_per_slot": 1e-3}
    rows = [
        {"network": "hybrid-a", "runtime": "c", "macs_per_slot": 200, "energy_j_per_slot": 3e-3, **common},
        {"network": "hybrid-b", "runtime": "c", "macs_per_slot": 100, "energy_j_per_slot": 0.8e-3, **common},
        {"network": "hybrid-b", "runtime": "c", "macs_per_slot": 100, "energy_j_per_slot": 1.2e-3, **common},
        {"network": "deeprx", "runtime": "onnx-fp32", "macs_per_slot": 9, "energy_j_per_slot": 1.0, **common},
    ]
    means = file_energy_tables.networks(pd.DataFrame(rows))
    assert list(file_energy_tables.energy_over_macs(means)) == [("hybrid-a", "hybrid-b", pytest.approx(1.5))]
    text = file_energy_tables.markdown(pd.DataFrame(rows))
    assert "| `hybrid-a` | 200 | 1 | 3 | 15000000 | 1.50 |  |  |" in text
    assert "a model times time" in text


def test_the_ratio_of_joules_is_within_a_half_of_that_of_macs() -> None:
    means = file_energy_tables.networks(pd.read_csv(file_energy_tables.NUMBERS))
    assert len(means) >= 5
    assert max(ratio for *_, ratio in file_energy_tables.energy_over_macs(means)) <= 1.5


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(UserError, match="has no marks 'x: begin' and 'x: end'"):
        with_marked_content(page, "x", "y")
