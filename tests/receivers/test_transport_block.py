"""Transport block sizes, base graphs and MCS tables against Sionna's and the clauses of the standard."""

import itertools

import pytest
import torch

from channels.grid import BITS_PER_SYMBOL, Dmrs, Grid
from channels.scenarios import Channels, Scenario
from leanrx_core.errors import UserError
from receivers.evaluation.mcs import Mcs
from receivers.evaluation.stopping import Evaluation
from receivers.evaluation.transport_block import TransportFormat, scenario_formats, transport_format, transport_formats

ROWS = [Mcs(table=table, index=i) for table, last in ((1, 28), (2, 27), (3, 28)) for i in range(last + 1)]
SCHEMES = sorted({(BITS_PER_SYMBOL[row.modulation], row.code_rate) for row in ROWS})
NUM_PRB = range(1, 274)
RES_PER_PRB = (132, 144, 156, 160, 164)
"""Data REs per PRB: three to one whole pilot symbols, and DMRS of type 2 with two groups or one without data."""


def blocks(bits_per_symbol: int, code_rate: float, res_per_prb: int) -> list[TransportFormat | None]:
    """Transport formats of all numbers of PRB; none where the block does not fit."""
    result: list[TransportFormat | None] = []
    for num_prb in NUM_PRB:
        try:
            result.append(transport_format(code_rate, bits_per_symbol, res_per_prb * num_prb, num_prb))
        except UserError:
            result.append(None)
    return result


def test_mcs_tables_are_sionnas() -> None:
    from sionna.phy.nr.utils import decode_mcs_index

    for row in ROWS:
        order, code_rate = decode_mcs_index(torch.tensor(row.index), torch.tensor(row.table), is_pusch=True)
        assert (int(order), float(code_rate)) == (BITS_PER_SYMBOL[row.modulation], row.code_rate)


def test_sizes_and_code_blocks_of_all_schemes_and_bandwidths_are_sionnas() -> None:
    """58,695 combinations, with the cap of 156 REs per PRB."""
    from sionna.phy.nr.utils import calculate_tb_size

    num_prb = torch.tensor(NUM_PRB)
    for (order, code_rate), res_per_prb in itertools.product(SCHEMES, RES_PER_PRB):
        shape = (len(num_prb),)
        size, code_block_bits, code_blocks, crc_bits, _ = calculate_tb_size(
            torch.full(shape, order),
            torch.full(shape, code_rate),
            num_prbs=num_prb,
            num_ofdm_symbols=torch.full(shape, 14),
            num_dmrs_per_prb=torch.full(shape, 168 - res_per_prb),
            return_cw_length=False,
            device="cpu",
        )
        peers = zip(*(x.tolist() for x in (size, code_block_bits, code_blocks, crc_bits)), strict=True)
        for block, peer in zip(blocks(order, code_rate, res_per_prb), peers, strict=True):
            if block is not None:
                assert (block.size_bits, block.code_block_bits, block.code_blocks, block.crc_bits) == peer


def test_base_graph_and_lengths_of_all_schemes_and_bandwidths() -> None:
    """TS 38.212, 6.2.2 by the size without CRC and the target rate; E by 5.4.2.1."""
    refused = 0
    for (order, code_rate), res_per_prb in itertools.product(SCHEMES, RES_PER_PRB):
        for block in blocks(order, code_rate, res_per_prb):
            if block is None:
                refused += 1
                continue
            size = block.size_bits
            second = size <= 292 or (size <= 3824 and code_rate <= 0.67) or code_rate <= 0.25
            assert block.base_graph == (2 if second else 1)
            assert block.code_block_bits <= {1: 8448, 2: 3840}[block.base_graph]
            assert block.code_block_bits * block.code_blocks == size + block.crc_bits + 24 * block.code_blocks * (
                block.code_blocks > 1
            )
            lengths = block.rate_matched_bits
            assert sum(lengths) == block.coded_bits
            assert lengths == sorted(lengths)
            assert lengths[-1] - lengths[0] in (0, order)
    assert refused < 100


def test_sionnas_encoder_takes_another_base_graph_in_62_cases() -> None:
    """It compares the size with CRC and the rate after rounding with the limits of the standard."""
    schemes = {(BITS_PER_SYMBOL[row.modulation], row.code_rate) for row in ROWS if row.table < 3}
    others = total = 0
    for (order, code_rate), res_per_prb in itertools.product(schemes, (132, 144, 156)):
        for block in blocks(order, code_rate, res_per_prb):
            total += 1
            if block is None:
                continue
            size, rate = block.code_block_bits, block.code_block_bits / block.rate_matched_bits[-1]
            graph = 2 if size <= 292 or (size <= 3824 and rate <= 0.67) or rate <= 0.25 else 1
            is_refused = rate < {1: 1 / 3, 2: 1 / 5}[graph]
            others += graph != block.base_graph and not is_refused
    assert (others, total) == (62, 30_303)


@pytest.mark.parametrize(
    ("code_rate", "bits_per_symbol", "num_prb", "res_per_prb", "size", "base_graph"),
    [
        (0.5, 4, 24, 162, 7424, 1),  # DMRS of type 1 with one group without data; without the cap: 7,808
        (0.5, 4, 24, 164, 7424, 1),
        (0.5, 4, 24, 160, 7424, 1),
        (0.5, 4, 6, 156, 1928, 2),  # half of the 3,744 coded bits: 1,872
        (679 / 1024, 2, 2, 132, 352, 2),  # with CRC and after rounding, the rate is 0.697
        (526 / 1024, 2, 28, 132, 3824, 2),  # with CRC, 3,840 bits
    ],
)
def test_sizes_by_hand(
    code_rate: float, bits_per_symbol: int, num_prb: int, res_per_prb: int, size: int, base_graph: int
) -> None:
    block = transport_format(code_rate, bits_per_symbol, res_per_prb * num_prb, num_prb)
    assert (block.size_bits, block.base_graph) == (size, base_graph)
    assert block.coded_bits == bits_per_symbol * res_per_prb * num_prb


def test_sizes_of_table_5_1_3_2_1() -> None:
    """The table has 93 sizes; the four below 56 bits need fewer REs."""
    sizes = {transport_format(0.5, 2, res, 1e9).size_bits for res in range(60, 3825)}
    assert (len(sizes), min(sizes), max(sizes)) == (93 - 4, 56, 3824)


@pytest.mark.parametrize(
    ("slots", "num_prb", "code_rate"),
    [([(2, 156)], 1, 948 / 1024), ([(4, 24), (2, 24)], 1, 0.9), ([(2, 156 * 3), (6, 156 * 3)], 3, 0.925)],
)
def test_the_remedy_names_the_highest_rate_that_fits(
    slots: list[tuple[int, int]], num_prb: int, code_rate: float
) -> None:
    with pytest.raises(
        UserError, match=r"^code_rate: .*above 0\.95 \(TS 38\.214, 5\.1\.3\); write (\d+)/1024"
    ) as error:
        transport_formats(code_rate, slots, num_prb)
    highest = int(str(error.value).split("write ")[1].split("/")[0])
    for rate in range(30, highest + 1):
        assert all(block.effective_rate <= 0.95 for block in transport_formats(rate / 1024, slots, num_prb))
    with pytest.raises(UserError):
        transport_formats((highest + 1) / 1024, slots, num_prb)


def test_slots_too_small_for_any_block_are_refused() -> None:
    with pytest.raises(UserError, match="no rate fits; use more PRB, fewer pilots or a higher modulation"):
        transport_format(0.5, 2, 12, 1)


def test_all_modulations_and_pilots_of_a_scenario_have_a_block() -> None:
    grid = Grid(num_prb=2, pilot_patterns=((2,), (2, 7, 11), (3, 8, 11)))
    scenario = Scenario(name="x", grid=grid, modulations=("16-QAM", "QPSK"), channels=Channels(test=["AWGN"]))
    assert [(b.bits_per_symbol, b.coded_bits) for b in scenario_formats(scenario, 0.5)] == [
        (2, 2 * 24 * 11),
        (2, 2 * 24 * 13),
        (4, 4 * 24 * 11),
        (4, 4 * 24 * 13),
    ]


@pytest.mark.parametrize("written", ["308/1024", " 308 / 1024 ", 308 / 1024, "154/512"])
def test_code_rates_are_numbers_or_fractions(written: str | float) -> None:
    assert Evaluation.parse({"sinr_db": [0], "code_rate": written}, "x").code_rate == 308 / 1024


@pytest.mark.parametrize(
    "written", ["half", "1/0", "-1/2", "0.5", "1e0/2", "/2", "949/1024", "0/2", 0, 1, True, [0.5], 1e-9, 0.95]
)
def test_other_code_rates_are_refused(written: object) -> None:
    with pytest.raises(
        UserError, match=r"x: code_rate: is not a code rate .*such as 308/1024, from 30/1024 to 948/1024"
    ):
        Evaluation.parse({"sinr_db": [0], "code_rate": written}, "x")


def test_an_mcs_sets_the_code_rate() -> None:
    evaluation = Evaluation.parse({"sinr_db": [0], "mcs": {"table": 3, "index": 0}}, "x")
    assert evaluation.code_rate == 30 / 1024
    assert Evaluation.parse({"sinr_db": [0], "mcs": 4}, "x").mcs == Mcs(index=4, table=1)
    assert Evaluation.parse(evaluation.model_dump(mode="json"), "x") == evaluation
    with pytest.raises(UserError, match=r"mcs: code_rate 0\.5 and the scheme's 0\.02930 differ; write one of them"):
        Evaluation.parse({"sinr_db": [0], "code_rate": 0.5, "mcs": {"table": 3, "index": 0}}, "x")


@pytest.mark.parametrize(("table", "index", "last"), [(1, 29, 28), (2, 28, 27), (3, 31, 28)])
def test_reserved_mcs_are_refused(table: int, index: int, last: int) -> None:
    with pytest.raises(UserError, match=rf"index: {index} has no code rate in table {table}; write 0 to {last}"):
        Evaluation.parse({"sinr_db": [0], "mcs": {"table": table, "index": index}}, "x")


def test_data_res_are_those_of_the_drawn_slots() -> None:
    from channels.pilots import draw_pilots

    layouts = [
        Dmrs(config_type=t, mapping_type=m, additional_positions=a, length=n, cdm_groups_without_data=g)
        for t, m, (a, n), g in itertools.product(
            (1, 2), ("A", "B"), (((0, 1, 2, 3), 1), ((1,), 1), ((0, 1), 2)), (1, 2, 3)
        )
        if g <= t + 1
    ]
    for dmrs in layouts:
        grid = Grid(num_prb=2, dmrs=dmrs)
        is_data = draw_pilots(grid, 64, torch.Generator().manual_seed(1)).is_data
        assert tuple(is_data.sum((1, 2)).unique().tolist()) == grid.data_res
    assert len(layouts) == 2 * 3 * 5
