"""Few-bit weights and fewer channels: what they do to a hybrid's BER, to the bytes of its C file, and to its time.

    leanrx sweep configs/family.yaml
    python scripts/reproduce/compression.py runs/family --trials
    python scripts/reproduce/compression.py runs/family
    python scripts/reproduce/compression_tables.py

Each distilled student of the family is the origin of several receivers, for each of its seeds:

* Its weights are rounded to 8 or 4 bits.
* It is trained on with weights of 4 bits.
* The larger student is pruned to the size of the smaller one, and trained on. The smaller student is trained on with
  floats for as many steps, because steps alone may help.

Trained receivers learn the soft bits of the family's teacher. All of them see the same slots.
No earlier training had them. Errors are those of the compiled C files, on the first test slots of the family without an
interferer. Each point has as many slots. Times are medians over calls that take turns, so they compare within one run.
``--trials`` compares learning rates on validation slots of the training channels, and says which weights lose most.

Trainings and counts are kept in ``runs/compression`` and resume. Numbers go to ``docs/data/compression.csv`` and
``docs/data/compression-ber.csv``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from channels import SlotStream
from distillation import Distillation, Job, StepState, Training, train
from distillation.losses import bit_loss
from energy import count
from leanrx.experiment.run import Run, load_run
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers.base import Receiver
from receivers.evaluation.comparison import mean_gap_db
from receivers.evaluation.error_counts import count_block
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.stopping import Evaluation
from receivers.export.c_export import compile_library, find_compiler
from receivers.export.c_source import BUILD_FLAGS, c_sources
from receivers.export.export_card import file_name
from receivers.export.exported_receiver import ExportedReceiver, runtime_arguments
from receivers.export.parity import compare
from receivers.neural.channel_pruning import channel_importance, prune_channels, remove_last_blocks
from receivers.neural.network import Network
from receivers.neural.registry import parse_spec
from receivers.neural.weight_quantization import fix_rounded_weights, quantize_weights
from receivers.neural.weights import NeuralReceiver, load, save
from receivers.runtime import CLibrary

ROOT = Path(__file__).parents[2]
NUMBERS = ROOT / "docs" / "data" / "compression.csv"
BERS = ROOT / "docs" / "data" / "compression-ber.csv"
SEEDS = (1, 2, 3)
SMALL, LARGE = "hybrid-w5-d5", "hybrid-w13-d8"
STEPS, FEW_BITS_STEPS = 300, {SMALL: 2000, LARGE: 800}
"""Training steps after those of the family: of floats and pruned networks, and of networks with weights of 4 bits."""

TRIAL_RATES, TRIAL_STEPS = (2e-3, 5e-3), 100
LEARNING_RATE, FLOAT_LEARNING_RATE = 5e-3, 2e-3
"""The first has the lower BER at 15 and 18 dB in the trials, for weights of 4 bits and for a pruned network."""

SLOTS_SEED = 11
"""Of the training slots. The family has the seeds 1 to 3."""

IMPORTANCE_BLOCKS, VALIDATION_SINR_DB, VALIDATION_BLOCKS = 8, (9.0, 12.0, 15.0, 18.0), 2
EVALUATION = Evaluation(
    sinr_db=(3, 9, 12, 15, 18, 21, 24), block_slots=64, min_slots=1024, max_slots=1024, target_slot_errors=None
)
TIMED_PRB, TIMED_SLOTS, TIMED_ROUNDS = 26, 20, 25
FLOAT_BYTES = 4


class Variant(NamedTuple):
    """A network in one form, for all seeds.

    Attributes:
        network: its spec.
        form: how it came about, in words.
        origin: spec of the family's student that it starts from.
        weight_bits: of a rounded weight; none for floats.
        steps: training steps after the family's.
    """

    network: str
    form: str
    origin: str
    weight_bits: int | None = None
    steps: int = 0

    def name(self, seed: int) -> str:
        """Name of its receiver for a seed."""
        return f"{self.network}-{self.form.replace(', ', '-').replace(' ', '-')}-s{seed}"

    @property
    def is_pruned(self) -> bool:
        """Whether its network is not its origin's."""
        return self.network != self.origin


def _variants() -> Iterator[Variant]:
    for network in (SMALL, LARGE):
        yield Variant(network, "float", network)
        for bits in (8, 4):
            yield Variant(network, f"int{bits}, rounded", network, bits)
        yield Variant(network, "int4, trained", network, 4, FEW_BITS_STEPS[network])
        if network == SMALL:
            yield Variant(network, "float, more steps", network, steps=STEPS)
    yield Variant(SMALL, "pruned", LARGE)
    yield Variant(SMALL, "pruned, trained", LARGE, steps=STEPS)


VARIANTS = tuple(_variants())


@dataclass(frozen=True)
class Study:
    """The receivers of the study.

    Attributes:
        family: run of the family, trained.
        folder: of the study's own receivers, counts and C files.
    """

    family: Run
    folder: Path

    @cached_property
    def teacher(self) -> NeuralReceiver:
        """The family's teacher."""
        return self.family.receiver("teacher")

    def origin(self, variant: Variant, seed: int) -> NeuralReceiver:
        """The family's student that a variant starts from."""
        return self.family.receiver(f"{variant.origin}-kd-s{seed}")

    def receiver(self, variant: Variant, seed: int) -> NeuralReceiver:
        """The receiver of a variant, which was trained before if it needs to be."""
        folder = self.folder / "receivers" / variant.name(seed)
        if variant.steps:
            return load(folder)
        origin = self.origin(variant, seed)
        if (folder / "card.json").is_file() and load(folder).card.training["initial_sha256"] == origin.digest:
            return load(folder)
        net = self._pruned_net(origin, variant, seed) if variant.is_pruned else origin.net
        if variant.weight_bits is not None:
            quantize_weights(net, variant.weight_bits)
            fix_rounded_weights(net)
        changes = {
            "name": variant.name(seed),
            "receiver": variant.network,
            "parameters": sum(p.numel() for p in net.parameters()),
            "training": origin.card.training | {"weight_bits": variant.weight_bits, "initial_sha256": origin.digest},
        }
        return save(folder, net, origin.card.model_copy(update=changes))

    def _pruned_net(self, origin: NeuralReceiver, variant: Variant, seed: int) -> Network:
        """The origin's network without its last blocks and its least important channels."""
        spec, net = parse_spec(variant.network), origin.net
        if parse_spec(variant.origin).depth > spec.depth:
            net = remove_last_blocks(net, spec.depth)
        stream = SlotStream(self.family.config.scenario, seed, 16, "train", purpose="importance")
        blocks = (stream.block(number) for number in range(IMPORTANCE_BLOCKS))
        losses = (bit_loss(net(net.features(slots)), slots) for slots in blocks)
        return prune_channels(net, channel_importance(net, losses), int(spec.width))

    def job(self, variant: Variant, seed: int, learning_rate: float | None = None, steps: int = 0) -> Job:
        """The training of a variant; the last two replace its own settings."""
        is_float = variant.weight_bits is None and not variant.is_pruned
        own_learning_rate = FLOAT_LEARNING_RATE if is_float else LEARNING_RATE
        students = self.family.config.students
        training = Training(
            steps=steps or variant.steps,
            batch_slots=16,
            optimizer="adamw",
            learning_rate=learning_rate or own_learning_rate,
            warmup_steps=20,
            decay_start=0.0,
            max_gradient_norm=1.0,
            deep_supervision_weight=students.training.deep_supervision_weight,
            weight_bits=variant.weight_bits,
            checkpoint_steps=10,
        )
        start = variant._replace(steps=0, weight_bits=None, form="pruned" if variant.is_pruned else "float")
        settings = Distillation(temperature=2.0, alpha=0.5)
        return Job(
            name=variant.name(seed),
            role="student",
            receiver=variant.network,
            scenario=self.family.config.scenario,
            training=training,
            seed=SLOTS_SEED,
            distillation=settings,
            teachers=(self.teacher,),
            initial=self.receiver(start, seed),
        )

    def train(self) -> None:
        """Train all variants that have steps, which are not trained yet; those with equal steps train together."""
        jobs = [self.job(variant, seed) for variant in VARIANTS if variant.steps for seed in SEEDS]
        for steps in dict.fromkeys(job.training.steps for job in jobs):
            train_missing([job for job in jobs if job.training.steps == steps], self.folder)


def train_missing(jobs: Sequence[Job], folder: Path) -> None:
    """Train the jobs that have no receiver yet.

    Raises:
        UserError: if a receiver there is of another training.
    """
    missing = []
    for job in jobs:
        path = folder / "receivers" / job.name
        if not (path / "card.json").is_file():
            missing.append(job)
            continue
        training = load(path).card.training
        expected = {**job.training.model_dump(mode="json"), "teachers": {t.name: t.digest for t in job.teachers}}
        expected["initial_sha256"] = job.initial.digest if job.initial else None
        if any(training.get(name) != value for name, value in expected.items() if name != "checkpoint_steps"):
            raise UserError(f"{path}: of another training; delete it and run again")
    if missing:
        train(missing, folder, on_step=_print_step)


def _print_step(job: Job, state: StepState) -> None:
    if state.step % 50 == 0:
        print(f"{time.strftime('%H:%M:%S')} {job.name}: step {state.step}, loss {state.loss:.4f}", flush=True)


def trials(study: Study) -> pd.DataFrame:
    """BER on validation slots of one seed: by learning rate after short trainings, and by what is rounded."""
    folder, seed = study.folder / "trials", SEEDS[0]
    chosen = [v for v in VARIANTS if v.network == SMALL and v.form in ("int4, trained", "pruned, trained")]
    jobs = []
    for variant in chosen:
        for rate in TRIAL_RATES:
            job = study.job(variant, seed, rate, TRIAL_STEPS)
            jobs.append(Job(**{**vars(job), "name": f"{job.name}-{rate:g}"}))
    train_missing(jobs, folder)
    receivers = [study.receiver(v, seed) for v in VARIANTS if v.network == SMALL and not v.steps]
    receivers += [load(folder / "receivers" / job.name) for job in jobs]
    receivers += [_rounded(study, bits) for bits in (6, 5)]
    receivers += [_rounded(study, 4, layer) for layer in ("expand", "depthwise", "project", "conv_out")]
    rows = {r.name: [_validation_ber(r, study, sinr_db) for sinr_db in VALIDATION_SINR_DB] for r in receivers}
    return pd.DataFrame.from_dict(rows, orient="index", columns=[f"{s:g} dB" for s in VALIDATION_SINR_DB])


def _rounded(study: Study, weight_bits: int, layer: str = "") -> NeuralReceiver:
    """The smaller student with rounded weights: of all convolutions, or of those of one name."""
    origin = study.family.receiver(f"{SMALL}-kd-s{SEEDS[0]}")
    for name, module in origin.net.named_modules():
        if isinstance(module, nn.Conv2d) and layer in name:
            quantize_weights(module, weight_bits)
    fix_rounded_weights(origin.net)
    name = f"int{weight_bits} {layer or 'all'}"
    return NeuralReceiver(origin.net, origin.card.model_copy(update={"name": name}))


def _validation_ber(receiver: Receiver, study: Study, sinr_db: float) -> float:
    stream = SlotStream(study.family.config.scenario, SLOTS_SEED, 64, "train", purpose="validation").at_sinr(sinr_db)
    counts = [count_block(receiver, stream.block(number)) for number in range(VALIDATION_BLOCKS)]
    return sum(c["bit_errors"] for c in counts) / sum(c["bits"] for c in counts)


def compiled(receiver: NeuralReceiver, study: Study) -> ExportedReceiver:
    """The C file of a receiver, compiled, with LLRs that agree with the receiver's.

    Raises:
        UserError: if they do not.
    """
    folder, scenario = study.folder / "c", study.family.config.scenario
    folder.mkdir(parents=True, exist_ok=True)
    source, name = folder / f"{receiver.name}.c", file_name(receiver)
    texts = c_sources(receiver, scenario.grid)
    is_current = source.is_file() and source.read_text() == texts[f"{name}.c"]
    if not (is_current and source.with_suffix(".so").is_file()):
        for file, text in texts.items():
            write_atomic(folder / file, text)
        compile_library(source, source.with_suffix(".so"))
    if receiver.card.training["weight_bits"] is not None and "const PackedBlock BLOCKS" not in source.read_text():
        raise UserError(f"{source}: its weights are floats, and should have few bits")
    library = ExportedReceiver(source.with_suffix(".so"), receiver.name)
    slots = SlotStream(scenario, 1, 16, "test", purpose="export").at_sinr(12.0).block(0)
    if not compare(receiver, library, slots).equal:
        raise UserError(f"{source}: its LLRs differ from those of the receiver")
    return library


def file_bytes(source: Path) -> int:
    """Code and constants of a C file, by the build line."""
    target = source.with_suffix(".o")
    subprocess.run([find_compiler(), *BUILD_FLAGS, "-march=native", "-c", str(source), "-o", str(target)], check=True)
    lines = subprocess.run(["size", str(target)], check=True, capture_output=True, text=True).stdout.splitlines()
    return sum(map(int, lines[1].split()[:2]))


def weight_bytes(net: nn.Module, weight_bits: int | None) -> int:
    """Bytes of the weights in a C file: blocks have integers with a scale for each output channel, or floats.

    Biases and the last layer are floats.
    """
    total = FLOAT_BYTES * sum(p.numel() for p in net.parameters())
    if weight_bits is None:
        return total
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and name.startswith("blocks."):
            total -= FLOAT_BYTES * (module.weight.numel() - module.out_channels)
            total += -(-module.weight.numel() * weight_bits // 8)
    return total


def times(libraries: dict[str, Path], study: Study) -> dict[str, dict[str, float]]:
    """Median wall clock and CPU time of a call with one slot, in seconds; the C files take turns."""
    scenario = study.family.config.scenario.on_grid(TIMED_PRB)
    stream = SlotStream(scenario, 1, 1, "test", purpose="latency").at_sinr(12.0)
    arrays = [runtime_arguments(stream.block(number)) for number in range(TIMED_SLOTS)]
    calls = {name: CLibrary(path) for name, path in libraries.items()}
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for round_number in range(1 + TIMED_ROUNDS):  # the first round is a warm-up
        for name, call in calls.items():
            for slot in arrays:
                begin, begin_cpu = time.perf_counter(), time.process_time()
                call(*slot)
                if round_number:
                    values[name].append((time.perf_counter() - begin, time.process_time() - begin_cpu))
    medians = {name: np.median(np.array(pairs), 0) for name, pairs in values.items()}
    return {name: {"wall_s": float(m[0]), "cpu_s": float(m[1])} for name, m in medians.items()}


def counts(study: Study) -> pd.DataFrame:
    """Error counts of all C files on the family's test slots."""
    config, path = study.family.config, study.folder / "ber.parquet"
    receivers = [compiled(study.receiver(variant, seed), study) for variant in VARIANTS for seed in SEEDS]
    stream = SlotStream(config.scenario, config.seed, EVALUATION.block_slots, "test")
    for state in count_errors(receivers, stream, EVALUATION, path):
        if state.stopped:
            print(f"{time.strftime('%H:%M:%S')} {state.sinr_db:g} dB: {state.slots} slots", flush=True)
    return pd.read_parquet(path)


def bers(table: pd.DataFrame) -> pd.DataFrame:
    """BER of each variant over SINR, over all seeds."""
    rows = []
    for variant in VARIANTS:
        chosen = table[table["receiver"].isin([variant.name(seed) for seed in SEEDS])]
        sums = chosen.groupby("sinr_db")[["bit_errors", "bits"]].sum()
        for sinr_db, ber in (sums["bit_errors"] / sums["bits"]).items():
            rows.append((variant.network, variant.form, sinr_db, ber))
    return pd.DataFrame(rows, columns=["network", "form", "sinr_db", "ber"])


def numbers(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """One row per variant and reference: losses with intervals, bytes, MACs and time."""
    target = study.family.config.report.target_ber
    first = {variant: study.receiver(variant, SEEDS[0]) for variant in VARIANTS}
    sources = {variant: study.folder / "c" / f"{receiver.name}.c" for variant, receiver in first.items()}
    libraries = {variant.name(SEEDS[0]): source.with_suffix(".so") for variant, source in sources.items()}
    seconds = times(libraries, study)
    rows = []
    for variant, receiver in first.items():
        row = {
            **variant._asdict(),
            "seeds": len(SEEDS),
            "target_ber": target,
            "macs_per_slot": count(receiver, study.family.config.scenario.grid).macs,
            "weight_bytes": weight_bytes(receiver.net, variant.weight_bits),
            "file_bytes": file_bytes(sources[variant]),
            **seconds[receiver.name],
        }
        for kind, reference in references(variant).items():
            pairs = [(variant.name(seed), reference.name(seed)) for seed in SEEDS]
            gap = mean_gap_db(table, pairs, target)
            row |= {f"{kind}_db": gap.value, f"{kind}_db_low": gap.low, f"{kind}_db_high": gap.high}
            row[f"{kind}_db_bound"] = gap.lower_bound
        rows.append(row)
    return pd.DataFrame(rows)


def references(variant: Variant) -> dict[str, Variant]:
    """What a variant is compared with, in floats.

    ``loss`` is to the same network of the family, ``large`` to the larger one, and ``equal_steps`` to the same network
    of the family after as many steps, if it was trained so.
    """

    def variant_of(network: str, form: str) -> list[Variant]:
        return [v for v in VARIANTS if (v.network, v.form) == (network, form) and v != variant]

    result = {"large": variant_of(LARGE, "float")}
    if not variant.is_pruned:
        result["loss"] = variant_of(variant.network, "float")
    if variant.steps:
        longer = variant_of(variant.network, "float, more steps")
        result["equal_steps"] = [v for v in longer if v.steps == variant.steps]
    return {kind: variants[0] for kind, variants in result.items() if variants}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run of configs/family.yaml, trained")
    parser.add_argument("--folder", type=Path, default=Path("runs/compression"), help="of the study")
    parser.add_argument("--trials", action="store_true", help="compare learning rates on validation slots, and stop")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        study = Study(load_run(arguments.run), arguments.folder)
        if arguments.trials:
            print(trials(study).to_string(float_format="%.5f"))
            return
        study.train()
        table = counts(study)
        write_atomic(BERS, bers(table).to_csv(index=False, float_format="%.6g"))
        write_atomic(NUMBERS, numbers(study, table).to_csv(index=False, float_format="%.6g"))
    except UserError as error:
        sys.exit(f"compression: {error}")


if __name__ == "__main__":
    main()
