"""A DeepRx with interpolated raw estimates in real arithmetic, as a runtime computes it fastest.

The places of the pilots are constants of an exported graph. So it selects the nearest pilots by constant indices, where
:func:`receivers.neural.deeprx.nearest_neighbours` finds them in each slot.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import reduce

import torch
from torch import nn

from channels import NUM_SYMBOLS
from channels.grid import SUBCARRIERS_PER_PRB
from channels.pilots import DmrsLayout
from receivers.export.depthwise import split_depthwise
from receivers.neural.deeprx import DeepRx, InterpolatedDeepRx, interpolate_estimates


class RealInterpolatedDeepRx(nn.Module):
    """An :class:`receivers.neural.deeprx.InterpolatedDeepRx` from samples to LLRs, without complex numbers.

    Args:
        net: the network, which is copied.
        layouts: that a slot can have. Their pilots are on the same subcarriers of each resource block.
    """

    def __init__(self, net: InterpolatedDeepRx, layouts: Sequence[DmrsLayout]) -> None:
        super().__init__()
        self.net = split_depthwise(copy.deepcopy(net).cpu().eval())
        pilots = [i for i, has_pilot in enumerate(layouts[0].has_pilot) if has_pilot]
        self._symbols = [torch.tensor(_nearest(layout.symbols, NUM_SYMBOLS)) for layout in layouts]
        self._subcarriers = torch.tensor(_nearest(pilots, SUBCARRIERS_PER_PRB))
        self.num_rx = (net.num_features - 2) // 4
        self.is_comb = len(pilots) < SUBCARRIERS_PER_PRB

    def forward(
        self,
        y: torch.Tensor,
        pilots: torch.Tensor,
        var: torch.Tensor,
        bits_per_symbol: torch.Tensor,
        choice: torch.Tensor | None,
    ) -> torch.Tensor:
        """Compute LLRs.

        Args:
            y, pilots, var, bits_per_symbol: as of :class:`receivers.export.real_receiver.RealReceiver`.
            choice: of the places of the pilots.

        Returns:
            float32 ``(B, K, S, F)``.
        """
        features = DeepRx.real_features(y, pilots, var, bits_per_symbol)
        features = interpolate_estimates(features, self.num_rx, lambda raw: self._interpolate(raw, choice))
        llrs: torch.Tensor = self.net(features)
        return llrs

    def _interpolate(self, raw: torch.Tensor, choice: torch.Tensor | None) -> torch.Tensor:
        """Raw estimates ``(B, C, S, F)`` of the nearest pilots."""
        by_layout = [raw.index_select(2, symbols) for symbols in self._symbols]
        if choice is not None:
            weights = choice[:, :, None, None, None].unbind(1)
            by_layout = [weight * part for weight, part in zip(weights, by_layout, strict=True)]
        raw = reduce(torch.add, by_layout)
        if not self.is_comb:
            return raw
        return raw.unflatten(3, (-1, SUBCARRIERS_PER_PRB)).index_select(4, self._subcarriers).flatten(3)


def _nearest(places: Sequence[int], size: int) -> list[int]:
    """The nearest place of each index below a size; of two equal distances, the lower one."""
    return [min(places, key=lambda place: (abs(place - index), place)) for index in range(size)]
