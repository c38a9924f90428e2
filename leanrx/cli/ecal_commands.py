"""``leanrx ecal``: joules per application bit over a life cycle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leanrx.cli.options import JsonOption, ReferenceOption
from leanrx.cli.sessions import load_locked_run, write_figures

if TYPE_CHECKING:
    from leanrx.life_cycle.inventory import LifeCycleInventory

DEFAULT_RANGE = "inferences=1e2..1e8"


def ecal(
    target: Annotated[
        str,
        typer.Argument(
            help="A run folder, a YAML file of a life cycle, or a preset such as published-mlp.", metavar="TARGET"
        ),
    ],
    inferences: Annotated[float | None, typer.Option(help="State eCAL at this number of inferences.")] = None,
    teacher_allocation: Annotated[
        str | None,
        typer.Option(help="For a run: each student bears the teacher's energy in 'full', or it is 'split' over them."),
    ] = None,
    sweep: Annotated[str | None, typer.Option(help=f"Compute a range, such as {DEFAULT_RANGE}.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Draw eCAL and its components into this folder.")] = None,
    reference: ReferenceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute eCAL, the joules per application bit over a life cycle; for a run, also the energy payback."""
    from energy.ecal.inference_range import sweep_points
    from leanrx_core.errors import UserError

    points = sweep_points(sweep) if sweep is not None else []
    changes = {"inferences": inferences, "teacher_allocation": teacher_allocation}
    changes = {k: v for k, v in changes.items() if v is not None}
    if Path(target).is_dir():
        _ecal_of_run(Path(target), changes, points, figures, reference, as_json)
    else:
        if reference is not None:
            raise UserError(f"--reference: {target} is not a run folder, so nothing was metered; leave the option out")
        _ecal_of_file(target, changes, points, figures, as_json)


def _ecal_of_file(source: str, changes: dict[str, Any], points: list[int], folder: Path | None, as_json: bool) -> None:
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

        rows = result.get("sweep") or config.result(sweep_points(DEFAULT_RANGE))["sweep"]
        write_figures([curve(config.name, rows), components(config.name, rows)], folder)
    if as_json:
        print(json.dumps(result))
        return
    _print_life_cycle(config.name, result)


def _print_life_cycle(name: str, result: dict[str, Any]) -> None:
    print(f"{name}: {result['inferences']:,} inferences, {result['forward_flops']:,.0f} FLOPs each")
    for component, energy_j in result["components_j"].items():
        print(f"{component:<26} {energy_j:>12.6g} J {energy_j / (result['absolute_j'] or 1):>7.1%}")
    print(f"{'absolute':<26} {result['absolute_j']:>12.6g} J")
    limit = f"{result['asymptotic_j_per_bit']:.6g} J/bit by inference alone"
    print(f"eCAL {result['ecal_j_per_bit']:.6g} J/bit over {result['bits']:,.0f} bits, {limit}")
    if "ecal_j_per_correct_bit" in result:
        print(f"     {result['ecal_j_per_correct_bit']:.6g} J per correctly received bit")
    _print_range(result.get("sweep", []))
    for note in result["notes"]:
        print(f"note: {note}")


def _ecal_of_run(
    folder: Path,
    changes: dict[str, Any],
    points: list[int],
    figures: Path | None,
    reference: str | None,
    as_json: bool,
) -> None:
    from leanrx.experiment.sweep_config import EcalConfig
    from leanrx.report.life_cycle_json import life_cycle_json, write_life_cycle

    run, _ = load_locked_run(folder, quiet=as_json)
    settings = EcalConfig.parse({**run.config.ecal.model_dump(), **changes}, "ecal")
    inventory = write_life_cycle(run, settings, reference)
    if figures:
        from leanrx.report.life_cycle_figures import figures as life_cycle_figures

        write_figures(life_cycle_figures(inventory), figures)
    ranges = {
        name: [inventory.result(name, inventory.reference_instrument, inferences=n).ecal.as_json() for n in points]
        for name in (inventory.roles if points else ())
    }
    if as_json:
        print(json.dumps({**life_cycle_json(inventory), **({"sweep": ranges} if points else {})}))
        return
    _print_inventory(inventory, ranges)


def _print_inventory(inventory: LifeCycleInventory, ranges: dict[str, list[dict[str, Any]]]) -> None:
    from leanrx.report.life_cycle_text import notes, sentences

    print(f"{inventory.bits_per_slot} application bits per slot, {inventory.settings.inferences:,} slots in service")
    for result in inventory.results():
        e = result.ecal
        print(
            f"{result.receiver:<28} {result.method:<12} {e.ecal_j_per_bit:.3e} J/bit, {e.absolute_j:>10.4g} J "
            f"({e.development_j:.4g} J of development), limit {e.asymptotic_j_per_bit:.3e} J/bit ({result.provenance})"
        )
    for name, rows in ranges.items():
        print(f"{name}, {inventory.reference_instrument}")
        _print_range(rows)
    for sentence in sentences(inventory):
        print(sentence)
    for note in notes(inventory):
        print(f"note: {note}")


def _print_range(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(f"{row['inferences']:>14,} inferences {row['ecal_j_per_bit']:.6e} J/bit {row['absolute_j']:.6g} J")
