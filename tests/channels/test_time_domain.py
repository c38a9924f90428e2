import math

import numpy as np
import torch
from scipy.special import j0
from signals import GRID, block, distortion

from channels import Grid, Impairments, Scenario, SlotStream
from channels.link_level import Paths
from channels.ofdm import ofdm_demodulate
from channels.time_domain import NUM_INSTANTS, apply_time_channel, num_lead_symbols


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
    # in these samples the previous symbol stands in place of the wanted one, which keeps the fraction w of the window:
    # the channel has the power w^2, the lost part of the wanted symbol w (1 - w), and the previous symbol 1 - w
    w = 1 - samples / GRID.fft_size
    torch.testing.assert_close(beyond.h.abs(), torch.full_like(beyond.h.abs(), w), atol=1e-4, rtol=0)
    expected = (w * (1 - w) + 1 - w) / w**2
    assert 0.9 * expected < distortion(beyond) < expected  # some of the power leaks out of the band
    early = block("AWGN", 400, impairments=Impairments(timing_offset_s=(-late_s, -prefix_s)), domain="time")
    assert distortion(early) > 0.1


def test_system_level_models_in_the_time_domain() -> None:
    slots = block("UMa", 16, domain="time", max_doppler_hz=(0, 50))
    assert torch.isfinite(torch.view_as_real(slots.y)).all()
    assert distortion(slots) < 0.05


def test_a_path_three_symbols_late_brings_the_symbols_before_the_slot() -> None:
    """Every FFT window holds the symbol that was sent three earlier, and nothing wraps around."""
    grid = Grid(num_prb=1, num_rx=1, subcarrier_spacing_hz=120000)
    symbol_s = (grid.fft_size + grid.cyclic_prefix_samples) / grid.sample_rate_hz
    paths = Paths(torch.ones(1, 1, NUM_INSTANTS, 1, dtype=torch.complex64), torch.full((1, 1), 3 * symbol_s))
    lead = num_lead_symbols(paths.delays_s, grid)
    assert lead == 3
    symbols = torch.randn(1, lead + 15, 12, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    received = ofdm_demodulate(apply_time_channel(symbols, paths, grid), grid)[:, 0]
    torch.testing.assert_close(received, symbols[:, :14], atol=1e-4, rtol=0)
    after = torch.zeros(1, 17, 12, dtype=torch.complex64)
    after[:, -1] = 1  # the symbol after the slot, and too few symbols before it
    assert float(apply_time_channel(after, paths, grid).abs().max()) < 1e-5


def test_very_long_channels_send_enough_symbols_before_the_slot() -> None:
    """TDL-E with the longest delay spread lasts 23 symbols; the received power is that of all its paths."""
    settings = {"delay_spread_s": (1e-5, 1e-5), "max_doppler_hz": (0, 0), "snr_db": (90, 90), "domain": "time"}
    grid = Grid(num_prb=6, num_rx=1, subcarrier_spacing_hz=120000)
    scenario = Scenario.model_validate({"name": "x", "grid": grid, "channels": {"train": ["TDL-E"]}, **settings})
    slots = SlotStream(scenario, 1, 200).block(0)
    power = slots.y.abs().square().mean((1, 3)).mean(0)
    assert power.std() < 0.1, "no symbol of the slot misses a path"
    assert 0.85 < float(power.mean()) < 1.05  # the edges between symbols leak out of the band
