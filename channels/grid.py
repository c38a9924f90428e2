"""The resource grid of one slot and the QAM mapping of TS 38.211.

A slot has 14 OFDM symbols over ``12 * num_prb`` subcarriers. Tensors over a grid end in
``(..., num_symbols, num_subcarriers)``.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, field_validator

from channels.records import Record

NUM_SYMBOLS = 14
"""OFDM symbols in a slot with normal cyclic prefix (TS 38.211, table 4.3.2-1)."""

Modulation = Literal["QPSK", "16-QAM", "64-QAM", "256-QAM"]
BITS_PER_SYMBOL: dict[Modulation, int] = {"QPSK": 2, "16-QAM": 4, "64-QAM": 6, "256-QAM": 8}


class Grid(Record):
    """Resource grid of a slot.

    Attributes:
        num_prb: physical resource blocks of 12 subcarriers, 1 to 273.
        subcarrier_spacing_hz: 15, 30, 60 or 120 kHz.
        carrier_frequency_hz: carrier frequency.
        num_rx: receive antennas.
        pilot_patterns: OFDM symbols that carry pilots on every subcarrier; each slot draws one of the patterns.
    """

    num_prb: int = Field(26, ge=1, le=273)
    subcarrier_spacing_hz: Literal[15000, 30000, 60000, 120000] = 15000
    carrier_frequency_hz: float = Field(4e9, ge=4e8, le=1e11)
    num_rx: int = Field(2, ge=1, le=16)
    pilot_patterns: tuple[tuple[int, ...], ...] = ((2,), (2, 11))

    @field_validator("subcarrier_spacing_hz", mode="before")
    @classmethod
    def _whole_hertz(cls, value: object) -> object:
        return int(value) if isinstance(value, float) and value.is_integer() else value

    @field_validator("pilot_patterns")
    @classmethod
    def _inside_the_slot(cls, patterns: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        if not patterns or not all(patterns):
            raise ValueError("needs at least one pattern with at least one pilot symbol")
        for pattern in patterns:
            if sorted(set(pattern)) != list(pattern) or not 0 <= pattern[0] <= pattern[-1] < NUM_SYMBOLS:
                raise ValueError(f"pilot symbols {list(pattern)} must increase and lie in 0..{NUM_SYMBOLS - 1}")
            if len(pattern) == NUM_SYMBOLS:
                raise ValueError("pilots on every symbol leave no room for data")
        return patterns

    @property
    def num_subcarriers(self) -> int:
        return 12 * self.num_prb

    @property
    def symbol_duration_s(self) -> float:
        """Mean duration of one OFDM symbol with its cyclic prefix."""
        return 1e-3 * 15000 / self.subcarrier_spacing_hz / NUM_SYMBOLS

    @property
    def fft_size(self) -> int:
        """Smallest power of two that holds the subcarriers, at least 128."""
        return max(128, 1 << (self.num_subcarriers - 1).bit_length())

    @property
    def cyclic_prefix_samples(self) -> int:
        """Normal cyclic prefix at ``fft_size``: 144 of 2048 samples (TS 38.211, 5.3.1), all symbols alike."""
        return 144 * self.fft_size // 2048

    @property
    def cyclic_prefix_s(self) -> float:
        return self.cyclic_prefix_samples / (self.fft_size * self.subcarrier_spacing_hz)

    def frequencies_hz(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Baseband subcarrier frequencies, float32 ``(num_subcarriers,)``."""
        index = torch.arange(self.num_subcarriers, dtype=torch.float32, device=device)
        return (index - self.num_subcarriers // 2) * float(self.subcarrier_spacing_hz)


def pam_levels(num_bits: int, device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Gray-labelled levels of one QAM axis (TS 38.211, 5.1), scaled so that the QAM symbol has unit mean power.

    Args:
        num_bits: bits on this axis, 1 to 4 (half the bits of the QAM symbol).

    Returns:
        levels float32 ``(2**num_bits,)`` and their bits, uint8 ``(2**num_bits, num_bits)``. The first bit is the
        sign and each further bit halves the distance, so the bits of a lower order are the first of a higher one.
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
    """QAM symbols of all labels in order, a label's first bit the most significant; complex64 ``(2**num_bits,)``."""
    labels = torch.arange(2**num_bits, device=device)
    return modulate(((labels[:, None] >> torch.arange(num_bits - 1, -1, -1, device=device)) & 1).to(torch.uint8))


def modulate(bits: torch.Tensor) -> torch.Tensor:
    """Map bits to QAM symbols of unit mean power (TS 38.211, 5.1).

    Args:
        bits: uint8 ``(batch, bits_per_symbol, ...)``; even bits set the real part, odd bits the imaginary part.

    Returns:
        complex64 ``(batch, ...)``.
    """
    num_bits = bits.shape[1] // 2
    levels, _ = pam_levels(num_bits, bits.device)
    weights = 2 ** torch.arange(num_bits - 1, -1, -1, device=bits.device)
    shape = (1, num_bits, *([1] * (bits.dim() - 2)))
    real = (bits[:, 0::2] * weights.view(shape)).sum(1)
    imag = (bits[:, 1::2] * weights.view(shape)).sum(1)
    return torch.complex(levels[real], levels[imag])
