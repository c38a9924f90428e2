"""``leanrx export``: a receiver as an ONNX, LiteRT or C file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leanrx.cli.options import JsonOption
from leanrx.cli.sessions import check_second_name, json_rows, load_locked_run, lock_folder

if TYPE_CHECKING:
    from leanrx.experiment.run_export import ExportSource
    from receivers.export import Parity, PrecisionComparison


def export(
    source: Annotated[
        str,
        typer.Argument(
            help="A run folder, a receiver of the zoo, or lmmse or lmmse-irc.",
            metavar="RUN_OR_NAME",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            help="A receiver of the run, 'smallest' for its smallest student, or lmmse or lmmse-irc.", metavar="[NAME]"
        ),
    ] = None,
    format: Annotated[str, typer.Option(help="File format: onnx, litert, or c.")] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write an int8 file (onnx, litert) and count the errors of both.")
    ] = False,
    fp16: Annotated[
        bool,
        typer.Option("--fp16", help="Also write an ONNX file with a float16 network and count the errors of both."),
    ] = False,
    exports: Annotated[
        Path | None, typer.Option(help="Folder for receivers that are not of a run. The default is exports.")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="Scenario of lmmse or lmmse-irc: the name of a shipped one, or a YAML file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Export a receiver, and check that the file gives the same LLRs and decisions."""
    from leanrx.experiment.run_export import export_float32, export_precision, export_source_code, export_tflite
    from leanrx_core.errors import UserError

    if format not in ("onnx", "litert", "c"):
        raise UserError(f"format: '{format}' is not available; formats: onnx, litert, c")
    precisions = [name for name, chosen in (("int8", int8), ("fp16", fp16)) if chosen]
    _check_precisions(precisions, format, name or source)
    if name is not None and scenario is not None:
        raise UserError("scenario: a run has its own; leave it out")
    export_source = (
        _named_source(source, exports, scenario) if name is None else _run_source(source, name, exports, as_json)
    )
    exports_by_format = {"onnx": export_float32, "litert": export_tflite, "c": export_source_code}
    path, parity = exports_by_format[format](export_source)
    comparisons = [export_precision(export_source, path, precision) for precision in precisions]
    if as_json:
        rates = {comparison.precision: json_rows(comparison.rates) for comparison in comparisons}
        print(json.dumps({"folder": str(path.parent), **parity.as_json(), **rates}))
        return
    print(f"export: {path}")
    _print_parity(parity)
    for comparison in comparisons:
        _print_comparison(comparison)


def _check_precisions(precisions: Sequence[str], file_format: str, receiver: str) -> None:
    """Refuse precisions that a format or a receiver does not have."""
    from leanrx.experiment.run_export import CLASSICAL
    from leanrx_core.errors import UserError

    if not precisions:
        return
    if file_format == "c":
        raise UserError(
            f"{precisions[0]}: a C file computes in float32; its function leanrx_receive_int8 gives LLRs of 8 bits"
        )
    if file_format == "litert" and "fp16" in precisions:
        raise UserError("fp16: a LiteRT file computes in float32 or int8; give --format onnx for such a file")
    if receiver.lower() in CLASSICAL:
        raise UserError(f"{precisions[0]}: {receiver} has no network, and computes in float32; leave it out")


def _print_parity(parity: Parity) -> None:
    print(
        f"The file and the original agree on {parity.slots} new slots. The largest LLR difference is "
        f"{parity.max_llr_difference:.1e}, with LLRs up to {parity.max_llr:.1f}. {parity.differing_decisions} of "
        f"{parity.bits} bits are decided differently. Bit errors: {parity.bit_errors_original} (original), "
        f"{parity.bit_errors_exported} (file)."
    )


def _run_source(source: str, name: str, exports: Path | None, quiet: bool) -> ExportSource:
    from leanrx.experiment.run_export import ExportSource
    from leanrx_core.errors import UserError

    check_second_name(source, name)
    if exports is not None:
        raise UserError("exports: files of a run go to its folder exports; leave it out")
    loaded, _ = load_locked_run(Path(source), quiet=quiet)
    return ExportSource.of_run(loaded, name)


def _named_source(source: str, exports: Path | None, scenario: str | None) -> ExportSource:
    """A classical receiver of a scenario, or a receiver of the zoo."""
    from channels import Scenario
    from channels import scenario as shipped_scenario
    from leanrx.experiment.run_export import CLASSICAL, ExportSource
    from leanrx_core.errors import UserError

    if source.lower() not in CLASSICAL:
        if scenario is not None:
            raise UserError(f"scenario: '{source}' has its own; give one for lmmse or lmmse-irc alone")
        return _zoo_source(source, exports)
    if scenario is None:
        raise UserError(f"scenario: {source} needs one, for its covariance; give --scenario NAME or a YAML file")
    path, root = Path(scenario), exports or Path("exports")
    conditions = Scenario.load(path) if path.suffix in (".yaml", ".yml") else shipped_scenario(scenario)
    export_source = ExportSource.of_scenario(source.lower(), conditions, root)
    lock_folder(root)
    return export_source


def _zoo_source(source: str, exports: Path | None) -> ExportSource:
    from leanrx.experiment.run_export import CLASSICAL, ExportSource
    from leanrx_core.errors import UserError
    from receivers import zoo

    if Path(source).is_dir():
        raise UserError(f"name: give a receiver of {source} too, or 'smallest' for its smallest student")
    root = exports or Path("exports")
    try:
        export_source = ExportSource.of_zoo(source, root)
    except UserError as error:
        if source in zoo.names():
            raise
        raise UserError(f"{error}, {' or '.join(CLASSICAL)}") from None
    lock_folder(root)
    return export_source


def _print_comparison(comparison: PrecisionComparison) -> None:
    precision = comparison.precision
    print(f"{precision}: {comparison.path}. Its LLRs differ from float32. Bit errors of both files on the same slots:")
    point = ["interference_fraction", "sinr_db"]
    tables = {name: rows.set_index(point) for name, rows in comparison.rates.groupby("receiver")}
    reduced = tables.pop(comparison.path.name)
    (float32,) = tables.values()
    for (fraction, sinr_db), row in reduced.iterrows():
        reference = float32.loc[(fraction, sinr_db)]
        print(
            f"{sinr_db:>6g} dB, interference fraction {fraction:g}: BER {reference['ber']:.2e} "
            f"({reference['ber_low']:.2e} to {reference['ber_high']:.2e}) in float32, {row['ber']:.2e} "
            f"({row['ber_low']:.2e} to {row['ber_high']:.2e}) in {precision}, {row['slots']:.0f} slots"
        )
    for fraction, gap in comparison.losses.items():
        loss = "not reached by both" if math.isnan(gap.gap_db) else f"{gap.gap_db:+.2f} dB"
        interval = "" if math.isnan(gap.low_db) else f" (95 %: {gap.low_db:+.2f} to {gap.high_db:+.2f})"
        where = f"BER {comparison.target_ber:g}, interference fraction {fraction:g}"
        print(f"loss of {precision} at {where}: {loss}{interval}")
