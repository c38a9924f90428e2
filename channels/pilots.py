"""Pilots of a batch of slots: whole QPSK symbols, or the DMRS of 5G PUSCH."""

from __future__ import annotations

import itertools
from functools import lru_cache

import torch

from channels.grid import NUM_SYMBOLS, Dmrs, Grid, constellation

_GOLD_DELAY = 1600  # N_C of TS 38.211, 5.2.1


def draw_pilots(grid: Grid, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the pilots of ``batch`` slots.

    With ``pilot_patterns``, QPSK values are drawn anew for every slot, as scrambling changes them. With ``dmrs``, each
    slot draws its scrambling identity, its n_SCID and its number in the frame, which fix the sequence.

    Returns:
        pilot values, complex64 ``(batch, S, F)``, 0 off the pilots; and which REs carry data, bool ``(batch, S, F)``.
    """
    if grid.dmrs is None:
        return _whole_symbols(grid, batch, generator)
    return _dmrs(grid, grid.dmrs, batch, generator)


def _whole_symbols(grid: Grid, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    device = generator.device
    most = max(len(p) for p in grid.pilot_patterns)
    labels = torch.randint(
        4, (batch, most, grid.num_subcarriers), dtype=torch.uint8, device=device, generator=generator
    )
    values = constellation(2, device)[labels.int()]
    pilots = values.new_zeros(batch, NUM_SYMBOLS, grid.num_subcarriers)
    is_data = torch.ones(pilots.shape, dtype=torch.bool, device=device)
    of_slot = torch.randint(len(grid.pilot_patterns), (batch,), device=device, generator=generator)
    for i, pattern in enumerate(grid.pilot_patterns):
        chosen, at = torch.nonzero(of_slot == i), torch.tensor(pattern, device=device)
        pilots[chosen, at] = values[chosen[:, 0], : len(pattern)]
        is_data[chosen, at] = False
    return pilots, is_data


def _dmrs(grid: Grid, dmrs: Dmrs, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    device = generator.device
    slots_per_frame = 10 * grid.subcarrier_spacing_hz // 15000

    def draw(count: int) -> torch.Tensor:
        return torch.randint(count, (batch,), device=device, generator=generator)

    identity, scid, slot = draw(2**16), draw(2), draw(slots_per_frame)
    layouts = dmrs_layouts(dmrs)
    of_slot = draw(len(layouts))
    pilots = torch.zeros(batch, NUM_SYMBOLS, grid.num_subcarriers, dtype=torch.complex64, device=device)
    is_data = torch.ones(pilots.shape, dtype=torch.bool, device=device)
    for i, (symbols, subcarriers_of_prb, free_of_prb) in enumerate(layouts):
        chosen = torch.nonzero(of_slot == i)[:, 0]
        if not len(chosen):
            continue
        occupied, free = (
            torch.tensor(mask, device=device).repeat(grid.num_prb) for mask in (subcarriers_of_prb, free_of_prb)
        )
        for symbol in symbols:
            start = dmrs_start(slot[chosen], symbol, identity[chosen], scid[chosen])
            values = dmrs_sequence(start, int(occupied.sum())) * dmrs.cdm_groups_without_data**0.5
            pilots[chosen[:, None], symbol, torch.nonzero(occupied)[:, 0]] = values
            is_data[chosen, symbol] = free
    return pilots, is_data


@lru_cache
def dmrs_layouts(dmrs: Dmrs) -> list[tuple[list[int], list[bool], list[bool]]]:
    """The layouts that a slot can draw, from Sionna's tables of TS 38.211, 6.4.1.1.3.

    Returns:
        for each layout its symbols, and over the 12 subcarriers of a resource block which carry pilots and which carry
        data in these symbols.
    """
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
        occupied = (config.dmrs_grid[0, :, symbols[0]] != 0).tolist()
        free = (~config.dmrs_mask[:, symbols[0]].astype(bool)).tolist()
        layouts.append((symbols, occupied, free))
    return layouts


def dmrs_start(slot: torch.Tensor, symbol: int, identity: torch.Tensor, scid: torch.Tensor) -> torch.Tensor:
    """Initial state c_init of a DMRS symbol's Gold sequence (TS 38.211, 6.4.1.1.1.1), int64 as the arguments.

    Args:
        slot: number of the slot in its frame.
        symbol: OFDM symbol in the slot.
        identity: scrambling identity N_ID of n_SCID, 0..65535.
        scid: n_SCID, 0 or 1.
    """
    return (2**17 * (NUM_SYMBOLS * slot + symbol + 1) * (2 * identity + 1) + 2 * identity + scid) % 2**31


def dmrs_sequence(start: torch.Tensor, length: int) -> torch.Tensor:
    """QPSK sequence r(n) of TS 38.211, 6.4.1.1.1.1, complex64 ``(len(start), length)``."""
    bits = gold_sequence(start, 2 * length)
    signs = (1 - 2 * bits.to(torch.float32)) / 2**0.5
    return torch.complex(signs[:, 0::2], signs[:, 1::2])


def gold_sequence(start: torch.Tensor, length: int) -> torch.Tensor:
    """Pseudo-random sequences of TS 38.211, 5.2.1, for many initial states at once.

    The second m-sequence is linear in its initial state, so it is the sum of one fixed sequence per bit of the state.

    Args:
        start: initial states c_init, int64 ``(N,)``.
        length: bits.

    Returns:
        int64 ``(N, length)``.
    """
    first, basis = _m_sequences(-(-length // 1024) * 1024)
    state = (start[:, None] >> torch.arange(31, device=start.device)) & 1
    second = state.to(torch.float32) @ basis[:, :length].to(start.device)
    return (first[:length].to(start.device) + second.to(torch.int64)) % 2


@lru_cache
def _m_sequences(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first m-sequence int64 ``(length,)``, and the second one for each unit state, float32 ``(31, length)``."""
    x1 = torch.zeros(_GOLD_DELAY + length, dtype=torch.int64)
    x1[0] = 1
    x2 = torch.zeros(31, _GOLD_DELAY + length, dtype=torch.int64)
    x2[:, :31] = torch.eye(31, dtype=torch.int64)
    for n in range(_GOLD_DELAY + length - 31):
        x1[n + 31] = x1[n + 3] ^ x1[n]
        x2[:, n + 31] = x2[:, n + 3] ^ x2[:, n + 2] ^ x2[:, n + 1] ^ x2[:, n]
    return x1[_GOLD_DELAY:], x2[:, _GOLD_DELAY:].to(torch.float32)
