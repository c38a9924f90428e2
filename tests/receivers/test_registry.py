"""Families of learned receivers: spec strings, and a family that is added from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from channels import Scenario, Slots, SlotStream
from leanrx_core.errors import UserError
from receivers import Card, build, load, save
from receivers.neural.network import Network
from receivers.neural.registry import FAMILIES, Family, family_of, parse_spec, register


class TinyNet(Network):
    """Pilots and received grid through ``depth`` convolutions."""

    def __init__(self, num_rx: int, num_bits: int, width: float, depth: int) -> None:
        super().__init__(num_features=2 * num_rx + 2, num_bits=num_bits)
        sizes = [self.num_features, *[int(width)] * depth]
        convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes)]
        self.layers = nn.Sequential(*convolutions, nn.Conv2d(sizes[-1], num_bits, 1))

    @staticmethod
    def features(slots: Slots) -> torch.Tensor:
        pilots = slots.pilots[:, None]
        return torch.cat([slots.y.real, slots.y.imag, pilots.real, pilots.imag], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def check_size(width: float, depth: int) -> None:
    if depth > 3:
        raise ValueError(f"depth {depth} is above 3")


TINY = Family("tiny", TinyNet, 4, 2, check_size, colour="#cc79a7", marker="square")


@pytest.fixture
def tiny() -> Iterator[Family]:
    yield register(TINY)
    del FAMILIES["tiny"]


def test_a_third_family_is_one_row(tiny: Family, small: Scenario, tmp_path: Path) -> None:
    assert family_of("tiny-w3") is tiny
    assert parse_spec("tiny-w3") == (tiny, 3, 2)
    net = build("tiny-w3", num_bits=small.bits_per_symbol, seed=5)
    card = Card(
        name="x",
        receiver="tiny-w3",
        role="scratch",
        num_rx=2,
        num_bits=small.bits_per_symbol,
        parameters=1,
        scenario="small",
        channels=("TDL-B",),
        trained_sinr_db=(0, 20),
        seed=5,
        training={},
    )
    saved = save(tmp_path / "x", net, card)
    slots = SlotStream(small, 1, 4).block(0)
    assert saved(slots).shape == slots.bits.shape
    assert torch.equal(load(tmp_path / "x")(slots), saved(slots))
    with pytest.raises(UserError, match="'tiny-d4': depth 4 is above 3"):
        build("tiny-d4")
    with pytest.raises(UserError, match="hybrid-recurrent, tiny"):
        build("resnet")
    with pytest.raises(ValueError, match="registered already"):
        register(tiny)


def test_the_test_left_no_family_behind() -> None:
    assert set(FAMILIES) == {"deeprx", "deeprx-interpolated", "hybrid", "hybrid-shared", "hybrid-recurrent"}
    with pytest.raises(ValueError, match="lower-case"):
        register(Family("Tiny-2", TinyNet, 4, 2, check_size, "", ""))


def test_words_of_a_family_end_before_width_and_depth() -> None:
    assert parse_spec("hybrid-shared-w8-d5") == (FAMILIES["hybrid-shared"], 8, 5)
    assert parse_spec("hybrid-shared") == (FAMILIES["hybrid-shared"], 10, 8)
    for wrong in (
        "hybrid-shared-w2",
        "hybrid-w8-shared",
        "hybrid-shared-d5-w8",
        "hybrid-share",
        "hybrid-",
        "hybrid-s-w8",
    ):
        with pytest.raises(UserError, match=wrong):
            parse_spec(wrong)


def test_an_unknown_marker_is_refused() -> None:
    with pytest.raises(ValueError, match=r"family 'other': marker 'x' is unknown; choose from circle, "):
        register(replace(TINY, name="other", marker="x"))
