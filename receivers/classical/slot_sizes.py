"""Sizes of a slot that the operation counts of the classical algorithms depend on."""

from __future__ import annotations

from typing import NamedTuple, Self

from channels import NUM_SYMBOLS, Grid
from channels.pilots import dmrs_layouts


class SlotSizes(NamedTuple):
    """Sizes of one slot, for the grid's pilot pattern with the most pilot symbols.

    Attributes:
        antennas: receive antennas R.
        symbols: OFDM symbols S.
        subcarriers: subcarriers F.
        pilot_symbols: symbols with pilots P.
        pilot_subcarriers: subcarriers with pilots, in such a symbol, Q.
        data_res: resource elements with data D.
    """

    antennas: int
    symbols: int
    subcarriers: int
    pilot_symbols: int
    pilot_subcarriers: int
    data_res: int

    @classmethod
    def of(cls, grid: Grid) -> Self:
        """The sizes of a slot of ``grid``."""
        if grid.dmrs is None:
            p = max(len(pattern) for pattern in grid.pilot_patterns)
            q = grid.num_subcarriers - len(grid.empty_subcarriers)
            data_res = (NUM_SYMBOLS - p) * q
        else:
            symbols, occupied, free = max(dmrs_layouts(grid.dmrs), key=lambda layout: len(layout[0]))
            p, q = len(symbols), sum(occupied) * grid.num_prb
            data_res = ((NUM_SYMBOLS - p) * 12 + p * sum(free)) * grid.num_prb
        return cls(grid.num_rx, NUM_SYMBOLS, grid.num_subcarriers, p, q, data_res)
