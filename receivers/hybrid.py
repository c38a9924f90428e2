"""Hybrid receivers: a classical receiver whose channel, symbols and LLRs a small network corrects.

The front end is LMMSE channel estimation with a fixed covariance (:func:`receivers.classical.robust_estimator`),
LMMSE combining and exact demapping. It knows the channel near the pilots; farther away a moving channel has drifted.
The network follows it with the data as further pilots: it carries an estimate of the channel and one of the symbols,
which begin with the front end's; each block compares them with what was received and moves them. The last layer
starts at zero, so that the untrained network returns the front end's LLRs as they are.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from channels import Slots
from receivers.classical import combine, demap, robust_estimator, soft_symbols
from receivers.network import Network

_DILATIONS = ((1, 1), (2, 3), (3, 6), (1, 2))
"""Over symbols and subcarriers; the blocks take them in turn."""


class Hybrid(Network):
    """The network: features to LLRs ``(B, num_bits, S, F)``, positive meaning 1.

    It has no batch normalisation, so that a slot's LLRs depend on that slot alone in training too.

    Args:
        num_rx: receive antennas R.
        num_bits: LLRs per RE.
        width: channels of its state.
        depth: blocks.
    """

    content: ClassVar[str] = (
        "LLRs of the front end; received grid per antenna, real parts, then imaginary parts; its channel estimate per "
        "antenna, likewise; its symbol, real and imaginary part (the pilot on pilots), and the symbol's error power (0 "
        "on pilots); the mean error power of the channel estimate; noise-plus-interference power"
    )

    def __init__(self, num_rx: int = 2, num_bits: int = 4, width: int = 24, depth: int = 6) -> None:
        super().__init__(num_features=num_bits + 4 * num_rx + 5, num_bits=num_bits)
        self.num_rx = num_rx
        self.conv_in = nn.Conv2d(self.num_features, width, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(num_rx, width, _DILATIONS[i % len(_DILATIONS)]) for i in range(depth))
        self.conv_out = nn.Conv2d(width + num_findings(num_rx), 2 * num_bits, 1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    @staticmethod
    def features(slots: Slots) -> torch.Tensor:
        """Everything that the front end finds; float32 ``(B, K + 4 R + 5, S, F)`` in the order of :attr:`content`."""
        channel, error_var = robust_estimator(slots.y.shape[-1], str(slots.y.device)).estimate(slots)
        told_var = (slots.noise_var + slots.interference_var)[:, None, None]
        z, z_var = combine(slots.y, channel, told_var + error_var[:, 0])
        llrs = demap(z, z_var, slots.bits_per_symbol, slots.bits.shape[1])
        symbol, symbol_var = soft_symbols(z, z_var, slots.bits_per_symbol)
        symbol = torch.where(slots.is_data, symbol, slots.pilots)
        planes = [symbol.real, symbol.imag, symbol_var * slots.is_data, error_var[:, 0], told_var]
        return torch.cat(
            [
                llrs, slots.y.real, slots.y.imag, channel.real, channel.imag,
                torch.stack([plane.expand(symbol.shape) for plane in planes], 1),
            ], 1,
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k, r = self.num_bits, self.num_rx
        llrs, y, channel, symbol, uncertain, told_var = x.split([k, 2 * r, 2 * r, 2, 2, 1], 1)
        state = self.conv_in(torch.cat([torch.tanh(llrs / 2), y, channel, symbol, uncertain, told_var.log()], 1))
        for block in self.blocks:
            state, channel, symbol = block(state, channel, symbol, y, told_var)
        found = findings(channel, symbol, y, told_var)
        scale, shift = self.conv_out(torch.cat([torch.relu(state), found], 1)).chunk(2, 1)
        return llrs + scale * llrs + shift


class _Block(nn.Module):
    """Compare the estimates with what was received, look around, move the estimates."""

    def __init__(self, num_rx: int, width: int, dilation: tuple[int, int]) -> None:
        super().__init__()
        self.sizes = [width, 2 * num_rx, 2]
        self.compare = nn.Conv2d(width + num_findings(num_rx), width, 1)
        self.look_around = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, groups=width)
        self.move = nn.Conv2d(width, sum(self.sizes), 1)
        with torch.no_grad():  # the estimates stay the front end's until there is a reason to move them
            self.move.weight[width:] = 0
            self.move.bias[width:] = 0  # type: ignore[index]

    def forward(
        self, state: torch.Tensor, channel: torch.Tensor, symbol: torch.Tensor, y: torch.Tensor, var: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = torch.relu(self.compare(torch.cat([state, findings(channel, symbol, y, var)], 1)))
        steps = self.move(torch.relu(self.look_around(x))).split(self.sizes, 1)
        return state + steps[0], channel + steps[1], symbol + steps[2]


def num_findings(num_rx: int) -> int:
    """Channels of :func:`findings` for ``num_rx`` receive antennas."""
    return 2 * num_rx + 6


def findings(channel: torch.Tensor, symbol: torch.Tensor, y: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
    """What a channel h and symbols x say about the received grid, in real numbers.

    Args:
        channel, y: real parts of the R antennas, then imaginary parts, float32 ``(B, 2 R, S, F)``.
        symbol: real and imaginary part, float32 ``(B, 2, S, F)``.
        var: noise-plus-interference power, float32 ``(B, 1, S, F)``.

    Returns:
        float32 ``(B, 2 R + 6, S, F)``: the error ``e_r = y_r - h_r x`` times ``x*`` of each antenna, which is the way
        that least squares would move h; the symbol that LMMSE combining finds, ``sum_r h_r* y_r / (sum_r |h_r|^2 +
        var)``; x; ``var / (sum_r |h_r|^2 + var)``; and ``log sum_r |e_r|^2``, with a floor of -30 dB.
    """
    (y_re, y_im), (h_re, h_im), (x_re, x_im) = y.chunk(2, 1), channel.chunk(2, 1), symbol.chunk(2, 1)
    e_re = y_re - h_re * x_re + h_im * x_im
    e_im = y_im - h_re * x_im - h_im * x_re
    power = (h_re.square() + h_im.square()).sum(1, keepdim=True) + var
    error_power = (e_re.square() + e_im.square()).sum(1, keepdim=True)
    return torch.cat(
        [
            e_re * x_re + e_im * x_im, e_im * x_re - e_re * x_im,
            (h_re * y_re + h_im * y_im).sum(1, keepdim=True) / power,
            (h_re * y_im - h_im * y_re).sum(1, keepdim=True) / power,
            symbol, var / power, torch.log(error_power + 1e-3),
        ], 1,
    )  # fmt: skip
