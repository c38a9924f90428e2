"""Exported files of lower precision, beside the float32 file: written, and their errors counted on the same slots.

Only the network of a receiver computes in the lower precision. All other operators stay in float32, such as a front
end. They carry channel estimates, powers and LLRs, whose range is too large, and they cost little. Such a file differs
from the tested receiver. So the errors of both files are counted on the same slots, and a report holds both with
intervals.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from channels import Stream
from leanrx_core.files import TEMPORARY, write_atomic
from receivers.base import Receiver
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.rates import rates
from receivers.evaluation.required_sinr import SinrGap, gap_db
from receivers.evaluation.stopping import Evaluation
from receivers.export.exported_receiver import ExportedReceiver

_POINT_COLUMNS = ["receiver", "interference_fraction", "sinr_db", "slots", "bits", "bit_errors"]
_POINT_COLUMNS += ["ber", "ber_low", "ber_high"]


@dataclass(frozen=True)
class PrecisionComparison:
    """A file of lower precision compared with its float32 file.

    Attributes:
        path: of the file.
        precision: ``int8`` or ``fp16``.
        rates: of both on the same slots, see :func:`receivers.evaluation.rates.rates`; ``receiver`` is the file's name.
        target_ber: BER of the losses.
        losses: additional SINR that the file needs, by interference fraction; NaN where a curve does not reach the
            BER.
    """

    path: Path
    precision: str
    rates: pd.DataFrame
    target_ber: float
    losses: dict[float, SinrGap]


@dataclass(frozen=True)
class PrecisionForm:
    """How a file of lower precision is written.

    Attributes:
        precision: in the name of the file.
        description: for its report.
        write: writes the file, given the float32 file and the path to write.
        settings: further entries of the report.
    """

    precision: str
    description: str
    write: Callable[[Path, Path], None]
    settings: dict[str, object]


def export_reduced(
    path: Path, form: PrecisionForm, stream: Stream, evaluation: Evaluation, target_ber: float
) -> PrecisionComparison:
    """Write ``<name>-<precision>`` next to a file, and a JSON file with the errors of both.

    Args:
        path: the float32 file.
        form: of the file.
        stream, evaluation: slots and points of the test.
        target_ber: BER at which the SINR loss is determined.

    Raises:
        UserError: if a file cannot be loaded.
    """
    target = path.with_name(f"{path.stem}-{form.precision}{path.suffix}")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as work:
        temporary = Path(work) / target.name
        form.write(path, temporary)
        receivers = [ExportedReceiver(path, path.name), ExportedReceiver(temporary, target.name)]
        counts_path = Path(work) / "ber.parquet"
        for _ in count_errors(receivers, stream, evaluation, counts_path):
            pass
        counts = pd.read_parquet(counts_path)
        losses = {
            fraction: gap_db(counts[counts["interference_fraction"] == fraction], target.name, path.name, target_ber)
            for fraction in evaluation.interference_fractions
        }
        temporary.rename(target)
    comparison = PrecisionComparison(target, form.precision, rates(counts), target_ber, losses)
    report = _report(comparison, form, receivers)
    write_atomic(target.with_suffix(".json"), json.dumps(report, indent=2) + "\n")
    return comparison


def network_nodes(nodes: Sequence[Any]) -> list[str]:
    """Names of the nodes of a graph's network: convolutions, activations, and concatenations of convolutions only."""
    results = {node.output[0] for node in nodes if node.op_type == "Conv"}
    return [
        node.name
        for node in nodes
        if node.op_type in ("Conv", "Relu") or (node.op_type == "Concat" and set(node.input) <= results)
    ]


def _report(comparison: PrecisionComparison, form: PrecisionForm, receivers: Sequence[Receiver]) -> dict[str, object]:
    float32, reduced = receivers
    losses = [{"interference_fraction": fraction, **asdict(gap)} for fraction, gap in comparison.losses.items()]
    return {
        "format": form.description,
        "file": reduced.name,
        "bytes": comparison.path.stat().st_size,
        "sha256": reduced.digest,
        "of": {"file": float32.name, "sha256": float32.digest},
        **form.settings,
        "target_ber": comparison.target_ber,
        "losses": [{k: None if math.isnan(v) else v for k, v in loss.items()} for loss in losses],
        "points": comparison.rates[_POINT_COLUMNS].to_dict("records"),
    }
