"""Learned receivers on disk: ``weights.safetensors`` beside a ``card.json`` that says what they are."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError

from channels import Slots
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.records import Record
from receivers.neural.network import Network
from receivers.neural.registry import build


class Card(Record):
    """What a learned receiver is, how it came to be and where it may be trusted.

    Attributes:
        name: its name in its run.
        receiver: spec string of the network.
        role: ``teacher``, ``student`` (distilled) or ``twin`` (the same without a teacher).
        num_rx, num_bits: receive antennas and LLRs per RE.
        parameters: trained parameters.
        scenario: name of the scenario it was trained on.
        channels: channel models it was trained on.
        trained_sinr_db: SINR range of its training data (mean powers).
        seed: seed of its weights and data.
        training: configuration, losses, duration and energy of its training.
        weights_sha256: fingerprint of the weights file.
    """

    name: str
    receiver: str
    role: str
    num_rx: int
    num_bits: int
    parameters: int
    scenario: str
    channels: tuple[str, ...]
    trained_sinr_db: tuple[float, float]
    seed: int
    training: dict[str, Any]
    weights_sha256: str = ""


def full_precision() -> contextlib.AbstractContextManager[None]:
    """Convolutions in float32 proper (no TF32) and the same on every call, on CUDA devices too."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


class NeuralReceiver:
    """A network and its card: a :class:`receivers.base.Receiver`."""

    def __init__(self, net: Network, card: Card, device: str = "cpu") -> None:
        self.net = net.to(device, memory_format=net.memory_format).eval()  # type: ignore[call-overload]
        self.card, self.name = card, card.name
        self.digest = card.weights_sha256

    @torch.no_grad()
    def __call__(self, slots: Slots) -> torch.Tensor:
        inputs = self.net.features(slots).contiguous(memory_format=self.net.memory_format)
        with full_precision():
            return self.net(inputs).float().contiguous()


def save(folder: str | Path, net: Network, card: Card) -> NeuralReceiver:
    """Write weights and card into ``folder`` (the card last, so a folder with a card is complete)."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    data = safetensors.torch.save(tensors)
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    write_atomic(Path(folder) / "weights.safetensors", data)
    write_atomic(Path(folder) / "card.json", json.dumps(card.model_dump(mode="json"), indent=2) + "\n")
    return NeuralReceiver(net, card, str(next(net.parameters()).device))


def load(folder: str | Path, device: str = "cpu") -> NeuralReceiver:
    """Read a receiver.

    Raises:
        UserError: if a file is missing, damaged, or does not fit the card.
    """
    card, weights_path = read_card(folder), Path(folder) / "weights.safetensors"
    data = _read(weights_path)
    if hashlib.sha256(data).hexdigest() != card.weights_sha256:
        raise UserError(
            f"{weights_path}: damaged or truncated ({len(data)} bytes; its SHA-256 is not the card's); "
            "restore the file or delete the folder and train again"
        )
    net = build(card.receiver, card.num_rx, card.num_bits)
    try:
        net.load_state_dict(safetensors.torch.load(data))
    except RuntimeError:
        raise UserError(
            f"{Path(folder) / 'card.json'}: describes another network than the weights; "
            "restore the file, or use the version of leanrx that made it"
        ) from None
    return NeuralReceiver(net, card, device)


def read_card(folder: str | Path) -> Card:
    """The card of a receiver.

    Raises:
        UserError: if it is missing or damaged.
    """
    path = Path(folder) / "card.json"
    try:
        return Card.model_validate_json(_read(path))
    except ValidationError:
        raise UserError(f"{path}: not a receiver's card; restore the file or train again") from None


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"{path}: missing; train the receiver again or restore the file")
    return path.read_bytes()
