import math

import pytest
import torch
from scipy.special import j0

from channels.fading import Fading
from channels.grid import Grid
from channels.interference import seen_by_receiver
from channels.scenario import ChannelModel

GRID = Grid(num_prb=6)


def draw(model: ChannelModel, spread_s: float, doppler_hz: float, slots: int = 4000) -> torch.Tensor:
    fading = Fading(model, GRID, (doppler_hz, doppler_hz))
    return fading.draw(torch.full((slots,), spread_s), torch.Generator().manual_seed(1), 14)


@pytest.mark.parametrize(
    "model", ["TDL-A", "TDL-B", "TDL-C", "TDL-D", "TDL-E", "CDL-A", "CDL-D", "TDLA30", "TDLB100", "TDLC300"]
)
def test_unit_mean_power(model: ChannelModel) -> None:
    power = draw(model, 100e-9, 100.0, 2000).abs().square().mean((1, 2, 3))
    deviation = float(power.std() / math.sqrt(len(power)))
    assert float(power.mean()) == pytest.approx(1.0, abs=4 * deviation)


@pytest.mark.parametrize("model", ["TDL-A", "TDL-D", "TDL-E", "CDL-A", "CDL-D", "CDL-E"])
def test_no_draw_shares_phase_or_bearing(model: ChannelModel) -> None:
    """A line of sight with a fixed phase or direction could be learnt; on air it cannot."""
    h = draw(model, 100e-9, 100.0, 2000)[:, :, 0, 0]
    assert float(h.mean(0).abs().max()) < 4 / math.sqrt(2000)
    assert float((h[:, 0] * h[:, 1].conj()).mean().abs()) < 0.15 + 4 / math.sqrt(2000)


def test_delay_profile_of_tdl_a() -> None:
    """Frequency correlation against the power-delay profile of TR 38.901, table 7.7.2-1, typed in here."""
    delays = [0.0, 0.3819, 0.4025, 0.5868, 0.4610, 0.5375, 0.6708, 0.5750, 0.7618, 1.5375, 1.8978, 2.2242, 2.1718,
              2.4942, 2.5119, 3.0582, 4.0810, 4.4579, 4.5695, 4.7966, 5.0066, 5.3043, 9.6586]  # fmt: skip
    powers_db = [-13.4, 0, -2.2, -4, -6, -8.2, -9.9, -10.5, -7.5, -15.9, -6.6, -16.7, -12.4, -15.2, -10.8, -11.3, -12.7,
                 -16.2, -18.3, -18.9, -16.6, -19.9, -29.7]  # fmt: skip
    spread_s = 200e-9
    h = draw("TDL-A", spread_s, 5.0)
    powers = torch.tensor([10 ** (p / 10) for p in powers_db])
    powers = powers / powers.sum()
    for lag in (1, 5, 20, 50):
        expected = (powers * torch.exp(-2j * math.pi * lag * 15e3 * spread_s * torch.tensor(delays))).sum()
        found = (h[..., lag:] * h[..., :-lag].conj()).mean()
        assert abs(complex(found - expected)) < 0.03


@pytest.mark.parametrize(("model", "spread_s"), [("TDLA30", 30e-9), ("TDLB100", 100e-9), ("TDLC300", 300e-9)])
def test_profiles_of_38_101_4_have_their_own_delay_spread(model: ChannelModel, spread_s: float) -> None:
    """The curvature of the frequency correlation is the RMS delay spread, whatever spread is asked for."""
    h = draw(model, 77e-9, 5.0)
    lag = round(0.1 / (2 * math.pi * 15e3 * spread_s))
    correlation = (h[..., lag:] * h[..., :-lag].conj()).mean()
    power = (h[..., lag:].abs().square().mean() * h[..., :-lag].abs().square().mean()).sqrt()
    found = math.sqrt(-2 * math.log(abs(complex(correlation / power)))) / (2 * math.pi * 15e3 * lag)
    assert found == pytest.approx(spread_s, rel=0.1)


def test_jakes_autocorrelation_of_tdl_c() -> None:
    h = draw("TDL-C", 100e-9, 400.0)
    for lag in (1, 4, 8, 13):
        found = (h[:, :, lag:] * h[:, :, :-lag].conj()).mean()
        expected = j0(2 * math.pi * 400.0 * lag * GRID.symbol_duration_s)
        assert abs(complex(found) - expected) < 0.03


def test_delay_is_a_phase_ramp() -> None:
    fading = Fading("AWGN", GRID, (0.0, 0.0))
    h = fading.draw(torch.zeros(1), torch.Generator(), 14, delay_s=torch.tensor([1e-6]))
    expected = torch.exp(-2j * math.pi * GRID.frequencies_hz() * 1e-6)
    torch.testing.assert_close(h[0, 0, 3], expected, atol=1e-5, rtol=0)


def symbols(num_slots: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(num_slots, 2, 15, GRID.num_subcarriers, dtype=torch.complex64, generator=generator)


@pytest.mark.parametrize("delay", [0, 1, 9])
def test_interferer_within_the_cyclic_prefix_stays_orthogonal(delay: int) -> None:
    sent = symbols()
    seen = seen_by_receiver(sent, torch.full((3,), delay), GRID)
    ramp = torch.exp(-2j * math.pi * GRID.frequencies_hz() * delay / (GRID.fft_size * 15e3))
    torch.testing.assert_close(seen, sent[:, :, 1:] * ramp, atol=1e-4, rtol=1e-4)


def test_interferer_late_by_a_symbol_shows_the_symbol_before() -> None:
    sent = symbols()
    whole = torch.full((3,), GRID.fft_size + GRID.cyclic_prefix_samples)
    torch.testing.assert_close(seen_by_receiver(sent, whole, GRID), sent[:, :, :-1], atol=1e-4, rtol=1e-4)


def test_interferer_beyond_the_prefix_smears_but_keeps_its_power() -> None:
    sent = symbols(300)
    seen = seen_by_receiver(sent, torch.full((300,), 70), GRID)
    aligned = seen_by_receiver(sent, torch.full((300,), 0), GRID)
    outside = (seen - aligned).abs().square().mean() / sent.abs().square().mean()
    assert float(outside) > 0.5
    # half of each window shows the symbol before: subcarriers leak outside the band of the grid, but little
    assert 0.9 < float(seen.abs().square().mean() / sent.abs().square().mean()) <= 1.0
