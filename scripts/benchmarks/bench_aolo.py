"""Decisions per second of the optimum, SAC and SDRL, and of a million link decisions.

    python scripts/benchmarks/bench_aolo.py [--keep]

Agents are untrained: their speed does not depend on their weights. All work is on one core. Times are CPU times of this
process, which other programs hardly disturb. ``--keep`` writes ``docs/data/aolo-speed.json``, from which
``scripts/reproduce/aolo_tables.py`` writes the table of the documentation.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from carbon import Site, carbon_intensity
from carbon.aolo.agents import Agent, AgentSettings
from carbon.aolo.oracle import solve
from carbon.aolo.request_environment import RequestDistribution, RequestEnvironment
from carbon.link_table import carrier_link, choose
from carbon.receiver_options import zoo_family
from leanrx_core.files import write_atomic

REQUESTS = 10_000
LINKS = 1_000_000
KEPT = Path(__file__).parents[2] / "docs" / "data" / "aolo-speed.json"


def cpu_s(call: Callable[[], object]) -> float:
    """CPU time of a call, after one to warm up."""
    call()
    begin = time.process_time()
    call()
    return time.process_time() - begin


def bench_requests() -> dict[str, float]:
    """The optimum, and both agents one by one and all at once, in decisions per second."""
    pool = RequestDistribution().draw(REQUESTS, seed=1)
    speeds = {f"optimum, {REQUESTS:,} requests at once": REQUESTS / cpu_s(lambda: solve(pool.requests))}
    for name, actor in (("SAC", "dense"), ("SDRL", "spiking")):
        settings = AgentSettings.parse({"actor": actor, "steps": 10}, name)
        agent = Agent(settings, lambda: RequestEnvironment(pool))
        for label, count, repeats in (("one by one", 1, 200), (f"{REQUESTS:,} requests at once", REQUESTS, 1)):

            def decide(agent: Agent = agent, count: int = count, repeats: int = repeats) -> None:
                for _ in range(repeats):
                    agent.act(pool.observations[:count])

            speeds[f"{name}, {label}"] = count * repeats / cpu_s(decide)
    return speeds


def bench_links() -> dict[str, float]:
    """A million choices among the shipped receivers, in decisions per second."""
    family, link = zoo_family("tdl-6prb"), carrier_link("radio-head")
    world = Site(intensity=carbon_intensity("world-2023"))
    sinrs = [option.bits.required_sinr_db(0.01)[0] for option in family.options]
    received = [world.operational_g(option.energy_j) for option in family.options]
    output_w = link.noise_w(family) * 10 ** (np.linspace(80, 130, LINKS) / 10)
    watt_g = link.transmitter.slope * family.slot_s * world.operational_g(1.0)
    seconds = cpu_s(lambda: choose(sinrs, received, watt_g, output_w, link.max_output_w(family.num_prb)))
    return {f"link, {LINKS:,} choices among {len(sinrs)} receivers": LINKS / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="keep the values for the table of the documentation")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    speeds = bench_requests() | bench_links()
    for name, value in speeds.items():
        print(f"{name}: {value:,.0f} decisions per second")
    if arguments.keep:
        write_atomic(KEPT, json.dumps(speeds, indent=1) + "\n")


if __name__ == "__main__":
    main()
