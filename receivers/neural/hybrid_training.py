"""The forward pass of a hybrid for training: the same LLRs as in inference, with gradients in closed form.

A block of a hybrid has little to multiply and much to detect. Automatic differentiation records about a hundred small
operations per block. Here a block's detection is one operation whose gradient is written out.

Resource elements are held as ``(6, S, F / 6)``: the subcarriers of a state come first. Means over a state, and
interpolation between states, then need no strided memory access.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from receivers.neural.detection import (
    CERTAINTY,
    LOG_ERROR_RANGE,
    LOG_SCALE,
    MIN_EXCESS,
    MIN_GAIN,
    MIN_VAR,
    Observation,
    levels_by_bit,
    pad_bits,
)
from receivers.neural.symbol_states import SUBCARRIERS_PER_STATE, Symbols

if TYPE_CHECKING:
    from receivers.neural.hybrid import Hybrid


def training_llrs(
    net: Hybrid,
    observation: Observation,
    channel: torch.Tensor,
    log_error: torch.Tensor,
    hidden: torch.Tensor,
    intermediate: bool,
) -> tuple[torch.Tensor, ...]:
    """LLRs of a hybrid, and its intermediate LLRs if asked for.

    Args:
        net: the network.
        observation: received grid and side information.
        channel, log_error: the front end's estimate and the logarithm of its error power, see
            :func:`receivers.neural.detection.detect`.
        hidden: hidden state before the first block.
        intermediate: whether to return the LLRs after each block but the last, too.

    Returns:
        float32 ``(B, K, S, F)`` each.
    """
    num_bits = 2 * (observation.levels.shape[1].bit_length() - 1)
    is_highest = num_bits == net.num_bits
    inputs = _Inputs.of(observation, net.level_indices if is_highest else levels_by_bit(num_bits))
    channel, log_error = _split_states(channel), _split_states(log_error)
    hidden = hidden.to(memory_format=torch.channels_last)
    detections = []
    for index, block in enumerate(net.blocks):
        with_llrs = intermediate and index > 0
        features, llrs = _Detection.apply(channel, log_error, inputs, True, with_llrs)
        if with_llrs:
            detections.append(llrs)
        state_update, *updates = block(hidden, features.contiguous(memory_format=torch.channels_last))
        hidden = hidden + state_update
        channel, log_error = (
            x + _interpolate(u.to(x.dtype).contiguous()) for x, u in zip((channel, log_error), updates, strict=True)
        )
    _, llrs = _Detection.apply(channel, log_error, inputs, False, True)
    scale, shift = _interpolate(net.output(hidden).to(llrs.dtype).contiguous()).chunk(2, 1)
    llrs = torch.addcmul(llrs, scale[:, :num_bits], llrs) + shift[:, :num_bits]
    return tuple(pad_bits(_join_states(x), net.num_bits) for x in (llrs, *detections))


class TrainingSymbols(Symbols):
    """The symbols of a slot for a recurrent hybrid, with gradients in closed form.

    Args:
        observation: received grid and side information.
        channel, log_error: the front end's estimate and the logarithm of its error power.
        level_indices: of levels by bit and value, see :func:`receivers.neural.detection.levels_by_bit`.
    """

    def __init__(
        self,
        observation: Observation,
        channel: torch.Tensor,
        log_error: torch.Tensor,
        level_indices: torch.Tensor,
    ) -> None:
        super().__init__(_split_states(channel), _split_states(log_error))
        self._inputs = _Inputs.of(observation, level_indices)
        self._inputs_of_symbol = [self._inputs.of_symbol(symbol) for symbol in range(channel.shape[2])]

    def _average(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(2)

    def _interpolate(self, states: torch.Tensor) -> torch.Tensor:
        return _interpolate(states)

    def _features_with(self, symbol: int, channel: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
        features, _ = _Detection.apply(channel, log_error, self._inputs_of_symbol[symbol], True, False)
        return features

    def _llrs_with(self, channel: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
        _, llrs = _Detection.apply(channel, log_error, self._inputs, False, True)
        return _join_states(llrs)


def _split_states(x: torch.Tensor) -> torch.Tensor:
    """From ``(B, C, S, F)`` to ``(B, C, 6, S, F / 6)``."""
    return x.unflatten(-1, (-1, SUBCARRIERS_PER_STATE)).permute(0, 1, 4, 2, 3).contiguous()


def _join_states(x: torch.Tensor) -> torch.Tensor:
    """From ``(B, C, 6, S, F / 6)`` to ``(B, C, S, F)``."""
    return x.permute(0, 1, 3, 4, 2).flatten(-2)


def _interpolate(states: torch.Tensor) -> torch.Tensor:
    """From states ``(B, C, S, F / 6)`` to ``(B, C, 6, S, F / 6)``, by linear interpolation over subcarriers."""
    half = SUBCARRIERS_PER_STATE // 2
    before = torch.cat([states[..., :1], states[..., :-1]], -1)
    after = torch.cat([states[..., 1:], states[..., -1:]], -1)
    slopes = torch.stack([states - before, after - states], 2)[:, :, :, None]
    offsets = (torch.arange(2 * half, device=states.device, dtype=states.dtype) + 0.5 - half) / (2 * half)
    return torch.addcmul(states[:, :, None, None], slopes, offsets.view(2, half, 1, 1)).flatten(2, 3)


class _Inputs(NamedTuple):
    """The observation as the training pass needs it. Grids are ``(B, C, 6, S, F / 6)``.

    Attributes:
        y: real and imaginary parts of ``y``, then of ``-j y``, float32 ``(B, 2, 2 R, ...)``.
        y_power: ``|y|^2`` over the antennas, ``(B, 1, ...)``.
        noise_plus_interference_var, pilots, is_data, has_symbol: as in :class:`Observation`.
        levels: each slot's levels, ``(B, 1, L, 1, 1, 1)``.
        square_distance: ``(B, 1, 1, 1, 1)``.
        sets: for each bit the indices of the levels where it is 1, then where it is 0, ``(K L / 2,)``.
        set_of_level: for each bit and level, the number of its set ``2 bit + (bit is 0)``, ``(K L / 2,)``.
        signs: 1 where a level's bit is 1, else -1, ``(K / 2, L, 1, 1, 1)``.
    """

    y: torch.Tensor
    y_power: torch.Tensor
    noise_plus_interference_var: torch.Tensor
    pilots: torch.Tensor
    is_data: torch.Tensor
    has_symbol: torch.Tensor
    levels: torch.Tensor
    square_distance: torch.Tensor
    sets: torch.Tensor
    set_of_level: torch.Tensor
    signs: torch.Tensor

    @classmethod
    def of(cls, observation: Observation, level_indices: torch.Tensor) -> _Inputs:
        """From the observation and the indices of levels by bit and value, int64 ``(K / 2, 2, L / 2)``."""
        y = _split_states(observation.y)
        re, im = y.chunk(2, 1)
        num_bits, _, half = level_indices.shape
        is_one = torch.zeros(num_bits, 2 * half, dtype=torch.bool, device=y.device).scatter_(
            1, level_indices[:, 0], True
        )
        first = 2 * torch.arange(num_bits, device=y.device)[:, None]
        return cls(
            y=torch.stack([y, torch.cat([im, -re], 1)], 1),
            y_power=y.square().sum(1, keepdim=True),
            noise_plus_interference_var=_split_states(observation.noise_plus_interference_var),
            pilots=_split_states(observation.pilots),
            is_data=_split_states(observation.is_data),
            has_symbol=_split_states(observation.has_symbol),
            levels=observation.levels[:, None, :, :, :, None],
            square_distance=observation.square_distance[..., None],
            sets=level_indices.flatten(),
            set_of_level=(first + ~is_one).flatten(),
            signs=(2.0 * is_one - 1)[:, :, None, None, None],
        )

    def of_symbol(self, symbol: int) -> _Inputs:
        """The inputs of one symbol of the slot."""
        part = slice(symbol, symbol + 1)
        return self._replace(
            y=self.y[..., part, :],
            y_power=self.y_power[..., part, :],
            noise_plus_interference_var=self.noise_plus_interference_var[..., part, :],
            pilots=self.pilots[..., part, :],
            is_data=self.is_data[..., part, :],
            has_symbol=self.has_symbol[..., part, :],
        )


class _Detection(torch.autograd.Function):
    """Detection with a channel estimate: EM features averaged over states, and LLRs. See :class:`_Symbols`."""

    @staticmethod
    def forward(
        ctx: Any,
        channel: torch.Tensor,
        log_error: torch.Tensor,
        inputs: _Inputs,
        with_features: bool,
        with_llrs: bool,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        ctx.symbols = _Symbols(inputs, channel, log_error)
        features = ctx.symbols.features() if with_features else None
        return features, ctx.symbols.llrs() if with_llrs else None

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, features_grad: torch.Tensor | None, llrs_grad: torch.Tensor | None) -> tuple[Any, ...]:
        return (*ctx.symbols.gradients(features_grad, llrs_grad), None, None, None)


class _Gradients(NamedTuple):
    """Gradients of the features that do not pass through the metrics: of h, ``h^H y``, ``|h|^2``, w and log_error."""

    channel: torch.Tensor | float
    product: torch.Tensor | float
    power: torch.Tensor | float
    var: torch.Tensor | float
    log_error: torch.Tensor | float


_NO_GRADIENTS = _Gradients(0.0, 0.0, 0.0, 0.0, 0.0)


class _Symbols:
    """Symbols detected with a channel estimate h, and the gradients of what follows from them.

    Symbols, error powers and features are those of :mod:`receivers.neural.detection`. Both axes of the constellation
    have metrics ``m = -(z - level)^2 / w``, where z is the combined symbol and w its error power.

    Args:
        inputs: received grid and side information.
        channel: h, float32 ``(B, 2 R, ...)``.
        log_error: logarithm of its error power, ``(B, 1, ...)``.
    """

    def __init__(self, inputs: _Inputs, channel: torch.Tensor, log_error: torch.Tensor) -> None:
        self._inputs, self._channel, self._log_error = inputs, channel, log_error
        self._product = (inputs.y * channel[:, None]).sum(2)  # h^H y
        self._power = channel.square().sum(1, keepdim=True)
        self._gain = self._power.clamp_min(MIN_GAIN)
        self._z = self._product / self._gain
        self._error_var = log_error.clamp(*LOG_ERROR_RANGE).exp_()
        self._var = ((inputs.noise_plus_interference_var + self._error_var) / self._gain).clamp_min_(MIN_VAR)
        self._metrics = (self._z[:, :, None] - inputs.levels).square_().div_(-self._var[:, :, None])

    def llrs(self) -> torch.Tensor:
        """Exact LLRs, ``(B, K, ...)``; bits alternate between the two axes (TS 38.211, 5.1)."""
        num_bits, num_levels = self._inputs.signs.shape[:2]
        sums = self._metrics.index_select(2, self._inputs.sets).unflatten(2, (2 * num_bits, num_levels // 2))
        while sums.shape[3] > 1:
            sums = torch.logaddexp(*sums.chunk(2, 3))
        self._set_sums = sums.squeeze(3)  # of the levels where a bit is 1, then where it is 0, for each bit
        ones, zeros = self._set_sums[:, :, 0::2], self._set_sums[:, :, 1::2]
        return (ones - zeros).transpose(1, 2).flatten(1, 2)

    def features(self) -> torch.Tensor:
        """EM features, ``(B, 4 R + 6, S, F / 6)``."""
        inputs, h = self._inputs, self._channel
        self._posterior = torch.softmax(self._metrics, 2)
        weighted = self._posterior * inputs.levels
        self._mean = weighted.sum(2)
        self._square = weighted.mul_(inputs.levels).sum(2)
        self._x = torch.addcmul(inputs.pilots, self._mean, inputs.is_data)
        self._x_power = self._x.square().sum(1, keepdim=True)
        pilot_power = inputs.pilots.square().sum(1, keepdim=True)
        self._moment = torch.addcmul(pilot_power, self._square.sum(1, keepdim=True), inputs.is_data)  # |x|^2 + v
        v = self._moment - self._x_power
        self._direction = (inputs.y * self._x[:, :, None]).sum(1).addcmul_(h, self._moment, value=-1)
        self._reliability = (v * (-CERTAINTY / inputs.square_distance)).exp_().mul_(inputs.has_symbol)
        correlation = (self._x * self._product).sum(1, keepdim=True)
        error = torch.addcmul(inputs.y_power, self._power, self._x_power).sub_(correlation, alpha=2)  # |y - h x|^2
        self._error = error.clamp_min_(0).add_(MIN_EXCESS)
        excess = self._error / inputs.noise_plus_interference_var.clamp_min(MIN_EXCESS)
        logs = torch.cat([self._var, excess], 1).log_()
        scalars = torch.cat([self._reliability, v, self._x_power, logs, self._log_error], 1).mean(2)
        scalars[:, 3:] *= LOG_SCALE
        return torch.cat([self._direction.mean(2), (self._direction * self._reliability).mean(2), scalars], 1)

    def gradients(
        self, features_grad: torch.Tensor | None, llrs_grad: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of channel and log_error from those of features and LLRs."""
        metrics_grad, center, begin = torch.zeros_like(self._metrics), self._z, _NO_GRADIENTS
        if features_grad is not None:
            begin, mean_grad, square_grad = self._feature_gradients(features_grad / SUBCARRIERS_PER_STATE)
            levels, center = self._inputs.levels, self._mean
            metrics_grad = torch.addcmul(
                (levels.square() - self._square[:, :, None]) * square_grad[:, :, None],
                levels - self._mean[:, :, None],
                mean_grad[:, :, None],
            ).mul_(self._posterior)
        if llrs_grad is not None:
            metrics_grad += self._llr_gradients(llrs_grad)
        return self._detection_gradients(metrics_grad, center, begin)

    def _llr_gradients(self, llrs_grad: torch.Tensor) -> torch.Tensor:
        """Gradients of the metrics: a level's probability among the levels with the same bit."""
        signs = self._inputs.signs
        num_bits, num_levels = signs.shape[:2]
        by_axis = llrs_grad.unflatten(1, (num_bits, 2)).transpose(1, 2)[:, :, :, None] * signs
        sums = self._set_sums.index_select(2, self._inputs.set_of_level).unflatten(2, (num_bits, num_levels))
        return (self._metrics[:, :, None] - sums).exp_().mul_(by_axis).sum(2)

    def _feature_gradients(self, grad: torch.Tensor) -> tuple[_Gradients, torch.Tensor, torch.Tensor]:
        """Gradients of the mean and second moment of both axes, and of all else that the features depend on."""
        inputs, h, x = self._inputs, self._channel, self._x
        planes = [h.shape[1], h.shape[1], 1, 1, 1, 1, 1, 1]
        direction, scaled, reliability, v, x_power, log_var, log_excess, log_error = grad[:, :, None].split(planes, 1)
        direction_grad = torch.addcmul(direction, scaled, self._reliability)
        reliability_grad = (scaled * self._direction).sum(1, keepdim=True) + reliability
        v_grad = v - (CERTAINTY / inputs.square_distance) * self._reliability * reliability_grad
        error_grad = LOG_SCALE * log_excess / self._error
        moment_grad = v_grad - (direction_grad * h).sum(1, keepdim=True)
        x_power_grad = torch.addcmul(x_power - v_grad, error_grad, self._power)
        x_grad = (inputs.y * direction_grad[:, None]).sum(2)
        x_grad.addcmul_(x, x_power_grad, value=2).addcmul_(self._product, error_grad, value=-2)
        gradients = _Gradients(
            channel=direction_grad.mul_(self._moment).neg_(),
            product=(x * error_grad).mul_(-2),
            power=error_grad * self._x_power,
            var=LOG_SCALE * log_var / self._var,
            log_error=LOG_SCALE * log_error,
        )
        return gradients, x_grad.mul_(inputs.is_data), moment_grad.mul_(inputs.is_data)

    def _detection_gradients(
        self, metrics_grad: torch.Tensor, center: torch.Tensor, begin: _Gradients
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of channel and log_error.

        The gradients of an axis' metrics add up to 0, so levels may be taken relative to any ``center``. Near the mean,
        small differences stay exact.
        """
        gain, var, z = self._gain, self._var, self._z
        levels = self._inputs.levels - center[:, :, None]
        moved = metrics_grad * levels
        first, second = moved.sum(2), moved.mul_(levels).sum(2)
        z_grad = first * (2 / var)
        squares = second.addcmul_(z - center, first, value=-2).sum(1, keepdim=True)
        var_grad = begin.var + squares / var.square()
        var_grad = torch.where(var > MIN_VAR, var_grad, 0.0)
        inside = (self._log_error > LOG_ERROR_RANGE[0]) & (self._log_error < LOG_ERROR_RANGE[1])
        log_error_grad = begin.log_error + var_grad / gain * self._error_var * inside
        gain_grad = -((z_grad * z).sum(1, keepdim=True) + var_grad * var) / gain
        power_grad = begin.power + torch.where(self._power > MIN_GAIN, gain_grad, 0.0)
        product_grad = begin.product + z_grad / gain
        channel_grad = (self._inputs.y * product_grad[:, :, None]).sum(1).addcmul_(self._channel, power_grad, value=2)
        return channel_grad + begin.channel, log_error_grad
