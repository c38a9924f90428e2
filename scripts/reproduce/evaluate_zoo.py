"""Receivers of the zoo on another number of resource blocks, beside classical ones and the hybrids' own front end.

    python scripts/reproduce/evaluate_zoo.py --prb 26 [NAME...] [--slots 256] [--sinr-db 9 15] [--shares 0 0.8] [--workers 2]

The front end is what an untrained hybrid computes.

Receivers that share a scenario see the same test slots, of the seed that they were tested with. Counts go to
``runs/zoo``, and a second call goes on. The column "of record" is the BER on their own grid, from ``results.json``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from channels import Scenario, SlotStream
from leanrx_core.errors import UserError
from receivers import zoo
from receivers.classical import classical_receivers
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.rates import rates
from receivers.evaluation.stopping import Evaluation
from receivers.neural.registry import build
from receivers.neural.weights import NeuralReceiver

BLOCK_SLOTS = 32


def on_grid(scenario: Scenario, num_prb: int) -> Scenario:
    """The scenario on a grid of ``num_prb`` resource blocks.

    Raises:
        UserError: if there is no such grid.
    """
    grid = {**scenario.grid.model_dump(), "num_prb": num_prb}
    return Scenario.parse({**scenario.model_dump(), "grid": grid}, "--prb")


def evaluate(names: Sequence[str], num_prb: int, evaluation: Evaluation, workers: int = 1) -> pd.DataFrame:
    """Rates of receivers of one scenario and of the classical ones, see :func:`receivers.evaluation.rates.rates`."""
    record = zoo.results(names[0])
    scenario = on_grid(record.scenario, num_prb)
    stream = SlotStream(scenario, record.test_seed, evaluation.block_slots, "test")
    shipped = [zoo.load(name) for name in names]
    receivers = [*classical_receivers(scenario), *_front_end(shipped), *shipped]
    path = Path("runs/zoo") / f"{scenario.name}-{num_prb}-prb.parquet"
    for state in count_errors(receivers, stream, evaluation, path, workers):
        if state.stopped:
            at = f"share {state.interference_fraction:g}, {state.sinr_db:g} dB"
            print(f"{scenario.name}, {num_prb} PRB, {at}: {state.slots} slots", flush=True)
    found = rates(pd.read_parquet(path))
    asked = found["sinr_db"].isin(evaluation.sinr_db) & found["interference_fraction"].isin(
        evaluation.interference_fractions
    )
    return found[asked & found["receiver"].isin([r.name for r in receivers])]


def _front_end(shipped: Sequence[NeuralReceiver]) -> list[NeuralReceiver]:
    for receiver in shipped:
        card = receiver.card
        if card.receiver.startswith("hybrid"):
            own = card.model_copy(update={"name": "front end", "weights_sha256": "front-end/1"})
            return [NeuralReceiver(build(card.receiver, card.num_rx, card.num_bits), own)]
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="receivers of the zoo; all if none is given")
    parser.add_argument("--prb", type=int, default=26, help="resource blocks")
    parser.add_argument("--slots", type=int, default=256, help=f"slots per point, a multiple of {BLOCK_SLOTS}")
    parser.add_argument("--sinr-db", type=float, nargs="+", default=[3.0, 9.0, 15.0, 21.0])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0], help="interference shares")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    try:
        slots = {"block_slots": BLOCK_SLOTS, "min_slots": arguments.slots, "max_slots": arguments.slots}
        evaluation = Evaluation.parse(
            {
                "sinr_db": arguments.sinr_db,
                "interference_fractions": arguments.shares,
                "target_slot_errors": None,
                **slots,
            },
            "evaluate",
        )
        groups: dict[tuple[str, int], list[str]] = {}
        for name in arguments.names or zoo.names():
            record = zoo.results(name)
            groups.setdefault((record.scenario.model_dump_json(), record.test_seed), []).append(name)
        for names in groups.values():
            _print(evaluate(names, arguments.prb, evaluation, arguments.workers), arguments.prb)
    except UserError as error:
        sys.exit(f"evaluate_zoo: {error}")


def _print(found: pd.DataFrame, num_prb: int) -> None:
    table = Table("share", "SINR dB", "receiver", f"BER on {num_prb} PRB", "interval", "of record")
    for row in found.sort_values(["interference_fraction", "sinr_db", "receiver"]).to_dict("records"):
        points = zoo.results(row["receiver"]).points if row["receiver"] in zoo.names() else ()
        own = [
            p.counts.ber
            for p in points
            if (p.interference_fraction, p.sinr_db) == (row["interference_fraction"], row["sinr_db"])
        ]
        table.add_row(
            f"{row['interference_fraction']:g}",
            f"{row['sinr_db']:g}",
            row["receiver"],
            f"{row['ber']:.2e}",
            f"{row['ber_low']:.2e}..{row['ber_high']:.2e}",
            f"{own[0]:.2e}" if own else "",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
