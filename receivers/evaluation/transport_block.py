"""Transport blocks of 5G: size, base graph and segmentation, from the data REs of a slot and the code rate.

::

    data REs x bits per RE ---> coded bits G
      | at most 156 per PRB
      v
    N_info = N_RE x R x Qm ---> size A ---> CRC, base graph, code blocks of K' bits ---> E bits each, in all G
         (TS 38.214, 5.1.3.2)               (TS 38.212, 5.2.2 and 6.2.2)               (TS 38.212, 5.4.2.1)
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from channels.grid import BITS_PER_SYMBOL
from channels.scenarios import Scenario
from leanrx_core.errors import UserError
from receivers.evaluation.mcs import MAX_CODE_RATE, MIN_CODE_RATE

MAX_RES_PER_PRB = 156
"""Data REs of a resource block that count for the size (TS 38.214, 5.1.3.2, step 1)."""

MAX_EFFECTIVE_RATE = 0.95
"""Highest ratio of bits with CRC to coded bits that a receiver must decode (TS 38.214, 5.1.3)."""

_SMALL_SIZES = (
    *range(24, 193, 8),
    *range(208, 385, 16),
    *range(408, 577, 24),
    *range(608, 769, 32),
    *(808, 848, 888, 928, 984, 1032, 1064, 1128, 1160, 1192, 1224, 1256, 1288, 1320, 1352, 1416, 1480, 1544, 1608),
    *(1672, 1736, 1800, 1864, 1928, 2024, 2088, 2152, 2216, 2280, 2408, 2472, 2536, 2600, 2664, 2728, 2792, 2856),
    *(2976, 3104, 3240, 3368, 3496, 3624, 3752, 3824),
)
"""TS 38.214, table 5.1.3.2-1."""


@dataclass(frozen=True)
class TransportFormat:
    """How the data REs of a slot carry one transport block.

    Attributes:
        bits_per_symbol: bits per RE.
        coded_bits: bits on all data REs of the slot.
        size_bits: information bits of the block, without CRC.
        base_graph: of the LDPC code.
        code_blocks: number of code blocks.

    Example:
        >>> transport_format(1 / 2, bits_per_symbol=4, num_res=936, num_prb=6)
        TransportFormat(bits_per_symbol=4, coded_bits=3744, size_bits=1928, base_graph=2, code_blocks=1)
    """

    bits_per_symbol: int
    coded_bits: int
    size_bits: int
    base_graph: Literal[1, 2]
    code_blocks: int

    @property
    def code_rate(self) -> float:
        """Information bits per coded bit, K/n. The table of sizes moves it away from the target rate."""
        return self.size_bits / self.coded_bits

    @property
    def crc_bits(self) -> int:
        """CRC bits of the transport block (TS 38.212, 6.2.1)."""
        return 24 if self.size_bits > 3824 else 16

    @property
    def code_block_bits(self) -> int:
        """Bits K' of a code block, with its CRC (TS 38.212, 5.2.2)."""
        own_crc_bits = 24 if self.code_blocks > 1 else 0
        return (self.size_bits + self.crc_bits) // self.code_blocks + own_crc_bits

    @property
    def rate_matched_bits(self) -> list[int]:
        """Bits E of each code block after rate matching (TS 38.212, 5.4.2.1)."""
        symbols, longer = divmod(self.coded_bits // self.bits_per_symbol, self.code_blocks)
        shorter = self.code_blocks - longer
        return [self.bits_per_symbol * s for s in [symbols] * shorter + [symbols + 1] * longer]

    @property
    def effective_rate(self) -> float:
        """Highest ratio of bits with CRC to coded bits among the code blocks."""
        return self.code_block_bits / min(self.rate_matched_bits) if self.coded_bits else math.inf


def transport_format(code_rate: float, bits_per_symbol: int, num_res: int, num_prb: float) -> TransportFormat:
    """Transport block of a slot (TS 38.214, 5.1.3.2; TS 38.212, 5.2.2 and 6.2.2).

    Args:
        code_rate: target code rate R, from 30/1024 to 948/1024.
        bits_per_symbol: bits per RE, Qm.
        num_res: data REs of the slot.
        num_prb: its resource blocks.

    Raises:
        UserError: if the block and its CRC do not fit into the coded bits.
    """
    return transport_formats(code_rate, [(bits_per_symbol, num_res)], num_prb)[0]


def scenario_formats(scenario: Scenario, code_rate: float) -> list[TransportFormat]:
    """Transport blocks of all modulations and pilots that the slots of a scenario can have.

    Args:
        scenario: its grid and modulations.
        code_rate: as for :func:`transport_format`.

    Raises:
        UserError: if the code rate is out of range, or a block does not fit into its slot.

    Example:
        >>> from channels import scenario
        >>> [block.size_bits for block in scenario_formats(scenario("tdl-6prb"), 1 / 2)]
        [1928]
    """
    orders = sorted({BITS_PER_SYMBOL[m] for m in scenario.modulations})
    return transport_formats(
        code_rate, [(order, res) for order in orders for res in scenario.grid.data_res], scenario.grid.num_prb
    )


def transport_formats(code_rate: float, slots: Sequence[tuple[int, int]], num_prb: float) -> list[TransportFormat]:
    """Transport blocks of several kinds of slots.

    Args:
        code_rate, num_prb: as for :func:`transport_format`.
        slots: bits per RE and data REs.

    Raises:
        UserError: as :func:`transport_format`. The message states the highest rate that fits into all slots.
    """
    if not MIN_CODE_RATE <= code_rate <= MAX_CODE_RATE:
        raise UserError(f"code_rate: {code_rate:g} is no code rate of 5G; write a rate from 30/1024 to 948/1024")
    formats = [_format(code_rate, *slot, num_prb) for slot in slots]
    worst = max(formats, key=lambda block: block.effective_rate)
    if worst.effective_rate > MAX_EFFECTIVE_RATE:
        raise UserError(
            f"code_rate: {code_rate:.4g} needs {worst.size_bits} bits and {worst.crc_bits} CRC bits in the "
            f"{worst.coded_bits} coded bits of a slot, above 0.95 (TS 38.214, 5.1.3); {_remedy(slots, num_prb)}"
        )
    return formats


def _remedy(slots: Sequence[tuple[int, int]], num_prb: float) -> str:
    """The highest rate in 1/1024 up to which all rates fit."""

    def fits(rate: int) -> bool:
        return all(_format(rate / 1024, *slot, num_prb).effective_rate <= MAX_EFFECTIVE_RATE for slot in slots)

    fitting = sum(1 for _ in takewhile(fits, range(30, 949)))
    if fitting:
        return f"write {29 + fitting}/1024 or less, or use more PRB"
    return "no rate fits; use more PRB, fewer pilots or a higher modulation"


def _format(code_rate: float, bits_per_symbol: int, num_res: int, num_prb: float) -> TransportFormat:
    information_bits = min(num_res, MAX_RES_PER_PRB * num_prb) * code_rate * bits_per_symbol
    size_bits = transport_block_size(information_bits, code_rate)
    base_graph: Literal[1, 2] = (
        2 if size_bits <= 292 or (size_bits <= 3824 and code_rate <= 0.67) or code_rate <= 0.25 else 1
    )
    crc_bits = 24 if size_bits > 3824 else 16
    largest = {1: 8448, 2: 3840}[base_graph]
    code_blocks = 1 if size_bits + crc_bits <= largest else -(-(size_bits + crc_bits) // (largest - 24))
    return TransportFormat(bits_per_symbol, bits_per_symbol * num_res, size_bits, base_graph, code_blocks)


def transport_block_size(information_bits: float, code_rate: float) -> int:
    """Size of a transport block from the unquantised number of information bits (TS 38.214, 5.1.3.2, steps 2 to 4).

    Args:
        information_bits: N_info: data REs, at most 156 per PRB, times bits per RE and code rate.
        code_rate: target code rate.

    Example:
        >>> transport_block_size(24 * 156 * 4 / 2, 1 / 2)
        7424
    """
    if information_bits <= 3824:
        step = 2 ** max(3, int(information_bits).bit_length() - 7)
        return _SMALL_SIZES[bisect_left(_SMALL_SIZES, max(24, step * (information_bits // step)))]
    step = 2 ** (int(information_bits - 24).bit_length() - 6)
    quantised = max(3840, step * math.floor((information_bits - 24) / step + 0.5))
    code_blocks = 1
    if code_rate <= 1 / 4:
        code_blocks = math.ceil((quantised + 24) / 3816)
    elif quantised > 8424:
        code_blocks = math.ceil((quantised + 24) / 8424)
    return 8 * code_blocks * math.ceil((quantised + 24) / (8 * code_blocks)) - 24
