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
        dilation_h, dilation_w = self.dilation
        outputs = self.phase_outputs(split_phases(input, (dilation_h, dilation_w)))
        y = outputs[0] if len(outputs) == 1 else torch.stack(outputs, 2).flatten(1, 2)
        return join_phases(y, (dilation_h, dilation_w), input.shape[2:])

    def phase_outputs(self, phases: torch.Tensor) -> list[torch.Tensor]:
        """The convolution of images without dilation.

        Args:
            phases: images from :func:`split_phases`, float ``(N, C, H, W)``.

        Returns:
            One tensor like ``phases`` per output of a channel: the i-th has the channels i, i + m, i + 2 m and so on
            of all outputs, with m outputs per channel.
        """
        multiplier = self.out_channels // self.groups
        half_h, half_w = (size // 2 for size in self.kernel_size)
        return [
            conv2d(
                phases,
                self.weight[i::multiplier],
                None if self.bias is None else self.bias[i::multiplier],
                padding=(half_h, half_w),
                groups=self.groups,
            )
            for i in range(multiplier)
        ]


def split_phases(x: torch.Tensor, dilation: tuple[int, int]) -> torch.Tensor:
    """Every d-th row and e-th column as an image of its own, for all first rows and columns.

    Args:
        x: images, float ``(B, C, H, W)``, in the memory format ``channels_last``. Zeros are added where d does not
            divide H, or e does not divide W.
        dilation: d and e.

    Returns:
        float ``(B d e, C, H / d, W / e)``, in the memory format ``channels_last``.
    """
    dilation_h, dilation_w = dilation
    height, width = x.shape[2:]
    x = x.permute(0, 2, 3, 1)
    if height % dilation_h or width % dilation_w:
        x = pad(x, (0, 0, 0, -width % dilation_w, 0, -height % dilation_h))
    if dilation != (1, 1):
        x = x.unflatten(2, (-1, dilation_w)).unflatten(1, (-1, dilation_h))
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)  # (B d e, H / d, W / e, C)
    return x.permute(0, 3, 1, 2)


def join_phases(phases: torch.Tensor, dilation: tuple[int, int], size: torch.Size) -> torch.Tensor:
    """The inverse of :func:`split_phases`, for images of ``size``, ``(H, W)``.

    Example:
        >>> x = torch.randn(2, 4, 14, 13)
        >>> torch.equal(join_phases(split_phases(x, (2, 3)), (2, 3), x.shape[2:]), x)
        True
    """
    x = phases.permute(0, 2, 3, 1)
    if dilation != (1, 1):
        x = x.unflatten(0, (-1, *dilation)).permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)
    return x[:, : size[0], : size[1]].contiguous().permute(0, 3, 1, 2)
