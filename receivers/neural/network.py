"""Base class of the networks of learned receivers: features in, LLRs out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from channels import Grid, Slots
from receivers.base import FormulaCount


class Network(nn.Module, ABC):
    """A fully convolutional network from features ``(B, C, S, F)`` to LLRs ``(B, K, S, F)``, positive meaning 1.

    A family's network is built as ``network(num_rx, num_bits, width, depth)``, see
    :mod:`receivers.neural.registry`.

    Args:
        num_features: C.
        num_bits: K.

    Attributes:
        num_features, num_bits: as given.
        memory_format: torch memory format of weights and features in which the network runs fastest.
        needs_resource_blocks: whether the grid must consist of whole resource blocks without an empty subcarrier.
        has_intermediate_llrs: whether ``net(x, intermediate=True)`` returns a tuple, LLRs and then intermediate LLRs.
        takes_any_num_rx: whether one network takes slots of any number of receive antennas.
    """

    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    needs_resource_blocks: ClassVar[bool] = False
    has_intermediate_llrs: ClassVar[bool] = False
    takes_any_num_rx: ClassVar[bool] = False

    def __init__(self, num_features: int, num_bits: int) -> None:
        super().__init__()
        self.num_features, self.num_bits = num_features, num_bits

    def input_channels(self, num_rx: int) -> int:
        """Channels C of the features of slots with ``num_rx`` antennas. Most networks take one number only."""
        return self.num_features

    @staticmethod
    @abstractmethod
    def features(slots: Slots) -> torch.Tensor:
        """The network's input, float32 ``(B, C, S, F)``, from the knowledge of a receiver.

        It has no learned parameters, and may use complex numbers. Exported graphs contain it in real arithmetic.
        """

    @staticmethod
    def real_features(
        y: torch.Tensor, pilots: torch.Tensor, noise_plus_interference_var: torch.Tensor, bits_per_symbol: torch.Tensor
    ) -> torch.Tensor:
        """:meth:`features` in real arithmetic, for exported graphs; arrays of samples in place of slots.

        Args:
            y: received grid, real and imaginary parts, float32 ``(B, R, S, F, 2)``.
            pilots: transmitted pilots, 0 on all other REs, float32 ``(B, S, F, 2)``.
            noise_plus_interference_var: mean power per RE and antenna, float32 ``(B,)``.
            bits_per_symbol: of each slot's modulation, int64 ``(B,)``.

        Returns:
            float32 ``(B, C, S, F)``.
        """
        raise NotImplementedError

    def formula_count(self, grid: Grid) -> FormulaCount:
        """Operations on one slot, front end included, that counters of convolutions do not see. Default: none.

        Args:
            grid: sets the size of the slot.
        """
        return FormulaCount()
