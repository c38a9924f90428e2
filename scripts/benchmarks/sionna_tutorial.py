"""Compare the BLER of perfect CSI with Sionna's tutorial "Neural Receiver for OFDM SIMO Systems".

Both sides have the tutorial's grid, channel and decoder: 128 subcarriers with guards, QPSK, CDL-C, code rate 1/2 and 20
iterations. Sionna's side is a chain of its own blocks. leanrx's side is the preset ``sionna-neural-receiver``. The
tutorial's code word has 1,392 information bits without CRC. A transport block of 5G of that rate has 1,416 bits and 16
CRC bits (TS 38.214, 5.1.3.2), which needs 0.12 dB more. Sionna's side is therefore run with both numbers of bits.

    python scripts/benchmarks/sionna_tutorial.py [--slots 1000] [--ebn0-db -2 -1.75 -1.5]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from sionna.phy import config
from sionna.phy.channel import OFDMChannel
from sionna.phy.channel.tr38901 import CDL, PanelArray
from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
from sionna.phy.mapping import BinarySource, Demapper, Mapper
from sionna.phy.mimo import StreamManagement
from sionna.phy.ofdm import LMMSEEqualizer, RemoveNulledSubcarriers, ResourceGrid, ResourceGridMapper
from sionna.phy.utils import ebnodb2no

from channels import SlotStream, scenario
from receivers.classical import PerfectCsiReceiver
from receivers.evaluation.error_counts import count_block
from receivers.evaluation.intervals import wilson
from receivers.evaluation.ldpc import TransportBlocks

CODE_RATE, CARRIER_HZ, DELAY_SPREAD_S, SPEED_M_S = 0.5, 3.5e9, 100e-9, 10.0
TUTORIAL_BITS, TRANSPORT_BLOCK_BITS = 1392, 1416 + 16
"""Information bits of the tutorial's code word, and bits of a transport block with its CRC."""


class Errors(NamedTuple):
    """Error counts of some slots.

    Attributes:
        bits, bit_errors: data bits and wrong hard decisions on them, before decoding.
        blocks, block_errors: code words, and wrong ones.
    """

    bits: int
    bit_errors: int
    blocks: int
    block_errors: int


class TutorialChain:
    """The tutorial's transmitter, channel, and receiver with perfect CSI, from Sionna's blocks.

    Args:
        information_bits: of a code word.
    """

    def __init__(self, information_bits: int) -> None:
        options = {"device": "cpu"}
        arrays = [
            PanelArray(
                num_rows_per_panel=1,
                num_cols_per_panel=1,
                polarization=polarization,
                polarization_type=polarization_type,
                antenna_pattern="38.901",
                carrier_frequency=CARRIER_HZ,
                **options,
            )
            for polarization, polarization_type in (("single", "V"), ("dual", "VH"))
        ]
        grid = ResourceGrid(
            num_ofdm_symbols=14,
            fft_size=128,
            subcarrier_spacing=30e3,
            num_guard_carriers=[5, 6],
            dc_null=True,
            pilot_pattern="kronecker",
            pilot_ofdm_symbol_indices=[2, 11],
            **options,
        )
        cdl = CDL(
            "C", DELAY_SPREAD_S, CARRIER_HZ, *arrays, "uplink", min_speed=SPEED_M_S, max_speed=SPEED_M_S, **options
        )
        self._channel = OFDMChannel(cdl, grid, normalize_channel=True, return_channel=True, **options)
        self.num_bits = 2 * int(grid.num_data_symbols)
        self._encoder = LDPC5GEncoder(information_bits, self.num_bits, **options)
        self._decoder = LDPC5GDecoder(self._encoder, hard_out=True, **options)
        self._source = BinarySource(**options)
        self._mapper, self._demapper = Mapper("qam", 2, **options), Demapper("app", "qam", 2, **options)
        self._to_grid = ResourceGridMapper(grid, **options)
        self._without_guards = RemoveNulledSubcarriers(grid, **options)
        self._equalizer = LMMSEEqualizer(grid, StreamManagement([[1]], 1), **options)

    @torch.no_grad()
    def errors(self, ebn0_db: float, slots: int, decoded: bool = True) -> Errors:
        """Count the errors of some slots.

        Args:
            ebn0_db: Eb/N0.
            slots: number of slots.
            decoded: whether to decode the code words.
        """
        noise_var = ebnodb2no(ebn0_db, 2, CODE_RATE)
        message = self._source([slots, 1, 1, self._encoder.k])
        code_word = self._encoder(message)
        y, h = self._channel(self._to_grid(self._mapper(code_word)), noise_var)
        x, error_var = self._equalizer(y, self._without_guards(h), 0.0, noise_var)
        llrs = self._demapper(x, error_var)
        wrong_bits = int(((llrs > 0) != code_word.bool()).sum())
        block_errors = int((self._decoder(llrs) != message).any(-1).sum()) if decoded else 0
        return Errors(slots * self.num_bits, wrong_bits, slots if decoded else 0, block_errors)


def sionna_errors(
    ebn0_db: float, slots: int, seed: int, decoded: bool = True, information_bits: int = TRANSPORT_BLOCK_BITS
) -> Errors:
    """Errors of Sionna's chain. Its global random generator is restored afterwards."""
    chain, rng = TutorialChain(information_bits), config.torch_rng("cpu")
    state = rng.get_state()
    rng.manual_seed(seed)
    try:
        parts = [chain.errors(ebn0_db, n, decoded) for n in _parts(slots)]
    finally:
        rng.set_state(state)
    return Errors(*(sum(values) for values in zip(*parts, strict=True)))


def leanrx_errors(ebn0_db: float, slots: int, seed: int, decoded: bool = True) -> Errors:
    """Errors of perfect CSI on slots of the preset."""
    conditions = scenario("sionna-neural-receiver")
    snr_db = conditions.snr_db_at_ebn0(ebn0_db, CODE_RATE)
    transport = TransportBlocks(CODE_RATE) if decoded else None
    parts = []
    for number, count in enumerate(_parts(slots)):
        block = SlotStream(conditions, seed, count, "test").at_sinr(snr_db).block(number)
        counts = count_block(PerfectCsiReceiver(), block, transport)
        parts.append(Errors(counts["bits"], counts["bit_errors"], counts["transport_blocks"], counts["block_errors"]))
    return Errors(*(sum(values) for values in zip(*parts, strict=True)))


def _parts(slots: int, most: int = 100) -> Iterator[int]:
    for first in range(0, slots, most):
        yield min(most, slots - first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=1000, help="slots per point and side")
    parser.add_argument("--ebn0-db", type=float, nargs="+", default=[-2.0, -1.75, -1.5])
    arguments = parser.parse_args()
    table = Table(
        "Eb/N0 dB",
        f"leanrx BLER, {TRANSPORT_BLOCK_BITS} bits",
        f"Sionna BLER, {TRANSPORT_BLOCK_BITS} bits",
        f"Sionna BLER, {TUTORIAL_BITS} bits",
        "leanrx BER",
        "Sionna BER",
    )
    for ebn0_db in arguments.ebn0_db:
        sides = [
            leanrx_errors(ebn0_db, arguments.slots, seed=1),
            sionna_errors(ebn0_db, arguments.slots, seed=1),
            sionna_errors(ebn0_db, arguments.slots, seed=1, information_bits=TUTORIAL_BITS),
        ]
        cells = []
        for errors in sides:
            low, high = wilson(errors.block_errors, errors.blocks)
            cells.append(f"{errors.block_errors / errors.blocks:.3g} ({low:.3g} to {high:.3g})")
        table.add_row(f"{ebn0_db:g}", *cells, *(f"{errors.bit_errors / errors.bits:.4f}" for errors in sides[:2]))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
