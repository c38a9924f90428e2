"""Train a receiver by federated averaging over sites of different channel models, pooled, and at each site alone.

    python scripts/reproduce/federated_receivers.py [--sites 3 5] [--rounds 60] [--steps 20] [--test-slots 512]

Sites have the channels TDL-A, TDL-B, ... of the scenario ``tdl-6prb``. Pooled training has the slots of all sites at
one place, and as many steps as all sites together. Alone, a site has its own slots only, as many as in federated
averaging. The learning rate of all of them falls to 0 over the rounds. Checkpoints and joules are in
``runs/federated``, and a second call resumes. Results are kept in ``docs/data/federated-receivers.json``;
``scripts/reproduce/deta_tables.py`` writes them into the documentation.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from channels import Channels, Scenario, SlotStream, scenario
from distillation.federated import FederatedAveraging, FederatedSettings
from distillation.federated_metering import train_metered
from distillation.federated_slots import SlotClient, SlotTraining
from energy.metering.training import TrainingMeter
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers.neural.network import Network
from receivers.neural.registry import build

Array = NDArray[np.float64]
KEPT = Path(__file__).parents[2] / "docs" / "data" / "federated-receivers.json"
MODELS = ("TDL-A", "TDL-B", "TDL-C", "TDL-D", "TDL-E")
SINR_DB = 12.0
_TEST_BLOCK_SLOTS = 32


def site_scenario(models: Sequence[str]) -> Scenario:
    """The scenario ``tdl-6prb`` with some channel models."""
    return scenario("tdl-6prb").model_copy(update={"channels": Channels(train=tuple(models))})


@torch.no_grad()
def slot_bers(net: nn.Module, model: str, slots: int) -> Array:
    """BER of each slot of one channel model at :data:`SINR_DB`. Test slots have random numbers of their own."""
    assert isinstance(net, Network)
    stream = SlotStream(site_scenario([model]), 1, _TEST_BLOCK_SLOTS, purpose="federated-test").at_sinr(SINR_DB)
    rates = []
    for number in range(-(-slots // _TEST_BLOCK_SLOTS)):
        block = stream.block(number)
        wrong = (((net(net.features(block)) > 0) != block.bits.bool()) & block.bit_mask).flatten(1).sum(1)
        rates.append(wrong.double() / block.bit_mask.flatten(1).sum(1))
    return torch.cat(rates).numpy()


def mean_interval(values: Array) -> dict[str, float]:
    """Mean of independent values and its 95 % interval."""
    mean, count = float(values.mean()), values.size
    half = float(stats.t.ppf(0.975, count - 1) * values.std(ddof=1)) / math.sqrt(count)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def train(name: str, clients: Sequence[SlotClient], arguments: argparse.Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """Train one variant: its network, and what its training took."""
    net = build(arguments.receiver, seed=arguments.seed)
    label = f"{name}-{arguments.receiver}-{arguments.rounds}x{clients[0].samples}-s{arguments.seed}"
    settings = FederatedSettings(rounds=arguments.rounds, seed=arguments.seed)
    path = arguments.folder / f"{label}.safetensors"
    federated = FederatedAveraging(net, clients, settings, lambda net: 0.0, path)

    def report(result: Any) -> None:
        print(f"{name}: round {result.number} of {arguments.rounds}", file=sys.stderr, flush=True)

    energy = train_metered(federated, path.with_suffix(".energy.json"), TrainingMeter.of_device("cpu"), report)
    is_federated = len(clients) > 1
    facts = {
        "steps": arguments.rounds * clients[0].training.steps * len(clients),
        "joules": energy.energy_j,
        "provenance": energy.provenance,
        "bytes_each_way_a_round": federated.bytes_per_round if is_federated else 0,
    }
    return federated.net.eval(), facts


def variants(sites: int, arguments: argparse.Namespace) -> dict[str, list[SlotClient]]:
    """Clients by name of the training."""
    models = MODELS[:sites]
    shape = {"batch_slots": arguments.batch_slots, "decay_rounds": arguments.rounds}
    training = SlotTraining(steps=arguments.steps, **shape)
    alone = [SlotClient(m, site_scenario([m]), arguments.seed + i, training) for i, m in enumerate(models)]
    more = SlotTraining(steps=sites * arguments.steps, **shape)
    pooled = SlotClient("pooled", site_scenario(models), arguments.seed, more)
    names = {f"alone-{client.name}": [client] for client in alone}
    return {f"federated-{sites}": alone, f"pooled-{sites}": [pooled], **names}


def results(sites: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and test all variants of a number of sites."""
    models, rates, facts = MODELS[:sites], {}, {}
    for name, clients in variants(sites, arguments).items():
        net, facts[name] = train(name, clients, arguments)
        rates[name] = np.stack([slot_bers(net, model, arguments.test_slots) for model in models])
    alone = np.stack([rates[f"alone-{model}"] for model in models])  # (trained on, tested on, slots)
    tested = {
        "federated": rates[f"federated-{sites}"],
        "pooled": rates[f"pooled-{sites}"],
        "alone, all channels": alone.mean(0),
        "alone, own channel": np.stack([alone[i, i] for i in range(sites)]),
    }
    own = [facts[f"alone-{model}"] for model in models]
    summed: dict[str, Any] = {
        key: sum(fact[key] for fact in own) for key in ("steps", "joules", "bytes_each_way_a_round")
    }
    summed["provenance"] = own[0]["provenance"]
    trained = {"federated": facts[f"federated-{sites}"], "pooled": facts[f"pooled-{sites}"]}
    return {
        name: {
            **trained.get(name, summed),
            "ber": mean_interval(values.ravel()),
            "above_federated": mean_interval((values - tested["federated"]).ravel()),
            "ber_by_channel": dict(zip(models, values.mean(1).tolist(), strict=True)),
        }
        for name, values in tested.items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 5], choices=range(2, len(MODELS) + 1))
    parser.add_argument("--receiver", default="hybrid-w5-d5")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=20, help="of a site in a round")
    parser.add_argument("--batch-slots", type=int, default=16)
    parser.add_argument("--test-slots", type=int, default=512, help="for each channel model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/federated"))
    parser.add_argument("--kept", type=Path, default=KEPT, help="file of the results")
    arguments = parser.parse_args(argv)
    try:
        by_sites = {str(sites): results(sites, arguments) for sites in arguments.sites}
        settings = {
            key: getattr(arguments, key) for key in ("receiver", "rounds", "steps", "batch_slots", "test_slots")
        }
        kept = {"settings": settings, "seed": arguments.seed, "sinr_db": SINR_DB, "sites": by_sites}
        write_atomic(arguments.kept, json.dumps(kept, indent=1) + "\n")
        print(json.dumps(by_sites, indent=1))
    except UserError as error:
        sys.exit(f"federated_receivers: {error}")


if __name__ == "__main__":
    main()
