"""A recurrent hybrid in real arithmetic, in the operators that runtimes execute fast.

The sweeps are those of :mod:`receivers.neural.recurrent_hybrid` with the same weights. A graph has no loop: it contains
each symbol of each sweep.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from channels import Grid
from receivers.export.real_front_end import PilotPlaces
from receivers.export.real_hybrid import RealHybridNetwork, RealSlot
from receivers.neural.hybrid import interpolate_states
from receivers.neural.hybrid_training import SUBCARRIERS_PER_STATE
from receivers.neural.recurrent_hybrid import RecurrentHybrid, run_sweeps


class RealRecurrentHybrid(RealHybridNetwork):
    """A recurrent hybrid from received samples to LLRs, without complex numbers.

    Args:
        net: the network, which is copied.
        grid: antennas, subcarrier spacing and pilots.
        places: of the pilots.
    """

    def __init__(self, net: RecurrentHybrid, grid: Grid, places: PilotPlaces) -> None:
        super().__init__(net, grid, places)
        self.sweeps = nn.ModuleList(copy.deepcopy(net).cpu().eval().sweeps)

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
        return run_sweeps(self.sweeps, _RealSymbols(self, slot))[-1]


class _RealSymbols:
    """:class:`receivers.neural.recurrent_hybrid.Symbols` in the operators of a graph."""

    def __init__(self, net: RealRecurrentHybrid, slot: RealSlot) -> None:
        self._net, self._slot, self._planes = net, slot, slot.planes.by_symbol()
        self._channels, self._log_errors = slot.channel.split(1, 2), slot.log_error.split(1, 2)
        pool = (1, SUBCARRIERS_PER_STATE)
        self.channel: Sequence[torch.Tensor] = avg_pool2d(slot.channel, pool).transpose(1, 2).split(1, 1)
        self.log_error: Sequence[torch.Tensor] = avg_pool2d(slot.log_error, pool).split(1, 2)

    def features(self, symbol: int, channel: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
        channel = self._channels[symbol] + interpolate_states(channel.transpose(1, 2))
        log_error = self._log_errors[symbol] + interpolate_states(log_error)
        return self._net.features(self._planes[symbol], self._slot.constellation, channel, log_error)

    def llrs(self, channel: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
        channel = self._slot.channel + interpolate_states(channel.transpose(1, 2))
        log_error = self._slot.log_error + interpolate_states(log_error.transpose(1, 2))
        return self._net.llrs(self._slot.planes, self._slot.constellation, channel, log_error)
