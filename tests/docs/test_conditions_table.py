"""The table of conditions: its design, its verdicts, and the page that the script writes."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from dataclasses import asdict
from math import comb, log10, sqrt
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from factories import card

from channels import Scenario
from leanrx.experiment.sweep_config import SweepConfig
from leanrx_core.errors import UserError
from receivers.evaluation import condition_cells
from receivers.evaluation.condition_cells import BLOCKS, cells, chosen_cells, snr_db
from receivers.evaluation.error_counts import BlockCount
from receivers.evaluation.points import Shard
from receivers.neural.registry import build
from receivers.neural.weights import save

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conditions_table", ROOT / "scripts/reproduce/conditions_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_cells_cover_every_condition() -> None:
    table = cells()
    assert len(table) >= 200
    assert {cell.num_prb for cell in table} == {4, 24, 52, 273}
    for factor, levels in (("num_rx", 4), ("modulation", 4), ("dmrs_symbols", 3), ("spacing_hz", 2)):
        counts = Counter(getattr(cell, factor) for cell in table)
        assert len(counts) == levels
        assert min(counts.values()) == max(counts.values())
    by_pair = Counter((cell.num_rx, cell.spacing_hz, cell.num_prb) for cell in table if cell.num_prb < 273)
    assert len(by_pair) == 4 * 2 * 3  # bandwidth and spacing occur with every number of antennas
    assert all(cell.scenario.grid.num_rx == cell.num_rx for cell in table)
    assert all(-15 < sinr_db < 42 for cell in table for sinr_db in cell.sinr_db)


@pytest.mark.parametrize(("branches", "ber"), [(1, 0.01), (2, 0.05), (4, 0.001)])
def test_points_follow_the_closed_form_of_maximum_ratio_combining(branches: int, ber: float) -> None:
    """QPSK in Rayleigh fading (J. G. Proakis, Digital Communications, 14.4): exact for this modulation."""
    mean = 10 ** (snr_db(2, branches, ber) / 10) / 2
    mu = sqrt(mean / (1 + mean))
    expected = ((1 - mu) / 2) ** branches * sum(
        comb(branches - 1 + k, k) * ((1 + mu) / 2) ** k for k in range(branches)
    )
    assert expected == pytest.approx(ber, rel=1e-3)


def test_shards_divide_the_chosen_cells() -> None:
    parts = [chosen_cells(["8rx", "273prb"], Shard(i, 3)) for i in (1, 2, 3)]
    assert sorted(cell.name for part in parts for cell in part) == sorted(
        cell.name for cell in cells() if "8rx" in cell.name or "273prb" in cell.name
    )
    with pytest.raises(UserError, match="--cells: '3rx' is in no name"):
        chosen_cells(["3rx"])


def numbers() -> pd.DataFrame:
    common = {
        "modulation": "QPSK",
        "dmrs_symbols": 1,
        "spacing_khz": 15,
        "prb": 4,
        "doppler_hz": "0-10",
        "interference_fraction": 0.0,
        "slots": 32,
        "ber_lmmse_irc": 0.02,
        "ber_lmmse": 0.03,
        "name": "universal",
        "parameters": 17160,
        "steps": 100,
        "all_steps": 200,
        "scenario": "mixed",
        "members": 2,
        "min_trained_prb": 1,
        "max_trained_prb": 3,
    }
    rows = [
        {"cell": "a", "antennas": 1, "sinr_db": 3.0, "ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.6},
        {"cell": "a", "antennas": 1, "sinr_db": 9.0, "ratio": 2.0, "ratio_low": 1.5, "ratio_high": 3.0},
        {"cell": "b", "antennas": 2, "sinr_db": 3.0, "ratio": 0.9, "ratio_low": 0.8, "ratio_high": 1.1},
        {"cell": "b", "antennas": 2, "sinr_db": 9.0, "ratio": None, "ratio_low": None, "ratio_high": None},
    ]
    rows = [{**common, **row, "ber_receiver": 0.1 if row["sinr_db"] == 3 else 0.01} for row in rows]
    return pd.DataFrame(rows)


def test_verdicts_rest_on_the_intervals(script: ModuleType) -> None:
    table = script.with_losses(numbers())
    totals = script.summary(table)
    assert [
        totals[key] for key in ("cells", "points", "below_lmmse_irc", "not_separated_lmmse_irc", "above_lmmse_irc")
    ] == [*(2, 4, 1, 1, 1)]
    # a decade in 6 dB, so twice the errors are 1.81 dB
    assert (totals["above_by_0.1_db"], totals["largest_loss_db"]) == (1, pytest.approx(6 * log10(2), abs=1e-3))
    page = script.page(table)
    assert "on the scenario `mixed`, a mixture of 2 conditions, for 100 of 200 steps. Training had 1 to 3 PRB. " in page
    assert "Slots of 4 PRB are outside of it." in page
    assert "the BER of LMMSE is 1.500 times that of LMMSE-IRC" in page
    assert "single cells" not in page
    assert "| antennas | 1 | 2 | 1 | 0 | 1 | 1.00 | 1.81 |" in page
    assert (
        "| 1 | QPSK | 1 | 15 | 4 | 0-10 | 0.0 | 9 | 0.0100 | 0.0200 | 0.0300 | 2.00 (1.50 to 3.00) | 1.81 | above |"
        in page
    )


def test_rows_of_a_cell_compare_the_same_blocks(script: ModuleType) -> None:
    """Half of LMMSE-IRC's errors at the first point, in every block; as many as the specialist. At the second none."""
    cell = cells()[0]
    errors = {"net": (10, 0), script.LMMSE_IRC: (20, 0), script.LMMSE: (40, 4), cell.name: (10, 0)}
    rows = [
        BlockCount(
            receiver=name,
            digest=name,
            stream="",
            device="cpu",
            code_rate=0,
            interference_fraction=0.0,
            sinr_db=sinr_db,
            block=block,
            slots=4,
            bits=4000,
            bit_errors=(1 + block) * count,
            slot_errors=4 if count else 0,
            correct_slot_bits=0,
            bit_errors_sq=(1 + block) ** 2 * count**2 / 4,
            bit_errors_x_bits=(1 + block) * count * 1000,
            bits_sq=4 * 1000**2,
        )
        for block in range(4)
        for name, counts in errors.items()
        for sinr_db, count in zip(cell.sinr_db, counts, strict=True)
    ]
    low, high = script.cell_rows(cell, pd.DataFrame([asdict(row) for row in rows]), "net")
    assert (low["antennas"], low["modulation"], low["slots"], low["ber_receiver"]) == (1, "QPSK", 16, 100 / 16_000)
    assert low["ratio"] == pytest.approx(0.5)
    assert script.verdict(low["ratio_low"], low["ratio_high"]) == "below"
    assert low["specialist_ratio"] == pytest.approx(1.0)
    assert script.verdict(high["ratio_low"], high["ratio_high"]) == ""


CELLS = ("1rx-qpsk-1dmrs-15khz-4prb-10hz", "8rx-256qam-3dmrs-30khz-4prb-200hz")


def test_a_recurrent_receiver_is_counted_beside_specialists_and_written(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 8 bits, 1 and 8 antennas, 1 and 3 DMRS symbols; after the counts, the receiver gets the name of the zoo."""
    members = [{"grid": {"num_rx": 1, "num_prb": 3}}, {"grid": {"num_rx": 8, "num_prb": 2}, "modulations": ["256-QAM"]}]
    conditions = Scenario.model_validate({"name": "mixed", "channels": {"train": ["TDL-B"]}, "mixture": members})
    training = {"steps": 2, "batch_slots": 2, "warmup_steps": 1, "optimizer": "adamw"}
    spec = "hybrid-recurrent-w2-d1"
    facts = {"num_bits": 8, "parameters": 1, "conditions": conditions, "training": training, "scenario": "mixed"}
    receiver = save(tmp_path / "net", build(spec, 2, 8), card(spec, **facts))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(condition_cells, "SLOTS", dict.fromkeys(condition_cells.SLOTS, BLOCKS))
    for name in ("NUMBERS", "PAGE"):
        monkeypatch.setattr(script, name, tmp_path / name)
    for step in ("specialists", "count"):
        monkeypatch.setattr(sys, "argv", ["conditions_table", step, "net", "--cells", *CELLS])
        script.main()
    save(tmp_path / "net", receiver.net, receiver.card.model_copy(update={"name": "universal-hybrid"}))
    monkeypatch.setattr(sys, "argv", ["conditions_table", "write", "net"])
    script.main()
    page, table = script.PAGE.read_text(), pd.read_csv(script.NUMBERS)
    assert list(dict.fromkeys(table["cell"])) == list(CELLS)
    assert table["specialist_ratio"].dropna().between(0.5, 2).all()  # two steps change little; a point has no errors
    assert table["specialist_ratio"].notna().sum() >= 3
    assert "`universal-hybrid` with 1 parameters" in page
    assert "a mixture of 2 conditions, for 2 steps. Training had 2 to 3 PRB. Slots of 4 PRB are outside of it." in page
    assert "trained on 2 single cells" in page
    assert script.load(tmp_path / "net").card.tested_conditions["points"] == 4


def test_a_receiver_that_saw_a_test_channel_is_refused(script: ModuleType) -> None:
    conditions = Scenario.model_validate({"name": "mixed", "channels": {"train": ["TDL-B", "TDL-E"]}})
    with pytest.raises(UserError, match="teacher: was trained on TDL-E; take a receiver"):
        script.training_facts(card("hybrid-recurrent-w2-d1", conditions=conditions))
    with pytest.raises(UserError, match="holds no conditions"):
        script.training_facts(card("hybrid-recurrent-w2-d1"))


def test_other_pages_state_the_cells_and_the_mixture() -> None:
    readme, distillation = (
        " ".join((ROOT / name).read_text(encoding="utf-8").split()) for name in ("README.md", "docs/distillation.md")
    )
    members = SweepConfig.load(ROOT / "configs" / "universal.yaml").scenario.training_members
    prb = [member.grid.num_prb for member in members]
    assert f"[In {len(cells())} conditions]" in readme
    assert f"with LMMSE-IRC in {len(cells())} combinations of conditions" in distillation
    assert f"Its {len(members)} members have {min(prb)} to {max(prb)} PRB" in distillation


@pytest.mark.skipif(not (ROOT / "docs" / "conditions.md").exists(), reason="no receiver has been tested in all cells")
def test_the_page_is_what_the_script_writes(script: ModuleType) -> None:
    assert script.PAGE.read_text(encoding="utf-8") == script.page(pd.read_csv(script.NUMBERS))
