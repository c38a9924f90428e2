"""Distil a receiver in Python: generate slots, train, count bit errors, and measure energy.

    python scripts/quickstart.py [--steps 300]

It takes a few minutes. With few steps, the receivers are poor.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd

from channels import Scenario, SlotStream, scenario
from distillation import Distillation, Job, Training, train
from energy import count, measure
from energy.estimation.estimators import FLOP_ESTIMATORS
from energy.hardware.detect import host
from receivers import Evaluation, NeuralReceiver, classical_receivers, count_errors, rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="training steps of teacher and student")
    steps = parser.parse_args().steps

    radio = scenario("tdl-6prb")
    folder = Path(tempfile.mkdtemp(prefix="leanrx-"))
    teacher, student = distil(radio, steps, folder)
    evaluate(radio, [teacher, student], folder)
    print_energy(radio, student)
    print(f"files: {folder}")


def distil(radio: Scenario, steps: int, folder: Path) -> tuple[NeuralReceiver, NeuralReceiver]:
    """Train a hybrid teacher, and a student of a fifth of its size with the teacher's soft bits."""
    training = Training(
        steps=steps,
        batch_slots=16,
        optimizer="adamw",
        learning_rate=5e-3,
        warmup_steps=20,
        max_gradient_norm=1.0,
        deep_supervision_weight=0.5,
    )
    (teacher,) = train([Job("teacher", "teacher", "hybrid-w16-d6", radio, training, seed=1)], folder)
    settings = Distillation(temperature=2.0, alpha=0.5)
    job = Job("student", "student", "hybrid-w5-d5", radio, training, 1, settings, (teacher,))
    (student,) = train([job], folder)
    return teacher, student


def evaluate(radio: Scenario, receivers: list[NeuralReceiver], folder: Path) -> None:
    """Count the bit errors of classical and neural receivers on the same test slots."""
    stream = SlotStream(radio, seed=1, block_slots=64, split="test")
    evaluation = Evaluation(sinr_db=(0, 10, 20), min_slots=128, max_slots=128, block_slots=64)
    path = folder / "ber.parquet"
    for point in count_errors([*classical_receivers(radio), *receivers], stream, evaluation, path):
        if point.stopped:
            errors = ", ".join(f"{name} {counts.bit_errors}" for name, counts in point.counts.items())
            print(f"{point.sinr_db:g} dB: {point.slots} slots, bit errors: {errors}")
    print(rates(pd.read_parquet(path))[["receiver", "sinr_db", "ber", "ber_low", "ber_high"]])


def print_energy(radio: Scenario, receiver: NeuralReceiver) -> None:
    """Print operations, metered energy and estimated energy of a slot."""
    profile = count(receiver, radio.grid)
    slots = SlotStream(radio, seed=1, block_slots=64, split="test").block(0)
    print(f"{receiver.name}: {profile.macs:,} MACs per slot")
    for m in measure(lambda: receiver(slots)):
        energy_mj = 1e3 * m.energy_per_repeat_j / len(slots)
        print(f"{m.instrument}, {m.component}: {energy_mj:.3g} mJ per slot ({m.provenance})")
    for estimator in FLOP_ESTIMATORS:
        estimate = estimator.estimate(profile, host())
        print(f"{estimate.method}: {1e3 * estimate.energy_j:.3g} mJ per slot (modelled), {estimate.assumption}")


if __name__ == "__main__":
    main()
