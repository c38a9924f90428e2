"""Checkpoints of agents: weights in safetensors, everything else in NPZ. No pickle is written or read.

A checkpoint is a folder named by its decisions. It is written under a temporary name and renamed when it is complete,
so a killed process leaves the last complete one. A resumed training gives the weights of an uninterrupted one, bit for
bit on a CPU: the replay, the optimisers, the multipliers, the environment and all generators are part of it.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import zipfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from carbon.aolo.agents import Agent, AgentSettings
from leanrx_core.errors import UserError
from leanrx_core.files import TEMPORARY

_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts", "shortfalls")
_PREFIX = "decisions-"


def save_agent(agent: Agent, folder: Path, texts: Mapping[str, str] | None = None) -> Path:
    """Write a checkpoint of an agent, and remove earlier ones.

    Args:
        agent: between two chunks of its training.
        folder: of this agent alone.
        texts: more files of the checkpoint, by name.

    Returns:
        the folder of the checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{_PREFIX}{agent.decided:09d}"
    with tempfile.TemporaryDirectory(dir=folder, prefix=TEMPORARY) as work:
        complete = Path(work) / "complete"
        complete.mkdir()
        save_file({k: v.contiguous() for k, v in agent.model.policy.state_dict().items()}, complete / _WEIGHTS)
        np.savez(complete / _STATE, allow_pickle=False, **_state(agent))
        (complete / _SETTINGS).write_text(agent.settings.model_dump_json(indent=1) + "\n")
        for name, text in (texts or {}).items():
            (complete / name).write_text(text)
        if final.exists():
            final.rename(Path(work) / "old")
        complete.rename(final)
    for earlier in checkpoints(folder)[:-1]:
        shutil.rmtree(earlier)
    return final


_WEIGHTS, _STATE, _SETTINGS = "weights.safetensors", "state.npz", "settings.json"


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of an agent, the newest last."""
    return sorted(folder.glob(f"{_PREFIX}*"))


def _check_settings(checkpoint: Path, settings: AgentSettings, shorter: bool = False) -> None:
    """Refuse a checkpoint of other settings.

    Args:
        checkpoint: its folder.
        settings: that it must have.
        shorter: whether it may be of fewer decisions.

    Raises:
        UserError: if it has others; it names them.
        OSError, ValueError: if its settings cannot be read.
    """
    path = checkpoint / _SETTINGS
    own, stored = json.loads(settings.model_dump_json()), json.loads(path.read_text())
    changed = {name for name in {*own, *stored} if own.get(name) != stored.get(name)}
    if shorter and stored.get("steps", math.inf) <= own["steps"]:
        changed.discard("steps")
    if changed:
        names = ", ".join(sorted(changed))
        raise UserError(f"{path}: belongs to other settings: {names}; choose another folder, or delete this one")


def read_text(folder: Path, name: str, settings: AgentSettings) -> str | None:
    """A further file of an agent's newest checkpoint; none without a checkpoint.

    Args:
        folder: of this agent.
        name: of the file.
        settings: of the agent.

    Raises:
        UserError: if the checkpoint is damaged, or belongs to other settings.
    """
    complete = checkpoints(folder)
    if not complete:
        return None
    try:
        _check_settings(complete[-1], settings)
        return (complete[-1] / name).read_text()
    except (OSError, ValueError):
        raise UserError(f"{complete[-1] / name}: damaged; delete its folder, and train again") from None


def load_agent(agent: Agent, folder: Path, shorter: bool = False) -> bool:
    """Continue an agent from its newest checkpoint.

    Args:
        agent: with the same settings, at its beginning.
        folder: of this agent.
        shorter: whether the checkpoint may be of a training with fewer decisions, which then goes on.

    Returns:
        whether there was one.

    Raises:
        UserError: if the checkpoint is damaged, or belongs to other settings.
    """
    complete = checkpoints(folder)
    if not complete:
        return False
    path = complete[-1]
    try:
        _check_settings(path, agent.settings, shorter)
        agent.model.policy.load_state_dict(load_file(path / _WEIGHTS))
        with np.load(path / _STATE, allow_pickle=False) as state:
            _restore(agent, {name: state[name] for name in state.files})
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, zipfile.BadZipFile):
        raise UserError(f"{path}: damaged; delete this folder, and train again") from None
    return True


def _optimizers(agent: Agent) -> dict[str, torch.optim.Optimizer]:
    model = agent.model
    assert model.ent_coef_optimizer is not None
    return {"actor": model.actor.optimizer, "critic": model.critic.optimizer, "entropy": model.ent_coef_optimizer}


def _state(agent: Agent) -> dict[str, Any]:
    model, replay = agent.model, agent.replay
    count = replay.buffer_size if replay.full else replay.pos
    arrays: dict[str, Any] = {f"replay.{name}": getattr(replay, name)[:count] for name in _REPLAY}
    for name, optimizer in _optimizers(agent).items():
        for index, moments in optimizer.state_dict()["state"].items():
            arrays |= {f"optimizer.{name}.{index}.{key}": value.numpy() for key, value in moments.items()}
    assert model.log_ent_coef is not None
    assert model._last_obs is not None
    counters = {
        "decided": model.num_timesteps,
        "updates": model._n_updates,
        "episodes": model._episode_num,
        "environments": [e.unwrapped.state() for e in agent.environments],  # type: ignore[attr-defined]
        "environment_generators": [_generator_state(e.unwrapped.np_random) for e in agent.environments],
        "action_generator": _generator_state(model.action_space.np_random),
    }
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - the replay draws from it
    arrays |= {
        "log_entropy": model.log_ent_coef.detach().numpy(),
        "multipliers": agent.multipliers,
        "violations": np.array(agent.violations).reshape(len(agent.violations), -1),
        "last_observation": model._last_obs,
        "torch_generator": torch.get_rng_state().numpy(),
        "numpy_keys": keys,
        "counters": np.array(json.dumps({**counters, "numpy_kind": kind, "numpy_rest": rest})),
    }
    return arrays


def _generator_state(generator: np.random.Generator) -> dict[str, Any]:
    return dict(generator.bit_generator.state)


def _restore(agent: Agent, arrays: dict[str, NDArray[Any]]) -> None:
    model, replay = agent.model, agent.replay
    counters = json.loads(str(arrays["counters"]))
    for name in _REPLAY:
        values = arrays[f"replay.{name}"]
        getattr(replay, name)[: len(values)] = values
    # All decisions fit into the replay, which is full at the end of a training alone.
    count = len(arrays["replay.observations"])
    replay.pos, replay.full = count % replay.buffer_size, count == replay.buffer_size
    replay.multipliers = arrays["multipliers"]
    agent.violations = deque(arrays["violations"], maxlen=agent.settings.multiplier_window)
    for name, optimizer in _optimizers(agent).items():
        _restore_optimizer(optimizer, f"optimizer.{name}.", arrays)
    assert model.log_ent_coef is not None
    with torch.no_grad():
        model.log_ent_coef.copy_(torch.from_numpy(arrays["log_entropy"]))
    model.num_timesteps, model._n_updates = counters["decided"], counters["updates"]
    model._episode_num = counters["episodes"]
    model._last_obs = arrays["last_observation"]
    model._last_episode_starts = np.zeros(len(agent.environments), dtype=bool)
    states = zip(agent.environments, counters["environments"], counters["environment_generators"], strict=True)
    for environment, state, generator in states:
        own: Any = environment.unwrapped
        own.restore(state)
        own.np_random.bit_generator.state = generator
    model.action_space.np_random.bit_generator.state = counters["action_generator"]
    np.random.set_state((counters["numpy_kind"], arrays["numpy_keys"], *counters["numpy_rest"]))  # noqa: NPY002
    torch.set_rng_state(torch.from_numpy(arrays["torch_generator"]))


def _restore_optimizer(optimizer: torch.optim.Optimizer, prefix: str, arrays: dict[str, NDArray[Any]]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in arrays.items():
        if name.startswith(prefix):
            index, key = name.removeprefix(prefix).split(".")
            state.setdefault(int(index), {})[key] = torch.from_numpy(value.copy())
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
