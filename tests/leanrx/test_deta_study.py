"""The published study of DETA by its command."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from leanrx.cli.main import app
from leanrx.report import deta_study
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
    with pytest.raises(UserError, match="--train has no effect; leave it out"):
        _carbon("published", "deta", "--train")
    with pytest.raises(UserError, match="--learning-rate has no effect"):
        _carbon("published", "deta", "--learning-rate", 0.1)
    with pytest.raises(UserError, match="study: 'eta' is not known; choose from aolo, deta"):
        _carbon("published", "eta")
