"""Learned receivers on disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from channels import Scenario, SlotStream
from leanrx_core.errors import UserError
from receivers.neural.registry import build
from receivers.neural.weights import Card, load, read_card, save


def card() -> Card:
    return Card(
        name="x",
        receiver="deeprx-w0.0625-d3",
        role="scratch",
        num_rx=2,
        num_bits=4,
        parameters=1,
        scenario="s",
        channels=("TDL-B",),
        trained_sinr_db=(0, 20),
        seed=1,
        training={},
    )


def test_weights_come_back_equal(tmp_path: Path, small: Scenario) -> None:
    net = build("deeprx-w0.0625-d3", seed=4)
    saved = save(tmp_path / "x", net, card())
    loaded = load(tmp_path / "x")
    slots = SlotStream(small, 1, 4).block(0)
    assert torch.equal(saved(slots), loaded(slots))
    assert loaded.digest == saved.digest


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "card"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "x"
    save(folder, build("deeprx-w0.0625-d3"), card())
    weights = folder / "weights.safetensors"
    data = weights.read_bytes()
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(data[:-100])
    elif damage == "flipped":
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        (folder / "card.json").write_text("{}")
    with pytest.raises(UserError, match="x/"):
        load(folder)


def test_a_card_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "x", build("deeprx-w0.0625-d3"), card())
    path = tmp_path / "x" / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "role": "twin"}))
    with pytest.raises(
        UserError, match=r"card\.json: .*earlier version of leanrx \(role cannot be read\); .*train"
    ) as error:
        read_card(tmp_path / "x")
    assert "\n" not in str(error.value)


def test_weights_of_an_earlier_version_are_refused(tmp_path: Path) -> None:
    """Hybrids once named their convolutions compare, look_around and move."""
    net = build("hybrid-w2-d1")
    save(tmp_path / "x", net, card().model_copy(update={"receiver": "hybrid-w2-d1"}))
    tensors = {name.replace("depthwise", "look_around"): value for name, value in net.state_dict().items()}
    data = safetensors.torch.save(tensors)
    (tmp_path / "x" / "weights.safetensors").write_bytes(data)
    path = tmp_path / "x" / "card.json"
    digest = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights_sha256": digest}))
    with pytest.raises(UserError, match=r"earlier version of leanrx.*look_around.*train the receiver again"):
        load(tmp_path / "x")
