import math

import numpy as np
import pytest
import torch
from scipy import integrate
from scipy.special import j0

from channels import Grid, Impairments, PowerAmplifier, Scenario, Slots, SlotStream
from channels.grid import modulate
from channels.impairments import amplify, linear_gain, oscillator

GRID = Grid(num_prb=6, num_rx=1, pilot_patterns=((2,),))


def block(model: str = "AWGN", slots: int = 64, **settings: object) -> Slots:
    made = Scenario.model_validate(
        {
            "name": "x",
            "grid": GRID,
            "channels": {"train": [model]},
            "snr_db": (90, 90),
            **settings,
        }
    )
    return SlotStream(made, 1, slots).block(0)


def sent(slots: Slots) -> torch.Tensor:
    return torch.where(slots.is_data, modulate(slots.bits), slots.pilots)[:, None]


def distortion(slots: Slots) -> float:
    """Power of what arrives beside channel times symbols, over theirs."""
    wanted = slots.h * sent(slots)
    return float((slots.y - wanted).abs().square().mean() / wanted.abs().square().mean())


def test_an_ideal_link_has_no_distortion() -> None:
    assert distortion(block()) < 1e-8


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_frequency_offset_turns_and_leaks(share: float) -> None:
    """Offset over spacing e: the wanted part is sinc(e), the rest is intercarrier interference.

    At the band's edges some leaks outside, so the measured interference is a little less (T. Pollet et al., 1995).
    """
    offset_hz = share * 15e3
    slots = block(impairments=Impairments(carrier_frequency_offset_hz=(offset_hz, offset_hz)))
    torch.testing.assert_close(slots.h.abs(), torch.full_like(slots.h.abs(), float(np.sinc(share))), rtol=1e-3, atol=0)
    turn = (slots.h[:, :, 1:] * slots.h[:, :, :-1].conj()).angle()
    expected = 2 * math.pi * offset_hz * 137 / (128 * 15e3)
    torch.testing.assert_close(turn, torch.full_like(turn, expected), atol=1e-3, rtol=0)
    leaked = 1 / float(np.sinc(share)) ** 2 - 1
    assert 0.85 * leaked < distortion(slots) < leaked


def test_phase_noise_is_a_wiener_process() -> None:
    """Its phasor's autocorrelation is exp(-pi linewidth |lag|), across cyclic prefixes too."""
    linewidth_hz = 200.0
    impaired = Impairments(phase_noise_linewidth_hz=linewidth_hz)
    phasor = oscillator(impaired, 2000, 14, GRID, torch.Generator().manual_seed(1))
    assert phasor is not None
    for symbols, samples in ((0, 100), (1, 0), (5, 50)):
        found = (phasor[:, symbols, samples] * phasor[:, 0, 0].conj()).mean()
        lag_s = (symbols * 137 + samples) / (128 * 15e3)
        assert abs(complex(found) - math.exp(-math.pi * linewidth_hz * lag_s)) < 0.06


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
    found = linear_gain(PowerAmplifier(input_backoff_db=backoff_db, smoothness=smoothness))
    assert found == pytest.approx((x.conj() * y).mean().real, rel=3e-3)


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
    bent = block(impairments=Impairments(amplifier=PowerAmplifier(input_backoff_db=3)))
    assert distortion(bent) == pytest.approx(0.0127, rel=0.1)  # as the two thirds above
    noisy = block(impairments=Impairments(phase_noise_linewidth_hz=100), slots=256)
    # a Wiener phase over one window of N samples has mean square deviation 2 pi linewidth T / 6 about its mean
    assert distortion(noisy) == pytest.approx(2 * math.pi * 100 / 15e3 / 6, rel=0.15)


def test_an_amplifier_far_from_saturation_does_nothing() -> None:
    x = modulate(torch.randint(2, (2, 4, 14, 72), dtype=torch.uint8))
    torch.testing.assert_close(amplify(x, PowerAmplifier(input_backoff_db=30), GRID), x, atol=1e-3, rtol=0)


# The time domain.


def test_time_domain_equals_frequency_domain_where_both_hold() -> None:
    """Slow, short channels: the same draw of a line of sight and flat fading, and the same power of TDL-A."""
    slots = block("TDL-A", delay_spread_s=(50e-9, 50e-9), max_doppler_hz=(5, 5), domain="time")
    assert distortion(slots) < 1e-4
    flat = block("AWGN", domain="time")
    assert distortion(flat) < 1e-8
    torch.testing.assert_close(flat.h, torch.ones_like(flat.h), atol=1e-4, rtol=0)


def test_doppler_brings_intercarrier_interference() -> None:
    """Jakes spectrum: wanted power (1/N^2) sum_n (N - |n|) J0(2 pi f_D n T), here at a tenth of the spacing."""
    doppler_hz = 1500.0
    slots = block("TDL-A", 400, delay_spread_s=(50e-9, 50e-9), max_doppler_hz=(doppler_hz, doppler_hz), domain="time")
    lag = np.arange(-127, 128)
    wanted = ((128 - np.abs(lag)) * j0(2 * math.pi * doppler_hz * lag / (128 * 15e3))).sum() / 128**2
    # the channel in the middle of the window stands for its mean, which adds an error of its own
    assert 0.8 * (1 - wanted) < distortion(slots) < 1.6 * (1 - wanted)
    slow = block("TDL-A", 400, delay_spread_s=(50e-9, 50e-9), max_doppler_hz=(15.0, 15.0), domain="time")
    assert distortion(slow) < 1e-4


def test_paths_beyond_the_prefix_bring_intersymbol_interference() -> None:
    """A timing offset of half a prefix too late costs that part of each window; within the prefix nothing."""
    prefix_s = GRID.cyclic_prefix_s
    within = block("AWGN", impairments=Impairments(timing_offset_s=(0.9 * prefix_s, 0.9 * prefix_s)), domain="time")
    assert distortion(within) < 1e-4  # the ringing of a fractional delay at symbol borders
    samples = 40  # beyond the prefix, of 128
    late_s = prefix_s + samples / GRID.sample_rate_hz
    beyond = block("AWGN", 400, impairments=Impairments(timing_offset_s=(late_s, late_s)), domain="time")
    # in these samples the previous symbol stands in place of the wanted: error power twice theirs, less what leaks out
    assert 1.4 * samples / 128 < distortion(beyond) < 2 * samples / 128
    early = block("AWGN", 400, impairments=Impairments(timing_offset_s=(-late_s, -prefix_s)), domain="time")
    assert distortion(early) > 0.1


def test_drops_run_in_the_time_domain() -> None:
    slots = block("UMa", 16, domain="time", max_doppler_hz=(0, 50))
    assert torch.isfinite(torch.view_as_real(slots.y)).all()
    assert distortion(slots) < 0.05
