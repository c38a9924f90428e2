"""What a learned receiver's network is: tensors in, LLRs out, and how slots become its tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from channels import Grid, Slots
from receivers.base import FormulaCount


class Network(nn.Module, ABC):
    """A fully convolutional network from features ``(B, C, S, F)`` to LLRs ``(B, K, S, F)``, positive meaning 1.

    Attributes:
        num_features: C.
        num_bits: K.
        feature_description: the features in their order, for the metadata of exported files.
        memory_format: of weights and features in which it runs fastest.
        has_intermediate_llrs: whether ``net(x, intermediate=True)`` gives a tuple: the LLRs, then the intermediate LLRs.
    """

    feature_description: ClassVar[str]
    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    has_intermediate_llrs: ClassVar[bool] = False

    def __init__(self, num_features: int, num_bits: int) -> None:
        super().__init__()
        self.num_features, self.num_bits = num_features, num_bits

    @staticmethod
    @abstractmethod
    def features(slots: Slots) -> torch.Tensor:
        """The network's input, float32 ``(B, C, S, F)``, from what a receiver can know.

        It has nothing to learn, may work on complex numbers, and stays outside of exported graphs.
        """

    def formula_count(self, grid: Grid) -> FormulaCount:
        """Operations on one slot that no counter of convolutions sees, front end included; none unless overridden.

        Args:
            grid: sets the size of the slot.
        """
        return FormulaCount()
