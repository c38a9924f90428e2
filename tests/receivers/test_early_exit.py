"""Choices of the last block in ``scripts/reproduce/early_exit.py``, on counts small enough to solve by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.reproduce.early_exit import Depths

# Two slots at one SINR with three blocks: the first slot needs all blocks, the second none after the first.
DEPTHS = Depths(
    ber=np.array([[[0.3, 0.2, 0.1], [0.02, 0.02, 0.02]]]),
    predicted_ber=np.array([[[0.3, 0.2, 0.1], [0.02, 0.021, 0.02]]]),
    operations=np.array([0.5, 0.75, 1.0]),
)


def test_genie_stops_where_a_further_block_changes_nothing() -> None:
    ber, operations = DEPTHS.at(DEPTHS.genie(price=1e-3))
    assert ber == pytest.approx([0.06])
    assert operations == pytest.approx(0.75)


def test_genie_stops_at_once_where_operations_are_dear() -> None:
    assert DEPTHS.genie(price=100.0).tolist() == [[0, 0]]


def test_rule_stops_at_the_threshold_or_where_the_predicted_ber_rises() -> None:
    assert DEPTHS.causal(threshold=0.25, fall=-1e9).tolist() == [[1, 0]]
    assert DEPTHS.causal(threshold=0.0, fall=0.0).tolist() == [[2, 1]]
    assert DEPTHS.causal(threshold=0.0, fall=0.4).tolist() == [[1, 1]]
