"""The study of few-bit weights and fewer channels: its bytes by hand, its comparisons, and its tables."""

from __future__ import annotations

import math
from typing import Any

import doc_pages as pages
import pandas as pd
import pytest

from receivers import build
from scripts.reproduce import compression_tables

study = pages.script("compression_study")
SMALL, LARGE = study.SMALL, study.LARGE

ENDS = ("", "_low", "_high", "_bound")
"""Suffixes of the columns of a gap."""

FORMS = ("int8, rounded", "int4, rounded", "int4, trained")


def test_bytes_of_weights_by_hand() -> None:
    """16 and 6 inputs, 6 inner channels of 5x3 taps, 7 outputs; then a last layer of 2 inputs and 8 outputs."""
    net = build("hybrid-w2-d1")
    weights, channels, last = 16 * 6 + 15 * 6 + 6 * 7, 6 + 6 + 7, 2 * 8 + 8
    assert study.weight_bytes(net, None) == 4 * (weights + channels + last)
    scales_and_biases = 4 * 2 * channels  # for each channel
    assert study.weight_bytes(net, 4) == weights / 2 + scales_and_biases + 4 * last
    assert study.weight_bytes(net, 8) == weights + scales_and_biases + 4 * last


def test_names_of_variants_differ() -> None:
    assert len({variant.name(1) for variant in study.VARIANTS}) == len(study.VARIANTS)


def _variant(network: str, form: str) -> Any:
    return next(v for v in study.VARIANTS if (v.network, v.form) == (network, form))


def test_each_variant_has_its_comparisons() -> None:
    """A pruned network has no loss to itself, and an equal number of steps counts for trained networks only."""
    large, small = _variant(LARGE, "float"), _variant(SMALL, "float")
    more_steps = _variant(SMALL, "float, more steps")
    assert study.references(large) == {}
    assert study.references(small) == {"large": large}
    assert study.references(more_steps) == {"large": large, "loss": small}
    assert study.references(_variant(SMALL, "int4, rounded")) == {"large": large, "loss": small}
    assert more_steps.steps < _variant(SMALL, "int4, trained").steps
    assert study.references(_variant(SMALL, "int4, trained")) == {"large": large, "loss": small}
    assert study.references(_variant(SMALL, "pruned, trained")) == {"large": large, "equal_steps": more_steps}


def test_a_table_by_hand() -> None:
    common = {"network": "hybrid-w4-d2", "target_ber": 0.01, "steps": 0, "macs_per_slot": 1000, "file_bytes": 5000}
    common |= dict.fromkeys(f"{kind}_db{end}" for kind in ("loss", "equal_steps") for end in ENDS)
    loss = {"loss_db": 0.125, "loss_db_low": -0.06, "loss_db_high": 0.31}
    rows = [
        {**common, "form": "float", "weight_bytes": 4000, "wall_s": 1e-3},
        {**common, "form": "int4, rounded", "weight_bytes": 1234, "wall_s": 1.1e-3, **loss},
        {**common, "form": "int2, rounded", "weight_bytes": 700, "wall_s": 1.1e-3, "loss_db_bound": 3.14},
    ]
    lines = compression_tables.few_bits(pd.DataFrame(rows)).splitlines()
    assert lines[2] == "| `hybrid-w4-d2` | float | 0 | 4,000 | 5,000 | 1.00 |  |"
    assert lines[3] == "| `hybrid-w4-d2` | int4, rounded | 0 | 1,234 | 5,000 | 1.10 | 0.12 dB (-0.06 to 0.31) |"
    assert lines[4] == "| `hybrid-w4-d2` | int2, rounded | 0 | 700 | 5,000 | 1.10 | at least 3.1 dB |"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_csv(compression_tables.NUMBERS)


def test_numbers_are_those_of_the_present_study(table: pd.DataFrame) -> None:
    stated = [tuple(row) for row in table[["network", "form", "steps"]].itertuples(index=False)]
    assert stated == [(v.network, v.form, v.steps) for v in study.VARIANTS]


def test_the_words_of_the_page_are_those_of_the_table(table: pd.DataFrame) -> None:
    words = " ".join(compression_tables.PAGE.read_text(encoding="utf-8").split())
    rows = table.set_index(["network", "form"])
    small, large = (rows.loc[network] for network in (SMALL, LARGE))
    losses = [f"{network.loc[form, 'loss_db']:.2f} dB" for form in FORMS for network in (small, large)]
    saved = [
        1 - network.loc["int8, rounded", "file_bytes"] / network.loc["float", "file_bytes"]
        for network in (large, small)
    ]
    saved_bytes = [
        network.loc["int8, rounded", "file_bytes"] - network.loc["int4, rounded", "file_bytes"]
        for network in (large, small)
    ]
    not_pruned = [network[~network.index.str.startswith("pruned")]["wall_s"] for network in (small, large)]
    change = max((times / times["float"] - 1).abs().max() for times in not_pruned)
    for expected in (
        f"plain rounding costs {losses[0]} and {losses[1]}, and both intervals contain 0",
        f"larger student loses {saved[0]:.0%}".replace("%", " %") + " of its bytes",
        f"that of the smaller one {saved[1]:.0%}".replace("%", " %"),
        f"cost the smaller student {losses[4]} after {small.loc['int4, trained', 'steps']:,} steps",
        f"cost the larger one {losses[5]} after {large.loc['int4, trained', 'steps']:,} steps",
        f"and {losses[3]} without training",
        f"save {saved_bytes[0] / 1000:.0f} KB and {saved_bytes[1] / 1000:.0f} KB of the C files",
        f"**Time** changes by less than {math.ceil(100 * change)} %",
    ):
        assert expected in words
    for network in (small, large):
        assert network.loc["int8, rounded", "loss_db_low"] < 0 < network.loc["int8, rounded", "loss_db_high"]
        for value in ("weight_bytes", "file_bytes"):
            sizes = [network.loc[form, value] for form in ("float", "int8, rounded", "int4, rounded")]
            assert sizes == sorted(sizes, reverse=True)


def test_4_bits_miss_their_goal(table: pd.DataFrame) -> None:
    """The rest of what the page says: the goal of 0.2 dB lies below the interval of the smaller student alone."""
    for network in (SMALL, LARGE):
        row = table[(table["network"] == network) & (table["form"] == "int4, trained")].iloc[0]
        assert row["loss_db"] > 0.2
        assert (row["loss_db_low"] > 0.2) == (network == SMALL)
    pruned = table[table["form"] == "pruned, trained"].iloc[0]
    assert pruned["equal_steps_db"] > 0 > pruned["equal_steps_db_low"]
