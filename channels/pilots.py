"""Pilots of a batch of slots: whole OFDM symbols of QPSK pilots, or the DMRS of 5G PUSCH."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import NamedTuple

import torch

from channels.grid import NUM_SYMBOLS, SUBCARRIERS_PER_PRB, Dmrs, Grid, constellation

_GOLD_DELAY = 1600  # N_C of TS 38.211, 5.2.1


class DmrsLayout(NamedTuple):
    """Where the DMRS of a slot are.

    Attributes:
        symbols: OFDM symbols that carry DMRS.
        has_pilot: for the 12 subcarriers of a resource block, whether they carry a pilot in these symbols.
        has_data: for the 12 subcarriers of a resource block, whether they carry data in these symbols.
    """

    symbols: list[int]
    has_pilot: list[bool]
    has_data: list[bool]


class Pilots(NamedTuple):
    """Pilots of some slots.

    Attributes:
        values: pilot values, complex64 ``(B, S, F)``, which are 0 where there is no pilot.
        is_data: REs that carry data, bool ``(B, S, F)``.
        slot_number: number of the slot in its frame, int64 ``(B,)``; -1 without DMRS.
        n_id: scrambling identity of the DMRS, int64 ``(B,)``; -1 without DMRS.
        n_scid: choice of the scrambling identity, 0 or 1, int64 ``(B,)``; -1 without DMRS.
    """

    values: torch.Tensor
    is_data: torch.Tensor
    slot_number: torch.Tensor
    n_id: torch.Tensor
    n_scid: torch.Tensor

    @classmethod
    def without_dmrs(cls, values: torch.Tensor, is_data: torch.Tensor) -> Pilots:
        """Return pilots that no sequence of the standard gives."""
        return cls(values, is_data, *torch.full((3, len(values)), -1, device=values.device))


def draw_pilots(grid: Grid, batch: int, generator: torch.Generator) -> Pilots:
    """Draw the pilots of some slots.

    With ``pilot_patterns``, every slot draws new QPSK values, because scrambling changes them in a real system. With
    ``dmrs``, every slot draws its scrambling identity, its n_SCID and its number in the frame. These fix the sequence.

    Args:
        grid: resource grid.
        batch: number of slots.
        generator: source of all random numbers; it also sets the device.

    """
    if grid.dmrs is None:
        return _draw_full_symbol_pilots(grid, batch, generator)
    return _draw_dmrs(grid, grid.dmrs, batch, generator)


def _draw_full_symbol_pilots(grid: Grid, batch: int, generator: torch.Generator) -> Pilots:
    device = generator.device
    max_symbols = max(len(p) for p in grid.pilot_patterns)
    labels = torch.randint(
        4, (batch, max_symbols, grid.num_subcarriers), dtype=torch.uint8, device=device, generator=generator
    )
    values = constellation(2, device)[labels.int()]
    pilots = values.new_zeros(batch, NUM_SYMBOLS, grid.num_subcarriers)
    is_data = torch.ones(pilots.shape, dtype=torch.bool, device=device)
    pattern_index = torch.randint(len(grid.pilot_patterns), (batch,), device=device, generator=generator).cpu()
    for i, pattern in enumerate(grid.pilot_patterns):
        slots = torch.nonzero(pattern_index == i).to(device)
        symbols = torch.tensor(pattern, device=device)
        pilots[slots, symbols] = values[slots[:, 0], : len(pattern)]
        is_data[slots, symbols] = False
    pilots[..., grid.empty_subcarriers] = 0
    is_data[..., grid.empty_subcarriers] = False
    return Pilots.without_dmrs(pilots, is_data)


def _draw_dmrs(grid: Grid, dmrs: Dmrs, batch: int, generator: torch.Generator) -> Pilots:
    device = generator.device
    slots_per_frame = 10 * grid.subcarrier_spacing_hz // 15000

    def draw(count: int) -> torch.Tensor:
        return torch.randint(count, (batch,), device=device, generator=generator)

    identity, scid, slot = draw(2**16), draw(2), draw(slots_per_frame)
    layouts = dmrs_layouts(dmrs)
    layout_index = draw(len(layouts)).cpu()
    pilots = torch.zeros(batch, NUM_SYMBOLS, grid.num_subcarriers, dtype=torch.complex64, device=device)
    is_data = torch.ones(pilots.shape, dtype=torch.bool, device=device)
    for i, layout in enumerate(layouts):
        slots = torch.nonzero(layout_index == i)[:, 0].to(device)
        if not len(slots):
            continue
        has_pilot, has_data = (torch.tensor(m).repeat(grid.num_prb) for m in (layout.has_pilot, layout.has_data))
        subcarriers, has_data = torch.nonzero(has_pilot)[:, 0].to(device), has_data.to(device)
        for symbol in layout.symbols:
            c_init = dmrs_initial_state(slot[slots], symbol, identity[slots], scid[slots])
            values = dmrs_sequence(c_init, len(subcarriers)) * dmrs.cdm_groups_without_data**0.5
            pilots[slots[:, None], symbol, subcarriers] = values
            is_data[slots, symbol] = has_data
    return Pilots(pilots, is_data, slot, identity, scid)


@lru_cache
def dmrs_layouts(dmrs: Dmrs) -> list[DmrsLayout]:
    """Return the layouts that a slot can draw, from Sionna's tables of TS 38.211, 6.4.1.1.3."""
    from sionna.phy.nr import CarrierConfig, PUSCHConfig, PUSCHDMRSConfig

    layouts = []
    for position, additional in itertools.product(dmrs.type_a_positions, dmrs.additional_positions):
        config = PUSCHConfig(
            carrier_config=CarrierConfig(n_size_grid=1),
            pusch_dmrs_config=PUSCHDMRSConfig(
                config_type=dmrs.config_type,
                length=dmrs.length,
                additional_position=additional,
                type_a_position=position,
                num_cdm_groups_without_data=dmrs.cdm_groups_without_data,
            ),
            mapping_type=dmrs.mapping_type,
        )
        symbols = [int(s) for s in config.dmrs_symbol_indices]
        has_pilot = (config.dmrs_grid[0, :, symbols[0]] != 0).tolist()
        has_data = (~config.dmrs_mask[:, symbols[0]].astype(bool)).tolist()
        layouts.append(DmrsLayout(symbols, has_pilot, has_data))
    return layouts


def pilot_layouts(grid: Grid) -> list[DmrsLayout]:
    """Return where the pilots of a slot can be, one layout per pattern or DMRS layout that a slot can draw.

    Example:
        >>> [layout.symbols for layout in pilot_layouts(Grid(pilot_patterns=((2,), (2, 11))))]
        [[2], [2, 11]]
    """
    if grid.dmrs is not None:
        return dmrs_layouts(grid.dmrs)
    everywhere, nowhere = [True] * SUBCARRIERS_PER_PRB, [False] * SUBCARRIERS_PER_PRB
    return [DmrsLayout(list(pattern), everywhere, nowhere) for pattern in grid.pilot_patterns]


def dmrs_initial_state(slot: torch.Tensor, symbol: int, identity: torch.Tensor, scid: torch.Tensor) -> torch.Tensor:
    """Return the initial state c_init of the Gold sequence of a DMRS symbol (TS 38.211, 6.4.1.1.1.1).

    Args:
        slot: number of the slot in its frame, int64 ``(N,)``.
        symbol: OFDM symbol in the slot.
        identity: scrambling identity N_ID of n_SCID, 0 to 65535, int64 ``(N,)``.
        scid: n_SCID, 0 or 1, int64 ``(N,)``.

    Returns:
        int64 ``(N,)``.
    """
    return (2**17 * (NUM_SYMBOLS * slot + symbol + 1) * (2 * identity + 1) + 2 * identity + scid) % 2**31


def dmrs_sequence(c_init: torch.Tensor, length: int) -> torch.Tensor:
    """Return the QPSK sequences r(n) of TS 38.211, 6.4.1.1.1.1.

    Args:
        c_init: initial states, int64 ``(N,)``, see :func:`dmrs_initial_state`.
        length: number of QPSK symbols.

    Returns:
        complex64 ``(N, length)``.
    """
    bits = gold_sequence(c_init, 2 * length)
    signs = (1 - 2 * bits.to(torch.float32)) / 2**0.5
    return torch.complex(signs[:, 0::2], signs[:, 1::2])


def gold_sequence(c_init: torch.Tensor, length: int) -> torch.Tensor:
    """Return the pseudo-random sequences of TS 38.211, 5.2.1, for many initial states at once.

    The second m-sequence is linear in its initial state. It is the sum of one fixed sequence per bit of the state.

    Args:
        c_init: initial states, int64 ``(N,)``.
        length: number of bits.

    Returns:
        Bits, int64 ``(N, length)``.

    Example:
        >>> gold_sequence(torch.tensor([1]), 8).tolist()
        [[0, 0, 0, 0, 0, 0, 1, 0]]
    """
    first, basis = _m_sequences(-(-length // 1024) * 1024)
    state = (c_init[:, None] >> torch.arange(31, device=c_init.device)) & 1
    second = state.to(torch.float32) @ basis[:, :length].to(c_init.device)
    return (first[:length].to(c_init.device) + second.to(torch.int64)) % 2


@lru_cache
def _m_sequences(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first m-sequence, int64 ``(L,)``, and the second for each unit state, float32 ``(31, L)``."""
    x1 = torch.zeros(_GOLD_DELAY + length, dtype=torch.int64)
    x1[0] = 1
    x2 = torch.zeros(31, _GOLD_DELAY + length, dtype=torch.int64)
    x2[:, :31] = torch.eye(31, dtype=torch.int64)
    for n in range(_GOLD_DELAY + length - 31):
        x1[n + 31] = x1[n + 3] ^ x1[n]
        x2[:, n + 31] = x2[:, n + 3] ^ x2[:, n + 2] ^ x2[:, n + 1] ^ x2[:, n]
    return x1[_GOLD_DELAY:], x2[:, _GOLD_DELAY:].to(torch.float32)
