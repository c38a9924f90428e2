import itertools

import pytest
import torch

from channels import Scenario, Slots, SlotStream
from leanrx_core.errors import UserError
from receivers.neural.deeprx import DeepRx, InterpolatedDeepRx
from receivers.neural.registry import FAMILIES, build, parse_spec


@pytest.mark.parametrize(
    ("spec", "parameters"),
    [("deeprx", 1_232_516), ("deeprx-w0.5", 327_492), ("deeprx-w0.25", 91_556), ("deeprx-d5", 503_172)],
)
def test_published_sizes(spec: str, parameters: int) -> None:
    assert sum(p.numel() for p in build(spec).parameters()) == parameters


def test_dilation_is_2_over_symbols_and_3_over_subcarriers() -> None:
    """The receptive field of the (symbols, subcarriers) reading: 79 symbols x 115 subcarriers."""
    net = build("deeprx-w0.015625")
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(0.5)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var.fill_(1.0)
    x = torch.ones(1, 10, 101, 141, dtype=torch.float64, requires_grad=True)
    net.double().eval()(x)[0, 0, 50, 70].backward()
    positions = (x.grad[0].abs().sum(0) > 0).nonzero()
    extent = (positions.max(0).values - positions.min(0).values + 1).tolist()
    assert extent == [79, 115]


def test_features_are_received_grid_pilot_values_and_raw_estimate(small: Scenario) -> None:
    slots = SlotStream(small, 1, 4).at_sinr(60).block(0)
    x = DeepRx.features(slots)
    assert x.shape == (4, 10, 14, 24)
    complex_x = torch.complex(x[:, :5], x[:, 5:])
    assert torch.equal(complex_x[:, :2], slots.y)
    assert torch.equal(complex_x[:, 2], slots.pilots)
    raw, h = complex_x[:, 3:], slots.h
    on = (~slots.is_data)[:, None].expand_as(raw)
    torch.testing.assert_close(raw[on], h[on], atol=0.02, rtol=0)
    assert (raw[~on] == 0).all()


@pytest.mark.parametrize(
    "pilots",
    [
        {"pilot_patterns": [[2], [2, 11], [3]]},
        {"dmrs": {"config_type": 1, "mapping_type": "A", "additional_positions": [0, 2], "cdm_groups_without_data": 1}},
        {"dmrs": {"config_type": 2, "mapping_type": "A", "additional_positions": [1], "cdm_groups_without_data": 3}},
    ],
)
def test_each_re_has_the_raw_estimate_of_the_nearest_pilot(small: Scenario, pilots: dict[str, object]) -> None:
    grid = {**small.grid.model_dump(exclude={"pilot_patterns", "dmrs"}), **pilots}
    slots = SlotStream(Scenario.model_validate({**small.model_dump(), "grid": grid}), 1, 6).block(0)
    before, x = DeepRx.features(slots), InterpolatedDeepRx.features(slots)
    raw_channels = [3, 4, 8, 9]
    others = [i for i in range(10) if i not in raw_channels]
    assert torch.equal(x[:, others], before[:, others])
    for i, is_pilot in enumerate(slots.pilots.abs() > 0):
        positions = is_pilot.nonzero().tolist()
        for s, f in itertools.product(range(14), range(24)):
            in_block = [p for p in positions if p[1] // 12 == f // 12]
            nearest = min(in_block, key=lambda p: (abs(p[1] - f), p[1], abs(p[0] - s), p[0]))
            assert torch.equal(x[i, raw_channels, s, f], before[i, raw_channels, nearest[0], nearest[1]])


def test_pilot_values_reach_the_network(small: Scenario) -> None:
    """With a 0/1 mask for the pilots, the raw estimate keeps the pilots' phases and is no channel estimate."""
    slots = SlotStream(small, 1, 4).at_sinr(60).block(0)
    masked = Slots(**{**slots.__dict__, "pilots": slots.pilots.abs().to(slots.pilots.dtype)})
    on = (~slots.is_data)[:, None].expand(-1, 2, -1, -1)

    def estimate_error(s: Slots) -> float:
        x = DeepRx.features(s)
        raw = torch.complex(x[:, 3:5], x[:, 8:10])
        return float((raw - s.h)[on].abs().square().mean())

    assert estimate_error(slots) < 1e-3
    assert estimate_error(masked) > 0.5
    net = build("deeprx-w0.0625-d5").eval()
    assert not torch.allclose(net(DeepRx.features(slots)), net(DeepRx.features(masked)), atol=1e-3)


def test_one_net_serves_all_modulations(small: Scenario) -> None:
    mixed = small.model_copy(update={"modulations": ("QPSK", "16-QAM", "256-QAM")})
    slots = SlotStream(mixed, 1, 6).block(0)
    net = build("deeprx-w0.0625-d3", num_bits=mixed.bits_per_symbol)
    assert net(DeepRx.features(slots)).shape == slots.bits.shape


def test_initial_weights_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    a, b, c = (build("deeprx-w0.0625-d3", seed=s) for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(a.conv_in.weight, b.conv_in.weight)
    assert not torch.equal(a.conv_in.weight, c.conv_in.weight)


def test_specs() -> None:
    assert parse_spec("deeprx") == (FAMILIES["deeprx"], 1.0, 11)
    assert parse_spec("deeprx-w0.5-d5") == (FAMILIES["deeprx"], 0.5, 5)
    for wrong in ("resnet", "deeprx-w0", "deeprx-d4", "deeprx-d5-w0.5", "deeprx-w9"):
        with pytest.raises(UserError):
            parse_spec(wrong)


def test_depths_keep_the_rise_and_fall() -> None:
    for depth in (3, 5, 7, 9, 11):
        assert len(DeepRx(width=0.0625, depth=depth).blocks) == depth
