import json
from collections.abc import Iterator
from typing import Any

import onnx
import pytest
import torch
from factories import perturbed_receiver

from channels import Scenario, Slots, SlotStream
from energy.counting.counter import count
from energy.counting.onnx_file import count_onnx
from leanrx_core.errors import UserError
from receivers.evaluation.error_counts import count_block
from receivers.evaluation.stopping import Evaluation
from receivers.export import Parity, export_float16, export_int8, export_onnx
from receivers.export import onnx as onnx_module
from receivers.export.depthwise import split_depthwise
from receivers.export.exported_file import open_exported
from receivers.export.exported_receiver import ExportedReceiver
from receivers.export.onnx import write_graph
from receivers.export.parity import compare
from receivers.neural.registry import build
from receivers.neural.weights import Card, NeuralReceiver, save


@pytest.fixture
def receiver(tmp_path) -> NeuralReceiver:
    card = Card(
        name="net",
        receiver="deeprx-w0.0625-d3",
        role="student",
        num_rx=2,
        num_bits=4,
        parameters=1,
        scenario="s",
        channels=("TDL-B",),
        trained_sinr_db=(0, 20),
        seed=1,
        training={},
    )
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
    exported = ExportedReceiver(folder / card["file"], "x")
    assert exported.digest == card["sha256"]
    # other grids and batches than the one it was exported with
    wide = SlotStream(small.model_copy(update={"grid": small.grid.model_copy(update={"num_prb": 5})}), 1, 3, "test")
    slots = wide.block(0)
    torch.testing.assert_close(exported(slots), receiver(slots) * slots.bit_mask, atol=1e-3, rtol=1e-3)
    graph = onnx.load(folder / card["file"])
    assert {entry.key for entry in graph.metadata_props} == {"receiver", "slots"}
    assert list(debugging_texts(graph)) == []


@pytest.mark.parametrize("spec", ["hybrid-w3-d2", "hybrid-recurrent-w3-d1"])
def test_a_hybrid_goes_from_samples_to_llrs(tmp_path, small: Scenario, spec: str) -> None:
    """Of any bandwidth, batch and modulation, and with as many operations as its formula states."""
    hybrid = perturbed_receiver(spec)
    wide = small.model_copy(update={"grid": small.grid.model_copy(update={"num_prb": 3})})
    folder = tmp_path / "net"
    assert export_onnx(hybrid, folder, SlotStream(wide, 1, 4, "test", purpose="export"), (10.0,), (0.0, 0.5)).equal
    exported = ExportedReceiver(folder / "net.onnx", "x")
    for num_prb, batch in ((3, 2), (8, 3)):
        grid = small.grid.model_copy(update={"num_prb": num_prb})
        other = small.model_copy(update={"grid": grid, "modulations": ("QPSK", "16-QAM")})
        slots = SlotStream(other, 1, batch, "test").block(0)
        assert compare(hybrid, exported, slots).equal
        assert not exported(slots)[~slots.bit_mask].any()
    graph, formula = count_onnx(folder / "net.onnx", [1, 2, 14, 96, 2]), count(hybrid, grid)
    assert 0.95 < graph.macs / formula.macs < 1.3
    assert graph.parameters < formula.parameters
    with pytest.raises(UserError, match=r"2 resource blocks; net\.onnx takes 3 or more"):
        exported(SlotStream(small, 1, 1, "test").block(0))


def test_an_interpolated_deeprx_selects_pilots_without_products(tmp_path, small: Scenario) -> None:
    """A file of one pilot layout has the products of DeepRx; of L layouts, L more for each raw estimate."""
    evaluation = Evaluation(sinr_db=(10,), block_slots=8, min_slots=8, max_slots=8, target_slot_errors=None)
    macs = {}
    for spec in ("deeprx-w0.0625-d3", "deeprx-interpolated-w0.0625-d3"):
        receiver = perturbed_receiver(spec)
        for patterns in (((3,),), ((2,), (2, 11), (3,))):
            grid = small.grid.model_copy(update={"pilot_patterns": patterns, "dmrs": None})
            write_graph(receiver, tmp_path / "graph.onnx", grid)
            macs[spec, len(patterns)] = count_onnx(tmp_path / "graph.onnx", [1, 2, 14, 24, 2]).macs
        formula = count(receiver, grid)
        assert formula.macs == count("deeprx-w0.0625-d3", grid).macs
        assert formula.formula_macs == 0
    plain, interpolated = ([macs[spec, n] for n in (1, 3)] for spec in ("deeprx-w0.0625-d3", spec))
    res, num_rx, num_bits = 14 * 24, 2, 4
    assert plain[0] - formula.macs == res * (4 * num_rx + num_bits) + 14 * num_bits
    assert [a - b for a, b in zip(interpolated, plain, strict=True)] == [0, res * 3 * 2 * num_rx]
    stream = SlotStream(small.model_copy(update={"grid": grid}), 1, 8, "test", purpose="export")
    assert export_onnx(receiver, tmp_path / "net", stream, (10.0,), (0.0, 0.5)).equal
    half = export_float16(tmp_path / "net" / "net.onnx", stream, evaluation, target_ber=0.4)
    slots = stream.at_sinr(10.0, 0.0).block(5)
    expected, actual = receiver(slots)[slots.bit_mask], open_exported(half.path, tmp_path)(slots)[slots.bit_mask]
    assert 0 < (expected - actual).abs().max() < 0.02 * expected.abs().max()


def test_a_hybrid_of_a_narrow_grid_takes_that_grid(tmp_path, small: Scenario) -> None:
    hybrid, folder = perturbed_receiver("hybrid-w2-d1"), tmp_path / "net"
    assert export_onnx(hybrid, folder, SlotStream(small, 1, 4, "test", purpose="export"), (10.0,)).equal
    wide = small.model_copy(update={"grid": small.grid.model_copy(update={"num_prb": 4})})
    with pytest.raises(UserError, match=r"4 resource blocks; net\.onnx takes 2"):
        ExportedReceiver(folder / "net.onnx", "x")(SlotStream(wide, 1, 1, "test").block(0))


def debugging_texts(message: Any) -> Iterator[str]:
    """Descriptions and metadata of the parts of a model."""
    for field, value in message.ListFields():
        if field.message_type is None:
            if field.name == "doc_string":
                yield value
            continue
        for part in [value] if hasattr(value, "ListFields") else value:
            if field.name == "metadata_props" and not isinstance(message, onnx.ModelProto):
                yield part.value
            yield from debugging_texts(part)


def test_a_file_that_differs_is_refused(tmp_path, receiver, stream, monkeypatch) -> None:
    class WrongReceiver(ExportedReceiver):
        def __call__(self, slots: Slots) -> torch.Tensor:
            return super().__call__(slots) + 0.05

    folder = tmp_path / "exports" / "net"
    export_onnx(receiver, folder, stream, (10.0,))
    before = (folder / "net.onnx").read_bytes()
    monkeypatch.setattr(onnx_module, "ExportedReceiver", WrongReceiver)
    with pytest.raises(UserError, match="differs from the tested receiver"):
        export_onnx(receiver, folder, stream, (10.0,))
    assert (folder / "net.onnx").read_bytes() == before
    assert [p.name for p in folder.parent.iterdir()] == ["net"]


def test_a_few_differing_decisions_are_allowed() -> None:
    base = {"slots": 1, "max_llr": 5.0, "bit_errors_original": 0, "bit_errors_exported": 1}
    assert Parity(bits=100_000, max_llr_difference=1e-5, differing_decisions=1, **base).equal
    assert not Parity(bits=100_000, max_llr_difference=1e-5, differing_decisions=11, **base).equal
    assert not Parity(bits=100_000, max_llr_difference=1e-3, differing_decisions=0, **base).equal


def test_damaged_files_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="missing"):
        ExportedReceiver(tmp_path / "x.onnx", "x")
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(UserError, match="cannot load"):
        ExportedReceiver(tmp_path / "x.onnx", "x")


def test_split_depthwise_convolutions_compute_the_same(receiver: NeuralReceiver) -> None:
    inputs = torch.randn(2, receiver.net.num_features, 14, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = receiver.net(inputs)
        split = split_depthwise(receiver.net)
        torch.testing.assert_close(split(inputs), before, atol=1e-5, rtol=1e-5)
    depthwise = [m for m in split.modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
    assert len(depthwise) == 2 * 6, "two for each of the six separable convolutions"
    assert all(m.out_channels == m.in_channels == m.groups for m in depthwise)


def test_fp16_and_float32_are_counted_on_the_same_slots(tmp_path, receiver, stream) -> None:
    """Eleven bits lose next to nothing, and the file says which arithmetic it has."""
    folder = tmp_path / "net"
    export_onnx(receiver, folder, stream, (10.0,))
    evaluation = Evaluation(sinr_db=(10,), block_slots=8, min_slots=8, max_slots=8, target_slot_errors=None)
    comparison = export_float16(folder / "net.onnx", stream, evaluation, target_ber=0.4)
    assert comparison.path.name == "net-fp16.onnx"
    report = json.loads((folder / "net-fp16.json").read_text())
    float32, half = (row["bit_errors"] for row in report["points"])
    assert half == pytest.approx(float32, rel=0.02)
    assert report["bytes"] < (folder / "net.onnx").stat().st_size
    opened = open_exported(comparison.path, tmp_path)
    assert opened.arithmetic == "fp16"
    fresh = stream.at_sinr(10.0, 0.0).block(5)
    expected, actual = receiver(fresh)[fresh.bit_mask], opened(fresh)[fresh.bit_mask]
    assert 0 < (expected - actual).abs().max() < 0.02 * expected.abs().max()


def test_int8_and_float32_are_counted_on_the_same_slots(tmp_path, receiver, stream, small: Scenario) -> None:
    folder = tmp_path / "exports" / "net"
    export_onnx(receiver, folder, stream, (10.0,))
    card, path = (folder / "card.json").read_bytes(), folder / "net.onnx"
    evaluation = Evaluation(
        sinr_db=(0, 10),
        interference_fractions=(0.0, 0.5),
        block_slots=8,
        min_slots=16,
        max_slots=16,
        target_slot_errors=None,
    )
    slots = SlotStream(small, 1, 6, "train", purpose="calibration").block(0)
    comparison = export_int8(path, path, slots, stream, evaluation, target_ber=0.4)
    assert sorted(p.name for p in folder.iterdir()) == ["card.json", "net-int8.json", "net-int8.onnx", "net.onnx"]
    assert (folder / "card.json").read_bytes() == card
    report = json.loads((folder / "net-int8.json").read_text())
    int8 = ExportedReceiver(comparison.path, "net-int8.onnx")
    assert (report["sha256"], report["of"]["sha256"]) == (int8.digest, json.loads(card)["sha256"])
    rows = {(r["receiver"], r["interference_fraction"], r["sinr_db"]): r for r in report["points"]}
    assert len(rows) == 2 * 4
    for fraction, sinr_db in ((0.0, 0), (0.5, 10)):
        counted = [count_block(receiver, stream.at_sinr(sinr_db, fraction).block(b)) for b in (0, 1)]
        float32, eight_bits = (rows[name, fraction, sinr_db] for name in ("net.onnx", "net-int8.onnx"))
        assert float32["bits"] == eight_bits["bits"] == sum(c["bits"] for c in counted)
        assert float32["bit_errors"] == pytest.approx(sum(c["bit_errors"] for c in counted), abs=2)
        assert eight_bits["ber_low"] <= eight_bits["ber"] <= eight_bits["ber_high"]
    fresh = stream.at_sinr(10.0, 0.0).block(5)
    expected, actual = receiver(fresh)[fresh.bit_mask], int8(fresh)[fresh.bit_mask]
    assert torch.corrcoef(torch.stack([expected, actual]))[0, 1] > 0.99
    assert not torch.allclose(expected, actual, rtol=1e-4, atol=1e-4), "8 bits are not 32"
    assert len(report["losses"]) == 2
