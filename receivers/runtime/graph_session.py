"""What the runtimes of exported graphs have in common: metadata, inputs, and the check of values."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from leanrx_core.errors import UserError
from receivers.runtime.call_arguments import check_llrs
from receivers.runtime.receiver_session import ReceiverSession
from receivers.runtime.slot_format import INPUTS, RECEIVER_KEY, SLOTS_KEY, SlotFormat, as_real


class GraphSession(ReceiverSession):
    """An exported graph, opened in a runtime. A graph cannot refuse a slot itself, so all values are checked before.

    Args:
        path: of the file.
        data: its bytes.
        metadata: of the file; the slots are a dictionary or JSON.
        inputs: see the attributes.

    Attributes:
        receiver: spec string of the receiver, such as ``"hybrid-w13-d8"``.
        slots: the slots that the file takes.
        inputs: types and shapes by name; free sizes are texts such as ``"subcarriers"``.

    Raises:
        UserError: if the metadata or the inputs are not those of an exported receiver.
    """

    runtime: ClassVar[str]
    """Name of the program that computes."""

    def __init__(
        self, path: str | Path, data: bytes, metadata: Mapping[str, Any], inputs: dict[str, dict[str, Any]]
    ) -> None:
        self.receiver, self.slots = _description(metadata, path)
        super().__init__(path, data, self.slots.num_rx, self.slots.num_bits, self.slots.whole_prb)
        if "y" not in inputs or not inputs.keys() <= set(INPUTS):
            raise UserError(f"{path}: its inputs are not {', '.join(INPUTS)}; export again")
        self.inputs = inputs

    def _llrs(
        self,
        y: NDArray[np.complex64],
        pilots: NDArray[np.complex64],
        noise_plus_interference_var: NDArray[np.float32],
        orders: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        arrays: tuple[NDArray[Any], ...] = (as_real(y), as_real(pilots), noise_plus_interference_var, orders)
        self.slots.check(arrays[0], arrays[1], self.path.name)
        try:
            llrs = self._run({name: x for name, x in zip(INPUTS, arrays, strict=True) if name in self.inputs})
        except Exception as error:
            raise UserError(
                f"{self.path.name}: {self.runtime} cannot process shape {y.shape} ({type(error).__name__}); export "
                "again"
            ) from None
        check_llrs(llrs, self.path.name)
        return llrs

    @abstractmethod
    def _run(self, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """LLRs of the graph.

        Args:
            arrays: the graph's inputs by name, for one or several slots.
        """


def _description(metadata: Mapping[str, Any], path: str | Path) -> tuple[str, SlotFormat]:
    """Spec string of the receiver, and the slots that the file takes."""
    if RECEIVER_KEY not in metadata:
        raise UserError(f"{path}: its metadata name no receiver; export the receiver again")
    if SLOTS_KEY not in metadata:
        raise UserError(f"{path}: exported by an earlier version of leanrx, without its front end; export again")
    try:
        slots = metadata[SLOTS_KEY]
        return str(metadata[RECEIVER_KEY]), SlotFormat.from_json(
            slots if isinstance(slots, dict) else json.loads(slots)
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f"{path}: its metadata describe no slots; export again") from None
