"""``coded_zoo.py`` counts up to a low BLER, resumes, and writes results; those that ship decide with 100 errors."""

from __future__ import annotations

import math
import shutil
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import doc_pages as pages
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

from carbon.receiver_options import error_curve
from receivers import zoo
from receivers.classical import PerfectCsiReceiver
from receivers.evaluation.error_counts import Counts
from receivers.evaluation.intervals import wilson
from receivers.zoo.coded_results import CodedPoint

SMALLEST = "tdl-6prb-hybrid-w5-d5-kd"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script on a zoo with one receiver and one classical receiver, with 64 slots per point."""
    module = pages.script("coded_zoo")
    shutil.copytree(zoo.SHIPPED / SMALLEST, tmp_path / "zoo" / SMALLEST)
    monkeypatch.setattr(zoo, "SHIPPED", tmp_path / "zoo")
    settings = {"FOLDER": tmp_path / "counts", "MIN_SLOTS": 64, "MAX_SLOTS": 64, "PAGE": tmp_path / "zoo.md"}
    settings |= {"SINR_DB": (9.0, 24.0, 30.0), "page": lambda: "the page"}
    settings |= {"classical_receivers": lambda _: [PerfectCsiReceiver()]}
    for name, value in settings.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_counts_are_written_and_resumed(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script.main(["--shard", "2/2", "--bler", "0.2"])
    classical = script.Task(SMALLEST, "perfect CSI")
    assert [path.name for path in script.FOLDER.rglob("*.parquet")] == [classical.path.name]
    assert not script.PAGE.exists()
    script.main(["--bler", "0.2"])
    assert script.PAGE.read_text() == "the page"
    coded = zoo.results(SMALLEST).coded
    assert coded is not None
    assert set(coded.classical) == {"perfect CSI"}
    for points in (coded.points, coded.classical["perfect CSI"]):
        assert {point.blocks for point in points} == {64}
        for fraction in (0.0, 0.8):
            by_sinr = [p for p in points if p.interference_fraction == fraction]
            ends = [wilson(p.block_errors, p.blocks)[1] for p in by_sinr]
            assert ends[-1] < 0.2
            assert all(end >= 0.2 for end in ends[:-1])

    table = pd.read_parquet(classical.path)
    monkeypatch.setattr("receivers.evaluation.block_counter.count_block", None)  # a second call counts nothing
    capsys.readouterr()
    script.main(["--bler", "0.2"])
    assert pd.read_parquet(classical.path).equals(table)
    errors = next(p.block_errors for p in coded.points if (p.interference_fraction, p.sinr_db) == (0.0, 9.0))
    assert f"{SMALLEST}, interference fraction 0, 9 dB: {errors} errors in 64 blocks" in capsys.readouterr().out


def test_a_bad_shard_ends_in_one_line(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match="coded_zoo: shard: '3/2' is not a shard"):
        script.main(["--shard", "3/2"])


def outage(sinr_db: float) -> float:
    """Rate of slots below 4.5 dB after maximum-ratio combining of two Rayleigh branches: the BLER of a long code."""
    ratio = 10 ** ((4.5 - sinr_db) / 10)
    return 1 - math.exp(-ratio) * (1 + ratio)


@pytest.mark.parametrize("target", [0.1, 0.01])
def test_required_sinrs_are_those_of_two_branch_fading(target: float) -> None:
    """By points and stop rule of the script, as results.md says: within 0.05 dB, and 95 % of intervals cover."""
    script, generator = pages.script("coded_zoo"), np.random.default_rng(1)
    true_db = brentq(lambda sinr_db: outage(sinr_db) - target, -10, 40)
    required = []
    for _ in range(200):
        counts: dict[float, Counts] = {}
        for sinr_db in script.SINR_DB:
            errors = generator.binomial(64, outage(sinr_db), size=script.MAX_SLOTS // 64).cumsum()
            last = max(script.MIN_SLOTS // 64 - 1, int(np.searchsorted(errors, script.BLOCK_ERRORS)))
            blocks = 64 * (last + 1)
            counts[sinr_db] = Counts(slots=blocks, transport_blocks=blocks, block_errors=int(errors[last]))
            if counts[sinr_db].bler_interval()[1] < 0.01:
                break
        required.append(error_curve(counts, blocks=True).required_sinr_db(target))
    value, low, high = np.transpose(required)
    assert abs(value.mean() - true_db) <= 0.05
    assert ((low <= true_db) & (true_db <= high)).mean() >= 0.95
    assert (high - low).mean() < 1.1


def bracket(points: list[CodedPoint], target: float) -> list[CodedPoint]:
    """The points between which the BLER falls to the target; none where it does not."""
    for before, after in pairwise(points):
        if before.block_errors > target * before.blocks and after.block_errors <= target * after.blocks:
            return [before, after]
    return []


@pytest.mark.parametrize("name", [name for name in zoo.names() if zoo.results(name).coded is not None])
def test_a_required_sinr_rests_on_100_block_errors(name: str) -> None:
    coded = zoo.results(name).coded
    assert coded is not None
    assert set(coded.classical) >= {"LMMSE", "LMMSE-IRC", "perfect CSI", "perfect CSI-IRC"}
    for own in (coded.points, *coded.classical.values()):
        for fraction in coded.interference_fractions:
            points = [point for point in own if point.interference_fraction == fraction]
            deciding = [point for target in (0.1, 0.01) for point in bracket(points, target)]
            assert all(point.block_errors >= 100 for point in deciding)
