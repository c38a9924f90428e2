"""A complete run folder, made without training, and a configuration with every section."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from energy_factories import energy_row
from run_factories import DATA_BITS, block_count_row, save_receivers

from channels import SlotStream
from energy.metering.measurement import Measurement
from energy.metering.session import IDLE, Window
from energy.metering.table import ENERGY
from energy.metering.workloads import write_windows
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import SweepConfig
from leanrx_core.files import write_atomic
from leanrx_core.tables import write_table
from receivers.classical import GENIE_AIDED, classical_receivers
from receivers.evaluation.block_counter import stream_digest
from receivers.evaluation.store import COUNTS

CONFIG: dict[str, Any] = {
    "label": "complete",
    "scenario": {
        "name": "tiny",
        "grid": {"num_prb": 1, "num_rx": 2, "subcarrier_spacing_hz": 30000, "pilot_patterns": [[2]]},
        "modulations": ["16-QAM"],
        "channels": {"train": {"TDL-B": 1.0}, "test": {"TDL-A": 1.0}},
        "delay_spread_s": [1e-8, 1e-7],
        "max_doppler_hz": [0, 100],
        "snr_db": [0, 20],
        "interferers": [{"probability": 0.5, "sir_db": [0, 20], "timing_offset_symbols": [0, 1]}],
    },
    "seed": 1,
    "device": "cpu",
    "teacher": {
        "receiver": ["deeprx-w0.0625-d3"],
        "seeds": [1],
        "training": {"steps": 8, "batch_slots": 4, "learning_rate": 0.01, "warmup_steps": 2, "compiled": False},
    },
    "students": {
        "receivers": ["deeprx-w0.03125-d3"],
        "seeds": [1],
        "training": {"steps": 8, "batch_slots": 4, "weight_decay": 0.0, "decay_start": 0.5, "checkpoint_steps": 3},
        "distillation": {"temperature": 2.0, "alpha": 0.5, "generations": 1},
    },
    "evaluation": {
        "sinr_db": [0, 10],
        "interference_fractions": [0],
        "block_slots": 8,
        "min_slots": 16,
        "max_slots": 64,
        "target_slot_errors": 16,
    },
    "metering": {"batch_slots": 4, "min_duration_s": 1, "rounds": 1, "cpu_power_w": 10.0, "c_files": False},
    "ecal": {"inferences": 1000, "hops": 0, "bits_per_value": 32, "virtualisation": 0.0},
    "report": {"sinr_db": 10, "target_ber": 0.1},
}


def complete_run(folder: Path) -> Run:
    """A run with receivers of initial weights, counts, energy, windows and scores; its values are made up."""
    config = SweepConfig.parse(CONFIG, "config")
    run = Run(folder, config)
    write_atomic(folder / "config.yaml", config.to_yaml())
    instrument = {"name": "RAPL", "usable": False, "detail": "none", "remedy": ""}
    environment = {"platform": "a computer", "packages": {"torch": "1"}, "instruments": [instrument]}
    write_atomic(folder / "environment.json", json.dumps(environment))
    digests = {r.name: r.digest for r in classical_receivers(config.scenario)}
    digests |= {name: card.weights_sha256 for name, card in save_receivers(run, training_slots=8000).items()}
    stream = stream_digest(SlotStream(config.scenario, config.seed, config.evaluation.block_slots, "test"))
    counts = [
        block_count_row(name, digest, float(sinr_db), 64, round(DATA_BITS * 64 * ber), 64, block) | {"stream": stream}
        for name, digest in digests.items()
        for sinr_db, ber in ((0, 0.2), (10, 0.02))
        for block in range(2)
    ]
    write_table(run.ber_path, pd.DataFrame(counts), COUNTS)
    trained = {r.name for r in run.plan.neural}
    energy = [
        asdict(energy_row(name, digest, phase, method, 1000, 1.0))
        for name, digest in digests.items()
        if name not in GENIE_AIDED
        for phase in ("inference", "training")
        if phase == "inference" or name in trained
        for method in ("CodeCarbon", "FLOPs/W")
    ]
    write_table(run.energy_path, pd.DataFrame(energy), ENERGY)
    joules = (Measurement("cpu", 1.0, "modelled", "CodeCarbon", "3", 0.0, 1.0),)
    windows = [
        Window(IDLE, 0, 0, 0.0, 1.0, 0.0, joules),
        *(Window("LS", i, 5, 1.0 + i, 1.0, 1.0, joules) for i in range(2)),
    ]
    write_windows(run.metering_folder / "windows-a-computer.jsonl", windows)
    scores = "phase,runtime,estimator,calls,mape_time_percent,rank_time,mape_energy_percent,instrument,provenance\n"
    write_atomic(
        run.validation_folder / "scores.csv", f"{scores}inference,all,roofline,3,10,1,10,CodeCarbon,modelled\n"
    )
    clocks = "receiver,runtime,phase,batch_slots,achieved_flops_per_clock,assumed_flops_per_clock,cycle_source\n"
    write_atomic(run.validation_folder / "estimates.csv", f"{clocks}LS,formula,inference,1,1,2,perf\n")
    write_atomic(run.ecal_path, json.dumps({"inputs": run.input_digests()}))
    write_atomic(run.report_folder / "inputs.json", json.dumps({"inputs": run.input_digests()}))
    return run
