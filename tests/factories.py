"""Small jobs, cards and receivers that several tests build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from channels import Scenario
from distillation import Job, StepState, Training, train
from receivers import Card, NeuralReceiver, build

SHORT_TRAINING = Training(
    steps=8, batch_slots=4, optimizer="adamw", learning_rate=1e-2, warmup_steps=2, checkpoint_steps=3
)


class Interruption(BaseException):
    """Ends a training as a kill does: nothing catches it."""


def job(scenario: Scenario, **changes: Any) -> Job:
    """A job that takes a second, with some fields replaced."""
    return replace(Job("x", "scratch", "deeprx-w0.03125-d3", scenario, SHORT_TRAINING, seed=1), **changes)


def train_job(job: Job, folder: Path, stop_at: int | None = None) -> NeuralReceiver:
    """Train one receiver; with ``stop_at``, interrupt it after that step and resume."""

    def interrupt(job: Job, state: StepState) -> None:
        if state.step == stop_at:
            raise Interruption

    if stop_at is not None:
        with pytest.raises(Interruption):
            train([job], folder, on_step=interrupt)
        assert not (folder / "receivers").exists()
    return train([job], folder)[0]


def card(receiver: str, **changes: Any) -> Card:
    """Card of a teacher for the scenario ``small``, with some fields replaced."""
    fields: dict[str, Any] = {
        "name": "teacher",
        "role": "teacher",
        "num_rx": 2,
        "num_bits": 4,
        "parameters": 1,
        "scenario": "small",
        "channels": ("TDL-B",),
        "trained_sinr_db": (0, 20),
        "seed": 1,
        "training": {},
    }
    return Card(receiver=receiver, **fields | changes)


def untrained_receiver(spec: str, seed: int, **changes: Any) -> NeuralReceiver:
    """A receiver with initial weights, and a card with some fields replaced."""
    return NeuralReceiver(build(spec, seed=seed), card(spec, seed=seed, **changes))


def perturbed_receiver(spec: str, num_rx: int = 2, num_bits: int = 4) -> NeuralReceiver:
    """A receiver whose layers are all different from 0, and from their initial statistics, as after training."""
    net, generator = build(spec, num_rx, num_bits, seed=3), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.3, generator=generator)
                module.running_var.log_normal_(0.0, 0.5, generator=generator)
    return NeuralReceiver(net, card(spec, name="net", num_rx=num_rx, num_bits=num_bits))
