"""The command line as its users meet it: a whole small run, its answers, and their mistakes."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from energy.ecal.life_cycle_config import forward_flops
from energy.metering.deployment import deployed_rows
from energy.metering.table import reference_instrument, trainer_rows
from leanrx.cli import sessions
from leanrx.cli.main import main
from receivers import zoo
from receivers.neural.registry import build

SMALL = {
    "label": "small",
    "scenario": {
        "name": "tiny",
        "grid": {"num_prb": 1, "pilot_patterns": [[2]]},
        "channels": {"train": ["TDL-B"], "test": ["TDL-A"]},
        "snr_db": [0, 20],
        "interferers": [{"probability": 0.5, "sir_db": [0, 20]}],
    },
    "device": "cpu",
    "teacher": {
        "receiver": "deeprx-w0.0625-d3",
        "training": {
            "steps": 40,
            "batch_slots": 4,
            "optimizer": "adamw",
            "learning_rate": 5e-3,
            "warmup_steps": 4,
            "checkpoint_steps": 5,
        },
    },
    "students": {
        "receivers": ["deeprx-w0.03125-d3"],
        "training": {"steps": 8, "batch_slots": 4, "learning_rate": 1e-2, "warmup_steps": 2, "checkpoint_steps": 3},
    },
    "evaluation": {
        "sinr_db": [0, 10, 30],
        "interference_fractions": [0, 0.5],
        "block_slots": 8,
        "min_slots": 16,
        "max_slots": 64,
        "target_slot_errors": 16,
    },
    "metering": {"batch_slots": 4, "min_duration_s": 1},
    "report": {"sinr_db": 10, "target_ber": 0.3},
}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return path


def distillation(**settings: object) -> dict[str, object]:
    return {"students": {**SMALL["students"], "distillation": settings}}  # type: ignore[dict-item]


def transfer(student: str, teacher: str) -> list[dict[str, str]]:
    return [{"student": student, "teacher": teacher}]


STUDENT = "deeprx-w0.03125-d3-kd"
SCRATCH = "deeprx-w0.03125-d3-scratch"


def leanrx(*arguments: object, code: int = 0) -> None:
    """Run the command in this process."""
    sessions.release_locks()
    argv, sys.argv = sys.argv, ["leanrx", *map(str, arguments)]
    exit_code: object = 0
    try:
        main()
    except SystemExit as end:
        exit_code = end.code or 0
    finally:
        sys.argv = argv
        sessions.release_locks()
    assert exit_code == code


def leanrx_json(*arguments: object) -> dict[str, Any]:
    """The answer of the command with ``--json``."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        leanrx(*arguments, "--json")
    return dict(json.loads(output.getvalue()))


def error_line(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The single line in which the command reports a mistake."""
    leanrx(*arguments, code=2)
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A complete small run."""
    root = tmp_path_factory.mktemp("runs")
    leanrx("sweep", write(root), "--runs", root)
    return root / "small"


def test_a_sweep_leaves_a_complete_run(run: Path) -> None:
    for name in ("teacher", "deeprx-w0.03125-d3-kd", "deeprx-w0.03125-d3-scratch"):
        assert {p.name for p in (run / "receivers" / name).iterdir()} == {"weights.safetensors", "card.json"}
        assert (run / "training" / f"{name}.jsonl").exists()
        card = json.loads((run / "receivers" / name / "card.json").read_text())
        assert all(m["energy_j"] > 0 for m in card["training"]["energy"]["measurements"])
    assert not list((run / "checkpoints").iterdir())
    counts = pd.read_parquet(run / "ber.parquet")
    assert set(counts["receiver"]) == {
        "LS",
        "LMMSE",
        "LMMSE-IRC",
        "perfect CSI",
        "perfect CSI-IRC",
        "teacher",
        "deeprx-w0.03125-d3-kd",
        "deeprx-w0.03125-d3-scratch",
    }
    slots = counts.groupby(["interference_fraction", "sinr_db", "receiver"])["slots"].sum().unstack()
    assert (slots.nunique(axis=1) == 1).all(), "all receivers see the same slots"
    energy = pd.read_parquet(run / "energy.parquet")
    assert set(energy["provenance"]) <= {"measured", "modelled", "assumed"}
    assert set(energy["phase"]) == {"inference", "training"}
    environment = json.loads((run / "environment.json").read_text())
    assert environment["packages"]["torch"]


def test_diverged_students_do_not_stop_the_sweep(tmp_path, capsys) -> None:
    """Their teacher is evaluated, metered and reported. The exit code is 2."""
    training = {**SMALL["students"]["training"], "learning_rate": 1e30, "optimizer": "adamw"}  # type: ignore[index]
    students = {"receivers": ["deeprx-w0.03125-d3"], "training": training}
    evaluation = {**SMALL["evaluation"], "sinr_db": [10], "max_slots": 16}  # type: ignore[dict-item]
    config = write(
        tmp_path,
        students=students,
        evaluation=evaluation,
        metering={"batch_slots": 4, "rounds": 1, "min_duration_s": 1},
    )
    line = error_line(capsys, "sweep", config, "--runs", tmp_path)
    assert line.startswith("leanrx: deeprx-w0.03125-d3-kd, deeprx-w0.03125-d3-scratch: loss is not finite; lower")
    assert line.endswith("everything else is complete")
    table = pd.read_csv(tmp_path / "small" / "report" / "receivers.csv").set_index("receiver")
    assert table.loc["teacher", "energy_j_per_slot"] > 0
    assert "deeprx-w0.03125-d3-kd" not in table.index


def test_the_report_is_one_page_that_needs_no_network(run: Path) -> None:
    page = (run / "report" / "index.html").read_text()
    assert "<script src=" not in page
    assert 'rel="stylesheet"' not in page
    for phrase in ("95 % intervals", "Pareto front", "CodeCarbon", "A claim for distillation needs at least 3 seeds"):
        assert phrase in page
    names = {p.name for p in (run / "report").iterdir()}
    assert "Against running the teacher" in page or "No student pays back" in page
    for figure in (
        "ber-interference-0",
        "ber-interference-0.5",
        "trade-off",
        "energy-estimates",
        "ecal",
        "ecal-components",
        "payback-deeprx-w0.03125-d3-kd",
    ):
        assert {f"{figure}.png", f"{figure}.pdf"} <= names
    receivers = pd.read_csv(run / "report" / "receivers.csv").set_index("receiver")
    teacher = build("deeprx-w0.0625-d3")
    assert receivers.loc["teacher", "parameters"] == sum(p.numel() for p in teacher.parameters())
    assert receivers["energy_j_per_slot"].drop(["perfect CSI", "perfect CSI-IRC"]).gt(0).all()


def test_a_second_sweep_changes_nothing(run: Path, capsys) -> None:
    files = [p for p in run.rglob("*") if p.suffix in (".safetensors", ".parquet")]
    before = {p: p.read_bytes() for p in files}
    leanrx("sweep", run.parent / "small.yaml", "--runs", run.parent)
    assert {p: p.read_bytes() for p in files} == before
    assert capsys.readouterr().out.count("trained already") == 3


@pytest.fixture(scope="module")
def exported(run: Path) -> dict[str, Any]:
    """The answer of ``leanrx export`` for the smallest student, in float32 and int8."""
    return leanrx_json("export", run, "smallest", "--int8")


@pytest.fixture(scope="module")
def metered(run: Path, exported: dict[str, Any]) -> dict[str, Any]:
    """The answer of ``leanrx energy``, with the exported files among the runtimes."""
    assert exported["equal"]
    return leanrx_json("energy", run, "--rounds", 1)


def test_count_answers_in_json() -> None:
    profile = leanrx_json("count", "deeprx")
    assert list(profile)[:3] == ["parameters", "macs", "flops"]
    assert (profile["parameters"], profile["macs"], profile["flops"]) == (1232516, 5313165312, 10626330624)


def test_count_estimates_a_classical_receiver_from_its_flops() -> None:
    estimates = leanrx_json("count", "LS", "--device", "raspberry-pi-4")["estimates"]
    assert [e["method"] for e in estimates] == ["FLOPs/W", "FLOPs/clock"]


def test_count_gives_an_exported_file_the_macs_of_its_receiver(exported: dict[str, Any]) -> None:
    """Those of the network, of raw estimates and of masks of the bits."""
    path = Path(exported["folder"]) / f"{STUDENT}.onnx"
    of_file = leanrx_json("count", path, "--prb", 1)
    of_network = leanrx_json("count", "deeprx-w0.03125-d3", "--prb", 1)
    assert 0 < of_file["macs"] - of_network["macs"] < 20 * 14 * 12


def test_ecal_answers_in_json(run: Path) -> None:
    ecal = leanrx_json("ecal", run)
    reference = ecal["reference_instrument"]
    per_bit = ecal["inference"]["teacher"][reference]
    rows = pd.read_parquet(run / "energy.parquet")
    inference = deployed_rows(rows)
    row = inference[(inference["receiver"] == "teacher") & (inference["method"] == reference)]
    assert per_bit["ecal_j_per_bit"] == pytest.approx(
        float((row["energy_j"] / row["slots"]).iloc[0]) / (2 * 2 * 14 * 12 * 32)
    )
    life_cycle = ecal["life_cycle"][STUDENT][reference]
    trainings = trainer_rows(rows)
    training_j = trainings[trainings["method"] == reference].set_index("receiver")["energy_j"]
    components_j = life_cycle["components_j"]
    assert components_j["teacher"] == training_j["teacher"]
    assert components_j["training"] + components_j["distillation"] == pytest.approx(training_j[STUDENT])
    assert sum(components_j.values()) == pytest.approx(life_cycle["absolute_j"])
    assert {r["against"] for r in ecal["paybacks"]} >= {"running the teacher", SCRATCH, "LMMSE"}


def test_export_answers_in_json(run: Path, exported: dict[str, Any]) -> None:
    assert exported["equal"]
    assert {r["receiver"].removeprefix(STUDENT) for r in exported["int8"]} == {".onnx", "-int8.onnx"}
    assert {r["slots"] for r in exported["int8"]} == {16}, "the smallest number of slots of a point"
    path = run / "exports" / STUDENT / f"{STUDENT}.onnx"
    assert path.exists()
    flops = 2 * leanrx_json("count", path, "--prb", 1)["macs"]
    assert forward_flops({"kind": "onnx", "path": str(path), "shape": [1, 2, 14, 12, 2]}) == flops


def machine_paths(run: Path) -> dict[str, str]:
    """Paths that only this machine has, by what they are."""
    site_packages = str(Path(torch.__file__).parents[1])
    return {
        "runs": str(run.parent),
        "checkout": str(Path(__file__).parents[2]),
        "packages": site_packages,
        "home": f"{Path.home()}/",
        "any packages": "/site-packages/",
    }


def test_no_path_of_this_machine_is_in_an_artefact(run: Path, metered: dict[str, Any], tmp_path: Path) -> None:
    """ONNX files, cards, weights, tables, figures and pages of a run, a dataset, and the receivers that ship."""
    assert metered["rows"]
    config = {"label": "x", "scenario": SMALL["scenario"], "split": "train", "block_slots": 2, "num_blocks": 1}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(config))
    leanrx("data", tmp_path / "data.yaml", "--data", run.parent / "datasets")
    folders = [run, run.parent / "datasets", Path(zoo.__file__).parent]
    files = [p for folder in folders for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert {".onnx", ".json", ".safetensors", ".parquet", ".html", ".png", ".pdf", ".csv", ".h5"} <= {
        p.suffix for p in files
    }
    for path in files:
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data += pd.read_parquet(path).to_csv().encode()
        names = [name for name, text in machine_paths(run).items() if text.encode() in data]
        assert not names, (path, names)


def test_energy_answers_in_json(run: Path, metered: dict[str, Any]) -> None:
    scores = {(s["phase"], s["runtime"], s["estimator"]) for s in metered["scores"]}
    assert {("inference", "onnx-fp32", "roofline"), ("inference", "eager", "roofline, fitted")} <= scores
    assert ("training", "eager", "FLOPs/clock, fitted") in scores
    assert {("inference", "onnx-int8", "roofline"), ("inference", "classical", "FLOPs/clock, fitted")} <= scores
    assert ("inference", "classical", "roofline") not in scores, "bytes of classical receivers are not known"
    calls = {(c["receiver"], c["runtime"], c["phase"], c["batch_slots"]): c for c in metered["flops_per_clock"]}
    assert all(c["achieved_flops_per_clock"] > 0 < c["assumed_flops_per_clock"] for c in calls.values())
    assert ("LMMSE-IRC", "classical", "inference", 4) in calls
    workloads = {(i["receiver"], i["runtime"], i["phase"], i["batch_slots"]) for i in metered["instruments"]}
    received = set(json.loads((run / "ecal.json").read_text())["life_cycle"])
    whole = {(name, "receiver", "inference", 4) for name in received}
    in_c = {(name, "c", "inference", 1) for name in (received | {"LMMSE", "LMMSE-IRC"}) - {"LS"}}
    in_c = in_c if any(map(shutil.which, ("cc", "gcc", "clang"))) else set()
    assert in_c <= workloads
    assert workloads - whole - in_c == set(calls), "whole receivers and C files are metered, and networks scored"
    assert len(metered["instruments"]) % len(workloads) == 0, "every instrument metered every call"
    rows = metered["rows"]
    assert [r["energy_j_per_slot"] for r in rows] == pytest.approx([r["energy_j"] / r["slots"] for r in rows])


def test_a_log_that_does_not_cover_the_windows_is_refused(
    run: Path, metered: dict[str, Any], tmp_path: Path, capsys
) -> None:
    assert metered["rows"]
    (path,) = (run / "metering").glob("windows-*.jsonl")
    windows = path.read_bytes()
    log = tmp_path / "log.csv"
    log.write_text("time,power_w\n" + "".join(f"{i},5\n" for i in range(20)))
    without_log = error_line(capsys, "energy", run, "--rounds", 1, "--utc-offset", 2)
    assert "give its log with --wattmeter" in without_log
    too_short = error_line(capsys, "energy", run, "--wattmeter", log)
    assert "give the log of that time" in too_short
    assert path.read_bytes() == windows, "nothing was metered again"


def test_the_report_states_the_validation(run: Path, metered: dict[str, Any]) -> None:
    leanrx("report", run)
    page = (run / "report" / "index.html").read_text()
    reference, provenance = metered["reference_instrument"], metered["provenance"]
    assert "receivers that are not part of the fit" in page
    assert f"Energy by {reference} is {provenance}." in page
    assert ("The comparison is with a model, so it tests the time only." in page) == (provenance != "measured")
    provenances = {r["provenance"] for r in metered["instruments"] if r["method"] == reference}
    assert provenance == ("measured" if provenances == {"measured"} else "modelled")
    assert "FLOPs per clock, achieved" in page
    assert not (run / "report" / "carbon.csv").exists()


def test_the_report_states_emissions_per_slot(run: Path, metered: dict[str, Any]) -> None:
    answer = leanrx_json("report", run, "--intensity", "world-2023", "--pue", 1.5)
    emissions = {r["receiver"]: r for r in answer["carbon"]}
    rows = deployed_rows(pd.DataFrame(metered["rows"]))
    rows = rows[(rows["receiver"] == "LMMSE") & (rows["method"] == metered["reference_instrument"])]
    energy_j = rows["energy_j_per_slot"].iloc[0]
    assert emissions["LMMSE"]["g_per_unit"] == pytest.approx(energy_j / 3.6e6 * 1.5 * 481)
    assert emissions["LMMSE"]["line"] in (run / "report" / "index.html").read_text()


def test_the_report_takes_an_own_intensity_and_embodied_emissions(run: Path, metered: dict[str, Any]) -> None:
    """230 g/kWh, and 100 kg over five years."""
    options = ("--intensity", 230, "--embodied-kg", 100, "--lifetime-years", 5)
    (line,) = [r for r in leanrx_json("report", run, *options)["carbon"] if r["receiver"] == "LMMSE"]
    rows = deployed_rows(pd.DataFrame(metered["rows"]))
    rows = rows[(rows["receiver"] == "LMMSE") & (rows["method"] == metered["reference_instrument"])]
    row = rows.iloc[0]
    embodied_g = 1e5 * row["duration_s"] / row["slots"] / (5 * 365.25 * 86400)
    assert line["g_per_unit"] == pytest.approx(row["energy_j_per_slot"] / 3.6e6 * 230 + embodied_g)
    assert "own value 230 g/kWh" in line["line"]
    assert "carbon intensity of a site (given by the user)" in (run / "report" / "index.html").read_text()


def test_the_report_compares_receivers_on_links(run: Path, metered: dict[str, Any]) -> None:
    assert metered["rows"]
    leanrx("report", run, "--intensity", "world-2023")
    page = (run / "report" / "index.html").read_text()
    assert "Receiver and transmit power" in page
    tables = {name: run / "report" / f"link-{name}.csv" for name in ("uplink-ue", "radio-head", "nr-macro")}
    for name, path in tables.items():
        table = pd.read_csv(path)
        assert (table["verdict"] == "chosen").sum() == 1
        assert table.loc[table["verdict"] == "chosen", "slot_g"].iloc[0] == table["slot_g"].min()
        assert (run / "report" / f"link-{name}.png").exists()


def test_carbon_link_of_a_run(run: Path, metered: dict[str, Any], tmp_path: Path, capsys) -> None:
    assert metered["rows"]
    arguments = ("carbon", "link", run, "--link", "radio-head", "--intensity", "world-2023", "--ber", 0.3)
    answer = leanrx_json(*arguments, "--csv", tmp_path / "link.csv", "--figures", tmp_path / "figures")
    rows = {row["receiver"]: row for row in answer["receivers"]}
    assert sum(row["verdict"] == "chosen" for row in rows.values()) == 1
    energy = deployed_rows(pd.DataFrame(metered["rows"]))
    energy = energy[(energy["receiver"] == "LMMSE") & (energy["method"] == metered["reference_instrument"])]
    assert rows["LMMSE"]["received_j"] == pytest.approx(energy["energy_j_per_slot"].iloc[0])
    assert pd.read_csv(tmp_path / "link.csv")["receiver"].tolist() == list(rows)
    assert {p.name for p in (tmp_path / "figures").iterdir()} >= {"link-radio-head.png", "link-radio-head.pdf"}
    capsys.readouterr()
    leanrx(*arguments, "--deadline-ms", 1e9)
    printed = capsys.readouterr().out
    assert printed.startswith("radio-head at ")
    assert "The power of interferers is held." in printed


def test_the_report_states_emissions_per_decoded_bit(run: Path, metered: dict[str, Any], capsys) -> None:
    assert metered["rows"]
    leanrx("report", run, "--intensity", "world-2023", "--unit", "decoded bit")
    ber = pd.read_csv(run / "report" / "ber.csv").query("sinr_db == 10 and interference_fraction == 0")
    ber = ber.set_index("receiver")
    decoded_bits = ber.loc["LMMSE", "bits"] / ber.loc["LMMSE", "slots"] * (1 - ber.loc["LMMSE", "ber"])
    per_bit = pd.read_csv(run / "report" / "carbon.csv").set_index("receiver").loc["LMMSE"]
    assert per_bit["units_per_slot"] == pytest.approx(decoded_bits)
    assert per_bit["line"] in capsys.readouterr().out


def test_evaluate_answers_in_json(run: Path) -> None:
    assert len(leanrx_json("evaluate", run)["rates"]) == 8 * 6


def recorded_windows(run: Path) -> list[dict]:
    """The recorded metering windows of a run."""
    (path,) = (run / "metering").glob("windows-*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_log(run: Path, path: Path, power_w: float) -> Path:
    """A wattmeter's log of the windows of a run: four times the power while the teacher computes."""
    windows = recorded_windows(run)
    ends = [(w["begin_s"], w["begin_s"] + w["duration_s"]) for w in windows]
    teacher = [(b - 0.1, e + 0.1) for (b, e), w in zip(ends, windows, strict=True) if w["name"].startswith("teacher/")]
    begin_s, length_s = min(b for b, _ in ends) - 1, max(e for _, e in ends) - min(b for b, _ in ends) + 2
    lines = ["time,power_w"]
    for i in range(int(20 * length_s) + 1):
        time_s = begin_s + 0.05 * i
        factor = 4 if any(b <= time_s <= e for b, e in teacher) else 1
        lines.append(f"{time_s},{factor * power_w}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_wattmeters_log_changes_the_payback(run: Path, tmp_path: Path, capsys) -> None:
    """Joined after the windows were recorded, at one power and at twice that power; nothing is metered again."""
    logged = tmp_path / "logged"
    shutil.copytree(run, logged)
    answers = []
    for power_w in (None, 10.0, 20.0):
        if power_w is not None:
            leanrx("energy", logged, "--wattmeter", write_log(logged, tmp_path / "log.csv", power_w))
            assert "reference instrument: wattmeter, measured" in capsys.readouterr().out
        leanrx("ecal", logged, "--json")
        answers.append(json.loads(capsys.readouterr().out))
    before, once, twice = answers
    assert before["reference_instrument"] != once["reference_instrument"] == "wattmeter"
    assert _payback_slots(before) != _payback_slots(once)
    assert _payback_slots(twice) < _payback_slots(once), "the student saves twice as much per slot"
    for name in once["life_cycle"]:
        first, second = (a["life_cycle"][name]["wattmeter"]["components_j"] for a in (once, twice))
        for part, energy_j in first.items():
            factor = 2 if part in ("inference", "evaluation") else 1
            assert second[part] == pytest.approx(factor * energy_j), (name, part)
    times = [[w["begin_s"] for w in recorded_windows(folder)] for folder in (run, logged)]
    assert times[0] == times[1], "nothing was metered again"
    leanrx("ecal", logged, "--reference", before["reference_instrument"], "--json")
    assert _payback_slots(json.loads(capsys.readouterr().out)) == _payback_slots(before)
    leanrx("ecal", logged, "--reference", "NVML", code=2)
    assert "no energy of every receiver by 'NVML'" in capsys.readouterr().err


def _payback_slots(answer: dict) -> float | None:
    """Of the student against running the teacher, by the reference instrument."""
    key = (answer["reference_instrument"], "running the teacher", "slot", "full")
    (payback,) = [
        p for p in answer["paybacks"] if (p["method"], p["against"], p["per"], p["teacher_allocation"]) == key
    ]
    return payback["slots"]


def test_energy_of_another_version_is_refused(run: Path, tmp_path: Path, capsys) -> None:
    old = tmp_path / "old"
    shutil.copytree(run, old)
    table = pd.read_parquet(old / "energy.parquet").rename(columns={"method": "source", "provenance": "kind"})
    table.to_parquet(old / "energy.parquet")
    for command in ("energy", "ecal", "report"):
        leanrx(command, old, code=2)
        error = capsys.readouterr().err
        assert "another version; delete it and run: leanrx energy" in error
        assert error.count("\n") == 1


def test_ecal_of_a_file(tmp_path: Path, capsys) -> None:
    """A file that changes a preset, over a range of inferences, with figures."""
    path = tmp_path / "life.yaml"
    path.write_text(
        "preset: published-kan\nname: small KAN\ninferences: 1e4\nhops: []\ninference_hops: []\n"
        "devices: {training: generic_cpu}\ngoodput: {data_bits_per_inference: 100, ber: 0.1}\n"
    )
    result = leanrx_json("ecal", path, "--sweep", "inferences=1e2..1e8", "--figures", tmp_path / "figures")
    assert list(result)[1:7] == [
        "ecal_j_per_bit",
        "absolute_j",
        "development_j",
        "inference_j_per_inference",
        "components_j",
        "bits",
    ]
    flops = 81_440
    components_j = result["components_j"]
    assert components_j["collection"] == components_j["inference_collection"] == 0
    assert components_j["training"] == pytest.approx(3 * flops * 50 * 204.8 * 1e-10)
    assert components_j["inference"] == pytest.approx(10_000 * flops * 1.4e-8)
    assert result["ecal_j_per_correct_bit"] == pytest.approx(result["absolute_j"] / (10_000 * 90))
    assert any("no network" in note for note in result["notes"])
    inferences = [point["inferences"] for point in result["sweep"]]
    assert (inferences[0], inferences[-1], len(inferences)) == (100, 10**8, 19)
    names = {p.name for p in (tmp_path / "figures").iterdir()}
    assert names == {"ecal.png", "ecal.pdf", "ecal-components.png", "ecal-components.pdf"}


def test_ecal_of_a_preset(capsys) -> None:
    leanrx("ecal", "published-mlp")
    assert "eCAL 2.10644e-06 J/bit" in capsys.readouterr().out


def test_ecal_of_a_run_over_a_range(run: Path, capsys) -> None:
    arguments = ("--sweep", "inferences=1..1000", "--inferences", "1e5", "--teacher-allocation", "split")
    answer = leanrx_json("ecal", run, *arguments)
    assert answer["settings"]["teacher_allocation"] == "split"
    points = answer["sweep"]["teacher"]
    assert points[0]["ecal_j_per_bit"] > points[-1]["ecal_j_per_bit"] > points[-1]["asymptotic_j_per_bit"]
    leanrx("ecal", run)
    assert "note: Uncertainty" in capsys.readouterr().out


def test_a_new_point_outside_the_trained_range_is_warned_about(run: Path, capsys) -> None:
    leanrx("evaluate", run, "--sinr-db", "40")
    out = capsys.readouterr().out
    assert "teacher: tested at 30, 40 dB SINR, trained on -3.0..20.0 dB" in out
    assert 40 in set(pd.read_parquet(run / "ber.parquet")["sinr_db"])


def test_test_slots_of_a_dataset_give_the_same_counts(run: Path, tmp_path, capsys) -> None:
    configuration = yaml.safe_load((run / "config.yaml").read_text())
    points = {key: configuration["evaluation"][key] for key in ("sinr_db", "interference_fractions")}
    config = tmp_path / "data.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "label": "slots",
                "scenario": configuration["scenario"],
                "split": "test",
                "block_slots": 8,
                "num_blocks": 8,
                **points,
            }
        )
    )
    leanrx("data", config, "--data", tmp_path)
    assert capsys.readouterr().out == f"dataset: {tmp_path / 'slots'}\n"
    copy = tmp_path / "small"
    shutil.copytree(run, copy)
    (copy / "ber.parquet").unlink()
    (copy / "config.yaml").write_text(yaml.safe_dump({**configuration, "dataset": {"test": str(tmp_path / "slots")}}))
    leanrx("evaluate", copy, "--workers", 2)
    simulated = pd.read_parquet(run / "ber.parquet")
    simulated = simulated[simulated["sinr_db"].isin(points["sinr_db"])].reset_index(drop=True)
    assert pd.read_parquet(copy / "ber.parquet").equals(simulated)
    damaged = next((tmp_path / "slots").rglob("block-000001.h5"))
    damaged.write_bytes(damaged.read_bytes()[:-7])
    (copy / "ber.parquet").unlink()
    leanrx("evaluate", copy, code=2)
    assert f"{damaged.name}: damaged or truncated" in capsys.readouterr().err
    leanrx("evaluate", copy, "--sinr-db", 7, code=2)
    assert "has no test point 7 dB" in capsys.readouterr().err
    config.write_text(config.read_text() + "blocks: 3\n")
    leanrx("data", config, "--data", tmp_path, code=2)
    assert "blocks: unknown key; did you mean 'num_blocks'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lable": "x"}, "lable: unknown key; did you mean 'label'?"),
        ({"seed": -1}, "seed"),
        ({"scenario": "moon"}, "no preset 'moon'"),
        ({"label": "../x"}, "label"),
        ({"students": {"receivers": ["resnet"]}}, "'resnet' is not a receiver"),
        ({"students": {"receivers": []}}, "students.receivers"),
        ({"students": {"receivers": ["deeprx"], "distillation": {"temperature": 0}}}, "distillation.0.temperature"),
        ({"students": {"receivers": ["deeprx"], "distillation": {"alpha": 1.5}}}, "distillation.0.alpha"),
        ({"scenario": {**SMALL["scenario"], "snr_db": [5, 0]}}, "the range is empty"),  # type: ignore[dict-item]
        ({"scenario": {**SMALL["scenario"], "delay_spread_s": [10, 300]}}, "is the unit s?"),  # type: ignore[dict-item]
        ({"device": "cuda"}, "cuda is not available"),
        ({"seed": 2**70}, "seed"),
        ({"students": {"receivers": ["deeprx"], "seeds": [-1]}}, "students.seeds"),
        ({"students": {"receivers": ["deeprx", "deeprx"]}}, "names deeprx twice"),
        ({"evaluation": {**SMALL["evaluation"], "sinr_db": 10}}, "write a list"),  # type: ignore[dict-item]
        ({"evaluation": {**SMALL["evaluation"], "sinr_db": [float("inf")]}}, "finite"),  # type: ignore[dict-item]
        ({"evaluation": {**SMALL["evaluation"], "sinr_db": [1e9]}}, "outside -50..100 dB"),  # type: ignore[dict-item]
        ({"evaluation": {**SMALL["evaluation"], "max_slots": 60}}, "multiple of block_slots"),  # type: ignore[dict-item]
        ({"scenario": {**SMALL["scenario"], "snr_db": [float("nan")] * 2}}, "finite"),  # type: ignore[dict-item]
        ({"scenario": {**SMALL["scenario"], "channels": {"train": ["TDL-A"]}}}, "channels.test is empty"),  # type: ignore[dict-item]
        ({"scenario": {**SMALL["scenario"], "grid": {"pilot_patterns": [list(range(14))]}}}, "no room for data"),  # type: ignore[dict-item]
        (
            distillation(transfers=transfer("blocs.0", "blocks.0")),
            "student has no module 'blocs.0'; near names: blocks.0",
        ),
        (
            distillation(transfers=transfer("blocks.0", "blocks.99")),
            "teacher 'teacher' has no module 'blocks.99'; near names",
        ),
        (
            distillation(transfers=transfer("conv_in", "conv_in"), teacher="perfect CSI"),
            "'perfect CSI' has no network to follow",
        ),
        (
            distillation(transfers=transfer("conv_in", "conv_in"), teacher="teacher+perfect CSI"),
            "'perfect CSI' has no network",
        ),
        (distillation(teacher="teecher"), "no 'teecher' for deeprx-w0.03125-d3-kd; teachers: teacher"),
        (distillation(generations=[1, 2, 3]), "two settings differ in it only; write the larger"),
        (
            {"teacher": {**SMALL["teacher"], "pretrained": {SMALL["teacher"]["receiver"]: "/no/such/folder"}}},  # type: ignore[dict-item, index]
            "teacher.pretrained: /no/such/folder/card.json: missing",
        ),
        ({"dataset": {"train": "/no/such/folder"}}, "/no/such/folder"),
        ({"dataset": {"test": "/no/such/folder"}}, "/no/such/folder"),
    ],
)
def test_wrong_configurations(tmp_path, capsys, changes: dict[str, object], message: str) -> None:
    leanrx("sweep", write(tmp_path, **changes), "--runs", tmp_path / "runs", code=2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


_LINK = ("--link", "radio-head", "--intensity", "world-2023")


def test_wrong_arguments(run: Path, tmp_path, capsys) -> None:
    for arguments, message in (
        (("sweep", tmp_path / "none.yaml"), "cannot be read"),
        (("report", tmp_path), "not a run folder"),
        (("export", run, "nobody"), "no 'nobody'"),
        (("export", run, "teacher", "--format", "gguf"), "formats: onnx"),
        (("count", "deeprx-d4"), "blocks: 3, 5, 7, 9, 11"),
        (("count", "deeprx", "--prb", "400"), "num_prb"),
        (("count", "deeprx", "--bits", "3"), "bits: 3"),
        (("train", run.parent / "small.yaml", "nobody", "--runs", run.parent), "no 'nobody'"),
        (("train", run.parent / "small.yaml", "--runs", run.parent / "small.yaml"), "a path that can be written"),
        (("evaluate", run, "--sinr-db", "nan"), "finite"),
        (("evaluate", run, "--sinr-db", "5000"), "outside -50..100 dB"),
        (("count", "deeprx-w0.25", "--device", "abacus"), "'abacus' is not known"),
        (("ecal", "published-gan"), "no such file or preset"),
        (("ecal", tmp_path / "none.yaml"), "cannot be read"),
        (("ecal", tmp_path), "not a run folder"),
        (("ecal", "published-mlp", "--sweep", "inferences=1e8..1e2"), "write inferences=1e2..1e8"),
        (("ecal", "published-mlp", "--sweep", "epochs=1..9"), "write inferences=1e2..1e8"),
        (("ecal", "published-mlp", "--inferences", "0"), "inferences: 0"),
        (("ecal", "published-mlp", "--teacher-allocation", "split"), "has no teacher"),
        (("ecal", run, "--teacher-allocation", "lent"), "'full' or 'split'"),
        (("report", run, "--intensity", "Atlantis"), "no carbon intensity 'Atlantis'; choose from AUT-2023"),
        (("report", run, "--intensity", "world-2023", "--pue", 0.5), "pue"),
        (("report", run, "--intensity", "world-2023", "--unit", "frame"), "units: slot, decoded bit"),
        (("report", run, "--intensity", "world-2023", "--unit", "correct transport block"), "set evaluation.code_rate"),
        (("report", run, "--pue", 1.2), "give --intensity"),
        (("report", run, "--embodied-kg", 300), "--embodied-kg applies to emissions only; give --intensity"),
        (("report", run, "--intensity", 0.23), "give grams per kWh, 1 to 3000"),
        (("report", run, "--intensity", 230, "--embodied-kg", -1), "embodied_kg"),
        (("report", run, "--intensity", 230, "--lifetime-years", 3), "give --embodied-kg"),
        (("report", run, "--intensity", 230, "--embodied-kg", 1, "--lifetime-years", 0), "lifetime_s"),
        (("report", run, "--intensity", 230, "--embodied-kg", 1, "--resource-share", 2), "resource_share"),
        (("carbon", "link", run, *_LINK, "--ber", 0.1, "--bler", 0.1), "give one target"),
        (("carbon", "link", run, *_LINK, "--bler", 0.1), "no counted transport blocks"),
        (("carbon", "link", "nowhere", *_LINK), "no run folder and no family 'nowhere'"),
        (("carbon", "link", "tdl-6prb", *_LINK, "--reference", "RAPL"), "is not a run folder"),
        (("carbon", "link", "tdl-6prb", *_LINK, "--transmitter-intensity", "US-VT-2023"), "choose two of one basis"),
    ):
        leanrx(*arguments, code=2)
        error = capsys.readouterr().err
        assert message in error, error
        assert error.startswith("leanrx: ")
        assert error.count("\n") == 1


def test_a_run_of_another_configuration_is_not_touched(run: Path, tmp_path, capsys) -> None:
    leanrx("sweep", write(tmp_path, seed=9), "--runs", run.parent, code=2)
    assert "receivers/teacher: trained with seed 1, the configuration has 9" in capsys.readouterr().err


def test_the_reports_numbers_are_those_of_the_run(run: Path) -> None:
    counts, energy = pd.read_parquet(run / "ber.parquet"), pd.read_parquet(run / "energy.parquet")
    keys = ["receiver", "interference_fraction", "sinr_db"]
    sums = counts.groupby(keys)[["bit_errors", "bits"]].sum()
    rates = pd.read_csv(run / "report" / "ber.csv").set_index(keys)
    expected = (sums["bit_errors"] / sums["bits"]).reindex(rates.index)
    pd.testing.assert_series_equal(rates["ber"], expected, check_names=False)
    metered = deployed_rows(energy)
    metered = metered[metered["method"] == reference_instrument(energy)].set_index("receiver")
    energy_j = pd.read_csv(run / "report" / "receivers.csv").set_index("receiver")["energy_j_per_slot"].dropna()
    expected_j = (metered["energy_j"] / metered["slots"])[energy_j.index]
    pd.testing.assert_series_equal(energy_j, expected_j, check_names=False)
    page = (run / "report" / "index.html").read_text()
    assert "http" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("file", "damage", "command", "message"),
    [
        ("environment.json", b"{", "report", "missing or damaged"),
        ("environment.json", b"{}", "report", "missing or damaged"),
        ("ber.parquet", b"PAR1", "report", "damaged"),
        ("energy.parquet", b"PAR1", "ecal", "damaged"),
        ("receivers/teacher/card.json", b"\xff", "report", "not a receiver's card"),
        ("config.yaml", b"", "report", "write keys and values"),
        ("ber.journal.jsonl", b"nonsense\n", "evaluate", "damaged or of another version"),
        ("validation/scores.csv", b"phase\ninference\n", "report", "of another version; run: leanrx energy"),
        ("validation/estimates.csv", b"receiver\nnet\n", "report", "of another version; run: leanrx energy"),
    ],
)
def test_damaged_files_are_named(run: Path, capsys, file: str, damage: bytes, command: str, message: str) -> None:
    path = run / file
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(damage)
    try:
        leanrx(command, run, code=2)
    finally:
        path.unlink() if before is None else path.write_bytes(before)
    error = capsys.readouterr().err
    assert message in error
    assert Path(file).name in error
    assert error.count("\n") == 1


def test_a_run_is_locked_by_one_process(run: Path, capsys) -> None:
    code = (
        "import sys, fcntl; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('locked'); "
        "sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(run / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        sessions.release_locks()
        holder.stdout.readline()
        leanrx("report", run, code=2)
        assert "in use by another process" in capsys.readouterr().err
    finally:
        holder.communicate(b"")


def test_temporary_files_of_a_killed_process_are_removed(run: Path) -> None:
    (run / "exports").mkdir(exist_ok=True)
    (run / "exports" / ".tmp-abc").mkdir()
    (run / ".tmp-def").write_text("half")
    leanrx("report", run)
    assert not list(run.rglob(".tmp-*"))


def test_ctrl_c_is_one_line_and_resumable(tmp_path) -> None:
    config, log = write(tmp_path), tmp_path / "small" / "training" / "teacher.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "leanrx", "train", str(config), "--runs", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores SIGINT
    )
    wait_for(process, log, 7)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip().splitlines()[-1] == "interrupted; run the same command again to resume"
    assert "Traceback" not in error


def test_damaged_weights_are_named(run: Path, tmp_path, capsys) -> None:
    weights = run / "receivers" / "teacher" / "weights.safetensors"
    data = weights.read_bytes()
    try:
        weights.write_bytes(data[:-50])
        leanrx("export", run, "teacher", code=2)
        assert "teacher/weights.safetensors: damaged or truncated" in capsys.readouterr().err
        weights.unlink()
        leanrx("report", run, code=2)
        assert "teacher/weights.safetensors: missing" in capsys.readouterr().err
    finally:
        weights.write_bytes(data)


def wait_for(process: subprocess.Popen, path: Path, lines: int) -> None:
    """Wait until a file has so many lines; the process must still run then."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.002)
    assert process.poll() is None, "the process ended before it could be stopped"


def kill_during(arguments: list[str], when: Path, progress: int) -> None:
    """Start the command and kill -9 it as soon as ``when`` has ``progress`` lines."""
    process = subprocess.Popen([sys.executable, "-m", "leanrx", *arguments], stdout=subprocess.DEVNULL)
    wait_for(process, when, progress)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_kill_9_in_training_and_in_evaluation(run: Path, tmp_path) -> None:
    """Killed twice and resumed with the same command: the weights and counts of the uninterrupted run."""
    config, folder = write(tmp_path), tmp_path / "small"
    kill_during(["train", str(config), "--runs", str(tmp_path)], folder / "training" / "teacher.jsonl", 12)
    assert not (folder / "receivers" / "teacher").exists()
    assert (folder / "checkpoints" / "teacher.safetensors").exists()
    leanrx("train", config, "--runs", tmp_path)
    for name in ("teacher", "deeprx-w0.03125-d3-kd", "deeprx-w0.03125-d3-scratch"):
        weights = Path("receivers") / name / "weights.safetensors"
        assert (folder / weights).read_bytes() == (run / weights).read_bytes()
    kill_during(["evaluate", str(folder)], folder / "ber.journal.jsonl", 20)
    assert not (folder / "ber.parquet").exists()
    leanrx("evaluate", folder)
    whole = pd.read_parquet(run / "ber.parquet")
    whole = whole[whole["sinr_db"] != 40].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "ber.parquet"), whole)


def test_shards_from_two_machines_merge_to_the_same_counts(run: Path, tmp_path, capsys) -> None:
    whole = pd.read_parquet(run / "ber.parquet")
    whole = whole[whole["sinr_db"] != 40].reset_index(drop=True)
    machines = [tmp_path / "first", tmp_path / "second"]
    for i, folder in enumerate(machines):
        shutil.copytree(run, folder, ignore=shutil.ignore_patterns("ber.parquet"))
        leanrx("evaluate", folder, "--shard", f"{i + 1}/2")
        assert "ber.parquet" in capsys.readouterr().out
        assert not (folder / "ber.parquet").exists()
    first, second = machines
    leanrx("merge", first)
    out = capsys.readouterr().out
    assert "blocks are missing" in out
    assert f"leanrx evaluate {first}" in out
    leanrx("merge", first, second / "shards" / "2-of-2", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert answer["unfinished"] == []
    assert len(answer["rates"]) == len(whole.groupby(["receiver", "interference_fraction", "sinr_db"]))
    pd.testing.assert_frame_equal(pd.read_parquet(first / "ber.parquet"), whole)
    assert not (first / "ber.journal.jsonl").exists()
    leanrx("merge", second, run / "ber.parquet", "--json")  # a whole table is a shard too
    assert json.loads(capsys.readouterr().out)["rates"][0]["receiver"] == "LMMSE"


def test_workers_count_the_same(run: Path, tmp_path) -> None:
    whole = pd.read_parquet(run / "ber.parquet")
    folder = tmp_path / "workers"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("ber.parquet"))
    leanrx("evaluate", folder, "--workers", 2)
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder / "ber.parquet"), whole[whole["sinr_db"] != 40].reset_index(drop=True)
    )


def test_wrong_shards(run: Path, tmp_path, capsys) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    config = other / "config.yaml"
    config.write_text(config.read_text().replace("seed: 1", "seed: 2", 1))
    for arguments, message in (
        (("evaluate", run, "--shard", "5/4"), "'5/4' is not a shard; write 1/4"),
        (("evaluate", run, "--workers", 0), "Invalid value for '--workers'"),
        (("merge", run), "run leanrx evaluate RUN --shard 1/N first"),
        (("merge", run, run / "config.yaml"), "config.yaml: no Parquet table"),
        (("merge", run, tmp_path / "none.parquet"), "none.parquet: "),
        (("merge", other, run / "ber.parquet"), "trained with seed 1, the configuration has 2"),
    ):
        leanrx(*arguments, code=2)
        error = capsys.readouterr().err
        assert message in error, error
        assert error.count("\n") == 1
