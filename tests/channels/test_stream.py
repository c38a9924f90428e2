import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import equal, received_interference, transmitted, without_interferers

from channels import Channels, Grid, Interferer, Scenario, SlotStream
from channels import scenario as preset
from channels.fading import frequency_response
from leanrx_core.errors import UserError


def test_block_does_not_depend_on_earlier_blocks(small: Scenario) -> None:
    stream = SlotStream(small, 3, 8)
    first = stream.block(5)
    stream.block(0)
    torch.rand(7)
    assert equal(first, stream.block(5))
    assert equal(first, SlotStream(small, 3, 8).block(5))


@pytest.mark.parametrize("models", [["UMi"], ["UMa", "TDL-A"], ["RMa", "CDL-A", "UMi"]])
def test_system_level_block_does_not_depend_on_earlier_blocks(models: list[str]) -> None:
    scenario = Scenario(
        name="drops",
        grid=Grid(num_prb=1),
        channels=Channels.model_validate({"train": models}),
        domain="time",
        max_doppler_hz=(0, 50),
        interferers=(Interferer(),),
    )
    stream = SlotStream(scenario, 3, 6)
    blocks = [stream.block(n) for n in (0, 1, 2, 1)]
    assert equal(blocks[1], blocks[3])
    assert equal(blocks[2], SlotStream(scenario, 3, 6).block(2))


def test_blocks_do_not_depend_on_the_number_of_threads(small: Scenario) -> None:
    threads = torch.get_num_threads()
    try:
        blocks = []
        for count in (1, 2):
            torch.set_num_threads(count)
            blocks.append(SlotStream(small, 3, 64).block(1))
    finally:
        torch.set_num_threads(threads)
    assert equal(*blocks)


def test_noise_is_white_and_independent_from_slot_to_slot() -> None:
    """Over all parts that have generators of their own, and over slots with an SNR of their own."""
    scenario = Scenario(
        name="noise", grid=Grid(num_prb=6), channels=Channels.model_validate({"train": ["AWGN"]}), snr_db=(-10, 30)
    )
    slots = SlotStream(scenario, 1, 256).block(0)
    noise = (slots.y - slots.h * transmitted(slots)) / slots.noise_var.sqrt()[:, None, None, None]
    torch.testing.assert_close(noise.abs().square().mean((1, 2, 3)), torch.ones(256), atol=0.15, rtol=0)
    torch.testing.assert_close(slots.snr_db, -10 * torch.log10(slots.noise_var), atol=0.7, rtol=0)
    rows = noise.flatten(1)
    correlation = (rows @ rows.mH / rows.shape[1]).abs() - torch.eye(256)
    assert float(correlation.abs().max()) < 0.12


@pytest.mark.parametrize("domain", ["frequency", "time"])
def test_channel_equals_h_of_the_block(domain: str) -> None:
    scenario = Scenario.model_validate(
        {
            "name": "x",
            "grid": {"num_prb": 2},
            "channels": {"train": ["TDL-A", "CDL-D"]},
            "domain": domain,
            "impairments": {"carrier_frequency_offset_hz": [-500, 500], "timing_offset_s": [0, 1e-6]},
        }
    )
    stream = SlotStream(scenario, 3, 8)
    torch.testing.assert_close(frequency_response(stream.channel(2), scenario.grid), stream.block(2).h)


def test_blocks_differ_by_seed_number_split_and_purpose(small: Scenario) -> None:
    scenario = small.model_copy(update={"channels": Channels(train=("TDL-B",), test=("TDL-A",))})
    reference = SlotStream(scenario, 3, 8).block(0)
    blocks = [
        SlotStream(scenario, 4, 8).block(0),
        SlotStream(scenario, 3, 8).block(1),
        SlotStream(scenario, 3, 8, "test").block(0),
        SlotStream(scenario, 3, 8, purpose="x").block(0),
    ]
    assert not any(torch.equal(reference.bits, block.bits) for block in blocks)


def test_block_does_not_change_global_random_generators(small: Scenario) -> None:
    from sionna.phy import config

    SlotStream(small, 1, 2).block(0)
    torch_state, sionna_state = torch.get_rng_state(), config.torch_rng("cpu").get_state()
    SlotStream(small, 1, 2).block(1)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert torch.equal(sionna_state, config.torch_rng("cpu").get_state())


def mean_power(x: torch.Tensor, is_data: torch.Tensor) -> torch.Tensor:
    return torch.stack([(x[i].abs() ** 2)[:, is_data[i]].mean() for i in range(len(x))])


def test_realised_ratios_equal_their_definition(small: Scenario) -> None:
    """From y, bits and h alone; the noise of a block is that of the same block without the interferer."""
    slots = SlotStream(small, 1, 64).block(0)
    noise_only = SlotStream(without_interferers(small), 1, 64).block(0)
    signal = slots.h * transmitted(slots)
    unwanted = slots.y - signal
    noise = noise_only.y - signal
    signal_power = mean_power(signal, slots.is_data)
    expected_sinr = 10 * torch.log10(signal_power / mean_power(unwanted, slots.is_data))
    expected_snr = 10 * torch.log10(signal_power / mean_power(noise, slots.is_data))
    torch.testing.assert_close(slots.sinr_db, expected_sinr, atol=1e-3, rtol=0)
    torch.testing.assert_close(slots.snr_db, expected_snr, atol=1e-3, rtol=0)
    is_present = slots.interference_var > 0
    assert 10 < int(is_present.sum()) < 54
    expected_sir = 10 * torch.log10(signal_power / mean_power(unwanted - noise, slots.is_data))
    torch.testing.assert_close(slots.sir_db[is_present], expected_sir[is_present], atol=1e-2, rtol=0)
    assert torch.isinf(slots.sir_db[~is_present]).all()


@settings(max_examples=8, deadline=None)
@given(st.floats(-5, 25), st.sampled_from([0.0, 0.3, 0.9]))
def test_mean_powers_at_a_sinr(sinr_db: float, fraction: float) -> None:
    stream = SlotStream(preset("tdl-6prb"), 1, 200, "test").at_sinr(sinr_db, fraction)
    slots = stream.block(0)
    unwanted = slots.noise_var + slots.interference_var
    torch.testing.assert_close(unwanted, torch.full_like(unwanted, 10 ** (-sinr_db / 10)), rtol=1e-4, atol=0)
    torch.testing.assert_close(slots.interference_var, fraction * unwanted, rtol=1e-3, atol=1e-9)
    # realised: within the fading of 200 slots
    realised = 10 ** (slots.sinr_db / 10)
    signal_power = realised * mean_power(slots.y - slots.h * transmitted(slots), slots.is_data)
    assert float(signal_power.mean()) == pytest.approx(1.0, abs=4 * float(signal_power.std()) / math.sqrt(200))


def test_slots_are_the_same_at_every_sinr(small: Scenario) -> None:
    stream = SlotStream(small, 1, 8, "test")
    low, high = stream.at_sinr(0).block(2), stream.at_sinr(20, 0.5).block(2)
    assert torch.equal(low.bits, high.bits)
    assert torch.equal(low.h, high.h)
    high = stream.at_sinr(20).block(2)
    noises = [(s.y - s.h * transmitted(s)) / s.noise_var.sqrt()[:, None, None, None] for s in (low, high)]
    torch.testing.assert_close(*noises, atol=1e-3, rtol=1e-3)


def test_interference_is_independent_of_the_wanted_signal(small: Scenario) -> None:
    scenario = small.model_copy(update={"interferers": (Interferer(sir_db=(0, 0)),)})
    interference = received_interference(scenario, 128)
    slots = SlotStream(scenario, 1, 128).block(0)
    signal = slots.h * transmitted(slots)
    correlation = (interference * signal.conj()).mean() / (
        interference.abs().square().mean().sqrt() * signal.abs().square().mean().sqrt()
    )
    assert abs(complex(correlation)) < 0.02
    assert float(interference.abs().square().mean()) == pytest.approx(1.0, abs=0.15)


def test_pilot_values_change_from_slot_to_slot(small: Scenario) -> None:
    slots = SlotStream(small, 1, 16).block(0)
    values = slots.pilots[~slots.is_data]
    assert (slots.pilots[slots.is_data] == 0).all()
    torch.testing.assert_close(values.abs(), torch.ones(len(values)))
    assert len(torch.unique(torch.view_as_real(values).round(decimals=3), dim=0)) == 4
    assert not torch.equal(slots.pilots[0, 2], slots.pilots[1, 2])
    assert {tuple(torch.nonzero(s)[:, 0].tolist()) for s in slots.pilot_symbols} == {(2,), (2, 11)}


def test_mixed_modulations_mask_unused_bits(small: Scenario) -> None:
    mixed = small.model_copy(update={"modulations": ("QPSK", "256-QAM")})
    slots = SlotStream(mixed, 1, 32).block(0)
    assert slots.bits.shape[1] == 8
    qpsk = slots.bits_per_symbol == 2
    assert 0 < int(qpsk.sum()) < 32
    assert int(slots.bits[qpsk, 2:].sum()) == 0
    assert not slots.bit_mask[qpsk, 2:].any()
    assert int(slots.bit_mask[~qpsk].sum()) == int(slots.is_data[~qpsk].sum()) * 8


def test_interference_without_an_interferer_is_refused(flat: Scenario) -> None:
    with pytest.raises(UserError, match=r"interference_fraction: 0\.5 needs an interferer, and scenario flat has none"):
        SlotStream(flat, 1, 1).at_sinr(3, 0.5)


def test_interferers_divide_the_power_by_the_ratios_of_their_sirs(small: Scenario) -> None:
    two = small.model_copy(update={"interferers": (Interferer(sir_db=(0, 6)), Interferer(sir_db=(10, 16)))})
    stream = SlotStream(two, 1, 256, "test").at_sinr(5, 0.8)
    first, second = (i.sir_db[0] for i in stream.scenario.interferers)
    assert second - first == pytest.approx(10)
    slots = stream.block(0)
    assert slots.h_interference.shape == (256, 2, 2, 14, 24)
    power = slots.h_interference.abs().square().mean((0, 2, 3, 4))
    expected = 0.8 * 10**-0.5 * torch.tensor([10, 1]) / 11
    torch.testing.assert_close(power, expected, rtol=0.15, atol=0)
    absent = small.model_copy(update={"interferers": (Interferer(probability=0), Interferer(sir_db=(3, 3)))})
    h_interference = SlotStream(absent, 1, 4, "test").at_sinr(5, 0.8).block(0).h_interference
    assert (h_interference[:, 0] == 0).all()
    assert (h_interference[:, 1] != 0).all()
    noise_only = SlotStream(two, 1, 256, "test").at_sinr(5).block(0)
    assert noise_only.h_interference.shape[1] == 0
    assert torch.isinf(noise_only.sir_db).all()


def test_mixture_weights_are_the_probabilities_of_the_models() -> None:
    scenario = Scenario(
        name="mix",
        grid=Grid(num_prb=1, num_rx=1),
        snr_db=(90, 90),
        channels=Channels.model_validate({"train": {"AWGN": 3, "Rayleigh": 1}}),
    )
    slots = SlotStream(scenario, 1, 2000).block(0)
    frequency = float((slots.h[:, 0, 0, 0] == 1).float().mean())
    assert frequency == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 2000))


@pytest.mark.parametrize(
    ("num_prb", "num_rx", "spacing_hz"), [(1, 1, 120e3), (3, 4, 30e3), (52, 8, 60e3), (273, 16, 30e3)]
)
def test_grids_of_all_sizes(num_prb: int, num_rx: int, spacing_hz: float) -> None:
    grid = Grid.model_validate({"num_prb": num_prb, "num_rx": num_rx, "subcarrier_spacing_hz": spacing_hz})
    scenario = Scenario(
        name="x",
        grid=grid,
        modulations=("256-QAM",),
        channels=Channels.model_validate({"train": ["TDL-A", "CDL-A"]}),
        delay_spread_s=(10e-9, 100e-9),
        snr_db=(10, 10),
        interferers=(Interferer(sir_db=(3, 3)),),
    )
    slots = SlotStream(scenario, 1, 2).block(0)
    assert slots.y.shape == (2, num_rx, 14, 12 * num_prb)
    assert slots.bits.shape == (2, 8, 14, 12 * num_prb)
    assert torch.isfinite(torch.view_as_real(slots.y)).all()


def test_split_without_models_is_refused() -> None:
    with pytest.raises(UserError, match=r"channels\.test is empty"):
        SlotStream(Scenario(name="x", grid=Grid(num_prb=1), channels=Channels(train=("AWGN",))), 1, 1, "test")
