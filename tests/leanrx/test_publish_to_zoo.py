"""Publishing in the zoo: weights byte for byte, counts and joules of the same receiver, and a page of these files."""

import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from energy_factories import energy_row

from energy.metering.table import ENERGY, EnergyRow
from leanrx.experiment.run import Run, open_run
from leanrx.experiment.sweep_config import SweepConfig
from leanrx.experiment.workflow import import_pretrained
from leanrx_core.errors import UserError
from leanrx_core.tables import write_table
from receivers import build, zoo
from receivers.classical import classical_receivers
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.rates import rates
from receivers.evaluation.store import COUNTS
from receivers.neural.weights import Card, NeuralReceiver, save
from scripts.reproduce import evaluate_zoo, publish_to_zoo


def config(small, **teacher: Any) -> SweepConfig:
    return SweepConfig.parse(
        {
            "label": "x",
            "scenario": small.model_dump(),
            "seed": 3,
            "device": "cpu",
            "teacher": {"receiver": "hybrid-w4-d1", **teacher},
            "students": {"receivers": ["hybrid-w2-d1"]},
            "evaluation": {
                "sinr_db": [0, 10, 90],
                "interference_fractions": [0, 0.5],
                "block_slots": 4,
                "min_slots": 8,
                "max_slots": 8,
                "target_slot_errors": None,
            },
        },
        "x",
    )


def save_untrained(run: Run, name: str) -> NeuralReceiver:
    """Save a receiver that was not trained. It equals its front end."""
    entry = run.plan[name]
    net = build(entry.spec)
    training = {**entry.training.model_dump(mode="json"), "slots": 1, "teachers": dict.fromkeys(entry.teachers, "0")}
    card = Card(
        name=name,
        receiver=entry.spec,
        role=entry.role,
        num_rx=2,
        num_bits=4,
        parameters=123,
        scenario=run.config.scenario.name,
        channels=("TDL-B", "TDL-D"),
        trained_sinr_db=run.config.scenario.sinr_range_db,
        seed=3,
        training=training,
    )
    return save(run.receivers_folder / name, net, card)


def evaluate(run: Run, learned: list[NeuralReceiver]) -> None:
    from leanrx.experiment.workflow import _test_stream

    evaluation = run.config.evaluation
    receivers = [*classical_receivers(run.config.scenario), *learned]
    list(count_errors(receivers, _test_stream(run, evaluation, "cpu"), evaluation, run.ber_path))


def inference_row(digest: str, name: str = "teacher") -> EnergyRow:
    row = energy_row(name, digest, "inference", "CodeCarbon", 400, 5.0)
    return replace(row, machine="a machine", description="TDP", batch_slots=8, repeats=50, duration_s=2.0)


@pytest.fixture(scope="module")
def complete_run(small, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = open_run(config(small), tmp_path_factory.mktemp("runs"))
    learned = [save_untrained(run, "teacher"), save_untrained(run, "hybrid-w2-d1-kd")]
    evaluate(run, learned)
    rows = [inference_row(r.digest, r.name) for r in learned]
    rows += [replace(rows[0], method="FLOPs/clock", estimated=True, energy_j=9.0)]
    rows += [replace(rows[0], phase="training", runtime="trainer", energy_j=8.0)]
    write_table(run.energy_path, pd.DataFrame([asdict(r) for r in rows]), ENERGY)
    return run


@pytest.fixture
def run(complete_run: Run, tmp_path: Path) -> Run:
    """A copy of a run with two receivers, which a test may damage."""
    shutil.copytree(complete_run.folder, tmp_path / "run")
    return Run(tmp_path / "run", complete_run.config)


def test_published_results_are_those_of_the_run(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    for _ in range(2):  # the second replaces the first
        publish_to_zoo.publish(run, "teacher", "small-hybrid-w4-d1", folder)
    assert zoo.names(folder) == [p.name for p in folder.iterdir()] == ["small-hybrid-w4-d1"]
    weights = "weights.safetensors"
    published, original = folder / "small-hybrid-w4-d1" / weights, run.receivers_folder / "teacher" / weights
    assert published.read_bytes() == original.read_bytes()
    results = zoo.results("small-hybrid-w4-d1", folder)
    table = rates(run.counts()).set_index(["receiver", "interference_fraction", "sinr_db"])
    assert [(p.interference_fraction, p.sinr_db) for p in results.points] == [
        (fraction, sinr_db) for fraction in (0.0, 0.5) for sinr_db in (0.0, 10.0, 90.0)
    ]
    for point in results.points:
        for name, counts in {"teacher": point.counts, **point.classical}.items():
            row = table.loc[name, point.interference_fraction, point.sinr_db]
            assert (counts.slots, counts.bit_errors, counts.bits) == (8, row["bit_errors"], row["bits"])
            assert (counts.ber, *counts.ber_interval()) == pytest.approx((row["ber"], row["ber_low"], row["ber_high"]))
    (energy,) = results.energy
    assert energy.energy_j_per_slot == 5.0 / 400
    assert (energy.machine, energy.provenance, energy.instrument) == ("a machine", "modelled", "CodeCarbon TDP")
    assert energy.runtime == "receiver"
    assert results.scenario == run.config.scenario


def test_the_page_has_every_number_from_the_files(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    publish_to_zoo.publish(run, "teacher", "small-hybrid-w4-d1", folder)
    publish_to_zoo.publish(run, "hybrid-w2-d1-kd", "small-hybrid-w2-d1-kd", folder)
    page = publish_to_zoo.page(folder)
    results = zoo.results("small-hybrid-w4-d1", folder)
    row = re.search(r"^\| `small-hybrid-w4-d1` \| hybrid-w4-d1 \|(.*)\|$", page, re.MULTILINE)
    assert row is not None
    size = (folder / "small-hybrid-w4-d1" / "weights.safetensors").stat().st_size
    numbers = ["123", f"{results.macs:,}", f"{results.macs / (2 * 12 * 14):,.0f}", f"{size:,}"]
    cells = [cell.strip() for cell in row[1].split("|")]
    assert (cells[:4], cells[5:]) == (numbers, ["12.5", "modelled (1)"])
    assert page.count("; CodeCarbon TDP, on a machine.\n") == 1, "one line for all receivers"
    assert page.count("\n## small\n") == 1
    low, high = results.points[0].counts.ber_interval()
    assert f"| `small-hybrid-w4-d1` | {results.points[0].counts.ber:.2e} ({low:.2e} to {high:.2e}) |" in page
    counts = next(p for p in results.points if p.sinr_db == 90).classical["perfect CSI"]
    assert f"below {counts.ber_interval()[1]:.2e}" in page
    assert "Pilots: symbols 2 or 2+11. Doppler: 0 to 500 Hz. Test channels: TDL-A, 8 slots per point." in page
    assert "`small-hybrid-w2-d1-kd`: student of teacher, 30,000 steps of 80 slots" in page


def test_receivers_without_counts_or_energy_of_their_own_are_refused(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    write_table(run.energy_path, pd.DataFrame([asdict(inference_row("of other weights"))]), ENERGY)
    with pytest.raises(UserError, match=r"no energy of the present teacher; run: leanrx energy"):
        publish_to_zoo.publish(run, "teacher", "x", folder)
    counts = run.counts()
    write_table(run.ber_path, counts[counts["receiver"] != "teacher"], COUNTS)
    with pytest.raises(UserError, match=r"no counts of the present teacher; run: leanrx evaluate"):
        publish_to_zoo.publish(run, "teacher", "x", folder)
    run.ber_path.unlink()
    with pytest.raises(UserError, match="missing; run: leanrx evaluate"):
        publish_to_zoo.publish(run, "teacher", "x", folder)
    with pytest.raises(UserError, match="no 'nobody'"):
        publish_to_zoo.publish(run, "nobody", "x", folder)
    assert not folder.exists()


def test_the_command_publishes_by_name_and_prints_the_size(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    folder, page = tmp_path / "zoo", tmp_path / "zoo.md"
    command = ["publish_to_zoo", str(run.folder), "teacher", "hybrid-w2-d1-kd=tiny", "--as", "p", "--zoo", str(folder)]
    monkeypatch.setattr("sys.argv", [*command, "--page", str(page)])
    publish_to_zoo.main()
    assert zoo.names(folder) == ["p-hybrid-w4-d1", "p-tiny"]
    assert page.read_text() == publish_to_zoo.page(folder)
    size = sum(p.stat().st_size for p in folder.rglob("*.*"))
    assert capsys.readouterr().out.startswith(f"2 receivers, {size / 2**20:.2f} of 20 MiB")
    monkeypatch.setattr("sys.argv", ["publish_to_zoo", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match=r"publish_to_zoo: .*nowhere: not a run folder"):
        publish_to_zoo.main()


def test_a_published_receiver_is_a_teacher_and_is_tested_on_another_grid(
    run: Run, tmp_path: Path, small, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    publish_to_zoo.publish(run, "teacher", "small-hybrid-w4-d1", tmp_path / "zoo")
    monkeypatch.setattr(zoo, "SHIPPED", tmp_path / "zoo")
    reuse = open_run(config(small, pretrained={"hybrid-w4-d1": "small-hybrid-w4-d1"}), tmp_path / "other")
    import_pretrained(reuse, reuse.plan)
    assert reuse.receiver("teacher").digest == run.receiver("teacher").digest
    wrong = open_run(config(small, pretrained={"hybrid-w4-d1": "small-hybrid-w4"}), tmp_path / "wrong")
    with pytest.raises(UserError, match="did you mean small-hybrid-w4-d1"):
        import_pretrained(wrong, wrong.plan)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["evaluate_zoo", "--prb", "3", "--slots", "32", "--sinr-db", "10"])
    evaluate_zoo.main()
    counted = pd.read_parquet("runs/zoo/small-3-prb.parquet")
    assert set(counted["receiver"]) >= {"LMMSE", "front end", "small-hybrid-w4-d1"}
    assert set(counted["bits"]) & set(range(32 * 3 * 12 * 12 * 4, 32 * 3 * 12 * 13 * 4 + 1))
    output = capsys.readouterr().out
    assert f"{next(p for p in zoo.results('small-hybrid-w4-d1').points if p.sinr_db == 10).counts.ber:.2e}" in output


def test_the_page_in_the_docs_is_that_of_the_zoo() -> None:
    assert publish_to_zoo.PAGE.read_text() == publish_to_zoo.page()
