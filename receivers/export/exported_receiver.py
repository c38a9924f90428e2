"""An exported file as a receiver, whatever its format."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from channels import Slots
from receivers.runtime import CLibrary, LiteRtSession, OnnxSession, ReceiverSession

Arithmetic = Literal["float", "fp16", "int8"]

_GRAPH_SESSIONS: dict[str, type[OnnxSession | LiteRtSession]] = {".onnx": OnnxSession, ".tflite": LiteRtSession}
"""Runtimes of graphs by the suffix of their file. Other files are compiled C files."""


class ExportedReceiver:
    """An exported file: a :class:`receivers.base.Receiver` on the CPU, which each process that uses it loads.

    A slot with fewer bits per RE than the file has LLRs gets the first of them.

    Args:
        path: an ONNX, LiteRT or compiled C file.
        name: name in tables.
        digest: hash of what the file was built from; that of the file if not given.
        arithmetic: of its convolutions.

    Raises:
        UserError: if the file is missing, or its runtime cannot load it.
    """

    def __init__(self, path: str | Path, name: str, digest: str = "", arithmetic: Arithmetic = "float") -> None:
        self.path, self.name, self.arithmetic = Path(path), name, arithmetic
        self._session: ReceiverSession | None = None
        self.digest = digest or self.session.digest

    @property
    def session(self) -> ReceiverSession:
        """The file in its runtime."""
        if self._session is None:
            self._session = _GRAPH_SESSIONS.get(self.path.suffix, CLibrary)(self.path)
        return self._session

    def __call__(self, slots: Slots) -> torch.Tensor:
        return torch.from_numpy(self.session(*runtime_arguments(slots)))[:, : slots.bits.shape[1]]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}


def runtime_arguments(slots: Slots) -> tuple[np.ndarray, ...]:
    """Arguments of a runtime: received grid, pilots, noise-plus-interference power and bits per symbol."""
    noise_plus_interference_var = slots.noise_var + slots.interference_var
    arrays = (slots.y, slots.pilots, noise_plus_interference_var, slots.bits_per_symbol)
    return tuple(x.cpu().numpy() for x in arrays)
