"""The command that plans slot by slot with forecasts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leanrx.cli.main import app

NETWORK = """
slot_s: 3600
slots: 3
sites:
  - name: one
    intensity: [300, 100, 600]
    batches: 5
    batch_kwh: 0.1
    harvest_kwh: [0.9, 0.2, 0]
    battery: {capacity_kwh: 0.4}
"""


def _horizon(folder: Path, *options: object) -> None:
    path = folder / "network.yaml"
    path.write_text(NETWORK)
    app(["carbon", "horizon", "--network", str(path), *map(str, options)], standalone_mode=False)


def test_text_json_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _horizon(tmp_path, "--forecast-errors", "0,0.5", "--seeds", 2, "--figures", tmp_path / "figures")
    captured = capsys.readouterr()
    first, second = captured.out.splitlines()
    assert first == (
        "DETA, plans of 24 slots, forecast error 0%: 0.00% above the dispatch that knows everything (one seed)"
    )
    assert "forecast error 50%" in second
    assert second.endswith("2 seeds)")
    assert "forecast error 0.5: 2 of 2 done" in captured.err
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"network-regret"}
    _horizon(tmp_path, "--window", 3, "--policy", "B1", "--forecast-errors", 0, "--json")
    answer = json.loads(capsys.readouterr().out)
    assert (answer["policy"], answer["window"]) == ("B1", 3)
    assert answer["regrets"][0]["mean"] == pytest.approx(0, abs=1e-6)
