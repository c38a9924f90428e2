"""The resource grid of one slot and the QAM mapping of TS 38.211.

A slot has 14 OFDM symbols of ``12 * num_prb`` subcarriers, or of any other number. One subcarrier in one symbol
is a resource element (RE). Tensors over a grid have the shape ``(..., num_symbols, num_subcarriers)``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator

from leanrx_core.records import Record

NUM_SYMBOLS = 14
"""OFDM symbols in a slot with normal cyclic prefix (TS 38.211, table 4.3.2-1)."""

SUBCARRIERS_PER_PRB = 12
"""Subcarriers in a physical resource block (PRB), TS 38.211, 4.4.4.1."""

Modulation = Literal["QPSK", "16-QAM", "64-QAM", "256-QAM"]
"""Names of the modulations of TS 38.211, 5.1."""

BITS_PER_SYMBOL: dict[Modulation, int] = {"QPSK": 2, "16-QAM": 4, "64-QAM": 6, "256-QAM": 8}


class Dmrs(Record):
    """Demodulation reference signals (DMRS) of PUSCH for one layer on port 0 (TS 38.211, 6.4.1.1).

    Attributes:
        config_type: 1 (pilots on every second subcarrier) or 2 (on two of six).
        mapping_type: ``A`` (first DMRS on symbol ``type_a_positions``) or ``B`` (on symbol 0).
        type_a_positions: 2, 3 or both; each slot draws one. Only for mapping type A.
        additional_positions: number of additional DMRS positions, 0 to 3; each slot draws one of the list.
        length: 1 (single-symbol DMRS) or 2 (double-symbol DMRS).
        cdm_groups_without_data: number of CDM groups without data: 1 or 2 for type 1, 1 to 3 for type 2. The pilots
            take the power of the empty groups: their amplitude is the root of this number (TS 38.214, table 6.2.2-1).

    Example:
        >>> Dmrs(additional_positions=(0, 1)).cdm_groups_without_data
        2
    """

    config_type: Literal[1, 2] = 1
    mapping_type: Literal["A", "B"] = "A"
    type_a_positions: tuple[Literal[2, 3], ...] = Field((2,), min_length=1)
    additional_positions: tuple[Literal[0, 1, 2, 3], ...] = Field((0,), min_length=1)
    length: Literal[1, 2] = 1
    cdm_groups_without_data: Literal[1, 2, 3] = 2

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.cdm_groups_without_data == 3 and self.config_type == 1:
            raise ValueError("cdm_groups_without_data: 3 needs config_type 2; type 1 has two CDM groups")
        if self.length == 2 and max(self.additional_positions) > 1:
            raise ValueError("additional_positions: double-symbol DMRS (length 2) has 0 or 1 additional positions")
        if self.mapping_type == "A" and 3 in self.type_a_positions and 3 in self.additional_positions:
            raise ValueError("additional_positions: 3 needs type_a_positions [2] (TS 38.211, 6.4.1.1.3)")
        if self.mapping_type == "B" and self.type_a_positions != (2,):
            raise ValueError("type_a_positions: mapping type B begins on symbol 0; leave them out")
        return self


class Subcarriers(Record):
    """Any number of subcarriers around the carrier frequency, in place of whole resource blocks.

    The grid has all subcarriers between the guards. The subcarrier at the carrier frequency has the index
    ``fft_size // 2`` of the FFT.

    Attributes:
        fft_size: samples of an OFDM symbol, and subcarriers with the guards.
        guards: empty subcarriers at the lower and at the upper edge.
        dc_null: whether the subcarrier at the carrier frequency is empty, too.

    Example:
        >>> Subcarriers(fft_size=128, guards=(5, 6), dc_null=True).count
        117
    """

    fft_size: int = Field(ge=12, le=4096)
    guards: tuple[Annotated[int, Field(ge=0, le=2**16)], Annotated[int, Field(ge=0, le=2**16)]] = (0, 0)
    dc_null: bool = False

    @model_validator(mode="after")
    def _check_guards(self) -> Self:
        if self.count < 12:
            raise ValueError(
                f"guards: {list(self.guards)} leave {self.count} of {self.fft_size} subcarriers; 12 or more"
            )
        if self.dc_null and not 0 <= self.dc < self.count:
            raise ValueError(f"dc_null: guards {list(self.guards)} contain the carrier frequency; write dc_null: false")
        return self

    @property
    def count(self) -> int:
        """Subcarriers between the guards, with the one at the carrier frequency."""
        return self.fft_size - sum(self.guards)

    @property
    def dc(self) -> int:
        """Index of the subcarrier at the carrier frequency, counted from the first one after the guard."""
        return self.fft_size // 2 - self.guards[0]


class Antennas(Record):
    """Antenna elements, as in TR 38.901, 7.3. The default elements are omnidirectional, with vertical polarisation.

    Attributes:
        polarisation: of the base station's array. ``V`` has one element at each position. ``VH`` (vertical and
            horizontal) and ``cross`` (slanted by -45 and 45 degrees) have two at each position. The terminal has one
            vertical element.
        base_pattern: pattern of the base station's elements: omnidirectional, or of table 7.3-1.
        terminal_pattern: pattern of the terminal's element, which looks at the base station. UMi, UMa and RMa have
            omnidirectional terminals.
    """

    polarisation: Literal["V", "VH", "cross"] = "V"
    base_pattern: Literal["omni", "38.901"] = "omni"
    terminal_pattern: Literal["omni", "38.901"] = "omni"


class Grid(Record):
    """Resource grid of a slot.

    Attributes:
        num_prb: number of physical resource blocks (PRB) of 12 subcarriers, 1 to 273. With ``subcarriers``, the last
            block can be incomplete.
        subcarriers: any number of subcarriers, in place of ``num_prb``.
        subcarrier_spacing_hz: 15, 30, 60 or 120 kHz.
        carrier_frequency_hz: carrier frequency.
        num_rx: number of receive antennas.
        antennas: polarisation and patterns of the antenna elements.
        pilot_patterns: lists of OFDM symbols with QPSK pilots on every subcarrier; each slot draws one list.
        dmrs: reference signals of 5G, in place of ``pilot_patterns``.

    Example:
        >>> grid = Grid(num_prb=26)
        >>> grid.num_subcarriers, grid.fft_size, grid.cyclic_prefix_samples
        (312, 512, 36)
    """

    num_prb: int = Field(26, ge=1, le=273)
    subcarriers: Subcarriers | None = None
    subcarrier_spacing_hz: Literal[15000, 30000, 60000, 120000] = 15000
    carrier_frequency_hz: float = Field(4e9, ge=4e8, le=1e11)
    num_rx: int = Field(2, ge=1, le=16)
    antennas: Antennas = Antennas()
    pilot_patterns: tuple[tuple[int, ...], ...] = ((2,), (2, 11))
    dmrs: Dmrs | None = None

    @field_validator("subcarrier_spacing_hz", mode="before")
    @classmethod
    def _convert_to_integer(cls, value: object) -> object:
        return int(value) if isinstance(value, float) and value.is_integer() else value

    @field_validator("pilot_patterns")
    @classmethod
    def _check_pilot_patterns(cls, patterns: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        if not all(patterns):
            raise ValueError("each pattern needs at least one pilot symbol")
        for pattern in patterns:
            if sorted(set(pattern)) != list(pattern) or not 0 <= pattern[0] <= pattern[-1] < NUM_SYMBOLS:
                raise ValueError(f"pilot symbols {list(pattern)} must increase and lie in 0..{NUM_SYMBOLS - 1}")
            if len(pattern) == NUM_SYMBOLS:
                raise ValueError("pilots on every symbol leave no room for data")
        return patterns

    @model_validator(mode="before")
    @classmethod
    def _drop_default_patterns_if_dmrs(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("dmrs") is not None:
            return {"pilot_patterns": (), **data}
        return data

    @model_validator(mode="before")
    @classmethod
    def _fill_num_prb(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("subcarriers") is None:
            return data
        count = Subcarriers.model_validate(data["subcarriers"]).count
        num_prb = -(-count // 12)
        if data.get("num_prb", num_prb) != num_prb:
            raise ValueError(f"num_prb and subcarriers exclude each other; leave out num_prb ({count} subcarriers)")
        return {**data, "num_prb": num_prb}

    @model_validator(mode="after")
    def _check_elements(self) -> Self:
        if self.antennas.polarisation != "V" and self.num_rx % 2:
            raise ValueError(
                f"num_rx: {self.num_rx} antennas are no {self.antennas.polarisation} pairs; write an even number"
            )
        if self.dmrs is not None and self.subcarriers is not None:
            raise ValueError("subcarriers: DMRS fills whole resource blocks; write num_prb, or pilot_patterns")
        return self

    @model_validator(mode="after")
    def _check_pilots(self) -> Self:
        if self.dmrs is not None and self.pilot_patterns:
            raise ValueError("pilot_patterns and dmrs exclude each other; leave one out")
        if self.dmrs is None and not self.pilot_patterns:
            raise ValueError("pilot_patterns: needs at least one pattern")
        return self

    @property
    def num_subcarriers(self) -> int:
        """Number of subcarriers F, with an empty one at the carrier frequency."""
        return SUBCARRIERS_PER_PRB * self.num_prb if self.subcarriers is None else self.subcarriers.count

    @property
    def dc_subcarrier(self) -> int:
        """Index of the subcarrier at the carrier frequency."""
        return self.num_subcarriers // 2 if self.subcarriers is None else self.subcarriers.dc

    @property
    def empty_subcarriers(self) -> tuple[int, ...]:
        """Subcarriers without data and pilots."""
        return (self.dc_subcarrier,) if self.subcarriers is not None and self.subcarriers.dc_null else ()

    @property
    def data_res(self) -> tuple[int, ...]:
        """Numbers of data REs that slots can have, increasing: one for each number of pilot symbols.

        Example:
            >>> Grid(num_prb=6, pilot_patterns=((2,), (2, 11))).data_res
            (864, 936)
        """
        symbols = {len(pattern) for pattern in self.pilot_patterns}
        if self.subcarriers is not None:
            occupied = self.num_subcarriers - len(self.empty_subcarriers)
            return tuple(sorted(occupied * (NUM_SYMBOLS - n) for n in symbols))
        data_per_prb = 0  # in a symbol with pilots
        if self.dmrs is not None:
            symbols = {self.dmrs.length * (1 + additional) for additional in self.dmrs.additional_positions}
            data_per_prb = 12 - {1: 6, 2: 4}[self.dmrs.config_type] * self.dmrs.cdm_groups_without_data
        return tuple(sorted(self.num_prb * (12 * (NUM_SYMBOLS - n) + n * data_per_prb) for n in symbols))

    @property
    def symbol_duration_s(self) -> float:
        """Mean duration of one OFDM symbol with its cyclic prefix, s."""
        return 1e-3 * 15000 / self.subcarrier_spacing_hz / NUM_SYMBOLS

    @property
    def fft_size(self) -> int:
        """Smallest power of two that holds the subcarriers, at least 128, or that of ``subcarriers``."""
        if self.subcarriers is not None:
            return self.subcarriers.fft_size
        return max(128, 1 << (self.num_subcarriers - 1).bit_length())

    @property
    def cyclic_prefix_samples(self) -> int:
        """Samples of the normal cyclic prefix at ``fft_size``: 144 of 2048 (TS 38.211, 5.3.1) in every symbol."""
        return 144 * self.fft_size // 2048

    @property
    def sample_rate_hz(self) -> float:
        """Sampling rate at ``fft_size`` samples per symbol."""
        return float(self.fft_size * self.subcarrier_spacing_hz)

    @property
    def cyclic_prefix_s(self) -> float:
        """Duration of the cyclic prefix, s."""
        return self.cyclic_prefix_samples / self.sample_rate_hz

    def frequencies_hz(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return the baseband frequencies of the subcarriers in Hz, float32 ``(F,)``."""
        index = torch.arange(self.num_subcarriers, dtype=torch.float32, device=device)
        return (index - self.dc_subcarrier) * float(self.subcarrier_spacing_hz)


def pam_levels(num_bits: int, device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Return the Gray-labelled levels of one QAM axis (TS 38.211, 5.1).

    Args:
        num_bits: bits on this axis, 1 to 4 (half the bits of the QAM symbol).
        device: torch device of the result.

    Returns:
        Levels, float32 ``(2**num_bits,)``, scaled so that QAM symbols have unit mean power, and their bits, uint8
        ``(2**num_bits, num_bits)``. The first bit is the sign, and each further bit halves the distance. Therefore the
        bits of a lower order are the first bits of a higher order.
    """
    labels = torch.arange(2**num_bits, device=device)
    bits = (labels[:, None] >> torch.arange(num_bits - 1, -1, -1, device=device)) & 1
    signs = 1 - 2 * bits.to(torch.float32)
    amplitude = torch.ones(2**num_bits, device=device)
    for i in range(num_bits - 1, 0, -1):
        amplitude = 2.0 ** (num_bits - i) - signs[:, i] * amplitude
    levels = signs[:, 0] * amplitude
    return levels / (2 * (levels**2).mean()).sqrt(), bits.to(torch.uint8)


def constellation(num_bits: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the QAM symbols of all labels in order, complex64 ``(2**num_bits,)``.

    Args:
        num_bits: bits per QAM symbol: 2, 4, 6 or 8. The first bit is the most significant bit of the label.
        device: torch device of the result.
    """
    labels = torch.arange(2**num_bits, device=device)
    return modulate(((labels[:, None] >> torch.arange(num_bits - 1, -1, -1, device=device)) & 1).to(torch.uint8))


def modulate(bits: torch.Tensor) -> torch.Tensor:
    """Map bits to QAM symbols of unit mean power (TS 38.211, 5.1).

    Args:
        bits: uint8 ``(batch, bits_per_symbol, ...)``. Even bits set the real part, odd bits the imaginary part.

    Returns:
        QAM symbols, complex64 ``(batch, ...)``.

    Example:
        >>> qpsk = modulate(torch.tensor([[0, 0], [1, 0]], dtype=torch.uint8))
        >>> [complex(round(x.real, 2), round(x.imag, 2)) for x in qpsk.tolist()]
        [(0.71+0.71j), (-0.71+0.71j)]
    """
    num_bits = bits.shape[1] // 2
    levels, _ = pam_levels(num_bits, bits.device)
    weights = 2 ** torch.arange(num_bits - 1, -1, -1, device=bits.device)
    shape = (1, num_bits, *([1] * (bits.dim() - 2)))
    real = (bits[:, 0::2] * weights.view(shape)).sum(1)
    imag = (bits[:, 1::2] * weights.view(shape)).sum(1)
    return torch.complex(levels[real], levels[imag])
