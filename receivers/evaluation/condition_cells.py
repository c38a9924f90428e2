"""Cells of the table of conditions: one combination of antennas, modulation, pilots, bandwidth and channel each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import gamma, norm

from channels import Channels, Dmrs, Grid, Interferer, Scenario
from channels.grid import BITS_PER_SYMBOL, Modulation
from leanrx_core.errors import UserError
from receivers.evaluation.points import ALL_BLOCKS, Shard
from receivers.evaluation.stopping import Evaluation

NUM_RX = (1, 2, 4, 8)
MODULATIONS: tuple[Modulation, ...] = ("QPSK", "16-QAM", "64-QAM", "256-QAM")
DMRS_SYMBOLS = (1, 2, 3)
SPACINGS_HZ = (15_000, 30_000)
PRB = (4, 24, 52)
WIDEST_PRB = 273
DOPPLERS_HZ = ((0.0, 10.0), (50.0, 200.0), (300.0, 500.0))
INTERFERENCE_FRACTIONS = (0.0, 0.8)
TRAIN_CHANNELS = ("TDL-B", "TDL-C", "TDL-D", "CDL-B", "CDL-C", "CDL-D")
TEST_CHANNELS = ("TDL-A", "TDL-E", "CDL-A", "CDL-E")
TARGET_BERS = (0.08, 0.01)
"""BER of a receiver with perfect CSI in independent Rayleigh fading, of which the test SINRs follow."""
MARGIN_DB = 2.0
"""SINR above that of perfect CSI, for the estimated channel."""
SLOTS = {4: 384, 24: 128, 52: 96, WIDEST_PRB: 32}
"""Slots of a test point by bandwidth, a multiple of :data:`BLOCKS`."""
BLOCKS = 16


@dataclass(frozen=True)
class Cell:
    """One combination of conditions.

    Attributes:
        num_rx: receive antennas.
        modulation: of the slots.
        dmrs_symbols: symbols with DMRS, single-symbol DMRS of type 1.
        spacing_hz: subcarrier spacing.
        num_prb: resource blocks.
        max_doppler_hz: range of the maximum Doppler shift.
        interference_fraction: interference over noise plus interference.
    """

    num_rx: int
    modulation: Modulation
    dmrs_symbols: int
    spacing_hz: int
    num_prb: int
    max_doppler_hz: tuple[float, float]
    interference_fraction: float

    @property
    def name(self) -> str:
        """Name of the cell and of its files."""
        parts = [
            f"{self.num_rx}rx",
            self.modulation.lower().replace("-", ""),
            f"{self.dmrs_symbols}dmrs",
            f"{self.spacing_hz // 1000}khz",
            f"{self.num_prb}prb",
            f"{self.max_doppler_hz[1]:g}hz",
        ]
        return "-".join([*parts, "interferer"] if self.interference_fraction else parts)

    @property
    def scenario(self) -> Scenario:
        """Radio conditions of the cell. SNR and SIR are those of specialists; tests set their own."""
        low_db, high_db = self.sinr_db[0] - 6, self.sinr_db[1] + 6
        interferer = Interferer(probability=0.5, sir_db=(low_db, high_db))
        return Scenario(
            name=self.name,
            grid=Grid(
                num_prb=self.num_prb,
                subcarrier_spacing_hz=self.spacing_hz,
                carrier_frequency_hz=3.5e9,
                num_rx=self.num_rx,
                pilot_patterns=(),
                dmrs=Dmrs(additional_positions=(self.dmrs_symbols - 1,)),
            ),
            modulations=(self.modulation,),
            channels=Channels(train=TRAIN_CHANNELS, test=TEST_CHANNELS),
            max_doppler_hz=self.max_doppler_hz,
            snr_db=(low_db, high_db),
            interferers=(interferer,) if self.interference_fraction else (),
        )

    @property
    def sinr_db(self) -> tuple[float, ...]:
        """Test points, lowest first.

        An interferer takes one degree of freedom of the antennas, and the noise alone is left: with perfect rejection,
        the SNR is that of noise and the diversity that of one antenna fewer.
        """
        branches, gain_db = self.num_rx, 0.0
        if self.interference_fraction and self.num_rx > 1:
            branches, gain_db = self.num_rx - 1, -10 * float(np.log10(1 - self.interference_fraction))
        bits = BITS_PER_SYMBOL[self.modulation]
        return tuple(round(snr_db(bits, branches, ber) - gain_db + MARGIN_DB, 1) for ber in TARGET_BERS)

    @property
    def evaluation(self) -> Evaluation:
        """Test points and a fixed number of slots."""
        slots = SLOTS[self.num_prb]
        return Evaluation(
            sinr_db=self.sinr_db,
            interference_fractions=(self.interference_fraction,),
            block_slots=slots // BLOCKS,
            min_slots=slots,
            max_slots=slots,
            target_slot_errors=None,
        )


@lru_cache
def snr_db(bits_per_symbol: int, branches: int, ber: float) -> float:
    """SNR per antenna for a BER of square QAM with maximum-ratio combining in independent Rayleigh fading.

    The BER at one SNR is ``4 / K (1 - 2^(-K/2)) Q(sqrt(3 SNR / (2^K - 1)))``, nearest neighbours of Gray labels (J. G.
    Proakis, Digital Communications, 5.2). The combined SNR has a gamma distribution.

    Example:
        >>> round(snr_db(2, 1, 0.01), 1)  # QPSK: SNR / 2 = 24.3 gives (1 - sqrt(24.3 / 25.3)) / 2
        16.9
    """
    levels = 2**bits_per_symbol

    def excess(log_snr: float) -> float:
        def weighted(gain: float) -> float:
            argument = np.sqrt(3 * 10**log_snr * gain / (levels - 1))
            return float(norm.sf(argument) * gamma.pdf(gain, branches))

        mean = quad(weighted, 0, branches + 40, limit=200)[0]
        return 4 / bits_per_symbol * (1 - levels**-0.5) * mean - ber

    return 10 * float(brentq(excess, -3, 6, xtol=1e-4))


def cells() -> list[Cell]:
    """All combinations of antennas, modulation, DMRS, Doppler and interferer; spacing and bandwidth alternate.

    Example:
        >>> len(cells()), len({cell.name for cell in cells()})
        (288, 288)
    """
    factors = (NUM_RX, MODULATIONS, DMRS_SYMBOLS, DOPPLERS_HZ, INTERFERENCE_FRACTIONS)
    result = []
    for number, indices in enumerate(itertools.product(*(range(len(levels)) for levels in factors))):
        num_rx, modulation, dmrs, doppler, interferer = indices
        spacing = (num_rx + modulation + dmrs + doppler) % len(SPACINGS_HZ)
        width = PRB[(num_rx + 2 * modulation + dmrs + doppler + interferer) % len(PRB)]
        result.append(
            Cell(
                NUM_RX[num_rx],
                MODULATIONS[modulation],
                DMRS_SYMBOLS[dmrs],
                SPACINGS_HZ[spacing],
                WIDEST_PRB if number % 23 == 7 else width,
                DOPPLERS_HZ[doppler],
                INTERFERENCE_FRACTIONS[interferer],
            )
        )
    return result


def chosen_cells(words: Sequence[str], shard: Shard = ALL_BLOCKS) -> list[Cell]:
    """The cells of a shard whose names contain one of the words, or all of the shard.

    Raises:
        UserError: if a word is in no name.
    """
    names = [cell.name for cell in cells()]
    for word in words:
        if not any(word in name for name in names):
            raise UserError(f"--cells: '{word}' is in no name; names are such as {names[0]} and {names[-1]}")
    matches = [cell for cell in cells() if not words or any(word in cell.name for word in words)]
    return matches[shard.index - 1 :: shard.count]
