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
    (found,) = gold_sequence(torch.tensor([c_init]), length).tolist()
    assert found == gold_bit_by_bit(c_init, length)


# DMRS of a slot of 14 symbols, type A from symbol 2: TS 38.211, tables 6.4.1.1.3-3 and -4, last rows, typed in here.
SYMBOLS = {
    ("A", 1): {0: [2], 1: [2, 11], 2: [2, 7, 11], 3: [2, 5, 8, 11]},
    ("B", 1): {0: [0], 1: [0, 10], 2: [0, 5, 10], 3: [0, 3, 6, 9]},
    ("A", 2): {0: [2, 3], 1: [2, 3, 10, 11]},
    ("B", 2): {0: [0, 1], 1: [0, 1, 9, 10]},
}


@pytest.mark.parametrize("config_type", [1, 2])
@pytest.mark.parametrize(("mapping", "length"), list(SYMBOLS))
def test_dmrs_equal_an_independent_computation_and_sionna(mapping: str, length: int, config_type: int) -> None:
    """Every element of every grid: positions, amplitudes and values, for slot numbers, identities and n_SCID."""
    from sionna.phy.nr import CarrierConfig, PUSCHConfig, PUSCHDMRSConfig

    num_prb = 3
    for additional, symbols in SYMBOLS[mapping, length].items():
        for groups in range(1, 2 + config_type):
            dmrs = Dmrs.model_validate(
                {
                    "mapping_type": mapping,
                    "length": length,
                    "config_type": config_type,
                    "additional_positions": [additional],
                    "cdm_groups_without_data": groups,
                }
            )
            ((found_symbols, occupied, free),) = dmrs_layouts(dmrs)
            assert found_symbols == symbols
            for slot, identity, scid in ((0, 0, 0), (7, 501, 1), (3, 65535, 0)):
                for symbol in symbols:
                    # 6.4.1.1.1.1 and 6.4.1.1.3 as written, port 0 (Delta = 0, w = 1), reference point subcarrier 0
                    c_init = (2**17 * (14 * slot + symbol + 1) * (2 * identity + 1) + 2 * identity + scid) % 2**31
                    expected = np.zeros(12 * num_prb, complex)
                    data = np.ones(12 * num_prb, bool)
                    c = gold_bit_by_bit(c_init, 24 * num_prb)
                    r = [(1 - 2 * c[2 * n] + 1j * (1 - 2 * c[2 * n + 1])) / math.sqrt(2) for n in range(12 * num_prb)]
                    for n in range(12 * num_prb):
                        for k_prime in (0, 1):
                            k = 4 * n + 2 * k_prime if config_type == 1 else 6 * n + k_prime
                            if k < 12 * num_prb:
                                expected[k] = math.sqrt(groups) * r[2 * n + k_prime]
                    for k in range(12 * num_prb):
                        group = k % 2 if config_type == 1 else k % 6 // 2
                        data[k] = group >= groups
                    start = dmrs_initial_state(
                        torch.tensor([slot]), symbol, torch.tensor([identity]), torch.tensor([scid])
                    )
                    values = dmrs_sequence(start, num_prb * sum(occupied))[0].numpy() * math.sqrt(groups)
                    ours = np.zeros(12 * num_prb, complex)
                    ours[np.tile(occupied, num_prb)] = values
                    np.testing.assert_allclose(ours, expected, atol=1e-6)
                    np.testing.assert_array_equal(np.tile(free, num_prb), data)
                    sionna = PUSCHConfig(
                        carrier_config=CarrierConfig(n_size_grid=num_prb, slot_number=slot),
                        pusch_dmrs_config=PUSCHDMRSConfig(
                            config_type=config_type,
                            length=length,
                            additional_position=additional,
                            num_cdm_groups_without_data=groups,
                            n_id=[identity, identity],
                            n_scid=scid,
                        ),
                        mapping_type=mapping,
                    )
                    np.testing.assert_allclose(ours, sionna.dmrs_grid[0, :, symbol], atol=1e-6)


def test_slots_draw_layouts_and_sequences() -> None:
    dmrs = Dmrs(type_a_positions=(2, 3), additional_positions=(0, 1))
    pilots, is_data = draw_pilots(Grid(num_prb=2, dmrs=dmrs), 200, torch.Generator().manual_seed(1))
    symbols = {tuple(torch.nonzero(p.any(-1))[:, 0].tolist()) for p in pilots}
    assert symbols == {(2,), (3,), (2, 11), (3, 11)}
    on = pilots != 0
    assert not (on & is_data).any()
    torch.testing.assert_close(pilots[on].abs(), torch.full((int(on.sum()),), math.sqrt(2)))
    assert len({tuple(p[p != 0][:12].tolist()) for p in pilots}) > 190
    empty = ~on & ~is_data
    assert int(empty.sum()) == int(on.sum())  # the other comb of type 1 carries nothing


def test_mean_power_of_a_pilot_symbol_is_that_of_data() -> None:
    for config_type, groups in ((1, 2), (2, 3)):
        dmrs = Dmrs.model_validate({"config_type": config_type, "cdm_groups_without_data": groups})
        pilots, _ = draw_pilots(Grid(num_prb=4, dmrs=dmrs), 4, torch.Generator().manual_seed(1))
        torch.testing.assert_close(pilots[:, 2].abs().square().mean(1), torch.ones(4))


def test_empty_elements_receive_noise_alone() -> None:
    made = Scenario(
        name="x",
        grid=Grid(num_prb=2, dmrs=Dmrs()),
        channels=Channels.model_validate({"train": ["TDL-A"]}),
        snr_db=(60, 60),
    )
    slots = SlotStream(made, 1, 8).block(0)
    empty = (slots.pilots == 0) & ~slots.is_data
    power = slots.y.abs().square().mean(1)[empty].mean()
    assert float(power) == pytest.approx(1e-6, rel=0.2)
    assert not slots.bits[~slots.is_data[:, None].expand_as(slots.bits)].any()


def test_grids_with_dmrs_survive_yaml(tmp_path) -> None:
    grid = Grid(num_prb=2, dmrs=Dmrs(additional_positions=(0, 2)))
    path = tmp_path / "grid.yaml"
    path.write_text(grid.to_yaml())
    assert Grid.load(path) == grid


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cdm_groups_without_data": 3}, "3 needs config_type 2"),
        ({"length": 2, "additional_positions": [3]}, "has 0 or 1 additional positions"),
        ({"type_a_positions": [3], "additional_positions": [3]}, r"3 needs type_a_positions \[2\]"),
        ({"mapping_type": "B", "type_a_positions": [3]}, "mapping type B begins on symbol 0"),
        ({"additional_positions": [4]}, "additional_positions"),
    ],
)
def test_what_the_standard_does_not_have_is_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Dmrs.parse(wrong, "dmrs")
