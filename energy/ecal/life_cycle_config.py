"""A life cycle described by hand: the YAML of ``leanrx ecal CONFIG.yaml``, and the presets of the published case."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from energy.ecal.closed_forms import FORMS, layers
from energy.ecal.metric import PROCESSORS, STAGES, Ecal, HoldOut, KFold, LifeCycle, Processor
from energy.ecal.payback import correct_bits
from energy.ecal.storage import Storage
from energy.ecal.transport import LAYERS, AccountingConvention, Hop, TransportProtocol, hop
from leanrx_core.checks import choice, fraction, number
from leanrx_core.errors import UserError
from leanrx_core.records import Record, read_yaml


class ProtocolConfig(Record):
    """A protocol of your own: see :class:`energy.ecal.transport.TransportProtocol`."""

    data_overhead: float
    control_overhead: float
    tx_j_per_bit: float
    rx_j_per_bit: float
    device_j_per_bit: float
    gateway_j_per_bit: float


class HopConfig(Record):
    """A hop: a named stack, and protocols by layer that differ from it or make it up."""

    stack: str | None = None
    failure_rate: float = 0.0
    application: str | ProtocolConfig | None = None
    presentation: str | ProtocolConfig | None = None
    session: str | ProtocolConfig | None = None
    transport: str | ProtocolConfig | None = None
    network: str | ProtocolConfig | None = None
    datalink: str | ProtocolConfig | None = None
    physical: str | ProtocolConfig | None = None

    def hop(self) -> Hop:
        """The hop of these values."""
        protocols: dict[str, str | TransportProtocol] = {}
        for layer in LAYERS:
            value = getattr(self, layer)
            if value is not None:
                is_name = isinstance(value, str)
                protocols[layer] = value if is_name else TransportProtocol(**value.model_dump())
        return hop(self.stack, self.failure_rate, protocols)


class ProcessorConfig(Record):
    """A processor by its rate and its power."""

    flops_per_s: float
    power_w: float


class SplitConfig(Record):
    """How samples are divided: ``hold-out`` with a ``train_fraction``, or ``k-fold`` with ``folds``."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"train_share": "train_fraction"}

    kind: Literal["hold-out", "k-fold"]
    train_fraction: float | None = None
    folds: int | None = None

    def split(self) -> HoldOut | KFold:
        """The split of these values.

        Raises:
            UserError: if the kind's own value is missing, or the other kind's is there.
        """
        required, foreign = ("train_fraction", "folds") if self.kind == "hold-out" else ("folds", "train_fraction")
        if getattr(self, required) is None or getattr(self, foreign) is not None:
            raise UserError(f"split: {self.kind} takes {required}, and not {foreign}")
        if self.folds is not None:
            return KFold(self.folds)
        return HoldOut(fraction("split.train_fraction", self.train_fraction))


class StorageConfig(Record):
    """Where collected bits are stored: see :class:`energy.ecal.storage.Storage`."""

    medium: str
    raid: str = "none"
    disks: int = 1


class ConventionConfig(Record):
    """How the sum over protocol layers is taken: see :class:`energy.ecal.transport.AccountingConvention`."""

    overhead: str = "truncated"
    radio: str = "all-layers"


class Goodput(Record):
    """What an inference delivers, and how much of it is wrong.

    Attributes:
        data_bits_per_inference: bits on the data REs where ``ber`` is given; size of the transport block, without CRC
            bits, where ``bler`` is given.
        ber: rate of wrong bits.
        bler: rate of wrong transport blocks, which are lost as a whole.
    """

    data_bits_per_inference: float
    ber: float | None = None
    bler: float | None = None

    def correct_bits(self) -> float:
        """Correct bits of an inference.

        Raises:
            UserError: unless there is one rate, within 0..1, and data bits above 0.
        """
        if (self.ber is None) == (self.bler is None):
            raise UserError("goodput: give either ber or bler")
        number("goodput.data_bits_per_inference", self.data_bits_per_inference, 0.0, open_low=True)
        rate = fraction("goodput.ber", self.ber) if self.bler is None else fraction("goodput.bler", self.bler)
        if rate == 1:
            raise UserError("goodput: at an error rate of 1 no bit is correct; joules per correct bit have no value")
        return correct_bits(self.data_bits_per_inference, rate)


class LifeCycleConfig(Record):
    """A life cycle in YAML: fields as in :class:`energy.ecal.metric.LifeCycle`, devices and hops by name or by value.

    Attributes:
        name: in titles.
        model: ``kind`` and its parameters: ``mlp``, ``cnn``, ``kan`` or ``transformer`` (closed forms of
            :mod:`energy.ecal.closed_forms`), ``layers`` (``shape``, ``network``), ``flops`` (``forward_flops``),
            ``receiver`` (``receiver``, and optionally ``num_prb``, ``num_rx``, ``num_bits``) or ``onnx`` (``path``).
        device: of all stages that ``devices`` does not name: a name or ``flops_per_s`` and ``power_w``.
        devices: by stage.
        hops, inference_hops: networks that development data and inference samples cross; an empty list is no network.
            Inference samples cross ``hops`` if it is not given.
        goodput: for joules per correctly received bit.
        note: shown with the result.
    """

    name: str = "life cycle"
    note: str = ""
    model: dict[str, Any]
    samples: int
    values_per_sample: int
    bits_per_value: int
    epochs: int
    split: SplitConfig
    preprocessing: str
    inferences: int
    samples_per_inference: int = 1
    hops: tuple[HopConfig, ...]
    inference_hops: tuple[HopConfig, ...] | None = None
    device: str | ProcessorConfig | None = None
    devices: dict[str, str | ProcessorConfig] = Field(default_factory=dict)
    storage: StorageConfig | None = None
    virtualisation: float = 0.0
    convention: ConventionConfig = ConventionConfig()
    goodput: Goodput | None = None

    renamed_keys: ClassVar[Mapping[str, str]] = {"reading": "convention"}

    @classmethod
    def read(cls, source: str | Path) -> Self:
        """Read a YAML file, or a preset by its name. A file may name a ``preset`` and say only what differs.

        Raises:
            UserError: if there is no such file or preset, or it does not describe a life cycle.
        """
        return cls.parse(_resolved(source), str(source))

    def life_cycle(self) -> LifeCycle:
        """The life cycle, checked.

        Raises:
            UserError: if a value is outside its range or a name is unknown.
        """
        inference_hops = self.hops if self.inference_hops is None else self.inference_hops
        return LifeCycle(
            forward_flops=forward_flops(self.model),
            processors=self._processors(),
            samples=self.samples,
            values_per_sample=self.values_per_sample,
            bits_per_value=self.bits_per_value,
            epochs=self.epochs,
            split=self.split.split(),
            preprocessing=self.preprocessing,
            inferences=self.inferences,
            samples_per_inference=self.samples_per_inference,
            hops=tuple(h.hop() for h in self.hops),
            inference_hops=tuple(h.hop() for h in inference_hops),
            storage=Storage(**self.storage.model_dump()) if self.storage else None,
            virtualisation=self.virtualisation,
            convention=AccountingConvention(**self.convention.model_dump()),
        )

    def notes(self) -> list[str]:
        """Assumptions behind the result: defaults that were taken, and parts that are left out on purpose."""
        notes = [self.note] if self.note else []
        notes += [f"convention: overhead bits {self.convention.overhead}, radio energy on {self.convention.radio}"]
        for field, hops in (("hops", self.hops), ("inference_hops", self.inference_hops)):
            if hops == ():
                notes.append(f"{field}: none, no network: collection costs 0 J there")
        if self.inference_hops is None:
            notes.append("inference_hops: not given; inference samples cross the hops of development")
        if self.storage is None:
            notes.append("storage: none, 0 J")
        notes.append(
            "joules of computing are modelled (FLOPs at a rate and a power); joules per transported or stored bit are "
            "assumed"
        )
        return notes

    def result(self, sweep: Sequence[int] = ()) -> dict[str, Any]:
        """The result as plain data, with everything that it was computed from.

        Args:
            sweep: further numbers of inferences to evaluate.

        Raises:
            UserError: as :meth:`life_cycle`.
        """
        life_cycle = self.life_cycle()
        total = life_cycle.evaluate()
        result = {
            "name": self.name,
            **total.as_json(),
            **self._per_correct_bit(total),
            "forward_flops": life_cycle.forward_flops,
            "notes": self.notes(),
            "settings": self.model_dump(mode="json"),
        }
        if sweep:
            result["sweep"] = [replace(life_cycle, inferences=n).evaluate().as_json() for n in sweep]
        return result

    def _per_correct_bit(self, total: Ecal) -> dict[str, float]:
        if self.goodput is None:
            return {}
        correct = self.goodput.correct_bits()
        return {
            "correct_bits_per_inference": correct,
            "ecal_j_per_correct_bit": total.absolute_j / (total.inferences * correct),
            "inference_j_per_correct_bit": (1 + total.virtualisation) * total.inference_j_per_inference / correct,
        }

    def _processors(self) -> dict[str, Processor]:
        for stage in self.devices:
            choice("devices", stage, STAGES)
        default = {} if self.device is None else dict.fromkeys(STAGES, _processor("device", self.device))
        return {**default, **{stage: _processor(f"devices.{stage}", d) for stage, d in self.devices.items()}}


def presets() -> list[str]:
    """Names of the published case study's models."""
    folder = resources.files("energy") / "ecal" / "presets"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.startswith("published-"))


def forward_flops(model: dict[str, Any]) -> float:
    """FLOPs of one sample, from a closed form or by counting.

    Raises:
        UserError: if the model's kind, or one of its keys, is unknown or missing.
    """
    from energy.ecal.counted_flops import onnx_flops, receiver_flops

    arguments = dict(model)
    kind = arguments.pop("kind", None)
    kinds: dict[str, Callable[..., float]] = {
        **FORMS,
        "layers": layers,
        "flops": _stated,
        "receiver": receiver_flops,
        "onnx": onnx_flops,
    }
    form = kinds[choice("model.kind", kind, kinds)]
    parameters = inspect.signature(form).parameters
    for key in arguments:
        choice(f"model.{kind}", key, parameters)
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in arguments]
    if missing:
        raise UserError(f"model.{kind}: {', '.join(missing)} missing; add")
    return float(form(**arguments))


def _stated(forward_flops: float) -> float:
    return number("model.forward_flops", forward_flops, 0.0)


def _processor(field: str, device: str | ProcessorConfig) -> Processor:
    if isinstance(device, ProcessorConfig):
        return Processor(device.flops_per_s, device.power_w)
    if device in PROCESSORS:
        return PROCESSORS[device]
    from energy.hardware.devices import devices

    records = devices()
    if device not in records:
        names = ", ".join([*PROCESSORS, *records])
        raise UserError(f"{field}: '{device}' is not known; devices: {names}, or flops_per_s and power_w")
    return Processor(records[device].peak_flops_per_s, records[device].power_w)


def _resolved(source: str | Path) -> Any:
    """The YAML of a file or a preset, laid over that of the preset which it names."""
    data = read_yaml(_path(source))
    if not isinstance(data, dict) or "preset" not in data:
        return data
    base = data.pop("preset")
    choice(f"{source}: preset", base, [*presets(), "published"])
    return {**_resolved(base), **data}


def _path(source: str | Path) -> str | Path:
    if Path(source).suffix or Path(source).exists():
        return source
    packaged = resources.files("energy") / "ecal" / "presets" / f"{source}.yaml"
    if not packaged.is_file():
        raise UserError(
            f"{source}: no such file or preset; give a run folder, a YAML file, or one of {', '.join(presets())}"
        )
    return str(packaged)
