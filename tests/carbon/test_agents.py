"""Agents: their actors, multipliers, checkpoints without pickle, resume bit for bit, and the statistics of a study."""

import pickle
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC

from carbon.aolo.actor_critic import SoftActorCritic
from carbon.aolo.agent_files import checkpoints, load_agent, save_agent
from carbon.aolo.agent_statistics import SeedMean, is_flat, reduction, summarise
from carbon.aolo.agents import Agent, AgentSettings, SpikingActor
from carbon.aolo.parameter_sweeps import sweep_agents
from carbon.aolo.popsan import SpikingActorNet
from carbon.aolo.request_environment import RequestDistribution, RequestEnvironment, RequestPool
from carbon.aolo.study import Study, StudySettings
from carbon.aolo.tasks import AgentEvaluation, RequestTask
from leanrx_core.errors import UserError

SMALL = {"steps": 120, "warmup_steps": 40, "hidden": (16, 16), "batch": 16, "seed": 3, "environments": 2}


@pytest.fixture(scope="module")
def pool() -> RequestPool:
    return RequestDistribution().draw(200, seed=1)


def _agent(pool: RequestPool, actor: str = "dense", **changes: object) -> Agent:
    return Agent(AgentSettings.parse({**SMALL, "actor": actor, **changes}, "agent"), lambda: RequestEnvironment(pool))


def _weights(agent: Agent) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in agent.model.policy.state_dict().items()}


def _equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_agents_differ_in_the_actor_alone(pool: RequestPool) -> None:
    dense, spiking = _agent(pool), _agent(pool, "spiking")
    assert isinstance(spiking.model.actor, SpikingActor)
    assert isinstance(spiking.model.actor.mu, SpikingActorNet)
    assert [p.shape for p in dense.model.critic.parameters()] == [p.shape for p in spiking.model.critic.parameters()]
    assert dense.model.target_entropy == spiking.model.target_entropy == -6
    assert spiking.act(pool.observations[:7]).shape == (7, 2)
    assert np.abs(spiking.act(pool.observations)).max() <= 1


@pytest.mark.parametrize("hidden", [(), (0,), (64, -1)])
def test_impossible_layers_are_refused(hidden: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="hidden"):
        AgentSettings.parse({"actor": "spiking", "hidden": hidden}, "agent")


@pytest.mark.parametrize("actor", ["dense", "spiking"])
def test_resumed_training_equals_an_uninterrupted_one(pool: RequestPool, tmp_path: Path, actor: str) -> None:
    whole = _agent(pool, actor)
    list(whole.train(30))
    begun = _agent(pool, actor)
    for decided in begun.train(30):
        save_agent(begun, tmp_path)
        if decided == 60:
            break
    torch.manual_seed(123)  # generators of another process
    np.random.seed(5)  # noqa: NPY002
    resumed = _agent(pool, actor)
    assert load_agent(resumed, tmp_path)
    assert resumed.decided == 60
    list(resumed.train(30))
    assert _equal(_weights(whole), _weights(resumed))
    assert not _equal(_weights(whole), _weights(begun))
    assert (whole.multipliers == resumed.multipliers).all()


@pytest.mark.parametrize("actor", ["dense", "spiking"])
def test_a_training_that_goes_on_equals_a_longer_one(pool: RequestPool, tmp_path: Path, actor: str) -> None:
    longer = _agent(pool, actor)
    list(longer.train(30))
    first = _agent(pool, actor, steps=60)
    list(first.train(30))
    save_agent(first, tmp_path)
    second = _agent(pool, actor)
    with pytest.raises(UserError, match="belongs to other settings: steps; choose another folder"):
        load_agent(second, tmp_path)
    assert load_agent(second, tmp_path, shorter=True)
    list(second.train(30))
    assert _equal(_weights(longer), _weights(second))
    save_agent(second, tmp_path)
    with pytest.raises(UserError, match="other settings: steps"):  # 120 decisions are no beginning of 60
        load_agent(_agent(pool, actor, steps=60), tmp_path, shorter=True)


def test_checkpoints_hold_no_pickle_and_leave_the_newest(pool: RequestPool, tmp_path: Path) -> None:
    agent = _agent(pool)
    for _ in agent.train(60):
        save_agent(agent, tmp_path, {"evaluations.json": "[]"})
    (folder,) = checkpoints(tmp_path)
    assert folder.name == "decisions-000000120"
    assert {p.name for p in folder.iterdir()} == {
        "weights.safetensors",
        "state.npz",
        "settings.json",
        "evaluations.json",
    }
    with np.load(folder / "state.npz", allow_pickle=False) as state:
        assert all(state[name].dtype != object for name in state.files)
    with zipfile.ZipFile(folder / "state.npz") as archive:
        for name in archive.namelist():
            with pytest.raises((pickle.UnpicklingError, ValueError, KeyError, EOFError, IndexError)):
                pickle.loads(archive.read(name))


def test_damaged_and_foreign_checkpoints_are_refused(pool: RequestPool, tmp_path: Path) -> None:
    assert not load_agent(_agent(pool), tmp_path / "none")
    agent = _agent(pool)
    next(agent.train(60))
    folder = save_agent(agent, tmp_path)
    with pytest.raises(UserError, match="belongs to other settings"):
        load_agent(_agent(pool, learning_rate=0.5), tmp_path)
    with pytest.raises(UserError, match="belongs to other settings: hidden, task;"):
        load_agent(_agent(pool, task="abc", hidden=(8, 8)), tmp_path)
    (folder / "state.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="damaged; delete this folder"):
        load_agent(_agent(pool), tmp_path)


def test_multipliers_rise_with_violations_and_fall_without(pool: RequestPool) -> None:
    agent = _agent(pool, multiplier_rate=0.1, warmup_steps=0)
    agent.replay.multipliers = np.array([1.0, 1.0])
    information = {"shortfalls": np.array([0.2, 0.0])}
    agent.model.num_timesteps = 1
    for _ in range(10):
        agent._observe({"infos": [information, information]}, {})
    # two decisions at once, so each of the ten steps counts twice
    assert agent.multipliers == pytest.approx([1 + 20 * 0.1 * 0.99, 1 - 20 * 0.1 * 0.01])


def test_sampled_rewards_have_the_present_multipliers(pool: RequestPool) -> None:
    agent = _agent(pool)
    next(agent.train(30))
    replay = agent.replay
    for weights in ((0.0, 0.0), (3.0, 5.0)):
        replay.multipliers = np.array(weights)
        np.random.seed(7)  # noqa: NPY002 - the replay draws the environment of each row from it
        samples = replay._get_samples(np.arange(15))
        np.random.seed(7)  # noqa: NPY002
        index = np.arange(15), np.random.randint(2, size=15)  # noqa: NPY002
        expected = replay.rewards[index] - replay.shortfalls[index] @ weights
        assert samples.rewards.numpy()[:, 0] == pytest.approx(expected, rel=1e-5)
        assert (samples.observations.numpy() == replay.observations[index]).all()


@pytest.mark.parametrize("actor", ["dense", "spiking"])
@pytest.mark.parametrize("discount", [0.0, 0.9])
def test_gradient_steps_equal_those_of_stable_baselines3(pool: RequestPool, actor: str, discount: float) -> None:
    weights = []
    for train in (SoftActorCritic.train, SAC.train):
        agent = _agent(pool, actor, discount=discount, steps=40, entropy_coefficient=0.2)
        list(agent.train(40))
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        # Without a discount the next actions are not drawn, so only one step has the same noise.
        train(agent.model, 3 if discount else 1, 16)
        critics = {} if discount else {"critic_target"}
        kept = {name: value for name, value in _weights(agent).items() if name.split(".")[0] not in critics}
        weights.append(kept | {"entropy": agent.model.log_ent_coef.detach().clone()})
    for name, value in weights[0].items():
        assert value == pytest.approx(weights[1][name], abs=1e-6), name


def test_a_study_trains_evaluates_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carbon.aolo.study.EVALUATION_STEPS", 32)
    monkeypatch.setattr("carbon.aolo.tasks._TRAINING_POOL", 100)
    monkeypatch.setattr("carbon.aolo.study.LEARNING_RATES", (1e-3,))
    monkeypatch.setattr("carbon.aolo.study.TUNING_SEEDS", (9,))
    task = RequestTask()
    monkeypatch.setattr("carbon.aolo.study.TUNING_FRACTION", 1.0)
    study = Study(tmp_path, task, StudySettings(steps=80, seeds=(1,)))
    with pytest.raises(UserError, match="the learning rates are not tuned yet"):
        study.learning_rate("sac")
    progress = list(study.train())
    assert [p.decided for p in progress] == [32, 64, 80] * 4
    assert progress[0].name == "requests-sac-s9-lr0.001-n80"
    assert list(study.train()) == []
    assert study.learning_rate("sdrl") == 1e-3
    runs = {name: study.completed(name) for name in ("sac", "sdrl")}
    summary = summarise("sac", runs["sac"])
    assert summary.gap.mean >= 0
    assert summary.gap.seeds == 1
    agent = study.trained_agent("sdrl", 1)
    assert task.evaluate(agent) == runs["sdrl"][1][-1]
    rows = sweep_agents(study, task.distribution, [1])
    assert len(rows) == 25
    assert all(row["sac_gap"] >= -1e-9 and row["sdrl_gap"] >= -1e-9 for row in rows)
    (newest,) = checkpoints(study.agent_folder("sac", 1, 1e-3))
    (newest / "evaluations.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        study.completed("sac")


def test_curves_that_are_not_flat_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 1 of both agents counts as flat, and seed 2 does not."""
    monkeypatch.setattr("carbon.aolo.study.EVALUATION_STEPS", 16)
    monkeypatch.setattr("carbon.aolo.tasks._TRAINING_POOL", 100)
    settings = StudySettings(steps=32, seeds=(1, 2), learning_rate=1e-3)
    task = RequestTask()
    short = Study(tmp_path, task, settings)
    list(short.train())
    assert short.until_flat("sac") == {}
    flat_g = {short.completed(name)[1][-1].footprint_g for name in ("sac", "sdrl")}
    monkeypatch.setattr("carbon.aolo.study.is_flat", lambda run: run[-1].footprint_g in flat_g)
    study = Study(tmp_path, task, settings.model_copy(update={"max_steps": 48}))
    assert study.until_flat("sac") == {}  # the second seed has not gone on yet
    assert Study(tmp_path, task, settings.model_copy(update={"max_steps": 32})).until_flat("sac") == {}
    assert [p.name for p in study.train()] == ["requests-sac-s2-lr0.001-n48", "requests-sdrl-s2-lr0.001-n48"]
    before, after = study.completed("sac"), study.until_flat("sac")
    assert after[1] == before[1]
    assert after[2][:2] == before[2]
    assert [e.decided for e in after[2]] == [16, 32, 48]
    assert study.begun("sac") == after
    assert list(study.train()) == []
    doubled = Study(tmp_path, task, settings.model_copy(update={"max_steps": 128}))
    names = list(dict.fromkeys(p.name for p in doubled.train()))
    assert names == [f"requests-{name}-s2-lr0.001-n{steps}" for steps in (64, 128) for name in ("sac", "sdrl")]
    longest = doubled.until_flat("sac")[2]
    assert [e.decided for e in longest] == list(range(16, 129, 16))
    assert longest[:3] == after[2]
    monkeypatch.setattr("carbon.aolo.study.is_flat", lambda run: run[-1].footprint_g in flat_g or len(run) == 4)
    assert doubled.until_flat("sac")[2] == longest[:4]
    with pytest.raises(UserError, match="max_steps 16 is below steps 32; write 32 or more"):
        StudySettings.parse({"steps": 32, "max_steps": 16}, "study")


def test_results_of_another_task_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carbon.aolo.tasks._TRAINING_POOL", 100)
    settings = StudySettings(steps=16, seeds=(1,), learning_rate=1e-3)
    list(Study(tmp_path, RequestTask(), settings).train())
    other = Study(tmp_path, RequestTask(RequestDistribution(token_j=0.33)), settings)
    with pytest.raises(UserError, match="belongs to other settings: task; choose another folder, or delete this one"):
        other.completed("sac")
    with pytest.raises(UserError, match="belongs to other settings: task"):
        list(other.train())


def _evaluations(footprints: list[float]) -> list[AgentEvaluation]:
    return [AgentEvaluation(i, g - 1, g - 1, 0.0, 0.01, g, g) for i, g in enumerate(footprints)]


def test_statistics_of_a_study_by_hand() -> None:
    sac = {1: _evaluations([3, 2, 1.2, 1.2]), 2: _evaluations([3, 2, 1.1, 1.0])}
    sdrl = {1: _evaluations([3, 2, 1.2, 0.9]), 2: _evaluations([3, 2, 1.1, 0.9])}
    assert is_flat(_evaluations([3, 2, 2, 2, 1.2, 1.21, 1.2, 1.21]))
    assert not is_flat(_evaluations([3, 2, 2, 2, 1.2, 1.2, 1.1, 1.1]))
    assert not is_flat(sac[1])  # one evaluation a quarter says nothing
    paired = reduction(sac, sdrl)
    assert paired.mean == pytest.approx((0.25 + 0.1) / 2)
    # t of one degree of freedom at 97.5 % is 12.706; the standard error is 0.075
    assert (paired.low, paired.high) == pytest.approx((0.175 - 12.7062 * 0.075, 0.175 + 12.7062 * 0.075), rel=1e-4)
    assert summarise("sac", sac).flat_seeds == 0
    single = SeedMean.of([0.5])
    assert (single.mean, single.seeds) == (0.5, 1)
    assert np.isnan(single.low)


def test_a_missing_extra_names_the_installation() -> None:
    code = (
        "import sys; sys.modules['stable_baselines3'] = None\n"
        "from leanrx_core.errors import UserError\n"
        "try: import carbon.aolo.agents\n"
        "except UserError as error: print(error)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip().endswith("is not installed; run: pip install 'leanrx[carbon]'")


_TRAINING = """
import sys
from pathlib import Path
from stable_baselines3 import SAC

from carbon.aolo.actor_critic import SoftActorCritic
from carbon.aolo.agent_files import load_agent, save_agent
from carbon.aolo.agents import Agent, AgentSettings
from carbon.aolo.request_environment import RequestDistribution, RequestEnvironment

settings = AgentSettings(actor="spiking", steps=400, warmup_steps=40, hidden=(16, 16), batch=16, environments=4)
pool = RequestDistribution().draw(200, 1)
agent = Agent(settings, lambda: RequestEnvironment(pool))
load_agent(agent, Path(sys.argv[1]))
for decided in agent.train(20):
    save_agent(agent, Path(sys.argv[1]))
    print(decided, flush=True)
"""


@pytest.mark.slow
def test_kill_9_at_three_random_steps(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _TRAINING, tmp_path / "whole"], check=True)
    choose = random.Random(4)
    for kill_at in sorted(choose.sample(range(40, 380, 20), 3)):
        process = subprocess.Popen(
            [sys.executable, "-c", _TRAINING, tmp_path / "killed"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= kill_at:
                time.sleep(choose.uniform(0, 0.2))  # somewhere in the next steps
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    subprocess.run([sys.executable, "-c", _TRAINING, tmp_path / "killed"], check=True)
    (whole,), (killed,) = (checkpoints(tmp_path / name) for name in ("whole", "killed"))
    assert (whole / "weights.safetensors").read_bytes() == (killed / "weights.safetensors").read_bytes()
