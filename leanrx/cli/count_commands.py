"""``leanrx count``: operations and bytes of a receiver."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leanrx.cli.options import JsonOption

if TYPE_CHECKING:
    from energy.counting.profile import OperationProfile
    from energy.estimation.estimate import Estimate


def count(
    receiver: Annotated[
        str,
        typer.Argument(
            help="deeprx-w0.5-d5, hybrid-w16-d4, ..., LS, LMMSE, LMMSE-IRC, or an ONNX file.", metavar="RECEIVER"
        ),
    ],
    prb: Annotated[int | None, typer.Option(help="Physical resource blocks. The default is 26, or the file's.")] = None,
    rx: Annotated[int | None, typer.Option(help="Receive antennas. The default is 2, or the file's.")] = None,
    bits: Annotated[int | None, typer.Option(help="Bits per QAM symbol. The default is 4, or the file's.")] = None,
    pilots: Annotated[
        str | None,
        typer.Option(metavar="SYMBOLS", help="OFDM symbols with pilots: 2, or 2,11. The default is 2,11."),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, max=2**16, help="Slots per call. The default is 1.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of a network's values: fp32, bf16, fp16 or int8. The default is fp32.")
    ] = None,
    training: Annotated[bool, typer.Option("--training", help="Count a training step, not a forward pass.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Print one line per layer.")] = False,
    device: Annotated[
        str | None, typer.Option(help="Estimate time and energy on a device: host, generic, raspberry-pi-4, ...")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count parameters, MACs, FLOPs (2 per MAC) of a call of a receiver, and the bytes that it moves."""
    from energy.estimation.estimators import ESTIMATORS, FLOP_ESTIMATORS
    from energy.hardware.detect import device as device_record
    from leanrx_core.errors import UserError

    if layers and as_json:
        raise UserError("layers: --json lists all layers; leave it out")
    patterns = None if pilots is None else [_symbols(pilots)]
    if receiver.endswith(".onnx"):
        network_options = {
            "rx": rx,
            "bits": bits,
            "pilots": pilots,
            "precision": precision,
            "training": training or None,
        }
        profile = _count_file(receiver, prb, batch, network_options)
    else:
        profile = _count_receiver(receiver, prb, rx, bits, patterns, batch or 1, precision, training)
    estimates = []
    if device is not None:
        estimators = FLOP_ESTIMATORS if profile.method == "formula" else ESTIMATORS
        estimates = [e.estimate(profile, device_record(device)) for e in estimators]
    if as_json:
        rows = {"estimates": [_estimate_row(e) for e in estimates]} if device is not None else {}
        print(json.dumps({**profile.as_json(), **rows}))
        return
    _print_profile(profile, layers)
    for e in estimates:
        time_ms = "" if math.isnan(e.duration_s) else f"{1e3 * e.duration_s:.3g} ms"
        energy_mj = "no energy" if math.isnan(e.energy_j) else f"{1e3 * e.energy_j:.3g} mJ"
        print(f"{e.method:<20} {time_ms:>16} {energy_mj} (modelled: {e.assumption})")


def _estimate_row(estimate: Estimate) -> dict[str, Any]:
    """Fields of an estimate for JSON, which has no NaN."""
    values = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(estimate).items()}
    return values | {"provenance": "modelled"}


def _symbols(text: str) -> list[int]:
    """OFDM symbols from ``"2,11"``."""
    from leanrx_core.errors import UserError

    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() and len(part) < 4 for part in parts):
        raise UserError(f"pilots: {text[:40]!r} is not a list of OFDM symbols; give numbers from 0 to 13, such as 2,11")
    return [int(part) for part in parts]


def _count_receiver(
    receiver: str,
    prb: int | None,
    rx: int | None,
    bits: int | None,
    patterns: list[list[int]] | None,
    batch: int,
    precision: str | None,
    training: bool,
) -> OperationProfile:
    from channels import Grid
    from energy.counting.counter import CLASSICAL, depends_on_pilots
    from energy.counting.counter import count as count_receiver
    from leanrx_core.errors import UserError

    if bits not in (None, 2, 4, 6, 8):
        raise UserError(f"bits: {bits} is not a modulation; give 2, 4, 6 or 8")
    if precision is not None and receiver.removesuffix(" max-log") in CLASSICAL:
        raise UserError(f"precision: {receiver} is a classical receiver and computes in fp32; leave it out")
    if patterns is not None and not depends_on_pilots(receiver):
        raise UserError(f"pilots: they have no effect on the operations of {receiver}; leave them out")
    settings = {"num_prb": prb, "num_rx": rx, "pilot_patterns": patterns}
    grid = Grid.parse({key: value for key, value in settings.items() if value is not None}, "count")
    return count_receiver(
        receiver,
        grid,
        num_bits=bits or 4,
        batch_slots=batch,
        precision="fp32" if precision is None else precision,
        training=training,
    )


def _count_file(
    path: str,
    prb: int | None,
    batch: int | None,
    network_options: Mapping[str, object],
) -> OperationProfile:
    from channels import Grid
    from energy.counting.onnx_file import count_onnx, read_interface
    from leanrx_core.errors import UserError

    for option, value in network_options.items():
        if value is not None:
            raise UserError(f"{option}: the operations of {path} are those of the file; leave it out")
    sizes = read_interface(path).input_sizes
    if len(sizes) not in (4, 5):
        if 0 in sizes:
            raise UserError(
                f"{path}: its input of {len(sizes)} sizes leaves some of them free; export it with fixed ones"
            )
        if prb is not None or batch is not None:
            raise UserError(f"{'batch' if prb is None else 'prb'}: the input of {path} is no slot; leave it out")
        return count_onnx(path)
    subcarriers = Grid.parse({} if prb is None else {"num_prb": prb}, "count").num_subcarriers
    shape = [
        batch or sizes[0] or 1,
        sizes[1],
        sizes[2] or 14,
        subcarriers if prb or not sizes[3] else sizes[3],
        *sizes[4:],
    ]
    for option, axis, unit in (("batch", 0, "slots"), ("prb", 3, "subcarriers")):
        if sizes[axis] and sizes[axis] != shape[axis]:
            raise UserError(f"{option}: {path} is made for {sizes[axis]} {unit}; leave it out")
    if not sizes[1]:
        raise UserError(f"{path}: its input leaves the number of channels free; export it with a fixed one")
    return count_onnx(path, shape)


def _verdict(profile: OperationProfile) -> str:
    if profile.agreement == "part":
        return f"does not know {', '.join(profile.cross_check_gaps)}"
    return "agrees" if profile.counters_agree else "DISAGREES"


def _print_profile(profile: OperationProfile, layers: bool) -> None:
    slots = "1 slot" if profile.batch_slots == 1 else f"{profile.batch_slots} slots"
    print(f"{profile.name}: {slots} in {profile.precision}, counted by {profile.method}")
    print(f"parameters           {profile.parameters:>16,}")
    print(f"MACs                 {profile.macs:>16,}")
    if profile.method == "operators + formula":
        print(f"  by formula         {profile.formula_macs:>16,}")
    print(f"FLOPs (2 per MAC)    {profile.flops:>16,}")
    if profile.cross_check_flops is not None:
        print(f"FLOPs by fvcore      {profile.cross_check_flops:>16,}  {_verdict(profile)}, forward, without formula")
        print(f"batch-norm elements  {profile.batch_norm_elements:>16,}  fold into convolutions at inference")
    elif profile.cross_check_gaps:
        print(f"not cross-checked    {', '.join(profile.cross_check_gaps)}")
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
    if profile.omitted:
        print(f"not counted          {profile.omitted}")
    for sentence in profile.disagreements:
        print(f"DISAGREES            {sentence}")
    for name in profile.uncounted:
        print(f"bytes unknown        {name}")
