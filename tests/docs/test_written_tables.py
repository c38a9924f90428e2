"""Tables in pages are what their commands write from the numbers in ``docs/data``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from carbon.receiver_options import zoo_families
from channels import Grid
from energy.counting.counter import count
from leanrx_core.errors import UserError
from leanrx_core.markdown import with_marked_content
from receivers import build, zoo
from scripts.reproduce import (
    coded_tables,
    compression_tables,
    design_trials,
    early_exit,
    family_gaps,
    file_energy_tables,
    latency_tables,
    llr_scale,
    proof_tables,
    size_at_loss,
    table_fig6a,
)


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (coded_tables.PAGE, coded_tables.page),
        (compression_tables.PAGE, compression_tables.page),
        (design_trials.PAGE, design_trials.page),
        (early_exit.PAGE, early_exit.page),
        (family_gaps.PAGE, family_gaps.page),
        (file_energy_tables.PAGE, file_energy_tables.page),
        (size_at_loss.PAGE, size_at_loss.page),
        (latency_tables.PAGE, latency_tables.page),
        (llr_scale.PAGE, llr_scale.page),
        (proof_tables.PAGE, proof_tables.page),
        (table_fig6a.PAGE, table_fig6a.page),
        (table_fig6a.PAGE, table_fig6a.family_page),
    ],
)
def test_the_page_is_what_the_command_writes(page: Path, text: Callable[[], str]) -> None:
    assert page.read_text(encoding="utf-8") == text()


def test_the_words_on_constant_gains_are_those_of_the_table() -> None:
    table = pd.read_csv(design_trials.NUMBERS).query("slots == 96000 and not shipped")
    losses = table.set_index(["receiver", "interference_fraction"])["loss_db"].unstack(0)
    gains_db = losses["constant-gains-d3"] - losses["hybrid-recurrent-w10-d3"]
    words = " ".join(design_trials.PAGE.read_text(encoding="utf-8").split())
    assert (
        f"After 96,000 slots, it gains {gains_db[0.0]:.2f} dB, and {gains_db[0.8]:.2f} dB with an interferer" in words
    )


def test_joules_over_macs_by_hand() -> None:
    """Twice the MACs for three times the joules is a factor of 1.5; a network without a C file is left out."""
    common = {"batch_slots": 1, "provenance": "modelled", "method": "x", "machine": "m", "duration_s_per_slot": 1e-3}
    rows = [
        {"network": "hybrid-a", "runtime": "c", "macs_per_slot": 200, "energy_j_per_slot": 3e-3, **common},
        {"network": "hybrid-b", "runtime": "c", "macs_per_slot": 100, "energy_j_per_slot": 0.8e-3, **common},
        {"network": "hybrid-b", "runtime": "c", "macs_per_slot": 100, "energy_j_per_slot": 1.2e-3, **common},
        {"network": "deeprx", "runtime": "onnx-fp32", "macs_per_slot": 9, "energy_j_per_slot": 1.0, **common},
    ]
    means = file_energy_tables.networks(pd.DataFrame(rows))
    assert list(file_energy_tables.energy_over_macs(means)) == [("hybrid-a", "hybrid-b", pytest.approx(1.5))]
    text = file_energy_tables.markdown(pd.DataFrame(rows))
    assert "| `hybrid-a` | 200 | 1 | 3 | 15000000 | 1.50 |  |  |" in text
    assert "a model times time" in text


def test_more_macs_need_more_joules_in_c() -> None:
    table = pd.read_csv(file_energy_tables.NUMBERS).query("runtime == 'c'").groupby("network")
    means = table[["macs_per_slot", "energy_j_per_slot"]].mean().sort_values("macs_per_slot")
    assert len(means) == 6
    assert means["energy_j_per_slot"].is_monotonic_increasing


@pytest.mark.parametrize(("joules", "verdict"), [(3e-3, "met"), (3.01e-3, "**not met**"), (1.33e-3, "**not met**")])
def test_joules_follow_macs_within_a_half(joules: float, verdict: str) -> None:
    """With twice the MACs, joules may grow by a factor of 4/3 to 3."""
    common = {"batch_slots": 1, "provenance": "modelled", "method": "x", "machine": "m", "duration_s_per_slot": 1e-3}
    common |= {"runtime": "c"}
    rows = [
        {"network": "hybrid-a", "macs_per_slot": 200, "energy_j_per_slot": joules, **common},
        {"network": "hybrid-b", "macs_per_slot": 100, "energy_j_per_slot": 1e-3, **common},
    ]
    words = " ".join(file_energy_tables.markdown(pd.DataFrame(rows)).split())
    assert f"at most 1.5 for any two networks. This goal is {verdict}." in words


def test_losses_over_size_are_those_of_the_family() -> None:
    """Two commands state the loss of each network, and its size is that of the network that its name builds."""
    sizes, gaps = pd.read_csv(size_at_loss.NUMBERS), pd.read_csv(family_gaps.NUMBERS)
    hybrids = sizes["network"].isin(["hybrid-w13-d8", "hybrid-w5-d5"])
    assert hybrids.sum() == 8
    for row in sizes[hybrids].to_dict("records"):
        text = f"`{row['network']}`, {row['role']}: loss to the teacher"
        at_fraction = gaps["interference_fraction"] == row["interference_fraction"]
        (gap,) = gaps[at_fraction & (gaps["comparison"] == text)].to_dict("records")
        assert [row["loss_db"], row["loss_db_low"], row["loss_db_high"]] == [gap["value"], gap["low"], gap["high"]]
        assert row["parameters"] == sum(p.numel() for p in build(str(row["network"])).parameters())


def test_published_operations_by_hand() -> None:
    """MDX: 0.7 GFLOP are 0.35 GMAC, for 273 resource blocks of 168 REs and two layers."""
    kmacs = size_at_loss.published().set_index("receiver")["kmacs_per_re"]
    assert kmacs["MDX, 4 antennas"] == pytest.approx(0.35e6 / (273 * 168 * 2))
    assert kmacs["DeepRx, 2 antennas"] == pytest.approx(count("deeprx", Grid()).macs / 1e3 / (26 * 168), rel=1e-3)
    assert kmacs.isna().sum() == 2


def test_the_goal_is_met_only_with_the_whole_interval() -> None:
    row = {"network": "hybrid-w3-d5", "role": "distilled", "parameters": 2_000, "macs_per_re": 1_000.0}
    row |= {"interference_fraction": 0.0, "loss_db": 0.4, "loss_db_low": 0.3, "loss_db_high": 0.5}
    teacher = row | {"network": "hybrid-w9-d5", "role": "teacher", "parameters": 9_000, "macs_per_re": 10_000.0}
    met = size_at_loss.goal_sentences(pd.DataFrame([teacher, row]))
    assert "This goal is met." in met
    assert "1/10 of the teacher's operations" in met
    assert "differ" not in met
    for worse in ({"loss_db_high": 0.51}, {"parameters": 2_001}, {"macs_per_re": 1_001.0}):
        assert "This goal is **not met**." in size_at_loss.goal_sentences(pd.DataFrame([teacher, row | worse]))


def test_networks_of_the_family_have_one_order_with_and_without_a_code() -> None:
    names = zoo_families()["tdl-6prb"]
    sinrs = coded_tables.family_sinrs(names)
    for of_target in zip(*(sinrs[name] for name in names), strict=True):
        best: dict[str, float] = {}
        for name, (value, _, _) in zip(names, of_target, strict=True):
            best[zoo.card(name).receiver] = min(value, best.get(zoo.card(name).receiver, math.inf))
        assert sorted(best, key=lambda network: best[network]) == ["hybrid-w64-d8", "hybrid-w13-d8", "hybrid-w5-d5"]


def test_llr_scales_are_those_of_the_present_receivers() -> None:
    counted = pd.read_csv(llr_scale.NUMBERS).groupby("receiver")["digest"].unique().map(list).to_dict()
    assert counted == {receiver.name: [receiver.digest] for receiver in llr_scale.receivers()}


def test_the_best_scale_of_exact_llrs_is_one() -> None:
    """LLRs L of a BPSK in white noise are normal with mean m and variance 2 m, so that p(L) = exp(L) p(-L)."""
    generator = torch.Generator().manual_seed(1)
    mean = 4 * torch.rand((400, 1), generator=generator)  # one SNR per slot
    llrs = mean + (2 * mean).sqrt() * torch.randn((400, 500), generator=generator)
    scale, low, high = llr_scale.best_scale(llrs)
    assert low < 1 < high
    assert high - low < 0.05
    assert llr_scale.best_scale(4 * llrs) == pytest.approx((scale / 4, low / 4, high / 4))


def test_the_interval_of_a_best_scale_covers_one() -> None:
    """In 200 experiments with 60 slots of 40 bits, 95 % of the intervals hold the true factor, 1."""
    generator = torch.Generator().manual_seed(2)
    covers = 0
    for _ in range(200):
        mean = 4 * torch.rand((60, 1), generator=generator)
        _, low, high = llr_scale.best_scale(mean + (2 * mean).sqrt() * torch.randn((60, 40), generator=generator))
        covers += low < 1 < high
    assert 0.9 <= covers / 200 <= 0.99


def test_times_come_from_the_last_line_of_an_output(tmp_path: Path) -> None:
    seconds = {"median": 4e-4, "99 %": 5e-4, "99.9 %": 6e-4, "most": 2e-3}
    case = {"receiver": "net", "num_prb": 6, "runtime": "C", "seconds": seconds, "calls": 1000, "misses": 1}
    case |= {"least_cpu_s": 3e-4, "cpu_over_c": 1.0}
    settings = {"cpu": "model", "cores": 2, "load": 0.5, "real_time": False, "march": "x86-64-v3"}
    paths = []
    for cadence in (False, True):
        paths.append(str(tmp_path / f"{cadence}.txt"))
        answer = {**settings, "cadence": cadence, "cases": [case | ({} if cadence else {"start_s": 0.01})]}
        Path(paths[-1]).write_text(f"a table\n{json.dumps(answer)}\n")
    text = latency_tables.markdown(latency_tables.numbers(paths))
    assert "| `net` | C | 6 | 400 | 300 | 1.00 | 1 of 1,000 | 10.0 |" in text
    assert "| `net` | 6 | 0.5 | 400 | 500 | 600 | 2000 | 300 | 1 of 1,000 |" in text
    (tmp_path / "no.txt").write_text("a table\n")
    with pytest.raises(UserError, match=r"no.txt: is no output of bench_latency.py"):
        latency_tables.numbers([str(tmp_path / "no.txt")])


def test_a_new_verdict_replaces_that_of_the_same_file(tmp_path: Path) -> None:
    def export(gap_db: float, proven: bool) -> pd.DataFrame:
        test = {"measure": "BER", "interference_fraction": 0.0, "target": 0.01, "margin_db": 0.05}
        test |= {"gap_db": gap_db, "low_db": gap_db - 0.01, "high_db": gap_db + 0.01}
        verdict = {
            "file": {"name": "net-int8.onnx", "digest": "d", "arithmetic": "int8"},
            "receiver": {"name": "net"},
            "proven": proven,
            "points": [{"receiver": name, "slots": 50_000} for name in ("net", "net-int8.onnx") for _ in range(2)],
            "tests": [test, {"measure": "BLER"}],
        }
        path = tmp_path / "verification" / "net-int8.onnx.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(verdict))
        return proof_tables.verdicts([str(tmp_path)])

    table = proof_tables.merge(export(0.05, proven=False), export(0.02, proven=True))
    row = "| `net` | ONNX | int8 | 100,000 | 0.01 | 0.0200 (0.0100 to 0.0300) |  | 0.05 | yes |"
    assert proof_tables.markdown(table).splitlines()[2:] == [row]
    with pytest.raises(UserError, match=r"no: has no verification/.*run 'leanrx verify' on it"):
        proof_tables.verdicts([str(tmp_path / "no")])


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(UserError, match="has no marks 'x: begin' and 'x: end'"):
        with_marked_content(page, {"x": "y"})
