"""Positions of the pilots of slots, and raw channel estimates at them.

The pilots of a slot fill a rectangle: some symbols times some subcarriers. These are all subcarriers, or the comb of a
5G demodulation reference signal (TS 38.211, 7.4.1.1). The slots of a batch share a few such rectangles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from channels import Slots
from receivers.noise_power import check_powers, is_power, noise_plus_interference_var


@dataclass(frozen=True)
class PilotGroup:
    """Slots of one subcarrier spacing whose pilots lie on the same symbols and subcarriers.

    Attributes:
        indices: indices of the slots in the batch, int64 ``(b,)``.
        symbols, subcarriers: positions of their pilots, increasing, int64 ``(P,)`` and ``(Q,)``, on the CPU: receivers
            choose their matrices by them, and need not wait for a GPU.
        subcarrier_spacing_hz: subcarrier spacing.
    """

    indices: torch.Tensor
    symbols: torch.Tensor
    subcarriers: torch.Tensor
    subcarrier_spacing_hz: int

    def take(self, grid: torch.Tensor) -> torch.Tensor:
        """Values of a grid ``(B, ..., S, F)`` at the pilots of these slots, ``(b, ..., P, Q)``."""
        grid = grid[self.indices].index_select(-2, self.symbols.to(grid.device))
        if len(self.subcarriers) == grid.shape[-1]:
            return grid
        return grid.index_select(-1, self.subcarriers.to(grid.device))

    def raw_estimates(self, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        """Least-squares estimates at the pilots, and the power of the pilots.

        The noise of an estimate is the noise power over the power of its pilot.

        Returns:
            ``y / pilot``, complex64 ``(b, R, P, Q)``, and the mean power of a pilot, float32 ``(b,)``.
        """
        pilots = self.take(slots.pilots)
        power = torch.view_as_real(pilots).square().sum(-1)
        return self.take(slots.y) * (pilots.conj() / power)[:, None], power.mean((1, 2))


def pilot_groups(slots: Slots) -> Iterator[PilotGroup]:
    """Group the slots of a batch by the positions of their pilots and their subcarrier spacing.

    Raises:
        UserError: if the noise-plus-interference power of a slot is not a finite number above 0.
    """
    is_pilot = slots.pilots != 0
    num_symbols = is_pilot.shape[1]
    allowed = is_power(noise_plus_interference_var(slots))
    columns = [allowed[:, None], slots.subcarrier_spacing_hz[:, None], is_pilot.any(2), is_pilot.any(1)]
    key = torch.cat(columns, 1).cpu()
    check_powers("noise_plus_interference_var", key[:, 0])
    keys, key_of_slot = key.unique(dim=0, return_inverse=True)
    for i, (_, spacing, *_) in enumerate(keys.tolist()):
        indices = torch.nonzero(key_of_slot == i)[:, 0]
        symbols, subcarriers = keys[i, 2 : 2 + num_symbols], keys[i, 2 + num_symbols :]
        indices = indices.to(slots.y.device)
        yield PilotGroup(indices, torch.nonzero(symbols)[:, 0], torch.nonzero(subcarriers)[:, 0], spacing)
