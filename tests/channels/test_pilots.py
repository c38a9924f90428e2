import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from channels import Channels, Dmrs, Grid, Scenario, SlotStream
from channels.pilots import dmrs_initial_state, dmrs_layouts, dmrs_sequence, draw_pilots, gold_sequence
from leanrx_core.errors import UserError


def gold_bit_by_bit(c_init: int, length: int) -> list[int]:
    """TS 38.211, 5.2.1, as it is written, with two lists of bits."""
    x1 = [1] + 30 * [0]
    x2 = [(c_init >> i) & 1 for i in range(31)]
    for n in range(1600 + length):
        x1.append((x1[n + 3] + x1[n]) % 2)
        x2.append((x2[n + 3] + x2[n + 2] + x2[n + 1] + x2[n]) % 2)
    return [(x1[n + 1600] + x2[n + 1600]) % 2 for n in range(length)]


@given(st.integers(0, 2**31 - 1), st.integers(1, 200))
def test_gold_sequence_is_that_of_38_211(c_init: int, length: int) -> None:
    (bits,) = gold_sequence(torch.tensor([c_init]), length).tolist()
    assert bits == gold_bit_by_bit(c_init, length)


# DMRS of a slot of 14 symbols, type A from symbol 2: TS 38.211, tables 6.4.1.1.3-3 and -4, last rows, typed in here.
SYMBOLS = {
    ("A", 1): {0: [2], 1: [2, 11], 2: [2, 7, 11], 3: [2, 5, 8, 11]},
    ("B", 1): {0: [0], 1: [0, 10], 2: [0, 5, 10], 3: [0, 3, 6, 9]},
    ("A", 2): {0: [2, 3], 1: [2, 3, 10, 11]},
    ("B", 2): {0: [0, 1], 1: [0, 1, 9, 10]},
}


CASES = [
    Dmrs.model_validate(
        {
            "mapping_type": mapping,
            "length": length,
            "config_type": config_type,
            "additional_positions": [additional],
            "cdm_groups_without_data": groups,
        }
    )
    for (mapping, length), symbols in SYMBOLS.items()
    for config_type in (1, 2)
    for additional in symbols
    for groups in range(1, 2 + config_type)
]
NUM_PRB = 3


def standard_dmrs(dmrs: Dmrs, symbol: int, slot: int, identity: int, scid: int) -> tuple[np.ndarray, np.ndarray]:
    """Pilots and data mask of one symbol by 6.4.1.1.1.1 and 6.4.1.1.3 as written.

    Port 0 has Delta = 0 and w = 1, and the reference point is subcarrier 0.
    """
    groups, num_subcarriers = dmrs.cdm_groups_without_data, 12 * NUM_PRB
    c = gold_bit_by_bit(
        (2**17 * (14 * slot + symbol + 1) * (2 * identity + 1) + 2 * identity + scid) % 2**31, 2 * num_subcarriers
    )
    r = [(1 - 2 * c[2 * n] + 1j * (1 - 2 * c[2 * n + 1])) / math.sqrt(2) for n in range(num_subcarriers)]
    pilots, has_data = np.zeros(num_subcarriers, complex), np.ones(num_subcarriers, bool)
    for n in range(num_subcarriers):
        for k_prime in (0, 1):
            k = 4 * n + 2 * k_prime if dmrs.config_type == 1 else 6 * n + k_prime
            if k < num_subcarriers:
                pilots[k] = math.sqrt(groups) * r[2 * n + k_prime]
    for k in range(num_subcarriers):
        group = k % 2 if dmrs.config_type == 1 else k % 6 // 2
        has_data[k] = group >= groups
    return pilots, has_data


def sionna_dmrs(dmrs: Dmrs, symbol: int, slot: int, identity: int, scid: int) -> np.ndarray:
    """Pilots of one symbol by Sionna."""
    from sionna.phy.nr import CarrierConfig, PUSCHConfig, PUSCHDMRSConfig

    config = PUSCHConfig(
        carrier_config=CarrierConfig(n_size_grid=NUM_PRB, slot_number=slot),
        pusch_dmrs_config=PUSCHDMRSConfig(
            config_type=dmrs.config_type,
            length=dmrs.length,
            additional_position=dmrs.additional_positions[0],
            num_cdm_groups_without_data=dmrs.cdm_groups_without_data,
            n_id=[identity, identity],
            n_scid=scid,
        ),
        mapping_type=dmrs.mapping_type,
    )
    return config.dmrs_grid[0, :, symbol]


@pytest.mark.parametrize(("slot", "identity", "scid"), [(0, 0, 0), (7, 501, 1), (3, 65535, 0)])
@pytest.mark.parametrize(
    "dmrs",
    CASES,
    ids=lambda d: (
        f"{d.mapping_type}-{d.config_type}-{d.length}-{d.additional_positions[0]}-{d.cdm_groups_without_data}"
    ),
)
def test_dmrs_equal_the_standard_and_sionna(dmrs: Dmrs, slot: int, identity: int, scid: int) -> None:
    """Positions, amplitudes and values of every element."""
    (layout,) = dmrs_layouts(dmrs)
    assert layout.symbols == SYMBOLS[dmrs.mapping_type, dmrs.length][dmrs.additional_positions[0]]
    for symbol in layout.symbols:
        state = dmrs_initial_state(torch.tensor([slot]), symbol, torch.tensor([identity]), torch.tensor([scid]))
        values = dmrs_sequence(state, NUM_PRB * sum(layout.has_pilot))[0].numpy()
        pilots = np.zeros(12 * NUM_PRB, complex)
        pilots[np.tile(layout.has_pilot, NUM_PRB)] = values * math.sqrt(dmrs.cdm_groups_without_data)
        expected, has_data = standard_dmrs(dmrs, symbol, slot, identity, scid)
        np.testing.assert_allclose(pilots, expected, atol=1e-6)
        np.testing.assert_array_equal(np.tile(layout.has_data, NUM_PRB), has_data)
        np.testing.assert_allclose(pilots, sionna_dmrs(dmrs, symbol, slot, identity, scid), atol=1e-6)


def test_every_slot_draws_a_layout_and_a_sequence() -> None:
    dmrs = Dmrs(type_a_positions=(2, 3), additional_positions=(0, 1))
    pilots, is_data, *_ = draw_pilots(Grid(num_prb=2, dmrs=dmrs), 200, torch.Generator().manual_seed(1))
    symbols = {tuple(torch.nonzero(p.any(-1))[:, 0].tolist()) for p in pilots}
    assert symbols == {(2,), (3,), (2, 11), (3, 11)}
    is_pilot = pilots != 0
    assert not (is_pilot & is_data).any()
    torch.testing.assert_close(pilots[is_pilot].abs(), torch.full((int(is_pilot.sum()),), math.sqrt(2)))
    assert len({tuple(p[p != 0][:12].tolist()) for p in pilots}) > 190
    is_empty = ~is_pilot & ~is_data
    assert int(is_empty.sum()) == int(is_pilot.sum())  # the other comb of type 1 carries nothing


def test_mean_power_of_a_pilot_symbol_is_that_of_data() -> None:
    for config_type, groups in ((1, 2), (2, 3)):
        dmrs = Dmrs.model_validate({"config_type": config_type, "cdm_groups_without_data": groups})
        pilots = draw_pilots(Grid(num_prb=4, dmrs=dmrs), 4, torch.Generator().manual_seed(1))
        torch.testing.assert_close(pilots.values[:, 2].abs().square().mean(1), torch.ones(4))


def test_slots_name_the_sequence_of_their_pilots() -> None:
    """Slot number, N_ID and n_SCID of every slot give its pilots, here by Sionna. Whole symbols have none."""
    dmrs = Dmrs(additional_positions=(1,))
    grid = Grid(num_prb=NUM_PRB, dmrs=dmrs)
    scenario = Scenario(name="x", grid=grid, channels=Channels.model_validate({"train": ["AWGN"]}))
    slots = SlotStream(scenario, 1, 8).block(0)
    for i in range(8):
        number, identity, scid = (int(x[i]) for x in (slots.slot_number, slots.n_id, slots.n_scid))
        assert 0 <= number < 10
        expected = sionna_dmrs(dmrs, 11, number, identity, scid)
        np.testing.assert_allclose(slots.pilots[i, 11].numpy(), expected, atol=1e-6)
    whole = SlotStream(scenario.model_copy(update={"grid": Grid(num_prb=1)}), 1, 2).block(0)
    assert whole.slot_number.tolist() == whole.n_id.tolist() == whole.n_scid.tolist() == [-1, -1]


def test_empty_elements_contain_only_noise() -> None:
    scenario = Scenario(
        name="x",
        grid=Grid(num_prb=2, dmrs=Dmrs()),
        channels=Channels.model_validate({"train": ["TDL-A"]}),
        snr_db=(60, 60),
    )
    slots = SlotStream(scenario, 1, 8).block(0)
    empty = (slots.pilots == 0) & ~slots.is_data
    power = slots.y.abs().square().mean(1)[empty].mean()
    assert float(power) == pytest.approx(1e-6, rel=0.2)
    assert not slots.bits[~slots.is_data[:, None].expand_as(slots.bits)].any()


def test_yaml_round_trip_of_a_grid_with_dmrs(tmp_path) -> None:
    grid = Grid(num_prb=2, dmrs=Dmrs(additional_positions=(0, 2)))
    path = tmp_path / "grid.yaml"
    path.write_text(grid.to_yaml())
    assert Grid.load(path) == grid


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cdm_groups_without_data": 3}, "3 needs config_type 2"),
        ({"length": 2, "additional_positions": [3]}, "has 0 or 1 additional positions"),
        ({"type_a_positions": [3], "additional_positions": [3]}, r"3 needs type_a_positions \[2\]"),
        ({"mapping_type": "B", "type_a_positions": [3]}, "mapping type B begins on symbol 0"),
        ({"additional_positions": [4]}, "additional_positions"),
    ],
)
def test_configurations_outside_the_standard_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Dmrs.parse(fields, "dmrs")
