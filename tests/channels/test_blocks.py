import math
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import Channels, Grid, Interferer, Scenario, Slots, SlotStream, presets, scenario
from channels.fading import frequency_response
from channels.grid import modulate
from leanrx_core.errors import UserError


def same(a: Slots, b: Slots) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Slots))


def test_a_block_does_not_depend_on_what_was_asked_before(small: Scenario) -> None:
    stream = SlotStream(small, 3, 8)
    first = stream.block(5)
    stream.block(0)
    torch.rand(7)
    assert same(first, stream.block(5))
    assert same(first, SlotStream(small, 3, 8).block(5))


@pytest.mark.parametrize("models", [["UMi"], ["UMa", "TDL-A"], ["RMa", "CDL-A", "UMi"]])
def test_drops_do_not_depend_on_what_was_drawn_before(models: list[str]) -> None:
    made = Scenario(
        name="drops",
        grid=Grid(num_prb=1),
        channels=Channels.model_validate({"train": models}),
        domain="time",
        max_doppler_hz=(0, 50),
        interferers=(Interferer(),),
    )
    stream = SlotStream(made, 3, 6)
    blocks = [stream.block(n) for n in (0, 1, 2, 1)]
    assert same(blocks[1], blocks[3])
    assert same(blocks[2], SlotStream(made, 3, 6).block(2))


def test_blocks_do_not_depend_on_the_number_of_threads(small: Scenario) -> None:
    threads = torch.get_num_threads()
    try:
        blocks = []
        for count in (1, 2):
            torch.set_num_threads(count)
            blocks.append(SlotStream(small, 3, 64).block(1))
    finally:
        torch.set_num_threads(threads)
    assert same(*blocks)


def test_noise_is_unit_white_and_nowhere_the_same() -> None:
    """Over all parts that have generators of their own, and over slots with an SNR of their own."""
    made = Scenario(
        name="noise", grid=Grid(num_prb=6), channels=Channels.model_validate({"train": ["AWGN"]}), snr_db=(-10, 30)
    )
    slots = SlotStream(made, 1, 256).block(0)
    noise = (slots.y - slots.h * sent(slots)[:, None]) / slots.noise_var.sqrt()[:, None, None, None]
    torch.testing.assert_close(noise.abs().square().mean((1, 2, 3)), torch.ones(256), atol=0.15, rtol=0)
    torch.testing.assert_close(slots.snr_db, -10 * torch.log10(slots.noise_var), atol=0.7, rtol=0)
    rows = noise.flatten(1)
    correlation = (rows @ rows.mH / rows.shape[1]).abs() - torch.eye(256)
    assert float(correlation.abs().max()) < 0.12


@pytest.mark.parametrize("domain", ["frequency", "time"])
def test_the_channel_alone_is_that_of_the_block(domain: str) -> None:
    made = Scenario.model_validate(
        {
            "name": "x",
            "grid": {"num_prb": 2},
            "channels": {"train": ["TDL-A", "CDL-D"]},
            "domain": domain,
            "impairments": {"carrier_frequency_offset_hz": [-500, 500], "timing_offset_s": [0, 1e-6]},
        }
    )
    stream = SlotStream(made, 3, 8)
    torch.testing.assert_close(frequency_response(stream.channel(2), made.grid), stream.block(2).h)


def test_streams_differ_by_seed_number_split_and_purpose(small: Scenario) -> None:
    both = small.model_copy(update={"channels": Channels(train=("TDL-B",), test=("TDL-A",))})
    block = SlotStream(both, 3, 8).block(0)
    others = [
        SlotStream(both, 4, 8).block(0),
        SlotStream(both, 3, 8).block(1),
        SlotStream(both, 3, 8, "test").block(0),
        SlotStream(both, 3, 8, purpose="x").block(0),
    ]
    assert not any(torch.equal(block.bits, o.bits) for o in others)


def test_drawing_leaves_other_random_generators_alone(small: Scenario) -> None:
    from sionna.phy import config

    SlotStream(small, 1, 2).block(0)
    torch_state, sionna_state = torch.get_rng_state(), config.torch_rng("cpu").get_state()
    SlotStream(small, 1, 2).block(1)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert torch.equal(sionna_state, config.torch_rng("cpu").get_state())


def sent(slots: Slots) -> torch.Tensor:
    """What was transmitted, from bits and pilots (one modulation)."""
    return torch.where(slots.is_data, modulate(slots.bits), slots.pilots)


def mean_power(x: torch.Tensor, is_data: torch.Tensor) -> torch.Tensor:
    return torch.stack([(x[i].abs() ** 2)[:, is_data[i]].mean() for i in range(len(x))])


def test_realised_ratios_equal_their_definition(small: Scenario) -> None:
    """From y, bits and h alone; the noise of a block is that of the same block without the interferer."""
    slots = SlotStream(small, 1, 64).block(0)
    quiet = SlotStream(small.model_copy(update={"interferers": ()}), 1, 64).block(0)
    wanted = slots.h * sent(slots)[:, None]
    unwanted = slots.y - wanted
    noise = quiet.y - wanted
    signal_power = mean_power(wanted, slots.is_data)
    expected_sinr = 10 * torch.log10(signal_power / mean_power(unwanted, slots.is_data))
    expected_snr = 10 * torch.log10(signal_power / mean_power(noise, slots.is_data))
    torch.testing.assert_close(slots.sinr_db, expected_sinr, atol=1e-3, rtol=0)
    torch.testing.assert_close(slots.snr_db, expected_snr, atol=1e-3, rtol=0)
    on = slots.interference_var > 0
    assert 10 < int(on.sum()) < 54
    expected_sir = 10 * torch.log10(signal_power / mean_power(unwanted - noise, slots.is_data))
    torch.testing.assert_close(slots.sir_db[on], expected_sir[on], atol=1e-2, rtol=0)
    assert torch.isinf(slots.sir_db[~on]).all()


@settings(max_examples=8, deadline=None)
@given(st.floats(-5, 25), st.sampled_from([0.0, 0.3, 0.9]))
def test_mean_powers_at_a_sinr(sinr_db: float, share: float) -> None:
    stream = SlotStream(scenario("tdl-6prb"), 1, 200, "test").at_sinr(sinr_db, share)
    slots = stream.block(0)
    unwanted = slots.noise_var + slots.interference_var
    torch.testing.assert_close(unwanted, torch.full_like(unwanted, 10 ** (-sinr_db / 10)), rtol=1e-4, atol=0)
    torch.testing.assert_close(slots.interference_var, share * unwanted, rtol=1e-3, atol=1e-9)
    # realised: within the fading of 200 slots
    realised = 10 ** (slots.sinr_db / 10)
    wanted = realised * mean_power(slots.y - slots.h * sent(slots)[:, None], slots.is_data)
    assert float(wanted.mean()) == pytest.approx(1.0, abs=4 * float(wanted.std()) / math.sqrt(200))


def test_the_same_slots_at_every_sinr(small: Scenario) -> None:
    stream = SlotStream(small, 1, 8, "test")
    low, high = stream.at_sinr(0).block(2), stream.at_sinr(20, 0.5).block(2)
    assert torch.equal(low.bits, high.bits)
    assert torch.equal(low.h, high.h)
    quiet = stream.at_sinr(20).block(2)
    noises = [(s.y - s.h * sent(s)[:, None]) / s.noise_var.sqrt()[:, None, None, None] for s in (low, quiet)]
    torch.testing.assert_close(*noises, atol=1e-3, rtol=1e-3)


def test_interferer_has_its_own_data_and_channel(small: Scenario) -> None:
    loud = small.model_copy(update={"interferers": (Interferer(sir_db=(0, 0)),)})
    slots = SlotStream(loud, 1, 128).block(0)
    quiet = SlotStream(small.model_copy(update={"interferers": ()}), 1, 128).block(0)
    interference = slots.y - quiet.y
    wanted = slots.h * sent(slots)[:, None]
    correlation = (interference * wanted.conj()).mean() / (
        interference.abs().square().mean().sqrt() * wanted.abs().square().mean().sqrt()
    )
    assert abs(complex(correlation)) < 0.02
    assert float(interference.abs().square().mean()) == pytest.approx(1.0, abs=0.15)


def test_pilots_carry_values_that_change_from_slot_to_slot(small: Scenario) -> None:
    slots = SlotStream(small, 1, 16).block(0)
    on = ~slots.is_data
    values = slots.pilots[on]
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


def test_presets_are_what_they_are_named_after() -> None:
    assert presets() == ["deeprx-2021", "deeprx-6prb", "pusch-fr1", "tdl-6prb"]
    full, small = scenario("deeprx-2021"), scenario("deeprx-6prb")
    assert small.grid == full.grid.model_copy(update={"num_prb": 6})
    assert small == full.model_copy(update={"name": "deeprx-6prb", "grid": small.grid})
    assert full.grid.num_subcarriers == 312
    assert set(full.channels.test) == {"CDL-A", "CDL-E", "TDL-A", "TDL-E"}
    assert full.delay_spread_s == (10e-9, 300e-9)
    assert full.snr_db == (-4, 32)
    assert SlotStream(full, 1, 2).block(0).y.shape == (2, 2, 14, 312)


def test_scenarios_survive_yaml(tmp_path, small: Scenario) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(small.to_yaml())
    assert Scenario.load(path) == small


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "name: x\nchannels: {train: [TDL-A]}\ndelay_spread_ns: [10, 300]",
            "delay_spread_ns: unknown key; did you mean",
        ),
        ("name: x\nchannels: {train: [TDL-A]}\ngrid: {prb: 6}", "grid.prb: unknown key"),
        ("name: x\nchannels: {train: [TDL-A]}\ndelay_spread_s: [10, 300]", "is the unit s?"),
        ("name: x\nchannels: {train: [TDL-A]}\nsnr_db: [20, 0]", "the range is empty"),
        ("name: x\nchannels: {train: [TDL-A], test: [TDL-A]}", "share TDL-A"),
        ("name: x\nchannels: {train: [TDL-Z]}", "channels.train.TDL-Z"),
        ("name: x\nchannels: {train: [TDL-A]}\ngrid: {subcarrier_spacing_hz: 120e3}", "a third of the cyclic prefix"),
        ("name: x\nchannels: {train: [TDL-A]}\nmax_doppler_hz: [0, 2000]", "a twentieth of the subcarrier spacing"),
        (
            "name: x\nchannels: {train: [TDL-A]}\nimpairments: {timing_offset_s: [0, 5e-6]}",
            "impairments.timing_offset_s: [0, 5e-06] s and three delay spreads leave the cyclic prefix",
        ),
        ("name: x\nchannels: {train: [UMi]}", "UMi draws delays beyond the cyclic prefix; write 'domain: time'"),
        ("name: x\nchannels: {train: [TDL-A, TDL-A]}", "channels.train: names a model twice"),
        ("name: x\nchannels: {train: {TDL-A: -1}}", "channels.train.TDL-A"),
        ("name: x\nchannels: {train: [TDL-A]}\nsir_db: [0, 3]", "sir_db: unknown key; did you mean 'snr_db'?"),
        ("name: x\nchannels: {train: [TDL-A]}\ngrid: {pilot_patterns: [[14]]}", "must increase and lie in 0..13"),
        ("name: x\nchannels: {train: [TDL-A]}\ngrid: {num_prb: 274}", "grid.num_prb"),
        ("name: x\nchannels: {train: [TDL-A]}\ngrid: {pilot_patterns: [[2]], dmrs: {}}", "exclude each other"),
        (
            "name: x\nchannels: {train: [TDL-A]}\ngrid: {dmrs: {length: 2, additional_positions: [2]}}",
            "double-symbol DMRS",
        ),
        (
            "name: x\nchannels: {train: [TDL-A], test: [TDL-B]}\n"
            "interferers: [{channels: {train: [TDL-B], test: [TDL-C]}}]",
            "interferers: train and test share TDL-B",
        ),
        (
            "name: x\nchannels: {train: [TDL-A]}\ndomain: time\nimpairments: {timing_offset_s: [0, 9e-5]}",
            "must lie within half a symbol",
        ),
        (
            "name: x\nchannels: {train: [TDL-A]}\ndomain: time\nmax_doppler_hz: [0, 5e3]",
            "5000 Hz is above a tenth of the subcarrier spacing",
        ),
        ("name: x\nname: y\nchannels: {train: [TDL-A]}", "key 'name' appears twice"),
        ("name: x\nchannels: {train: [[TDL-A]]}", "channels.train: write a list of names"),
        ("name: x\nchannels: {train: {TDL-A: 1e300}}", "channels.train.TDL-A"),
        ("name: x\nchannels: {train: [TDL-A]}\nmodulations: 16-QAM", "modulations: write a list"),
        (
            "name: x\nchannels: {train: [TDL-A]}\ninterferers: [{channels: {test: [TDL-B]}}]",
            "interferers.0.channels.train is empty",
        ),
        ("name: x", "channels: missing"),
        ("name: [", "not valid YAML"),
    ],
)
def test_mistakes_name_the_field_and_the_remedy(tmp_path, text: str, words: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        Scenario.load(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_interference_without_an_interferer_is_refused(flat: Scenario) -> None:
    with pytest.raises(UserError, match=r"interference_fraction: 0\.5 needs an interferer, and scenario flat has none"):
        SlotStream(flat, 1, 1).at_sinr(3, 0.5)


def test_several_interferers_share_the_power_as_their_sirs_relate(small: Scenario) -> None:
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
    only = SlotStream(absent, 1, 4, "test").at_sinr(5, 0.8).block(0).h_interference
    assert (only[:, 0] == 0).all()
    assert (only[:, 1] != 0).all()
    quiet = SlotStream(two, 1, 256, "test").at_sinr(5).block(0)
    assert quiet.h_interference.shape[1] == 0
    assert torch.isinf(quiet.sir_db).all()


def test_weights_of_a_mixture_are_the_shares_of_its_models() -> None:
    made = Scenario(
        name="mix",
        grid=Grid(num_prb=1, num_rx=1),
        snr_db=(90, 90),
        channels=Channels.model_validate({"train": {"AWGN": 3, "Rayleigh": 1}}),
    )
    slots = SlotStream(made, 1, 2000).block(0)
    share = float((slots.h[:, 0, 0, 0] == 1).float().mean())
    assert share == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 2000))


@pytest.mark.parametrize(
    ("num_prb", "num_rx", "spacing_hz"), [(1, 1, 120e3), (3, 4, 30e3), (52, 8, 60e3), (273, 16, 30e3)]
)
def test_grids_of_all_sizes(num_prb: int, num_rx: int, spacing_hz: float) -> None:
    grid = Grid.model_validate({"num_prb": num_prb, "num_rx": num_rx, "subcarrier_spacing_hz": spacing_hz})
    made = Scenario(
        name="x",
        grid=grid,
        modulations=("256-QAM",),
        channels=Channels.model_validate({"train": ["TDL-A", "CDL-A"]}),
        delay_spread_s=(10e-9, 100e-9),
        snr_db=(10, 10),
        interferers=(Interferer(sir_db=(3, 3)),),
    )
    slots = SlotStream(made, 1, 2).block(0)
    assert slots.y.shape == (2, num_rx, 14, 12 * num_prb)
    assert slots.bits.shape == (2, 8, 14, 12 * num_prb)
    assert torch.isfinite(torch.view_as_real(slots.y)).all()


def test_a_split_without_models_is_refused() -> None:
    with pytest.raises(UserError, match=r"channels\.test is empty"):
        SlotStream(Scenario(name="x", grid=Grid(num_prb=1), channels=Channels(train=("AWGN",))), 1, 1, "test")
