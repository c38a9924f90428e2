"""Depthwise convolutions in the form that runtimes execute fast: depth multiplier 1.

ONNX Runtime has no fast depthwise kernel for a depth multiplier above 1, and none at all in integers. Such a
convolution is split into several depthwise convolutions of multiplier 1, which compute the same results.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn


class _ParallelDepthwise(nn.Module):
    """Parallel depthwise convolutions: channel ``i C + c`` is channel ``c m + i`` of the original convolution."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        channels, multiplier = conv.groups, conv.out_channels // conv.groups
        self.parts = nn.ModuleList()
        for i in range(multiplier):
            part = nn.Conv2d(
                channels,
                channels,
                cast(tuple[int, int], conv.kernel_size),
                cast(tuple[int, int], conv.stride),
                cast(tuple[int, int], conv.padding),
                cast(tuple[int, int], conv.dilation),
                groups=channels,
                bias=conv.bias is not None,
            )
            part.load_state_dict({name: value[i::multiplier] for name, value in conv.state_dict().items()})
            self.parts.append(part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(x) for part in self.parts], 1)


def split_depthwise(net: nn.Module) -> nn.Module:
    """Split every depthwise convolution with multiplier above 1 that a pointwise convolution follows directly.

    Args:
        net: changed in place; its results stay the same.

    Returns:
        ``net``.
    """
    for pair in [m for m in net.modules() if isinstance(m, nn.Sequential) and len(m) == 2]:
        depthwise, pointwise = pair
        if not (isinstance(depthwise, nn.Conv2d) and isinstance(pointwise, nn.Conv2d) and pointwise.groups == 1):
            continue
        if 1 < depthwise.groups == depthwise.in_channels < depthwise.out_channels:
            multiplier = depthwise.out_channels // depthwise.groups
            order = torch.arange(depthwise.out_channels).view(-1, multiplier).T.flatten()
            pointwise.weight = nn.Parameter(pointwise.weight[:, order].detach())
            pair[0] = _ParallelDepthwise(depthwise)
    return net
