"""A hybrid in real arithmetic, in the operators that runtimes execute fast.

It computes what :class:`receivers.neural.hybrid.Hybrid` computes on its features, with the same parameters. A runtime
pays for each operator and each plane that it writes. So both axes of the constellation are one tensor, complex products
are sums over a tensor of twice the size, and the moments of the posteriors are one matrix product.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import NamedTuple, cast

import torch
from torch import nn
from torch.nn.functional import conv2d

from channels import Grid
from receivers.export.real_demapping import exact_llrs
from receivers.export.real_front_end import HybridFrontEnd, PilotPlaces
from receivers.neural import detection
from receivers.neural.hybrid import MIN_ERROR_VAR, Hybrid, HybridBlock, HybridNetwork
from receivers.neural.shared_hybrid import (
    NUM_CONDITIONS,
    NUM_POWERS,
    SharedHybrid,
    SharedHybridBlock,
    common_inputs,
    error_amplitude,
)
from receivers.neural.symbol_states import average_states, interpolate_states


class Constellation(NamedTuple):
    """Of each slot: levels ``(B, 1, L, 1, 1)``, their powers 0 to 2 ``(B, 1, 3, L)``, ``-CERTAINTY / d^2``, ``d^2``."""

    levels: torch.Tensor
    powers: torch.Tensor
    certainty: torch.Tensor
    square_distance: torch.Tensor


class Planes(NamedTuple):
    """Inputs of all blocks.

    Attributes:
        y: white samples ``(B, 2 R, S, F)``.
        rotations: y and -i y, ``(B, 2, 2 R, S, F)``.
        var, excess_scale: noise-plus-interference power ``(B, 1, 1, 1)``, and its limited reciprocal.
        pilots: known symbols ``(B, 2, S, F)``.
        is_data, has_symbol: 1 or 0, ``(B or 1, 1, S, F or 1)``.
    """

    y: torch.Tensor
    rotations: torch.Tensor
    var: torch.Tensor
    excess_scale: torch.Tensor
    pilots: torch.Tensor
    is_data: torch.Tensor
    has_symbol: torch.Tensor

    def by_symbol(self) -> list[Planes]:
        """Those of each symbol."""
        parts = zip(
            self.y.split(1, 2),
            self.rotations.split(1, 3),
            self.pilots.split(1, 2),
            self.is_data.split(1, 2),
            self.has_symbol.split(1, 2),
            strict=True,
        )
        return [
            self._replace(y=y, rotations=rotations, pilots=pilots, is_data=is_data, has_symbol=has_symbol)
            for y, rotations, pilots, is_data, has_symbol in parts
        ]


class RealSlot(NamedTuple):
    """Inputs of all blocks, and the front end's channel estimate with the logarithm of its error power."""

    planes: Planes
    constellation: Constellation
    channel: torch.Tensor
    log_error: torch.Tensor


class RealHybridNetwork(nn.Module, ABC):
    """A network with the front end and the detection of a hybrid, from received samples to LLRs.

    Args:
        net: the network, which subclasses copy.
        grid: antennas, subcarrier spacing and pilots.
        places: of the pilots.
    """

    _levels: torch.Tensor
    _powers: torch.Tensor
    _square_distances: torch.Tensor

    def __init__(self, net: HybridNetwork, grid: Grid, places: PilotPlaces) -> None:
        super().__init__()
        self.front_end = HybridFrontEnd(grid, places)
        self.num_rx, self.num_bits = grid.num_rx, net.num_bits
        self.has_empty = places.has_empty
        self.bits = [(ones.tolist(), zeros.tolist()) for ones, zeros in net.level_indices]
        levels = net.levels.cpu()
        distances = torch.stack([row.unique().diff().min() for row in levels])
        self.register_buffer("_levels", levels)
        self.register_buffer("_powers", torch.stack([levels**0, levels, levels**2], 1))
        self.register_buffer("_square_distances", distances.square())

    @abstractmethod
    def forward(
        self,
        y: torch.Tensor,
        pilots: torch.Tensor,
        var: torch.Tensor,
        bits_per_symbol: torch.Tensor,
        choice: torch.Tensor | None,
        is_data: torch.Tensor,
    ) -> torch.Tensor:
        """Compute LLRs.

        Args:
            y, pilots, var, bits_per_symbol: as of :class:`receivers.export.real_receiver.RealReceiver`.
            choice, is_data: of the places of the pilots.

        Returns:
            float32 ``(B, K, S, F)``.
        """
        ...

    def _prepare(
        self,
        y: torch.Tensor,
        pilots: torch.Tensor,
        var: torch.Tensor,
        bits_per_symbol: torch.Tensor,
        choice: torch.Tensor | None,
        is_data: torch.Tensor,
    ) -> RealSlot:
        """What all blocks need, from the arguments of :meth:`forward`."""
        index = bits_per_symbol // 2 - 1
        square_distance = self._square_distances[index][:, None, None, None]
        constellation = Constellation(
            self._levels[index][:, None, :, None, None],
            self._powers[index][:, None],
            -detection.CERTAINTY / square_distance,
            square_distance,
        )
        y, channel, error_var = self.front_end(y, pilots, var, choice)
        y_re, y_im = y.split(self.num_rx, 1)
        known, var = pilots.permute(0, 3, 1, 2), var[:, None, None, None]
        has_symbol = (is_data + known.square().sum(1, keepdim=True) > 0).float() if self.has_empty else is_data
        excess_scale = 1 / var.clamp_min(detection.MIN_EXCESS)
        rotations = torch.stack([y, torch.cat([y_im, -y_re], 1)], 1)
        planes = Planes(y, rotations, var, excess_scale, known, is_data, has_symbol)
        log_error = error_var.clamp_min(MIN_ERROR_VAR).log()
        return RealSlot(planes, constellation, channel, log_error)

    def llrs(
        self, planes: Planes, constellation: Constellation, channel: torch.Tensor, log_error: torch.Tensor
    ) -> torch.Tensor:
        """Exact LLRs."""
        return exact_llrs(_detect(planes, constellation, channel, log_error)[0], self.bits)

    def features(
        self, planes: Planes, constellation: Constellation, channel: torch.Tensor, log_error: torch.Tensor
    ) -> torch.Tensor:
        """Means over states of :func:`receivers.neural.detection.em_features`.

        The direction ``e x* - h v`` is computed as ``y x* - h (|x|^2 + v)``.
        """
        metrics, symbol_var = _detect(planes, constellation, channel, log_error)
        posterior = torch.exp(metrics - metrics.amax(2, keepdim=True)).flatten(3)
        total, first, second = (constellation.powers @ posterior).unflatten(3, (planes.y.shape[2], -1)).unbind(2)
        mean = first / total
        x = planes.is_data * mean + planes.pilots
        v = planes.is_data * (second / total - mean.square()).sum(1, keepdim=True)
        x_squared = x.square().sum(1, keepdim=True)
        direction = (planes.rotations * x[:, :, None]).sum(1) - channel * (x_squared + v)
        h_re, h_im = channel.split(self.num_rx, 1)
        rotations = torch.stack([channel, torch.cat([-h_im, h_re], 1)], 1)
        error = (planes.y - (rotations * x[:, :, None]).sum(1)).square().sum(1, keepdim=True)
        reliability = torch.exp(v * constellation.certainty)
        if self.has_empty:
            reliability = reliability * planes.has_symbol
        excess = (error + detection.MIN_EXCESS) * planes.excess_scale
        logs = detection.LOG_SCALE * torch.cat([torch.cat([symbol_var, excess], 1).log(), log_error], 1)
        features = torch.cat([direction, direction * reliability, reliability, v, x_squared, logs], 1)
        return average_states(features)


class RealHybrid(RealHybridNetwork):
    """A hybrid from received samples to LLRs, without complex numbers.

    Args:
        net: the network, which is copied.
        grid: antennas, subcarrier spacing and pilots.
        places: of the pilots.
    """

    def __init__(self, net: Hybrid, grid: Grid, places: PilotPlaces) -> None:
        super().__init__(net, grid, places)
        net = copy.deepcopy(net).cpu().eval()
        self.width = net.width
        self.is_shared = isinstance(net, SharedHybrid)
        self.num_states = self.width * (1 + self.num_rx) if self.is_shared else self.width
        self.antenna_inputs, self.antenna_outputs = _antenna_orders(self.width, self.num_rx)
        self.blocks = nn.ModuleList(net.blocks)
        self.conv_out = net.conv_out

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
        planes, constellation, channel, log_error = self._prepare(y, pilots, var, bits_per_symbol, choice, is_data)
        hidden: torch.Tensor | None = None
        size = 2 * self.num_rx
        for block in self.blocks:
            features = self.features(planes, constellation, channel, log_error)
            if isinstance(block, SharedHybridBlock):
                hidden = self._conditions(planes, constellation, features) if hidden is None else hidden
                update = self._shared_update(block, hidden, features)
            else:
                update = self._update(cast(HybridBlock, block), hidden, features)
            hidden = update[:, : self.num_states] if hidden is None else hidden + update[:, : self.num_states]
            update = interpolate_states(update[:, self.num_states :])
            channel, log_error = channel + update[:, :size], log_error + update[:, size:]
        output = self.conv_out(torch.relu(cast(torch.Tensor, hidden)[:, : self.width]))
        scale, shift = interpolate_states(output).split(self.num_bits, 1)
        llrs = self.llrs(planes, constellation, channel, log_error)
        return llrs + scale * llrs + shift

    def _conditions(self, planes: Planes, constellation: Constellation, features: torch.Tensor) -> torch.Tensor:
        """State of a shared hybrid before its first block, see :class:`receivers.neural.shared_hybrid.SharedHybrid`."""
        var = planes.var.clamp_min(detection.MIN_EXCESS)
        powers = torch.cat([var, constellation.square_distance, torch.full_like(var, self.num_rx)], 1)
        conditions = detection.LOG_SCALE * powers.log()
        rest = torch.zeros(1, self.num_states - NUM_CONDITIONS, 1, 1)
        return torch.cat([conditions, conditions[:, :1] * rest], 1) + 0 * features[:, :1]

    def _update(self, block: HybridBlock, hidden: torch.Tensor | None, features: torch.Tensor) -> torch.Tensor:
        """The output of a block's last layer. The hidden state of the first block is 0."""
        if hidden is None:
            x = conv2d(features, block.expand.weight[:, self.width :], block.expand.bias)
        else:
            x = block.expand(torch.cat([hidden, features], 1))
        return block.project(torch.relu(block.depthwise(torch.relu(x))))

    def _shared_update(self, block: SharedHybridBlock, hidden: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """As :meth:`_update`, of a block whose antennas share the weights.

        Antennas become slots and back in tensors of four dimensions, whose last one is that of subcarriers. Runtimes
        then infer all sizes.
        """
        r, inner, (symbols, states) = self.num_rx, block.expand.out_channels, features.shape[2:]
        common, own = hidden.split([self.width, self.width * r], 1)
        directions, powers = features.split([4 * r, NUM_POWERS], 1)
        amplitude = error_amplitude(powers)
        own = torch.cat([own, directions / amplitude], 1)[:, self.antenna_inputs]
        x = block.expand_antenna(own.reshape(-1, self.width + 4, symbols, states))
        shared = block.expand(common_inputs(common, powers, r))
        x = torch.relu(x.reshape(-1, r * inner, symbols, states) + torch.cat([shared] * r, 1))
        x = torch.relu(block.depthwise(x.reshape(-1, inner, symbols, states)))
        mean = x.reshape(-1, r, inner * symbols, states).mean(1).reshape(-1, inner, symbols, states)
        common, log_error = block.project(mean).split([self.width, 1], 1)
        own = block.project_antenna(x).reshape(-1, r * (self.width + 2), symbols, states)[:, self.antenna_outputs]
        own, channel = own.split([self.width * r, 2 * r], 1)
        return torch.cat([common, own, amplitude * channel, log_error], 1)


def _antenna_orders(width: int, num_rx: int) -> tuple[list[int], list[int]]:
    """Orders of channels that put those of each antenna together, and that undo it.

    The first is of the states of all antennas and the four directions of all antennas. The second leads from the states
    and the channel of each antenna to all states, then all real and all imaginary parts.
    """
    antennas = range(num_rx)
    inputs = [
        channel
        for r in antennas
        for channel in (*range(width * r, width * (r + 1)), *(width * num_rx + num_rx * i + r for i in range(4)))
    ]
    states = [(width + 2) * r + i for r in antennas for i in range(width)]
    return inputs, states + [(width + 2) * r + width + part for part in range(2) for r in antennas]


def _detect(
    planes: Planes, constellation: Constellation, channel: torch.Tensor, log_error: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`receivers.neural.detection.detect`: metrics ``(B, 2, L, S, F)``, and error power ``(B, 1, S, F)``."""
    gain = channel.square().sum(1, keepdim=True).clamp_min(detection.MIN_GAIN)
    z = (planes.rotations * channel[:, None]).sum(2) / gain
    var = (planes.var + log_error.clamp(*detection.LOG_ERROR_RANGE).exp()) / gain
    var = var.clamp_min(detection.MIN_VAR)
    return -(z[:, :, None] - constellation.levels).square() / var[:, :, None], var
