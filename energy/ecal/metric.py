"""The metric: joules of an AI life cycle over the application bits it handled.

::

    eCAL = (1 + gamma_v) (E_D + gamma E_inf) / (f IS (N_S + gamma N_IP))     [J/bit]

    E_D    development: collection + storage + preprocessing + training + evaluation
    E_inf  one inference: collection + storage + preprocessing + forward pass

with f bits per value, IS values per sample, N_S samples collected for development, N_IP samples per inference, gamma
inferences, gamma_v the overhead of virtualisation (S.-K. Chou et al., "The Energy Cost of Artificial Intelligence
Lifecycle in Communication Networks", IEEE JSAC 44, 2026; the equation as the authors' web site gives it). Bits are raw
payload: no protocol overhead, no epochs, no retransmissions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from energy.ecal.storage import Storage
from energy.ecal.transport import AccountingConvention, Hop, transport_energy_j
from leanrx_core.checks import choice, fraction, integer, number, positive
from leanrx_core.errors import UserError

STAGES = ("preprocessing", "training", "evaluation", "inference_preprocessing", "inference")
"""Stages that compute; each runs on a processor of its own."""

PREPROCESSING = ("none", "normalization", "min-max", "GADF")

TRAINING_FACTOR = 3
"""A training step costs a forward pass and about two more for the gradients; the optimiser is not counted."""


@dataclass(frozen=True)
class Processor:
    """A processor under full load: energy = FLOPs x power / rate.

    Raises:
        UserError: if a value is not above 0.
    """

    flops_per_s: float
    power_w: float

    def __post_init__(self) -> None:
        positive("device.flops_per_s", self.flops_per_s)
        positive("device.power_w", self.power_w)

    def energy_j(self, flops: float) -> float:
        return flops / self.flops_per_s * self.power_w


PROCESSORS = {
    "apple_m2": Processor(3.6e12, 22),
    "nvidia_a100_80gb": Processor(19.5e12, 400),
    "nvidia_h100_sxm": Processor(67e12, 700),
    "generic_cpu": Processor(1e12, 100),
    "generic_edge": Processor(1e10, 15),
}
"""The calculator's profiles: single-precision peak at TDP."""


@dataclass(frozen=True)
class HoldOut:
    """A fraction of the samples trains, the rest evaluates, once."""

    train_fraction: float = 0.8

    def __post_init__(self) -> None:
        fraction("split.train_fraction", self.train_fraction)

    def training_samples(self, samples: int) -> float:
        return samples * self.train_fraction

    def evaluation_samples(self, samples: int) -> float:
        return samples * (1 - self.train_fraction)


@dataclass(frozen=True)
class KFold:
    """Each of k folds evaluates the model trained on the others; no final fit on all."""

    folds: int = 5

    def __post_init__(self) -> None:
        integer("split.folds", self.folds, 2)

    def training_samples(self, samples: int) -> float:
        return samples * (self.folds - 1)

    def evaluation_samples(self, samples: int) -> float:
        return samples


def preprocessing_flops(kind: str, samples: int, values_per_sample: int) -> int:
    """FLOPs of preparing a data set in one call. The constant 1 is counted once per call."""
    n, t = samples, values_per_sample
    return {
        "none": 0,
        "normalization": 6 * n * t + 1,
        "min-max": 2 * n * t + 1,
        "GADF": 2 * n * t + 1 + n * (t * t + 5 * t),
    }[choice("preprocessing", kind, PREPROCESSING)]


@dataclass(frozen=True)
class Ecal:
    """Energy of a life cycle by component, and eCAL.

    Attributes:
        development: joules by component, before the first inference.
        inference: joules by component, of all inferences.
        inferences: how many.
        development_bits, inference_bits: application bits of development and of all inferences.
        virtualisation: overhead gamma_v as a fraction of all energy.
    """

    development: Mapping[str, float]
    inference: Mapping[str, float]
    inferences: int
    development_bits: float
    inference_bits: float
    virtualisation: float = 0.0

    def __post_init__(self) -> None:
        integer("inferences", self.inferences, 1)
        fraction("virtualisation", self.virtualisation)
        positive("inference_bits", self.inference_bits)
        number("development_bits", self.development_bits, 0.0)
        for name, energy_j in [*self.development.items(), *self.inference.items()]:
            number(f"{name} [J]", energy_j, 0.0)
        common = self.development.keys() & self.inference.keys()
        if common:
            raise UserError(f"components: {', '.join(sorted(common))} named in development and inference; rename one")

    @property
    def development_j(self) -> float:
        """E_D, without virtualisation."""
        return sum(self.development.values())

    @property
    def inference_j_per_inference(self) -> float:
        """E_inf, without virtualisation: the mean over the inferences."""
        return sum(self.inference.values()) / self.inferences

    @property
    def absolute_j(self) -> float:
        return (1 + self.virtualisation) * (self.development_j + sum(self.inference.values()))

    @property
    def bits(self) -> float:
        return self.development_bits + self.inference_bits

    @property
    def ecal_j_per_bit(self) -> float:
        return self.absolute_j / self.bits

    @property
    def asymptotic_j_per_bit(self) -> float:
        """Limit of eCAL for ever more inferences: its inference term."""
        return (1 + self.virtualisation) * sum(self.inference.values()) / self.inference_bits

    @property
    def components_j(self) -> dict[str, float]:
        """Joules by component; they add up to ``absolute_j``."""
        extra = self.virtualisation * (self.development_j + sum(self.inference.values()))
        return {**self.development, **self.inference, "virtualisation": extra}

    def as_json(self) -> dict[str, Any]:
        """All values as plain data."""
        return {
            "ecal_j_per_bit": self.ecal_j_per_bit,
            "absolute_j": self.absolute_j,
            "development_j": self.development_j,
            "inference_j_per_inference": self.inference_j_per_inference,
            "components_j": self.components_j,
            "bits": self.bits,
            "inferences": self.inferences,
            "development_bits": self.development_bits,
            "inference_bits": self.inference_bits,
            "asymptotic_j_per_bit": self.asymptotic_j_per_bit,
        }


@dataclass(frozen=True, kw_only=True)
class LifeCycle:
    """A life cycle described by numbers.

    Attributes:
        forward_flops: FLOPs of the model on one sample, see :mod:`energy.ecal.closed_forms`.
        processors: by stage of :data:`STAGES`; see :func:`same_processor`.
        samples: N_S, collected for development.
        values_per_sample, bits_per_value: IS and f.
        epochs: passes over the training samples.
        split: :class:`HoldOut` or :class:`KFold`.
        preprocessing: ``none``, ``normalization``, ``min-max`` or ``GADF``.
        inferences: gamma.
        samples_per_inference: N_IP.
        hops: that development data cross; none is no network.
        inference_hops: that the samples of an inference cross.
        storage: of all collected bits, or none.
        virtualisation: overhead gamma_v as a fraction of all energy, 0 to 1.
        convention: of the sum over protocol layers.

    Raises:
        UserError: if a value is outside its range or a stage has no processor.

    Example:
        >>> life_cycle = LifeCycle(
        ...     forward_flops=670, processors=same_processor(PROCESSORS["generic_cpu"]), samples=256,
        ...     values_per_sample=10, bits_per_value=64, epochs=50, split=HoldOut(0.8), preprocessing="none",
        ...     inferences=100, hops=(), inference_hops=(),
        ... )
        >>> result = life_cycle.evaluate()
        >>> round(result.development_j, 6)
        0.002062
        >>> f"{result.ecal_j_per_bit:.3g}"
        '9.08e-09'
    """

    forward_flops: float
    processors: Mapping[str, Processor]
    samples: int
    values_per_sample: int
    bits_per_value: int
    epochs: int
    split: HoldOut | KFold
    preprocessing: str
    inferences: int
    samples_per_inference: int = 1
    hops: tuple[Hop, ...]
    inference_hops: tuple[Hop, ...]
    storage: Storage | None = None
    virtualisation: float = 0.0
    convention: AccountingConvention = field(default=AccountingConvention.TOOL)

    def __post_init__(self) -> None:
        number("forward_flops", self.forward_flops, 0.0)
        for name in ("samples", "values_per_sample", "bits_per_value", "inferences", "samples_per_inference"):
            integer(name, getattr(self, name), 1)
        integer("epochs", self.epochs, 0)
        fraction("virtualisation", self.virtualisation)
        choice("preprocessing", self.preprocessing, PREPROCESSING)
        for stage in self.processors:
            choice("devices", stage, STAGES)
        missing = [s for s in STAGES if s not in self.processors]
        if missing:
            raise UserError(f"devices: none for {', '.join(missing)}; give 'device' for all stages or one each")

    def evaluate(self) -> Ecal:
        """The energy by component. All inferences are computed as one data set, as in the authors' calculator."""
        per_sample = self.bits_per_value * self.values_per_sample
        used = self.inferences * self.samples_per_inference
        energy_j = {stage: processor.energy_j for stage, processor in self.processors.items()}
        development_prepared = preprocessing_flops(self.preprocessing, self.samples, self.values_per_sample)
        inference_prepared = preprocessing_flops(self.preprocessing, used, self.values_per_sample)
        trained = TRAINING_FACTOR * self.forward_flops * self.epochs * self.split.training_samples(self.samples)
        evaluated = self.forward_flops * self.split.evaluation_samples(self.samples)
        return Ecal(
            development={
                "collection": transport_energy_j(self.samples * per_sample, self.hops, self.convention),
                "storage": self._stored_j(self.samples * per_sample),
                "preprocessing": energy_j["preprocessing"](development_prepared),
                "training": energy_j["training"](trained),
                "evaluation": energy_j["evaluation"](evaluated),
            },
            inference={
                "inference_collection": transport_energy_j(used * per_sample, self.inference_hops, self.convention),
                "inference_storage": self._stored_j(used * per_sample),
                "inference_preprocessing": energy_j["inference_preprocessing"](inference_prepared),
                "inference": energy_j["inference"](self.forward_flops * used),
            },
            inferences=self.inferences,
            development_bits=self.samples * per_sample,
            inference_bits=used * per_sample,
            virtualisation=self.virtualisation,
        )

    def _stored_j(self, bits: float) -> float:
        return self.storage.energy_j(bits) if self.storage else 0.0


def same_processor(processor: Processor, **stages: Processor) -> dict[str, Processor]:
    """One processor for all stages except those that are named."""
    for stage in stages:
        choice("devices", stage, STAGES)
    return {**dict.fromkeys(STAGES, processor), **stages}
