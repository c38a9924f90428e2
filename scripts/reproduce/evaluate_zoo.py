"""Test receivers of the zoo on another number of resource blocks, with classical receivers and the hybrids' front end.

    python scripts/reproduce/evaluate_zoo.py --prb 26 [NAME...] [--slots 256] [--sinr-db 9 15]
        [--interference-fractions 0 0.8] [--workers 2]

The front end is an untrained hybrid. Receivers of one scenario see the same test slots, with the seed of their shipped
results. Counts are stored in ``runs/zoo``, and a second call resumes. The column "shipped BER" is the BER on the
receiver's own grid, from ``results.json``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from channels import SlotStream
from leanrx_core.errors import UserError
from receivers import zoo
from receivers.classical import classical_receivers
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.rates import rates
from receivers.evaluation.stopping import Evaluation
from receivers.neural.registry import build, family_of
from receivers.neural.weights import NeuralReceiver

BLOCK_SLOTS = 32


def evaluate(names: Sequence[str], num_prb: int, evaluation: Evaluation, workers: int = 1) -> pd.DataFrame:
    """Rates of receivers of one scenario and of the classical ones, see :func:`receivers.evaluation.rates.rates`."""
    record = zoo.results(names[0])
    scenario = record.scenario.on_grid(num_prb, "--prb")
    stream = SlotStream(scenario, record.test_seed, evaluation.block_slots, "test")
    shipped = [zoo.load(name) for name in names]
    receivers = [*classical_receivers(scenario), *_front_end(shipped), *shipped]
    path = Path("runs/zoo") / f"{scenario.name}-{num_prb}-prb.parquet"
    for state in count_errors(receivers, stream, evaluation, path, workers):
        if state.stopped:
            point = f"interference fraction {state.interference_fraction:g}, {state.sinr_db:g} dB"
            print(f"{scenario.name}, {num_prb} PRB, {point}: {state.slots} slots", flush=True)
    table = rates(pd.read_parquet(path))
    at_points = table["sinr_db"].isin(evaluation.sinr_db)
    at_points &= table["interference_fraction"].isin(evaluation.interference_fractions)
    return table[at_points & table["receiver"].isin([r.name for r in receivers])]


def _front_end(shipped: Sequence[NeuralReceiver]) -> list[NeuralReceiver]:
    for receiver in shipped:
        card = receiver.card
        if family_of(card.receiver).name == "hybrid":
            front_end = card.model_copy(update={"name": "front end", "weights_sha256": "front-end/1"})
            return [NeuralReceiver(build(card.receiver, card.num_rx, card.num_bits), front_end)]
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="receivers of the zoo; default: all")
    parser.add_argument("--prb", type=int, default=26, help="resource blocks")
    parser.add_argument("--slots", type=int, default=256, help=f"slots per point, a multiple of {BLOCK_SLOTS}")
    parser.add_argument("--sinr-db", type=float, nargs="+", default=[3.0, 9.0, 15.0, 21.0])
    parser.add_argument("--interference-fractions", type=float, nargs="+", default=[0.0])
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    try:
        slots = {"block_slots": BLOCK_SLOTS, "min_slots": arguments.slots, "max_slots": arguments.slots}
        evaluation = Evaluation.parse(
            {
                "sinr_db": arguments.sinr_db,
                "interference_fractions": arguments.interference_fractions,
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


def _print(rows: pd.DataFrame, num_prb: int) -> None:
    table = Table("interference fraction", "SINR dB", "receiver", f"BER on {num_prb} PRB", "interval", "shipped BER")
    for row in rows.sort_values(["interference_fraction", "sinr_db", "receiver"]).to_dict("records"):
        points = zoo.results(row["receiver"]).points if row["receiver"] in zoo.names() else ()
        shipped_ber = [
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
            f"{shipped_ber[0]:.2e}" if shipped_ber else "",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
