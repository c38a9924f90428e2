import math
from typing import Any

import pytest
import torch
from scipy.special import j0

from channels.fading import Fading, frequency_response
from channels.grid import Grid
from channels.link_level import Paths
from channels.scenarios import ChannelModel

GRID = Grid(num_prb=6)


def paths_of(model: ChannelModel, spread_s: float, doppler_hz: float, slots: int = 4000) -> Paths:
    fading = Fading({model: 1.0}, GRID, (doppler_hz, doppler_hz))
    return fading.draw(torch.full((slots,), spread_s), torch.Generator().manual_seed(1), 14, GRID.symbol_duration_s)


def draw(model: ChannelModel, spread_s: float, doppler_hz: float, slots: int = 4000) -> torch.Tensor:
    return frequency_response(paths_of(model, spread_s, doppler_hz, slots), GRID)


def sionna_paths(model: ChannelModel, spread_s: float, doppler_hz: float, slots: int = 4000) -> Paths:
    """Sionna's own draws of the same model."""
    from sionna.phy import config
    from sionna.phy.channel.tr38901 import CDL, TDL, PanelArray

    config.seed = 1
    options: dict[str, Any] = {
        "carrier_frequency": GRID.carrier_frequency_hz,
        "device": "cpu",
        "min_speed": doppler_hz * 299792458 / GRID.carrier_frequency_hz,
        "max_speed": doppler_hz * 299792458 / GRID.carrier_frequency_hz,
    }
    if model.startswith("TDL"):
        model_of_sionna: Any = TDL(model[-1], spread_s, num_rx_ant=2, **options)
    else:
        arrays = [
            PanelArray(
                num_rows_per_panel=1,
                num_cols_per_panel=n,
                polarization="single",
                polarization_type="V",
                antenna_pattern="omni",
                carrier_frequency=GRID.carrier_frequency_hz,
                device="cpu",
            )
            for n in (1, 2)
        ]
        model_of_sionna = CDL(
            model[-1], spread_s, ut_array=arrays[0], bs_array=arrays[1], direction="uplink", **options
        )
    gains, delays = model_of_sionna(slots, 14, 1 / GRID.symbol_duration_s)
    return Paths(gains[:, 0, :, 0, 0].transpose(2, 3), delays[:, 0, 0])


@pytest.mark.parametrize(
    "model",
    [
        "TDL-A",
        "TDL-B",
        "TDL-C",
        "TDL-D",
        "TDL-E",
        "CDL-A",
        "CDL-D",
        "TDLA30",
        "TDLB100",
        "TDLC300",
        "UMi",
        "UMa",
        "RMa",
        "Rayleigh",
        "AWGN",
    ],
)
def test_unit_mean_power(model: ChannelModel) -> None:
    power = draw(model, 100e-9, 100.0, 2000).abs().square().mean((1, 2, 3))
    deviation = float(power.std() / math.sqrt(len(power)))
    assert float(power.mean()) == pytest.approx(1.0, abs=4 * deviation + 1e-5)


@pytest.mark.parametrize("model", [f"{family}-{profile}" for family in ("TDL", "CDL") for profile in "ABCDE"])
def test_paths_have_the_statistics_of_sionna(model: ChannelModel) -> None:
    """Delays, power of every path, and how each changes over time and, in CDL, from antenna to antenna."""
    leanrx, sionna = (
        Paths(p.gains[..., p.delays_s[0].argsort()], p.delays_s.sort(1).values)
        for p in (paths_of(model, 100e-9, 400.0), sionna_paths(model, 100e-9, 400.0))
    )
    torch.testing.assert_close(leanrx.delays_s, sionna.delays_s, atol=1e-12, rtol=1e-5)
    for lag in (0, 3, 9):
        actual, expected = (
            (g[:, :, lag:] * g[:, :, : 14 - lag].conj()).mean((0, 1, 2)) for g in (leanrx.gains, sionna.gains)
        )
        assert float((actual - expected).abs().max()) < 0.02
    if model.startswith("CDL"):  # only magnitudes per cluster: leanrx draws the bearing, so phases differ
        magnitudes = [
            (g[:, 0] * g[:, 1].conj()).mean(1).abs().mean(0) for g in (leanrx.gains[..., 1:], sionna.gains[..., 1:])
        ]
        torch.testing.assert_close(*magnitudes, atol=0.01, rtol=0.05)


@pytest.mark.parametrize("model", ["TDL-A", "TDL-B", "TDL-C", "TDLB100"])
def test_taps_are_gaussian(model: ChannelModel) -> None:
    """Kurtosis of a complex Gaussian: E|a|^4 = 2 (E|a|^2)^2; the mean of a^2 is 0."""
    gains = paths_of(model, 100e-9, 300.0, 20000).gains[:, 0, 5]
    power = gains.abs().square().mean(0)
    kurtosis = gains.abs().pow(4).mean(0) / power**2
    assert float((kurtosis - 2).abs().max()) < 0.2
    assert float((gains.square().mean(0).abs() / power).max()) < 0.04


@pytest.mark.parametrize("model", ["TDL-A", "TDL-D", "TDL-E", "CDL-A", "CDL-D", "CDL-E"])
def test_phase_and_bearing_are_random(model: ChannelModel) -> None:
    """A receiver could learn a line of sight with a fixed phase or direction."""
    h = draw(model, 100e-9, 100.0, 2000)[:, :, 0, 0]
    assert float(h.mean(0).abs().max()) < 4 / math.sqrt(2000)
    assert float((h[:, 0] * h[:, 1].conj()).mean().abs()) < 0.15 + 4 / math.sqrt(2000)


# TR 38.901, tables 7.7.2-1 to 7.7.2-3, typed in here.
DELAYS = {
    "TDL-A": [
        0.0,
        0.3819,
        0.4025,
        0.5868,
        0.4610,
        0.5375,
        0.6708,
        0.5750,
        0.7618,
        1.5375,
        1.8978,
        2.2242,
        2.1718,
        2.4942,
        2.5119,
        3.0582,
        4.0810,
        4.4579,
        4.5695,
        4.7966,
        5.0066,
        5.3043,
        9.6586,
    ],
    "TDL-B": [
        0.0,
        0.1072,
        0.2155,
        0.2095,
        0.2870,
        0.2986,
        0.3752,
        0.5055,
        0.3681,
        0.3697,
        0.5700,
        0.5283,
        1.1021,
        1.2756,
        1.5474,
        1.7842,
        2.0169,
        2.8294,
        3.0219,
        3.6187,
        4.1067,
        4.2790,
        4.7834,
    ],
    "TDL-C": [
        0.0,
        0.2099,
        0.2219,
        0.2329,
        0.2176,
        0.6366,
        0.6448,
        0.6560,
        0.6584,
        0.7935,
        0.8213,
        0.9336,
        1.2285,
        1.3083,
        2.1704,
        2.7105,
        4.2589,
        4.6003,
        5.4902,
        5.6077,
        6.3065,
        6.6374,
        7.0427,
        8.6523,
    ],
}
POWERS_DB = {
    "TDL-A": [
        -13.4,
        0,
        -2.2,
        -4,
        -6,
        -8.2,
        -9.9,
        -10.5,
        -7.5,
        -15.9,
        -6.6,
        -16.7,
        -12.4,
        -15.2,
        -10.8,
        -11.3,
        -12.7,
        -16.2,
        -18.3,
        -18.9,
        -16.6,
        -19.9,
        -29.7,
    ],
    "TDL-B": [
        0,
        -2.2,
        -4,
        -3.2,
        -9.8,
        -1.2,
        -3.4,
        -5.2,
        -7.6,
        -3,
        -8.9,
        -9,
        -4.8,
        -5.7,
        -7.5,
        -1.9,
        -7.6,
        -12.2,
        -9.8,
        -11.4,
        -14.9,
        -9.2,
        -11.3,
    ],
    "TDL-C": [
        -4.4,
        -1.2,
        -3.5,
        -5.2,
        -2.5,
        0,
        -2.2,
        -3.9,
        -7.4,
        -7.1,
        -10.7,
        -11.1,
        -5.1,
        -6.8,
        -8.7,
        -13.2,
        -13.9,
        -13.9,
        -15.8,
        -17.1,
        -16,
        -15.7,
        -21.6,
        -22.8,
    ],
}


@pytest.mark.parametrize("model", ["TDL-A", "TDL-B", "TDL-C"])
def test_delay_profiles_of_tdl(model: ChannelModel) -> None:
    """Frequency correlation against the power-delay profile."""
    spread_s = 200e-9
    h = draw(model, spread_s, 5.0)
    powers = torch.tensor([10 ** (p / 10) for p in POWERS_DB[model]])
    powers = powers / powers.sum()
    for lag in (1, 5, 20, 50):
        cycles = lag * 15e3 * spread_s * torch.tensor(DELAYS[model])
        expected = (powers * torch.exp(-2j * math.pi * cycles)).sum()
        actual = (h[..., lag:] * h[..., :-lag].conj()).mean()
        assert abs(complex(actual - expected)) < 0.03


@pytest.mark.parametrize(("model", "k_factor_db"), [("TDL-D", 13.3), ("TDL-E", 22.0)])
def test_line_of_sight_of_tdl(model: ChannelModel, k_factor_db: float) -> None:
    """K-factor of the first tap (tables 7.7.2-4 and -5), from its fourth moment: 2 - (K / (K + 1))^2."""
    first = paths_of(model, 100e-9, 300.0, 20000).gains[:, 0, 5, 0]
    moment = float(first.abs().pow(4).mean() / first.abs().square().mean() ** 2)
    k_factor = 10 ** (k_factor_db / 10)
    assert moment == pytest.approx(2 - (k_factor / (1 + k_factor)) ** 2, abs=0.01)


@pytest.mark.parametrize(("model", "spread_s"), [("TDLA30", 30e-9), ("TDLB100", 100e-9), ("TDLC300", 300e-9)])
def test_delay_spreads_of_the_profiles_of_38_101_4_are_fixed(model: ChannelModel, spread_s: float) -> None:
    """The curvature of the frequency correlation is the RMS delay spread, whatever the spread of the scenario."""
    h = draw(model, 77e-9, 5.0)
    lag = round(0.1 / (2 * math.pi * 15e3 * spread_s))
    correlation = (h[..., lag:] * h[..., :-lag].conj()).mean()
    power = (h[..., lag:].abs().square().mean() * h[..., :-lag].abs().square().mean()).sqrt()
    actual_s = math.sqrt(-2 * math.log(abs(complex(correlation / power)))) / (2 * math.pi * 15e3 * lag)
    assert actual_s == pytest.approx(spread_s, rel=0.1)


@pytest.mark.parametrize("model", ["TDL-A", "TDL-B", "TDL-C", "TDLA30", "TDLB100", "TDLC300"])
@pytest.mark.parametrize("doppler_hz", [50.0, 500.0])
def test_jakes_autocorrelation_of_tdl(model: ChannelModel, doppler_hz: float) -> None:
    h = draw(model, 100e-9, doppler_hz)
    for lag in (1, 4, 8, 13):
        actual = (h[:, :, lag:] * h[:, :, :-lag].conj()).mean()
        expected = j0(2 * math.pi * doppler_hz * lag * GRID.symbol_duration_s)
        assert abs(complex(actual) - expected) < 0.03


@pytest.mark.parametrize("model", ["UMi", "UMa"])
def test_delay_spreads_of_system_level_models(model: ChannelModel) -> None:
    """Medians of the lognormal spread at 4 GHz lie between those of LoS and of NLoS users (TR 38.901, table 7.5-6)."""
    paths = paths_of(model, 0.0, 5.0, 1500)
    power = paths.gains.abs().square().mean((1, 2))
    power = power / power.sum(1, keepdim=True)
    mean = (power * paths.delays_s).sum(1)
    spread_s = ((power * paths.delays_s**2).sum(1) - mean**2).clamp_min(0).sqrt()
    low, high = {"UMi": (60e-9, 250e-9), "UMa": (90e-9, 450e-9)}[model]
    assert low < float(spread_s.median()) < high
    assert float(paths.delays_s.max()) < 1e-4


def test_delay_is_a_phase_ramp() -> None:
    gains = torch.ones(1, 1, 1, 1, dtype=torch.complex64)
    h = frequency_response(Paths(gains, torch.tensor([[1e-6]])), GRID)
    expected = torch.exp(-2j * math.pi * GRID.frequencies_hz() * 1e-6)
    torch.testing.assert_close(h[0, 0, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", ["TDL-A", "CDL-A"])
def test_every_draw_has_its_own_delay_spread_and_doppler(model: ChannelModel) -> None:
    fading = Fading({model: 1.0}, GRID, (0.0, 400.0))
    spreads_s = torch.linspace(10e-9, 300e-9, 2000)
    gains, delays_s = fading.draw(spreads_s, torch.Generator().manual_seed(1), 14, GRID.symbol_duration_s)
    torch.testing.assert_close(delays_s[:, -1] / spreads_s, torch.full((2000,), 9.6586), rtol=1e-4, atol=0)
    change = (gains[:, :, 1:] - gains[:, :, :-1]).abs().square().mean((1, 2, 3)).sqrt()
    assert float(change.quantile(0.05)) < 0.15 * float(change.quantile(0.95))
