"""The command of a network of edge sites: totals, flows, footprint, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from leanrx.cli.main import app
from leanrx_core.errors import UserError

NETWORK = """
slot_s: 3600
slots: 1
trading_loss: 0.1
basis: {place: production, kind: average, boundary: direct}
sites:
  - {name: clean, intensity: 50, batches: 10, batch_kwh: 0.1, harvest_kwh: 0.6}
  - {name: dirty, intensity: 500, batches: 10, batch_kwh: 0.1, harvest_kwh: 0.2}
"""


def _network(folder: Path, *options: object, text: str = NETWORK) -> None:
    path = folder / "network.yaml"
    path.write_text(text)
    app(["carbon", "network", "--network", str(path), *map(str, options)], standalone_mode=False)


def test_text_flows_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _network(tmp_path, "--csv", tmp_path / "flows.csv", "--figures", tmp_path / "figures")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "2 sites, 1 slots: DETA emits 75 g, a cut of 82.1% against B1 and 86.4% against B0. "
        "Basis of the intensities: production, average, direct."
    )
    assert "DETA: one more kWh at dirty emits 500 g in slot 1." in lines
    assert "DETA, clean (edge/cloud, scope 2): 60 g" in lines
    assert "DETA, transport (core, scope 2): not modelled" in lines
    assert "DETA, embodied (edge/cloud, scope 3): not modelled" in lines
    flows = pd.read_csv(tmp_path / "flows.csv")
    assert len(flows) == 10
    grams = flows.grid_kwh * flows.site.map({"clean": 50, "dirty": 500})
    assert grams.groupby(flows.policy).sum().round(6).to_dict() == {
        "B0": 550,
        "B1": 420,
        "DAT": 195,
        "DET": 300,
        "DETA": 75,
    }
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"network-emissions", "network-tasks"}


def test_json_with_transport_and_an_infeasible_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moving = "transport_kwh: 0.01\nnetwork_g_per_kwh: 300\n"
    limit = "harvest_kwh: 0.2, capacity_batches: 8}"
    _network(tmp_path, "--json", text=NETWORK.replace("harvest_kwh: 0.2}", limit) + moving)
    answer = json.loads(capsys.readouterr().out)
    assert set(answer["infeasible"]) == {"B0", "B1", "DET"}
    assert "site dirty, slot 1, capacity is short by 2 batches" in answer["infeasible"]["B1"]
    deta = answer["policies"][-1]
    assert deta["cut_b1"] is None
    assert deta["transport_g"] == pytest.approx(3 * deta["moved_batches"])
    grams = [row["g"] for row in answer["footprint"] if row["g"] is not None]
    assert sum(grams) == pytest.approx(deta["total_g"])


def test_what_whole_batches_add(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = NETWORK.replace("batches: 10", "batches: 9").replace("harvest_kwh: 0.6", "harvest_kwh: 0")
    _network(tmp_path, text=text.replace("harvest_kwh: 0.2", "harvest_kwh: 0") + "whole_batches: true\n")
    # 0.5 kWh at 500 g/kWh and 1.3 at 50, against 0.45 and 1.35 kWh
    assert f"Whole batches emit {315 / 292.5 - 1:.2%} more than parts of batches would." in capsys.readouterr().out


def test_the_shipped_example(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[2] / "configs" / "network.yaml"
    app(["carbon", "network", "--network", str(path)], standalone_mode=False)
    text = capsys.readouterr().out
    assert "a cut of 53.6% against B1 and 59.2% against B0" in text


def test_an_infeasible_network_is_refused(tmp_path: Path) -> None:
    text = NETWORK.replace("0.1,", "0.1, capacity_batches: 3,")
    with pytest.raises(UserError, match=r"DETA is infeasible: site .* capacity is short by"):
        _network(tmp_path, text=text)


RECEIVERS = """
slot_s: 43200
slots: 2
link: nr-macro
ber: 0.01
deadline_ms: 4
network_intensity: US-2023
sites:
  - {name: north, intensity: US-VT-2023, computers: 9, path_loss_db: 118, activity: 0.5, harvest_kwh: [0, 1]}
  - {name: south, intensity: US-MO-2023, computers: 9, path_loss_db: 128, activity: 0.5, harvest_kwh: [0, 1]}
jobs:
  - {name: adapt, site: south, kwh: 0.1, hours: 2, gigabytes: 1, deadline: 2}
"""


def test_receivers_of_sites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "network.yaml"
    path.write_text(RECEIVERS)
    options = ["--csv", tmp_path / "slots.csv", "--figures", tmp_path / "figures", "--grams-per-db"]
    command = ["carbon", "network", "tdl-6prb", "--network", path, *options]
    app([str(part) for part in command], standalone_mode=False)
    text = capsys.readouterr().out
    assert text.startswith("2 sites, 2 slots, BER 0.01: ")
    assert "LMMSE at all sites, all else chosen: not possible" in text
    assert "One dB more of SINR at south saves " in text
    rows = pd.read_csv(tmp_path / "slots.csv")
    assert len(rows) == 6 * 4
    best = rows[rows.policy == "DETA+wait"]
    assert "DETA+wait, application, transmission (user device, scope 3): not modelled" in text
    assert "DETA+wait: one more kWh at south emits " in text
    assert best.filter(like="share tdl").sum(axis=1).round(6).tolist() == [1] * 4
    assert best.jobs_part.sum() == pytest.approx(1)
    names = {"sites-day", "sites-policies", "sites-choices", "sites-stages", "sites-numbers", "sites-emissions"}
    tables = {"sites-policies.csv", "sites-slots.csv", "sites-footprint.csv"}
    pictures = {f"{name}.{suffix}" for name in names for suffix in ("png", "pdf")}
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"index.html", *tables, *pictures}
    page = (tmp_path / "figures" / "index.html").read_text(encoding="utf-8")
    assert "Receiving sites over a day" in page
    assert all(f'id="figure-{name}"' in page for name in names)
    footprint = pd.read_csv(tmp_path / "figures" / "sites-footprint.csv")
    app([str(part) for part in [*command[:5], "--json"]], standalone_mode=False)
    answer = json.loads(capsys.readouterr().out)
    stages = [value for key, value in answer["policies"][-1].items() if key.endswith("_g") and key != "total_g"]
    total_g = answer["policies"][-1]["total_g"]
    assert sum(stages) == pytest.approx(total_g)
    assert footprint[footprint.policy == "DETA+wait"].g.sum() == pytest.approx(total_g)
    assert sum(row["g"] for row in answer["footprint"] if row["g"] is not None) == pytest.approx(total_g)
    assert sum(answer["stages_over_sites_g"]["2"].values()) == pytest.approx(total_g)
    assert answer["single_receivers_g"]["LMMSE"] is None
    assert sum(part["part"] for part in answer["jobs"][0]["parts"]) == pytest.approx(1)


def test_options_of_receivers_are_refused_without_receivers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--grams-per-db has no effect; leave it out"):
        _network(tmp_path, "--grams-per-db")
    with pytest.raises(UserError, match=r"this file has no receivers; leave out RUN\|FAMILY"):
        _network(tmp_path, "tdl-6prb")
    (tmp_path / "network.yaml").write_text(RECEIVERS)
    for command in (["network"], ["horizon", "--window", "1"]):
        with pytest.raises(UserError, match="this file describes receiver sites; "):
            app(["carbon", *command, "--network", str(tmp_path / "network.yaml")], standalone_mode=False)
    with pytest.raises(UserError, match="no run folder and no family 'nothing' in the zoo"):
        app(["carbon", "network", "nothing", "--network", str(tmp_path / "network.yaml")], standalone_mode=False)
