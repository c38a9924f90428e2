"""Depthwise convolution whose training on a CPU is several times as fast as torch's.

torch has no fast CPU kernel for the gradient of a dilated depthwise convolution, nor for several outputs per channel. A
convolution with dilation d touches every d-th sample only. The samples of each phase therefore form smaller images, on
which the convolution has no dilation (the atrous trick, M. Holschneider et al., 1989).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import conv2d, pad


class DepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d`` with ``groups=in_channels``, stride 1 and padding that keeps the size.

    In training on a CPU it computes the same sums in another order. Elsewhere it is exactly ``nn.Conv2d``.

    Example:
        >>> conv = DepthwiseConv2d(2, 4, 3, padding=(2, 3), dilation=(2, 3), groups=2)
        >>> x = torch.randn(1, 2, 14, 12)
        >>> torch.allclose(conv(x), conv.eval()(x), atol=1e-5)
        True
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # the name that torch gives it
        if not self.training or input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        return self._sum_of_phases(input)

    def _sum_of_phases(self, x: torch.Tensor) -> torch.Tensor:
        """The convolution of each phase of ``x``, float ``(B, C, H, W)``, as an image without dilation."""
        (dilation_h, dilation_w), (_, channels, height, width) = self.dilation, x.shape
        phases, multiplier = dilation_h * dilation_w, self.out_channels // channels
        x = pad(x.permute(0, 2, 3, 1), (0, 0, 0, -width % dilation_w, 0, -height % dilation_h))
        if phases > 1:
            x = x.unflatten(2, (-1, dilation_w)).unflatten(1, (-1, dilation_h))
            x = x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)  # (B phases, H / d, W / d, C)
        half_h, half_w = (size // 2 for size in self.kernel_size)
        outputs = [
            conv2d(
                x.permute(0, 3, 1, 2),
                self.weight[i::multiplier],
                None if self.bias is None else self.bias[i::multiplier],
                padding=(half_h, half_w),
                groups=channels,
            ).permute(0, 2, 3, 1)
            for i in range(multiplier)
        ]
        y = outputs[0] if multiplier == 1 else torch.stack(outputs, -1).flatten(-2)
        if phases > 1:
            y = y.unflatten(0, (-1, dilation_h, dilation_w)).permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)
        return y[:, :height, :width].permute(0, 3, 1, 2)
