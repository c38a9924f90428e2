"""Error counts of several receivers on numbered blocks of one stream."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from channels import Stream
from receivers.base import Receiver
from receivers.evaluation.error_counts import BlockCount, count_block
from receivers.evaluation.ldpc import TransportBlocks


class BlockCounter:
    """Counts blocks of one stream, with the same result in any process of a device and in any order.

    Args:
        receivers: all see the same slots.
        stream: slots; SNR and interference are set at each point.
        code_rate: code rate of the transport blocks; without it, none are decoded.
    """

    def __init__(self, receivers: Sequence[Receiver], stream: Stream, code_rate: float | None = None) -> None:
        self._receivers = {r.name: r for r in receivers}
        self._stream, self._code_rate = stream, code_rate
        self._transport: TransportBlocks | None = None  # created in the process that decodes
        self._origin: dict[str, Any] = {
            "stream": stream_digest(stream),
            "device": device_name(stream.device),
            "code_rate": code_rate or 0.0,
        }

    def matches(self, row: BlockCount) -> bool:
        """Whether this counter would give the same row. Rows of receivers that it does not have always match."""
        receiver = self._receivers.get(row.receiver)
        same_code = row.code_rate == self._code_rate or self._code_rate is None
        same_slots = row.stream == self._origin["stream"] and row.device == self._origin["device"]
        return same_slots and same_code and (receiver is None or row.digest == receiver.digest)

    @torch.no_grad()
    def rows(self, interference_fraction: float, sinr_db: float, number: int, names: Sequence[str]) -> list[BlockCount]:
        """Count errors on one block of a test point.

        Args:
            interference_fraction, sinr_db: the test point.
            number: of the block.
            names: receivers to count.
        """
        if self._code_rate is not None and self._transport is None:
            self._transport = TransportBlocks(self._code_rate, device=self._stream.device)
        with one_thread():
            slots = self._stream.at_sinr(sinr_db, interference_fraction).block(number)
            return [
                BlockCount(
                    receiver=name,
                    digest=self._receivers[name].digest,
                    interference_fraction=interference_fraction,
                    sinr_db=sinr_db,
                    block=number,
                    **self._origin,
                    **count_block(self._receivers[name], slots, self._transport),
                )
                for name in names
            ]


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: the rounding of sums, and so a decision near zero, depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def device_name(device: str) -> str:
    """``cpu`` or the name of a GPU. Random numbers and arithmetic are equal on equal devices only.

    Example:
        >>> device_name("cpu")
        'cpu'
    """
    return "cpu" if torch.device(device).type == "cpu" else torch.cuda.get_device_name(device)


def stream_digest(stream: Stream) -> str:
    """Hash of everything that determines the slots of a stream on a device, except the SINR."""
    text = f"{stream.scenario.slots_json}/{stream.name}/{stream.seed}/{stream.block_slots}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
