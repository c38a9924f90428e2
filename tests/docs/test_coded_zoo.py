"""``coded_zoo.py`` counts up to a low BLER, resumes, and writes results; those that ship decide with 100 errors."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import doc_pages as pages
import pandas as pd
import pytest

from receivers import zoo
from receivers.classical import PerfectCsiReceiver
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
