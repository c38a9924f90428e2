"""README and results state what the report of the quick start holds, and the configuration is the run's own."""

from __future__ import annotations

import doc_pages as pages
import pytest

from leanrx.experiment.plan import build_plan
from leanrx.experiment.sweep_config import SweepConfig
from scripts.reproduce import quickstart_tables


@pytest.mark.parametrize("path", ["README.md", "docs/results.md"])
def test_pages_hold_the_table_of_the_run(path: str) -> None:
    assert quickstart_tables.page(path) == pages.text(pages.ROOT / path)


def test_table_has_the_receivers_of_the_configuration() -> None:
    table = quickstart_tables.main_table()
    trained = {record.name for record in build_plan(SweepConfig.load(quickstart_tables.CONFIG)).neural}
    assert {name for name in table["receiver"] if table.loc[name, "role"] != "classical"} == trained


def test_smallest_student_receives_better_than_lmmse() -> None:
    table = quickstart_tables.main_table()
    assert table.loc["hybrid-w5-d5-kd", "ber_high"] < table.loc["LMMSE", "ber_low"]
    assert table.loc["hybrid-w5-d5-kd", "parameters"] == table["parameters"][table["parameters"] > 0].min()
