"""Where the pilots of a slot are, and how well they were sent.

The pilots of a slot fill a rectangle: some symbols times some subcarriers, whether these are all of them or the comb of
a 5G demodulation reference signal (TS 38.211, 7.4.1.1). Slots of a batch share a few such rectangles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from channels import Slots


@dataclass(frozen=True)
class PilotGroup:
    """Slots whose pilots lie on the same symbols and subcarriers.

    Attributes:
        chosen: the slots, int64 ``(b,)``.
        symbols, subcarriers: where their pilots are, increasing, int64 ``(P,)`` and ``(Q,)``.
    """

    chosen: torch.Tensor
    symbols: torch.Tensor
    subcarriers: torch.Tensor

    def take(self, grid: torch.Tensor) -> torch.Tensor:
        """What a grid ``(B, ..., S, F)`` holds at the pilots of these slots, ``(b, ..., P, Q)``."""
        grid = grid[self.chosen].index_select(-2, self.symbols)
        return grid if len(self.subcarriers) == grid.shape[-1] else grid.index_select(-1, self.subcarriers)

    def raw_estimates(self, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        """Least squares at the pilots, and by how much the pilots' power lowers its noise.

        Returns:
            ``y / pilot``, complex64 ``(b, R, P, Q)``, and the mean power of a pilot, float32 ``(b,)``.
        """
        pilots = self.take(slots.pilots)
        power = torch.view_as_real(pilots).square().sum(-1)
        return self.take(slots.y) * (pilots.conj() / power)[:, None], power.mean((1, 2))


def pilot_groups(slots: Slots) -> Iterator[PilotGroup]:
    """The slots of a batch by the place of their pilots."""
    sent = slots.pilots != 0
    num_symbols = sent.shape[1]
    places, of_slot = torch.cat([sent.any(2), sent.any(1)], 1).unique(dim=0, return_inverse=True)
    for i, place in enumerate(places):
        chosen = torch.nonzero(of_slot == i)[:, 0]
        yield PilotGroup(chosen, torch.nonzero(place[:num_symbols])[:, 0], torch.nonzero(place[num_symbols:])[:, 0])
