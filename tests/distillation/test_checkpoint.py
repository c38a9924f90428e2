"""A training that is interrupted and resumed ends with the same weights; foreign checkpoints are refused."""

import json

import pytest
import safetensors.torch
import torch
from factories import SHORT_TRAINING, job, train_job

from channels import Scenario
from distillation.objective import Distillation
from distillation.trainer import train
from leanrx_core.errors import UserError
from receivers.neural.weights import NeuralReceiver


@pytest.fixture(scope="module")
def teacher(small: Scenario, tmp_path_factory) -> NeuralReceiver:
    return train_job(job(small, name="teacher", role="teacher", seed=5), tmp_path_factory.mktemp("teacher"))


@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])
@pytest.mark.parametrize("stop_at", [2, 5, 7])
def test_resuming_gives_the_same_weights(tmp_path, small: Scenario, stop_at: int, optimizer: str) -> None:
    short_job = job(small, training=SHORT_TRAINING.model_copy(update={"optimizer": optimizer}))
    whole = train_job(short_job, tmp_path / "whole")
    resumed = train_job(short_job, tmp_path / "resumed", stop_at)
    assert resumed.digest == whole.digest
    logs = [(tmp_path / d / "training" / "x.jsonl").read_text() for d in ("whole", "resumed")]
    assert logs[0] == logs[1]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == list(range(1, 9))


def test_a_student_resumes_too(tmp_path, small: Scenario, teacher: NeuralReceiver) -> None:
    short_job = job(small, role="student", teachers=(teacher,), distillation=Distillation())
    assert train_job(short_job, tmp_path / "a").digest == train_job(short_job, tmp_path / "b", 4).digest


def test_a_checkpoint_of_another_job_is_refused(tmp_path, small: Scenario) -> None:
    with pytest.raises(ZeroDivisionError):
        train([job(small)], tmp_path, on_step=lambda job, state: 1 / (5 - state.step))  # type: ignore[arg-type,return-value]
    with pytest.raises(UserError, match="another configuration"):
        train([job(small, seed=2)], tmp_path)
    (tmp_path / "checkpoints" / "x.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="damaged checkpoint"):
        train([job(small)], tmp_path)


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path, small: Scenario) -> None:
    path = tmp_path / "checkpoints" / "x.safetensors"
    path.parent.mkdir()
    metadata = {"job": "{}", "step": "3", "bill": "{}"}  # the cost was called bill before
    safetensors.torch.save_file({"net.w": torch.zeros(1)}, path, metadata)
    with pytest.raises(UserError, match=r"x\.safetensors: .* an earlier version .* delete it to train x from"):
        train([job(small)], tmp_path)


def test_a_hybrid_resumes_too(tmp_path, small: Scenario) -> None:
    short_job = job(
        small, receiver="hybrid-w4-d2", training=SHORT_TRAINING.model_copy(update={"deep_supervision_weight": 0.5})
    )
    assert train_job(short_job, tmp_path / "a").digest == train_job(short_job, tmp_path / "b", 4).digest
