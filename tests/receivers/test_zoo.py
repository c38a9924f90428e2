"""Receivers that come with leanrx: their files are complete and consistent, and they work on other grids."""

from pathlib import Path

import pytest
import torch

import receivers
from channels import SlotStream
from energy.counting.counter import count
from leanrx_core.errors import UserError
from receivers import build, zoo
from receivers.evaluation.block_counter import stream_digest
from receivers.evaluation.error_counts import COUNTED, Counts, count_block
from receivers.neural.weights import Card, save
from receivers.zoo.shipped_results import Results

SHIPPED = pytest.mark.parametrize("name", zoo.names())


@pytest.fixture
def two_receivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


def test_receivers_are_loaded_by_name_or_by_folder(two_receivers: Path, small) -> None:
    assert zoo.names(two_receivers) == ["tdl-6prb-hybrid-w4-d1", "tdl-6prb-hybrid-w8-d1"]
    by_name, by_folder = (
        receivers.load("tdl-6prb-hybrid-w4-d1"),
        receivers.load(two_receivers / "tdl-6prb-hybrid-w4-d1"),
    )
    assert by_name.card == by_folder.card == zoo.card("tdl-6prb-hybrid-w4-d1", two_receivers)
    slots = SlotStream(small, 1, 2).block(0)
    assert torch.equal(by_name(slots), by_folder(slots))


def test_an_unknown_name_is_refused_with_suggestions(two_receivers: Path) -> None:
    with pytest.raises(UserError) as error:
        receivers.load("tdl-6prb-hybrid-w8")
    assert str(error.value) == (
        "receiver: no 'tdl-6prb-hybrid-w8' in the zoo (did you mean tdl-6prb-hybrid-w8-d1 or tdl-6prb-hybrid-w4-d1?); "
        "available: tdl-6prb-hybrid-w4-d1, tdl-6prb-hybrid-w8-d1; or give a folder"
    )
    with pytest.raises(UserError, match=r"no 'x' in the zoo; available: tdl-6prb"):
        receivers.load("x")
    with pytest.raises(UserError, match=r"there/card\.json: missing"):
        receivers.load(two_receivers / "not" / "there")


def test_results_that_are_missing_damaged_or_of_other_weights_are_refused(two_receivers: Path, small) -> None:
    name = "tdl-6prb-hybrid-w4-d1"
    path = two_receivers / name / "results.json"
    with pytest.raises(UserError, match="missing"):
        zoo.results(name, two_receivers)
    path.write_text('{"points": 3}')
    with pytest.raises(UserError, match="not the results"):
        zoo.results(name, two_receivers)
    results = Results(
        weights_sha256=zoo.card(name, two_receivers).weights_sha256,
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
    assert zoo.results(name, two_receivers) == results
    assert results.flops == 6
    results.model_copy(update={"weights_sha256": "0"}).write(path)
    with pytest.raises(UserError, match="belongs to other weights"):
        zoo.results(name, two_receivers)


def test_what_is_shipped_is_at_most_20_mib() -> None:
    files = [p for name in zoo.names() for p in (zoo.SHIPPED / name).iterdir()]
    assert sum(p.stat().st_size for p in files) <= 20 * 2**20
    assert {p.name for p in files} <= {"weights.safetensors", "card.json", "results.json"}


@SHIPPED
def test_a_shipped_receiver_is_what_its_files_say(name: str) -> None:
    receiver, results = receivers.load(name), zoo.results(name)
    assert receiver.card.name == name
    assert {p.dtype for p in receiver.net.parameters()} == {torch.float32}
    counted = count(receiver.net, results.scenario.grid)
    assert (counted.parameters, counted.macs) == (receiver.card.parameters, results.macs)
    assert results.points
    assert results.energy
    stream = SlotStream(results.scenario, results.test_seed, results.block_slots, "test")
    assert stream_digest(stream) == results.stream
    for point in results.points:
        assert point.counts.slots == point.classical["LMMSE"].slots
        assert point.counts.bits == point.classical["LMMSE"].bits


@SHIPPED
def test_a_shipped_receiver_serves_26_resource_blocks(name: str) -> None:
    """The nets are fully convolutional: on a wider grid the BER is not above that of record, beyond both intervals.

    At the middle point without interference, on 64 slots; the intervals are of 99 %.
    """
    receiver, results = receivers.load(name), zoo.results(name)
    quiet = [p for p in results.points if p.interference_fraction == 0]
    point = sorted(quiet, key=lambda p: p.sinr_db)[len(quiet) // 2]
    grid = results.scenario.grid.model_copy(update={"num_prb": 26})
    wide = SlotStream(results.scenario.model_copy(update={"grid": grid}), results.test_seed, 64, "test", purpose="wide")
    counted = count_block(receiver, wide.at_sinr(point.sinr_db).block(0))
    counts = Counts(**{name: counted[name] for name in COUNTED})
    assert counts.ber_interval(0.99)[0] <= point.counts.ber_interval(0.99)[1]
