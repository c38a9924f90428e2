"""Few-bit weights and fewer channels: what they do to a hybrid's BER, to the bytes of its C file, and to its time.

    leanrx sweep configs/family.yaml
    python scripts/reproduce/few_bits.py runs/family --trials
    python scripts/reproduce/few_bits.py runs/family
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
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from compression_study import (
    SEEDS,
    SLOTS_SEED,
    SMALL,
    VARIANTS,
    Study,
    references,
    train_missing,
    weight_bytes,
)
from torch import nn

from channels import SlotStream
from distillation import Job
from energy import count
from leanrx.experiment.run import load_run
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
from receivers.neural.weight_quantization import fix_rounded_weights, quantize_weights
from receivers.neural.weights import NeuralReceiver, load
from receivers.runtime import CLibrary

ROOT = Path(__file__).parents[2]
NUMBERS = ROOT / "docs" / "data" / "compression.csv"
BERS = ROOT / "docs" / "data" / "compression-ber.csv"
TRIAL_RATES, TRIAL_STEPS = (2e-3, 5e-3), 100
VALIDATION_SINR_DB, VALIDATION_BLOCKS = (9.0, 12.0, 15.0, 18.0), 2
EVALUATION = Evaluation(
    sinr_db=(3, 9, 12, 15, 18, 21, 24), block_slots=64, min_slots=1024, max_slots=1024, target_slot_errors=None
)
TIMED_PRB, TIMED_SLOTS, TIMED_ROUNDS = 26, 20, 25


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
        sys.exit(f"few_bits: {error}")


if __name__ == "__main__":
    main()
