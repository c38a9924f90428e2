import pytest

from channels import Scenario, SlotStream, presets, scenario
from leanrx_core.errors import UserError


def test_presets_have_the_parameters_of_their_names() -> None:
    assert presets() == ["deeprx-2021", "deeprx-6prb", "pusch-fr1", "sionna-neural-receiver", "tdl-6prb"]
    full, small = scenario("deeprx-2021"), scenario("deeprx-6prb")
    assert small.grid == full.grid.model_copy(update={"num_prb": 6})
    assert small == full.model_copy(update={"name": "deeprx-6prb", "grid": small.grid})
    assert full.grid.num_subcarriers == 312
    assert set(full.channels.test) == {"CDL-A", "CDL-E", "TDL-A", "TDL-E"}
    assert full.delay_spread_s == (10e-9, 300e-9)
    assert full.snr_db == (-4, 32)
    assert SlotStream(full, 1, 2).block(0).y.shape == (2, 2, 14, 312)


def test_scenario_yaml_round_trip(tmp_path, small: Scenario) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(small.to_yaml())
    assert Scenario.load(path) == small


@pytest.mark.parametrize(
    ("text", "message"),
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
        (
            "name: x\nchannels: {train: [TDL-A]}\ninterferers: [{bandwidth_share: [0.5, 1]}]",
            "interferers.0.bandwidth_share: renamed to 'bandwidth_fraction'",
        ),
        ("name: x", "channels: missing"),
        ("name: [", "not valid YAML"),
    ],
)
def test_errors_name_the_field_and_the_remedy(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        Scenario.load(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_renamed_and_unknown_presets_are_refused() -> None:
    with pytest.raises(UserError, match="preset 'desk' was renamed to 'tdl-6prb'"):
        scenario("desk")
    with pytest.raises(UserError, match="no preset 'moon'; choose from deeprx-2021"):
        scenario("moon")
