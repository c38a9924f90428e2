import hashlib
import subprocess
from dataclasses import fields
from pathlib import Path

import h5py
import pytest
import torch

from channels import Scenario, Slots, SlotStream
from channels.dataset import Dataset, DatasetStream, write_dataset
from leanrx_core.errors import UserError


@pytest.fixture
def points(small: Scenario) -> Dataset:
    return Dataset(
        label="points",
        scenario=small,
        split="test",
        seed=3,
        block_slots=4,
        num_blocks=2,
        sinr_db=(0.0, 10.0),
        interference_fractions=(0.0, 0.5),
    )


def same(a: Slots, b: Slots) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Slots))


def test_what_is_read_is_what_the_stream_makes(tmp_path: Path, points: Dataset, small: Scenario) -> None:
    assert list(write_dataset(points, tmp_path))[-1] == (8, 8)
    recorded, stream = DatasetStream(tmp_path / "points"), SlotStream(small, 3, 4, "test")
    for sinr_db, share in ((0.0, 0.0), (10.0, 0.5)):
        there = recorded.at_sinr(sinr_db, share)
        assert same(there.block(1), stream.at_sinr(sinr_db, share).block(1))
        assert there.scenario == stream.at_sinr(sinr_db, share).scenario
    drawn = points.model_copy(
        update={"label": "drawn", "sinr_db": (), "interference_fractions": (0.0,), "split": "train"}
    )
    list(write_dataset(drawn, tmp_path))
    assert same(DatasetStream(tmp_path / "drawn").block(0), SlotStream(small, 3, 4, "train").block(0))


def test_files_speak_for_themselves(tmp_path: Path, points: Dataset) -> None:
    """Readable with h5py alone: named axes, units, descriptions, and hashes that a standard tool checks."""
    list(write_dataset(points, tmp_path))
    folder = tmp_path / "points"
    with h5py.File(folder / "sinr+10.00-share0.500" / "block-000001.h5") as file:
        assert file["y"].dtype == "complex64"
        assert [d.label for d in file["y"].dims] == ["slot", "antenna", "symbol", "subcarrier"]
        assert file["snr_db"].attrs["unit"] == "dB"
        assert all(file[name].attrs["description"] for name in file)
        assert "TDL-A" in file.attrs["scenario"]
        assert file.attrs["block"] == 1
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.count("OK") == 8


def test_writing_goes_on_where_it_was(tmp_path: Path, points: Dataset) -> None:
    list(write_dataset(points, tmp_path / "whole"))
    broken = write_dataset(points, tmp_path / "broken")
    next(broken), next(broken), next(broken)
    broken.close()
    sums = tmp_path / "broken" / "points" / "SHA256SUMS"
    sums.write_text(sums.read_text()[:-20])  # killed in the middle of a line
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "broken").rglob("*.h5")}
    list(write_dataset(points, tmp_path / "broken"))
    rewritten = [p for p, t in before.items() if p.stat().st_mtime_ns != t]
    assert len(rewritten) == 1
    for path in sorted((tmp_path / "whole").rglob("*.h5")):
        other = tmp_path / "broken" / path.relative_to(tmp_path / "whole")
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest()


def test_damage_is_found_and_named(tmp_path: Path, points: Dataset) -> None:
    list(write_dataset(points, tmp_path))
    folder = tmp_path / "points"
    stream = DatasetStream(folder).at_sinr(0.0)
    path = folder / "sinr+00.00-share0.000" / "block-000000.h5"
    data = path.read_bytes()
    path.write_bytes(data[:1000])
    with pytest.raises(UserError, match=r"block-000000\.h5: damaged or truncated \(1000 bytes"):
        stream.block(0)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match=r"block-000000\.h5: damaged"):
        stream.block(0)
    path.unlink()
    with pytest.raises(UserError, match=r"block-000000\.h5: cannot be read"):
        stream.block(0)
    stream.block(1)


def test_mistakes_are_named(tmp_path: Path, points: Dataset) -> None:
    list(write_dataset(points, tmp_path))
    folder = tmp_path / "points"
    with pytest.raises(UserError, match="holds another dataset"):
        list(write_dataset(points.model_copy(update={"seed": 4}), tmp_path))
    stream = DatasetStream(folder)
    with pytest.raises(UserError, match="has no test point 5 dB"):
        stream.at_sinr(5.0)
    with pytest.raises(UserError, match="block 2 was asked for, num_blocks is 2"):
        stream.at_sinr(0.0).block(2)
    with pytest.raises(UserError, match="holds test points alone"):
        stream.block(0)
    with pytest.raises(UserError, match="not a dataset"):
        DatasetStream(tmp_path)
    record = folder / "dataset.yaml"
    record.write_text(record.read_text().replace("version: 1", "version: 2"))
    with pytest.raises(UserError, match="version"):
        DatasetStream(folder)
    quiet = points.scenario.model_copy(update={"interferers": ()})
    with pytest.raises(UserError, match="needs an interferer"):
        Dataset.parse({**points.model_dump(), "scenario": quiet.model_dump()}, "x")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sinr_db": (5.0, 5.001)}, "less than 0.01 dB"),
        ({"sinr_db": (500.0,)}, "outside -50..100 dB"),
        ({"sinr_db": ()}, "needs sinr_db"),
        ({"block_slots": 10**8}, "block_slots"),
    ],
)
def test_points_that_no_folder_can_hold(points: Dataset, changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Dataset.parse({**points.model_dump(), **changes}, "x")
