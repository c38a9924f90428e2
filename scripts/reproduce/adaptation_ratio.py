"""Measure what adapting a shipped receiver to another scenario costs, against training it there from scratch.

    python scripts/reproduce/adaptation_ratio.py [--seeds 1 2 3]

The zoo has ``hybrid-w13-d8``, trained from scratch on ``tdl-6prb`` and on ``deeprx-6prb``, both at full length. For
each seed, the first one is adapted to ``deeprx-6prb`` with more and more steps, until its BER is at most that of the
receiver from scratch, on the same test slots. Every number of steps is a training of its own, whose learning rate falls
to 0. The joules of the shortest one count, and not those of the search for it. Training from scratch costs its number
of steps times the joules of a step, which are metered on new weights. Checkpoints and joules are in
``runs/adaptation``, and a second call resumes. The result is written into ``leanrx/life_cycle/adaptation.json``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from channels import SlotStream, scenario
from distillation.federated import FederatedAveraging, FederatedSettings
from distillation.federated_metering import RoundsEnergy, train_metered
from distillation.federated_slots import SlotClient, SlotTraining
from energy.metering.measurement import Provenance, weakest
from energy.metering.training import TrainingMeter
from leanrx.life_cycle.adaptation import Adaptation, AdaptationSeed
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers import zoo
from receivers.neural.network import Network
from receivers.neural.registry import build

RESULT = Path(__file__).parents[2] / "leanrx" / "life_cycle" / "adaptation.json"
SHIPPED = "tdl-6prb-hybrid-w13-d8-scratch"
SCRATCH = "deeprx-6prb-hybrid-w13-d8-scratch"
SCENARIO = "deeprx-6prb"
SINR_DB = 12.0
ROUND_STEPS = 50
ADAPTED_ROUNDS = (1, 2, 4, 8, 16, 32, 64)
LEARNING_RATE = 1e-3
_TEST_BLOCK_SLOTS = 64


@torch.no_grad()
def ber(net: nn.Module, slots: int) -> float:
    """BER on test slots of the other scenario. They are the same for all networks."""
    assert isinstance(net, Network)
    stream = SlotStream(scenario(SCENARIO), 1, _TEST_BLOCK_SLOTS, "test", purpose="adaptation-test").at_sinr(SINR_DB)
    errors = bits = 0
    for number in range(-(-slots // _TEST_BLOCK_SLOTS)):
        block = stream.block(number)
        wrong = ((net(net.features(block)) > 0) != block.bits.bool())[block.bit_mask]
        errors, bits = errors + int(wrong.sum()), bits + wrong.numel()
    return errors / bits


def train(name: str, net: nn.Module, seed: int, rounds: int, folder: Path) -> tuple[nn.Module, RoundsEnergy]:
    """Train on slots of the other scenario: the network and its energy."""
    training = SlotTraining(
        steps=ROUND_STEPS,
        batch_slots=int(zoo.card(SCRATCH).training["batch_slots"]),
        learning_rate=LEARNING_RATE,
        decay_rounds=rounds,
    )
    client = SlotClient("site", scenario(SCENARIO), seed, training)
    path = folder / f"{name}-s{seed}.safetensors"
    federated = FederatedAveraging(net, [client], FederatedSettings(rounds=rounds, seed=seed), lambda net: 0.0, path)

    def report(result: Any) -> None:
        print(f"{name}, seed {seed}: round {result.number} of {rounds}", file=sys.stderr, flush=True)

    energy = train_metered(federated, path.with_suffix(".energy.json"), TrainingMeter.of_device("cpu"), report)
    return federated.net.eval(), energy


def measure(seed: int, slots: int, folder: Path) -> tuple[AdaptationSeed, Provenance]:
    """The shortest adaptation that reaches the BER of training from scratch, and the provenance of the joules.

    Raises:
        UserError: if even the longest adaptation does not reach it.
    """
    card, shipped = zoo.card(SCRATCH), zoo.load(SHIPPED).net
    target, shipped_ber = ber(zoo.load(SCRATCH).net, slots), ber(shipped, slots)
    _, metered = train("new", build(card.receiver, seed=seed), seed, 1, folder)
    scratch_steps = int(card.training["steps"])
    values = {
        "seed": seed,
        "shipped_ber": shipped_ber,
        "scratch_ber": target,
        "scratch_steps": scratch_steps,
        "scratch_j": scratch_steps * metered.energy_j / ROUND_STEPS,
    }
    if shipped_ber <= target:
        values |= {"adapted_ber": shipped_ber, "adapted_steps": 0, "adapted_j": 0.0}
        return AdaptationSeed.parse(values, "seed"), metered.provenance
    for rounds in ADAPTED_ROUNDS:
        adapted, spent = train(f"adapted-{rounds}", zoo.load(SHIPPED).net, seed, rounds, folder)
        reached = ber(adapted, slots)
        print(
            f"{rounds} rounds, seed {seed}: BER {reached:.5f}, from scratch {target:.5f}", file=sys.stderr, flush=True
        )
        if reached <= target:
            values |= {"adapted_ber": reached, "adapted_steps": rounds * ROUND_STEPS, "adapted_j": spent.energy_j}
            return AdaptationSeed.parse(values, "seed"), spent.provenance
    raise UserError(f"seed {seed}: {rounds * ROUND_STEPS} steps of adaptation do not reach BER {target:.4f}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--test-slots", type=int, default=1024)
    parser.add_argument("--folder", type=Path, default=Path("runs/adaptation"))
    arguments = parser.parse_args(argv)
    try:
        measured = [measure(seed, arguments.test_slots, arguments.folder) for seed in arguments.seeds]
        card = zoo.card(SHIPPED)
        result = Adaptation(
            receiver=card.receiver,
            from_scenario=card.scenario,
            to_scenario=SCENARIO,
            sinr_db=SINR_DB,
            test_slots=arguments.test_slots,
            provenance=weakest(provenance for _, provenance in measured),
            seeds=tuple(entry for entry, _ in measured),
        )
        write_atomic(RESULT, result.model_dump_json(indent=1) + "\n")
        print(result.text)
    except UserError as error:
        sys.exit(f"adaptation_ratio: {error}")


if __name__ == "__main__":
    main()
