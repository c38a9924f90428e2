"""Receivers in real arithmetic against the receivers that they stand for."""

import pytest
import torch
from factories import perturbed_receiver

from channels import Channels, Dmrs, Grid, Scenario, Slots, SlotStream
from channels.grid import Subcarriers
from leanrx_core.errors import UserError
from receivers.classical import LmmseIrcReceiver, LmmseReceiver
from receivers.export.parity import MAX_LLR_DIFFERENCE
from receivers.export.real_deeprx import RealInterpolatedDeepRx
from receivers.export.real_front_end import HybridFrontEnd, PilotPlaces, pilot_layouts
from receivers.export.real_receiver import RealReceiver
from receivers.neural.deeprx import DeepRx, InterpolatedDeepRx
from receivers.neural.hybrid import front_end
from receivers.neural.registry import build


def conditions(**grid: object) -> Scenario:
    return Scenario(
        name="s",
        grid=Grid(**{"num_prb": 2, "pilot_patterns": ((2,), (2, 11)), **grid}),  # type: ignore[arg-type]
        channels=Channels(test=("TDL-A",)),
        modulations=("QPSK", "16-QAM"),
        interferers=({"probability": 0.5, "sir_db": (0.0, 20.0)},),
        snr_db=(0.0, 25.0),
    )


def inputs(slots: Slots) -> tuple[torch.Tensor, ...]:
    noise_plus_interference_var = slots.noise_var + slots.interference_var
    return (
        torch.view_as_real(slots.y),
        torch.view_as_real(slots.pilots),
        noise_plus_interference_var,
        slots.bits_per_symbol,
    )


GRIDS = [
    {"num_prb": 1},
    {"num_prb": 2, "subcarrier_spacing_hz": 60000},
    {"num_prb": 3},
    {"num_prb": 7, "pilot_patterns": ((3,),)},
    {"num_prb": 4, "num_rx": 1},
    {"num_prb": 4, "num_rx": 4, "dmrs": Dmrs(additional_positions=(0, 2)), "pilot_patterns": ()},
    {"num_prb": 5, "num_rx": 3, "dmrs": Dmrs(config_type=2, cdm_groups_without_data=1), "pilot_patterns": ()},
]


@pytest.mark.parametrize("grid", GRIDS)
def test_a_front_end_of_real_numbers(grid: dict[str, object]) -> None:
    scenario = conditions(**grid)
    slots = SlotStream(scenario, 1, 12, "test").block(0)
    y, pilots, var, _ = inputs(slots)
    places = PilotPlaces(pilot_layouts(scenario.grid))
    module, choice = HybridFrontEnd(scenario.grid, places), places.choose(pilots)
    is_data = places.is_data(choice, pilots).expand(len(slots), 1, 14, y.shape[3])
    assert torch.equal(is_data[:, 0] > 0, slots.is_data)
    expected_y, expected_channel, expected_error = front_end(slots)
    for actual, expected in zip(
        module(y, pilots, var, choice),
        (
            torch.cat([expected_y.real, expected_y.imag], 1),
            torch.cat([expected_channel.real, expected_channel.imag], 1),
            expected_error,
        ),
        strict=True,
    ):
        assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("spec", "grid"),
    [
        ("hybrid-w3-d5", GRIDS[2]),
        ("hybrid-w3-d5", GRIDS[5]),
        ("hybrid-recurrent-w3-d2", GRIDS[5]),
        ("deeprx-w0.0625-d3", GRIDS[1]),
        *(("deeprx-interpolated-w0.0625-d3", GRIDS[i]) for i in (0, 3, 5, 6)),
    ],
)
def test_a_receiver_of_real_numbers(spec: str, grid: dict[str, object]) -> None:
    scenario = conditions(**grid)
    receiver, slots = perturbed_receiver(spec, scenario.grid.num_rx), SlotStream(scenario, 1, 12, "test").block(0)
    with torch.no_grad():
        llrs = RealReceiver(receiver, scenario.grid)(*inputs(slots))
    expected = receiver(slots)
    assert (llrs - expected)[slots.bit_mask].abs().max() < MAX_LLR_DIFFERENCE * expected[slots.bit_mask].abs().max()
    assert not llrs[~slots.bit_mask].any()


@pytest.mark.parametrize("kind", [LmmseReceiver, LmmseIrcReceiver])
@pytest.mark.parametrize("grid", [GRIDS[0], GRIDS[4], GRIDS[5]])
def test_a_classical_receiver_of_real_numbers(
    kind: type[LmmseReceiver | LmmseIrcReceiver], grid: dict[str, object]
) -> None:
    scenario = conditions(**grid)
    receiver, slots = kind(scenario), SlotStream(scenario, 1, 12, "test").block(0)
    llrs = RealReceiver(receiver, scenario.grid)(*inputs(slots))
    expected = receiver(slots)
    assert (llrs - expected)[slots.bit_mask].abs().max() < 1e-5 * expected[slots.bit_mask].abs().max()
    assert not llrs[~slots.bit_mask].any()


def test_features_of_deeprx_in_real_numbers() -> None:
    slots = SlotStream(conditions(), 1, 3, "test").block(0)
    torch.testing.assert_close(DeepRx.real_features(*inputs(slots)), DeepRx.features(slots))


@pytest.mark.parametrize("grid", GRIDS)
def test_features_of_an_interpolated_deeprx_in_real_numbers(grid: dict[str, object]) -> None:
    scenario = conditions(**grid)
    layouts, slots = pilot_layouts(scenario.grid), SlotStream(scenario, 1, 6, "test").block(0)
    net = build("deeprx-interpolated-w0.0625-d3", scenario.grid.num_rx)
    module, places = RealInterpolatedDeepRx(net, layouts), PilotPlaces(layouts)
    module.net = torch.nn.Identity()
    y, pilots, var, bits_per_symbol = inputs(slots)
    features = module(y, pilots, var, bits_per_symbol, places.choose(pilots))
    torch.testing.assert_close(features, InterpolatedDeepRx.features(slots))


def test_grids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="net has 2 antennas, but the grid has 4"):
        RealReceiver(perturbed_receiver("hybrid-w2-d1"), conditions(num_rx=4).grid)
    with pytest.raises(UserError, match="up to 4 antennas, and the grid has 8"):
        RealReceiver(perturbed_receiver("hybrid-w2-d1", 8), conditions(num_rx=8).grid)
    guarded = conditions(num_prb=6, subcarriers=Subcarriers(fft_size=64)).grid
    for spec in ("hybrid-w2-d1", "deeprx-interpolated-w0.0625-d3"):
        with pytest.raises(UserError, match=f"'{spec}' needs whole resource blocks, and the grid has 64 subcarriers"):
            RealReceiver(perturbed_receiver(spec), guarded)
    with pytest.raises(UserError, match="LMMSE has the covariance of another grid"):
        RealReceiver(LmmseReceiver(conditions()), conditions(num_prb=3).grid)
    with pytest.raises(UserError, match="LMMSE max-log has no graph"):
        RealReceiver(LmmseReceiver(conditions(), demapper="maxlog"), conditions().grid)
