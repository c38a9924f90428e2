"""The forward pass of a DeepRx for training on a CPU: the same LLRs with fewer copies.

* A dilated convolution works on images without dilation, see :mod:`receivers.neural.depthwise_conv`. Neighbouring
  blocks have the same dilation, and all that lies between two convolutions treats each RE alone. So the activations
  stay in these images from block to block.
* The outputs of a depthwise convolution enter the pointwise one as they are, without being interleaved.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn.functional import conv2d

from receivers.neural.depthwise_conv import DepthwiseConv2d, join_phases, split_phases

if TYPE_CHECKING:
    from receivers.neural.deeprx import DeepRx, ResidualBlock

_NO_DILATION = (1, 1)


def training_llrs(net: DeepRx, x: torch.Tensor) -> torch.Tensor:
    """LLRs of a DeepRx, float32 ``(B, K, S, F)``.

    Args:
        net: the network.
        x: its features, float32 ``(B, C, S, F)``, in the memory format ``channels_last``.
    """
    size, layout = x.shape[2:], _NO_DILATION
    x = net.conv_in(x)
    for block in cast("Iterable[ResidualBlock]", net.blocks):
        is_even = size[0] % block.dilation[0] == size[1] % block.dilation[1] == 0
        next_layout, dilation = (block.dilation, _NO_DILATION) if is_even else (_NO_DILATION, block.dilation)
        if next_layout != layout:
            x = split_phases(join_phases(x, layout, size), next_layout)
            layout = next_layout
        x = _block(block, x, dilation)
    return _pointwise([net.norm_out(join_phases(x, layout, size)).relu_()], net.conv_out)


def _block(block: ResidualBlock, x: torch.Tensor, dilation: tuple[int, int]) -> torch.Tensor:
    """A residual block with this dilation on the images ``x``, float ``(N, C, H, W)``."""
    active = block.norm1(x).relu_()
    skip = x if block.shortcut is None else _pointwise([active], block.shortcut)
    hidden = _separable(block.conv1, active, dilation)
    return skip + _separable(block.conv2, block.norm2(hidden).relu_(), dilation)


def _separable(conv: nn.Sequential, x: torch.Tensor, dilation: tuple[int, int]) -> torch.Tensor:
    depthwise, pointwise = cast(DepthwiseConv2d, conv[0]), cast(nn.Conv2d, conv[1])
    y = _pointwise(depthwise.phase_outputs(split_phases(x, dilation)), pointwise)
    return join_phases(y, dilation, x.shape[2:])


def _pointwise(inputs: list[torch.Tensor], conv: nn.Conv2d) -> torch.Tensor:
    """A 1x1 convolution. The i-th of m inputs has the channels i, i + m, i + 2 m and so on."""
    y = conv2d(inputs[0], conv.weight[:, :: len(inputs)], conv.bias)
    for i, x in enumerate(inputs[1:], 1):
        y.add_(conv2d(x, conv.weight[:, i :: len(inputs)]))
    return y
