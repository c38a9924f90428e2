"""Learned receivers on disk: ``weights.safetensors`` and a ``card.json`` that describes them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import Field, ValidationError

from channels import Scenario, Slots
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.records import Record
from receivers.neural.network import Network
from receivers.neural.registry import build
from receivers.noise_power import check_powers, is_power, noise_plus_interference_var

Role = Literal["teacher", "student", "scratch"]
"""``student`` is distilled; ``scratch`` is the same network trained from scratch on the same slots."""


class Card(Record):
    """Description of a learned receiver: what it is, how it was trained, and its range of conditions.

    Attributes:
        name: its name in its run.
        receiver: spec string of the network.
        role: ``teacher``, ``student`` (distilled) or ``scratch`` (scratch baseline).
        num_rx, num_bits: receive antennas and LLRs per RE. A network that takes any number of antennas has the
            scenario's.
        parameters: trained parameters.
        scenario: name of the scenario it was trained on.
        channels: channel models it was trained on.
        conditions: the whole scenario it was trained on; none on the card of an earlier version.
        trained_sinr_db: SINR range of its training data (mean powers).
        seed: seed of its weights and data.
        training: configuration, losses, duration and energy of its training.
        weights_sha256: SHA-256 of the weights file.
        tested_conditions: of a receiver for many conditions: cells and points of its table of conditions, and how many
            points have a BER below LMMSE-IRC's, not separated from it, or above it; none on other cards.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]*$", max_length=200)
    receiver: str
    role: Role
    num_rx: int = Field(ge=1, le=16)
    num_bits: int = Field(ge=1, le=8)
    parameters: int = Field(ge=0)
    scenario: str
    channels: tuple[str, ...]
    conditions: Scenario | None = None
    trained_sinr_db: tuple[float, float]
    seed: int
    training: dict[str, Any]
    weights_sha256: str = ""
    tested_conditions: dict[str, Any] | None = None


def full_precision() -> contextlib.AbstractContextManager[None]:
    """Context in which convolutions on CUDA use float32 (no TF32) and deterministic algorithms."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


class NeuralReceiver:
    """A network and its card: a :class:`receivers.base.Receiver`.

    A slot with fewer bits per RE than the network has LLRs gets the first of them. As exported files do, it refuses
    slots whose noise-plus-interference power is not a finite number above 0.

    Args:
        net: the network; it is moved to ``device`` and set to inference.
        card: its description.
        device: torch device.
    """

    def __init__(self, net: Network, card: Card, device: str = "cpu") -> None:
        self.net = net.to(device, memory_format=net.memory_format).eval()  # type: ignore[call-overload]
        self.card, self.name = card, card.name
        self.digest = card.weights_sha256

    @torch.no_grad()
    def __call__(self, slots: Slots) -> torch.Tensor:
        # DeepRx refuses a power of 0, too, as its exported files do
        check_powers("noise_plus_interference_var", is_power(noise_plus_interference_var(slots)))
        num_rx, num_bits = slots.y.shape[1], slots.bits.shape[1]
        features = self.net.features(slots).contiguous(memory_format=self.net.memory_format)
        if features.shape[1] != self.net.input_channels(num_rx):
            raise UserError(f"{self.name}: has {self.card.num_rx} antennas, and the slots have {num_rx}")
        if num_bits > self.net.num_bits:
            raise UserError(f"{self.name}: gives {self.net.num_bits} LLRs per RE, and the slots have up to {num_bits}")
        with full_precision():
            return self.net(features)[:, :num_bits].float().contiguous()


def save(folder: str | Path, net: Network, card: Card) -> NeuralReceiver:
    """Write weights and card into ``folder``.

    The card is written last, so a folder with a card is complete.

    Args:
        folder: created if missing.
        net: the network.
        card: its description; ``weights_sha256`` is filled in.

    Returns:
        The receiver with the written card, on the network's device.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    data = safetensors.torch.save(tensors)
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    write_atomic(Path(folder) / "weights.safetensors", data)
    write_atomic(Path(folder) / "card.json", json.dumps(card.model_dump(mode="json"), indent=2) + "\n")
    return NeuralReceiver(net, card, str(next(net.parameters()).device))


def load(folder: str | Path, device: str = "cpu") -> NeuralReceiver:
    """Read a receiver from its folder.

    Args:
        folder: with ``weights.safetensors`` and ``card.json``.
        device: torch device.

    Raises:
        UserError: if a file is missing, damaged or of an earlier version, or if weights and card do not match.
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
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, LookupError):
        raise UserError(f"{weights_path}: not in the safetensors format; train the receiver again") from None
    unknown = sorted(set(tensors) - set(net.state_dict()))
    if unknown:
        raise UserError(
            f"{weights_path}: of an earlier version of leanrx, or of another network than '{card.receiver}' "
            f"(unknown tensor '{unknown[0]}'); train the receiver again"
        )
    for name, tensor in net.state_dict().items():
        if name in tensors and (tensors[name].dtype != tensor.dtype or not torch.isfinite(tensors[name]).all()):
            raise UserError(
                f"{weights_path}: '{name}' is not finite, or not of type {tensor.dtype}; train the receiver again"
            )
    try:
        net.load_state_dict(tensors)
    except RuntimeError:
        raise UserError(
            f"{Path(folder) / 'card.json'}: describes another network than the weights; "
            "restore the file, or train the receiver again"
        ) from None
    return NeuralReceiver(net, card, device)


def read_card(folder: str | Path) -> Card:
    """Read the card of a receiver.

    Raises:
        UserError: if it is missing, damaged or of an earlier version.
    """
    path = Path(folder) / "card.json"
    data = _read(path)
    try:
        return Card.model_validate_json(data)
    except ValidationError as error:
        fields = ", ".join(sorted({str(mistake["loc"][0]) for mistake in error.errors() if mistake["loc"]}))
        mistakes = f" ({fields} cannot be read)" if fields else ""
        raise UserError(
            f"{path}: not a receiver's card, or a card of an earlier version of leanrx{mistakes}; "
            "restore the file or train the receiver again"
        ) from None


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"{path}: missing; train the receiver again or restore the file")
    return path.read_bytes()
