"""DET with storage beside PyPSA: equal optima and ratio of time, and the time and memory of DETA over sites.

PyPSA states the problem in its own terms: a bus, a generator with a price, a renewable, a store and links of efficiency
below 1. It needs other packages than leanrx, so it has an environment of its own:

    python -m venv /tmp/pypsa
    /tmp/pypsa/bin/pip install -c constraints.txt pypsa highspy codecarbon pydantic PyYAML lazy_loader
    PYTHONPATH=. /tmp/pypsa/bin/python scripts/benchmarks/bench_deta.py

It then shows the growth of DETA over sites with 96 slots; ``--sites`` sets them, and ``--scale`` shows it alone. CPU
times are those of one process, which other programs hardly disturb.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from carbon.deta.dispatch import dispatch
from carbon.deta.edge_network import EdgeNetwork
from carbon.deta.equal_sites import regions

LOSS = 0.05
TRADE_CAP = 0.5
TOLERANCE = 1e-6
SCALES = (50, 200, 400, 1000)


def random_network(sites: int, slots: int, seed: int = 1, sleeps: bool = True) -> EdgeNetwork:
    """A day of sites in drawn states: evening traffic, sun with clouds, batteries, and sleep in parts of a slot."""
    rng, places = np.random.default_rng(seed), regions("egrid2023-states")
    hours = (np.arange(slots) + 0.5) * 24 / slots
    entries = []
    for index in range(sites):
        place = places[int(rng.integers(len(places)))]
        sun = np.maximum(0.0, np.sin((hours - 6) / 12 * np.pi)) * rng.uniform(0.3, 1, slots)
        batches = rng.uniform(2, 6) * (1 + 0.6 * np.cos(2 * np.pi * (hours - 20) / 24))
        entry = {
            "name": f"site {index + 1}",
            "g_per_kwh": tuple(place.g_per_kwh * rng.uniform(0.8, 1.2, slots)),
            "basis": place.basis,
            "batches": tuple(batches),
            "batch_kwh": 0.1,
            "harvest_kwh": tuple(0.6 * sun),
            "battery": {
                "capacity_kwh": float(rng.uniform(0.1, 2)),
                "charge_kw": 1.0,
                "discharge_kw": 1.0,
                "charge_efficiency": 0.95,
                "discharge_efficiency": 0.95,
            },
            "idle_kw": 0.2,
            "capacity_batches": float(1.5 * batches.max()),
            "storage_batches": 5.0,
        }
        entries.append({**entry, "sleep_kw": 0.05} if sleeps else entry)
    values = {"sites": entries, "slot_s": 86400 / slots, "trading_loss": LOSS, "trade_cap": TRADE_CAP}
    return EdgeNetwork.model_validate({**values, "transport_kwh": 0.001, "network_g_per_kwh": 350.0})


def pypsa_det_g(network: EdgeNetwork) -> Callable[[], float]:
    """DET of a network as a PyPSA model that is ready to be solved; its optimum in grams.

    The harvest has a bus of its own. From there it reaches the load, the battery, and over a pool the other sites.
    """
    import pypsa

    slots, hours = network.slots, network.slot_s / 3600
    model: Any = pypsa.Network()
    model.set_snapshots(range(slots))
    model.add("Bus", "pool")
    for site in network.sites:
        name, battery = site.name, site.battery
        assert battery is not None
        load = hours * site.idle_kw + site.batch_kwh * np.array(site.batches)
        harvest = np.array(site.harvest_kwh)
        for bus in ("load", "sun", "battery"):
            model.add("Bus", f"{name} {bus}")
        model.add("Load", name, bus=f"{name} load", p_set=load)
        model.add("Generator", f"{name} grid", bus=f"{name} load", p_nom=1e6, marginal_cost=np.array(site.g_per_kwh))
        peak = max(float(harvest.max()), 1e-9)
        model.add("Generator", f"{name} panel", bus=f"{name} sun", p_nom=peak, p_max_pu=harvest / peak)
        model.add("Store", name, bus=f"{name} battery", e_nom=battery.capacity_kwh, e_initial=battery.begin_kwh)
        limits = {"charge": battery.charge_kw, "discharge": battery.discharge_kw}
        power = {key: 1e6 if limit is None else hours * limit for key, limit in limits.items()}
        links: list[tuple[str, str, str, float, Any, float]] = [
            ("own", f"{name} sun", f"{name} load", peak, 1.0, 1.0),
            ("charge", f"{name} sun", f"{name} battery", power["charge"], 1.0, battery.charge_efficiency),
            # the power of a link is that at its begin, and a discharge is limited at its end
            (
                "discharge",
                f"{name} battery",
                f"{name} load",
                power["discharge"] / battery.discharge_efficiency,
                1.0,
                battery.discharge_efficiency,
            ),
            ("send", f"{name} sun", "pool", peak, network.trade_cap * harvest / peak, 1 - LOSS),
            ("receive", "pool", f"{name} load", 1e6, 1.0, 1.0),
        ]
        for key, begin, end, nominal, share, efficiency in links:
            model.add(
                "Link", f"{name} {key}", bus0=begin, bus1=end, p_nom=nominal, p_max_pu=share, efficiency=efficiency
            )

    def solve() -> float:
        options = {"solver_options": {"output_flag": False}, "include_objective_constant": False, "progress": False}
        model.optimize(solver_name="highs", **options)
        return float(model.objective)

    return solve


def timed(call: Callable[[], float]) -> tuple[float, float, float]:
    """Value of a call, its CPU time and its wall-clock time."""
    cpu, wall = time.process_time(), time.perf_counter()
    value = call()
    return value, time.process_time() - cpu, time.perf_counter() - wall


def bench_pypsa(sizes: list[tuple[int, int]]) -> None:
    """Optima and times of both, model building included."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    for sites, slots in sizes:
        network = random_network(sites, slots, sleeps=False)
        begin = time.process_time()
        solve = pypsa_det_g(network)
        build_s = time.process_time() - begin
        peer_g, peer_s, _ = timed(solve)
        own_g, own_s, _ = timed(lambda network=network: dispatch(network, "DET").total_g)  # type: ignore[misc]
        error = abs(own_g / peer_g - 1)
        verdict = "equal" if error <= TOLERANCE else "NOT EQUAL"
        print(
            f"{sites} sites x {slots} slots: {own_g:.6f} g and PyPSA {peer_g:.6f} g, {verdict} (relative "
            f"difference {error:.1e}); CPU {own_s:.2f} s and {build_s:.2f} + {peer_s:.2f} s to build and solve, ratio "
            f"{(build_s + peer_s) / own_s:.1f}",
            flush=True,
        )


def bench_scale(sites: list[int], slots: int = 96) -> None:
    """Each size in a process of its own, so that its memory is its own."""
    seconds: list[float] = []
    for count in sites:
        command = [sys.executable, __file__, "--one", str(count), "--slots", str(slots)]
        line = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path.cwd()).stdout.strip()
        seconds.append(float(line.split()[0]))
        print(f"DETA, {count} sites x {slots} slots: {line.split(maxsplit=1)[1]}", flush=True)
    if len(sites) > 1:
        growth = np.log(seconds[-1] / seconds[-2]) / np.log(sites[-1] / sites[-2])
        print(f"growth of CPU time over sites, last two sizes: power {growth:.2f}")


def _one(sites: int, slots: int) -> None:
    network = random_network(sites, slots)
    results = []

    def solve() -> float:
        results.append(dispatch(network, "DETA"))
        return results[0].total_g

    total_g, cpu_s, wall_s = timed(solve)
    status = Path("/proc/self/status").read_text()
    memory_mb = int(status.split("VmHWM:")[1].split()[0]) / 1024  # largest resident size since the process began
    print(
        f"{cpu_s} {total_g:.1f} g, CPU {cpu_s:.1f} s, wall clock {wall_s:.1f} s, {memory_mb:,.0f} MiB, imbalance "
        f"{results[0].imbalance:.0e} of the mean load"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", action="store_true", help="only the growth of DETA over sites")
    parser.add_argument("--sites", type=int, nargs="+", default=list(SCALES), help="sizes of the growth")
    parser.add_argument("--slots", type=int, default=96)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        _one(options.one, options.slots)
        return
    if not options.scale:
        if importlib.util.find_spec("pypsa") is None:
            print("PyPSA is not installed here; the first lines of this script say how to install it")
        else:
            bench_pypsa([(3, 24), (10, 96), (50, 96)])
    bench_scale(options.sites, options.slots)


if __name__ == "__main__":
    main()
