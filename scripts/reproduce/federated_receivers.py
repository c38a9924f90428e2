"""Train a receiver by federated averaging over sites of different channel models, pooled, and at each site alone.

    python scripts/reproduce/federated_receivers.py [--sites 3] [--rounds 10] [--steps 10] [--test-slots 256]

Sites have the channels TDL-A, TDL-B, ... of the scenario ``tdl-6prb``. Pooled training has the slots of all sites at
one place. Alone, a site has its own slots only, as many as in federated averaging. Prints the BER at 12 dB on each
site's channel, joules and bytes of a round. Checkpoints are in ``runs/federated``, and a second call resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from channels import Channels, Scenario, SlotStream, scenario
from distillation.federated import FederatedAveraging, FederatedSettings
from distillation.federated_slots import SlotClient, SlotTraining
from energy.metering.training import TrainingEnergy, TrainingMeter
from leanrx_core.errors import UserError
from receivers.neural.network import Network
from receivers.neural.registry import build

MODELS = ("TDL-A", "TDL-B", "TDL-C", "TDL-D", "TDL-E")
SINR_DB = 12.0
_TEST_BLOCK_SLOTS = 32


def site_scenario(models: Sequence[str]) -> Scenario:
    """The scenario ``tdl-6prb`` with some channel models."""
    return scenario("tdl-6prb").model_copy(update={"channels": Channels(train=tuple(models))})


@torch.no_grad()
def ber(net: nn.Module, model: str, slots: int) -> float:
    """BER at :data:`SINR_DB` on slots of one channel model. They have random numbers of their own."""
    assert isinstance(net, Network)
    stream = SlotStream(site_scenario([model]), 1, _TEST_BLOCK_SLOTS, purpose="federated-test").at_sinr(SINR_DB)
    errors = bits = 0
    for number in range(-(-slots // _TEST_BLOCK_SLOTS)):
        block = stream.block(number)
        wrong = ((net(net.features(block)) > 0) != block.bits.bool())[block.bit_mask]
        errors, bits = errors + int(wrong.sum()), bits + wrong.numel()
    return errors / bits


def train(name: str, clients: Sequence[SlotClient], arguments: argparse.Namespace) -> tuple[nn.Module, int, float]:
    """Train one variant: its network, bytes of a round each way, and joules of a round; NaN if trained before."""
    net = build(arguments.receiver, seed=arguments.seed)
    label = f"{name}-{arguments.receiver}-{len(clients)}x{clients[0].samples}-s{arguments.seed}"
    path = arguments.folder / f"{label}-{arguments.sites}.safetensors"
    settings = FederatedSettings(rounds=arguments.rounds, seed=arguments.seed)
    federated = FederatedAveraging(net, clients, settings, lambda net: 0.0, path, arguments.workers)
    meter, energy, rounds = TrainingMeter.of_device("cpu"), TrainingEnergy(()), 0
    meter.open()
    for result in federated.train():
        energy, rounds = energy + meter.close(), rounds + 1
        print(f"{name}: round {result.number} of {arguments.rounds}", file=sys.stderr, flush=True)
        meter.open()
    meter.close()
    instrument = energy.best_instrument
    joules = energy.energy_j(instrument) / rounds if rounds and instrument else float("nan")
    return federated.net.eval(), federated.bytes_per_round, joules


def run(arguments: argparse.Namespace) -> None:
    """Train all variants and print the table."""
    models = MODELS[: arguments.sites]
    training = SlotTraining(steps=arguments.steps, batch_slots=arguments.batch_slots)
    sites = [SlotClient(m, site_scenario([m]), arguments.seed + i, training) for i, m in enumerate(models)]
    more = training.model_copy(update={"steps": arguments.sites * arguments.steps})
    pooled = SlotClient("pooled", site_scenario(models), arguments.seed, more)
    variants = {"federated": sites, "pooled": [pooled], **{f"{site.name} alone": [site] for site in sites}}
    slots = arguments.rounds * arguments.steps * arguments.batch_slots
    print(f"{arguments.receiver}, {arguments.sites} sites, {arguments.rounds} rounds, {slots} slots at each site")
    print(f"BER at {SINR_DB:g} dB on {', '.join(models)}; {arguments.test_slots} test slots each")
    for name, clients in variants.items():
        net, size, joules = train(name, clients, arguments)
        rates = [ber(net, model, arguments.test_slots) for model in models]
        is_federated = len(clients) > 1
        traffic = f"{size:,} bytes each way and site a round" if is_federated else "no weights move"
        columns = " ".join(f"{rate:.4f}" for rate in rates)
        print(
            f"{name:<12} {columns}  mean {sum(rates) / len(rates):.4f}  {joules:.3g} J a round, {traffic}", flush=True
        )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=3, choices=range(2, len(MODELS) + 1))
    parser.add_argument("--receiver", default="hybrid-w5-d5")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10, help="of a site in a round")
    parser.add_argument("--batch-slots", type=int, default=16)
    parser.add_argument("--test-slots", type=int, default=256, help="for each channel model")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/federated"))
    try:
        run(parser.parse_args(argv))
    except UserError as error:
        sys.exit(f"federated_receivers: {error}")


if __name__ == "__main__":
    main()
