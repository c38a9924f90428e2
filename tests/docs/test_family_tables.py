"""The tables of the family in README.md and docs/results.md are those of ``docs/data/family.csv``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from scripts.reproduce import family_tables

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", ["README.md", "docs/results.md"])
def test_the_page_is_what_the_script_writes(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == family_tables.page(path)


def test_seeds_share_a_row() -> None:
    common = {"spec": "hybrid-w4-d2", "target_ber": 0.01, "variant": "v", "role": "student", "parameters": 1234}
    common |= {"macs_per_slot": 5678, "energy_j_per_slot": 0.002, "gain_db": 0.5, "gain_db_low": 0.25}
    common |= {"gain_db_high": 0.75, "loss_db": None, "loss_db_low": None, "loss_db_high": None}
    seeds = [{**common, "required_sinr_db": 12.04, "ber at 9 dB": 0.0512}, {**common, "ber at 9 dB": 0.049}]
    row = family_tables.results_table(pd.DataFrame(seeds)).splitlines()[2]
    cells = ["`hybrid-w4-d2`, distilled", "1,234", "5,678", "2", "0.0512 0.0490", "12.0", "", "0.50 (0.25 to 0.75)"]
    assert row == "| " + " | ".join(cells) + " |"
