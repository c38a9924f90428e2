"""Depthwise convolutions as runtimes have them fast: as many results as channels.

A depth multiplier above 1 leaves ONNX Runtime's depthwise kernels unused, in integers altogether. The filters of such a
convolution, taken as several depthwise convolutions of multiplier 1, compute the same.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn


class _Side(nn.Module):
    """Depthwise convolutions side by side: result ``i C + c`` is result ``c m + i`` of the one that was split."""

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
    """Split, in place, every depthwise convolution of multiplier above 1 that a pointwise one follows at once."""
    for pair in [m for m in net.modules() if isinstance(m, nn.Sequential) and len(m) == 2]:
        depthwise, pointwise = pair
        if not (isinstance(depthwise, nn.Conv2d) and isinstance(pointwise, nn.Conv2d) and pointwise.groups == 1):
            continue
        if 1 < depthwise.groups == depthwise.in_channels < depthwise.out_channels:
            multiplier = depthwise.out_channels // depthwise.groups
            order = torch.arange(depthwise.out_channels).view(-1, multiplier).T.flatten()
            pointwise.weight = nn.Parameter(pointwise.weight[:, order].detach())
            pair[0] = _Side(depthwise)
    return net
