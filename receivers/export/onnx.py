"""Export of a learned receiver to ONNX; the file is verified to compute the same LLRs.

The graph takes the network's features of slots (:meth:`receivers.neural.network.Network.features`), float32 ``(batch,
features, 14, subcarriers)``, and returns LLRs ``(batch, bits, 14, subcarriers)``. Batch and subcarriers are free. The
features are computed outside, because runtimes support real numbers only: DeepRx's raw channel estimate, and the whole
front end of a hybrid. The file's metadata contain the receiver's spec string and the description of its features, and
nothing of the machine that wrote it.
Depthwise convolutions are written in the form that runtimes execute fast, see :mod:`receivers.export.depthwise`.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

from channels import NUM_SYMBOLS, Slots, SlotStream
from leanrx_core.errors import UserError
from leanrx_core.files import replaced_folder
from receivers.export.depthwise import split_depthwise
from receivers.export.parity import MAX_LLR_DIFFERENCE, Parity, compare_at_points, total_parity
from receivers.neural.registry import family_of
from receivers.neural.weights import NeuralReceiver
from receivers.runtime.onnx_session import FEATURES_KEY, RECEIVER_KEY, OnnxSession


class OnnxReceiver:
    """An exported file as a receiver: a :class:`receivers.base.Receiver` on the CPU.

    Args:
        path: the ONNX file.
        name: name in tables.

    Raises:
        UserError: if the file is missing, ONNX Runtime cannot load it, or it needs other features.
    """

    def __init__(self, path: str | Path, name: str) -> None:
        self.name = name
        self._session = OnnxSession(path)
        network = family_of(self._session.receiver).network
        if self._session.feature_description != network.feature_description:
            raise UserError(f"{path}: needs other features than those of this version of leanrx; export again")
        self._features = network.features
        self.digest = self._session.digest

    def __call__(self, slots: Slots) -> torch.Tensor:
        features = self._features(slots).cpu().contiguous().numpy()
        return torch.from_numpy(self._session(features))


def export_onnx(
    receiver: NeuralReceiver,
    folder: str | Path,
    stream: SlotStream,
    sinr_db: tuple[float, ...],
    interference_fractions: tuple[float, ...] = (0.0,),
) -> Parity:
    """Write ``<name>.onnx`` and ``card.json`` into ``folder`` if the file computes the same LLRs on fresh slots.

    Args:
        receiver: the receiver to export.
        folder: replaced as a whole, and only on success.
        stream: slots for the comparison, one block per point.
        sinr_db, interference_fractions: points of the comparison.

    Returns:
        The comparison over all points.

    Raises:
        UserError: if LLRs or decisions differ; nothing is written then.

    Example:
        >>> from channels import SlotStream, scenario
        >>> from receivers import load
        >>> receiver = load("tdl-6prb-hybrid-w5-d5-kd")
        >>> stream = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=8, split="test", purpose="export")
        >>> parity = export_onnx(receiver, "exported", stream, sinr_db=(9.0,))  # doctest: +SKIP
        >>> parity.equal  # doctest: +SKIP
        True
    """
    with replaced_folder(folder) as complete:
        path = complete / f"{receiver.name}.onnx"
        _write(receiver, path, stream.scenario.grid.num_subcarriers)
        exported = OnnxReceiver(path, f"{receiver.name} (ONNX)")
        parities = compare_at_points(receiver, exported, stream, sinr_db, interference_fractions)
        total = total_parity(parities)
        card = _card(receiver, path, exported.digest, total, parities)
        (complete / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    return total


def _write(receiver: NeuralReceiver, path: Path, num_subcarriers: int) -> None:
    net = split_depthwise(copy.deepcopy(receiver.net).cpu())
    example = torch.ones(2, receiver.net.num_features, NUM_SYMBOLS, num_subcarriers)
    dynamic = ({0: torch.export.Dim("batch"), 3: torch.export.Dim("subcarriers")},)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                net,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=["features"],
                output_names=["llrs"],
                dynamic_shapes=dynamic,
            )
            assert program is not None
    finally:
        logger.setLevel(level)
    model = program.model_proto
    strip_provenance(model)
    metadata = {RECEIVER_KEY: receiver.card.receiver, FEATURES_KEY: receiver.net.feature_description}
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


def strip_provenance(message: Any) -> None:
    """Remove what exporters add for debugging: descriptions and metadata of every part of a model.

    They hold stack traces with the paths of the machine, and take several times the space of the weights.

    Args:
        message: an ONNX model or a part of one, changed in place.
    """
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                strip_provenance(part)


def omitted_part(receiver: str) -> str:
    """What an exported file leaves out, in words.

    Args:
        receiver: spec string.
    """
    return f"the computation of the features of {receiver} from a slot, such as a front end"


def _card(
    receiver: NeuralReceiver, path: Path, digest: str, total: Parity, parities: dict[str, Parity]
) -> dict[str, Any]:
    card = receiver.card
    return {
        "format": "onnx",
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": digest,
        "input": {
            "name": "features",
            "dtype": "float32",
            "shape": ["batch", receiver.net.num_features, NUM_SYMBOLS, "subcarriers"],
            "feature_description": receiver.net.feature_description,
        },
        "omitted": omitted_part(card.receiver),
        "output": {
            "name": "llrs",
            "dtype": "float32",
            "shape": ["batch", card.num_bits, NUM_SYMBOLS, "subcarriers"],
            "description": "log P(bit = 1) / P(bit = 0); positive means 1; negate for decoders of log P(0) / P(1)",
        },
        "receiver": card.model_dump(mode="json"),
        "parity": {
            "llr_tolerance": MAX_LLR_DIFFERENCE,
            **total.as_json(),
            "points": {name: parity.as_json() for name, parity in parities.items()},
        },
    }
