"""Validation of the estimators on this machine: time and energy of receivers that they were not fitted to.

Builds DeepRx of several widths and depths, spanning more than 100 times in FLOPs (weights are untrained: time does not
depend on them). Exports each to ONNX in fp32 and in int8 (QDQ, calibrated on slots), meters all of them in turns, and
scores every estimator leave-one-receiver-out. Windows are kept in ``--folder``, and an interrupted run resumes.

Meter on a quiet machine. On a busy one, ``--cpu-time`` scores against the CPU time of the process, which other
processes hardly disturb. Without an energy counter, energy is a power model times time, and only time is tested.
``--cuda`` meters torch on a GPU by NVML's energy counter. ``--allow-model`` uses CodeCarbon's model where the CPU's
counter cannot be read.

    python scripts/reproduce/validate_estimators.py [--folder runs/validation] [--rounds 3] [--seconds 5] [--cpu-time]
        [--cuda] [--quick]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table

from channels import Grid, Scenario, Slots, SlotStream, scenario
from energy.estimation.estimate import MeteredCall
from energy.estimation.validation import leave_one_out, scores, validation_table
from energy.hardware.detect import gpu, gpu_uuid, host
from energy.metering.instruments import available, cycle_counter
from energy.metering.measurement import Instrument
from energy.metering.nvml import Nvml
from energy.metering.session import MeteringProtocol, Window, call_statistics
from energy.metering.table import energy_table, metered_calls, workload_rows
from energy.metering.workloads import (
    Workload,
    meter_workloads,
    network_workload,
    onnx_workload,
    read_windows,
    training_workload,
)
from leanrx.report.estimator_charts import estimator_charts
from leanrx_core.files import write_atomic
from receivers.export import export_onnx, quantise
from receivers.neural.registry import build
from receivers.neural.weights import Card, NeuralReceiver

SPECS = (
    "deeprx-w0.125-d3",
    "deeprx-w0.25-d3",
    "deeprx-w0.5-d3",
    "deeprx-d3",
    "deeprx-w0.125-d5",
    "deeprx-w0.25-d5",
    "deeprx-w0.5-d5",
    "deeprx-d5",
    "deeprx-w0.125-d7",
    "deeprx-w0.25-d7",
    "deeprx-w0.125-d9",
    "deeprx-w0.25-d9",
    "deeprx-w0.0625",
    "deeprx-w0.125",
    "deeprx-w0.25",
    "deeprx-w0.5",
    "deeprx",
)
SHOWN = ("FLOPs/W", "FLOPs/clock", "FLOPs/clock, fitted", "roofline", "roofline, fitted")
CONSOLE = Console(width=120)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--folder", type=Path, default=Path("runs/validation"))
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=5.0)
    arguments.add_argument("--batches", type=int, nargs="+", help="slots per call: 1, and on a GPU 32")
    arguments.add_argument("--cuda", action="store_true", help="torch on the GPU: float32, bfloat16, a training step")
    arguments.add_argument("--cpu-time", action="store_true", help="CPU time per thread in place of the wall clock")
    arguments.add_argument("--allow-model", action="store_true", help="CodeCarbon's model where RAPL cannot be read")
    arguments.add_argument("--quick", action="store_true", help="one round of one second: rough")
    given = arguments.parse_args()
    rounds, seconds = (1, 1.0) if given.quick else (given.rounds, given.seconds)
    setting = scenario("tdl-6prb").model_copy(update={"grid": Grid(num_prb=26)})
    device = gpu() if given.cuda else host()
    CONSOLE.print(f"{device.name}: {device.source}")
    batches = given.batches or ([1, 32] if given.cuda else [1])
    workloads = _workloads(setting, given.folder, batches, given.cuda)
    # a GPU is metered by its own counter alone: CodeCarbon would add a model of the CPU to it
    instruments: list[Instrument] = [Nvml(gpu_uuid())] if given.cuda else available(allow_model=given.allow_model)
    shortest_s = max(seconds, *(i.shortest_s for i in instruments))
    protocol = MeteringProtocol(min_duration_s=shortest_s, idle_s=shortest_s, rounds=rounds, cool_down_s=0.2)
    path = given.folder / f"windows-{'cuda' if given.cuda else 'cpu'}.jsonl"
    for _ in track(
        meter_workloads(workloads, instruments, protocol, path, None if given.cuda else cycle_counter()),
        "metering",
        len(workloads) * rounds,
        console=CONSOLE,
    ):
        pass
    windows = read_windows(path)
    instrument = instruments[-1].name
    energies = energy_table(row for w in workloads for row in workload_rows(w, windows, device))
    calls = metered_calls(workloads, energies, instrument, given.cpu_time)
    rows = validation_table(leave_one_out(calls, device))
    scored = scores(rows)
    clock = "CPU time per thread" if given.cpu_time else "wall clock"
    for quantity in ("s", "j"):
        for kind, data in estimator_charts(
            rows, ["FLOPs/clock", "FLOPs/clock, fitted", "roofline, fitted"], quantity, clock
        ).items():
            write_atomic(given.folder / f"estimates-{quantity}.{kind}", data)
    write_atomic(given.folder / "estimates.csv", rows.to_csv(index=False, lineterminator="\n"))
    write_atomic(given.folder / "scores.csv", scored.to_csv(index=False, lineterminator="\n"))
    _print(workloads, calls, windows, scored, instrument)


def _workloads(setting: Scenario, folder: Path, batches: list[int], cuda: bool) -> list[Workload]:
    where = "cuda" if cuda else "cpu"
    stream = SlotStream(setting, 1, max([8, *batches]), "test", purpose="agreement")
    slots = stream.block(0)
    workloads = []
    for spec in track(SPECS, "building and exporting", console=CONSOLE):
        receiver = NeuralReceiver(build(spec), _card(spec), where)
        inputs = receiver.net.features(slots)
        for batch in batches:
            if cuda:
                given = inputs[:batch].to(where)
                workloads += [network_workload(receiver.net, spec, given, bf16=bf16) for bf16 in (False, True)]
                workloads.append(training_workload(receiver.net, spec, given))
                continue
            for path in _exported(receiver, setting, folder / "exports"):
                workloads.append(onnx_workload(path, spec, _slots(setting, batch)))
    return workloads


def _slots(setting: Scenario, count: int) -> Slots:
    return SlotStream(setting, 1, count, "test", purpose="agreement").block(0)


def _exported(receiver: NeuralReceiver, setting: Scenario, folder: Path) -> tuple[Path, Path]:
    """The receiver as ONNX, in fp32 and in int8."""
    there = folder / receiver.name / f"{receiver.name}.onnx"
    if not there.exists():
        export_onnx(receiver, there.parent, SlotStream(setting, 1, 2, "test", purpose="export"), (10.0,))
    quantised = there.with_name(f"{receiver.name}-int8.onnx")
    if not quantised.exists():
        quantise(there, quantised, _slots(setting, 4))
    return there, quantised


def _card(spec: str) -> Card:
    return Card(
        name=spec,
        receiver=spec,
        role="teacher",
        num_rx=2,
        num_bits=4,
        parameters=0,
        scenario="",
        channels=(),
        trained_sinr_db=(0, 0),
        seed=0,
        training={},
    )


def _print(
    workloads: list[Workload],
    observations: list[MeteredCall],
    windows: list[Window],
    scored: pd.DataFrame,
    instrument: str,
) -> None:
    calls = Table(
        "receiver", "runtime", "phase", "batch", "MFLOP", "MB", "FLOP/byte", "ms per slot", "+-", "FLOP/clock"
    )
    for workload, observation in zip(workloads, observations, strict=True):
        call, profile = call_statistics(windows, workload.name, instrument), workload.profile
        calls.add_row(
            workload.receiver,
            workload.runtime,
            workload.phase,
            f"{profile.batch_slots}",
            f"{profile.flops / 1e6:.0f}",
            f"{profile.bytes / 1e6:.1f}",
            f"{profile.intensity:.1f}",
            f"{1e3 * call.duration_s / profile.batch_slots:.3g}",
            f"{call.duration_sd_s / call.duration_s:.0%}",
            f"{observation.flops_per_clock:.1f}",
        )
    CONSOLE.print(calls)
    CONSOLE.print(f"FLOP/clock by {', '.join(sorted({o.cycle_source for o in observations}))}")
    flops = [s.profile.flops / s.profile.batch_slots for s in workloads]
    provenances = {o.provenance for o in observations}
    CONSOLE.print(
        f"FLOPs span {max(flops) / min(flops):.0f} times over {len({s.receiver for s in workloads})} receivers"
    )
    energy_head = f"MAPE of energy ({'/'.join(sorted(provenances))})"
    score_table = Table(
        "phase",
        "runtime",
        "estimator",
        "calls",
        "MAPE of time",
        "worst",
        "rank",
        energy_head,
    )
    for row in scored.itertuples():
        if row.estimator in SHOWN:
            score_table.add_row(
                row.phase,
                row.runtime,
                row.estimator,
                f"{row.calls}",
                f"{row.mape_time_percent:.1f} %",
                f"{row.worst_time_percent:.0f} %",
                f"{row.rank_time:.3f}",
                f"{row.mape_energy_percent:.1f} %",
            )
    CONSOLE.print(score_table)
    if "measured" not in provenances:
        CONSOLE.print(
            "No energy counter here: energy is a power model times time, and its validation says no more than that."
        )


if __name__ == "__main__":
    main()
