"""Imperfections of the wanted link: a non-linear amplifier, and an oscillator with an offset and phase noise."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from scipy import integrate

from channels.grid import Grid
from channels.ofdm import frequency_shift, ofdm_demodulate, ofdm_modulate
from channels.scenarios import Impairments, PowerAmplifier

OVERSAMPLING = 4
"""Samples per chip in the amplifier, so that what it spreads beyond the band does not fold back."""


def amplify(symbols: torch.Tensor, amplifier: PowerAmplifier, grid: Grid) -> torch.Tensor:
    """OFDM symbols after Rapp's amplifier (C. Rapp, 1991), scaled so that its linear part is the signal itself.

    The amplifier has no memory, so a cyclic prefix leaves it as the symbol's end does. What leaves the band is dropped.

    Args:
        symbols: transmitted subcarriers of unit mean power, complex64 ``(..., F)``.
    """
    occupied = grid.num_subcarriers / (OVERSAMPLING * grid.fft_size)  # mean power of a sample
    samples = ofdm_modulate(symbols, grid, OVERSAMPLING)
    amplitude = samples.abs() / math.sqrt(occupied)
    return ofdm_demodulate(samples * (_compression(amplitude, amplifier) / linear_gain(amplifier)), grid)


def _compression(amplitude: torch.Tensor, amplifier: PowerAmplifier) -> torch.Tensor:
    """Gain of the amplifier at an amplitude relative to the signal's root mean square."""
    saturation = 10 ** (amplifier.input_backoff_db / 20)
    exponent = 2 * amplifier.smoothness
    return (1 + (amplitude / saturation) ** exponent) ** (-1 / exponent)


@lru_cache
def linear_gain(amplifier: PowerAmplifier) -> float:
    """Bussgang gain ``E[x* f(x)] / E|x|^2`` for a complex Gaussian signal, which OFDM resembles."""

    def integrand(power: float) -> float:
        return power * math.exp(-power) * float(_compression(torch.tensor(math.sqrt(power)), amplifier))

    return float(integrate.quad(integrand, 0, 40)[0])


def oscillator(
    impairments: Impairments, batch: int, num_symbols: int, grid: Grid, generator: torch.Generator
) -> torch.Tensor | None:
    """Phasor of the carrier frequency offset and the phase noise over the FFT windows.

    Phase noise is a Wiener process with increments of variance ``2 pi linewidth`` per second.

    Returns:
        complex64 ``(batch, num_symbols, fft_size)``, or none where the oscillator is ideal.
    """
    low, high = impairments.carrier_frequency_offset_hz
    if low == high == 0 and impairments.phase_noise_linewidth_hz == 0:
        return None
    offset_hz = low + (high - low) * torch.rand(batch, device=generator.device, generator=generator)
    phasor = frequency_shift(offset_hz, num_symbols, grid)
    if impairments.phase_noise_linewidth_hz:
        variance = 2 * math.pi * impairments.phase_noise_linewidth_hz / grid.sample_rate_hz
        steps = math.sqrt(variance) * torch.randn(phasor.shape, device=generator.device, generator=generator)
        steps[..., 0] *= math.sqrt(1 + grid.cyclic_prefix_samples)  # the walk goes on during the prefix
        phase = steps.flatten(1).cumsum(1).view_as(steps)
        phasor = phasor * torch.polar(torch.ones_like(phase), phase)
    return phasor
