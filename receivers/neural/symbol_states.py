"""States of hybrids: half resource blocks of a symbol, over which a channel changes little.

A network computes with means over a state, and its results are interpolated between states.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch.nn.functional import avg_pool2d, interpolate

SUBCARRIERS_PER_STATE = 6
"""Neighbouring subcarriers of a symbol that share one hidden state of the network."""


def average_states(x: torch.Tensor) -> torch.Tensor:
    """Means over states: from ``(B, C, S, F)`` to ``(B, C, S, F / 6)``."""
    return avg_pool2d(x, (1, SUBCARRIERS_PER_STATE))


def interpolate_states(states: torch.Tensor) -> torch.Tensor:
    """From states to REs, by linear interpolation over subcarriers."""
    return interpolate(states, scale_factor=(1.0, float(SUBCARRIERS_PER_STATE)), mode="bilinear", align_corners=False)


class Symbols(ABC):
    """The symbols of a slot, whose channel a filter corrects state by state.

    Args:
        channel, log_error: the front end's estimate and the logarithm of its error power, float32 ``(B, 2 R, S, F)``
            and ``(B, 1, S, F)``. A subclass may hold its REs in another order, with S before the last dimension.

    Attributes:
        channel: of each symbol, mean of the estimate over the subcarriers of each state, ``(B, 1, 2 R, F / 6)``.
        log_error: of each symbol, mean logarithm of the estimate's error power, ``(B, 1, 1, F / 6)``.
    """

    def __init__(self, channel: torch.Tensor, log_error: torch.Tensor) -> None:
        self._channel, self._log_error = channel, log_error
        self._channels, self._log_errors = channel.split(1, -2), log_error.split(1, -2)
        self.channel: Sequence[torch.Tensor] = self._average(channel).transpose(1, 2).split(1, 1)
        self.log_error: Sequence[torch.Tensor] = self._average(log_error).split(1, 2)

    def features(self, symbol: int, channel: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
        """EM features of a symbol detected with a corrected estimate, as means over states.

        Args:
            symbol: its number.
            channel: correction of the front end's estimate, ``(B, 1, 2 R, F / 6)``.
            log_error: correction of the logarithm of its error power, ``(B, 1, 1, F / 6)``.

        Returns:
            float32 ``(B, 4 R + 6, 1, F / 6)``, see :func:`receivers.neural.detection.em_features`.
        """
        channel = self._channels[symbol] + self._interpolate(channel.transpose(1, 2))
        return self._features_with(symbol, channel, self._log_errors[symbol] + self._interpolate(log_error))

    def llrs(self, channel: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
        """Exact LLRs with the corrections of all symbols.

        Args:
            channel, log_error: as of :meth:`features`, ``(B, S, 2 R, F / 6)`` and ``(B, S, 1, F / 6)``.

        Returns:
            float32 ``(B, K, S, F)``.
        """
        channel = self._channel + self._interpolate(channel.transpose(1, 2))
        return self._llrs_with(channel, self._log_error + self._interpolate(log_error.transpose(1, 2)))

    def _average(self, x: torch.Tensor) -> torch.Tensor:
        """Means over states of the front end's estimates."""
        return average_states(x)

    def _interpolate(self, states: torch.Tensor) -> torch.Tensor:
        """From states to REs."""
        return interpolate_states(states)

    @abstractmethod
    def _features_with(self, symbol: int, channel: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
        """Features of a symbol, detected with this estimate."""

    @abstractmethod
    def _llrs_with(self, channel: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
        """LLRs of all symbols, detected with this estimate."""
