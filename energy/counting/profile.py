"""What some computation does to a machine, layer by layer: MACs, and bytes that move.

A *layer* is one executed operator. Bytes are those of its operands: weights read, activations read, results written,
each once and as if nothing stayed in a cache, so that they bound the traffic between an operator and its surroundings.
Operators that only change a view move nothing. FLOP = 2 x MAC, as everywhere in leanrx.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

PHASES = ("forward", "backward", "optimiser")
KINDS = ("dense", "grouped", "elementwise")


@dataclass(frozen=True)
class Layer:
    """One operator of a network.

    Attributes:
        name: path of the module, or of the graph's node.
        operator: as torch or ONNX call it.
        kind: ``dense`` (convolutions over all channels, matrix products), ``grouped`` (depthwise and grouped
            convolutions) or ``elementwise`` (counts no MAC).
        phase: ``forward``, ``backward`` or ``optimiser``.
        parameters: trained values that the operator holds; in the forward phase only.
        macs: multiply-accumulates.
        weight_bytes: of parameters and constants read.
        read_bytes, written_bytes: of activations (gradients, moments) read and of results written.
    """

    name: str
    operator: str
    kind: str
    phase: str
    parameters: int
    macs: int
    weight_bytes: int
    read_bytes: int
    written_bytes: int

    @property
    def flops(self) -> int:
        return 2 * self.macs

    @property
    def bytes(self) -> int:
        """All that moves."""
        return self.weight_bytes + self.read_bytes + self.written_bytes


@dataclass(frozen=True)
class Work:
    """One call: a batch of slots through a network, or one training step on it.

    Attributes:
        name: of the network or file.
        precision: ``fp32``, ``bf16``, ``fp16`` or ``int8``; of a file, that of the weights of most MACs.
        batch_slots: slots of the call.
        layers: in the order of execution.
        disagreements: where two counters differ, in words.
        uncounted: operators whose sizes are not known, so that their bytes are missing.
    """

    name: str
    precision: str
    batch_slots: int
    layers: tuple[Layer, ...]
    disagreements: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        return 2 * self.macs

    @property
    def bytes(self) -> int:
        return sum(layer.bytes for layer in self.layers)

    @property
    def intensity(self) -> float:
        """FLOPs per byte moved."""
        return self.flops / self.bytes if self.bytes else 0.0

    def phase(self, *phases: str) -> Work:
        """The part of it that belongs to some phases."""
        return Work(
            self.name,
            self.precision,
            self.batch_slots,
            tuple(x for x in self.layers if x.phase in phases),
            self.disagreements,
            self.uncounted,
        )

    def as_json(self) -> dict[str, Any]:
        """Totals, and one plain row per layer."""
        return {
            "name": self.name,
            "precision": self.precision,
            "batch_slots": self.batch_slots,
            "parameters": self.parameters,
            "macs": self.macs,
            "flops": self.flops,
            "bytes": self.bytes,
            "flops_per_byte": self.intensity,
            "disagreements": list(self.disagreements),
            "uncounted": list(self.uncounted),
            "layers": [{f.name: getattr(x, f.name) for f in fields(Layer)} | {"bytes": x.bytes} for x in self.layers],
        }


def kind_of(macs: int, groups: int) -> str:
    """The kind of a layer by its MACs and its groups."""
    return "elementwise" if not macs else "grouped" if groups > 1 else "dense"


def by_module(layers: Iterable[Layer]) -> dict[str, int]:
    """MACs by the name of the layer that computes them."""
    totals: dict[str, int] = {}
    for layer in layers:
        if layer.macs:
            totals[layer.name] = totals.get(layer.name, 0) + layer.macs
    return totals
