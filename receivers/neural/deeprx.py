"""DeepRx: a fully convolutional pre-activation ResNet from a received slot to bit LLRs.

After M. Honkala, D. Korpi, J. M. J. Huttunen, "DeepRx: Fully Convolutional Deep Learning Receiver", IEEE Trans.
Wireless Commun. 20(6), 2021 (arXiv 2005.01494), table I. Public transcriptions of the table differ; here:

* The output convolution is 1x1 after batch-norm and ReLU; this gives the published 1,232,516 parameters.
* A dilation ``(2, 3)`` is 2 over OFDM symbols and 3 over subcarriers, the order of the table's output shape.
* Where the width changes, the 1x1 shortcut takes the activated input.

:class:`InterpolatedDeepRx` takes the raw channel estimate at every RE, as the same authors do in "DeepRx MIMO:
Convolutional MIMO Detection with Learned Multiplicative Transformations" (arXiv 2010.16283).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from channels import NUM_SYMBOLS, Slots
from channels.grid import SUBCARRIERS_PER_PRB
from receivers.neural.deeprx_training import training_llrs
from receivers.neural.depthwise_conv import DepthwiseConv2d
from receivers.neural.network import Network

# Widths by depth: 11 blocks are table I; the shallower networks keep its symmetric rise and fall.
WIDTHS_BY_DEPTH: dict[int, tuple[int, ...]] = {
    11: (64, 64, 128, 128, 256, 256, 256, 128, 128, 64, 64),
    9: (64, 64, 128, 128, 256, 128, 128, 64, 64),
    7: (64, 128, 128, 256, 128, 128, 64),
    5: (64, 128, 256, 128, 64),
    3: (64, 128, 64),
}
_DILATION = {64: (1, 1), 128: (2, 3), 256: (2, 3)}  # (symbols, subcarriers); the middle block has (3, 6)
_MIDDLE_DILATION = (3, 6)


def _separable(channels_in: int, channels_out: int, dilation: tuple[int, int]) -> nn.Sequential:
    """Depthwise 3x3 with depth multiplier 2, then pointwise 1x1, without activation between them."""
    return nn.Sequential(
        DepthwiseConv2d(channels_in, 2 * channels_in, 3, padding=dilation, dilation=dilation, groups=channels_in),
        nn.Conv2d(2 * channels_in, channels_out, 1),
    )


class ResidualBlock(nn.Module):
    """Pre-activation residual block of two separable convolutions, from float ``(B, C, S, F)`` to the like.

    Args:
        channels_in, channels_out: C before and after it.
        dilation: of its depthwise convolutions over symbols and subcarriers.
    """

    def __init__(self, channels_in: int, channels_out: int, dilation: tuple[int, int]) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = _separable(channels_in, channels_out, dilation)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = _separable(channels_out, channels_out, dilation)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = torch.relu(self.norm1(x))
        skip = x if self.shortcut is None else self.shortcut(active)
        return skip + self.conv2(torch.relu(self.norm2(self.conv1(active))))


class DeepRx(Network):
    """The DeepRx network: features to LLRs ``(B, num_bits, S, F)``, positive meaning 1.

    The mapping of TS 38.211 is hierarchical. So a network with 8 outputs serves QPSK to 256-QAM with its first 2 to 8.

    Args:
        num_rx: receive antennas R.
        num_bits: LLRs per RE.
        width: factor on all layer widths of table I.
        depth: residual blocks, a key of :data:`WIDTHS_BY_DEPTH`.

    Example:
        The published network has 1.2 million parameters:

        >>> sum(p.numel() for p in DeepRx().parameters())
        1232516
    """

    def __init__(self, num_rx: int = 2, num_bits: int = 4, width: float = 1.0, depth: int = 11) -> None:
        super().__init__(num_features=2 * (2 * num_rx + 1), num_bits=num_bits)
        nominal = WIDTHS_BY_DEPTH[depth]
        widths = [max(1, round(width * w)) for w in nominal]
        middle = depth // 2 if 256 in nominal else -1
        self.conv_in = nn.Conv2d(self.num_features, widths[0], 3, padding=1)
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(before, after, _MIDDLE_DILATION if i == middle else _DILATION[nominal[i]])
                for i, (before, after) in enumerate(zip([widths[0], *widths], widths, strict=False))
            )
        )
        self.norm_out = nn.BatchNorm2d(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], num_bits, 1)

    @staticmethod
    def features(slots: Slots) -> torch.Tensor:
        """Received grid, pilot values and raw channel estimate ``y conj(pilot)``.

        Args:
            slots: received slots.

        Returns:
            float32 ``(B, 2 (2 R + 1), S, F)``: real parts of (y, pilots, raw estimate), then imaginary parts.
        """
        raw = slots.y * slots.pilots.conj()[:, None]
        parts = torch.cat([slots.y, slots.pilots[:, None], raw], dim=1)
        return torch.cat([parts.real, parts.imag], dim=1)

    @staticmethod
    def real_features(
        y: torch.Tensor, pilots: torch.Tensor, noise_plus_interference_var: torch.Tensor, bits_per_symbol: torch.Tensor
    ) -> torch.Tensor:
        """:meth:`features` in real arithmetic, see :meth:`receivers.neural.network.Network.real_features`."""
        pilots = pilots[:, None]
        (y_re, y_im), (p_re, p_im) = y.unbind(-1), pilots.unbind(-1)
        return torch.cat([y_re, p_re, y_re * p_re + y_im * p_im, y_im, p_im, y_im * p_re - y_re * p_im], dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and torch.is_grad_enabled() and x.device.type == "cpu" and not self._has_hooks():
            return training_llrs(self, x)
        x = self.blocks(self.conv_in(x))
        return self.conv_out(torch.relu(self.norm_out(x)))

    def _has_hooks(self) -> bool:
        """Whether a module has a hook, which reads its output over the grid."""
        return any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in self.modules())


class InterpolatedDeepRx(DeepRx):
    """DeepRx whose raw channel estimate is interpolated to all REs: each has that of the nearest pilot.

    With few training steps, DeepRx on raw estimates does not learn to detect: the estimate of the pilot symbol must
    pass through the blocks before a product with a received sample can form. The number of parameters is the same.

    Args:
        num_rx, num_bits, width, depth: as of :class:`DeepRx`.
    """

    needs_resource_blocks = True

    # Exported graphs know the places of the pilots: see receivers.export.real_deeprx.
    real_features = staticmethod(Network.real_features)

    @staticmethod
    def features(slots: Slots) -> torch.Tensor:
        """Received grid, pilot values and interpolated raw channel estimate, as :meth:`DeepRx.features`."""
        pilots = torch.view_as_real(slots.pilots)
        num_rx = slots.y.shape[1]
        return interpolate_estimates(DeepRx.features(slots), num_rx, lambda raw: nearest_neighbours(raw, pilots))


def interpolate_estimates(
    features: torch.Tensor, num_rx: int, interpolation: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Features of DeepRx whose raw estimates are interpolated.

    Args:
        features: of DeepRx, float32 ``(B, 2 (2 R + 1), S, F)``.
        num_rx: receive antennas R.
        interpolation: of raw estimates, real parts of all antennas, then imaginary parts, float32 ``(B, 2 R, S, F)``.

    Returns:
        float32 ``(B, 2 (2 R + 1), S, F)``.
    """
    y_re, p_re, raw_re, y_im, p_im, raw_im = features.split([num_rx, 1, num_rx] * 2, 1)
    raw_re, raw_im = interpolation(torch.cat([raw_re, raw_im], 1)).split(num_rx, 1)
    return torch.cat([y_re, p_re, raw_re, y_im, p_im, raw_im], 1)


def nearest_neighbours(raw: torch.Tensor, pilots: torch.Tensor) -> torch.Tensor:
    """Interpolate raw estimates: each RE has the value of the nearest pilot of its resource block.

    The distance counts subcarriers first, then symbols. Of two equal distances, the lower index is taken.

    Args:
        raw: values at the pilots, float32 ``(B, C, S, F)``; others are ignored. F is a multiple of 12.
        pilots: real and imaginary parts, 0 where there is none, float32 ``(B, S, F, 2)``. They fill a rectangle of
            symbols and subcarriers, equal in all resource blocks.

    Returns:
        float32 ``(B, C, S, F)``.
    """
    power = pilots.square().sum(-1)
    by_symbol = _choice_of_nearest(power.amax(2), NUM_SYMBOLS)
    by_subcarrier = _choice_of_nearest(power[:, :, :SUBCARRIERS_PER_PRB].amax(1), SUBCARRIERS_PER_PRB)
    raw = by_symbol[:, None] @ raw
    blocks = raw.unflatten(3, (-1, SUBCARRIERS_PER_PRB)).flatten(1, 3)  # (B, C S N, 12)
    return (blocks @ by_subcarrier.mT).reshape(raw.shape)


def _choice_of_nearest(power: torch.Tensor, size: int) -> torch.Tensor:
    """1 at the nearest index with power, else 0, float32 ``(B, size, size)``, from ``(B, size)``."""
    index = torch.arange(size, dtype=torch.float32, device=power.device)
    offset = index - index[:, None]
    distance = offset.abs() + 0.5 * (offset > 0)
    distance = distance + 2 * size * (power <= 0)[:, None]
    return (distance <= distance.amin(2, keepdim=True)).float()


def check_size(width: float, depth: int) -> None:
    """Check that a DeepRx of this width and depth exists.

    Raises:
        ValueError: if not.
    """
    if not 0 < width <= 4:
        raise ValueError(f"width {width:g} is outside 0..4 (0 excluded)")
    if depth not in WIDTHS_BY_DEPTH:
        raise ValueError(f"depth {depth} is not available; blocks: {', '.join(map(str, sorted(WIDTHS_BY_DEPTH)))}")
