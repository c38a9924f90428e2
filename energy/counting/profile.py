"""Operations of a computation, layer by layer: MACs, FLOPs, and bytes that move.

A *layer* is one executed operator. Its bytes are those of its operands: weights read, activations read, results
written, each once and as if nothing stayed in a cache. They bound the traffic between an operator and its surroundings.
Operators that only change a view move nothing. One MAC is one multiply-accumulate, and **FLOP = 2 x MAC** everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from leanrx_core.errors import UserError

Agreement = Literal["whole", "part", "none", "contradiction"]
"""Of two counts: in all modules; in all whose operators the second counter knows; not compared; or not equal."""
LAYER_KINDS = ("dense", "grouped", "elementwise")
FORMULA = "formula"
"""Operator of the layer that stands for all operations counted by formula."""


@dataclass(frozen=True)
class Layer:
    """One operator of a network.

    Attributes:
        name: path of the module, or of the graph's node.
        operator: name in torch or ONNX, or :data:`FORMULA`.
        kind: ``dense`` (convolutions over all channels, matrix products), ``grouped`` (depthwise and grouped
            convolutions) or ``elementwise`` (counts no MAC, but products in an
            exported receiver's file do).
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
        """Two per MAC."""
        return 2 * self.macs

    @property
    def bytes(self) -> int:
        """All bytes that move."""
        return self.weight_bytes + self.read_bytes + self.written_bytes


@dataclass(frozen=True)
class OperationProfile:
    """Operations of one call: a batch of slots through a receiver, or one training step.

    Attributes:
        name: of the receiver or file.
        precision: ``fp32``, ``bf16``, ``fp16`` or ``int8``; of a file, that of the weights of most MACs.
        batch_slots: slots of the call.
        layers: in the order of execution. Operations counted by formula are one dense layer whose bytes are unknown.
        batch_norm_elements: elements that batch-norm writes in the forward phase; it folds away at inference.
        other_elements: elements written in the forward phase by each operator that counts no MAC.
        cross_check_flops: FLOPs of the forward phase without the formula part, by a second counter; none without one.
        agreement: of both counters; ``part`` where the second one does not know all operators.
        cross_check_gaps: what the second counter does not know.
        disagreements: sentences on where two counters differ.
        uncounted: operators whose sizes are not known, so that their bytes are missing.
        omitted: what a receiver computes beside this call, in words; empty if nothing is known to be missing.

    Example:
        >>> profile = OperationProfile("net", layers=(Layer("conv", "Conv", "dense", "forward", 90, 500, 360, 40, 40),))
        >>> profile.flops, profile.bytes
        (1000, 440)
    """

    name: str
    precision: str = "fp32"
    batch_slots: int = 1
    layers: tuple[Layer, ...] = ()
    batch_norm_elements: int = 0
    other_elements: Mapping[str, int] = field(default_factory=dict)
    cross_check_flops: int | None = None
    agreement: Agreement = "none"
    cross_check_gaps: tuple[str, ...] = ()
    disagreements: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()
    omitted: str = ""

    @classmethod
    def from_formula(
        cls, name: str, macs: int, batch_slots: int = 1, elements: Mapping[str, int] | None = None
    ) -> OperationProfile:
        """The profile of a computation whose MACs are known by formula and whose bytes are unknown.

        Args:
            name: of the receiver.
            macs: of the whole call.
            batch_slots: slots of the call.
            elements: written by operators without MACs, in the whole call.
        """
        return cls(name, batch_slots=batch_slots).with_formula(macs, elements or {})

    def with_formula(self, macs: int, elements: Mapping[str, int]) -> OperationProfile:
        """The profile with a layer for operations counted by formula.

        Args:
            macs: of the whole call; without any the layer is left out.
            elements: written by operators without MACs, in the whole call.
        """
        layer = Layer(self.name, FORMULA, "dense", "forward", 0, macs, 0, 0, 0)
        names = [*self.other_elements, *(n for n in elements if n not in self.other_elements)]
        return replace(
            self,
            layers=(*self.layers, layer) if macs else self.layers,
            other_elements={n: self.other_elements.get(n, 0) + elements.get(n, 0) for n in names},
            uncounted=(*self.uncounted, self.name) if macs else self.uncounted,
        )

    @property
    def parameters(self) -> int:
        """Trained values."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and matrix products, and those counted by formula."""
        return sum(layer.macs for layer in self.layers)

    @property
    def formula_macs(self) -> int:
        """The part of :attr:`macs` that is counted by formula."""
        return sum(layer.macs for layer in self.layers if layer.operator == FORMULA)

    @property
    def flops(self) -> int:
        """Two per MAC."""
        return 2 * self.macs

    @property
    def flops_per_slot(self) -> float:
        """FLOPs of the call over its slots."""
        return self.flops / self.batch_slots

    @property
    def bytes(self) -> int:
        """All bytes that move."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def missing_bytes(self) -> str:
        """Words for an estimate that uses bytes where some are not known; empty if all are known."""
        if not self.uncounted:
            return ""
        part = f"of {self.formula_macs:,} MACs by formula" if self.formula_macs else f"at {self.uncounted[0]}"
        return f"; bytes {part} are not known and left out"

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs per byte moved; 0 where no bytes are known."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def method(self) -> str:
        """How MACs were counted: ``operators``, ``formula`` or ``operators + formula``."""
        operators = any(layer.operator != FORMULA for layer in self.layers)
        return " + ".join(["operators"] * operators + ["formula"] * bool(self.formula_macs)) or "operators"

    @property
    def counters_agree(self) -> bool:
        """Whether the second counter contradicts in no operator that it knows; true without one."""
        return self.agreement != "contradiction"

    def check_agreement(self) -> None:
        """Check that the second counter contradicts nowhere.

        Raises:
            UserError: if it does.
        """
        if not self.counters_agree:
            raise UserError(
                f"{self.name}: two counts contradict each other ({self.disagreements[0]}); see leanrx count"
            )

    def phase(self, *phases: str) -> OperationProfile:
        """The part of the profile that belongs to some phases."""
        return replace(self, layers=tuple(x for x in self.layers if x.phase in phases))

    def as_json(self) -> dict[str, Any]:
        """Totals, and one plain row per layer."""
        return {
            "parameters": self.parameters,
            "macs": self.macs,
            "flops": self.flops,
            "bytes": self.bytes,
            "flops_per_byte": self.intensity,
            "name": self.name,
            "precision": self.precision,
            "batch_slots": self.batch_slots,
            "method": self.method,
            "formula_macs": self.formula_macs,
            "cross_check_flops": self.cross_check_flops,
            "counters_agree": self.counters_agree,
            "agreement": self.agreement,
            "cross_check_gaps": list(self.cross_check_gaps),
            "batch_norm_elements": self.batch_norm_elements,
            "other_elements": dict(self.other_elements),
            "disagreements": list(self.disagreements),
            "uncounted": list(self.uncounted),
            "omitted": self.omitted,
            "layers": [{f.name: getattr(x, f.name) for f in fields(Layer)} | {"bytes": x.bytes} for x in self.layers],
        }


def layer_kind(macs: int, groups: int) -> str:
    """The kind of a layer by its MACs and its groups."""
    return "elementwise" if not macs else "grouped" if groups > 1 else "dense"


def macs_by_module(layers: Iterable[Layer]) -> dict[str, int]:
    """MACs by the name of the layer that computes them."""
    totals: dict[str, int] = {}
    for layer in layers:
        if layer.macs:
            totals[layer.name] = totals.get(layer.name, 0) + layer.macs
    return totals
