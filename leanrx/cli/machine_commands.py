"""``leanrx doctor``: what this machine is and what it can measure."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from leanrx.cli.options import JsonOption


def doctor(
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Time the machine again. Do this when it is idle.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what this machine is, what it can measure, and how to enable the rest. Rates are timed once and kept."""
    from energy.hardware.calibration import calibration_path
    from energy.hardware.doctor import report

    result = report(recalibrate)
    if as_json:
        print(json.dumps(result))
        return
    device = result["device"]
    print(f"{result['platform']}, Python {result['python']}")
    print(f"CPU: {device['name']}, {device['cores']} cores; {device['source']}")
    print(
        f"     matrix products at {device['matmul_flops_per_s'] / 1e9:.0f} GFLOP/s, copies at "
        f"{device['copy_bytes_per_s'] / 1e9:.1f} GB/s on {result['threads']} threads; stored in {calibration_path()}"
    )
    print("packages: " + ", ".join(f"{n} {v or '(not installed)'}" for n, v in result["packages"].items()))
    for check in result["instruments"]:
        print(f"[{'x' if check['usable'] else ' '}] {check['name']}: {check['detail']}")
        if check["remedy"]:
            print(f"      {check['remedy']}")
