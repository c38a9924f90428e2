"""Datasets whose hashes are right but whose content is not of the schema, and damaged ONNX files."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import onnx.parser
import pytest
import yaml
from command_line import answer, contents, refusal

from channels import Scenario, SlotStream
from channels.dataset import _FIELDS, Dataset, DatasetStream, write_dataset
from leanrx_core.errors import UserError
from leanrx_core.files import TEMPORARY, lock

BLOCK = "sinr+05.00-fraction0.500/block-000000.h5"
DRAW_BLOCK = SlotStream.block


@pytest.fixture(scope="module")
def written(small: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    dataset = Dataset(
        label="points",
        scenario=small,
        split="test",
        block_slots=2,
        num_blocks=1,
        sinr_db=(5.0,),
        interference_fractions=(0.0, 0.5),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SlotStream, "block", DRAW_BLOCK)
        list(write_dataset(dataset, root))
    return root / "points"


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(written, tmp_path / "points")
    return tmp_path / "points"


def error(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        DatasetStream(folder).at_sinr(5.0, 0.5).block(0)
    return str(caught.value)


def rewrite(folder: Path, change: Callable[[h5py.File], object]) -> None:
    """Change a block and its hash."""
    buffer = io.BytesIO((folder / BLOCK).read_bytes())
    with h5py.File(buffer, "r+") as file:
        change(file)
    hashed(folder, buffer.getvalue())


def hashed(folder: Path, data: bytes) -> None:
    (folder / BLOCK).write_bytes(data)
    sums = folder / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if BLOCK not in line]
    sums.write_text("\n".join([*lines, f"{hashlib.sha256(data).hexdigest()}  {BLOCK}"]) + "\n")


def _replace(field: str, values: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[field]
        file.create_dataset(field, data=values)

    return change


@pytest.mark.parametrize("field", _FIELDS)
def test_fields_of_another_shape_type_or_range_are_refused(folder: Path, field: str) -> None:
    with h5py.File(folder / BLOCK) as file:
        values = file[field][()]
    changes = {
        "shape": _replace(field, values[:1]),
        "type": _replace(field, values.astype("float16" if values.dtype != "complex64" else "complex128")),
        "group": _replace_by_group(field),
        "missing": lambda file: file.pop(field),
    }
    if values.dtype.kind in "fc" and not field.endswith("_db"):
        changes["nan"] = _replace(field, np.full_like(values, np.nan))
    original, sums = (folder / BLOCK).read_bytes(), (folder / "SHA256SUMS").read_text()
    for name, change in changes.items():
        rewrite(folder, change)
        message = error(folder)
        assert f"{BLOCK}: not the slots of dataset.yaml (" in message, name
        assert message.endswith("delete the folder and write the dataset again")
        (folder / BLOCK).write_bytes(original)
        (folder / "SHA256SUMS").write_text(sums)


def _replace_by_group(field: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[field]
        file.create_group(field)

    return change


@pytest.mark.parametrize("data", [b"", b"garbage", bytes(500)], ids=["empty", "text", "zeros"])
def test_blocks_that_are_no_hdf5_are_refused(folder: Path, data: bytes) -> None:
    hashed(folder, data)
    assert "not the slots of dataset.yaml" in error(folder)


@pytest.mark.parametrize("attribute", ["version", "block", "seed", "split"])
def test_blocks_of_other_datasets_are_refused(folder: Path, attribute: str) -> None:
    rewrite(folder, lambda file: file.attrs.create(attribute, 7))
    assert f"attribute {attribute} is not" in error(folder)
    rewrite(folder, lambda file: file.attrs.pop(attribute))
    assert f"attribute {attribute} is not" in error(folder)


@pytest.mark.parametrize("data", [b"garbage\n", b"0 x\n", b"\xff\xfe\n", b"\n", b"a" * 64 + b" one-space\n"])
def test_lists_of_hashes_with_other_lines_are_refused(folder: Path, data: bytes) -> None:
    (folder / "SHA256SUMS").write_bytes(data)
    assert "SHA256SUMS: " in error(folder)
    assert "delete the folder and write the dataset again" in error(folder)


def test_two_processes_do_not_write_one_dataset(folder: Path) -> None:
    dataset = DatasetStream(folder).dataset
    with lock(folder), pytest.raises(UserError, match="in use by another process; wait for it or stop it"):
        list(write_dataset(dataset, folder.parent))


def test_a_dataset_that_is_written_again_has_one_hash_per_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlotStream, "block", DRAW_BLOCK)
    before = contents(folder)
    (folder / BLOCK).unlink()
    (folder / f"{TEMPORARY}x").write_text("a killed process leaves this")
    list(write_dataset(DatasetStream(folder).dataset, folder.parent))
    assert contents(folder) == before


def test_the_command_refuses_a_folder_of_another_dataset(folder: Path) -> None:
    record = yaml.safe_load((folder / "dataset.yaml").read_text())
    path = folder.parent / "config.yaml"
    path.write_text(yaml.safe_dump({**record, "seed": 9}))
    before = contents(folder.parent)
    assert "holds another dataset" in refusal("data", path, "--data", folder.parent)
    assert contents(folder.parent) == before


MODEL = """
    <ir_version: 8, opset_import: ["": 18]>
    net (float[batch,10,14,subcarriers] features) => (float[batch,4,14,subcarriers] llrs)
    <float[4,10,1,1] weights> { llrs = Conv <pads = [0, 0, 0, 0]> (features, weights) }"""


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    model = onnx.parser.parse_model(MODEL)
    del model.graph.initializer[:]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 10, 1, 1), np.float32), "weights"))
    return model


def _clear(name: str) -> Callable[[onnx.ModelProto], object]:
    return lambda model: model.graph.ClearField(name)


def _input_shape(*sizes: int) -> Callable[[onnx.ModelProto], object]:
    info = onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, sizes)
    return lambda model: model.graph.input[0].CopyFrom(info)


def _node(**changes: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for name, value in changes.items():
            if isinstance(value, list):
                model.graph.node[0].ClearField(name)
                getattr(model.graph.node[0], name).extend(value)
            else:
                setattr(model.graph.node[0], name, value)

    return change


GRAPHS: dict[str, Callable[[onnx.ModelProto], object]] = {
    "no-input": _clear("input"),
    "no-initializer": _clear("initializer"),
    "no-opset": lambda model: model.ClearField("opset_import"),
    "no-graph": lambda model: model.ClearField("graph"),
    "input-1d": _input_shape(10),
    "input-2d": _input_shape(1, 10),
    "input-5d": _input_shape(1, 10, 14, 12, 1),
    "negative-size": _input_shape(1, 10, 14, -5),
    "text-input": lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", onnx.TensorProto.STRING),
    "unknown-operator": _node(op_type="Nonsense"),
    "foreign-domain": _node(domain="x.y"),
    "no-node-inputs": _node(input=[]),
    "no-node-outputs": _node(output=[]),
    "unknown-inputs": _node(input=["nowhere", "weights"]),
}


@pytest.mark.parametrize("change", GRAPHS)
def test_graphs_that_cannot_be_counted_are_refused(model: onnx.ModelProto, tmp_path: Path, change: str) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    GRAPHS[change](changed)
    path = tmp_path / "net.onnx"
    path.write_bytes(changed.SerializeToString())
    assert str(path) in refusal("count", path, "--prb", 1)


def test_a_good_graph_is_counted(model: onnx.ModelProto, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    code, output, errors = answer("count", tmp_path / "net.onnx", "--prb", 1)
    assert (code, errors) == (0, "")
    assert f"{4 * 10 * 14 * 12:,}" in output


@pytest.mark.parametrize("seed", range(24))
def test_flipped_bytes_give_a_count_or_one_line(model: onnx.ModelProto, tmp_path: Path, seed: int) -> None:
    rng, data = random.Random(seed), bytearray(model.SerializeToString())
    for _ in range(3):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    if answer("count", path, "--prb", 1)[0] != 0:
        refusal("count", path, "--prb", 1)


@pytest.mark.parametrize("data", [b"", b"garbage", bytes(500), b"\xff" * 100], ids=["empty", "text", "zeros", "ones"])
def test_files_that_are_no_onnx_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(data)
    refusal("count", tmp_path / "net.onnx")
    refusal("count", tmp_path / "none.onnx")
    (tmp_path / "folder.onnx").mkdir()
    refusal("count", tmp_path / "folder.onnx")
