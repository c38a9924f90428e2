"""The receivers of the study of few-bit weights and fewer channels, ``few_bits.py``, and their trainings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from torch import nn

from channels import SlotStream
from distillation import Distillation, Job, StepState, Training, train
from distillation.losses import bit_loss
from leanrx.experiment.run import Run
from leanrx_core.errors import UserError
from receivers.neural.channel_pruning import channel_importance, prune_channels, remove_last_blocks
from receivers.neural.network import Network
from receivers.neural.registry import parse_spec
from receivers.neural.weight_quantization import fix_rounded_weights, quantize_weights
from receivers.neural.weights import NeuralReceiver, load, save

SEEDS = (1, 2, 3)
SMALL, LARGE = "hybrid-w5-d5", "hybrid-w13-d8"
STEPS, FEW_BITS_STEPS = 300, {SMALL: 2000, LARGE: 800}
"""Training steps after those of the family: of floats and pruned networks, and of networks with weights of 4 bits."""

LEARNING_RATE, FLOAT_LEARNING_RATE = 5e-3, 2e-3
"""The first has the lower BER at 15 and 18 dB in the trials, for weights of 4 bits and for a pruned network."""

SLOTS_SEED = 11
"""Of the training slots. The family has the seeds 1 to 3."""

IMPORTANCE_BLOCKS, FLOAT_BYTES = 8, 4


class Variant(NamedTuple):
    """A network in one form, for all seeds.

    Attributes:
        network: its spec.
        form: how it came about, in words.
        origin: spec of the family's student that it starts from.
        weight_bits: of a rounded weight; none for floats.
        steps: training steps after the family's.
    """

    network: str
    form: str
    origin: str
    weight_bits: int | None = None
    steps: int = 0

    def name(self, seed: int) -> str:
        """Name of its receiver for a seed."""
        return f"{self.network}-{self.form.replace(', ', '-').replace(' ', '-')}-s{seed}"

    @property
    def is_pruned(self) -> bool:
        """Whether its network is not its origin's."""
        return self.network != self.origin


def _variants() -> Iterator[Variant]:
    for network in (SMALL, LARGE):
        yield Variant(network, "float", network)
        for bits in (8, 4):
            yield Variant(network, f"int{bits}, rounded", network, bits)
        yield Variant(network, "int4, trained", network, 4, FEW_BITS_STEPS[network])
        if network == SMALL:
            yield Variant(network, "float, more steps", network, steps=STEPS)
    yield Variant(SMALL, "pruned", LARGE)
    yield Variant(SMALL, "pruned, trained", LARGE, steps=STEPS)


VARIANTS = tuple(_variants())


@dataclass(frozen=True)
class Study:
    """The receivers of the study.

    Attributes:
        family: run of the family, trained.
        folder: of the study's own receivers, counts and C files.
    """

    family: Run
    folder: Path

    @cached_property
    def teacher(self) -> NeuralReceiver:
        """The family's teacher."""
        return self.family.receiver("teacher")

    def origin(self, variant: Variant, seed: int) -> NeuralReceiver:
        """The family's student that a variant starts from."""
        return self.family.receiver(f"{variant.origin}-kd-s{seed}")

    def receiver(self, variant: Variant, seed: int) -> NeuralReceiver:
        """The receiver of a variant, which was trained before if it needs to be."""
        folder = self.folder / "receivers" / variant.name(seed)
        if variant.steps:
            return load(folder)
        origin = self.origin(variant, seed)
        if (folder / "card.json").is_file() and load(folder).card.training["initial_sha256"] == origin.digest:
            return load(folder)
        net = self._pruned_net(origin, variant, seed) if variant.is_pruned else origin.net
        if variant.weight_bits is not None:
            quantize_weights(net, variant.weight_bits)
            fix_rounded_weights(net)
        changes = {
            "name": variant.name(seed),
            "receiver": variant.network,
            "parameters": sum(p.numel() for p in net.parameters()),
            "training": origin.card.training | {"weight_bits": variant.weight_bits, "initial_sha256": origin.digest},
        }
        return save(folder, net, origin.card.model_copy(update=changes))

    def _pruned_net(self, origin: NeuralReceiver, variant: Variant, seed: int) -> Network:
        """The origin's network without its last blocks and its least important channels."""
        spec, net = parse_spec(variant.network), origin.net
        if parse_spec(variant.origin).depth > spec.depth:
            net = remove_last_blocks(net, spec.depth)
        stream = SlotStream(self.family.config.scenario, seed, 16, "train", purpose="importance")
        blocks = (stream.block(number) for number in range(IMPORTANCE_BLOCKS))
        losses = (bit_loss(net(net.features(slots)), slots) for slots in blocks)
        return prune_channels(net, channel_importance(net, losses), int(spec.width))

    def job(self, variant: Variant, seed: int, learning_rate: float | None = None, steps: int = 0) -> Job:
        """The training of a variant; the last two replace its own settings."""
        is_float = variant.weight_bits is None and not variant.is_pruned
        own_learning_rate = FLOAT_LEARNING_RATE if is_float else LEARNING_RATE
        students = self.family.config.students
        training = Training(
            steps=steps or variant.steps,
            batch_slots=16,
            optimizer="adamw",
            learning_rate=learning_rate or own_learning_rate,
            warmup_steps=20,
            decay_start=0.0,
            max_gradient_norm=1.0,
            deep_supervision_weight=students.training.deep_supervision_weight,
            weight_bits=variant.weight_bits,
            checkpoint_steps=10,
        )
        start = variant._replace(steps=0, weight_bits=None, form="pruned" if variant.is_pruned else "float")
        settings = Distillation(temperature=2.0, alpha=0.5)
        return Job(
            name=variant.name(seed),
            role="student",
            receiver=variant.network,
            scenario=self.family.config.scenario,
            training=training,
            seed=SLOTS_SEED,
            distillation=settings,
            teachers=(self.teacher,),
            initial=self.receiver(start, seed),
        )

    def train(self) -> None:
        """Train all variants that have steps, which are not trained yet; those with equal steps train together."""
        jobs = [self.job(variant, seed) for variant in VARIANTS if variant.steps for seed in SEEDS]
        for steps in dict.fromkeys(job.training.steps for job in jobs):
            train_missing([job for job in jobs if job.training.steps == steps], self.folder)


def train_missing(jobs: Sequence[Job], folder: Path) -> None:
    """Train the jobs that have no receiver yet.

    Raises:
        UserError: if a receiver there is of another training.
    """
    missing = []
    for job in jobs:
        path = folder / "receivers" / job.name
        if not (path / "card.json").is_file():
            missing.append(job)
            continue
        training = load(path).card.training
        expected = {**job.training.model_dump(mode="json"), "teachers": {t.name: t.digest for t in job.teachers}}
        expected["initial_sha256"] = job.initial.digest if job.initial else None
        if any(training.get(name) != value for name, value in expected.items() if name != "checkpoint_steps"):
            raise UserError(f"{path}: of another training; delete it and run again")
    if missing:
        train(missing, folder, on_step=_print_step)


def _print_step(job: Job, state: StepState) -> None:
    if state.step % 50 == 0:
        print(f"{time.strftime('%H:%M:%S')} {job.name}: step {state.step}, loss {state.loss:.4f}", flush=True)


def weight_bytes(net: nn.Module, weight_bits: int | None) -> int:
    """Bytes of the weights in a C file: blocks have integers with a scale for each output channel, or floats.

    Biases and the last layer are floats.
    """
    total = FLOAT_BYTES * sum(p.numel() for p in net.parameters())
    if weight_bits is None:
        return total
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and name.startswith("blocks."):
            total -= FLOAT_BYTES * (module.weight.numel() - module.out_channels)
            total += -(-module.weight.numel() * weight_bits // 8)
    return total


def references(variant: Variant) -> dict[str, Variant]:
    """What a variant is compared with, in floats.

    ``loss`` is to the same network of the family, ``large`` to the larger one, and ``equal_steps`` to the same network
    of the family after as many steps, if it was trained so.
    """

    def variant_of(network: str, form: str) -> list[Variant]:
        return [v for v in VARIANTS if (v.network, v.form) == (network, form) and v != variant]

    result = {"large": variant_of(LARGE, "float")}
    if not variant.is_pruned:
        result["loss"] = variant_of(variant.network, "float")
    if variant.steps:
        longer = variant_of(variant.network, "float, more steps")
        result["equal_steps"] = [v for v in longer if v.steps == variant.steps]
    return {kind: variants[0] for kind, variants in result.items() if variants}
