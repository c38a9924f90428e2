"""``leanrx count``: its options, files that it can and cannot count, and estimates from what it prints."""

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from channels import Grid, Subcarriers
from energy.counting.counter import count
from energy.ecal.counted_flops import onnx_flops, receiver_flops
from leanrx.cli.main import main
from leanrx_core.errors import UserError


def leanrx_count(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["leanrx", "count", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert leanrx_count(monkeypatch, *arguments, "--json") == 0
    return dict(json.loads(capsys.readouterr().out))


def test_pilots_of_the_readme(monkeypatch, capsys) -> None:
    """LMMSE on 6 PRB with one pilot symbol, as in the README's table, and with two."""
    macs = {
        pilots: answer(monkeypatch, capsys, "LMMSE", "--prb", 6, "--pilots", pilots)["macs"] for pilots in ("2", "2,11")
    }
    assert macs == {"2": 118_944, "2,11": 210_816}
    assert answer(monkeypatch, capsys, "LMMSE", "--prb", 6)["macs"] == 210_816


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["LMMSE", "--precision", "banana"], "precision: LMMSE is a classical receiver"),
        (["LMMSE", "--precision", "fp32"], "precision: LMMSE is a classical receiver"),
        (["LS max-log", "--training"], "training: LS max-log is a classical receiver"),
        (["deeprx-w0.25", "--precision", "banana"], "precision: 'banana' is not known"),
        (["deeprx-w0.25", "--pilots", "2"], "pilots: they have no effect"),
        (["LMMSE", "--pilots", "two"], "pilots: 'two' is not a list of OFDM symbols"),
        (["LMMSE", "--pilots", "11,2"], "must increase"),
        (["LMMSE", "--pilots", "14"], "must increase and lie in 0..13"),
        (["LMMSE", "--layers", "--json"], "layers: --json lists all layers"),
        (["LMMSE", "--bits", 3], "bits: 3 is not a modulation"),
        (["LMMSE", "--device", "edge-tpu"], "edge-tpu does not compute in fp32"),
        (["LMMSE max-log", "--device", "edge-tpu"], "edge-tpu does not compute in fp32"),
        (["deeprx-w0.25", "--prb", 1, "--device", "edge-tpu"], "edge-tpu does not compute in fp32"),
    ],
)
def test_options_without_effect_or_sense(monkeypatch, capsys, arguments: list[object], words: str) -> None:
    assert leanrx_count(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def save(path: Path, shape: list[Any], **metadata: str) -> Path:
    """A file that doubles its input."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("shape", "arguments", "words"),
    [
        (["b", 8, 14, "f"], ["--rx", 2], "rx: the operations"),
        (["b", 8, 14, "f"], ["--bits", 4], "bits: the operations"),
        (["b", 8, 14, "f"], ["--training"], "training: the operations"),
        (["b", 8, 14, "f"], ["--precision", "int8"], "precision: the operations"),
        (["b", 8, 14, "f"], ["--pilots", "2"], "pilots: the operations"),
        ([1, 8, 14, 12], ["--prb", 2], "prb: "),
        ([1, 8, 14, 12], ["--batch", 2], "batch: "),
        (["b", "c", 14, 12], [], "number of channels free"),
        (["n"], [], "leaves some of them free"),
        ([24], ["--prb", 2], "no slot"),
        ([], [], "no tensor of known rank"),
    ],
)
def test_files_and_options(
    monkeypatch, capsys, tmp_path, shape: list[Any], arguments: list[object], words: str
) -> None:
    assert leanrx_count(monkeypatch, save(tmp_path / "net.onnx", shape), *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize("shape", [[24], [1, 8, 14, 24], ["b", 8, 14, "f"], [2, 8, "s", 24], [3, 4]])
def test_files_of_any_rank(monkeypatch, capsys, tmp_path, shape: list[Any]) -> None:
    profile = answer(monkeypatch, capsys, save(tmp_path / "net.onnx", shape))
    sizes = [size if isinstance(size, int) else {"b": 1, "f": 312, "s": 14}[size] for size in shape]
    assert profile["bytes"] == 3 * 4 * int(torch.tensor(sizes).prod())


def receiver_file(path: Path, **metadata: str) -> Path:
    """A file with the input of an exported receiver, which multiplies its samples with themselves and adds them."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 2, 14, "f", 2]) for name in ("y", "llrs")]
    nodes = [helper.make_node("Mul", ["y", "y"], ["squares"]), helper.make_node("Add", ["squares", "y"], ["llrs"])]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def test_products_of_planes_count_in_exported_receivers(monkeypatch, capsys, tmp_path: Path) -> None:
    """Front ends and detection consist of them; in files of another origin they count no MAC."""
    file = receiver_file(tmp_path / "net.onnx", receiver="hybrid-w2-d1", slots="{}")
    profile = answer(monkeypatch, capsys, file, "--prb", 2, "--batch", 3)
    assert (profile["macs"], profile["formula_macs"], profile["omitted"]) == (3 * 2 * 14 * 24 * 2, 0, "")
    assert onnx_flops(str(file), [3, 2, 14, 24, 2]) == 2 * profile["macs"]
    assert answer(monkeypatch, capsys, receiver_file(tmp_path / "other.onnx"), "--prb", 2)["macs"] == 0


def test_files_of_earlier_versions_are_refused(monkeypatch, capsys, tmp_path: Path) -> None:
    file = receiver_file(tmp_path / "net.onnx", receiver="hybrid-w2-d1", feature_description="planes")
    assert leanrx_count(monkeypatch, file) == 2
    assert "exported by an earlier version of leanrx, without its front end; export again" in capsys.readouterr().err


@pytest.mark.parametrize("pilots", [None, [2], [2, 7, 11]])
def test_pilots_in_ecal(pilots: list[int] | None) -> None:
    given = {} if pilots is None else {"pilot_patterns": (tuple(pilots),)}
    whole = count("hybrid-w2-d1", Grid(num_prb=2, **given), num_bits=2)
    assert receiver_flops("hybrid-w2-d1", num_prb=2, num_bits=2, pilot_symbols=pilots) == whole.flops


def test_pilots_without_effect_in_ecal() -> None:
    with pytest.raises(UserError, match="no effect"):
        receiver_flops("deeprx-w0.25", pilot_symbols=[2])


def test_any_number_of_subcarriers() -> None:
    """DeepRx takes 25 subcarriers; a hybrid needs whole resource blocks."""
    grid = Grid(subcarriers=Subcarriers(fft_size=25))
    assert count("deeprx-w0.0625-d3", grid).macs * 24 == count("deeprx-w0.0625-d3", Grid(num_prb=2)).macs * 25
    with pytest.raises(UserError, match="hybrid-w2-d1: needs whole resource blocks"):
        count("hybrid-w2-d1", grid)
