"""Training slots from several scenarios: seeded, each block from one member, and refused where it makes no sense."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
import yaml

from channels import Dataset, Scenario, Slots, SlotStream, scenario
from channels.mixture_stream import MixtureStream, training_stream
from leanrx_core.errors import UserError

MEMBERS: list[dict[str, Any]] = [
    {"grid": {"num_rx": 1}, "modulations": ["QPSK"]},
    {"grid": {"num_rx": 4, "num_prb": 4, "subcarrier_spacing_hz": 30000}, "modulations": ["64-QAM"], "snr_db": [5, 40]},
    {"grid": {"pilot_patterns": [], "dmrs": {"additional_positions": [0, 1, 2]}}, "interferers": []},
]


def parsed(mixture: Any) -> Scenario:
    return Scenario.parse({**scenario("tdl-6prb").model_dump(exclude={"mixture"}), "mixture": mixture}, "mixed.yaml")


@pytest.fixture(scope="module")
def mixed() -> Scenario:
    return parsed(MEMBERS)


def assert_equal(a: Slots, b: Slots) -> None:
    for field in fields(Slots):
        assert torch.equal(getattr(a, field.name), getattr(b, field.name)), field.name


def test_members_are_complete_scenarios(mixed: Scenario) -> None:
    assert mixed.mixture is not None
    one, four, dmrs = mixed.mixture
    assert (one.grid.num_prb, one.grid.num_rx, one.modulations) == (6, 1, ("QPSK",))
    assert one.channels == mixed.channels
    assert (four.grid.num_prb, four.grid.subcarrier_spacing_hz, four.snr_db) == (4, 30_000, (5, 40))
    assert dmrs.grid.dmrs is not None
    assert dmrs.interferers == ()
    assert (mixed.num_bits, mixed.bits_per_symbol) == (6, 4)
    assert mixed.training_sinr_db == (-5.455404631092936, 40.0)
    assert Scenario.parse(yaml.safe_load(mixed.to_yaml()), "again") == mixed
    assert Scenario.model_validate_json(mixed.model_dump_json()) == mixed


def test_each_cycle_has_each_member_once(mixed: Scenario) -> None:
    stream = MixtureStream(mixed, seed=1, block_slots=2)
    antennas = [stream.block(n).y.shape[1] for n in range(12)]
    cycles = [antennas[i : i + 3] for i in range(0, 12, 3)]
    assert all(sorted(cycle) == [1, 2, 4] for cycle in cycles)
    assert len({tuple(cycle) for cycle in cycles}) > 1
    assert antennas != [MixtureStream(mixed, seed=2, block_slots=2).block(n).y.shape[1] for n in range(12)]


def test_a_block_is_that_of_its_member_and_depends_on_no_other(mixed: Scenario) -> None:
    assert mixed.mixture is not None
    stream = MixtureStream(mixed, seed=1, block_slots=2, purpose="teacher")
    for number in (7, 2):
        slots = stream.block(number)
        assert_equal(slots, MixtureStream(mixed, seed=1, block_slots=2, purpose="teacher").block(number))
        member = next(m for m in mixed.mixture if m.grid.num_rx == slots.y.shape[1])
        own = SlotStream(member, 1, 2, purpose="teacher").block(number)
        assert torch.equal(slots.y, own.y)
        assert slots.bits.shape[1] == 6
        assert torch.equal(slots.bits[:, : own.bits.shape[1]], own.bits)
        assert int(slots.bit_mask.sum()) == int(own.bit_mask.sum())


def test_a_scenario_without_a_mixture_trains_on_itself(mixed: Scenario) -> None:
    plain = mixed.model_copy(update={"mixture": None})
    assert_equal(training_stream(plain, 1, 2).block(3), SlotStream(plain, 1, 2).block(3))
    assert isinstance(training_stream(mixed, 1, 2), MixtureStream)
    with pytest.raises(UserError, match="has no mixture"):
        MixtureStream(plain, 1, 2)


def test_tests_have_the_conditions_of_the_scenario_itself(mixed: Scenario) -> None:
    plain = mixed.model_copy(update={"mixture": None})
    assert mixed.slots_json == plain.slots_json
    assert_equal(SlotStream(mixed, 1, 2, "test").block(0), SlotStream(plain, 1, 2, "test").block(0))
    with pytest.raises(UserError, match="a mixture is for training"):
        MixtureStream(mixed, 1, 2).at_sinr(10.0)


@pytest.mark.parametrize(
    ("mixture", "words"),
    [
        ([], "mixed.yaml: mixture: too few entries; write more"),
        ([{}], r"mixture.0: names no condition; write what differs, such as \{grid: \{num_rx: 4\}\}"),
        ([{"grid": {"num_rx": 4}}] * 2, "mixture.1: equals mixture.0; name it once"),
        ([{"grid": {"num_rx": 4}, "mixture": [{"snr_db": [0, 1]}]}], "mixture.0.mixture: a member has no mixture"),
        ([{"gird": {}}], "mixture.0.gird: unknown key; did you mean 'grid'?"),
        ([{"grid": {"num_rx": 0}}], "mixture.0.grid.num_rx: Input should be greater than or equal to 1"),
        ([{"max_doppler_hz": [0, 5000]}], "mixture.0: max_doppler_hz: 5000 Hz is above a twentieth"),
        (["tdl-6prb"], "mixture.0: write keys and values"),
        ({"grid": {"num_rx": 4}}, "mixture: write a list, in square brackets"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(mixture: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parsed(mixture)


def test_a_training_dataset_has_one_scenario(mixed: Scenario) -> None:
    with pytest.raises(UserError, match=r"scenario.mixture: a dataset has the slots of one scenario"):
        Dataset.parse({"label": "x", "scenario": mixed.model_dump(), "split": "train", "num_blocks": 1}, "data.yaml")
    assert Dataset.parse({"label": "x", "scenario": mixed.model_dump(), "split": "test", "num_blocks": 1}, "data.yaml")
