"""Trained receivers that come with leanrx, by name: ``receivers.load("tdl-6prb-hybrid-w64-d8")``.

One folder each: ``weights.safetensors`` and ``card.json`` as every learned receiver has them, and ``results.json``,
what it was found to do and to cost (:class:`receivers.zoo.results.Results`). ``docs/zoo.md`` shows them as tables.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from leanrx_core.errors import UserError
from receivers.neural import weights
from receivers.neural.weights import Card, NeuralReceiver, read_card
from receivers.zoo.results import Results

SHIPPED = Path(__file__).parent
"""The folder of those that come with leanrx."""


def names(zoo: Path | None = None) -> list[str]:
    """Names of the receivers in a zoo: a folder, or :data:`SHIPPED`."""
    return sorted(p.parent.name for p in (zoo or SHIPPED).glob("*/card.json") if not p.parent.name.startswith("."))


def load(name_or_folder: str | Path, device: str = "cpu") -> NeuralReceiver:
    """Load a trained receiver.

    Args:
        name_or_folder: a folder with weights and card, or the name of a receiver that comes with leanrx.
        device: torch device.

    Raises:
        UserError: if there is no such receiver, or a file is missing, damaged, or does not fit the card.
    """
    folder = Path(name_or_folder)
    if not folder.is_dir() and os.sep not in str(name_or_folder):
        folder = _folder(str(name_or_folder))
    return weights.load(folder, device)


def card(name: str, zoo: Path | None = None) -> Card:
    """The card of a receiver in a zoo.

    Raises:
        UserError: if there is no such receiver, or its card is damaged.
    """
    return read_card(_folder(name, zoo))


def results(name: str, zoo: Path | None = None) -> Results:
    """What a receiver in a zoo was found to do and to cost.

    Raises:
        UserError: if there is no such receiver, or the file is missing, damaged, or of other weights.
    """
    folder = _folder(name, zoo)
    found = Results.read(folder / "results.json")
    if found.weights_sha256 != read_card(folder).weights_sha256:
        raise UserError(f"{folder / 'results.json'}: of other weights than the card's; restore the file")
    return found


def _folder(name: str, zoo: Path | None = None) -> Path:
    there = names(zoo)
    if name not in there:
        near = difflib.get_close_matches(name, there, cutoff=0.5)
        meant = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise UserError(
            f"receiver: no '{name}' in the zoo{meant}; there are: {', '.join(there) or 'none'}; or give a folder"
        )
    return (zoo or SHIPPED) / name
