"""Hybrid receivers for any number of antennas: all antennas share the weights of the network.

A hybrid's front end, detection and LLRs work for any number of antennas. Only its convolutions have a fixed number of
channels for them. Here the convolutions see one antenna at a time, so they have none. Each block is an equivariant
layer of a set of antennas (M. Zaheer et al., "Deep Sets", NeurIPS 2017)::

    powers, common state ---------> 1x1 --+                     +--> mean --> 1x1 --> common state, error power
                                          +--> depthwise 5x3 ---+
    directions, antenna's state --> 1x1 --+                     +--> 1x1 --> antenna's state, antenna's channel

So equal antennas may change places, and one file serves arrays of any size.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import nn

from receivers.neural.depthwise_conv import DepthwiseConv2d
from receivers.neural.detection import LOG_ERROR_RANGE, LOG_SCALE, MIN_EXCESS, Observation
from receivers.neural.hybrid import EXPANSION, Hybrid
from receivers.neural.hybrid import check_size as check_hybrid_size
from receivers.neural.symbol_states import SUBCARRIERS_PER_STATE

NUM_POWERS = 6
"""EM features that antennas share: reliability, variance and power of the symbol, and three logarithms."""

NUM_CONDITIONS = 3
"""Channels of the common state that begin with the conditions of the slot, see :meth:`SharedHybrid._initial_state`."""


class SharedHybrid(Hybrid):
    """A hybrid whose weights do not depend on the number of antennas.

    Its features, detection and LLRs are those of :class:`receivers.neural.hybrid.Hybrid`. The front end makes noise and
    interference white with a triangular matrix per resource block. The network treats the antennas after it alike.

    Args:
        num_rx: receive antennas R of ``num_features``; the network takes any number.
        num_bits: LLRs per RE K, even; those beyond the highest modulation of a batch are 0 on a CPU.
        width: channels of the common state, and of the state of each antenna.
        depth: blocks.

    Example:
        One network receives two antennas, and four:

        >>> import torch
        >>> from channels import Channels, Grid, Scenario, SlotStream
        >>> net = SharedHybrid(num_bits=4, width=4, depth=2).eval()
        >>> for num_rx in (2, 4):
        ...     radio = Scenario(name="x", grid=Grid(num_prb=1, num_rx=num_rx), channels=Channels(train=("TDL-B",)))
        ...     slots = SlotStream(radio, seed=1, block_slots=2).block(0)
        ...     print(tuple(net.features(slots).shape), tuple(net(net.features(slots)).shape))
        (2, 14, 14, 12) (2, 4, 14, 12)
        (2, 22, 14, 12) (2, 4, 14, 12)
    """

    takes_any_num_rx: ClassVar[bool] = True

    def input_channels(self, num_rx: int) -> int:
        return 4 * num_rx + 6

    def _new_block(self, dilation: tuple[int, int]) -> nn.Module:
        return SharedHybridBlock(self.width, dilation)

    def _initial_state(self, observation: Observation) -> torch.Tensor:
        """Common state, then the states of all antennas, ``(B, width (1 + R), S, F / 6)``.

        The first channels of the common state are logarithms: of the noise-plus-interference power, of the squared
        distance of neighbouring levels, and of the number of antennas. All else is 0.
        """
        batch, channels, symbols, subcarriers = observation.y.shape
        num_rx = channels // 2
        shape = (batch, self.width * (1 + num_rx), symbols, subcarriers // SUBCARRIERS_PER_STATE)
        hidden = observation.y.new_zeros(shape)
        noise = observation.noise_plus_interference_var[:, 0, :1, :1].clamp_min(MIN_EXCESS)
        hidden[:, 0] = LOG_SCALE * noise.log()
        hidden[:, 1] = LOG_SCALE * observation.square_distance[:, 0].log()
        hidden[:, 2] = LOG_SCALE * math.log(num_rx)
        return hidden

    def _detected_bits(self, bits_per_symbol: torch.Tensor) -> int:
        """Those of the highest modulation in the batch; all where looking at it would stop a GPU or a compiler."""
        if bits_per_symbol.device.type != "cpu" or torch.compiler.is_compiling():
            return self.num_bits
        return min(self.num_bits, int(bits_per_symbol.max()))


class SharedHybridBlock(nn.Module):
    """Inverted bottleneck per antenna, with a state that all antennas share; see the module's drawing."""

    def __init__(self, width: int, dilation: tuple[int, int]) -> None:
        super().__init__()
        self.width, inner = width, EXPANSION * width
        self.expand = nn.Conv2d(width + NUM_POWERS, inner, 1)
        self.expand_antenna = nn.Conv2d(width + 4, inner, 1, bias=False)
        padding = (2 * dilation[0], dilation[1])
        self.depthwise = DepthwiseConv2d(inner, inner, (5, 3), padding=padding, dilation=dilation, groups=inner)
        self.project = nn.Conv2d(inner, width + 1, 1)
        self.project_antenna = nn.Conv2d(inner, width + 2, 1)
        with torch.no_grad():  # the untrained block leaves the front end's channel estimate as it is
            for layer in (self.project, self.project_antenna):
                layer.weight[width:] = 0
                layer.bias[width:] = 0  # type: ignore[index]

    def forward(self, hidden: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Updates of the states, of the channel and of its error power, as of :class:`HybridBlock`."""
        num_rx = (features.shape[1] - NUM_POWERS) // 4
        common, states = hidden.split([self.width, self.width * num_rx], 1)
        directions, powers = features.split([4 * num_rx, NUM_POWERS], 1)
        amplitude = error_amplitude(powers)
        directions = directions / amplitude
        own = torch.cat([states.unflatten(1, (num_rx, -1)), directions.unflatten(1, (4, num_rx)).transpose(1, 2)], 2)
        x = self.expand_antenna(own.flatten(0, 1)).unflatten(0, (-1, num_rx))
        x = torch.relu(x + self.expand(common_inputs(common, powers, num_rx))[:, None])
        x = torch.relu(self.depthwise(x.flatten(0, 1)))
        common, log_error = self.project(x.unflatten(0, (-1, num_rx)).mean(1)).split([self.width, 1], 1)
        states, channel = self.project_antenna(x).unflatten(0, (-1, num_rx)).split([self.width, 2], 2)
        hidden = torch.cat([common, states.flatten(1, 2)], 1)
        return hidden, amplitude * channel.transpose(1, 2).flatten(1, 2), log_error


def error_amplitude(powers: torch.Tensor) -> torch.Tensor:
    """Root of the error power of the channel estimate, the unit of a block's directions and of its channel updates.

    Over the range of SINRs, this power changes a thousandfold. In this unit, the network sees numbers of order 1.

    Args:
        powers: EM features that antennas share, float32 ``(B, 6, S, F / 6)``; the last is the logarithm of this power.

    Returns:
        float32 ``(B, 1, S, F / 6)``.
    """
    low, high = LOG_ERROR_RANGE
    return torch.exp((powers[:, 5:] / LOG_SCALE).clamp(low, high) / 2)


def common_inputs(common: torch.Tensor, powers: torch.Tensor, num_rx: int) -> torch.Tensor:
    """Common state and powers, with the error of ``y`` as a mean over antennas in place of their sum.

    Args:
        common: common state, float32 ``(B, width, S, F / 6)``.
        powers: EM features that antennas share, ``(B, 6, S, F / 6)``; the fifth is the logarithm of that error.
        num_rx: receive antennas.
    """
    return torch.cat([common, powers[:, :4], powers[:, 4:5] - LOG_SCALE * math.log(num_rx), powers[:, 5:]], 1)


def check_size(width: float, depth: int) -> None:
    """Check that a shared hybrid of this width and depth exists.

    Raises:
        ValueError: if not.
    """
    check_hybrid_size(width, depth)
    if width < NUM_CONDITIONS:
        raise ValueError(f"width {width:g} is below {NUM_CONDITIONS}, the conditions of a slot")
