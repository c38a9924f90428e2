"""Error counts of one receiver, and the rates and intervals that follow from them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from channels import Slots
from leanrx_core.errors import UserError
from receivers.base import Receiver
from receivers.evaluation.intervals import slot_clustered, wilson
from receivers.evaluation.ldpc import TransportBlocks

Interval = tuple[float, float]


class NonFiniteLlrError(UserError):
    """A receiver gives LLRs that are infinite or no numbers."""


@dataclass(frozen=True)
class Counts:
    """Error counts of one receiver; ``+`` adds them.

    Attributes:
        slots, bits: trials.
        bit_errors: wrong hard decisions.
        slot_errors: slots with at least one bit error.
        transport_blocks, block_errors: decoded transport blocks, and wrong ones; 0 where uncoded.
        transport_block_bits, decoded_bits: information bits of all transport blocks, and of the correct ones.
        wanted_power, unwanted_power: sums over slots of the mean powers per RE and antenna.
        bit_errors_sq, bit_errors_x_bits, bits_sq, bit_errors_cu, bit_errors_sq_x_bits, bit_errors_x_bits_sq, bits_cu:
            sums over slots of products of a slot's bit errors and bits, for the BER's interval.

    Example:
        >>> first = Counts(slots=1, bits=100, bit_errors=10, slot_errors=1)
        >>> second = Counts(slots=1, bits=100, bit_errors=0)
        >>> (first + second).ber
        0.05
    """

    slots: int = 0
    bits: int = 0
    bit_errors: int = 0
    slot_errors: int = 0
    transport_blocks: int = 0
    block_errors: int = 0
    transport_block_bits: int = 0
    decoded_bits: int = 0
    wanted_power: float = 0.0
    unwanted_power: float = 0.0
    bit_errors_sq: int = 0
    bit_errors_x_bits: int = 0
    bits_sq: int = 0
    bit_errors_cu: float = 0.0
    bit_errors_sq_x_bits: float = 0.0
    bit_errors_x_bits_sq: float = 0.0
    bits_cu: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in COUNTED))

    @property
    def realised_sinr_db(self) -> float:
        """Mean wanted power over mean unwanted power of the slots, in dB."""
        return 10 * math.log10(self.wanted_power / self.unwanted_power) if self.unwanted_power else math.nan

    @property
    def ber(self) -> float:
        """Bit error rate."""
        return self.bit_errors / self.bits

    def ber_interval(self, level: float = 0.95) -> Interval:
        """Interval of the BER, see :func:`receivers.evaluation.intervals.slot_clustered`."""
        p = self.ber
        squares = self.bit_errors_sq - 2 * p * self.bit_errors_x_bits + p**2 * self.bits_sq
        cubes = (
            self.bit_errors_cu
            - 3 * p * self.bit_errors_sq_x_bits
            + 3 * p**2 * self.bit_errors_x_bits_sq
            - p**3 * self.bits_cu
        )
        return slot_clustered(self.slots, self.slot_errors, self.bits, self.bit_errors, squares, cubes, level)

    def slot_error_interval(self, level: float = 0.95) -> Interval:
        """Wilson interval of the slot error rate."""
        return wilson(self.slot_errors, self.slots, level)

    def bler_interval(self, level: float = 0.95) -> Interval:
        """Wilson interval of the BLER; NaN where uncoded."""
        if not self.transport_blocks:
            return math.nan, math.nan
        return wilson(self.block_errors, self.transport_blocks, level)


COUNTED = tuple(f.name for f in fields(Counts))
"""Fields of :class:`Counts`."""

POWER_SUMS = COUNTED[COUNTED.index("bit_errors_sq") :]
"""Fields that only the BER's interval needs."""


@dataclass(frozen=True, kw_only=True)
class BlockCount(Counts):
    """Error counts of one receiver in one block of slots: a row of the table.

    Attributes:
        receiver, digest: name and digest of the receiver.
        stream: digest of the slots, see :func:`receivers.evaluation.block_counter.stream_digest`.
        device: device that drew and detected the slots.
        code_rate: of the transport blocks; 0 where uncoded.
        interference_fraction, sinr_db: the test point.
        block: number of the block.
        correct_slot_bits: bits of the slots without any error.
    """

    receiver: str
    digest: str
    stream: str
    device: str
    code_rate: float
    interference_fraction: float
    sinr_db: float
    block: int
    correct_slot_bits: int

    @property
    def key(self) -> tuple[str, float, float, int]:
        """Receiver, interference fraction, SINR and block number."""
        return self.receiver, self.interference_fraction, self.sinr_db, self.block


def count_block(receiver: Receiver, slots: Slots, transport: TransportBlocks | None = None) -> dict[str, Any]:
    """Count the errors of one receiver on one batch of slots.

    Args:
        receiver: receiver under test.
        slots: slots with the transmitted bits.
        transport: decoder of transport blocks; without it, no blocks are counted.

    Returns:
        The fields of :class:`Counts`, and ``correct_slot_bits`` of :class:`BlockCount`.

    Raises:
        NonFiniteLlrError: if an LLR of a data bit is not finite.
    """
    llrs, mask = receiver(slots), slots.bit_mask
    if not torch.isfinite(llrs).logical_or(~mask).all():
        raise NonFiniteLlrError(
            f"{receiver.name}: LLRs are not finite; the slots are outside its range of SINR, or its weights are damaged"
        )
    wrong = ((llrs > 0) != slots.bits.bool()) & mask
    errors, bits = wrong.sum((1, 2, 3)), mask.sum((1, 2, 3))
    failed = sizes_bits = torch.zeros(0, dtype=torch.int64)
    if transport is not None:
        failed, sizes_bits = transport.errors(slots, llrs), transport.sizes_bits(slots)
    counts = Counts(
        slots=len(slots),
        bits=int(bits.sum()),
        bit_errors=int(errors.sum()),
        slot_errors=int((errors > 0).sum()),
        transport_blocks=len(failed),
        block_errors=int(failed.sum()),
        transport_block_bits=int(sizes_bits.sum()),
        decoded_bits=int((sizes_bits * ~failed.bool()).sum()),
        wanted_power=float(slots.wanted_power.double().sum()),
        unwanted_power=float(slots.unwanted_power.double().sum()),
        bit_errors_sq=int((errors * errors).sum()),
        bit_errors_x_bits=int((errors * bits).sum()),
        bits_sq=int((bits * bits).sum()),
        bit_errors_cu=float((errors.double() ** 3).sum()),
        bit_errors_sq_x_bits=float((errors.double() ** 2 * bits).sum()),
        bit_errors_x_bits_sq=float((errors * bits.double() ** 2).sum()),
        bits_cu=float((bits.double() ** 3).sum()),
    )
    return {**asdict(counts), "correct_slot_bits": int(bits[errors == 0].sum())}
