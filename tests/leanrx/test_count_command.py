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
from energy.counting.counter import count, count_exported
from energy.counting.onnx_file import count_onnx
from energy.ecal.counted_flops import onnx_flops, receiver_flops
from leanrx.cli.main import main
from leanrx_core.errors import UserError
from receivers.neural.hybrid import Hybrid
from receivers.neural.registry import build


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
        (["b", 8, 14, "f"], ["--pilots", "2"], "pilots: they have no effect"),
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


class Inference(torch.nn.Module):
    """A network that takes features alone."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.net(features)


@pytest.fixture(scope="module")
def hybrid_file(tmp_path_factory) -> Path:
    """A hybrid without its front end, as an export writes it."""
    path = tmp_path_factory.mktemp("hybrid") / "hybrid.onnx"
    net = build("hybrid-w2-d1", num_bits=2).eval()
    example = torch.ones(1, net.num_features, 14, 24)
    example[:, -1] = 2
    torch.onnx.export(Inference(net), (example,), str(path), dynamo=False, input_names=["x"], output_names=["y"])
    model = onnx.load(path)
    helper.set_model_props(model, {"receiver": "hybrid-w2-d1", "feature_description": Hybrid.feature_description})
    onnx.save(model, path)
    return path


def test_a_file_without_its_front_end_says_so(hybrid_file: Path) -> None:
    alone, whole = count_onnx(hybrid_file), count("hybrid-w2-d1", Grid(num_prb=2), num_bits=2)
    assert alone.macs == whole.macs - whole.formula_macs
    assert "features of hybrid-w2-d1" in alone.omitted
    assert not count_exported(hybrid_file).omitted


@pytest.mark.parametrize("pilots", [None, [2], [2, 7, 11]])
def test_a_file_counts_as_much_as_its_receiver(
    monkeypatch, capsys, hybrid_file: Path, pilots: list[int] | None
) -> None:
    """With the front end, in ``leanrx count``, in its estimates and in eCAL."""
    given = {} if pilots is None else {"pilot_patterns": (tuple(pilots),)}
    whole = count("hybrid-w2-d1", Grid(num_prb=2, **given), num_bits=2)
    options = [] if pilots is None else ["--pilots", ",".join(map(str, pilots))]
    counted = [
        answer(monkeypatch, capsys, *arguments, *options, "--device", "generic")
        for arguments in (("hybrid-w2-d1", "--prb", 2, "--bits", 2), (hybrid_file,))
    ]
    assert {profile["macs"] for profile in counted} == {whole.macs}
    assert {profile["formula_macs"] for profile in counted} == {whole.formula_macs}
    for profile in counted:
        estimate = {e["method"]: e for e in profile["estimates"]}["FLOPs/clock"]
        assert estimate["duration_s"] == pytest.approx(2 * whole.macs / (4 * 3e9 * 32))
    assert onnx_flops(str(hybrid_file), pilot_symbols=pilots) == whole.flops
    assert receiver_flops("hybrid-w2-d1", num_prb=2, num_bits=2, pilot_symbols=pilots) == whole.flops


def test_pilots_without_effect_in_ecal(hybrid_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no effect"):
        receiver_flops("deeprx-w0.25", pilot_symbols=[2])
    with pytest.raises(UserError, match="25 subcarriers are no whole resource blocks"):
        onnx_flops(str(save(tmp_path / "odd.onnx", [1, 14, 14, 25], receiver="hybrid-w2-d1", feature_description="")))
    with pytest.raises(UserError, match="no effect"):
        onnx_flops(str(save(tmp_path / "net.onnx", [1, 8, 14, 12])), pilot_symbols=[2])


def test_any_number_of_subcarriers(tmp_path: Path) -> None:
    """DeepRx takes 25 subcarriers, as a file too; a hybrid needs whole resource blocks."""
    grid = Grid(subcarriers=Subcarriers(fft_size=25))
    assert count("deeprx-w0.0625-d3", grid).macs * 24 == count("deeprx-w0.0625-d3", Grid(num_prb=2)).macs * 25
    file = save(tmp_path / "net.onnx", [1, 10, 14, 25], receiver="deeprx-w0.0625-d3", feature_description="")
    assert not count_exported(file).omitted
    with pytest.raises(UserError, match="hybrid-w2-d1: needs whole resource blocks"):
        count("hybrid-w2-d1", grid)


def test_a_file_with_features_of_no_receiver(tmp_path: Path) -> None:
    metadata = {"receiver": "hybrid-w2-d1", "feature_description": "another"}
    with pytest.raises(UserError, match="8 features are not those of hybrid-w2-d1"):
        count_exported(save(tmp_path / "net.onnx", [1, 8, 14, 12], **metadata))
