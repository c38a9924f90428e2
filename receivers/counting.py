"""Counts of errors: of one receiver in one block of slots, their sums, and what they say about rates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from channels import Slots, Stream
from receivers.coding import TransportBlocks
from receivers.intervals import slot_clustered, wilson
from receivers.protocol import Receiver

Interval = tuple[float, float]


@dataclass(frozen=True)
class Counts:
    """Errors of one receiver; they add. Sums of powers over slots, of e errors in b bits, serve the BER's interval.

    ``transport_blocks`` and ``block_errors`` are coded blocks and those that came out wrong; 0 where uncoded.
    """

    slots: int = 0
    bits: int = 0
    bit_errors: int = 0
    slot_errors: int = 0
    transport_blocks: int = 0
    block_errors: int = 0
    bit_errors_sq: int = 0
    bit_errors_x_bits: int = 0
    bits_sq: int = 0
    bit_errors_cu: float = 0.0
    bit_errors_sq_x_bits: float = 0.0
    bit_errors_x_bits_sq: float = 0.0
    bits_cu: float = 0.0

    def plus(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in COUNTED))

    @property
    def ber(self) -> float:
        return self.bit_errors / self.bits

    def ber_interval(self, level: float = 0.95) -> Interval:
        """See :func:`receivers.intervals.slot_clustered`."""
        p = self.ber
        squares = self.bit_errors_sq - 2 * p * self.bit_errors_x_bits + p**2 * self.bits_sq
        cubes = (
            self.bit_errors_cu - 3 * p * self.bit_errors_sq_x_bits + 3 * p**2 * self.bit_errors_x_bits_sq
            - p**3 * self.bits_cu
        )  # fmt: skip
        return slot_clustered(self.slots, self.slot_errors, self.bits, self.bit_errors, squares, cubes, level)

    def slot_error_interval(self, level: float = 0.95) -> Interval:
        return wilson(self.slot_errors, self.slots, level)

    def bler_interval(self, level: float = 0.95) -> Interval:
        """Wilson's; NaN where uncoded."""
        if not self.transport_blocks:
            return float("nan"), float("nan")
        return wilson(self.block_errors, self.transport_blocks, level)


COUNTED = tuple(f.name for f in fields(Counts))
"""Fields that add up over blocks of slots."""

POWER_SUMS = COUNTED[COUNTED.index("bit_errors_sq") :]
"""Those of them that only the BER's interval needs."""


@dataclass(frozen=True, kw_only=True)
class BlockCount(Counts):
    """Errors of one receiver in one block of slots: a row of the table.

    Attributes:
        digest: fingerprint of the receiver.
        stream: fingerprint of the slots, see :func:`stream_digest`; ``device`` is what drew and detected them.
        code_rate: of the transport blocks; 0 where uncoded.
        block: number of the block.
    """

    receiver: str
    digest: str
    stream: str
    device: str
    code_rate: float
    interference_share: float
    sinr_db: float
    block: int
    realised_sinr_db: float

    @property
    def key(self) -> tuple[str, float, float, int]:
        return self.receiver, self.interference_share, self.sinr_db, self.block


def count_block(receiver: Receiver, slots: Slots, transport: TransportBlocks | None = None) -> dict[str, Any]:
    """Errors of one receiver on one batch of slots, as the fields of :class:`Counts`.

    Args:
        transport: decodes transport blocks; none leaves them out.
    """
    llrs, mask = receiver(slots), slots.bit_mask
    wrong = ((llrs > 0) != slots.bits.bool()) & mask
    errors, bits = wrong.sum((1, 2, 3)), mask.sum((1, 2, 3))
    failed = transport.errors(slots, llrs) if transport is not None else torch.zeros(0)
    counts = Counts(
        slots=len(slots),
        bits=int(bits.sum()),
        bit_errors=int(errors.sum()),
        slot_errors=int((errors > 0).sum()),
        transport_blocks=len(failed),
        block_errors=int(failed.sum()),
        bit_errors_sq=int((errors * errors).sum()),
        bit_errors_x_bits=int((errors * bits).sum()),
        bits_sq=int((bits * bits).sum()),
        bit_errors_cu=float((errors.double() ** 3).sum()),
        bit_errors_sq_x_bits=float((errors.double() ** 2 * bits).sum()),
        bit_errors_x_bits_sq=float((errors * bits.double() ** 2).sum()),
        bits_cu=float((bits.double() ** 3).sum()),
    )
    return asdict(counts)


class Counter:
    """Counts blocks of one stream: the same counts in any process of a device, whatever was counted before.

    Args:
        receivers: all see the same slots.
        stream: slots; SNR and interference are replaced at each point.
        code_rate: of transport blocks, or none to leave them out.
    """

    def __init__(self, receivers: Sequence[Receiver], stream: Stream, code_rate: float | None = None) -> None:
        self._receivers = {r.name: r for r in receivers}
        self._stream, self._code_rate = stream, code_rate
        self._transport: TransportBlocks | None = None  # made where blocks are counted
        self._origin: dict[str, Any] = {
            "stream": stream_digest(stream), "device": device_name(stream.device), "code_rate": code_rate or 0.0
        }  # fmt: skip

    def serves(self, row: BlockCount) -> bool:
        """Whether this counter would count the same (a receiver that it has not is taken on trust)."""
        receiver = self._receivers.get(row.receiver)
        same_code = row.code_rate == self._code_rate or self._code_rate is None
        same_slots = row.stream == self._origin["stream"] and row.device == self._origin["device"]
        return same_slots and same_code and (receiver is None or row.digest == receiver.digest)

    @torch.no_grad()
    def rows(self, interference_share: float, sinr_db: float, number: int, names: Sequence[str]) -> list[BlockCount]:
        """Count the receivers ``names`` on block ``number`` of a test point."""
        if self._code_rate is not None and self._transport is None:
            self._transport = TransportBlocks(self._code_rate, device=self._stream.device)
        with _one_thread():
            slots = self._stream.at_sinr(sinr_db, interference_share).block(number)
            realised = float(slots.sinr_db.mean())
            return [
                BlockCount(
                    receiver=name, digest=self._receivers[name].digest, interference_share=interference_share,
                    sinr_db=sinr_db, block=number, realised_sinr_db=realised, **self._origin,
                    **count_block(self._receivers[name], slots, self._transport),
                )
                for name in names
            ]  # fmt: skip


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums over one thread: their rounding, and so a decision near zero, depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def device_name(device: str) -> str:
    """``cpu``, or the name of a GPU: random numbers and arithmetic are equal on equal devices only."""
    return "cpu" if torch.device(device).type == "cpu" else torch.cuda.get_device_name(device)


def stream_digest(stream: Stream) -> str:
    """Fingerprint of what a stream draws on a device, apart from its SINR."""
    scenario = stream.scenario.model_dump_json(exclude={"name", "snr_db"})
    text = f"{scenario}/{stream.name}/{stream.seed}/{stream.block_slots}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
