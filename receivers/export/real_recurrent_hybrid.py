"""A recurrent hybrid in real arithmetic, in the operators that runtimes execute fast.

The passes are those of :mod:`receivers.neural.recurrent_hybrid` with the same weights. A graph has no loop: it contains
each symbol of each pass.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from channels import Grid
from receivers.export.real_front_end import PilotPlaces
from receivers.export.real_hybrid import RealHybridNetwork, RealSlot
from receivers.neural.recurrent_hybrid import RecurrentHybrid, run_passes
from receivers.neural.symbol_states import Symbols


class RealRecurrentHybrid(RealHybridNetwork):
    """A recurrent hybrid from received samples to LLRs, without complex numbers.

    Args:
        net: the network, which is copied.
        grid: antennas, subcarrier spacing and pilots.
        places: of the pilots.
    """

    def __init__(self, net: RecurrentHybrid, grid: Grid, places: PilotPlaces) -> None:
        super().__init__(net, grid, places)
        self.passes = nn.ModuleList(copy.deepcopy(net).cpu().eval().sweeps)

    def forward(
        self,
        y: torch.Tensor,
        pilots: torch.Tensor,
        var: torch.Tensor,
        bits_per_symbol: torch.Tensor,
        choice: torch.Tensor | None,
        is_data: torch.Tensor,
    ) -> torch.Tensor:
        """Compute LLRs, see :meth:`RealHybridNetwork.forward`."""
        slot = self._prepare(y, pilots, var, bits_per_symbol, choice, is_data)
        return run_passes(self.passes, _RealSymbols(self, slot))[-1]


class _RealSymbols(Symbols):
    """The symbols of a slot in the operators of a graph."""

    def __init__(self, net: RealRecurrentHybrid, slot: RealSlot) -> None:
        super().__init__(slot.channel, slot.log_error)
        self._net, self._slot, self._planes = net, slot, slot.planes.by_symbol()

    def _features_with(self, symbol: int, channel: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
        return self._net.features(self._planes[symbol], self._slot.constellation, channel, log_error)

    def _llrs_with(self, channel: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
        return self._net.llrs(self._slot.planes, self._slot.constellation, channel, log_error)
