"""The console command ``leanrx``: it parses, calls one function of the packages, and prints."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from energy.counting.profile import OperationProfile
    from leanrx.cli.console import ConsoleWatcher
    from leanrx.experiment.run import Run
    from receivers.evaluation.monte_carlo import Shard
    from receivers.export import Int8Comparison

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find the smallest neural OFDM receiver that still does its job, and what it costs in joules.",
)

RunArgument = Annotated[Path, typer.Argument(help="A run folder: runs/<label>.", metavar="RUN", show_default=False)]
ConfigArgument = Annotated[
    Path, typer.Argument(help="A YAML file as in configs/.", metavar="CONFIG", show_default=False)
]
RootOption = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")]
WorkersOption = Annotated[int, typer.Option(help="Processes that count side by side, one thread each.")]
RayOption = Annotated[
    str | None, typer.Option("--ray", metavar="HOST:PORT", help="Train and meter on the Ray cluster with this head.")
]
CoresOption = Annotated[int | None, typer.Option(help="With --ray: CPU cores of each task; 1 if not given.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
def doctor(
    again: Annotated[bool, typer.Option("--again", help="Time the machine anew; do so when it is quiet.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what this machine is and can measure, and what stands in the way; its rates are timed once and kept."""
    from energy.hardware.calibration import calibration_path
    from energy.hardware.doctor import report

    found = report(again)
    if as_json:
        print(json.dumps(found))
        return
    device = found["device"]
    print(f"{found['platform']}, Python {found['python']}")
    print(f"CPU: {device['name']}, {device['cores']} cores; {device['source']}")
    print(
        f"     matrix products at {device['matmul_flops_per_s'] / 1e9:.0f} GFLOP/s, copies at "
        f"{device['copy_bytes_per_s'] / 1e9:.1f} GB/s on {found['threads']} threads; kept in {calibration_path()}"
    )
    print("packages: " + ", ".join(f"{n} {v or '(not installed)'}" for n, v in found["packages"].items()))
    for finding in found["instruments"]:
        print(f"[{'x' if finding['usable'] else ' '}] {finding['name']}: {finding['detail']}")
        if finding["remedy"]:
            print(f"      {finding['remedy']}")


@app.command()
def data(
    config: Annotated[
        Path, typer.Argument(help="A YAML file as configs/dataset.yaml.", metavar="CONFIG", show_default=False)
    ],
    root: Annotated[Path, typer.Option("--data", help="Folder that holds the datasets.")] = Path("data"),
) -> None:
    """Write slots to HDF5 files that people can read without leanrx; goes on where it was."""
    from channels.dataset import Dataset, write_dataset
    from leanrx.cli.console import show_progress

    dataset = Dataset.load(config)
    show_progress("blocks", write_dataset(dataset, root))
    print(f"dataset: {root / dataset.label}")


@app.command()
def train(
    config: ConfigArgument,
    receiver: Annotated[str | None, typer.Argument(help="Only this one (and the teacher it needs).")] = None,
    runs: RootOption = Path("runs"),
    ray: RayOption = None,
    cores: CoresOption = None,
) -> None:
    """Train the teacher, the students and their twins; resumes where it was. torchrun gives a teacher several GPUs."""
    from distillation.distributed import init

    ranks = init()
    hands = _hands(ray, cores)
    for run, watcher in _open(config, runs):
        hands.train_all(run, watcher, receiver)
        if ranks.rank == 0:
            print(f"receivers: {run.receivers_folder}")


@app.command()
def sweep(
    config: ConfigArgument,
    runs: RootOption = Path("runs"),
    workers: WorkersOption = 1,
    ray: RayOption = None,
    cores: CoresOption = None,
) -> None:
    """The whole job: train, evaluate, meter, eCAL, report; resumes where it was."""
    from leanrx.experiment.workflow import evaluate as evaluate_all
    from leanrx.report.life_cycle_json import write_life_cycle
    from leanrx.report.page import write_report

    hands = _hands(ray, cores)
    for run, watcher in _open(config, runs):
        hands.train_all(run, watcher)
        evaluate_all(run, watcher, workers=workers)
        hands.meter_all(run, watcher)
        write_life_cycle(run)
        print(f"report: {write_report(run)}")


@app.command()
def tune(config: ConfigArgument, runs: RootOption = Path("runs"), as_json: JsonOption = False) -> None:
    """Search the figures of distillation that the 'search' section names; resumes where it was."""
    from leanrx.experiment.search import best, search

    for run, watcher in _open(config, runs, quiet=as_json):
        trials = []
        for trial in search(run, watcher):
            trials.append(trial)
            if not as_json:
                values = ", ".join(f"{name} {value:g}" for name, value in trial.values.items())
                ber = "diverged" if trial.ber is None else f"mean BER {trial.ber:.4g}"
                print(f"trial {trial.index}: {values}: {ber}")
        found, path = best(trials), run.folder / "search" / "search.csv"
        if as_json:
            print(json.dumps({"path": str(path), "best": asdict(found), "trials": [asdict(t) for t in trials]}))
        else:
            print(
                f"trials: {path}\nthe best is trial {found.index}, mean BER {found.ber:.4g}:\n\n{found.to_yaml()}",
                end="",
            )


@app.command()
def evaluate(
    run: RunArgument,
    sinr_db: Annotated[list[float] | None, typer.Option(help="Test at this SINR too; may be repeated.")] = None,
    workers: WorkersOption = 1,
    shard: Annotated[str | None, typer.Option(help="Count one part of the blocks, such as 1/4; then: merge.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Count bit, slot and block errors of all receivers on the same slots; resumes where it was."""
    from leanrx.experiment.workflow import evaluate as evaluate_all
    from receivers.evaluation.monte_carlo import Shard
    from receivers.evaluation.rates import rates
    from receivers.evaluation.stopping import Evaluation

    part = Shard.parse(shard) if shard else None
    loaded, watcher = _load(run, part, quiet=as_json)
    evaluation = loaded.config.evaluation
    if sinr_db:
        points = tuple(sorted({*evaluation.sinr_db, *sinr_db}))
        evaluation = Evaluation.parse({**evaluation.model_dump(), "sinr_db": points}, "evaluate")
    path = evaluate_all(loaded, watcher, evaluation, workers, part)
    if as_json:
        print(json.dumps({"path": str(path), "rates": _rows(rates(loaded.counts(path)))}))
        return
    print(f"counts: {path}")


@app.command()
def merge(
    run: RunArgument,
    parts: Annotated[
        list[Path] | None, typer.Argument(help="Tables of shards, or their folders.", metavar="[PART]...")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Join the counts of shards: the table that one process would have counted."""
    from leanrx.experiment.workflow import merge as merge_all
    from receivers.evaluation.rates import rates

    loaded, _ = _load(run, quiet=as_json)
    unfinished = merge_all(loaded, parts or [])
    if as_json:
        counted = [] if unfinished else _rows(rates(loaded.counts()))
        points = [{"interference_fraction": share, "sinr_db": sinr_db} for share, sinr_db in unfinished]
        print(json.dumps({"path": str(loaded.ber_path), "rates": counted, "unfinished": points}))
    elif unfinished:
        shown = ", ".join(f"{sinr_db:g} dB (interference share {share:g})" for share, sinr_db in unfinished)
        print(f"joined, but blocks are missing at {shown}\ncount them with: leanrx evaluate {run}")
    else:
        print(f"counts: {loaded.ber_path}")


@app.command()
def count(
    receiver: Annotated[
        str, typer.Argument(help="deeprx-w0.5-d5, hybrid-w16-d4, ..., LS, LMMSE, LMMSE-IRC, or an ONNX file.")
    ],
    prb: Annotated[int, typer.Option(help="Physical resource blocks.")] = 26,
    rx: Annotated[int, typer.Option(help="Receive antennas.")] = 2,
    bits: Annotated[int, typer.Option(help="Bits per QAM symbol.")] = 4,
    batch: Annotated[int, typer.Option(min=1, help="Slots per call, for bytes.")] = 1,
    precision: Annotated[str, typer.Option(help="Of the values that move: fp32, bf16, fp16 or int8.")] = "fp32",
    training: Annotated[bool, typer.Option("--training", help="A training step instead of a forward pass.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="One line per layer.")] = False,
    device: Annotated[str | None, typer.Option(help="Estimate on: host, generic, raspberry-pi-4, ...")] = None,
    as_json: JsonOption = False,
) -> None:
    """Count parameters, MACs, FLOPs (2 per MAC) of a call of a receiver, and the bytes that it moves."""
    from channels import Grid
    from energy.counting.counter import CLASSICAL
    from energy.counting.counter import count as count_receiver
    from energy.counting.onnx_file import count_onnx, num_features
    from energy.estimation.estimators import ESTIMATORS, FLOP_ESTIMATORS
    from energy.hardware.detect import device as device_record
    from leanrx_core.errors import UserError

    grid = Grid.parse({"num_prb": prb, "num_rx": rx}, "count")
    if bits not in (2, 4, 6, 8):
        raise UserError(f"bits: {bits} is not a modulation; give 2, 4, 6 or 8")
    if receiver.endswith(".onnx"):
        profile = count_onnx(receiver, [batch, num_features(receiver), 14, grid.num_subcarriers])
    else:
        profile = count_receiver(
            receiver, grid, num_bits=bits, batch_slots=batch, precision=precision, training=training
        )
    estimates = []
    if device:
        estimators = FLOP_ESTIMATORS if receiver in CLASSICAL else ESTIMATORS
        estimates = [e.estimate(profile, device_record(device)) for e in estimators]
    if as_json:
        rows = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(e).items()} for e in estimates
        ]
        print(json.dumps({**profile.as_json(), **({"estimates": rows} if device else {})}))
        return
    _print_profile(profile, layers)
    for e in estimates:
        time_ms = "" if math.isnan(e.duration_s) else f"{1e3 * e.duration_s:.3g} ms"
        energy_mj = "no energy" if math.isnan(e.energy_j) else f"{1e3 * e.energy_j:.3g} mJ"
        print(f"{e.method:<20} {time_ms:>16} {energy_mj} (modelled: {e.assumption})")


def _print_profile(profile: OperationProfile, layers: bool) -> None:
    slots = "1 slot" if profile.batch_slots == 1 else f"{profile.batch_slots} slots"
    print(f"{profile.name}: {slots} in {profile.precision}, counted by {profile.method}")
    print(f"parameters           {profile.parameters:>16,}")
    print(f"MACs                 {profile.macs:>16,}")
    if profile.method == "operators + formula":
        print(f"  by formula         {profile.formula_macs:>16,}")
    print(f"FLOPs (2 per MAC)    {profile.flops:>16,}")
    if profile.cross_check_flops is not None:
        verdict = "agrees" if profile.counters_agree else "DISAGREES"
        print(f"FLOPs by fvcore      {profile.cross_check_flops:>16,}  {verdict}, forward, without formula")
        print(f"batch-norm elements  {profile.batch_norm_elements:>16,}  fold into convolutions at inference")
    for name, elements in profile.other_elements.items():
        print(f"{name + ' elements':<20} {elements:>16,}  counted as no MAC")
    if layers:
        columns = f"{'weights [B]':>12} {'read [B]':>14} {'written [B]':>14}"
        print(f"{'layer':<40} {'operator':<28} {'phase':<9} {'MACs':>16} {columns}")
        for x in profile.layers:
            print(
                f"{x.name:<40} {x.operator:<28} {x.phase:<9} {x.macs:>16,} {x.weight_bytes:>12,} {x.read_bytes:>14,} "
                f"{x.written_bytes:>14,}"
            )
    for phase in ("forward", "backward", "optimiser"):
        part = profile.phase(phase)
        if part.bytes:
            print(
                f"{phase:<20} {part.flops:>16,} FLOPs {part.bytes:>16,} bytes moved {part.intensity:>8.2f} FLOPs per "
                "byte"
            )
    for sentence in profile.disagreements:
        print(f"DISAGREES            {sentence}")
    for name in profile.uncounted:
        print(f"bytes unknown        {name}")


@app.command()
def energy(
    run: RunArgument,
    rounds: Annotated[int, typer.Option(min=1, help="Windows per call, in another order each.")] = 3,
    compiled: Annotated[bool, typer.Option("--compiled", help="Meter torch.compile too.")] = False,
    wattmeter: Annotated[
        Path | None, typer.Option(help="CSV of a wattmeter (time, power_w) that saw the windows: the measurement.")
    ] = None,
    utc_offset: Annotated[
        float | None, typer.Option(help="Hours east of Greenwich of the CSV's times, if they carry no offset.")
    ] = None,
    modelled: Annotated[
        bool, typer.Option("--modelled", help="Go on with CodeCarbon's model where the CPU's counter cannot be read.")
    ] = False,
    ray: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Meter and estimate the energy of every receiver of a run, and how well both agree; resumes where it was."""
    from energy.metering.instruments import Wattmeter
    from leanrx_core.errors import UserError

    if utc_offset is not None and wattmeter is None:
        raise UserError("energy: --utc-offset speaks of a wattmeter's times; give its log by --wattmeter")
    log = Wattmeter.read(wattmeter, utc_offset) if wattmeter else None
    hands = _hands(ray)
    loaded, watcher = _load(run, quiet=as_json)
    hands.meter_all(loaded, watcher)
    found = hands.agree_all(loaded, watcher, rounds, compiled, log, modelled)
    table, scores, clocks = loaded.energy(), found.scores, found.clocks
    if as_json:
        rows = _rows(table.assign(energy_j_per_slot=table["energy_j"] / table["slots"]))
        answer = {"agreement": scores, "instruments": found.instruments, "flops_per_clock": clocks}
        print(
            json.dumps(
                {
                    "rows": rows,
                    "instrument": found.instrument,
                    "kind": found.kind,
                    **{name: _rows(part) for name, part in answer.items()},
                }
            )
        )
        return
    shown = table[table["phase"] == "inference"].copy()
    shown["mJ per slot"] = 1e3 * shown["energy_j"] / shown["slots"]
    shown["ms per slot"] = 1e3 * shown["duration_s"] / shown["slots"]
    print(shown[["receiver", "source", "kind", "mJ per slot", "ms per slot"]].to_string(index=False))
    print("\nFLOPs per clock and core, achieved and assumed")
    print(clocks.rename(columns=lambda c: c.replace("_flops_per_clock", "").replace("_", " ")).to_string(index=False))
    if found.instruments["instrument"].nunique() > 1:
        print("\njoules by every instrument, on the same windows")
        print(found.by_instrument().to_string())
    percent = {c: c.removesuffix("_percent") + " [%]" for c in scores if c.endswith("_percent")}
    print(f"\nestimates against the meter, leave-one-receiver-out where fitted: {loaded.agreement_folder}")
    print(scores[scores["runtime"] == "all"].drop(columns="runtime").rename(columns=percent).to_string(index=False))
    if found.kind == "measured":
        print(f"energy: measured by {found.instrument}")
    else:
        print(
            f"energy: no counter was read; by {found.instrument}, an estimate is compared with a power model times "
            "time, so only time was tested"
        )


@app.command()
def ecal(
    target: Annotated[
        str, typer.Argument(help="A run folder, a YAML file of a life cycle, or a preset such as published-mlp.")
    ],
    inferences: Annotated[float | None, typer.Option(help="State eCAL at this number of inferences.")] = None,
    teacher_allocation: Annotated[
        str | None,
        typer.Option(help="For a run: each student bears the teacher's energy in 'full', or it is 'split' over them."),
    ] = None,
    sweep: Annotated[str | None, typer.Option(help="Over a range, such as inferences=1e2..1e8.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Draw the curve and its components into this folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """eCAL: joules per application bit over the life cycle, with its components and, for a run, break-evens."""
    from energy.ecal.inference_range import sweep_points

    points = sweep_points(sweep) if sweep else []
    changes = {"inferences": inferences, "teacher_allocation": teacher_allocation}
    changes = {k: v for k, v in changes.items() if v is not None}
    if Path(target).is_dir():
        _ecal_of_run(Path(target), changes, points, figures, as_json)
    else:
        _ecal_by_hand(target, changes, points, figures, as_json)


def _ecal_by_hand(source: str, changes: dict[str, Any], points: list[int], folder: Path | None, as_json: bool) -> None:
    from energy.ecal.inference_range import sweep_points
    from energy.ecal.life_cycle_config import LifeCycleConfig
    from leanrx_core.errors import UserError

    config = LifeCycleConfig.read(source)
    if "teacher_allocation" in changes:
        raise UserError(f"--teacher-allocation: {source} has no teacher; the option is for a run folder")
    config = LifeCycleConfig.parse({**config.model_dump(), **changes}, source)
    result = config.result(points)
    if folder:
        from leanrx.report.life_cycle_figures import components, curve

        drawn = result.get("sweep") or config.result(sweep_points("inferences=1e2..1e8"))["sweep"]
        _draw([curve(config.name, drawn), components(config.name, drawn)], folder)
    if as_json:
        print(json.dumps(result))
        return
    print(f"{config.name}: {result['inferences']:,} inferences, {result['forward_flops']:,.0f} FLOPs each")
    for name, energy_j in result["components_j"].items():
        print(f"{name:<26} {energy_j:>12.6g} J {energy_j / (result['absolute_j'] or 1):>7.1%}")
    print(f"{'absolute':<26} {result['absolute_j']:>12.6g} J")
    limit = f"{result['asymptotic_j_per_bit']:.6g} J/bit by inference alone"
    print(f"eCAL {result['ecal_j_per_bit']:.6g} J/bit over {result['bits']:,.0f} bits, {limit}")
    if "ecal_j_per_correct_bit" in result:
        print(f"     {result['ecal_j_per_correct_bit']:.6g} J per correctly received bit")
    _print_sweep(result.get("sweep", []))
    for note in result["notes"]:
        print(f"note: {note}")


def _ecal_of_run(folder: Path, changes: dict[str, Any], points: list[int], figures: Path | None, as_json: bool) -> None:
    from leanrx.experiment.sweep_config import EcalConfig
    from leanrx.report.life_cycle_json import life_cycle_json, write_life_cycle
    from leanrx.report.life_cycle_text import notes, sentences

    run, _ = _load(folder, quiet=as_json)
    inventory = write_life_cycle(run, EcalConfig.parse({**run.config.ecal.model_dump(), **changes}, "ecal"))
    if figures:
        from leanrx.report.life_cycle_figures import figures as figures_of

        _draw(figures_of(inventory), figures)
    swept = {
        name: [inventory.result(name, inventory.sources[0], inferences=n).ecal.as_json() for n in points]
        for name in (inventory.roles if points else ())
    }
    if as_json:
        print(json.dumps({**life_cycle_json(inventory), **({"sweep": swept} if points else {})}))
        return
    print(f"{inventory.bits_per_slot} application bits per slot, {inventory.settings.inferences:,} slots in service")
    for result in inventory.results():
        e = result.ecal
        print(
            f"{result.receiver:<28} {result.source:<12} {e.ecal_j_per_bit:.3e} J/bit, {e.absolute_j:>10.4g} J "
            f"({e.development_j:.4g} J of development), limit {e.asymptotic_j_per_bit:.3e} J/bit ({result.kind})"
        )
    for name, rows in swept.items():
        print(f"{name}, {inventory.sources[0]}")
        _print_sweep(rows)
    for sentence in sentences(inventory):
        print(sentence)
    for note in notes(inventory):
        print(f"note: {note}")


def _print_sweep(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(f"{row['inferences']:>14,} inferences {row['ecal_j_per_bit']:.6e} J/bit {row['absolute_j']:.6g} J")


def _draw(figures: list[Any], folder: Path) -> None:
    from leanrx.report.charts import to_files
    from leanrx_core.files import write_atomic

    for figure in figures:
        for name, data in to_files(figure).items():
            write_atomic(folder / name, data)
    print(f"figures: {folder}", file=sys.stderr)


@app.command()
def report(
    run: RunArgument,
    intensity: Annotated[
        str | None, typer.Option(help="State emissions, by a named carbon intensity such as world-2023.")
    ] = None,
    pue: Annotated[float, typer.Option(help="Power usage effectiveness, for emissions.")] = 1.0,
    unit: Annotated[
        str, typer.Option(help="Emissions per 'slot', 'decoded bit' or 'correct transport block'.")
    ] = "slot",
    as_json: JsonOption = False,
) -> None:
    """Write the BER / energy trade-off report: one HTML page, figures and tables."""
    import pandas as pd

    from carbon import Site, carbon_intensity
    from leanrx.report.emissions import EmissionBasis
    from leanrx.report.page import write_report
    from leanrx_core.errors import UserError

    loaded, _ = _load(run, quiet=as_json)
    if intensity is None and (pue, unit) != (1.0, "slot"):
        raise UserError("report: --pue and --unit speak of emissions; give --intensity, such as world-2023")
    site = Site.parse({"intensity": carbon_intensity(intensity), "pue": pue}, "report") if intensity else None
    page = write_report(loaded, EmissionBasis(site, unit) if site else None)
    emissions = pd.read_csv(page.parent / "carbon.csv") if site else pd.DataFrame(columns=["receiver", "line"])
    if as_json:
        print(json.dumps({"path": str(page), **({"carbon": _rows(emissions)} if site else {})}))
        return
    for row in emissions.itertuples():
        print(f"{row.receiver:<28} {row.line}")
    print(f"report: {page}")


@app.command()
def export(
    run: RunArgument,
    name: Annotated[str, typer.Argument(help="A receiver of the run, or 'smallest' for its smallest student.")],
    format: Annotated[str, typer.Option(help="File format: onnx.")] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="Write an int8 file too, with its bit errors beside those of the first.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Export a receiver, proven equal to what was tested."""
    from channels import SlotStream
    from leanrx_core.errors import UserError
    from receivers.export import export_int8, export_onnx

    loaded, _ = _load(run, quiet=as_json)
    if format != "onnx":
        raise UserError(f"format: '{format}' is not available; formats: onnx")
    receiver = loaded.receiver(name)
    config, evaluation = loaded.config, loaded.config.evaluation
    stream = SlotStream(config.scenario, config.seed, 32, "test", purpose="export")
    folder = loaded.folder / "exports" / receiver.name
    parity = export_onnx(receiver, folder, stream, evaluation.sinr_db, evaluation.interference_fractions)
    quantised = None
    if int8:
        # enough for an interval; a stop rule would count until both files have made many errors
        counted = evaluation.model_copy(
            update={"max_slots": evaluation.min_slots, "code_rate": None, "target_block_errors": None}
        )
        calibration = SlotStream(config.scenario, config.seed, 64, "train", purpose="calibration").block(0)
        stream = SlotStream(config.scenario, config.seed, evaluation.block_slots, "test", purpose="export")
        path, target_ber = folder / f"{receiver.name}.onnx", config.report.target_ber
        quantised = export_int8(path, receiver.net.features(calibration), stream, counted, target_ber)
    if as_json:
        beside = {"int8": _rows(quantised.rates)} if quantised else {}
        print(json.dumps({"folder": str(folder), **parity.as_json(), **beside}))
        return
    print(
        f"export: {folder / (receiver.name + '.onnx')}\n"
        f"equal on {parity.slots} fresh slots: largest LLR difference {parity.max_llr_difference:.1e} of "
        f"{parity.max_llr:.1f}, {parity.differing_decisions} of {parity.bits} bits decided differently, "
        f"bit errors {parity.bit_errors_original} and {parity.bit_errors_exported}"
    )
    if quantised:
        _print_int8(quantised)


def _print_int8(found: Int8Comparison) -> None:
    print(f"int8: {found.path}, not equal: bit errors of both files on the same slots")
    sides = {
        name: rows.set_index(["interference_fraction", "sinr_db"]) for name, rows in found.rates.groupby("receiver")
    }
    eight = sides.pop(found.path.name)
    (whole,) = sides.values()
    for (share, sinr_db), row in eight.iterrows():
        before = whole.loc[(share, sinr_db)]
        print(
            f"{sinr_db:>6g} dB, interference share {share:g}: BER {before['ber']:.2e} ({before['ber_low']:.2e} to "
            f"{before['ber_high']:.2e}) in float32, {row['ber']:.2e} ({row['ber_low']:.2e} to {row['ber_high']:.2e}) "
            f"in int8, {row['slots']:.0f} slots"
        )
    for share, gap in found.losses.items():
        words = "not reached by both" if math.isnan(gap.gap_db) else f"{gap.gap_db:+.2f} dB"
        interval = "" if math.isnan(gap.low_db) else f" (95 %: {gap.low_db:+.2f} to {gap.high_db:+.2f})"
        print(f"loss of int8 at BER {found.target_ber:g}, interference share {share:g}: {words}{interval}")


def _hands(ray: str | None, cores: int | None = None) -> Any:
    """Who trains and meters: this process, or a Ray cluster."""
    if ray is None:
        from leanrx.experiment.energy_metering import agree_all, meter_all
        from leanrx.experiment.workflow import train_all
        from leanrx_core.errors import UserError

        if cores is not None:
            raise UserError("cores: goes with --ray HOST:PORT; this process takes the threads of OMP_NUM_THREADS")
        return SimpleNamespace(train_all=train_all, meter_all=meter_all, agree_all=agree_all)
    from leanrx.experiment.ray_cluster import Cluster

    return Cluster(ray, cores if cores is not None else 1)


_held: list[Any] = []  # locks of run folders, for the life of the process


def _open(config: Path, root: Path, quiet: bool = False) -> Iterator[tuple[Run, ConsoleWatcher]]:
    """The runs of a configuration, one after the other; all are checked before the first begins."""
    from distillation.distributed import current
    from leanrx.experiment.run import Run, open_run
    from leanrx.experiment.sweep_config import SweepConfig
    from leanrx.experiment.workflow import check
    from leanrx_core.files import lock

    sweeps = SweepConfig.load_all(config)
    for sweep_config in sweeps:
        check(Run(root / sweep_config.label, sweep_config))
    ranks = current()
    for sweep_config in sweeps:
        if ranks.rank == 0:
            _held.append(lock(root / sweep_config.label))
            open_run(sweep_config, root)
        ranks.barrier()
        yield Run(root / sweep_config.label, sweep_config), _watcher(quiet, shown=ranks.rank == 0)


def _load(folder: Path, shard: Shard | None = None, quiet: bool = False) -> tuple[Run, ConsoleWatcher]:
    from leanrx.experiment.run import load_run
    from leanrx_core.files import lock

    run = load_run(folder)
    _held.append(lock(run.shard_path(shard).parent if shard else folder))  # shards of one run may count side by side
    return run, _watcher(quiet)


def _rows(table: Any) -> list[dict[str, Any]]:
    """A table's rows as plain values; JSON has no NaN."""
    return list(json.loads(table.to_json(orient="records", double_precision=15)))


def _watcher(quiet: bool = False, shown: bool = True) -> Any:
    from rich.console import Console

    from leanrx.cli.console import ConsoleWatcher

    return ConsoleWatcher(Console(stderr=quiet, quiet=not shown, highlight=False, soft_wrap=True))


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, Ctrl-C is 130."""
    try:
        app()
    except SystemExit as end:
        if end.code == 130:
            print("interrupted; the same command goes on from here", file=sys.stderr)
        raise
    except Exception as error:
        from leanrx_core.errors import UserError

        if isinstance(error, OSError) and error.filename is not None:
            error = UserError(f"{error.filename}: {error.strerror}; give a path that can be written")
        if not isinstance(error, UserError):
            raise
        print(f"leanrx: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
