"""Impairments of the wanted link: a non-linear power amplifier, a carrier frequency offset and phase noise."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from scipy import integrate

from channels.grid import Grid
from channels.ofdm import frequency_shift, ofdm_demodulate, ofdm_modulate
from channels.scenarios import Impairments, PowerAmplifier

OVERSAMPLING = 4
"""Oversampling in the amplifier, so that its out-of-band products do not alias into the band."""


def amplify(symbols: torch.Tensor, amplifier: PowerAmplifier, grid: Grid) -> torch.Tensor:
    """Send OFDM symbols through Rapp's amplifier (C. Rapp, 1991).

    The output is scaled so that its linear part is the input. The amplifier has no memory, so it treats the cyclic
    prefix like the end of the symbol. Out-of-band products are dropped.

    Args:
        symbols: transmitted subcarriers of unit mean power, complex64 ``(..., F)``.
        amplifier: input back-off and smoothness.
        grid: resource grid.

    Returns:
        amplified subcarriers, complex64 ``(..., F)``.
    """
    sample_power = (grid.num_subcarriers - len(grid.empty_subcarriers)) / (OVERSAMPLING * grid.fft_size)
    samples = ofdm_modulate(symbols, grid, OVERSAMPLING)
    amplitude = samples.abs() / math.sqrt(sample_power)
    return ofdm_demodulate(samples * (_compression(amplitude, amplifier) / linear_gain(amplifier)), grid)


def _compression(amplitude: torch.Tensor, amplifier: PowerAmplifier) -> torch.Tensor:
    """Return the gain of the amplifier at an amplitude relative to the root mean square of the signal."""
    saturation = 10 ** (amplifier.input_backoff_db / 20)
    exponent = 2 * amplifier.smoothness
    return (1 + (amplitude / saturation) ** exponent) ** (-1 / exponent)


@lru_cache
def linear_gain(amplifier: PowerAmplifier) -> float:
    """Return the Bussgang gain ``E[x* f(x)] / E|x|^2`` of a complex Gaussian signal, which approximates OFDM.

    Example:
        >>> round(linear_gain(PowerAmplifier(input_backoff_db=6)), 3)
        0.938
    """

    def integrand(power: float) -> float:
        return power * math.exp(-power) * float(_compression(torch.tensor(math.sqrt(power)), amplifier))

    return float(integrate.quad(integrand, 0, 40)[0])


def oscillator(
    impairments: Impairments, batch: int, num_symbols: int, grid: Grid, generator: torch.Generator
) -> torch.Tensor | None:
    """Draw the phasor of the carrier frequency offset and the phase noise in the FFT windows.

    Phase noise is a Wiener process. The variance of its increments is ``2 pi linewidth`` per second.

    Args:
        impairments: offset and linewidth.
        batch: number of slots.
        num_symbols: number of FFT windows.
        grid: resource grid.
        generator: source of all random numbers; it also sets the device.

    Returns:
        complex64 ``(batch, num_symbols, fft_size)``, or ``None`` if the oscillator is ideal.
    """
    low, high = impairments.carrier_frequency_offset_hz
    if low == high == 0 and impairments.phase_noise_linewidth_hz == 0:
        return None
    offset_hz = low + (high - low) * torch.rand(batch, device=generator.device, generator=generator)
    phasor = frequency_shift(offset_hz, num_symbols, grid)
    if impairments.phase_noise_linewidth_hz:
        variance = 2 * math.pi * impairments.phase_noise_linewidth_hz / grid.sample_rate_hz
        steps = math.sqrt(variance) * torch.randn(phasor.shape, device=generator.device, generator=generator)
        steps[..., 0] *= math.sqrt(1 + grid.cyclic_prefix_samples)  # includes the steps during the prefix
        phase = steps.flatten(1).cumsum(1).view_as(steps)
        phasor = phasor * torch.polar(torch.ones_like(phase), phase)
    return phasor
