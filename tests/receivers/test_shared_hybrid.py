"""Shared hybrids: any number of antennas, which may change places, and any bandwidth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from channels import Channels, Grid, Interferer, Scenario, Slots, SlotStream
from energy.counting.counter import count
from energy.counting.onnx_file import count_onnx
from leanrx_core.errors import UserError
from receivers.export import export_onnx
from receivers.export.c_source import c_sources
from receivers.export.exported_receiver import ExportedReceiver
from receivers.export.parity import compare
from receivers.neural.registry import build
from receivers.neural.shared_hybrid import SharedHybrid, SharedHybridBlock
from receivers.neural.symbol_states import SUBCARRIERS_PER_STATE
from receivers.neural.weights import Card, NeuralReceiver, load, save


def conditions(num_rx: int, *modulations: str, num_prb: int = 2) -> Scenario:
    return Scenario(
        name="all",
        modulations=modulations or ("16-QAM",),
        channels=Channels(train=("TDL-C",)),
        grid=Grid(num_prb=num_prb, num_rx=num_rx, pilot_patterns=(), dmrs={"additional_positions": (0, 2)}),
        snr_db=(0.0, 25.0),
        interferers=(Interferer(probability=0.5),),
    )


def block_of(num_rx: int, *modulations: str, num_prb: int = 2) -> Slots:
    return SlotStream(conditions(num_rx, *modulations, num_prb=num_prb), 3, 6).block(0)


def perturbed(spec: str = "hybrid-shared-w4-d3", num_bits: int = 4) -> SharedHybrid:
    """A network as after training: no layer is zero."""
    net, generator = build(spec, 2, num_bits, seed=3), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    assert isinstance(net, SharedHybrid)
    return net.eval()


def card(**changes: object) -> Card:
    default = Card(
        name="net",
        receiver="hybrid-shared-w4-d3",
        role="scratch",
        num_rx=2,
        num_bits=4,
        parameters=1,
        scenario="s",
        channels=("TDL-C",),
        trained_sinr_db=(0, 20),
        seed=1,
        training={},
    )
    return default.model_copy(update=changes)


@pytest.mark.parametrize("num_rx", [1, 2, 4, 8])
def test_an_untrained_shared_hybrid_is_its_front_end(num_rx: int) -> None:
    """As an untrained hybrid, which another test compares with LMMSE estimation, whitening and exact demapping."""
    slots = block_of(num_rx, "QPSK", "64-QAM")
    x = SharedHybrid.features(slots)
    shared, fixed = build("hybrid-shared-w4-d3", 2, 6).eval(), build("hybrid-w4-d3", num_rx, 6).eval()
    mask = slots.bit_mask
    torch.testing.assert_close(shared(x)[mask], fixed(x)[mask], atol=1e-4, rtol=1e-4)
    assert (perturbed(num_bits=6)(x)[mask] - fixed(x)[mask]).abs().max() > 0.1


def by_antennas(x: torch.Tensor, num_rx: int, order: list[int]) -> torch.Tensor:
    """Features with the antennas in another order: received samples and channel, real and imaginary parts."""
    antennas, common = x.split([4 * num_rx, 6], 1)
    return torch.cat([antennas.unflatten(1, (4, num_rx))[:, :, order].flatten(1, 2), common], 1)


@pytest.mark.parametrize("order", [[1, 0, 2, 3], [3, 0, 1, 2]])
def test_antennas_may_change_places(order: list[int]) -> None:
    slots, net = block_of(4), perturbed().double()
    x = net.features(slots).double()
    assert not torch.equal(by_antennas(x, 4, order), x)
    torch.testing.assert_close(net(by_antennas(x, 4, order)), net(x), rtol=1e-9, atol=1e-9)


def test_a_silent_slot_of_copies_is_that_of_one_antenna() -> None:
    """Equal antennas have equal states: their mean is that of one. Only the gain of combining them is greater."""
    block = perturbed().blocks[1]
    generator = torch.Generator().manual_seed(1)
    hidden, features = torch.randn(2, 8, 14, 4, generator=generator), torch.randn(2, 10, 14, 4, generator=generator)
    (common, state), (direction, powers) = hidden.split(4, 1), features.split([4, 6], 1)
    single = block(hidden, features)
    shifted = powers.clone()
    shifted[:, 4] += 0.3 * torch.tensor(3.0).log()  # the error of y is a sum over antennas
    repeated = block(
        torch.cat([common, state.repeat(1, 3, 1, 1)], 1),
        torch.cat([direction.repeat_interleave(3, 1), shifted], 1),
    )
    torch.testing.assert_close(repeated[2], single[2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(repeated[0][:, :4], single[0][:, :4], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(repeated[1], single[1].repeat_interleave(3, 1), atol=1e-5, rtol=1e-5)


def layer(x: torch.Tensor, conv: nn.Module) -> torch.Tensor:
    """A 1x1 convolution as a matrix product."""
    assert isinstance(conv, nn.Conv2d)
    y = torch.einsum("oc,bcsf->bosf", conv.weight[:, :, 0, 0], x)
    return y if conv.bias is None else y + conv.bias[:, None, None]


def test_a_block_equals_a_loop_over_antennas() -> None:
    num_rx, width, generator = 3, 4, torch.Generator().manual_seed(2)
    block = perturbed().blocks[2]
    assert isinstance(block, SharedHybridBlock)
    hidden = torch.randn(2, width * (1 + num_rx), 14, 6, generator=generator)
    features = torch.randn(2, 4 * num_rx + 6, 14, 6, generator=generator)
    powers = features[:, 4 * num_rx :].clone()
    powers[:, 4] -= 0.3 * torch.tensor(float(num_rx)).log()
    common = layer(torch.cat([hidden[:, :width], powers], 1), block.expand)
    amplitude = (features[:, -1:] / 0.3).clamp(-12, 3).exp().sqrt()  # of the channel's error
    mean, states, channel = 0.0, [], torch.empty(2, 2, num_rx, 14, 6)
    for antenna in range(num_rx):
        begin = width * (1 + antenna)
        own = torch.cat([hidden[:, begin : begin + width], features[:, antenna : 4 * num_rx : num_rx] / amplitude], 1)
        inner = torch.relu(common + layer(own, block.expand_antenna))
        depthwise = block.depthwise
        inner = torch.relu(
            conv2d(inner, depthwise.weight, depthwise.bias, 1, depthwise.padding, depthwise.dilation, len(inner[0]))
        )
        mean = mean + inner / num_rx
        update = layer(inner, block.project_antenna)
        states.append(update[:, :width])
        channel[:, :, antenna] = amplitude * update[:, width:]
    of_mean = layer(mean, block.project)
    expected = torch.cat([of_mean[:, :width], *states], 1), channel.flatten(1, 2), of_mean[:, width:]
    for a, b in zip(block(hidden, features), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_part_of_the_band_has_the_llrs_of_the_whole() -> None:
    """Away from the edges: a block reaches one state further, and so does interpolation after it."""
    slots, net = block_of(2, num_prb=8), perturbed("hybrid-shared-w4-d2").double()
    x = net.features(slots).double()
    first, last, reach = 12, 84, 2 * 2 * SUBCARRIERS_PER_STATE
    part = net(x[..., first:last])
    torch.testing.assert_close(part[..., reach:-reach], net(x)[..., first + reach : last - reach], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("modulations", [("QPSK",), ("QPSK", "64-QAM", "256-QAM")])
def test_training_has_the_llrs_and_gradients_of_inference(modulations: tuple[str, ...]) -> None:
    """In double precision. A batch of QPSK detects four levels fewer, and the LLRs of the other bits are 0."""
    slots = block_of(3, *modulations)
    net = perturbed("hybrid-shared-w4-d5", num_bits=8).double()
    x = net.features(slots).double()
    generator, results = torch.Generator().manual_seed(1), []
    weights = [torch.randn(6, 8, *x.shape[2:], generator=generator, dtype=torch.float64) for _ in range(5)]
    for training in (False, True):
        net.train(training).zero_grad()
        outputs = net(x, intermediate=True)
        sum((w * torch.tanh(llrs / 8)).sum() for w, llrs in zip(weights, outputs, strict=True)).backward()
        results.append((outputs, [p.grad.clone() for p in net.parameters()]))
    for a, b in zip(*(outputs for outputs, _ in results), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        assert a.shape[1] == 8
        assert bool((a[:, max(len(slots.bits[0]), 2) :] == 0).all())
    for a, b in zip(*(gradients for _, gradients in results), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7 * float(b.abs().max()))


def test_llrs_do_not_depend_on_the_modulations_of_other_slots() -> None:
    slots, net = block_of(2, "QPSK", "256-QAM"), perturbed(num_bits=8)
    x, is_qpsk = net.features(slots), slots.bits_per_symbol == 2
    assert 0 < int(is_qpsk.sum()) < len(slots)
    torch.testing.assert_close(net(x[is_qpsk])[:, :2], net(x)[is_qpsk][:, :2], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("num_rx", [1, 2, 8])
def test_operations_are_those_of_a_hand_count(num_rx: int) -> None:
    """Convolutions per antenna and once per slot, and the products of a hybrid with as many antennas."""
    width, depth, grid = 4, 3, Grid(num_prb=3, num_rx=num_rx)
    counted, inner = count(f"hybrid-shared-w{width}-d{depth}", grid), 3 * width
    of_antenna = (width + 4) * inner + 15 * inner + inner * (width + 2)
    of_slot = (width + 6) * inner + inner * (width + 1)
    of_state = depth * (num_rx * of_antenna + of_slot) + width * 8
    assert counted.macs - counted.formula_macs == 14 * 36 // 6 * of_state
    assert counted.formula_macs == count(f"hybrid-w4-d{depth}", grid).formula_macs
    assert counted.counters_agree
    assert counted.parameters == depth * (of_antenna + of_slot + 2 * inner + 2 * width + 3) + (width + 1) * 8
    assert count(build(f"hybrid-shared-w{width}-d{depth}", 4), grid).macs == counted.macs


def test_operations_per_resource_element_do_not_depend_on_the_bandwidth() -> None:
    per_re = [count("hybrid-shared-w10-d1", Grid(num_prb=n)).macs / n for n in (4, 24, 273)]
    assert max(per_re) < 1.01 * min(per_re)
    assert sum(p.numel() for p in build("hybrid-shared-w10-d8", 8, 8).parameters()) == 17_160


def test_one_file_receives_any_number_of_antennas(tmp_path: Path) -> None:
    save(tmp_path / "net", perturbed(), card())
    receiver = load(tmp_path / "net")
    for num_rx in (1, 4):
        slots = block_of(num_rx, "QPSK")  # two bits per RE of the network's four
        assert receiver(slots).shape == slots.bits.shape
    with pytest.raises(UserError, match="net: gives 4 LLRs per RE, and the slots have up to 8"):
        receiver(block_of(2, "256-QAM"))
    fixed = NeuralReceiver(build("hybrid-w4-d2"), card(receiver="hybrid-w4-d2"))
    with pytest.raises(UserError, match="net: has 2 antennas, and the slots have 4"):
        fixed(block_of(4))


@pytest.mark.parametrize("num_rx", [1, 2])
def test_the_graph_of_a_grid_computes_the_same_llrs(num_rx: int, tmp_path: Path) -> None:
    """The receiver's card has two antennas; a graph has those of the grid that it is exported for."""
    save(tmp_path / "net", perturbed("hybrid-shared-w3-d2"), card(receiver="hybrid-shared-w3-d2"))
    receiver = load(tmp_path / "net")
    radio = conditions(num_rx, "QPSK", "16-QAM", num_prb=3)
    radio = radio.model_copy(update={"channels": Channels(test=("TDL-A",))})
    stream = SlotStream(radio, 1, 4, "test", purpose="export")
    assert export_onnx(receiver, tmp_path / "out", stream, (0.0, 15.0), (0.0, 0.5)).equal
    exported = ExportedReceiver(tmp_path / "out" / "net.onnx", "x")
    grid = radio.grid.model_copy(update={"num_prb": 5})
    wide = radio.model_copy(update={"grid": grid, "modulations": ("QPSK",)})  # two of the file's four bits
    assert compare(receiver, exported, SlotStream(wide, 1, 3, "test").block(0)).equal
    graph = count_onnx(tmp_path / "out" / "net.onnx", [1, num_rx, 14, 60, 2])
    assert 0.95 < graph.macs / count(receiver, grid).macs < 1.3


def test_c_export_is_refused() -> None:
    receiver = NeuralReceiver(perturbed(), card())
    with pytest.raises(UserError, match=r"export: net is a hybrid-shared-w4-d3; .* use onnx"):
        c_sources(receiver, conditions(2).grid)
