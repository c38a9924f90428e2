"""Recurrent hybrids: passes of learned gains over symbols, at any phase and with any number of antennas."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from channels import Channels, Grid, Interferer, Scenario, Slots, SlotStream
from energy.counting.counter import count
from leanrx_core.errors import UserError
from receivers.neural.detection import detect, em_features
from receivers.neural.recurrent_hybrid import FilterPass, RecurrentHybrid
from receivers.neural.registry import FAMILIES, build, parse_spec
from scripts.reproduce.design_trials import ConstantGains


def block_of(num_rx: int, *modulations: str, num_prb: int = 2) -> Slots:
    conditions = Scenario(
        name="all",
        modulations=modulations or ("16-QAM",),
        channels=Channels(train=("TDL-C",)),
        grid=Grid(num_prb=num_prb, num_rx=num_rx, pilot_patterns=(), dmrs={"additional_positions": (0, 2)}),
        snr_db=(5.0, 25.0),
        interferers=(Interferer(probability=0.5),),
    )
    return SlotStream(conditions, 3, 4).block(0)


def perturbed(spec: str = "hybrid-recurrent-w4-d2", num_bits: int = 4) -> RecurrentHybrid:
    """A network as after training, in double precision."""
    net, generator = build(spec, 2, num_bits, seed=3), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    assert isinstance(net, RecurrentHybrid)
    return net.eval().double()


def llrs_of(net: RecurrentHybrid, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net(x)


@pytest.mark.parametrize("modulations", [("16-QAM",), ("QPSK", "64-QAM", "256-QAM")])
def test_training_has_the_llrs_and_gradients_of_inference(modulations: tuple[str, ...]) -> None:
    slots = block_of(3, *modulations)
    net = perturbed(num_bits=slots.bits.shape[1])
    x = net.features(slots).double()
    generator, results = torch.Generator().manual_seed(1), []
    weights = [torch.randn(slots.bits.shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    for training in (False, True):
        net.train(training).zero_grad()
        outputs = net(x, intermediate=True)
        sum((w * torch.tanh(llrs / 8)).sum() for w, llrs in zip(weights, outputs, strict=True)).backward()
        results.append((outputs, [p.grad.clone() for p in net.parameters()]))
    for a, b in zip(*(outputs for outputs, _ in results), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
    for a, b in zip(*(gradients for _, gradients in results), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7 * float(b.abs().max()))


def test_intermediate_llrs_are_those_of_fewer_passes() -> None:
    net, shorter = perturbed("hybrid-recurrent-w4-d3"), perturbed("hybrid-recurrent-w4-d1")
    shorter.load_state_dict({name: net.state_dict()[name] for name in shorter.state_dict()})
    x = net.features(block_of(2)).double()
    with torch.no_grad():
        last, *intermediate = net(x, intermediate=True)
    torch.testing.assert_close(llrs_of(shorter, x), intermediate[0], rtol=0, atol=0)
    torch.testing.assert_close(llrs_of(net, x), last, rtol=0, atol=0)
    assert len(intermediate) == 2


def test_an_unknown_phase_of_each_antenna_changes_nothing() -> None:
    """Gains are real and depend on powers, so the receiver commutes with rotations of the antennas' phases."""
    net, slots = perturbed(), block_of(3)
    x, angles = net.features(slots).double(), torch.tensor([0.3, 2.0, -1.1], dtype=torch.float64)
    rotated = x.clone()
    for first in (0, 6):  # y, then the channel estimate: real parts and imaginary parts of three antennas
        re, im = x[:, first : first + 3], x[:, first + 3 : first + 6]
        z = torch.complex(re, im) * torch.exp(1j * angles)[:, None, None]
        rotated[:, first : first + 3], rotated[:, first + 3 : first + 6] = z.real, z.imag
    torch.testing.assert_close(llrs_of(net, rotated), llrs_of(net, x), rtol=1e-8, atol=1e-8)


def test_antennas_may_change_places() -> None:
    net, slots = perturbed(), block_of(4)
    x = net.features(slots).double()
    antennas, common = x.split([16, 6], 1)
    exchanged = torch.cat([antennas.unflatten(1, (4, 4))[:, :, [2, 0, 3, 1]].flatten(1, 2), common], 1)
    assert not torch.equal(exchanged, x)
    torch.testing.assert_close(llrs_of(net, exchanged), llrs_of(net, x), rtol=1e-8, atol=1e-8)


def test_a_part_of_the_band_has_the_llrs_of_the_whole() -> None:
    """In the first symbol; a symbol reaches three states further, and interpolation one."""
    net, slots = perturbed("hybrid-recurrent-w4-d1"), block_of(2, num_prb=30)
    x = net.features(slots).double()
    whole, part = llrs_of(net, x), llrs_of(net, x[..., 36:])
    torch.testing.assert_close(part[:, :, 0, 24:], whole[:, :, 0, 60:], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(part[:, :, 1, 24:30], whole[:, :, 1, 60:66], rtol=1e-9, atol=1e-9)


def to_elements(states: torch.Tensor) -> torch.Tensor:
    """Interpolation from states to subcarriers."""
    return interpolate(states, scale_factor=(1, 6), mode="bilinear")


def over_states(z: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Five taps over states; beyond the outer states, their values are repeated."""
    num_states = z.shape[-1]
    places = [(torch.arange(num_states) + k - 2).clamp(0, num_states - 1) for k in range(5)]
    return sum(taps.flatten()[k] * z[..., places[k]] for k in range(5))


def test_two_passes_equal_a_loop_over_states_and_antennas() -> None:
    """Written again from the drawing: one state at a time, complex vectors over antennas, in the order of symbols."""
    net, slots = perturbed("hybrid-recurrent-w3-d2"), block_of(2, num_prb=1)
    x = net.features(slots).double()[:1]
    observation, channel, log_error = net._split_features(x)
    front = torch.complex(*avg_pool2d(channel, (1, 6)).chunk(2, 1))[0]  # (R, S, states)
    front_error = avg_pool2d(log_error, (1, 6))[0, 0]
    num_states = front.shape[2]
    correction, error_correction = torch.zeros_like(front), torch.zeros_like(front_error)
    memory = torch.zeros(6, num_states, dtype=torch.float64)
    trends = torch.zeros(2, *front[:, 0].shape, dtype=front.dtype)
    for number, filter_pass in enumerate(net.sweeps):
        assert isinstance(filter_pass, FilterPass)
        order = list(range(14)) if number == 0 else list(range(13, -1, -1))
        trends = trends * torch.tensor([1.0 if number == 0 else -1.0, 1.0])[:, None, None]
        change, gains, last, error_step = (
            torch.zeros_like(front[:, 0]),
            torch.zeros(4, num_states),
            None,
            torch.zeros(num_states),
        )
        for place, s in enumerate(order):
            present = front[:, s] + correction[:, s]
            distance = torch.zeros_like(present) if last is None else last - present
            step = gains[0] * change + gains[1] * distance + gains[2] * trends[0] + gains[3] * trends[1]
            error = error_correction[s] + error_step
            moved = correction[:, s] + step
            h = channel[:, :, s : s + 1] + to_elements(torch.cat([moved.real, moved.imag])[None, :, None])
            e = log_error[:, :, s : s + 1] + to_elements(error[None, None, None])
            symbol = observation.of_symbol(s)
            features = avg_pool2d(em_features(symbol, h, e, detect(symbol, h, e)), (1, 6))[0, :, 0]
            direction, reliable = (torch.complex(*z.chunk(2)) for z in features[:8].split(4))
            scalars = features[8:].clone()
            scalars[4] -= 0.3 * torch.tensor(2.0).log()
            taps = filter_pass.smoothing.weight
            smooth, reliability = over_states(reliable, taps), over_states(scalars[:1], taps)
            roughness = over_states(present + step, filter_pass.neighbours.weight) - present - step
            powers = torch.stack([(z.abs() ** 2).mean(0) / 2 for z in (smooth, roughness, step, trends[0])])
            following = order[min(place + 1, 13)]
            next_error = front_error[following] + error_correction[following]
            inputs = torch.cat([scalars, reliability, 0.3 * next_error[None], 0.15 * (powers + 1e-5).log(), memory])
            hidden = torch.relu(filter_pass.expand.weight[:, :, 0, 0] @ inputs + filter_pass.expand.bias[:, None])
            padded = torch.cat([0 * hidden[:, :1], hidden, 0 * hidden[:, :1]], 1)
            taps = filter_pass.depthwise.weight[:, 0, 0]
            hidden = sum(taps[:, k : k + 1] * padded[:, k : k + num_states] for k in range(3))
            hidden = torch.relu(hidden + filter_pass.depthwise.bias[:, None])
            out = filter_pass.project.weight[:, :, 0, 0] @ hidden + filter_pass.project.bias[:, None]
            vectors = [direction, reliable, smooth, roughness, trends[0], trends[1], change, -step]
            update, *new = (sum(out[8 * o + i] * vectors[i] for i in range(8)) for o in range(3))
            trends, change, gains = torch.stack(new), step + update, out[24:28]
            correction[:, s] += change
            error_correction[s] = error + out[28]
            error_step, last, memory = out[29], present + change, filter_pass.decay[:, 0] * memory + out[30:]
    h = channel + to_elements(torch.cat([correction.real, correction.imag])[None])
    e = log_error + to_elements(error_correction[None, None])
    torch.testing.assert_close(llrs_of(net, x), net.exact_llrs(detect(observation, h, e)), rtol=1e-8, atol=1e-8)


def test_operations_are_those_of_a_hand_count() -> None:
    """Convolutions per state, symbol and pass, and products of gains, vectors and powers beside a hybrid's formula."""
    width, num_rx, grid = 4, 3, Grid(num_prb=3, num_rx=3)
    counted = count(f"hybrid-recurrent-w{width}-d1", grid)
    network = 18 * width + 3 * width + width * 36
    filters = 5 * (2 * num_rx + 1) + 5 * 2 * num_rx
    num_states = 14 * 36 // 6
    assert counted.macs - counted.formula_macs == num_states * (network + filters)
    assert counted.counters_agree
    products = 2 * num_rx * (3 * 8 + 4 + 4) + 6
    last_interpolation, scales = 2 * (2 * num_rx + 1), 4 * 1.25 * 4
    hybrid = build("hybrid-w4-d1", num_rx).formula_count(grid).macs
    expected = hybrid + 14 * 36 * (last_interpolation - scales) + num_states * products
    assert counted.formula_macs == pytest.approx(expected, abs=1)
    assert counted.parameters == network + 2 * width + 36 + 5 + 5 + 6


def test_the_smallest_design_is_within_two_thousand_parameters_and_one_kilomac() -> None:
    """By the sums of the last test, whose convolutions do not depend on the bandwidth."""
    net = build("hybrid-recurrent-w10-d3")
    convolutions = 3 * (18 * 10 + 3 * 10 + 10 * 36 + 5 * 5 + 5 * 4) / 6
    grids = [Grid(num_prb=n, pilot_patterns=((2,),)) for n in (4, 6, 273)]
    per_re = [convolutions + net.formula_count(grid).macs / (14 * grid.num_subcarriers) for grid in grids]
    assert max(per_re) < min(1.05 * min(per_re), 720)
    assert sum(p.numel() for p in net.parameters()) == 1926


def test_extremes_leave_gradients_finite() -> None:
    net = build("hybrid-recurrent-w4-d2", seed=1)
    for snr_db, power in ((-20.0, 1e-3), (60.0, 30.0)):
        conditions = Scenario(
            name="x", grid=Grid(num_prb=1), channels=Channels(train=("TDL-C",)), snr_db=(snr_db, snr_db)
        )
        slots = SlotStream(conditions, 1, 2).block(0)
        slots = replace(slots, y=power * slots.y)
        net.zero_grad()
        outputs = net(net.features(slots), intermediate=True)
        sum(llrs.square().mean() for llrs in outputs).backward()
        assert all(torch.isfinite(llrs).all() for llrs in outputs)
        assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_an_untrained_network_tracks_a_fast_channel() -> None:
    """It starts from a filter: fewer errors than its front end, whose estimate ages through the slot."""
    conditions = Scenario(
        name="fast",
        grid=Grid(num_prb=2, pilot_patterns=((2,),)),
        channels=Channels(train=("TDL-C",)),
        max_doppler_hz=(400, 500),
        snr_db=(25.0, 25.0),
    )
    slots = SlotStream(conditions, 1, 16).block(0)
    errors = {}
    for spec in ("hybrid-recurrent-w4-d2", "hybrid-w4-d1"):
        net = build(spec, seed=1).eval()
        with torch.no_grad():
            wrong = (net(net.features(slots)) > 0) != slots.bits.bool()
        errors[spec] = int((wrong & slots.bit_mask).sum())
    assert errors["hybrid-recurrent-w4-d2"] < 0.9 * errors["hybrid-w4-d1"]


def test_specs() -> None:
    assert parse_spec("hybrid-recurrent") == (FAMILIES["hybrid-recurrent"], 10, 3)
    assert parse_spec("hybrid-recurrent-w7-d4") == (FAMILIES["hybrid-recurrent"], 7, 4)
    for spec, message in [
        ("hybrid-recurrent-w1", "whole number of channels in 2..128"),
        ("hybrid-recurrent-w4.5", "whole number of channels in 2..128"),
        ("hybrid-recurrent-d9", "outside 1..8 passes"),
    ]:
        with pytest.raises(UserError, match=message):
            parse_spec(spec)


def test_constant_gains_are_a_recurrent_hybrid_whose_network_has_no_weights() -> None:
    """By hand, in each pass: 24 gains, 4 of the prediction, 2 steps of the error power, and two windows of 5."""
    net, x = perturbed(), RecurrentHybrid.features(block_of(2)).double()
    constant = ConstantGains(depth=2).double().eval()
    with torch.no_grad():
        for part, of_constants in zip(net.sweeps, constant.sweeps, strict=True):
            part.project.weight.zero_()
            of_constants.project.values.copy_(part.project.bias[:30])
            for name in ("smoothing", "neighbours"):
                getattr(of_constants, name).load_state_dict(getattr(part, name).state_dict())
    torch.testing.assert_close(llrs_of(constant, x), llrs_of(net, x), rtol=0, atol=0)
    assert sum(p.numel() for p in constant.parameters()) == 2 * (24 + 4 + 2 + 10)
