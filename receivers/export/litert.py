"""Export of a receiver to LiteRT (TensorFlow Lite), from received samples to LLRs.

The ``.tflite`` file has the graph and the inputs of the ONNX file, see :mod:`receivers.export.onnx`, for one slot at a
time. TensorFlow converts it. Where the number of resource blocks is free, a program resizes the inputs before it
allocates memory. The spec string of the receiver and the slots of the file stand in an archive at its end, as
TensorFlow Lite has it for files that belong to a model.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
import zipfile
from dataclasses import asdict
from pathlib import Path

import onnx

from channels import SlotStream
from channels.grid import SUBCARRIERS_PER_PRB
from leanrx_core.errors import UserError
from leanrx_core.files import replaced_folder
from receivers.base import Receiver
from receivers.export.export_card import file_name
from receivers.export.exported_receiver import ExportedReceiver
from receivers.export.onnx import graph_card
from receivers.export.parity import Parity, compare_at_points, total_parity
from receivers.runtime.litert_session import METADATA_FILE, MODEL_DIGEST_KEY
from receivers.runtime.slot_format import RECEIVER_KEY, SLOTS_KEY, SlotFormat
from receivers.runtime.standard_error import without_lines

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of the metadata, so that equal receivers give equal files."""


def export_litert(
    receiver: Receiver,
    graph: str | Path,
    folder: str | Path,
    stream: SlotStream,
    sinr_db: tuple[float, ...],
    interference_fractions: tuple[float, ...] = (0.0,),
) -> Parity:
    """Write ``<name>.tflite`` and ``card.json`` into ``folder`` if the file computes the same LLRs on fresh slots.

    Args:
        receiver: a network, LMMSE or LMMSE-IRC.
        graph: its ONNX file, see :func:`receivers.export.onnx.write_graph`.
        folder: replaced as a whole, and only on success.
        stream: slots for the comparison, one block per point. Its grid is that of the graph.
        sinr_db, interference_fractions: points of the comparison.

    Returns:
        The comparison over all points.

    Raises:
        UserError: if TensorFlow is not installed, an operator has no form in LiteRT, or LLRs or decisions differ;
            nothing is written then.
    """
    with replaced_folder(folder) as complete:
        path = complete / f"{file_name(receiver)}.tflite"
        path.write_bytes(litert_file(onnx.load(graph)))
        exported = ExportedReceiver(path, f"{receiver.name} (LiteRT)")
        parities = compare_at_points(receiver, exported, stream, sinr_db, interference_fractions)
        card = graph_card("litert", receiver, stream.scenario, exported, parities)
        (complete / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    return total_parity(parities)


def litert_file(model: onnx.ModelProto) -> bytes:
    """The LiteRT file of an exported ONNX graph, with the graph's metadata.

    Raises:
        UserError: as :func:`convert`.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    slots = SlotFormat.from_json(json.loads(metadata[SLOTS_KEY]))
    num_subcarriers = SUBCARRIERS_PER_PRB * slots.max_prb if slots.min_prb == slots.max_prb else None
    return with_metadata(convert(model, num_subcarriers), metadata[RECEIVER_KEY], slots)


def convert(model: onnx.ModelProto, num_subcarriers: int | None = None) -> bytes:
    """The LiteRT model of an ONNX graph. Convolutions that are quantised there have the same scales here.

    Args:
        model: the graph.
        num_subcarriers: of all slots; free if not given.

    Raises:
        UserError: if TensorFlow is not installed, or the graph has no form in LiteRT.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with without_lines(""), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import tensorflow as tf

            from receivers.export.tensorflow_graph import TensorflowGraph
        except ImportError:
            raise UserError("format: litert needs TensorFlow; run: pip install 'leanrx[edge]'") from None
        module = TensorflowGraph(model, num_subcarriers)
        functions = [module.receive.get_concrete_function()]
        converter = tf.lite.TFLiteConverter.from_concrete_functions(functions, module)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return bytes(converter.convert())


def with_metadata(model: bytes, spec: str, slots: SlotFormat) -> bytes:
    """A file: the model, and an archive with its description.

    Args:
        model: of :func:`convert`.
        spec: spec string of the receiver.
        slots: that the file takes.
    """
    digest = hashlib.sha256(model).hexdigest()
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a") as archive:
        metadata = {RECEIVER_KEY: spec, SLOTS_KEY: asdict(slots), MODEL_DIGEST_KEY: digest}
        archive.writestr(zipfile.ZipInfo(METADATA_FILE, _EPOCH), json.dumps(metadata))
    return file.getvalue()
