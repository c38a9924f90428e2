"""Hybrid receivers: a classical receiver detects, and a small network corrects its channel estimate.

The front end is LMMSE channel estimation with a fixed covariance, :func:`receivers.classical.robust_lmmse_estimate`.
It knows the channel near the pilots; far from them a time-varying channel has changed. Detected data symbols can serve
as further pilots, and a better channel estimate detects them better. This follows expectation maximisation (A. P.
Dempster, N. M. Laird, D. B. Rubin, J. Royal Statistical Society B 39(1), 1977).

Each block has two parts. The first detects with the present channel estimate and computes exact posterior means of the
symbols; nothing in it is learned. The second is learned: it updates the channel estimate from the detected symbols. A
channel changes little over half a resource block, so the network sees averages over it and gives one update for it.

The last layers start at zero. So the untrained network computes the LLRs of its front end.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import torch
from torch import nn

from channels import NUM_SYMBOLS, Grid, Slots
from channels.grid import pam_levels
from receivers.base import FormulaCount
from receivers.classical.combining import (
    apply_per_prb,
    debias_covariance,
    mrc_macs,
    per_subcarrier,
    residual_covariance,
    residual_covariance_macs,
    whitening_matrix,
)
from receivers.classical.demapping import demap_elements, demap_macs
from receivers.classical.robust_estimation import robust_lmmse_estimate, robust_lmmse_macs
from receivers.classical.slot_sizes import SlotSizes
from receivers.neural.depthwise_conv import DepthwiseConv2d
from receivers.neural.detection import (
    MIN_GAIN,
    Detection,
    Observation,
    detect,
    em_features,
    levels_by_bit,
    num_em_features,
    pad_bits,
)
from receivers.neural.hybrid_training import training_llrs
from receivers.neural.network import Network
from receivers.neural.symbol_states import SUBCARRIERS_PER_STATE, average_states, interpolate_states
from receivers.noise_power import noise_plus_interference_var

EXPANSION = 3
"""Channels inside a block per channel of the hidden state (inverted bottleneck, arXiv 1801.04381)."""

_DILATIONS = ((1, 1), (2, 1), (3, 2), (1, 1))
"""Dilations over symbols and states; block i uses entry i modulo 4."""

DIRECTION_WEIGHT_UNIT = 2.0
"""Unit of the rounded weights of EM directions. These inputs are smaller than others, so their weights are large."""

MIN_ERROR_VAR = 1e-5
"""Lower limit of the power of the channel estimate's error, so that its logarithm stays finite."""


class HybridNetwork(Network):
    """What hybrids share: the features of the front end, exact detection, and LLRs from it.

    Args:
        num_rx: receive antennas R.
        num_bits: LLRs per RE K, even; LLRs beyond a slot's modulation have no meaning.
    """

    levels: torch.Tensor
    level_indices: torch.Tensor
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format  # most of its time goes to single planes
    needs_resource_blocks: ClassVar[bool] = True
    has_intermediate_llrs: ClassVar[bool] = True

    def __init__(self, num_rx: int, num_bits: int) -> None:
        super().__init__(num_features=4 * num_rx + 6, num_bits=num_bits)
        self.num_rx = num_rx
        self.register_buffer("levels", levels_by_order(num_bits), persistent=False)
        self.register_buffer("level_indices", levels_by_bit(num_bits), persistent=False)

    @staticmethod
    def features(slots: Slots) -> torch.Tensor:
        """Received grid, the front end's channel estimate and side information.

        Args:
            slots: received slots, whole resource blocks.

        Returns:
            float32 ``(B, 4 R + 6, S, F)``: received grid per antenna in white noise, real parts, then imaginary parts;
            the front end's channel estimate, likewise; known symbol, real and imaginary part (0 on data); 1 on data,
            else 0; error power of the channel estimate in its own direction; noise-plus-interference power; bits per
            symbol of the slot.
        """
        y, channel, error_var = front_end(slots)
        pilots = torch.where(slots.is_data, 0, slots.pilots)
        planes = [
            pilots.real,
            pilots.imag,
            slots.is_data,
            error_var[:, 0],
            noise_plus_interference_var(slots)[:, None, None],
            slots.bits_per_symbol[:, None, None],
        ]
        return torch.cat(
            [
                y.real,
                y.imag,
                channel.real,
                channel.imag,
                torch.stack([plane.float().expand(pilots.shape) for plane in planes], 1),
            ],
            1,
        )

    def _detected_bits(self, bits_per_symbol: torch.Tensor) -> int:
        """Bits that the detection of a batch distinguishes; the LLRs of further bits are 0."""
        return self.num_bits

    def _split_features(self, x: torch.Tensor) -> tuple[Observation, torch.Tensor, torch.Tensor]:
        """Observation, channel estimate and logarithm of its error power, from the features."""
        r = (x.shape[1] - 6) // 4
        y, channel, pilots, is_data, error_var, noise_plus_interference_var, order = x.split(
            [2 * r, 2 * r, 2, 1, 1, 1, 1], 1
        )
        bits_per_symbol = order[:, 0, 0, 0].long()
        repetitions = 2 ** ((self.num_bits - self._detected_bits(bits_per_symbol)) // 2)
        levels = self.levels[bits_per_symbol // 2 - 1, ::repetitions][..., None, None]
        span = levels.amax(1, keepdim=True) - levels.amin(1, keepdim=True)
        min_distance = span / (2 ** (order[:, :, :1, :1] / 2) - 1)
        has_symbol = is_data + (pilots != 0).any(1, keepdim=True)
        observation = Observation(
            y, noise_plus_interference_var, pilots, is_data, has_symbol, levels, min_distance.square()
        )
        return observation, channel, error_var.clamp_min(MIN_ERROR_VAR).log()

    def exact_llrs(self, detection: Detection) -> torch.Tensor:
        """Exact LLRs of the detected bits, ``(B, K', S, F)``; they alternate between the two axes (TS 38.211, 5.1)."""
        num_levels = detection.metrics[0].shape[1]
        return torch.cat(
            [
                torch.logsumexp(metric[:, ones], 1, keepdim=True) - torch.logsumexp(metric[:, zeros], 1, keepdim=True)
                for ones, zeros in _index_lists(2 * (num_levels.bit_length() - 1))
                for metric in detection.metrics
            ],
            1,
        )


class Hybrid(HybridNetwork):
    """The hybrid network: features to LLRs ``(B, num_bits, S, F)``, positive meaning 1; F is whole resource blocks.

    It has no batch normalisation, so a slot's LLRs depend on that slot alone, in training too.

    Args:
        num_rx: receive antennas R.
        num_bits: LLRs per RE K, even; LLRs beyond a slot's modulation have no meaning.
        width: channels of the hidden state.
        depth: blocks.

    ``net(x, intermediate=True)`` returns the LLRs, and then the intermediate LLRs: the exact LLRs of the detection
    after each block but the last. Deep supervision in training uses them.

    Example:
        >>> import torch
        >>> from channels import SlotStream, scenario
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2, split="test").block(0)
        >>> net = Hybrid(num_rx=2, num_bits=4, width=4, depth=2)
        >>> features = net.features(slots)
        >>> tuple(features.shape), tuple(net(features).shape)
        ((2, 14, 14, 72), (2, 4, 14, 72))
    """

    def __init__(self, num_rx: int = 2, num_bits: int = 4, width: float = 16, depth: int = 6) -> None:
        super().__init__(num_rx, num_bits)
        self.width = width = int(width)
        self.blocks = nn.ModuleList(self._new_block(_DILATIONS[i % len(_DILATIONS)]) for i in range(depth))
        self.conv_out = nn.Conv2d(width, 2 * num_bits, 1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor, intermediate: bool = False) -> torch.Tensor | tuple[torch.Tensor, ...]:
        observation, channel, log_error = self._split_features(x)
        hidden = self._initial_state(observation)
        if self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            outputs = training_llrs(self, observation, channel, log_error, hidden, intermediate)
            return outputs if intermediate else outputs[0]
        detection = detect(observation, channel, log_error)
        detections = []
        for block in self.blocks:
            features = em_features(observation, channel, log_error, detection)
            updates = block(hidden, average_states(features))
            hidden = hidden + updates[0]
            channel = channel + interpolate_states(updates[1])
            log_error = log_error + interpolate_states(updates[2])
            detection = detect(observation, channel, log_error)
            if intermediate:
                detections.append(detection)
        scale, shift = interpolate_states(self.output(hidden)).chunk(2, 1)
        llrs = self.exact_llrs(detection)
        num_bits = llrs.shape[1]
        llrs = pad_bits(llrs + scale[:, :num_bits] * llrs + shift[:, :num_bits], self.num_bits)
        if not intermediate:
            return llrs
        return llrs, *(pad_bits(self.exact_llrs(detection), self.num_bits) for detection in detections[:-1])

    def formula_count(self, grid: Grid) -> FormulaCount:
        """Operations on one slot outside of the convolutions.

        These are the operations, with R antennas and in complex MACs, of:

        * the channel estimate, :func:`receivers.classical.robust_estimation.robust_lmmse_macs`;
        * white noise: residuals and their covariance as for rejecting interference; ``R^3 / 3`` in each resource block
          for a Cholesky factor and its inverse; ``1.5 (R^2 + R) + R`` per RE for y, the channel and its error;
        * combining and demapping of the first detection, as LMMSE does;
        * combining, per RE and block: ``1.5 R``;
        * soft symbols, per RE and block, with L levels per axis: ``1.75 L + 1`` (square and scale of 2 L distances,
          mean and second moment of both axes, two squared magnitudes), whose exponentials torch counts;
        * EM features, per RE and block: ``3.5 R`` (two products, one with a real number, a squared magnitude, a
          product with the reliability);
        * interpolating ``2 R + 1`` real values between two neighbours, per RE and block: half a complex MAC each;
        * interpolating the last layer's ``2 K`` values and scaling K LLRs, per RE: ``1.25 K``.
        """
        sizes, r, levels = SlotSizes.of(grid), grid.num_rx, 2 ** (self.num_bits // 2)
        estimate = robust_lmmse_macs(grid) + residual_covariance_macs(sizes) + r**3 / 3 * grid.num_prb
        first_detection = mrc_macs(sizes) + demap_macs(sizes, self.num_bits)
        per_block = 1.5 * r + 1.75 * levels + 1 + 3.5 * r + (2 * r + 1) / 2
        per_re = len(self.blocks) * per_block + 1.25 * self.num_bits + 1.5 * (r * r + r) + r
        complex_macs = estimate + first_detection + per_re * NUM_SYMBOLS * grid.num_subcarriers
        return FormulaCount(int(4 * complex_macs), demap_elements(sizes, self.num_bits, "app"))

    def output(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scale and shift of the LLRs per state, ``(B, 2 K, S, F / 6)``, from the hidden state after all blocks."""
        return self.conv_out(torch.relu(hidden[:, : self.width]))

    def _new_block(self, dilation: tuple[int, int]) -> nn.Module:
        return HybridBlock(self.num_rx, self.width, dilation)

    def _initial_state(self, observation: Observation) -> torch.Tensor:
        """Hidden state before the first block, ``(B, width, S, F / 6)``."""
        batch, _, symbols, subcarriers = observation.y.shape
        return observation.y.new_zeros(batch, self.width, symbols, subcarriers // SUBCARRIERS_PER_STATE)


def front_end(slots: Slots) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The classical part of a hybrid: a channel estimate, and whitening of the interference across antennas.

    The covariance of noise and interference comes from the residuals at the pilots of each resource block, as for
    LMMSE-IRC. ``y`` and the channel are multiplied by the inverse of its Cholesky factor.

    Args:
        slots: received slots, whole resource blocks.

    Returns:
        ``y`` and channel after whitening, complex64 ``(B, R, S, F)``; their noise is white, with the given
        noise-plus-interference power, as far as the pilots determine the covariance. Then the error power of the
        channel estimate in its own direction, which is the part that affects combining, float32 ``(B, 1, S, F)``.
    """
    var = noise_plus_interference_var(slots)
    channel, errors = robust_lmmse_estimate(slots)
    covariance = debias_covariance(residual_covariance(slots, channel), errors, var)
    weights = whitening_matrix(covariance, var)
    channel = apply_per_prb(weights, channel)
    gain = channel.abs().square().sum(1).clamp_min(MIN_GAIN)
    white_gain = apply_per_prb(weights.mH, channel).abs().square().sum(1) / gain  # by which weights scale white noise
    passed_noise = errors.gain * var[:, None, None]
    error_var = per_subcarrier(passed_noise) + per_subcarrier(errors.estimation_error_var) * white_gain
    return apply_per_prb(weights, slots.y), channel, error_var[:, None]


class HybridBlock(nn.Module):
    """Inverted bottleneck: from hidden state and EM features to updates of state, channel and its error power."""

    def __init__(self, num_rx: int, width: int, dilation: tuple[int, int]) -> None:
        super().__init__()
        self.sizes = [width, 2 * num_rx, 1]
        inner = EXPANSION * width
        padding = (2 * dilation[0], dilation[1])
        self.expand = nn.Conv2d(width + num_em_features(num_rx), inner, 1)
        unit = torch.ones(1, self.expand.in_channels, 1, 1)
        unit[:, width : width + 4 * num_rx] = DIRECTION_WEIGHT_UNIT
        self.expand.register_buffer("weight_unit", unit, persistent=False)
        self.depthwise = DepthwiseConv2d(inner, inner, (5, 3), padding=padding, dilation=dilation, groups=inner)
        self.project = nn.Conv2d(inner, sum(self.sizes), 1)
        with torch.no_grad():  # the untrained block leaves the front end's channel estimate as it is
            self.project.weight[width:] = 0
            self.project.bias[width:] = 0  # type: ignore[index]

    def forward(self, hidden: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = torch.relu(self.expand(torch.cat([hidden, features], 1)))
        return self.project(torch.relu(self.depthwise(x))).split(self.sizes, 1)


def levels_by_order(num_bits: int) -> torch.Tensor:
    """Levels of one axis by label, float32 ``(K / 2, L)``: row i is for i + 1 bits, whose labels repeat each level.

    So one detector serves all modulations up to K bits. Equal levels share their probability, and a bit that
    distinguishes none has an LLR of 0.
    """
    most = num_bits // 2
    labels = torch.arange(2**most)
    return torch.stack([pam_levels(bits)[0][labels >> (most - bits)] for bits in range(1, most + 1)])


@lru_cache
def _index_lists(num_bits: int) -> list[tuple[list[int], list[int]]]:
    return [(ones.tolist(), zeros.tolist()) for ones, zeros in levels_by_bit(num_bits)]


def check_size(width: float, depth: int) -> None:
    """Check that a hybrid of this width and depth exists.

    Raises:
        ValueError: if not.
    """
    if not 2 <= width <= 128 or not width.is_integer():
        raise ValueError(f"width {width:g} is not a whole number of channels in 2..128")
    if not 1 <= depth <= 32:
        raise ValueError(f"depth {depth} is outside 1..32 blocks")
