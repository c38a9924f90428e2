"""What a hybrid receiver would gain if it stopped before its last block on easy slots.

    python scripts/reproduce/early_exit.py [NAME...] [--slots 512] [--write]

A hybrid has LLRs after each block. Two kinds of choice are compared, on slots of the training channels:

* A causal rule sees only LLRs. They predict a BER, the mean of ``1 / (1 + exp(|llr|))``. The rule stops when this
  falls below a threshold, or falls by less than a fraction from one block to the next. It does not know the SINR.
* The genie knows the bit errors after each block. It minimises the sum of BER and a price of operations, slot by slot.
  No rule has fewer operations at equal BER and price.

The table gives the mean operations as a share of full depth over all points, and the SINR lost at a BER of 1e-2.
``--write`` keeps it in ``docs/data/early-exit.csv`` and writes it into docs/receivers.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from channels import SlotStream
from energy import count
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content
from receivers import zoo
from receivers.evaluation.required_sinr import sinr_at_ber
from receivers.neural.hybrid import Hybrid
from receivers.neural.registry import build, family_of
from receivers.neural.weights import NeuralReceiver

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "receivers.md"
NUMBERS = ROOT / "docs" / "data" / "early-exit.csv"
NAMES = ("tdl-6prb-hybrid-w13-d8-kd", "tdl-6prb-hybrid-w5-d5-kd")
Array = NDArray[np.float64]
BLOCK_SLOTS, SEED, TARGET_BER = 64, 5, 1e-2
SINR_DB = np.arange(0.0, 25.0, 3.0)
PRICES = np.geomspace(1e-3, 3, 25)
THRESHOLDS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
FALLS = (-1e9, 0.0, 0.01, 0.03, 0.1)  # the first leaves the threshold alone


@dataclass(frozen=True)
class Depths:
    """Counts after each block of a receiver, ``(points, slots, depth)``.

    Attributes:
        ber: bit errors over bits.
        predicted_ber: from the LLRs alone.
        operations: after each block, over those of the whole receiver, ``(depth,)``.
    """

    ber: Array
    predicted_ber: Array
    operations: Array

    def at(self, block: NDArray[np.int64]) -> tuple[Array, float]:
        """BER per point, and mean share of operations, if each slot stops after ``block`` ``(points, slots)``."""
        ber = np.take_along_axis(self.ber, block[..., None], -1)[..., 0].mean(1)
        return ber, float(self.operations[block].mean())

    def genie(self, price: float) -> NDArray[np.int64]:
        """Block of least sum of BER, over the point's mean at full depth, and price times operations."""
        scale = self.ber[..., -1].mean(1)[:, None, None]
        return np.asarray((self.ber / scale + price * self.operations).argmin(-1))

    def causal(self, threshold: float, fall: float) -> NDArray[np.int64]:
        """First block whose predicted BER is below the threshold, or fell by less than a fraction."""
        predicted = self.predicted_ber
        stops = predicted < threshold
        stops[..., 1:] |= predicted[..., :-1] - predicted[..., 1:] < fall * predicted[..., :-1]
        stops[..., -1] = True
        return np.asarray(stops.argmax(-1))


def count_depths(receiver: NeuralReceiver, slots: int) -> Depths:
    """Errors of a hybrid receiver after each block, on slots of its training channels."""
    scenario = zoo.results(receiver.name).scenario
    points = []
    for sinr_db in SINR_DB:
        stream = SlotStream(scenario, SEED, BLOCK_SLOTS, purpose="validation").at_sinr(float(sinr_db))
        blocks = [_count_block(receiver, stream, index) for index in range(slots // BLOCK_SLOTS)]
        points.append(np.concatenate(blocks, 1))
    ber, predicted = np.stack(points, 1)
    return Depths(ber, predicted, _operations(receiver, stream))


def _count_block(receiver: NeuralReceiver, stream: SlotStream, index: int) -> Array:
    slots = stream.block(index)
    counted = slots.bit_mask
    bits = counted.sum((1, 2, 3))
    with torch.inference_mode():
        final, *after_block = receiver.net(receiver.net.features(slots), intermediate=True)
    columns = []
    for llrs in [*after_block, final]:
        errors = (((llrs > 0) != slots.bits.bool()) & counted).sum((1, 2, 3))
        predicted = (torch.sigmoid(-llrs.abs()) * counted).sum((1, 2, 3))
        columns.append(torch.stack([errors / bits, predicted / bits]))
    return torch.stack(columns, -1).double().numpy()


def _operations(receiver: NeuralReceiver, stream: SlotStream) -> Array:
    card, net = receiver.card, receiver.net
    assert isinstance(net, Hybrid)
    macs = []
    for depth in range(1, len(net.blocks) + 1):
        name = family_of(card.receiver).name
        shallower = build(f"{name}-w{net.width}-d{depth}", card.num_rx, card.num_bits)
        macs.append(count(NeuralReceiver(shallower, card), stream.scenario.grid).macs)
    return np.array(macs) / macs[-1]


def rows(depths: Depths) -> Iterator[tuple[str, float, float]]:
    """Rule, share of operations and loss in dB: the cheapest choice of each kind within 0.05 and 0.2 dB."""
    full = _required_sinr_db(depths.ber[..., -1].mean(1))
    choices = {
        "genie": [depths.genie(price) for price in PRICES],
        "causal rule": [depths.causal(threshold, fall) for threshold in THRESHOLDS for fall in FALLS],
    }
    for kind, blocks in choices.items():
        results = [depths.at(block) for block in blocks]
        losses = [(share, _required_sinr_db(ber) - full) for ber, share in results]
        for limit_db in (0.05, 0.2):
            allowed = [loss for loss in losses if loss[1] <= limit_db]
            if allowed:
                yield (f"{kind}, at most {limit_db} dB", *min(allowed))


def _required_sinr_db(ber: Array) -> float:
    bits = np.full(ber.shape, 1e9)
    return float(sinr_at_ber(SINR_DB, ber * bits, bits, TARGET_BER))


def page() -> str:
    """The page with the present table between its marks.

    Raises:
        UserError: if the page has no marks.
    """
    table = pd.read_csv(NUMBERS)
    head = ["receiver", "choice", "mean operations", f"loss at BER {TARGET_BER:g}"]
    lines = [
        [f"`{row.receiver}`", str(row.choice), f"{row.operations:.0%}", f"{row.loss_db:.2f} dB"]
        for row in table.itertuples()
    ]
    return with_marked_content(PAGE, {"early exit": markdown_table(head, lines, text_columns=2)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(NAMES), help="hybrids")
    parser.add_argument("--slots", type=int, default=512, help=f"slots per point, a multiple of {BLOCK_SLOTS}")
    parser.add_argument("--write", action="store_true", help="keep the table and write it into docs/receivers.md")
    arguments = parser.parse_args()
    table = Table("receiver", "choice", "operations", f"loss at BER {TARGET_BER:g}")
    try:
        results = [
            (name, *row) for name in arguments.names for row in rows(count_depths(zoo.load(name), arguments.slots))
        ]
        if arguments.write:
            frame = pd.DataFrame(results, columns=["receiver", "choice", "operations", "loss_db"])
            write_atomic(NUMBERS, frame.to_csv(index=False, float_format="%.6g"))
            write_atomic(PAGE, page())
        for name, choice, share, loss_db in results:
            table.add_row(name, choice, f"{share:.0%}", f"{loss_db:.2f} dB")
    except UserError as error:
        sys.exit(f"early_exit: {error}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
