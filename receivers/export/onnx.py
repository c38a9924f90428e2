"""Export of a learned receiver to ONNX, with proof that the file computes the same LLRs.

The graph takes the network's features of slots (:meth:`receivers.neural.network.Network.features`), float32 ``(batch,
features, 14, subcarriers)``, and returns LLRs ``(batch, bits, 14, subcarriers)``. Batch and subcarriers are free. The
features are made outside, because runtimes want real numbers: DeepRx's raw channel estimate, and all of a hybrid's
front end. The file's metadata name its receiver's spec string and its features. Depthwise convolutions are written as
runtimes have them fast, see :mod:`receivers.export.depthwise`.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from channels import NUM_SYMBOLS, Slots, SlotStream
from leanrx_core.errors import UserError
from leanrx_core.files import TEMPORARY
from receivers.export.depthwise import split_depthwise
from receivers.export.parity import MAX_LLR_DIFFERENCE, Parity, compare
from receivers.neural.registry import family_of
from receivers.neural.weights import NeuralReceiver


class OnnxReceiver:
    """An exported file in ONNX Runtime on the CPU: a :class:`receivers.base.Receiver`.

    Args:
        path: the ONNX file.
        name: how tables call it.

    Raises:
        UserError: if the file is missing or ONNX Runtime cannot load it.
    """

    def __init__(self, path: str | Path, name: str) -> None:
        import onnxruntime

        self.name = name
        try:
            data = Path(path).read_bytes()
            self._session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        except OSError:
            raise UserError(f"{path}: missing; export the receiver again") from None
        except Exception as error:
            raise UserError(f"{path}: ONNX Runtime cannot load it ({type(error).__name__}); export again") from None
        spec = self._session.get_modelmeta().custom_metadata_map.get("receiver")
        if spec is None:
            raise UserError(f"{path}: does not name its receiver; export again")
        family = family_of(spec).network
        if self._session.get_modelmeta().custom_metadata_map.get("features") != family.feature_description:
            raise UserError(f"{path}: made for other features than those of this version of leanrx; export again")
        self._features = family.features
        self.digest = hashlib.sha256(data).hexdigest()

    def __call__(self, slots: Slots) -> torch.Tensor:
        inputs = self._features(slots).cpu().contiguous().numpy()
        return torch.from_numpy(self._session.run(None, {"features": inputs})[0])


def export_onnx(
    receiver: NeuralReceiver,
    folder: str | Path,
    stream: SlotStream,
    sinr_db: tuple[float, ...],
    interference_fractions: tuple[float, ...] = (0.0,),
) -> Parity:
    """Write ``<name>.onnx`` and ``card.json`` into ``folder``, if the file proves equal on fresh slots.

    Args:
        receiver: what to export.
        folder: replaced as a whole, and only on success.
        stream: slots for the proof, one block per point.
        sinr_db, interference_fractions: points of the proof.

    Raises:
        UserError: if LLRs or decisions differ; nothing is written then.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=TEMPORARY) as work:
        complete = Path(work) / "complete"
        complete.mkdir()
        path = complete / f"{receiver.name}.onnx"
        _write(receiver, path, stream.scenario.grid.num_subcarriers)
        exported = OnnxReceiver(path, f"{receiver.name} (ONNX)")
        points = [(share, s) for share in interference_fractions for s in sinr_db]
        proofs = {
            f"{s:g} dB, interference share {share:g}": compare(receiver, exported, stream.at_sinr(s, share).block(i))
            for i, (share, s) in enumerate(points)
        }
        for point, proof in proofs.items():
            if not proof.equal:
                raise UserError(
                    f"export: {receiver.name} as ONNX differs from what was tested at {point}: largest LLR difference "
                    f"{proof.max_llr_difference:.3g} of {proof.max_llr:.3g}, "
                    f"{proof.differing_decisions} of {proof.bits} bits decided differently; nothing was written"
                )
        total = _total(list(proofs.values()))
        card = _card(receiver, path, exported.digest, total, proofs)
        (complete / "card.json").write_text(json.dumps(card, indent=2) + "\n")
        if folder.exists():
            folder.rename(Path(work) / "old")
        complete.rename(folder)
    return total


def _write(receiver: NeuralReceiver, path: Path, num_subcarriers: int) -> None:
    net = split_depthwise(copy.deepcopy(receiver.net).cpu())
    example = torch.ones(2, receiver.net.num_features, NUM_SYMBOLS, num_subcarriers)
    dynamic = ({0: torch.export.Dim("batch"), 3: torch.export.Dim("subcarriers")},)
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
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
            program.model.metadata_props.update(
                receiver=receiver.card.receiver, features=receiver.net.feature_description
            )
            program.save(str(path), external_data=False)
    finally:
        quiet.setLevel(level)


def _total(proofs: list[Parity]) -> Parity:
    return Parity(
        slots=sum(p.slots for p in proofs),
        bits=sum(p.bits for p in proofs),
        max_llr_difference=max(p.max_llr_difference for p in proofs),
        max_llr=max(p.max_llr for p in proofs),
        differing_decisions=sum(p.differing_decisions for p in proofs),
        bit_errors_original=sum(p.bit_errors_original for p in proofs),
        bit_errors_exported=sum(p.bit_errors_exported for p in proofs),
    )


def _card(
    receiver: NeuralReceiver, path: Path, digest: str, total: Parity, proofs: dict[str, Parity]
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
            "content": receiver.net.feature_description,
        },
        "output": {
            "name": "llrs",
            "dtype": "float32",
            "shape": ["batch", card.num_bits, NUM_SYMBOLS, "subcarriers"],
            "content": "log P(bit = 1) / P(bit = 0); positive means 1; negate for decoders of log P(0) / P(1)",
        },
        "receiver": card.model_dump(mode="json"),
        "parity": {
            "llr_tolerance": MAX_LLR_DIFFERENCE,
            **total.as_json(),
            "points": {name: proof.as_json() for name, proof in proofs.items()},
        },
    }
