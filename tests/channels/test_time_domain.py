import math

import numpy as np
import torch
from scipy.special import j0
from signals import GRID, block, distortion

from channels import Impairments


def test_time_domain_equals_frequency_domain_where_both_hold() -> None:
    """Slow, short channels: the same draw of a line of sight and flat fading, and the same power of TDL-A."""
    slots = block("TDL-A", delay_spread_s=(50e-9, 50e-9), max_doppler_hz=(5, 5), domain="time")
    assert distortion(slots) < 1e-4
    flat = block("AWGN", domain="time")
    assert distortion(flat) < 1e-8
    torch.testing.assert_close(flat.h, torch.ones_like(flat.h), atol=1e-4, rtol=0)


def test_doppler_causes_intercarrier_interference() -> None:
    """Jakes spectrum: signal power (1/N^2) sum_n (N - |n|) J0(2 pi f_D n T), here at a tenth of the spacing."""
    doppler_hz = 1500.0
    slots = block("TDL-A", 400, delay_spread_s=(50e-9, 50e-9), max_doppler_hz=(doppler_hz, doppler_hz), domain="time")
    lag = np.arange(-127, 128)
    signal_power = ((128 - np.abs(lag)) * j0(2 * math.pi * doppler_hz * lag / (128 * 15e3))).sum() / 128**2
    # the channel in the middle of the window stands for its mean, which adds an error of its own
    assert 0.8 * (1 - signal_power) < distortion(slots) < 1.6 * (1 - signal_power)
    slow = block("TDL-A", 400, delay_spread_s=(50e-9, 50e-9), max_doppler_hz=(15.0, 15.0), domain="time")
    assert distortion(slow) < 1e-4


def test_delays_beyond_the_prefix_cause_intersymbol_interference() -> None:
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


def test_system_level_models_in_the_time_domain() -> None:
    slots = block("UMa", 16, domain="time", max_doppler_hz=(0, 50))
    assert torch.isfinite(torch.view_as_real(slots.y)).all()
    assert distortion(slots) < 0.05
