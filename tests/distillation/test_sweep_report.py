"""The report of a sweep whose every error and joule is made up: two families, teachers, seeds, and a grid of settings."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from channels.records import write_atomic
from distillation.lifecycle import METERED
from distillation.plan import Planned, planned
from distillation.report import write_report
from distillation.runs import Run
from distillation.settings import Sweep
from energy.account import EnergyRow
from receivers.ber import BlockCount
from receivers.classical import BOUNDS, classical_receivers
from receivers.spec import build
from receivers.weights import Card, save

BITS, SLOTS, BLOCKS = 624, 64, 5
SINR_DB = (0.0, 6.0, 12.0, 18.0, 24.0, 30.0)


def config(**changes: Any) -> Sweep:
    students = {"receivers": ["deeprx-w0.015625-d3", "hybrid-w4-d1"], "seeds": [1, 2], **changes.pop("students", {})}
    return Sweep.parse(
        {
            "label": "made-up",
            "scenario": {
                "name": "tiny", "grid": {"num_prb": 1, "subcarrier_spacing_hz": 30000},
                "channels": {"train": ["TDL-B"], "test": ["TDL-A"]},
            },
            "teacher": {"receiver": ["deeprx-w0.0625-d3", "deeprx-w0.03125-d3"]},
            "students": students,
            "evaluation": {"sinr_db": list(SINR_DB)},
            "report": {"sinr_db": 12, "target_ber": 0.05},
            **changes,
        },
        "made-up",
    )  # fmt: skip


def sooner_db(entry: Planned) -> float:
    """By how many dB a made-up receiver needs less SINR than LS: what the report must find again."""
    if entry.role == "teacher":
        return 8.0 if entry.receiver == "deeprx-w0.0625-d3" else 7.0
    base = {"d": 2.0, "h": 4.0}[entry.receiver[0]] + 0.5 * (entry.seed - 1)
    if entry.distillation is None:
        return base
    how = entry.distillation
    gain = 1.0 + 0.2 * how.temperature - how.alpha + (0.4 if "w0.03125" in entry.teachers[0] else 0.0)
    return base + gain + 0.2 * (entry.seed - 1)


def made_up(folder: Path, config: Sweep) -> Run:
    """A complete run: BER is 0.3 at 0 dB and falls tenfold in 10 dB, to a floor of 4e-4 for nets that hear no teacher."""
    run = Run(folder, config)
    write_atomic(folder / "config.yaml", config.to_yaml())
    environment = {"platform": "a computer", "packages": {"torch": "1"}, "instruments": []}
    write_atomic(folder / "environment.json", json.dumps(environment))
    curves = {r.name: (r.digest, 0.0 if r.name == "LS" else 3.0, 0.0) for r in classical_receivers(config.scenario)}
    joules = {name: 1e-3 for name in curves if name not in BOUNDS}
    for entry in planned(config):
        net = build(entry.receiver)
        card = Card(
            name=entry.name, receiver=entry.receiver, role=entry.role, num_rx=2, num_bits=4,
            parameters=sum(p.numel() for p in net.parameters()), scenario="tiny", channels=("TDL-B",),
            trained_sinr_db=(0, 30), seed=entry.seed,
            training={"slots": 8000, "teacher_slots": dict.fromkeys(set(entry.teachers) - set(BOUNDS), 8000)},
        )  # fmt: skip
        digest = save(run.receivers_folder / entry.name, net, card).digest
        curves[entry.name] = digest, sooner_db(entry), 4e-4 if entry.role == "twin" else 0.0
        joules[entry.name] = 1e-6 * card.parameters * (1 + 0.01 * (entry.role == "twin") + 0.02 * entry.seed)
    counts, energy = [], []
    for name, (digest, sooner, floor) in curves.items():
        for sinr_db in SINR_DB:
            for block in range(BLOCKS):
                luck = 1 + 0.3 * np.sin(7 * block + sinr_db)
                errors = round(BITS * SLOTS * luck * max(0.3 * 10 ** (-(sinr_db + sooner) / 10), floor))
                counts.append(asdict(BlockCount(
                    receiver=name, digest=digest, stream="s", device="cpu", code_rate=0.0, interference_share=0.0,
                    sinr_db=sinr_db, block=block, slots=SLOTS, bits=BITS * SLOTS, bit_errors=errors,
                    slot_errors=min(SLOTS, errors), bit_errors_sq=errors**2 // 40, bit_errors_x_bits=errors * BITS,
                    bits_sq=BITS**2 * SLOTS, realised_sinr_db=sinr_db,
                )))  # fmt: skip
    for name, slot_j in joules.items():
        for source, factor in ((METERED, 1.0), ("FLOPs/W", 0.5)):
            for phase, slots, energy_j in (("inference", 1000, 1000 * slot_j), ("training", 8000, 3e4 * slot_j)):
                if phase == "inference" or "w" in name and not name.startswith(("LMMSE", "LS")) or "teacher" in name:
                    energy.append(asdict(EnergyRow(
                        name, curves[name][0], "m", phase, source, "modelled", "i", slots, 1, 1, 1, 1.0,
                        factor * energy_j, 0.0,
                    )))  # fmt: skip
    write_atomic(run.ber_path, pd.DataFrame(counts).to_parquet())
    write_atomic(run.energy_path, pd.DataFrame(energy).to_parquet())
    return run


def test_it(tmp_path):
    import time

    t = time.process_time()
    run = made_up(tmp_path / "x", config(students={"distillation": {"temperature": [1, 4], "alpha": [0.5, 0.9]}}))
    print("made", time.process_time() - t)
    write_report(run)
    print("report", time.process_time() - t)
    print(sorted(p.name for p in run.report_folder.iterdir()))
