"""Grids of any number of subcarriers, per-slot normalised channels and polarised antennas, beside Sionna's."""

import math

import pytest
import torch
from signals import transmitted

from channels import Antennas, Grid, Interferer, Scenario, SlotStream, Subcarriers
from channels.fading import channel_model, frequency_response
from channels.ofdm import ofdm_demodulate, ofdm_modulate
from leanrx_core.errors import UserError

GRID = Grid(
    subcarriers=Subcarriers(fft_size=128, guards=(5, 6), dc_null=True),
    subcarrier_spacing_hz=30000,
    carrier_frequency_hz=3.5e9,
    pilot_patterns=((2, 11),),
    antennas=Antennas(polarisation="VH", base_pattern="38.901", terminal_pattern="38.901"),
)
"""The grid of Sionna's tutorial of a neural receiver."""


def scenario(**settings: object) -> Scenario:
    defaults = {
        "name": "x",
        "grid": GRID,
        "modulations": ["QPSK"],
        "channels": {"test": ["CDL-C"]},
        "delay_spread_s": (1e-7, 1e-7),
        "max_doppler_hz": (117, 117),
        "snr_db": (90, 90),
        "channel_normalisation": "slot",
    }
    return Scenario.model_validate({**defaults, **settings})


def test_grid_has_the_resource_elements_of_sionna() -> None:
    from sionna.phy.ofdm import ResourceGrid

    sionna = ResourceGrid(
        num_ofdm_symbols=14,
        fft_size=128,
        subcarrier_spacing=30e3,
        num_guard_carriers=[5, 6],
        dc_null=True,
        pilot_pattern="kronecker",
        pilot_ofdm_symbol_indices=[2, 11],
        device="cpu",
    )
    slots = SlotStream(scenario(), 1, 2, "test").block(0)
    assert slots.y.shape == (2, 2, 14, 117)
    assert GRID.data_res == (int(sionna.num_data_symbols),) == (12 * 116,)
    assert (slots.is_data.sum((1, 2)) == 12 * 116).all()
    types = sionna.build_type_grid()[0, 0, :, 5:-6]  # 0 data, 1 pilot, 2 guard, 3 DC
    assert torch.equal(slots.is_data[0], types == 0)
    assert torch.equal(slots.pilots[0] != 0, types == 1)
    assert torch.nonzero(types[0] == 3)[:, 0].tolist() == [GRID.dc_subcarrier] == [59]
    assert torch.equal(slots.y[0, 0, :, 59].abs() < 1e-3, torch.ones(14, dtype=torch.bool))
    torch.testing.assert_close(slots.y, slots.h * transmitted(slots), atol=1e-3, rtol=0)


def test_subcarriers_have_the_frequencies_of_the_fft() -> None:
    symbols = torch.randn(3, 117, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    samples = ofdm_modulate(symbols, GRID)
    torch.testing.assert_close(ofdm_demodulate(samples, GRID), symbols, atol=1e-5, rtol=0)
    spectrum = torch.fft.fftshift(torch.fft.fft(samples, norm="ortho"), dim=-1)
    torch.testing.assert_close(spectrum[:, 5:-6], symbols, atol=1e-5, rtol=0)
    assert float(spectrum[:, :5].abs().max()) < 1e-5
    assert GRID.frequencies_hz()[[0, 59, -1]].tolist() == [-59 * 30e3, 0, 57 * 30e3]


@pytest.mark.parametrize("domain", ["frequency", "time"])
@pytest.mark.parametrize("model", ["CDL-C", "TDL-D"])
def test_normalised_channels_have_unit_power_in_every_slot(model: str, domain: str) -> None:
    settings = {"grid": GRID.model_copy(update={"antennas": Antennas()}), "channels": {"test": [model]}}
    interferers = (Interferer(sir_db=(3, 3), bandwidth_fraction=(0.3, 0.7)), Interferer(sir_db=(0, 0)))
    slots = SlotStream(scenario(**settings, domain=domain, interferers=interferers), 1, 16, "test").block(0)
    torch.testing.assert_close(slots.h.abs().square().mean((1, 2, 3)), torch.ones(16), atol=1e-3, rtol=0)
    power = slots.h_interference.abs().square().mean((2, 3, 4))
    torch.testing.assert_close(power[:, 1], torch.full((16,), 116 / 117), atol=0.02, rtol=0)
    assert (slots.h_interference[..., 59] == 0).all()


def test_polarised_cdl_has_the_power_and_correlation_of_sionna() -> None:
    """Relative powers of both polarisations and of the paths, and their correlation over time, in 1,000 draws."""
    from sionna.phy import config
    from sionna.phy.channel.tr38901 import CDL, PanelArray

    doppler_hz, interval_s, count = 117.0, 1e-3, 1000
    ours = channel_model("CDL-C", GRID, (doppler_hz, doppler_hz)).draw(
        torch.full((count,), 1e-7), torch.Generator().manual_seed(1), 2, interval_s
    )
    arrays = [
        PanelArray(
            num_rows_per_panel=1,
            num_cols_per_panel=1,
            polarization=polarization,
            polarization_type=kind,
            antenna_pattern="38.901",
            carrier_frequency=3.5e9,
            device="cpu",
        )
        for polarization, kind in (("single", "V"), ("dual", "VH"))
    ]
    speed_m_s = doppler_hz * 299792458 / 3.5e9
    state = config.torch_rng("cpu").get_state()
    config.torch_rng("cpu").manual_seed(2)
    sionna = CDL("C", 1e-7, 3.5e9, *arrays, "uplink", min_speed=speed_m_s, max_speed=speed_m_s, device="cpu")
    gains, delays_s = sionna(count, 2, 1 / interval_s)
    config.torch_rng("cpu").set_state(state)
    theirs = gains[:, 0, :, 0, 0].transpose(2, 3)
    torch.testing.assert_close(ours.delays_s, delays_s[:, 0, 0], atol=1e-12, rtol=1e-4)
    statistics = []
    for x in (ours.gains, theirs):
        power = x.abs().square().mean((0, 2))  # of antennas and paths
        lag = (x[:, :, 1] * x[:, :, 0].conj()).mean(0).sum(-1).abs() / power.sum(-1)
        statistics.append((power / power.sum(), lag))
    torch.testing.assert_close(statistics[0][0], statistics[1][0], atol=0.02, rtol=0)
    torch.testing.assert_close(statistics[0][1], statistics[1][1], atol=0.08, rtol=0)
    assert float(statistics[0][0][1].sum()) < 0.45, "the horizontal element gets less of a vertical element's power"


def test_slots_of_polarised_channels_do_not_depend_on_earlier_blocks() -> None:
    stream = SlotStream(scenario(), 3, 4, "test")
    first = stream.block(1)
    stream.block(0)
    assert torch.equal(stream.block(1).y, first.y)


def test_eb_n0_is_that_of_sionna() -> None:
    from sionna.phy.utils import ebnodb2no

    for ebn0_db, code_rate in ((-5.0, 0.5), (3.0, 0.75)):
        no = float(ebnodb2no(ebn0_db, 2, code_rate))
        assert scenario().snr_db_at_ebn0(ebn0_db, code_rate) == pytest.approx(-10 * math.log10(no), abs=1e-4)
    with pytest.raises(UserError, match="ebn0_db: scenario x has several modulations"):
        scenario(modulations=["QPSK", "16-QAM"]).snr_db_at_ebn0(0.0, 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": {"test": ["TDL-A"]}}, "grid.antennas: TDL-A has no directions"),
        ({"channel_normalisation": "ensemble"}, "write 'channel_normalisation: slot'"),
        (
            {"channels": {"test": ["UMi"]}, "domain": "time"},
            "terminal_pattern: UMi does not turn terminals; write omni",
        ),
        ({"grid": {"num_rx": 3, "antennas": {"polarisation": "cross"}}}, "grid: num_rx: 3 antennas are no cross pairs"),
        ({"grid": {"num_prb": 4, "subcarriers": {"fft_size": 128}}}, "num_prb and subcarriers exclude each other"),
        ({"grid": {"subcarriers": {"fft_size": 128}, "dmrs": {}}}, "subcarriers: DMRS fills whole resource blocks"),
        ({"grid": {"subcarriers": {"fft_size": 64, "guards": [40, 20]}}}, "leave 4 of 64 subcarriers; 12 or more"),
        (
            {"grid": {"subcarriers": {"fft_size": 64, "guards": [40, 4], "dc_null": True}}},
            "contain the carrier frequency",
        ),
    ],
)
def test_what_a_grid_cannot_have_is_refused(settings: dict[str, object], message: str) -> None:
    data = {"name": "x", "channels": {"test": ["CDL-C"]}, "grid": GRID.model_dump(), "channel_normalisation": "slot"}
    with pytest.raises(UserError) as error:
        Scenario.parse({**data, **settings}, "x.yaml")
    assert message in str(error.value)


def test_a_written_grid_can_be_read() -> None:
    assert Grid.parse(GRID.model_dump(), "x") == GRID
    paths = channel_model("Rayleigh", GRID, (0, 0)).draw(torch.zeros(2), torch.Generator().manual_seed(1), 14, 1e-5)
    assert frequency_response(paths, GRID).shape == (2, 2, 14, 117)
