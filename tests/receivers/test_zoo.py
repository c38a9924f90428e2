"""Receivers that come with leanrx: what is in the zoo is whole, says the truth, and serves other grids."""

from pathlib import Path

import pytest
import torch

import receivers
from channels import SlotStream
from energy.counting.counter import count
from leanrx_core.errors import UserError
from receivers import build, zoo
from receivers.evaluation.block_counter import stream_digest
from receivers.evaluation.error_counts import Counts, count_block
from receivers.neural.weights import Card, save
from receivers.zoo.results import Results

SHIPPED = pytest.mark.parametrize("name", zoo.names())


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of two receivers."""
    for name in ("tdl-6prb-hybrid-w4-d1", "tdl-6prb-hybrid-w8-d1"):
        spec = name.removeprefix("tdl-6prb-")
        net = build(spec)
        card = Card(
            name=name,
            receiver=spec,
            role="teacher",
            num_rx=2,
            num_bits=4,
            parameters=sum(p.numel() for p in net.parameters()),
            scenario="tdl-6prb",
            channels=("TDL-B",),
            trained_sinr_db=(0, 20),
            seed=0,
            training={},
        )
        save(tmp_path / name, net, card)
    monkeypatch.setattr(zoo, "SHIPPED", tmp_path)
    return tmp_path


def test_receivers_are_loaded_by_name_or_by_folder(two: Path, small) -> None:
    assert zoo.names(two) == ["tdl-6prb-hybrid-w4-d1", "tdl-6prb-hybrid-w8-d1"]
    by_name, by_folder = receivers.load("tdl-6prb-hybrid-w4-d1"), receivers.load(two / "tdl-6prb-hybrid-w4-d1")
    assert by_name.card == by_folder.card == zoo.card("tdl-6prb-hybrid-w4-d1", two)
    slots = SlotStream(small, 1, 2).block(0)
    assert torch.equal(by_name(slots), by_folder(slots))


def test_a_name_that_is_not_there_meets_its_neighbours(two: Path) -> None:
    with pytest.raises(UserError) as error:
        receivers.load("tdl-6prb-hybrid-w8")
    assert str(error.value) == (
        "receiver: no 'tdl-6prb-hybrid-w8' in the zoo (did you mean tdl-6prb-hybrid-w8-d1 or tdl-6prb-hybrid-w4-d1?); "
        "available: tdl-6prb-hybrid-w4-d1, tdl-6prb-hybrid-w8-d1; or give a folder"
    )
    with pytest.raises(UserError, match=r"no 'x' in the zoo; available: tdl-6prb"):
        receivers.load("x")
    with pytest.raises(UserError, match=r"there/card\.json: missing"):
        receivers.load(two / "not" / "there")


def test_results_that_are_missing_damaged_or_of_other_weights_are_refused(two: Path, small) -> None:
    name = "tdl-6prb-hybrid-w4-d1"
    path = two / name / "results.json"
    with pytest.raises(UserError, match="missing"):
        zoo.results(name, two)
    path.write_text('{"points": 3}')
    with pytest.raises(UserError, match="not the results"):
        zoo.results(name, two)
    results = Results(
        weights_sha256=zoo.card(name, two).weights_sha256,
        scenario=small,
        test_seed=1,
        block_slots=4,
        stream="x",
        device="cpu",
        points=(),
        macs=3,
        macs_method="fvcore",
        energy=(),
    )
    results.write(path)
    assert zoo.results(name, two) == results
    assert results.flops == 6
    results.model_copy(update={"weights_sha256": "0"}).write(path)
    with pytest.raises(UserError, match="belongs to other weights"):
        zoo.results(name, two)


def test_what_is_shipped_is_at_most_20_mib() -> None:
    files = [p for name in zoo.names() for p in (zoo.SHIPPED / name).iterdir()]
    assert sum(p.stat().st_size for p in files) <= 20 * 2**20
    assert {p.name for p in files} <= {"weights.safetensors", "card.json", "results.json"}


@SHIPPED
def test_a_shipped_receiver_is_what_its_files_say(name: str) -> None:
    receiver, found = receivers.load(name), zoo.results(name)
    assert receiver.card.name == name
    assert {p.dtype for p in receiver.net.parameters()} == {torch.float32}
    counted = count(receiver.net, found.scenario.grid)
    assert (counted.parameters, counted.macs) == (receiver.card.parameters, found.macs)
    assert found.points
    assert found.energy
    stream = SlotStream(found.scenario, found.test_seed, found.block_slots, "test")
    assert stream_digest(stream) == found.stream
    for point in found.points:
        assert point.counts.slots == point.classical["LMMSE"].slots
        assert point.counts.bits == point.classical["LMMSE"].bits


@SHIPPED
def test_a_shipped_receiver_serves_26_resource_blocks(name: str) -> None:
    """The nets are fully convolutional: on a wider grid the BER is not above that of record, beyond both intervals.

    At the middle point without interference, on 64 slots; the intervals are of 99 %.
    """
    receiver, found = receivers.load(name), zoo.results(name)
    quiet = [p for p in found.points if p.interference_fraction == 0]
    point = sorted(quiet, key=lambda p: p.sinr_db)[len(quiet) // 2]
    grid = found.scenario.grid.model_copy(update={"num_prb": 26})
    wide = SlotStream(found.scenario.model_copy(update={"grid": grid}), found.test_seed, 64, "test", purpose="wide")
    counts = Counts(**count_block(receiver, wide.at_sinr(point.sinr_db).block(0)))
    assert counts.ber_interval(0.99)[0] <= point.counts.ber_interval(0.99)[1]
