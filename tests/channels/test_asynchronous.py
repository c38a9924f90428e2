import math

import pytest
import torch

from channels import Grid
from channels.asynchronous import apply_asynchronous_interference
from channels.ofdm import frequency_shift, ofdm_demodulate

GRID = Grid(num_prb=6)


def symbols(num_slots: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(num_slots, 2, 15, GRID.num_subcarriers, dtype=torch.complex64, generator=generator)


def receive(x: torch.Tensor, delay_samples: float) -> torch.Tensor:
    """Subcarriers of the delayed signal. The channel response includes the phase ramp of the delay."""
    ramp = torch.exp(-2j * math.pi * GRID.frequencies_hz() * delay_samples / GRID.sample_rate_hz)
    delays = torch.full((len(x),), delay_samples)
    return ofdm_demodulate(apply_asynchronous_interference(x * ramp, delays, GRID), GRID)


def receive_by_sample(x: torch.Tensor, delay: int) -> torch.Tensor:
    """The same from one long signal, sample by sample, with torch's DFT of each window alone."""
    size, prefix, half = GRID.fft_size, GRID.cyclic_prefix_samples, GRID.num_subcarriers // 2
    bins = (torch.arange(GRID.num_subcarriers) - half) % size
    out = torch.zeros_like(x[:, :, 1:])
    for slot in range(len(x)):
        for rx in range(x.shape[1]):
            signal: list[complex] = []
            for symbol in x[slot, rx]:
                spectrum = torch.zeros(size, dtype=torch.complex64)
                spectrum[bins] = symbol
                samples = torch.fft.ifft(spectrum).tolist()
                signal += samples[-prefix:] + samples
            for s in range(14):
                begin = (s + 1) * (size + prefix) + prefix - delay
                out[slot, rx, s] = torch.fft.fft(torch.tensor(signal[begin : begin + size]))[bins]
    return out


@pytest.mark.parametrize("delay", [0, 5, 9, 10, 70, 136, 137])
def test_windows_equal_those_of_one_long_signal(delay: int) -> None:
    x = symbols(1)
    torch.testing.assert_close(receive(x, delay), receive_by_sample(x, delay), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("delay", [0, 1, 9, 4.3])
def test_subcarriers_stay_orthogonal_within_the_cyclic_prefix(delay: float) -> None:
    x = symbols()
    ramp = torch.exp(-2j * math.pi * GRID.frequencies_hz() * delay / GRID.sample_rate_hz)
    torch.testing.assert_close(receive(x, delay), x[:, :, 1:] * ramp, atol=1e-4, rtol=1e-4)


def test_subcarriers_interfere_beyond_the_prefix_at_almost_the_same_power() -> None:
    x = symbols(300)
    delayed, aligned = receive(x, 70), receive(x, 0)
    outside = (delayed - aligned).abs().square().mean() / x.abs().square().mean()
    assert float(outside) > 0.5
    # half of each window holds the previous symbol, so a little power leaks out of the band of the grid
    assert 0.9 < float(delayed.abs().square().mean() / x.abs().square().mean()) <= 1.0


def test_frequency_offset_of_one_subcarrier_shifts_by_one() -> None:
    x = symbols(2)
    windows = apply_asynchronous_interference(x, torch.zeros(2), GRID)
    shifted = ofdm_demodulate(windows * frequency_shift(torch.full((2,), 15e3), 14, GRID)[:, None], GRID)
    # each symbol starts a prefix later, in which the offset rotates it by 2 pi 9/128
    rotation = torch.exp(2j * math.pi * 9 / 128 * torch.arange(14))[:, None]
    torch.testing.assert_close(shifted[..., 1:], x[:, :, 1:, :-1] * rotation, atol=1e-3, rtol=1e-3)
