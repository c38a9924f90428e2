"""Recurrent hybrids: a hybrid whose network goes from symbol to symbol, like a Kalman filter with learned gains.

A :class:`~receivers.neural.hybrid.Hybrid` detects all symbols of a slot at once. With one pilot symbol, each of its
blocks carries knowledge of the channel only a few symbols further. A filter carries it through the whole slot with one
detection per symbol: it predicts the channel of the next symbol, detects it, and corrects the prediction. So a pass
over the slot takes the place of a block. The first pass goes forwards in time, the next one backwards from the end of
the slot, as a smoother does, and so on.

::

    channel of the last symbol --> prediction --> exact detection --> gains --> channel of this symbol --> ...
                                                        ^               |
                                     scalars, memory -> small network --+

The gains come from a small network, as in KalmanNet (G. Revach et al., IEEE Trans. Signal Processing 70, 2022,
2107.10043). Here it sees real numbers that do not depend on the phase of the channel: reliabilities, logarithms of
powers, and its own memory. Its gains weight vectors over the antennas, and all real and imaginary parts share a gain.
So the same weights serve any phase and any number of antennas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from channels import NUM_SYMBOLS, Grid
from receivers.base import FormulaCount
from receivers.classical.combining import mrc_macs, residual_covariance_macs
from receivers.classical.demapping import demap_elements, demap_macs
from receivers.classical.robust_estimation import robust_lmmse_macs
from receivers.classical.slot_sizes import SlotSizes
from receivers.neural.detection import LOG_SCALE, Observation, detect, em_features, pad_bits
from receivers.neural.hybrid import HybridNetwork
from receivers.neural.hybrid_training import TrainingSymbols
from receivers.neural.symbol_states import SUBCARRIERS_PER_STATE, Symbols, average_states

NUM_MEMORIES = 6
"""Numbers that the network of a pass remembers from symbol to symbol, per state."""

NUM_TREND_VECTORS = 2
"""Vectors that a pass remembers, per state. The first one changes its sign where the direction of time changes."""

NUM_VECTORS = 6 + NUM_TREND_VECTORS
"""Vectors that the gains weight, see :meth:`FilterPass.forward`."""

NUM_SCALARS = 6
"""EM features that antennas share."""

_EXCESS = 4
"""Index of the logarithm of the error power of ``y`` among these scalars. This power is a sum over antennas."""

NUM_POWERS = 4
"""Vectors whose power the network sees."""

_NUM_CORRECTIONS = 1 + NUM_TREND_VECTORS
_NUM_PREDICTIONS = 2 + NUM_TREND_VECTORS
_OUTPUTS = [_NUM_CORRECTIONS * NUM_VECTORS, _NUM_PREDICTIONS, 1, 1, NUM_MEMORIES]

MIN_POWER = 1e-5
"""Added to the powers of vectors, so that their logarithms stay finite."""

POWER_SCALE = 0.15
"""Factor of the logarithms of these powers."""


class Carry(NamedTuple):
    """What a pass knows when it comes to a symbol.

    Attributes:
        memory: of the network, float32 ``(B, 6, 1, F / 6)``.
        trends: vectors that it remembers, ``(B, 2, 2 R, F / 6)``.
        change: by how much this pass changed the channel of the last symbol, ``(B, 1, 2 R, F / 6)``.
        channel: of the last symbol; none at the first.
        prediction: gains of the prediction, ``(B, 4, 1, F / 6)``.
        log_error: predicted change of the logarithm of the error power, ``(B, 1, 1, F / 6)``.
    """

    memory: torch.Tensor
    trends: torch.Tensor
    change: torch.Tensor
    channel: torch.Tensor | None
    prediction: torch.Tensor
    log_error: torch.Tensor

    @classmethod
    def start(cls, channel: torch.Tensor) -> Carry:
        """Before the first symbol of a slot whose symbols have a channel like ``channel``, ``(B, 1, 2 R, F / 6)``."""
        vector = 0 * channel  # in an exported graph, its size stays free
        scalar = vector[:, :, :1]
        return cls(
            memory=torch.cat([scalar] * NUM_MEMORIES, 1),
            trends=torch.cat([vector] * NUM_TREND_VECTORS, 1),
            change=vector,
            channel=None,
            prediction=torch.cat([scalar] * _NUM_PREDICTIONS, 1),
            log_error=scalar,
        )

    def reversed(self) -> Carry:
        """Before the first symbol of the next pass, in the other direction."""
        return self._replace(
            trends=torch.cat([-self.trends[:, :1], self.trends[:, 1:]], 1),
            change=0 * self.change,
            channel=None,
            prediction=0 * self.prediction,
            log_error=0 * self.log_error,
        )


class RecurrentHybrid(HybridNetwork):
    """The recurrent hybrid network: features to LLRs ``(B, num_bits, S, F)``; F is whole resource blocks.

    Args:
        num_rx: receive antennas R. The weights do not depend on it.
        num_bits: LLRs per RE K, even; LLRs beyond a slot's modulation have no meaning.
        width: inner channels of the network of a pass.
        depth: passes. Each has its own weights.

    ``net(x, intermediate=True)`` returns the LLRs, and then the intermediate LLRs after each pass but the last.

    Example:
        >>> import torch
        >>> from channels import SlotStream, scenario
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2, split="test").block(0)
        >>> net = RecurrentHybrid(num_rx=2, num_bits=4, width=10, depth=3)
        >>> tuple(net(net.features(slots)).shape), sum(p.numel() for p in net.parameters())
        ((2, 4, 14, 72), 1926)
    """

    takes_any_num_rx: ClassVar[bool] = True

    def __init__(self, num_rx: int = 2, num_bits: int = 4, width: float = 10, depth: int = 3) -> None:
        super().__init__(num_rx, num_bits)
        self.width = int(width)
        self.sweeps = nn.ModuleList(FilterPass(self.width) for _ in range(depth))  # weight files have this name

    def input_channels(self, num_rx: int) -> int:
        return 4 * num_rx + 6

    def forward(self, x: torch.Tensor, intermediate: bool = False) -> torch.Tensor | tuple[torch.Tensor, ...]:
        observation, channel, log_error = self._split_features(x)
        symbols: Symbols
        if self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            symbols = TrainingSymbols(observation, channel, log_error, self.level_indices)
        else:
            symbols = _InferenceSymbols(self, observation, channel, log_error)
        outputs = run_passes(self.sweeps, symbols, intermediate)
        outputs = [pad_bits(llrs, self.num_bits) for llrs in outputs]
        return (outputs[-1], *outputs[:-1]) if intermediate else outputs[-1]

    def formula_count(self, grid: Grid) -> FormulaCount:
        """Operations on one slot outside of the convolutions.

        Front end, detections and interpolation are those of :meth:`receivers.neural.hybrid.Hybrid.formula_count`, with
        a pass in place of a block, but the network has no scales and shifts of LLRs. In addition there are, per state,
        symbol and pass, in real MACs: ``2 R`` for each product of a gain and a vector, and for each power of a vector,
        and one for each memory.
        """
        sizes, r, levels, depth = SlotSizes.of(grid), grid.num_rx, 2 ** (self.num_bits // 2), len(self.sweeps)
        estimate = robust_lmmse_macs(grid) + residual_covariance_macs(sizes) + r**3 / 3 * grid.num_prb
        first_detection = mrc_macs(sizes) + demap_macs(sizes, self.num_bits)
        interpolation = (2 * r + 1) / 2
        per_pass = 1.5 * r + 1.75 * levels + 1 + 3.5 * r + interpolation
        per_re = depth * per_pass + interpolation + 1.5 * (r * r + r) + r
        num_res = NUM_SYMBOLS * grid.num_subcarriers
        products = 2 * r * (_NUM_CORRECTIONS * NUM_VECTORS + _NUM_PREDICTIONS + NUM_POWERS) + NUM_MEMORIES
        of_passes = depth * products * num_res / SUBCARRIERS_PER_STATE
        macs = int(4 * (estimate + first_detection + per_re * num_res) + of_passes)
        return FormulaCount(macs, demap_elements(sizes, self.num_bits, "app"))


def run_passes(passes: Iterable[nn.Module], symbols: Symbols, intermediate: bool = False) -> list[torch.Tensor]:
    """Correct the channel of all symbols by passes in alternating directions.

    Args:
        passes: in the order of time.
        symbols: of the slots.
        intermediate: whether to return the LLRs after each pass, not only after the last one.

    Returns:
        LLRs, float32 ``(B, K, S, F)`` each; those after the last pass are the last ones.
    """
    zeros = 0 * symbols.channel[0]
    channels, log_errors = [zeros] * NUM_SYMBOLS, [zeros[:, :, :1]] * NUM_SYMBOLS
    carry, outputs, passes = Carry.start(zeros), [], list(passes)
    for index, filter_pass in enumerate(passes):
        order = list(range(NUM_SYMBOLS))[:: -1 if index % 2 else 1]
        carry = carry.reversed() if index else carry
        for symbol, following in zip(order, [*order[1:], order[-1]], strict=True):
            next_log_error = symbols.log_error[following] + log_errors[following]
            channels[symbol], log_errors[symbol], carry = filter_pass(
                symbols, symbol, channels[symbol], log_errors[symbol], next_log_error, carry
            )
        if intermediate or index + 1 == len(passes):
            outputs.append(symbols.llrs(torch.cat(channels, 1), torch.cat(log_errors, 1)))
    return outputs


class _InferenceSymbols(Symbols):
    """The symbols of a slot in the operators of a hybrid's inference."""

    def __init__(
        self, net: RecurrentHybrid, observation: Observation, channel: torch.Tensor, log_error: torch.Tensor
    ) -> None:
        super().__init__(channel, log_error)
        self._net, self._observation = net, observation

    def _features_with(self, symbol: int, channel: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
        observation = self._observation.of_symbol(symbol)
        return average_states(em_features(observation, channel, log_error, detect(observation, channel, log_error)))

    def _llrs_with(self, channel: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
        return self._net.exact_llrs(detect(self._observation, channel, log_error))


class FilterPass(nn.Module):
    """One pass of the filter over the symbols of a slot, symbol by symbol.

    Args:
        width: inner channels of its network.
    """

    is_excess: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(NUM_SCALARS + 2 + NUM_POWERS + NUM_MEMORIES, width, 1)
        self.depthwise = nn.Conv2d(width, width, (1, 3), padding=(0, 1), groups=width)
        self.project = nn.Conv2d(width, sum(_OUTPUTS), 1)
        self.smoothing = nn.Conv2d(1, 1, (1, 5), bias=False)
        self.neighbours = nn.Conv2d(1, 1, (1, 5), bias=False)
        self.decay = nn.Parameter(torch.full((NUM_MEMORIES, 1, 1), 0.8))
        is_excess = torch.arange(NUM_SCALARS) == _EXCESS
        self.register_buffer("is_excess", is_excess.float()[:, None, None], persistent=False)
        self._set_filter()

    @torch.no_grad()
    def _set_filter(self) -> None:
        """Initial weights: about those of a filter whose gains are fixed, so that training starts from tracking."""
        self.smoothing.weight[:] = torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1])
        self.neighbours.weight[:] = torch.tensor([0.1, 0.4, 0.0, 0.4, 0.1])
        self.project.weight *= 0.3
        bias = self.project.bias
        assert bias is not None
        bias.zero_()
        corrections = bias[: _OUTPUTS[0]].view(_NUM_CORRECTIONS, NUM_VECTORS)
        corrections[0, 1:3] = torch.tensor([0.2, 0.3])
        corrections[1, 2], corrections[1, 4] = 0.1, 0.9
        bias[_OUTPUTS[0]] = bias[_OUTPUTS[0] + 2] = 0.7

    def forward(
        self,
        symbols: Symbols,
        symbol: int,
        channel: torch.Tensor,
        log_error: torch.Tensor,
        next_log_error: torch.Tensor,
        carry: Carry,
    ) -> tuple[torch.Tensor, torch.Tensor, Carry]:
        """Predict, detect and correct one symbol.

        The gains weight these vectors: the EM direction; the same times the reliability; the latter, smoothed over
        states; the difference of the prediction from its neighbours; the trends; the change of the last symbol; the
        difference of the estimate so far from the prediction.

        Args:
            symbols: of the slot.
            symbol: number of this one.
            channel, log_error: its corrections before this pass, ``(B, 1, 2 R, F / 6)`` and ``(B, 1, 1, F / 6)``.
            next_log_error: logarithm of the error power of the estimate of the symbol that follows.
            carry: from the last symbol.

        Returns:
            Its corrections after this pass, and what goes on to the next symbol.
        """
        present = symbols.channel[symbol] + channel
        distance = 0 * present if carry.channel is None else carry.channel - present
        knowledge = torch.cat([carry.change, distance, carry.trends], 1)
        step = (carry.prediction * knowledge).sum(1, keepdim=True)
        predicted, predicted_log_error = present + step, log_error + carry.log_error
        features = symbols.features(symbol, channel + step, predicted_log_error)
        size = present.shape[2]
        direction, reliable, scalars = features.split([size, size, NUM_SCALARS], 1)
        direction, reliable = direction.transpose(1, 2), reliable.transpose(1, 2)
        smooth, reliability = self.smoothing(_with_edges(torch.cat([reliable, scalars[:, :1]], 2))).split([size, 1], 2)
        roughness = self.neighbours(_with_edges(predicted)) - predicted
        vectors = torch.cat([direction, reliable, smooth, roughness, carry.trends, carry.change, -step], 1)
        powers = torch.cat([smooth, roughness, step, carry.trends[:, :1]], 1).square().mean(2, keepdim=True)
        inputs = [
            torch.sub(scalars, self.is_excess, alpha=LOG_SCALE * math.log(size / 2)),  # a mean over antennas
            reliability,
            LOG_SCALE * next_log_error,
            POWER_SCALE * (powers + MIN_POWER).log(),
            carry.memory,
        ]
        x = torch.relu(self.depthwise(torch.relu(self.expand(torch.cat(inputs, 1)))))
        gains, prediction, error_update, error_step, memory = self.project(x).split(_OUTPUTS, 1)
        gains = gains.unflatten(1, (_NUM_CORRECTIONS, NUM_VECTORS))
        update, trends = (gains * vectors[:, None]).sum(2).split([1, NUM_TREND_VECTORS], 1)
        change = step + update
        following = Carry(
            memory=self.decay * carry.memory + memory,
            trends=trends,
            change=change,
            channel=present + change,
            prediction=prediction,
            log_error=error_step,
        )
        return channel + change, predicted_log_error + error_update, following


def _with_edges(x: torch.Tensor) -> torch.Tensor:
    """States with two more on both sides, which are equal to the outer ones."""
    return torch.cat([x[..., :1], x[..., :1], x, x[..., -1:], x[..., -1:]], -1)


def check_size(width: float, depth: int) -> None:
    """Check that a recurrent hybrid of this width and depth exists.

    Raises:
        ValueError: if not.
    """
    if not 2 <= width <= 128 or not width.is_integer():
        raise ValueError(f"width {width:g} is not a whole number of channels in 2..128")
    if not 1 <= depth <= 8:
        raise ValueError(f"depth {depth} is outside 1..8 passes")
