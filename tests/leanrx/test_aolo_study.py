"""The command of the case study: what it says before and after a training, and its figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from carbon.aolo.controller_energy import dense_proxy, meter_agent, spiking_proxy
from carbon.aolo.receiver_site import ReceiverSite
from carbon.aolo.study import Study, StudySettings
from carbon.aolo.tasks import RequestTask
from energy.metering.measurement import Measurement
from energy.metering.session import MeteringProtocol
from leanrx.cli.main import app
from leanrx.report import aolo_study
from leanrx_core.errors import UserError

RECEIVERS = (
    {"name": "small", "received_j": 7e-3, "sent_j": 7e-3},
    {"name": "large", "received_j": 15e-3, "sent_j": 4e-3},
)


@pytest.fixture
def small_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carbon.aolo.tasks._TRAINING_POOL", 100)
    monkeypatch.setattr("carbon.aolo.tasks._HELD_OUT_DAYS", 1)
    monkeypatch.setattr("carbon.aolo.study.EVALUATION_STEPS", 16)
    site = ReceiverSite.parse({"receivers": RECEIVERS}, "site")
    monkeypatch.setattr(aolo_study, "shipped_site", lambda: site)


def _published(folder: Path, *options: object) -> None:
    numbers = ["--steps", 16, "--seeds", 1, "--max-steps", 32]
    arguments = ["carbon", "published", "aolo", "--folder", folder, *numbers, *options]
    app([str(a) for a in arguments], standalone_mode=False)


@pytest.mark.usefixtures("small_study")
def test_before_and_after_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _published(tmp_path / "agents")
    before = capsys.readouterr().out
    assert before.startswith("text, 0.1 x the joules: The choice of power changes the total by")
    assert "requests: no agent is trained for 16 steps yet; run: leanrx carbon published aolo --train" in before
    assert "the myopic policy emits" in before
    assert "one answer of text, prompt transport (core, scope 2): not modelled" in before
    assert "one answer of text, decode (edge/cloud, scope 2): 0." in before
    _published(tmp_path / "agents", "--learning-rate", 0.001, "--train", "--figures", tmp_path / "figures", "--json")
    captured = capsys.readouterr()
    assert "requests-sdrl-s1-lr0.001-n16: 16 of 16 decisions" in captured.err
    answer: dict[str, Any] = json.loads(captured.out)
    assert set(answer["requests"]["summaries"]) == {"sac", "sdrl"}
    assert answer["paper_reduction"] == 0.1877
    assert answer["text"]["1"]["power_effect"] < 0.01
    assert [row["g"] for row in answer["chain"] if row["stage"] == "prompt transport"] == [None]
    assert len(answer["sweeps"]) == 25
    assert answer["controllers"]["metered"] == {}
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == {"aolo-learning-requests", "aolo-learning-site", "aolo-sweeps"}
    _published(tmp_path / "agents", "--learning-rate", 0.001)
    after = capsys.readouterr().out
    assert "requests: SDRL reduces the footprint of SAC by" in after
    assert "The paper's figure is 18.77%; its setting is not public." in after
    assert "site: SAC closes" in after
    # eight evaluations at least make a flat curve, so both agents have gone on to twice the decisions
    assert "requests-sac-s1-lr0.001-n32: 32 of 32 decisions" in captured.err
    assert "requests, SDRL, decided further where not flat:" in after
    assert "nJ by arithmetic" in after


def test_unknown_studies_and_tasks_are_refused() -> None:
    with pytest.raises(UserError, match="task: 'x' is not known; choose from requests, site"):
        app(["carbon", "published", "aolo", "--task", "x"], standalone_mode=False)
    with pytest.raises(UserError, match="study: 'x' is not known; choose from aolo"):
        app(["carbon", "published", "x"], standalone_mode=False)


def test_text_hardly_depends_on_the_power() -> None:
    results = aolo_study.text_materiality()
    assert list(results) == [0.1, 1.0, 10.0]
    assert all(result.power_effect < 0.01 for result in results.values())
    assert results[1.0].half_bits == pytest.approx(241.6e3, rel=0.01)


def test_proxies_of_the_reference_example() -> None:
    """Five observations and two actions, at rates that were measured on a trained actor."""
    dense, spiking = dense_proxy(5, 2), spiking_proxy(5, 2, (0.120, 0.123, 0.151, 0.281))
    assert 1e9 * dense.arithmetic_j == pytest.approx(309.7, rel=0.005)
    assert 1e9 * spiking.arithmetic_j == pytest.approx(46.7, rel=0.005)
    assert 1e9 * spiking.with_updates_j == pytest.approx(71.1, rel=0.005)
    weights, activations = 67_328, 5 + 256 + 256 + 2
    assert dense.with_traffic_j == pytest.approx(dense.arithmetic_j + 12.5e-12 * 4 * (weights + activations))
    additions, states = 51_850, 2 * 2 * 5 * (256 + 256 + 20)
    assert spiking.with_traffic_j == pytest.approx(
        spiking.with_updates_j + 12.5e-12 * 4 * (additions + states), rel=1e-3
    )


class _Constant:
    """An instrument that always reads 2 J."""

    name, shortest_s = "constant", 0.0

    def begin(self) -> None: ...

    def end(self) -> list[Measurement]:
        return [Measurement("cpu", 2.0, "modelled", "constant", "1", 0.0, 0.1)]


@pytest.mark.usefixtures("small_study")
def test_agents_are_metered(tmp_path: Path) -> None:
    study = Study(tmp_path, RequestTask(), StudySettings(steps=16, seeds=(1,), learning_rate=1e-3))
    list(study.train())
    agent = study.trained_agent("sac", 1)
    protocol = MeteringProtocol(min_duration_s=0.001, idle_s=0, cool_down_s=0, rounds=1)
    observations = study.task.held_out.observations  # type: ignore[attr-defined]
    energy = meter_agent(agent, observations, decisions=3, instruments=[_Constant()], protocol=protocol)
    assert energy.decision.repeats % 3 == 0
    assert energy.decision.energy_per_repeat_j == pytest.approx(2.0 / energy.decision.repeats)
    assert energy.gradient_step.energy_j == 2.0
