"""Trained receivers that ship with leanrx, by name: ``receivers.load("tdl-6prb-hybrid-w64-d8")``.

Each has a folder with ``weights.safetensors`` and ``card.json``, as every learned receiver. Its ``results.json`` holds
error counts, operations and energy (:class:`receivers.zoo.shipped_results.Results`). ``docs/zoo.md`` shows the tables.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from leanrx_core.errors import UserError
from receivers.neural import weights
from receivers.neural.weights import Card, NeuralReceiver, read_card
from receivers.zoo.shipped_results import Results

SHIPPED = Path(__file__).parent
"""Folder of the receivers that ship with leanrx."""


def names(zoo: Path | None = None) -> list[str]:
    """Names of the receivers in a zoo.

    Args:
        zoo: a folder; :data:`SHIPPED` if not given.
    """
    return sorted(p.parent.name for p in (zoo or SHIPPED).glob("*/card.json") if not p.parent.name.startswith("."))


def load(name_or_folder: str | Path, device: str = "cpu") -> NeuralReceiver:
    """Load a trained receiver.

    Args:
        name_or_folder: a folder with weights and card, or the name of a receiver that ships with leanrx.
        device: torch device.

    Raises:
        UserError: if there is no such receiver, or a file is missing, damaged, or does not fit the card.

    Example:
        >>> from receivers import load
        >>> receiver = load("tdl-6prb-hybrid-w5-d5-kd")
        >>> receiver.card.role, receiver.card.parameters
        ('student', 3548)
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
    """The results of a receiver in a zoo.

    Raises:
        UserError: if there is no such receiver, or the file is missing, damaged, or belongs to other weights.
    """
    folder = _folder(name, zoo)
    record = Results.read(folder / "results.json")
    if record.weights_sha256 != read_card(folder).weights_sha256:
        raise UserError(f"{folder / 'results.json'}: belongs to other weights than the card's; restore the file")
    return record


def _folder(name: str, zoo: Path | None = None) -> Path:
    available = names(zoo)
    if name not in available:
        matches = difflib.get_close_matches(name, available, cutoff=0.5)
        suggestion = f" (did you mean {' or '.join(matches)}?)" if matches else ""
        raise UserError(
            f"receiver: no '{name}' in the zoo{suggestion}; available: {', '.join(available) or 'none'}; "
            "or give a folder"
        )
    return (zoo or SHIPPED) / name
