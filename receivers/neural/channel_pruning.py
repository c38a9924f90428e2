"""Structured pruning of hybrids: channels are removed, and a smaller network of the same form remains.

A hybrid has two kinds of channels:

* Those of the hidden state pass from block to block, and each block adds to them. So a channel is removed from all
  blocks and from the last layer at once.
* Inner channels belong to one block. Its depthwise convolution keeps them apart.

The importance of a channel is the square of the first-order change of the loss if its output is multiplied by 0, as a
mean over batches (P. Molchanov et al., Importance estimation for neural network pruning, CVPR 2019, 1906.10771,
equation 9). A channel whose output has no effect has importance 0, and its removal changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from leanrx_core.errors import UserError
from receivers.neural.hybrid import EXPANSION, Hybrid, HybridBlock
from receivers.neural.network import Network


@dataclass(frozen=True)
class ChannelImportance:
    """Importance of the channels of a hybrid, 0 or more.

    Attributes:
        state: of the channels of the hidden state, float32 ``(width,)``.
        inner: of the inner channels of each block, float32 ``(depth, 3 width)``.
    """

    state: torch.Tensor
    inner: torch.Tensor


def channel_importance(net: Network, losses: Iterable[torch.Tensor]) -> ChannelImportance:
    """Importance of the channels of a hybrid for a loss.

    Args:
        net: a hybrid.
        losses: scalar loss of each batch of slots, with its graph; taken one by one, so they may be generated.

    Raises:
        UserError: if the network is no hybrid, or there is no loss.

    Example:
        >>> from channels import SlotStream, scenario
        >>> from receivers import load
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2).at_sinr(12).block(0)
        >>> net = load("tdl-6prb-hybrid-w5-d5-kd").net
        >>> importance = channel_importance(net, [net(net.features(slots)).abs().mean()])
        >>> tuple(importance.state.shape), tuple(importance.inner.shape)
        ((5,), (5, 15))
    """
    hybrid = _hybrid(net)
    blocks = [cast(HybridBlock, block) for block in hybrid.blocks]
    layers = [hybrid.conv_out, *(block.expand for block in blocks), *(block.project for block in blocks)]
    weights = [layer.weight for layer in layers]
    state, inner, batches = torch.zeros(hybrid.width), torch.zeros(len(blocks), EXPANSION * hybrid.width), 0
    for loss in losses:
        changes = [w.detach() * g for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)]
        by_input = [change.sum((0, 2, 3)).cpu() for change in changes]
        state += torch.stack([x[: hybrid.width] for x in by_input[: 1 + len(blocks)]]).sum(0).square()
        inner += torch.stack(by_input[1 + len(blocks) :]).square()
        batches += 1
    if not batches:
        raise UserError("losses: none are given; give the loss of one batch of slots or more")
    return ChannelImportance(state / batches, inner / batches)


def prune_channels(net: Network, importance: ChannelImportance, width: int) -> Hybrid:
    """The hybrid that remains if the least important channels are removed.

    Args:
        net: a hybrid; it stays as it is.
        importance: of its channels.
        width: channels of the hidden state that remain; three times as many inner channels remain in each block.

    Returns:
        A network of this width and of the same depth, with the weights of the channels that remain.

    Raises:
        UserError: if the network is no hybrid, or the width is not below its own.

    Example:
        >>> from receivers import build
        >>> net = build("hybrid-w6-d2")
        >>> importance = ChannelImportance(torch.arange(6.0), torch.rand(2, 18))
        >>> prune_channels(net, importance, width=2).width
        2
    """
    hybrid = _hybrid(net)
    if not 2 <= width < hybrid.width:
        raise UserError(f"width: {width} is outside 2..{hybrid.width - 1}, the widths below that of the network")
    smaller = Hybrid(hybrid.num_rx, hybrid.num_bits, width, len(hybrid.blocks))
    state = _largest(importance.state, width)
    for target, source, scores in zip(smaller.blocks, hybrid.blocks, importance.inner, strict=True):
        _copy_channels(cast(HybridBlock, target), cast(HybridBlock, source), state, _largest(scores, EXPANSION * width))
    _copy(smaller.conv_out, hybrid.conv_out.weight[:, state], hybrid.conv_out.bias)
    return smaller


def remove_last_blocks(net: Network, depth: int) -> Hybrid:
    """The hybrid that remains if the last blocks are removed.

    Args:
        net: a hybrid; it stays as it is.
        depth: blocks that remain.

    Raises:
        UserError: if the network is no hybrid, or the depth is not below its own.

    Example:
        >>> from receivers import build
        >>> len(remove_last_blocks(build("hybrid-w4-d3"), depth=2).blocks)
        2
    """
    hybrid = _hybrid(net)
    if not 1 <= depth < len(hybrid.blocks):
        raise UserError(f"depth: {depth} is outside 1..{len(hybrid.blocks) - 1}, the depths below that of the network")
    smaller = Hybrid(hybrid.num_rx, hybrid.num_bits, hybrid.width, depth)
    smaller.load_state_dict({name: hybrid.state_dict()[name] for name in smaller.state_dict()})
    return smaller


def _hybrid(net: Network) -> Hybrid:
    if type(net) is not Hybrid:
        raise UserError(f"pruning: {type(net).__name__} has other channels; give a network of the family 'hybrid'")
    return net


def _largest(scores: torch.Tensor, number: int) -> torch.Tensor:
    """Indices of the largest scores, in order; of equal scores, the first."""
    return scores.argsort(descending=True, stable=True)[:number].sort().values


def _copy_channels(target: HybridBlock, source: HybridBlock, state: torch.Tensor, inner: torch.Tensor) -> None:
    """Copy what a block computes with these channels of state and inside."""
    width = source.sizes[0]
    inputs = torch.cat([state, torch.arange(width, source.expand.in_channels)])
    outputs = torch.cat([state, torch.arange(width, source.project.out_channels)])
    _copy(target.expand, source.expand.weight[inner][:, inputs], source.expand.bias, inner)
    _copy(target.depthwise, source.depthwise.weight[inner], source.depthwise.bias, inner)
    _copy(target.project, source.project.weight[outputs][:, inner], source.project.bias, outputs)


def _copy(
    layer: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor | None, outputs: torch.Tensor | slice = slice(None)
) -> None:
    assert layer.bias is not None, "convolutions of hybrids have biases"
    assert bias is not None, "convolutions of hybrids have biases"
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias[outputs])
