"""Parts of ``card.json`` that the exports of all formats share."""

from __future__ import annotations

from typing import Any

from channels import Scenario
from receivers.base import Receiver
from receivers.export.parity import MAX_LLR_DIFFERENCE, Parity, total_parity
from receivers.neural.weights import NeuralReceiver

OUTPUT = "log P(bit = 1) / P(bit = 0); positive means 1; negate for decoders of log P(0) / P(1)"
"""Meaning of the LLRs."""


def file_name(receiver: Receiver) -> str:
    """Name of the files of a receiver: that of a neural one, and ``lmmse`` or ``lmmse-irc``."""
    return receiver.name if isinstance(receiver, NeuralReceiver) else receiver.name.lower()


def receiver_entry(receiver: Receiver, scenario: Scenario) -> dict[str, Any]:
    """What identifies the receiver of a file: the card of a neural one, or name, digest and conditions.

    Args:
        receiver: that was exported.
        scenario: of a classical one.
    """
    if isinstance(receiver, NeuralReceiver):
        return receiver.card.model_dump(mode="json")
    return {"name": receiver.name, "digest": receiver.digest, "scenario": scenario.model_dump(mode="json")}


def parity_entry(parities: dict[str, Parity]) -> dict[str, Any]:
    """The comparison of a file with its receiver, over all points and at each."""
    return {
        "llr_tolerance": MAX_LLR_DIFFERENCE,
        **total_parity(parities).as_json(),
        "points": {name: parity.as_json() for name, parity in parities.items()},
    }
