import math

import numpy as np
import pytest
import torch
from scipy import integrate
from signals import GRID, block, distortion

from channels import Grid, Impairments, PowerAmplifier
from channels.grid import modulate
from channels.impairments import amplify, linear_gain, oscillator


def test_an_ideal_link_has_no_distortion() -> None:
    assert distortion(block()) < 1e-8


@pytest.mark.parametrize("relative_offset", [0.02, 0.1])
def test_frequency_offset_rotates_and_leaks(relative_offset: float) -> None:
    """Offset over spacing e: the gain of the signal is sinc(e), and the rest is intercarrier interference.

    Some of it leaks out of the band, so the interference in the band is a little less (T. Pollet et al., 1995).
    """
    offset_hz = relative_offset * 15e3
    slots = block(impairments=Impairments(carrier_frequency_offset_hz=(offset_hz, offset_hz)))
    torch.testing.assert_close(
        slots.h.abs(), torch.full_like(slots.h.abs(), float(np.sinc(relative_offset))), rtol=1e-3, atol=0
    )
    rotation = (slots.h[:, :, 1:] * slots.h[:, :, :-1].conj()).angle()
    expected = 2 * math.pi * offset_hz * 137 / (128 * 15e3)
    torch.testing.assert_close(rotation, torch.full_like(rotation, expected), atol=1e-3, rtol=0)
    leaked = 1 / float(np.sinc(relative_offset)) ** 2 - 1
    assert 0.85 * leaked < distortion(slots) < leaked


def test_phase_noise_is_a_wiener_process() -> None:
    """Its phasor's autocorrelation is exp(-pi linewidth |lag|), across cyclic prefixes too."""
    linewidth_hz = 200.0
    impairments = Impairments(phase_noise_linewidth_hz=linewidth_hz)
    phasor = oscillator(impairments, 2000, 14, GRID, torch.Generator().manual_seed(1))
    assert phasor is not None
    for symbols, samples in ((0, 100), (1, 0), (5, 50)):
        autocorrelation = (phasor[:, symbols, samples] * phasor[:, 0, 0].conj()).mean()
        lag_s = (symbols * 137 + samples) / (128 * 15e3)
        assert abs(complex(autocorrelation) - math.exp(-math.pi * linewidth_hz * lag_s)) < 0.06


def test_timing_offset_is_a_phase_ramp_of_the_channel() -> None:
    slots = block(impairments=Impairments(timing_offset_s=(2e-6, 2e-6)))
    ramp = torch.exp(-2j * math.pi * GRID.frequencies_hz() * 2e-6)
    torch.testing.assert_close(slots.h[0, 0, 0], ramp, atol=1e-4, rtol=0)
    assert distortion(slots) < 1e-8


@pytest.mark.parametrize(("backoff_db", "smoothness"), [(0.0, 2.0), (3.0, 2.0), (6.0, 1.0)])
def test_linear_gain_of_the_amplifier(backoff_db: float, smoothness: float) -> None:
    """Against the average over complex Gaussian samples through Rapp's formula."""
    rng = np.random.default_rng(1)
    x = (rng.normal(size=400_000) + 1j * rng.normal(size=400_000)) / math.sqrt(2)
    saturation = 10 ** (backoff_db / 20)
    y = x / (1 + (np.abs(x) / saturation) ** (2 * smoothness)) ** (1 / (2 * smoothness))
    gain = linear_gain(PowerAmplifier(input_backoff_db=backoff_db, smoothness=smoothness))
    assert gain == pytest.approx((x.conj() * y).mean().real, rel=3e-3)


@pytest.mark.parametrize("backoff_db", [0.0, 3.0, 6.0, 9.0])
def test_two_thirds_of_the_amplifiers_distortion_stay_in_the_band(backoff_db: float) -> None:
    """As for any third-order non-linearity of a flat spectrum; all of it follows from the Gaussian amplitude."""
    wide, amplifier = Grid(num_prb=26), PowerAmplifier(input_backoff_db=backoff_db)
    generator = torch.Generator().manual_seed(1)
    x = modulate(torch.randint(2, (200, 4, 14, wide.num_subcarriers), dtype=torch.uint8, generator=generator))
    error = amplify(x, amplifier, wide) - x
    assert abs(complex((error * x.conj()).mean())) < 1e-3  # the linear part is the signal

    def output(power: float) -> float:
        return math.exp(-power) * power / math.sqrt(1 + (power / 10 ** (backoff_db / 10)) ** 2)

    distorted = integrate.quad(output, 0, 40)[0] / linear_gain(amplifier) ** 2 - 1
    assert float(error.abs().square().mean()) == pytest.approx(2 / 3 * distorted, rel=0.05)


def test_amplifier_and_phase_noise_reach_the_receiver() -> None:
    amplified = block(impairments=Impairments(amplifier=PowerAmplifier(input_backoff_db=3)))
    assert distortion(amplified) == pytest.approx(0.0127, rel=0.1)  # as the two thirds above
    rotated = block(impairments=Impairments(phase_noise_linewidth_hz=100), slots=256)
    # a Wiener phase over one window of N samples has mean square deviation 2 pi linewidth T / 6 about its mean
    assert distortion(rotated) == pytest.approx(2 * math.pi * 100 / 15e3 / 6, rel=0.15)


def test_amplifier_far_from_saturation_is_transparent() -> None:
    x = modulate(torch.randint(2, (2, 4, 14, 72), dtype=torch.uint8))
    torch.testing.assert_close(amplify(x, PowerAmplifier(input_backoff_db=30), GRID), x, atol=1e-3, rtol=0)
