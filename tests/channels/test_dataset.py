import hashlib
import subprocess
from pathlib import Path

import h5py
import pytest
from signals import equal, without_interferers

from channels import Scenario, SlotStream
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


def test_dataset_holds_the_slots_of_the_stream(tmp_path: Path, points: Dataset, small: Scenario) -> None:
    assert list(write_dataset(points, tmp_path))[-1] == (8, 8)
    dataset_stream, slot_stream = DatasetStream(tmp_path / "points"), SlotStream(small, 3, 4, "test")
    for sinr_db, fraction in ((0.0, 0.0), (10.0, 0.5)):
        actual, expected = dataset_stream.at_sinr(sinr_db, fraction), slot_stream.at_sinr(sinr_db, fraction)
        assert equal(actual.block(1), expected.block(1))
        assert actual.scenario == expected.scenario
    without_points = points.model_copy(
        update={"label": "drawn", "sinr_db": (), "interference_fractions": (0.0,), "split": "train"}
    )
    list(write_dataset(without_points, tmp_path))
    assert equal(DatasetStream(tmp_path / "drawn").block(0), SlotStream(small, 3, 4, "train").block(0))


def test_files_are_readable_without_leanrx(tmp_path: Path, points: Dataset) -> None:
    """Readable with h5py alone: named axes, units, descriptions, and hashes that a standard tool checks."""
    list(write_dataset(points, tmp_path))
    folder = tmp_path / "points"
    with h5py.File(folder / "sinr+10.00-fraction0.500" / "block-000001.h5") as file:
        assert file["y"].dtype == "complex64"
        assert [d.label for d in file["y"].dims] == ["slot", "antenna", "symbol", "subcarrier"]
        assert file["snr_db"].attrs["unit"] == "dB"
        assert all(file[name].attrs["description"] for name in file)
        assert "TDL-A" in file.attrs["scenario"]
        assert file.attrs["block"] == 1
    check = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert check.returncode == 0
    assert check.stdout.count("OK") == 8


def test_interrupted_writing_is_resumed(tmp_path: Path, points: Dataset) -> None:
    list(write_dataset(points, tmp_path / "whole"))
    writer = write_dataset(points, tmp_path / "resumed")
    next(writer), next(writer), next(writer)
    writer.close()
    sums = tmp_path / "resumed" / "points" / "SHA256SUMS"
    sums.write_text(sums.read_text()[:-20])  # killed in the middle of a line
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "resumed").rglob("*.h5")}
    list(write_dataset(points, tmp_path / "resumed"))
    rewritten = [path for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert len(rewritten) == 1
    for path in sorted((tmp_path / "whole").rglob("*.h5")):
        resumed = tmp_path / "resumed" / path.relative_to(tmp_path / "whole")
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(resumed.read_bytes()).digest()
    assert sums.read_text().count("\n") == 8


def test_damaged_files_are_refused(tmp_path: Path, points: Dataset) -> None:
    list(write_dataset(points, tmp_path))
    folder = tmp_path / "points"
    stream = DatasetStream(folder).at_sinr(0.0)
    path = folder / "sinr+00.00-fraction0.000" / "block-000000.h5"
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


def test_unsuitable_requests_are_refused(tmp_path: Path, points: Dataset) -> None:
    list(write_dataset(points, tmp_path))
    folder = tmp_path / "points"
    with pytest.raises(UserError, match="holds another dataset"):
        list(write_dataset(points.model_copy(update={"seed": 4}), tmp_path))
    stream = DatasetStream(folder)
    with pytest.raises(UserError, match="has no test point 5 dB"):
        stream.at_sinr(5.0)
    with pytest.raises(UserError, match="has no block 2, because num_blocks is 2"):
        stream.at_sinr(0.0).block(2)
    with pytest.raises(UserError, match="holds only test points"):
        stream.block(0)
    with pytest.raises(UserError, match="not a dataset"):
        DatasetStream(tmp_path)
    scenario = without_interferers(points.scenario)
    with pytest.raises(UserError, match="needs an interferer"):
        Dataset.parse({**points.model_dump(), "scenario": scenario.model_dump()}, "x")


def test_reading_leaves_the_files_alone(tmp_path: Path, points: Dataset) -> None:
    """Another process may be writing them: a line without an end is ignored, and stays."""
    list(write_dataset(points, tmp_path))
    sums = tmp_path / "points" / "SHA256SUMS"
    sums.write_text(sums.read_text()[:-20])
    text = sums.read_text()
    stream = DatasetStream(tmp_path / "points")
    assert sums.read_text() == text
    stream.at_sinr(0.0).block(0)
    with pytest.raises(UserError, match="damaged or truncated"):
        stream.at_sinr(10.0, 0.5).block(1)


@pytest.mark.parametrize("version", ["1", "2", "3", "x"])
def test_datasets_of_another_version_are_refused(tmp_path: Path, points: Dataset, version: str) -> None:
    """In one line with the remedy, before any old key is read: version 1 had ``interference_shares``."""
    list(write_dataset(points, tmp_path))
    folder = tmp_path / "points"
    record = folder / "dataset.yaml"
    text = record.read_text().replace("version: 4", f"version: {version}")
    record.write_text(text.replace("interference_fractions", "interference_shares"))
    message = (
        f"points: dataset of version {version}, but this leanrx reads version 4; delete the folder and write it again "
        "with: leanrx data CONFIG"
    )
    for access in (lambda: DatasetStream(folder), lambda: list(write_dataset(points, tmp_path))):
        with pytest.raises(UserError) as error:
            access()
        assert str(error.value).endswith(message)
        assert "\n" not in str(error.value)


def test_old_keys_are_refused_with_the_new_name(points: Dataset) -> None:
    fields = points.model_dump()
    fields["interference_shares"] = fields.pop("interference_fractions")
    with pytest.raises(UserError, match="interference_shares: renamed to 'interference_fractions'"):
        Dataset.parse(fields, "x")
    fields = points.model_dump()
    fields["scenario"]["interferers"][0]["bandwidth_share"] = (0.5, 1.0)
    with pytest.raises(UserError, match=r"scenario\.interferers\.0\.bandwidth_share: renamed to 'bandwidth_fraction'"):
        Dataset.parse(fields, "x")
    with pytest.raises(UserError, match="preset 'desk' was renamed to 'tdl-6prb'"):
        Dataset.parse({**points.model_dump(), "scenario": "desk"}, "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sinr_db": (5.0, 5.001)}, "less than 0.01 dB"),
        ({"sinr_db": (500.0,)}, "outside -50..100 dB"),
        ({"sinr_db": ()}, "needs sinr_db"),
        ({"block_slots": 10**8}, "block_slots"),
    ],
)
def test_impossible_datasets_are_refused(points: Dataset, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Dataset.parse({**points.model_dump(), **changes}, "x")
