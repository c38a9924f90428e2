"""Removal of channels against networks whose LLRs are known: dead channels, masked channels and intermediate LLRs."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from factories import perturbed_receiver

from channels import Slots, SlotStream, scenario
from leanrx_core.errors import UserError
from receivers import build
from receivers.neural.channel_pruning import (
    ChannelImportance,
    channel_importance,
    prune_channels,
    remove_last_blocks,
)
from receivers.neural.hybrid import Hybrid, HybridBlock

WIDTH, DEPTH = 5, 3
STATE, INNER = [0, 2, 3], [1, 2, 5, 6, 8, 9, 11, 12, 14]
"""Channels of the state and inside of a block that have an effect."""


@pytest.fixture(scope="module")
def slots() -> Slots:
    return SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2).at_sinr(12).block(0)


def hybrid() -> Hybrid:
    return cast(Hybrid, perturbed_receiver(f"hybrid-w{WIDTH}-d{DEPTH}").net)


def llrs(net: Hybrid, slots: Slots) -> torch.Tensor:
    with torch.no_grad():
        return cast(torch.Tensor, net.eval()(net.features(slots)))


@torch.no_grad()
def masked(net: Hybrid) -> Hybrid:
    """The network whose other channels have no effect: what reads them has weight 0."""
    state, inner = ([i for i in range(n) if i not in used] for n, used in ((WIDTH, STATE), (3 * WIDTH, INNER)))
    for block in net.blocks:
        cast(HybridBlock, block).expand.weight[:, state] = 0
        cast(HybridBlock, block).project.weight[:, inner] = 0
    net.conv_out.weight[:, state] = 0
    return net


def loss(net: Hybrid, slots: Slots) -> torch.Tensor:
    return cast(torch.Tensor, net(net.features(slots))).square().mean()


def test_channels_without_effect_have_importance_0_and_their_removal_changes_nothing(slots: Slots) -> None:
    net = masked(hybrid())
    importance = channel_importance(net, (loss(net, slots) for _ in range(2)))
    assert importance.state.nonzero().flatten().tolist() == STATE
    assert {int(channel) for channel in importance.inner.nonzero()[:, 1]} <= set(INNER)
    assert (importance.inner > 0).sum(1).min() > 0
    smaller = prune_channels(net, importance, len(STATE))
    assert [p.shape for p in smaller.parameters()] == [p.shape for p in build(f"hybrid-w3-d{DEPTH}").parameters()]
    torch.testing.assert_close(llrs(smaller, slots), llrs(net, slots), rtol=1e-4, atol=1e-4)


def test_removal_is_the_same_as_a_mask(slots: Slots) -> None:
    """Channels that have an effect are removed from all blocks and from the last layer."""
    importance = ChannelImportance(torch.zeros(WIDTH), torch.zeros(DEPTH, 3 * WIDTH))
    importance.state[STATE], importance.inner[:, INNER] = 1, 1
    smaller = prune_channels(hybrid(), importance, len(STATE))
    assert not torch.allclose(llrs(smaller, slots), llrs(hybrid(), slots), rtol=1e-2)
    torch.testing.assert_close(llrs(smaller, slots), llrs(masked(hybrid()), slots), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "channel"), [("state", 1), ("inner", 4)])
def test_importance_is_the_square_of_the_slope_over_a_gate(slots: Slots, kind: str, channel: int) -> None:
    """The slope by finite differences: all weights that read the channel are multiplied by the gate."""
    values = []
    for gate in (1.01, 0.99):
        net = hybrid().double().eval()
        with torch.no_grad():
            if kind == "state":
                for layer in (net.conv_out, *(cast(HybridBlock, block).expand for block in net.blocks)):
                    layer.weight[:, channel] *= gate
            else:
                cast(HybridBlock, net.blocks[1]).project.weight[:, channel] *= gate
            values.append(net(net.features(slots).double()).square().mean().item())
    net = hybrid().eval()
    importance = channel_importance(net, [loss(net, slots)])
    score = importance.state[channel] if kind == "state" else importance.inner[1, channel]
    assert score.item() == pytest.approx(((values[0] - values[1]) / 0.02) ** 2, rel=0.01)


def test_without_its_last_blocks_a_hybrid_has_the_llrs_after_the_others(slots: Slots) -> None:
    net = hybrid().eval()
    with torch.no_grad():
        net.conv_out.weight.zero_()
        net.conv_out.bias.zero_()  # type: ignore[union-attr]
        _, *intermediate = net(net.features(slots), intermediate=True)
    torch.testing.assert_close(llrs(remove_last_blocks(net, 2), slots), intermediate[1])


def test_what_cannot_be_pruned_is_refused() -> None:
    importance = ChannelImportance(torch.zeros(WIDTH), torch.zeros(DEPTH, 3 * WIDTH))
    with pytest.raises(UserError, match=r"width: 5 is outside 2\.\.4, the widths below that of the network"):
        prune_channels(hybrid(), importance, WIDTH)
    with pytest.raises(UserError, match=r"depth: 3 is outside 1\.\.2, the depths below that of the network"):
        remove_last_blocks(hybrid(), DEPTH)
    with pytest.raises(UserError, match="losses: none are given"):
        channel_importance(hybrid(), [])
    for spec in ("deeprx-w0.03125-d3", "hybrid-shared-w3-d1"):
        with pytest.raises(UserError, match="has other channels; give a network of the family 'hybrid'"):
            channel_importance(build(spec), [])
