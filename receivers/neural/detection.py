"""Detection with a channel estimate, and the features from which a hybrid improves the estimate.

Everything is exact and in real numbers: maximum-ratio combining, the posterior of each axis of a square constellation,
and the direction in which expectation maximisation moves the channel estimate.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch.nn.functional import pad

from channels.grid import pam_levels

MIN_GAIN = 1e-4
MIN_VAR = 1e-4
MIN_EXCESS = 1e-3
"""Lower limits of powers, so that logarithms and quotients stay finite. ``MIN_EXCESS`` takes effect above 30 dB SINR,
and only in the features of the network."""

LOG_ERROR_RANGE = (-12.0, 3.0)
"""Limits of the logarithm of the channel estimate's error power in detection."""

LOG_SCALE = 0.3
"""Factor of the logarithms among the features."""

CERTAINTY = 8.0
"""The reliability of a symbol is ``exp(-CERTAINTY v / d^2)`` with posterior variance v and distance d of levels."""


class Observation(NamedTuple):
    """Inputs of the detector that are the same for all blocks, in real numbers.

    Attributes:
        y: received grid, real parts of the R antennas, then imaginary parts, float32 ``(B, 2 R, S, F)``.
        noise_plus_interference_var: noise-plus-interference power, float32 ``(B, 1, S, F)``.
        pilots: known symbols, real and imaginary part, 0 on data, float32 ``(B, 2, S, F)``.
        is_data: 1 on data, else 0, float32 ``(B, 1, S, F)``.
        has_symbol: 1 where a symbol was sent, else 0, float32 ``(B, 1, S, F)``.
        levels: each slot's PAM levels in the order of their labels, float32 ``(B, L, 1, 1)``.
        square_distance: squared distance of neighbouring levels, float32 ``(B, 1, 1, 1)``.
    """

    y: torch.Tensor
    noise_plus_interference_var: torch.Tensor
    pilots: torch.Tensor
    is_data: torch.Tensor
    has_symbol: torch.Tensor
    levels: torch.Tensor
    square_distance: torch.Tensor

    def of_symbol(self, symbol: int) -> Observation:
        """The observation of one symbol of the slot."""
        part = slice(symbol, symbol + 1)
        return self._replace(
            y=self.y[:, :, part],
            noise_plus_interference_var=self.noise_plus_interference_var[:, :, part],
            pilots=self.pilots[:, :, part],
            is_data=self.is_data[:, :, part],
            has_symbol=self.has_symbol[:, :, part],
        )


class Detection(NamedTuple):
    """Symbol estimates of one channel estimate.

    Attributes:
        var: error power of the symbol estimate, float32 ``(B, 1, S, F)``.
        metrics: log-probabilities of the levels of both axes, up to a constant each, float32 ``(B, L, S, F)``.
    """

    var: torch.Tensor
    metrics: tuple[torch.Tensor, torch.Tensor]


def detect(observation: Observation, channel: torch.Tensor, log_error: torch.Tensor) -> Detection:
    """:func:`receivers.classical.mrc` in real numbers, and the distances to the levels.

    Args:
        observation: received grid and side information.
        channel: estimate h, laid out as ``observation.y``.
        log_error: logarithm of the estimate's error power, float32 ``(B, 1, S, F)``.
    """
    (y_re, y_im), (h_re, h_im) = observation.y.chunk(2, 1), channel.chunk(2, 1)
    gain = (h_re.square() + h_im.square()).sum(1, keepdim=True).clamp_min(MIN_GAIN)
    z_re = (h_re * y_re + h_im * y_im).sum(1, keepdim=True) / gain
    z_im = (h_re * y_im - h_im * y_re).sum(1, keepdim=True) / gain
    var = ((observation.noise_plus_interference_var + log_error.clamp(*LOG_ERROR_RANGE).exp()) / gain).clamp_min(
        MIN_VAR
    )
    return Detection(var, (-(z_re - observation.levels).square() / var, -(z_im - observation.levels).square() / var))


@lru_cache
def levels_by_bit(num_bits: int) -> torch.Tensor:
    """Indices of the levels of one axis where each of its bits is 1, then where it is 0, by the order of labels.

    Args:
        num_bits: of a QAM symbol, K.

    Returns:
        int64 ``(K / 2, 2, L / 2)``.
    """
    bits = pam_levels(num_bits // 2)[1].T
    return torch.stack([torch.stack([(bit == 1).nonzero()[:, 0], (bit == 0).nonzero()[:, 0]]) for bit in bits])


def pad_bits(llrs: torch.Tensor, num_bits: int) -> torch.Tensor:
    """LLRs ``(B, K', S, F)`` with LLRs of 0 for further bits, ``(B, num_bits, S, F)``."""
    missing = num_bits - llrs.shape[1]
    return pad(llrs, (0, 0, 0, 0, 0, missing)) if missing else llrs


def num_em_features(num_rx: int) -> int:
    """Channels of :func:`em_features` for ``num_rx`` receive antennas."""
    return 4 * num_rx + 6


def em_features(
    observation: Observation, channel: torch.Tensor, log_error: torch.Tensor, detection: Detection
) -> torch.Tensor:
    """Features of the EM update of the channel, from symbols detected with the channel estimate h.

    Each symbol has posterior mean x and variance v given ``y`` and h (the known symbol and 0 off data). Each antenna
    has the error ``e_r = y_r - h_r x``.

    Args:
        observation: received grid and side information.
        channel, log_error: as for :func:`detect`.
        detection: detected with this channel.

    Returns:
        float32 ``(B, 4 R + 6, S, F)``:

        * ``e_r x* - h_r v``, the direction in which expectation maximisation moves h, real parts, then imaginary parts;
        * the same times the reliability;
        * the reliability: 1 for a symbol that is certain, less with larger v over the squared distance of neighbouring
          symbols, 0 for an RE without a symbol;
        * ``v`` and ``|x|^2``;
        * logarithms of three error powers: of the symbol estimate, of ``y`` relative to the given power, and of the
          channel.
    """
    levels = observation.levels
    posteriors = [torch.softmax(metric, 1) for metric in detection.metrics]
    mean = torch.cat([(p * levels).sum(1, keepdim=True) for p in posteriors], 1)
    square = ((posteriors[0] + posteriors[1]) * levels.square()).sum(1, keepdim=True)
    x = observation.is_data * mean + observation.pilots
    v = observation.is_data * (square - mean.square().sum(1, keepdim=True))
    (y_re, y_im), (h_re, h_im), (x_re, x_im) = observation.y.chunk(2, 1), channel.chunk(2, 1), x.chunk(2, 1)
    e_re = y_re - h_re * x_re + h_im * x_im
    e_im = y_im - h_re * x_im - h_im * x_re
    direction = torch.cat([e_re * x_re + e_im * x_im - h_re * v, e_im * x_re - e_re * x_im - h_im * v], 1)
    reliability = observation.has_symbol * torch.exp(-CERTAINTY * v / observation.square_distance)
    error = (e_re.square() + e_im.square()).sum(1, keepdim=True)
    excess = (error + MIN_EXCESS) / observation.noise_plus_interference_var.clamp_min(MIN_EXCESS)
    logs = LOG_SCALE * torch.cat([detection.var.log(), excess.log(), log_error], 1)
    return torch.cat([direction, direction * reliability, reliability, v, x.square().sum(1, keepdim=True), logs], 1)
