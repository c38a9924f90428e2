"""``leanrx count``: operations and bytes of a receiver."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from leanrx.cli.options import JsonOption

if TYPE_CHECKING:
    from energy.counting.profile import OperationProfile


def count(
    receiver: Annotated[
        str, typer.Argument(help="deeprx-w0.5-d5, hybrid-w16-d4, ..., LS, LMMSE, LMMSE-IRC, or an ONNX file.")
    ],
    prb: Annotated[int, typer.Option(help="Physical resource blocks.")] = 26,
    rx: Annotated[int, typer.Option(help="Receive antennas.")] = 2,
    bits: Annotated[int, typer.Option(help="Bits per QAM symbol.")] = 4,
    batch: Annotated[int, typer.Option(min=1, max=2**16, help="Slots per call, for bytes.")] = 1,
    precision: Annotated[
        str, typer.Option(help="Precision of weights and activations: fp32, bf16, fp16 or int8.")
    ] = "fp32",
    training: Annotated[bool, typer.Option("--training", help="Count a training step, not a forward pass.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Print one line per layer.")] = False,
    device: Annotated[
        str | None, typer.Option(help="Estimate time and energy on a device: host, generic, raspberry-pi-4, ...")
    ] = None,
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
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(e).items()}
            | {"provenance": "modelled"}
            for e in estimates
        ]
        print(json.dumps({**profile.as_json(), **({"estimates": rows} if device else {})}))
        return
    _print_profile(profile, layers)
    for e in estimates:
        time_ms = "" if math.isnan(e.duration_s) else f"{1e3 * e.duration_s:.3g} ms"
        energy_mj = "no energy" if math.isnan(e.energy_j) else f"{1e3 * e.energy_j:.3g} mJ"
        print(f"{e.method:<20} {time_ms:>16} {energy_mj} (modelled: {e.assumption})")


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
