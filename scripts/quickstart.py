"""What the command line does, in a few lines of Python: slots, receivers, counts, energy. Takes a few minutes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from channels import SlotStream, scenario
from distillation.job import Job, Training
from distillation.objective import Distillation
from distillation.trainer import train
from energy.counting.counter import count
from energy.estimation.estimators import FLOP_ESTIMATORS
from energy.hardware.detect import host
from energy.metering.meter import Meter, meter_repeats
from receivers.classical import classical_receivers
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.rates import rates
from receivers.evaluation.stopping import Evaluation


def main() -> None:
    tdl_6prb = scenario("tdl-6prb")
    folder = Path(tempfile.mkdtemp(prefix="leanrx-"))
    training = Training(steps=300, batch_slots=16, optimizer="adamw", learning_rate=1e-2, warmup_steps=20)

    (teacher,) = train([Job("teacher", "teacher", "deeprx-w0.125-d5", tdl_6prb, training, seed=1)], folder)
    told = Distillation(temperature=2.0, alpha=0.5)
    (student,) = train(
        [Job("student", "student", "deeprx-w0.0625-d5", tdl_6prb, training, 1, told, (teacher,))], folder
    )

    stream = SlotStream(tdl_6prb, seed=1, block_slots=64, split="test")
    evaluation = Evaluation(sinr_db=(0, 10, 20), min_slots=128, max_slots=128, block_slots=64)
    for state in count_errors(
        [*classical_receivers(tdl_6prb), teacher, student], stream, evaluation, folder / "ber.parquet"
    ):
        if state.stopped:
            errors = ", ".join(f"{name} {c.bit_errors}" for name, c in state.counts.items())
            print(f"{state.sinr_db:g} dB: {state.slots} slots, bit errors: {errors}")
    print(rates(pd.read_parquet(folder / "ber.parquet"))[["receiver", "sinr_db", "ber", "ber_low", "ber_high"]])

    operations = count(student, tdl_6prb.grid)
    slots = stream.block(0)
    window = meter_repeats(Meter(), lambda: student(slots))
    per_slot = window.reading.energy_j / (window.repeats * len(slots))
    print(f"student: {operations.macs:,} MACs, {1e3 * per_slot:.3g} mJ per slot ({window.reading.kind})")
    machine = host()
    for estimator in FLOP_ESTIMATORS:
        estimate = estimator.estimate(operations, machine)
        print(f"{estimate.method}: {1e3 * estimate.energy_j:.3g} mJ per slot (modelled), {estimate.assumption}")
    print(f"files: {folder}")


if __name__ == "__main__":
    main()
