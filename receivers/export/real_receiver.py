"""A receiver in real arithmetic as one torch module: from received samples to LLRs.

Runtimes know real numbers only. This module is what exported graphs contain, see :mod:`receivers.export.onnx`.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn

from channels import Grid
from channels.pilots import pilot_layouts
from leanrx_core.errors import UserError
from receivers.base import Receiver
from receivers.classical import is_exact_lmmse
from receivers.export.depthwise import split_depthwise
from receivers.export.real_classical import RealClassical
from receivers.export.real_deeprx import RealInterpolatedDeepRx
from receivers.export.real_front_end import PilotPlaces
from receivers.export.real_hybrid import RealHybrid, RealHybridNetwork
from receivers.export.real_recurrent_hybrid import RealRecurrentHybrid
from receivers.neural.deeprx import InterpolatedDeepRx
from receivers.neural.hybrid import Hybrid
from receivers.neural.network import Network
from receivers.neural.recurrent_hybrid import RecurrentHybrid
from receivers.neural.registry import check_grid
from receivers.neural.weights import NeuralReceiver


class RealReceiver(nn.Module):
    """A receiver from samples to LLRs, without complex numbers.

    Args:
        receiver: a learned one, whose network is copied, or LMMSE or LMMSE-IRC with exact LLRs.
        grid: antennas, subcarrier spacing and pilots of the slots.

    Raises:
        UserError: if the receiver does not fit the grid, is another classical one, or its family has no features in
            real arithmetic.

    Example:
        >>> import torch
        >>> from channels import SlotStream, scenario
        >>> from receivers import load
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2, split="test").block(0)
        >>> receiver = load("tdl-6prb-hybrid-w5-d5-kd")
        >>> module = RealReceiver(receiver, scenario("tdl-6prb").grid)
        >>> y, pilots = torch.view_as_real(slots.y), torch.view_as_real(slots.pilots)
        >>> llrs = module(y, pilots, slots.noise_var + slots.interference_var, slots.bits_per_symbol)
        >>> bool((llrs - receiver(slots))[slots.bit_mask].abs().max() < 1e-3)
        True
    """

    bit_numbers: torch.Tensor

    def __init__(self, receiver: Receiver, grid: Grid) -> None:
        super().__init__()
        self.places = PilotPlaces(pilot_layouts(grid))
        self.net: nn.Module
        if isinstance(receiver, NeuralReceiver):
            self.net = _network(receiver, grid, self.places)
        elif is_exact_lmmse(receiver):
            self.net = RealClassical(receiver, grid, self.places)
        else:
            raise UserError(f"export: {receiver.name} has no graph; receivers are networks, LMMSE and LMMSE-IRC")
        self.register_buffer("bit_numbers", torch.arange(num_llrs(receiver)))

    def forward(
        self,
        y: torch.Tensor,
        pilots: torch.Tensor,
        noise_plus_interference_var: torch.Tensor,
        bits_per_symbol: torch.Tensor,
    ) -> torch.Tensor:
        """Compute LLRs.

        Args:
            y: received grid, real and imaginary parts, float32 ``(B, R, S, F, 2)``.
            pilots: transmitted pilots, 0 on all other resource elements, float32 ``(B, S, F, 2)``.
            noise_plus_interference_var: mean power per resource element and antenna, float32 ``(B,)``.
            bits_per_symbol: of each slot's modulation, int64 ``(B,)``.

        Returns:
            log P(bit = 1) / P(bit = 0), float32 ``(B, K, S, F)``; 0 where there is no data bit.
        """
        choice = self.places.choose(pilots)
        is_data = self.places.is_data(choice, pilots)
        inputs = (y, pilots, noise_plus_interference_var, bits_per_symbol)
        if isinstance(self.net, RealHybridNetwork):
            llrs = self.net(*inputs, choice, is_data)
        elif isinstance(self.net, RealClassical | RealInterpolatedDeepRx):
            llrs = self.net(*inputs, choice)
        else:
            llrs = self.net(cast(Network, self.net).real_features(*inputs))
        has_bit = (self.bit_numbers < bits_per_symbol[:, None]).float()
        return llrs * (is_data * has_bit[..., None, None])


def num_llrs(receiver: Receiver) -> int:
    """LLRs per resource element K of a receiver that can be exported."""
    if isinstance(receiver, NeuralReceiver):
        return receiver.net.num_bits
    return receiver.scenario.bits_per_symbol if is_exact_lmmse(receiver) else 0


def _network(receiver: NeuralReceiver, grid: Grid, places: PilotPlaces) -> nn.Module:
    if grid.num_rx != receiver.card.num_rx and not receiver.net.takes_any_num_rx:
        raise UserError(f"export: {receiver.name} has {receiver.card.num_rx} antennas, but the grid has {grid.num_rx}")
    check_grid(receiver.card.receiver, grid)
    net = receiver.net
    if isinstance(net, Hybrid):
        return RealHybrid(net, grid, places)
    if isinstance(net, RecurrentHybrid):
        return RealRecurrentHybrid(net, grid, places)
    if isinstance(net, InterpolatedDeepRx):
        return RealInterpolatedDeepRx(net, pilot_layouts(grid))
    if type(net).real_features is Network.real_features:
        raise UserError(
            f"export: {receiver.card.receiver} has no features in real arithmetic; give its class real_features"
        )
    return split_depthwise(copy.deepcopy(net).cpu().eval())
