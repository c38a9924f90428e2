"""Counts are the same from one process, from several, from shards, and after a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

from channels import Scenario, Slots, SlotStream
from leanrx_core.errors import UserError
from leanrx_core.tables import write_table
from receivers.classical import LsReceiver, PerfectCsiReceiver
from receivers.evaluation.error_counts import BlockCount
from receivers.evaluation.merge import merge_counts
from receivers.evaluation.monte_carlo import Shard, count_errors
from receivers.evaluation.rates import rates
from receivers.evaluation.stopping import Evaluation
from receivers.evaluation.store import COUNTS

EVALUATION = Evaluation(
    sinr_db=(0, 18, 24),
    interference_fractions=(0, 0.5),
    block_slots=8,
    min_slots=16,
    max_slots=96,
    target_slot_errors=20,
)
RECEIVERS = [LsReceiver(), PerfectCsiReceiver()]


@pytest.fixture
def stream(small: Scenario) -> SlotStream:
    return SlotStream(small, 2, EVALUATION.block_slots, "test")


def count(stream, path, evaluation=EVALUATION, receivers=RECEIVERS, **options) -> pd.DataFrame:
    for _ in count_errors(receivers, stream, evaluation, path, **options):
        pass
    return pd.read_parquet(path)


@pytest.fixture
def whole(tmp_path, stream: SlotStream) -> pd.DataFrame:
    return count(stream, tmp_path / "whole" / "ber.parquet")


def test_points_stop_at_different_blocks(whole: pd.DataFrame) -> None:
    ends = whole.groupby(["interference_fraction", "sinr_db"])["block"].max()
    assert ends.nunique() > 2
    assert ends.max() == 11


def test_two_processes_count_the_same(tmp_path, stream: SlotStream, whole: pd.DataFrame) -> None:
    path = tmp_path / "two" / "ber.parquet"
    pd.testing.assert_frame_equal(count(stream, path, workers=2), whole)
    assert not path.with_suffix(".journal.jsonl").exists()


@pytest.mark.parametrize("shards", [2, 3])
def test_merged_shards_equal_one_process(tmp_path, stream: SlotStream, whole: pd.DataFrame, shards: int) -> None:
    parts = [tmp_path / f"{i}.parquet" for i in range(shards)]
    for i, part in enumerate(parts):
        table = count(stream, part, shard=Shard(i + 1, shards))
        assert set(table["block"] % shards) == {i}
    path = tmp_path / "merged" / "ber.parquet"
    assert merge_counts(RECEIVERS, stream, EVALUATION, path, parts) == []
    pd.testing.assert_frame_equal(pd.read_parquet(path), whole)
    assert merge_counts(RECEIVERS, stream, EVALUATION, path, parts) == []  # overlapping rows are equal
    pd.testing.assert_frame_equal(pd.read_parquet(path), whole)


def test_the_blocks_of_a_missing_shard_are_counted_later(tmp_path, stream: SlotStream, whole: pd.DataFrame) -> None:
    part, path = tmp_path / "part.parquet", tmp_path / "merged" / "ber.parquet"
    rows = len(count(stream, part, shard=Shard(1, 2)))
    assert len(merge_counts(RECEIVERS, stream, EVALUATION, path, [part])) == 6
    assert not path.exists()
    calls = CountingReceiver()
    table = count(stream, path, receivers=[calls, RECEIVERS[1]])
    assert calls.number < len(whole) / 2
    assert rows > len(whole) / 2 * 0.4
    pd.testing.assert_frame_equal(table, whole)


def test_blocks_beyond_the_stop_are_dropped(tmp_path, stream: SlotStream, whole: pd.DataFrame) -> None:
    path = tmp_path / "ber.parquet"
    longer = EVALUATION.model_copy(update={"target_slot_errors": None})
    states = count_errors(RECEIVERS, stream, longer, path)
    for _ in range(15):  # the whole first point, and some of the next
        next(states)
    states.close()
    pd.testing.assert_frame_equal(count(stream, path), whole)


class CountingReceiver(LsReceiver):
    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __call__(self, slots: Slots) -> torch.Tensor:
        self.number += 1
        return super().__call__(slots)


def test_parts_of_other_runs_are_refused(tmp_path, small: Scenario, stream: SlotStream) -> None:
    part, path = tmp_path / "part.parquet", tmp_path / "ber.parquet"
    count(stream, part)
    other_seed = SlotStream(small, 3, EVALUATION.block_slots, "test")
    other_receiver = LsReceiver()
    other_receiver.digest = "classical/ls/2"
    coded = EVALUATION.model_copy(update={"code_rate": 0.5})
    for arguments, message in (
        ((RECEIVERS, other_seed, EVALUATION), "on other slots than this run's"),
        (([other_receiver, RECEIVERS[1]], stream, EVALUATION), "counts another 'LS'"),
        ((RECEIVERS[:1], stream, EVALUATION), "'perfect CSI', which is not a receiver of this run"),
        ((RECEIVERS, stream, coded), "has code_rate 0, this run 0.5"),
    ):
        with pytest.raises(UserError, match=message):
            merge_counts(*arguments, path, [part])
    table = pd.read_parquet(part)
    for column, value, message in (
        ("bit_errors", int(table["slot_errors"].max()), "differs from the same block"),
        ("device", "NVIDIA H200", "was counted on NVIDIA H200"),
    ):
        wrong = tmp_path / "wrong.parquet"
        write_table(wrong, table.assign(**{column: value}), COUNTS)
        with pytest.raises(UserError, match=message):
            merge_counts(RECEIVERS, stream, EVALUATION, path, [part, wrong])
    with pytest.raises(UserError, match=r"none\.parquet: no Parquet table .*; count this shard again"):
        merge_counts(RECEIVERS, stream, EVALUATION, path, [tmp_path / "none.parquet"])
    with pytest.raises(UserError, match="no counts to join"):
        merge_counts(RECEIVERS, stream, EVALUATION, path, [])


def test_shards_are_parsed_and_checked(stream: SlotStream, tmp_path) -> None:
    assert Shard.parse("2/3") == Shard(2, 3)
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0", "-1/2"):
        with pytest.raises(UserError, match="is not a shard"):
            Shard.parse(wrong)
    with pytest.raises(UserError, match="has no block"):
        count(stream, tmp_path / "x.parquet", shard=Shard(13, 13))
    with pytest.raises(UserError, match="workers: 0"):
        count(stream, tmp_path / "x.parquet", workers=0)


KILLED_PROGRAM = """
import sys
from channels import SlotStream
from channels.scenarios import Scenario
from receivers.classical import LsReceiver, PerfectCsiReceiver
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.stopping import Evaluation

if __name__ == "__main__":
    scenario, evaluation = Scenario.load(sys.argv[1]), Evaluation.load(sys.argv[2])
    stream = SlotStream(scenario, 2, evaluation.block_slots, "test")
    for _ in count_errors([LsReceiver(), PerfectCsiReceiver()], stream, evaluation, sys.argv[3], workers=2):
        pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_killed_workers_leave_no_process_and_no_missing_block(
    tmp_path, small: Scenario, stream, whole, signal_number: int
) -> None:
    (tmp_path / "program.py").write_text(KILLED_PROGRAM)
    (tmp_path / "scenario.yaml").write_text(small.to_yaml())
    (tmp_path / "evaluation.yaml").write_text(EVALUATION.to_yaml())
    path = tmp_path / "killed" / "ber.parquet"
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "program.py", "scenario.yaml", "evaluation.yaml", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    journal = path.with_suffix(".journal.jsonl")
    while not journal.exists() or journal.read_bytes().count(b"\n") < 9:
        assert process.poll() is None, "ended before the signal"
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.send_signal(signal_number)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert not path.exists()
    calls = CountingReceiver()
    pd.testing.assert_frame_equal(count(stream, path, receivers=[calls, RECEIVERS[1]]), whole)
    assert calls.number <= len(whole) / 2 - 4


class ExitingReceiver(LsReceiver):
    def __call__(self, slots: Slots) -> torch.Tensor:
        os._exit(3)


class RaisingReceiver(LsReceiver):
    def __call__(self, slots: Slots) -> torch.Tensor:
        raise UserError("LS: out of order")


@pytest.mark.parametrize(
    ("receiver", "message"), [(ExitingReceiver(), "a worker process ended"), (RaisingReceiver(), "out of order")]
)
def test_a_worker_that_fails_is_reported(tmp_path, stream: SlotStream, receiver: LsReceiver, message: str) -> None:
    with pytest.raises(UserError, match=message):
        count(stream, tmp_path / "x.parquet", receivers=[receiver], workers=2)


class EveryThird:
    """A decoder that fails on every third slot."""

    def __init__(self, code_rate: float, num_iterations: int = 20, device: str = "cpu") -> None:
        self.code_rate = code_rate

    def errors(self, slots: Slots, llrs: torch.Tensor) -> torch.Tensor:
        assert llrs.shape == slots.bits.shape
        return torch.arange(len(slots)) % 3 == 0

    def sizes_bits(self, slots: Slots) -> torch.Tensor:
        return torch.full((len(slots),), 100)


@pytest.fixture
def decoder(monkeypatch) -> None:
    monkeypatch.setattr("receivers.evaluation.block_counter.TransportBlocks", EveryThird)


def test_block_errors_are_counted_where_coded(tmp_path, stream: SlotStream, decoder: None) -> None:
    path = tmp_path / "ber.parquet"
    uncoded = rates(count(stream, path))
    assert uncoded["bler"].isna().all()
    assert (uncoded["transport_blocks"] == 0).all()
    coded = Evaluation.parse({**EVALUATION.model_dump(), "code_rate": 0.5, "target_block_errors": 15}, "x")
    table = count(stream, path, coded)  # rows without a code are counted again
    assert (table["block_errors"] == 3).all()
    assert (table["transport_block_bits"] == 800).all()
    assert (table["decoded_bits"] == 500).all()
    coded_rates = rates(table)
    assert (coded_rates["transport_blocks"] == coded_rates["slots"]).all()
    assert (coded_rates["bler"] == 3 / 8).all()
    assert ((coded_rates["bler_low"] < 3 / 8) & (coded_rates["bler_high"] > 3 / 8)).all()
    assert set(coded_rates["bler_reliable"]) == {False}
    assert coded_rates["slots"].min() == 40  # 15 block errors after 5 blocks of 3
    again = count(stream, path)  # coded rows match an evaluation without code
    pd.testing.assert_frame_equal(again, table)


def test_a_point_stops_when_all_given_targets_are_met(tmp_path, stream: SlotStream, decoder: None) -> None:
    base = {**EVALUATION.model_dump(), "sinr_db": (6.0,), "interference_fractions": (0.0,), "max_slots": 4000}
    slots = {}
    for name, targets in {
        "none": {"target_slot_errors": None, "max_slots": 400},
        "slots": {"target_slot_errors": 100},
        "width": {"target_slot_errors": None, "target_relative_half_width": 0.2},
        "blocks": {"target_slot_errors": None, "target_block_errors": 40, "code_rate": 0.5},
        "all": {
            "target_slot_errors": 100,
            "target_relative_half_width": 0.2,
            "target_block_errors": 40,
            "code_rate": 0.5,
        },
    }.items():
        evaluation = Evaluation.parse({**base, **targets}, name)
        table = rates(count(stream, tmp_path / f"{name}.parquet", evaluation))
        slots[name] = int(table["slots"].iloc[0])
        width = (table["ber_high"] - table["ber_low"]) / 2 / table["ber"]
        if name in ("width", "all"):
            assert (width <= 0.2).all()
    assert slots["none"] == 400
    assert slots["all"] == max(slots["slots"], slots["width"], slots["blocks"])
    with pytest.raises(UserError, match="needs code_rate"):
        Evaluation.parse({**base, "target_block_errors": 10}, "x")


def test_memory_does_not_grow_with_slots(tmp_path, small: Scenario) -> None:
    evaluation = Evaluation(sinr_db=(10,), block_slots=1, min_slots=600, max_slots=600, target_slot_errors=None)
    process, memory = psutil.Process(), []
    for state in count_errors(RECEIVERS, SlotStream(small, 2, 1, "test"), evaluation, tmp_path / "x.parquet"):
        if state.slots in (100, 600):
            memory.append(process.memory_info().rss)
    rows = 2 * 500
    assert memory[1] - memory[0] < rows * 20_000  # a slot of this scenario is a hundred kilobytes and more


def test_rows_round_trip(tmp_path, whole: pd.DataFrame) -> None:
    assert [BlockCount(**r) for r in whole.to_dict("records")]


def test_coded_blocks_are_the_same_in_other_processes(tmp_path, small: Scenario) -> None:
    evaluation = Evaluation(
        sinr_db=(6,), block_slots=8, min_slots=16, max_slots=24, target_slot_errors=None, code_rate=0.5
    )
    stream = SlotStream(small, 2, 8, "test")
    serial = count(stream, tmp_path / "one.parquet", evaluation)
    assert 0 < serial["block_errors"].sum() < serial["transport_blocks"].sum()
    pd.testing.assert_frame_equal(count(stream, tmp_path / "two.parquet", evaluation, workers=2), serial)
