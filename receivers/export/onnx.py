"""Export of a receiver to ONNX, from received samples to LLRs; the file is verified to compute the same LLRs.

The graph is :class:`receivers.export.real_receiver.RealReceiver`. Its inputs are real and imaginary parts of the
received grid and of the pilots, noise power and modulation; its output is LLRs. Batch and number of resource blocks are
free; a classical receiver takes the bandwidth of its scenario. The subcarrier spacing and the places of the pilots are
those of the grid, and stand in the file's metadata with the receiver's spec string. Nothing of the machine that wrote
it is in the file.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import onnx
import torch

from channels import NUM_SYMBOLS, Grid, Scenario, SlotStream
from channels.pilots import pilot_layouts
from leanrx_core.files import replaced_folder
from receivers.base import Receiver
from receivers.classical.robust_estimation import WINDOW_PRB
from receivers.export.constant_shapes import make_shapes_constant
from receivers.export.export_card import OUTPUT, file_name, parity_entry, receiver_entry
from receivers.export.exported_receiver import ExportedReceiver
from receivers.export.parity import Parity, compare_at_points, total_parity
from receivers.export.real_receiver import RealReceiver, num_llrs
from receivers.neural.hybrid import HybridNetwork
from receivers.neural.weights import NeuralReceiver
from receivers.runtime.graph_session import GraphSession
from receivers.runtime.slot_format import INPUTS, RECEIVER_KEY, SLOTS_KEY, SlotFormat

_OPSET = 18


def export_onnx(
    receiver: Receiver,
    folder: str | Path,
    stream: SlotStream,
    sinr_db: tuple[float, ...],
    interference_fractions: tuple[float, ...] = (0.0,),
) -> Parity:
    """Write ``<name>.onnx`` and ``card.json`` into ``folder`` if the file computes the same LLRs on fresh slots.

    Args:
        receiver: a network, LMMSE or LMMSE-IRC.
        folder: replaced as a whole, and only on success.
        stream: slots for the comparison, one block per point. Its grid sets antennas, spacing and pilots of the file.
        sinr_db, interference_fractions: points of the comparison.

    Returns:
        The comparison over all points.

    Raises:
        UserError: if the receiver does not fit the grid, or LLRs or decisions differ; nothing is written then.

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
        path = complete / f"{file_name(receiver)}.onnx"
        write_graph(receiver, path, stream.scenario.grid)
        exported = ExportedReceiver(path, f"{receiver.name} (ONNX)")
        parities = compare_at_points(receiver, exported, stream, sinr_db, interference_fractions)
        card = graph_card("onnx", receiver, stream.scenario, exported, parities)
        (complete / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    return total_parity(parities)


def write_graph(receiver: Receiver, path: Path, grid: Grid) -> None:
    """Write the ONNX file of a receiver without a proof.

    Args:
        receiver: the receiver.
        path: of the file.
        grid: antennas, spacing and pilots of the slots.

    Raises:
        UserError: if the receiver does not fit the grid.
    """
    module, num_bits = RealReceiver(receiver, grid).eval(), num_llrs(receiver)
    example = _example(grid, num_bits, 2)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example,
            str(path),
            dynamo=False,  # the newer exporter takes minutes for free sizes
            opset_version=_OPSET,
            input_names=list(INPUTS),
            output_names=["llrs"],
            dynamic_axes={
                "y": {0: "batch", 3: "subcarriers"},
                "pilots": {0: "batch", 2: "subcarriers"},
                "noise_plus_interference_var": {0: "batch"},
                "bits_per_symbol": {0: "batch"},
                "llrs": {0: "batch", 3: "subcarriers"},
            },
        )
    model = onnx.load(path)
    strip_provenance(model)
    is_static = bool(slot_format(receiver, grid).max_prb)
    wider = grid if is_static else grid.model_copy(update={"num_prb": grid.num_prb + 1, "subcarriers": None})
    inputs = {value.name for value in model.graph.input}
    examples = [example, _example(wider, num_bits, 3)]
    make_shapes_constant(
        model, [{n: x.numpy() for n, x in zip(INPUTS, xs, strict=True) if n in inputs} for xs in examples]
    )
    slots = asdict(slot_format(receiver, grid))
    spec = receiver.card.receiver if isinstance(receiver, NeuralReceiver) else receiver.name
    onnx.helper.set_model_props(model, {RECEIVER_KEY: spec, SLOTS_KEY: json.dumps(slots)})
    onnx.save(model, path)


def slot_format(receiver: Receiver, grid: Grid) -> SlotFormat:
    """The slots that a graph of a receiver takes.

    Args:
        receiver: the receiver.
        grid: that it is exported for.
    """
    fewest, most = 1, 0
    if not isinstance(receiver, NeuralReceiver):
        fewest = most = grid.num_prb
    elif isinstance(receiver.net, HybridNetwork):
        fewest, most = min(WINDOW_PRB, grid.num_prb), grid.num_prb if grid.num_prb < WINDOW_PRB else 0
    pilots = tuple(
        (tuple(layout.symbols), tuple(i for i, has_pilot in enumerate(layout.has_pilot) if has_pilot))
        for layout in pilot_layouts(grid)
    )
    return SlotFormat(
        num_rx=grid.num_rx,
        num_bits=num_llrs(receiver),
        subcarrier_spacing_hz=grid.subcarrier_spacing_hz,
        min_prb=fewest,
        max_prb=most,
        pilots=pilots,
        whole_prb=grid.subcarriers is None,
    )


def _example(grid: Grid, num_bits: int, batch: int) -> tuple[torch.Tensor, ...]:
    """Inputs of some slots; the values do not matter."""
    shape = (NUM_SYMBOLS, grid.num_subcarriers, 2)
    y, pilots = torch.ones(batch, grid.num_rx, *shape), torch.ones(batch, *shape)
    return y, pilots, torch.ones(batch), torch.full((batch,), num_bits)


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


def graph_card(
    file_format: str,
    receiver: Receiver,
    scenario: Scenario,
    exported: ExportedReceiver,
    parities: dict[str, Parity],
) -> dict[str, Any]:
    """The card of a file that holds a graph.

    Args:
        file_format: ``onnx`` or ``litert``.
        receiver: that the file was exported from.
        scenario: of the comparison, whose grid the file is made for.
        exported: the file.
        parities: comparisons by point.
    """
    inputs = cast(GraphSession, exported.session).inputs
    return {
        "format": file_format,
        "file": exported.path.name,
        "bytes": exported.path.stat().st_size,
        "sha256": exported.digest,
        "inputs": inputs,
        "slots": asdict(slot_format(receiver, scenario.grid)),
        "output": {
            "name": "llrs",
            "dtype": "float32",
            "shape": [inputs["y"]["shape"][0], num_llrs(receiver), NUM_SYMBOLS, inputs["y"]["shape"][3]],
            "description": OUTPUT,
        },
        "receiver": receiver_entry(receiver, scenario),
        "parity": parity_entry(parities),
    }
