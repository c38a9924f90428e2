"""Decisions per second of the optimum, SAC and SDRL, and the time of a million link decisions.

    python scripts/benchmarks/bench_aolo.py

Agents are untrained: their speed does not depend on their weights. All work is on one core. Times are CPU times of this
process, which other programs hardly disturb.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from carbon import Site, carbon_intensity
from carbon.aolo.agents import Agent, AgentSettings
from carbon.aolo.oracle import solve
from carbon.aolo.request_environment import RequestDistribution, RequestEnvironment
from carbon.link_table import carrier_link, choose
from carbon.receiver_options import zoo_family

REQUESTS = 10_000
LINKS = 1_000_000


def cpu_s(call: Callable[[], object]) -> float:
    """CPU time of a call, after one to warm up."""
    call()
    begin = time.process_time()
    call()
    return time.process_time() - begin


def bench_requests() -> None:
    """The optimum, and both agents one by one and all at once."""
    pool = RequestDistribution().draw(REQUESTS, seed=1)
    print(f"optimum: {REQUESTS / cpu_s(lambda: solve(pool.requests)):,.0f} decisions per second, {REQUESTS:,} at once")
    for name, actor in (("SAC", "dense"), ("SDRL", "spiking")):
        settings = AgentSettings.parse({"actor": actor, "steps": 10}, name)
        agent = Agent(settings, lambda: RequestEnvironment(pool))
        single = pool.observations[:1]
        for label, count, observations in (("one by one", 1, single), (f"{REQUESTS:,} at once", REQUESTS, None)):
            batch = pool.observations if observations is None else observations
            repeats = 200 if count == 1 else 1

            def decide(agent: Agent = agent, batch: np.ndarray = batch, repeats: int = repeats) -> None:
                for _ in range(repeats):
                    agent.act(batch)

            print(f"{name}: {count * repeats / cpu_s(decide):,.0f} decisions per second, {label}")


def bench_links() -> None:
    """A million choices among the shipped receivers."""
    family, link = zoo_family("tdl-6prb"), carrier_link("radio-head")
    world = Site(intensity=carbon_intensity("world-2023"))
    sinrs = [option.bits.required_sinr_db(0.01)[0] for option in family.options]
    received = [world.operational_g(option.energy_j) for option in family.options]
    output_w = link.noise_w(family) * 10 ** (np.linspace(80, 130, LINKS) / 10)
    watt_g = link.transmitter.slope * family.slot_s * world.operational_g(1.0)
    seconds = cpu_s(lambda: choose(sinrs, received, watt_g, output_w, link.max_output_w(family.num_prb)))
    print(f"links: {LINKS:,} choices among {len(sinrs)} receivers in {seconds:.2f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    bench_requests()
    bench_links()
