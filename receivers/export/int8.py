"""Exported receivers in 8-bit integers, and what that costs in bit errors.

Convolutions compute in integers, in ONNX's QDQ form: weights with a scale per channel, activations with a scale per
tensor from the values on calibration slots. Additions stay in float32: they carry channel estimates, powers and LLRs,
whose range no 8 bits hold, and they cost little. Weights use 7 of their bits, so that sums of two products fit the 16
bits in which CPUs without VNNI add them, and the file decides alike there. Such a file is not equal to what was tested:
its errors are counted beside those of the float32 file, on the same slots, and its report holds both with intervals.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from channels import Stream
from leanrx_core.files import TEMPORARY, write_atomic
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.rates import rates
from receivers.evaluation.required_sinr import SinrGap, gap_db
from receivers.evaluation.stopping import Evaluation
from receivers.export.onnx import OnnxReceiver


def quantise(path: Path, to: Path, features: torch.Tensor) -> None:
    """Write the int8 form of an exported file.

    Args:
        path: the float32 file.
        features: of calibration slots, float32 ``(B, features, 14, subcarriers)``; the more, the slower.
    """
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._left = [{"features": slot[None].numpy()} for slot in features.cpu().contiguous()]

        def get_next(self) -> object:
            return self._left.pop() if self._left else None

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it asks to be run after a pass that changes nothing here
    try:
        quantization.quantize_static(
            path,
            to,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=_in_integers(onnx.load(path).graph.node),
        )
    finally:
        logging.getLogger().setLevel(level)


def _in_integers(nodes: Sequence[Any]) -> list[str]:
    """Convolutions, what activates them, and what joins nothing but their results."""
    results = {node.output[0] for node in nodes if node.op_type == "Conv"}
    return [
        node.name
        for node in nodes
        if node.op_type in ("Conv", "Relu") or (node.op_type == "Concat" and set(node.input) <= results)
    ]


@dataclass(frozen=True)
class Int8Comparison:
    """An int8 file beside the float32 file that it was made from.

    Attributes:
        path: of the int8 file.
        rates: of both on the same slots, see :func:`receivers.evaluation.rates.rates`; ``receiver`` is the file's name.
        target_ber: BER of the losses.
        losses: SINR that the int8 file needs more, by interference share; NaN where a curve does not reach the BER.
    """

    path: Path
    rates: pd.DataFrame
    target_ber: float
    losses: dict[float, SinrGap]


def export_int8(
    path: Path, calibration: torch.Tensor, stream: Stream, evaluation: Evaluation, target_ber: float
) -> Int8Comparison:
    """Write ``<name>-int8.onnx`` beside an exported ``<name>.onnx``, and ``<name>-int8.json`` with the errors of both.

    Args:
        path: the float32 file.
        calibration: features, see :func:`quantise`; of slots that nothing is tested on.
        stream, evaluation: slots and points of the count.
        target_ber: BER at which the loss in SINR is read.

    Raises:
        UserError: if a file cannot be loaded.
    """
    to = path.with_name(f"{path.stem}-int8.onnx")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as work:
        made = Path(work) / to.name
        quantise(path, made, calibration)
        both = [OnnxReceiver(path, path.name), OnnxReceiver(made, to.name)]
        counts_path = Path(work) / "ber.parquet"
        for _ in count_errors(both, stream, evaluation, counts_path):
            pass
        counts = pd.read_parquet(counts_path)
        losses = {
            share: gap_db(counts[counts["interference_fraction"] == share], to.name, path.name, target_ber)
            for share in evaluation.interference_fractions
        }
        made.rename(to)
    found = Int8Comparison(to, rates(counts), target_ber, losses)
    write_atomic(to.with_suffix(".json"), json.dumps(_report(found, both, len(calibration)), indent=2) + "\n")
    return found


def _report(found: Int8Comparison, both: list[OnnxReceiver], slots: int) -> dict[str, object]:
    float32, int8 = both
    losses = [{"interference_fraction": share, **asdict(gap)} for share, gap in found.losses.items()]
    shown = [
        "receiver",
        "interference_fraction",
        "sinr_db",
        "slots",
        "bits",
        "bit_errors",
        "ber",
        "ber_low",
        "ber_high",
    ]
    return {
        "format": "onnx, convolutions in int8 in QDQ form: weights of 7 bits per channel, activations of 8 per tensor",
        "file": int8.name,
        "bytes": found.path.stat().st_size,
        "sha256": int8.digest,
        "of": {"file": float32.name, "sha256": float32.digest},
        "calibration_slots": slots,
        "target_ber": found.target_ber,
        "losses": [{k: None if math.isnan(v) else v for k, v in loss.items()} for loss in losses],
        "points": found.rates[shown].to_dict("records"),
    }
