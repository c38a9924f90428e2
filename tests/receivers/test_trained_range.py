"""Warnings for conditions outside of a receiver's card."""

import pytest

from channels import Dmrs, Grid, Interferer, Scenario, scenario
from receivers import load
from receivers.classical import classical_receivers
from receivers.neural.trained_range import condition_warnings

NAME = "tdl-6prb-hybrid-w5-d5-kd"


@pytest.fixture(scope="module")
def trained() -> Scenario:
    return scenario("tdl-6prb")


def grid(radio: Scenario, **changes: object) -> Scenario:
    return radio.model_copy(update={"grid": radio.grid.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s, []),
        (lambda s: s.model_copy(update={"max_doppler_hz": (0.0, 100.0)}), []),
        (
            lambda s: s.model_copy(update={"max_doppler_hz": (0.0, 900.0)}),
            ["tested at Doppler 0..900 Hz, trained on Doppler 0..500 Hz"],
        ),
        (
            lambda s: s.model_copy(update={"delay_spread_s": (10e-9, 1e-6)}),
            ["tested at delay spread 10..1000 ns, trained on delay spread 10..300 ns"],
        ),
        (
            lambda s: s.model_copy(update={"modulations": ("16-QAM", "QPSK")}),
            ["tested at modulation QPSK, trained on modulation 16-QAM"],
        ),
        (
            lambda s: s.model_copy(update={"interferers": (Interferer(probability=1, sir_db=(0, 9)),) * 2}),
            ["tested at interferers 2, trained on interferers 1"],
        ),
        (
            lambda s: grid(s, pilot_patterns=((2,), (2, 11))),
            ["tested at pilot symbols 2+11, trained on pilot symbols 2"],
        ),
        (lambda s: grid(s, num_prb=26), ["tested at subcarriers 312, trained on subcarriers 72"]),
        (
            lambda s: grid(s, num_prb=4, subcarrier_spacing_hz=30_000),
            [
                "tested at subcarriers 48, trained on subcarriers 72",
                "tested at subcarrier spacing in Hz 30000, trained on subcarrier spacing in Hz 15000",
            ],
        ),
    ],
)
def test_a_warning_names_each_condition_outside_and_the_range(trained: Scenario, change, words: list[str]) -> None:
    receivers = [*classical_receivers(trained), load(NAME)]
    assert condition_warnings(receivers, change(trained)) == [f"{NAME}: {text}" for text in words]


def test_a_card_of_an_earlier_version_gives_no_warning(trained: Scenario) -> None:
    receiver = load(NAME)
    receiver.card = receiver.card.model_copy(update={"conditions": None})
    faster = trained.model_copy(update={"max_doppler_hz": (0.0, 900.0)})
    assert condition_warnings([receiver], faster) == []


def test_a_card_of_a_mixture_has_the_range_of_its_members(trained: Scenario) -> None:
    members = [
        {"grid": {"num_rx": 1, "pilot_patterns": [], "dmrs": {"additional_positions": [0, 1, 2]}}},
        {"grid": {"num_rx": 4, "num_prb": 4}, "modulations": ["QPSK", "64-QAM"], "max_doppler_hz": [100, 700]},
    ]
    mixed = Scenario.parse({**trained.model_dump(exclude={"mixture"}), "mixture": members}, "mixed")
    receiver = load(NAME)
    receiver.card = receiver.card.model_copy(update={"conditions": mixed})

    def words(scenario: Scenario) -> list[str]:
        return [text.removeprefix(f"{NAME}: ") for text in condition_warnings([receiver], scenario)]

    inside = grid(trained, num_rx=4, num_prb=4)
    assert words(inside) == []
    assert words(inside.model_copy(update={"max_doppler_hz": (0.0, 700.0), "modulations": ("16-QAM", "QPSK")})) == []
    assert words(grid(trained, num_rx=2)) == ["tested at receive antennas 2, trained on receive antennas 1, 4"]
    assert words(grid(trained, num_rx=1, num_prb=273)) == ["tested at subcarriers 3276, trained on subcarriers 72, 48"]
    for positions, outside in (((1,), []), ((2, 3), ["tested at other DMRS, trained on those of its card"])):
        dmrs = Grid(num_prb=6, num_rx=1, dmrs=Dmrs(additional_positions=positions))
        assert words(trained.model_copy(update={"grid": dmrs})) == outside
