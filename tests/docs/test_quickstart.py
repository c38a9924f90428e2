"""README and results state what the report of the quick start holds, and the configuration is the run's own."""

from __future__ import annotations

import doc_pages as pages
import pandas as pd
import pytest

from leanrx.experiment.plan import build_plan
from leanrx.experiment.sweep_config import SweepConfig
from scripts.reproduce import quickstart_tables


@pytest.mark.parametrize("path", quickstart_tables.PAGES)
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


def test_the_page_on_carbon_has_the_payback_of_the_smallest_student() -> None:
    rows = pd.read_csv(quickstart_tables.KEPT_ECAL).query("student == 'hybrid-w5-d5-kd'").set_index("against")
    row = rows.loc["running the teacher"]
    development_j, per_slot_j = row["absolute_j"] - row["inference_j"], row["inference_j"] / row["inferences"]
    slots = [development_j * (1 - share) / (share * per_slot_j) for share in (0.2, 0.1)]
    rounded = [float(f"{value:.3g}") for value in (row["slots"], row["slots"] * 23.7 / 659.8)]
    words = " ".join(pages.text(pages.ROOT / "docs" / "carbon.md").split())
    assert "{:,.0f} slots become {:,.0f} slots at 23.7 and 659.8 g/kWh".format(*rounded) in words
    million = [value / 1e6 for value in slots]
    assert "20 % after {:.2f} million slots and 10 % after {:.2f} million".format(*million) in words
    assert "These are {:.0f} and {:.0f} minutes".format(*(value / 60e3 for value in slots)) in words
