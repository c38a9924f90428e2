import json

import pytest
import torch

from channels import Scenario, Slots, SlotStream, UserError
from receivers.export import Parity, export_onnx
from receivers.export import onnx as onnx_module
from receivers.export.onnx import OnnxReceiver
from receivers.spec import build
from receivers.weights import Card, NeuralReceiver, save


@pytest.fixture
def receiver(tmp_path) -> NeuralReceiver:
    card = Card(
        name="net", receiver="deeprx-w0.0625-d3", role="student", num_rx=2, num_bits=4, parameters=1, scenario="s",
        channels=("TDL-B",), trained_sinr_db=(0, 20), seed=1, training={},
    )  # fmt: skip
    net = build(card.receiver, seed=3)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training: statistics that are not 0 and 1
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return save(tmp_path / "receivers" / "net", net, card)


@pytest.fixture
def stream(small: Scenario) -> SlotStream:
    return SlotStream(small, 1, 8, "test", purpose="export")


def test_the_file_computes_the_same_llrs(tmp_path, receiver, stream, small: Scenario) -> None:
    folder = tmp_path / "exports" / "net"
    parity = export_onnx(receiver, folder, stream, (0.0, 10.0), (0.0, 0.5))
    assert parity.equal
    assert parity.slots == 32
    assert parity.bit_errors_exported == pytest.approx(parity.bit_errors_original, abs=1)
    card = json.loads((folder / "card.json").read_text())
    assert card["parity"]["equal"]
    assert len(card["parity"]["points"]) == 4
    assert card["receiver"]["weights_sha256"] == receiver.digest
    exported = OnnxReceiver(folder / card["file"], "x")
    assert exported.digest == card["sha256"]
    # other grids and batches than the one it was exported with
    wide = SlotStream(small.model_copy(update={"grid": small.grid.model_copy(update={"num_prb": 5})}), 1, 3, "test")
    slots = wide.block(0)
    torch.testing.assert_close(exported(slots), receiver(slots), atol=1e-3, rtol=1e-3)


def test_a_file_that_differs_is_refused(tmp_path, receiver, stream, monkeypatch) -> None:
    class Wrong(OnnxReceiver):
        def __call__(self, slots: Slots) -> torch.Tensor:
            return super().__call__(slots) + 0.05

    folder = tmp_path / "exports" / "net"
    export_onnx(receiver, folder, stream, (10.0,))
    before = (folder / "net.onnx").read_bytes()
    monkeypatch.setattr(onnx_module, "OnnxReceiver", Wrong)
    with pytest.raises(UserError, match="differs from what was tested"):
        export_onnx(receiver, folder, stream, (10.0,))
    assert (folder / "net.onnx").read_bytes() == before
    assert [p.name for p in folder.parent.iterdir()] == ["net"]


def test_bits_with_an_llr_of_nothing_may_fall_either_way() -> None:
    base = {"slots": 1, "max_llr": 5.0, "bit_errors_original": 0, "bit_errors_exported": 1}
    assert Parity(bits=100_000, max_llr_difference=1e-5, differing_decisions=1, **base).equal
    assert not Parity(bits=100_000, max_llr_difference=1e-5, differing_decisions=11, **base).equal
    assert not Parity(bits=100_000, max_llr_difference=1e-3, differing_decisions=0, **base).equal


def test_damaged_files_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="missing"):
        OnnxReceiver(tmp_path / "x.onnx", "x")
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(UserError, match="cannot load"):
        OnnxReceiver(tmp_path / "x.onnx", "x")
