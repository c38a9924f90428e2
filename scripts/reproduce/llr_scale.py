"""Write whether the LLRs of shipped receivers have the right scale into docs/results.md.

    python scripts/reproduce/llr_scale.py [--count] [--slots 1024]

``--count`` detects the first test slots of a family of the zoo. For each receiver and SINR it finds the factor on the
LLRs that leaves the most information on the bits. At one SINR it also decodes the slots with multiplied LLRs. The
numbers are kept in ``docs/data/llr-scale.csv``. Without ``--count``, the script only writes the table from this file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
import torch
from scipy.optimize import brentq

from carbon.receiver_options import COVERAGE
from channels import Slots, SlotStream
from leanrx.report.formatting import interval
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content
from receivers import zoo
from receivers.base import Receiver
from receivers.classical import classical_receivers
from receivers.evaluation.intervals import wilson
from receivers.evaluation.ldpc import TransportBlocks
from receivers.evaluation.mcs import Mcs

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
NUMBERS = ROOT / "docs" / "data" / "llr-scale.csv"
FAMILY = "tdl-6prb"
CLASSICAL = ("LMMSE", "perfect CSI")
MCS = Mcs(index=14)
SINR_DB = (3.0, 9.0, 15.0, 21.0)
DECODED_SINR_DB = 9.0
"""About one block in ten is wrong here."""
SCALES = (0.5, 1.0, 2.0)


def true_llrs(llrs: torch.Tensor, slots: Slots) -> torch.Tensor:
    """LLRs of the transmitted bits, positive where the decision is right, ``(B, bits)``, for slots of equal sizes."""
    signed = torch.where(slots.bits.bool(), llrs, -llrs)
    return signed[slots.bit_mask].view(len(slots), -1)


def best_scale(llrs: torch.Tensor) -> tuple[float, float, float]:
    """Factor on LLRs that leaves the most information on the bits, and the ends of its 95 % interval over slots.

    It minimises the convex mean of ``log(1 + exp(-s L))``, see :mod:`receivers.evaluation.information_loss`. It is 1
    where LLRs are those of the true probabilities, and below 1 where they are too large. The interval is that of
    an M-estimator with slots as clusters (P. J. Huber, Proc. 5th Berkeley Symp., 1967).

    Args:
        llrs: of :func:`true_llrs`, ``(slots, bits)``.
    """
    x = llrs.double()
    scale = float(brentq(lambda s: float((x * torch.sigmoid(-s * x)).sum()), 1e-3, 1e3))
    doubt = torch.sigmoid(-scale * x)
    scores, curvature = (x * doubt).sum(1), (x * x * doubt * (1 - doubt)).sum()
    half = COVERAGE * float(scores.square().sum().sqrt() / curvature)
    return scale, scale - half, scale + half


def receivers() -> list[Receiver]:
    """The classical receivers of the table, and the shipped ones of the family."""
    names = [name for name in zoo.names() if name.startswith(f"{FAMILY}-")]
    classical = classical_receivers(zoo.results(names[0]).scenario)
    return [*(r for r in classical if r.name in CLASSICAL), *map(zoo.load, names)]


@torch.no_grad()
def numbers(num_slots: int) -> pd.DataFrame:
    """Best scale of each receiver and SINR, and wrong blocks by scale at one SINR."""
    chosen = receivers()
    results = zoo.results(chosen[-1].name)
    stream = SlotStream(results.scenario, results.test_seed, results.block_slots, "test")
    code, rows = TransportBlocks(MCS.code_rate), []
    for sinr_db in SINR_DB:
        at_sinr = stream.at_sinr(sinr_db, 0.0)
        blocks = [at_sinr.block(number) for number in range(num_slots // results.block_slots)]
        for receiver in chosen:
            llrs = [receiver(slots) for slots in blocks]
            scale, low, high = best_scale(torch.cat([true_llrs(x, s) for x, s in zip(llrs, blocks, strict=True)]))
            row = {"receiver": receiver.name, "digest": receiver.digest, "sinr_db": sinr_db}
            row |= {"scale": scale, "scale_low": low, "scale_high": high}
            if sinr_db == DECODED_SINR_DB:
                row["blocks"] = num_slots
                for factor in SCALES:
                    wrong = (code.errors(s, factor * x) for x, s in zip(llrs, blocks, strict=True))
                    row[f"errors_{factor:g}"] = sum(int(errors.sum()) for errors in wrong)
            print(row, flush=True)
            rows.append(row)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """One row per receiver: best scales over SINR, and BLER over scale at one SINR."""
    head = ["receiver", *(f"best factor at {sinr_db:g} dB" for sinr_db in SINR_DB)]
    head += [f"BLER with factor {factor:g}" for factor in SCALES]
    rows = []
    for name, group in table.groupby("receiver", sort=False):
        by_sinr = group.set_index("sinr_db")
        scales = [_scale(by_sinr.loc[sinr_db]) for sinr_db in SINR_DB]
        decoded = by_sinr.loc[DECODED_SINR_DB]
        blers = [_bler(int(decoded[f"errors_{factor:g}"]), int(decoded["blocks"])) for factor in SCALES]
        rows.append([f"`{name}`" if name in zoo.names() else str(name), *scales, *blers])
    blocks = int(table["blocks"].max())
    text = f"BLER is that of {blocks:,} slots at {DECODED_SINR_DB:g} dB, the same for all receivers and factors."
    return f"{markdown_table(head, rows)}\n\n{text}"


def _scale(row: pd.Series) -> str:
    return interval(float(row["scale"]), float(row["scale_low"]), float(row["scale_high"]), "{:.2f}")


def _bler(errors: int, blocks: int) -> str:
    return interval(errors / blocks, *wilson(errors, blocks), "{:.3f}")


def page() -> str:
    """The page with the present table between its marks.

    Raises:
        UserError: if the page has no marks.
    """
    return with_marked_content(PAGE, {"llr scale": markdown(pd.read_csv(NUMBERS))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true", help="detect and decode the slots first")
    parser.add_argument("--slots", type=int, default=1024, help="slots per SINR, a multiple of 64")
    arguments = parser.parse_args()
    try:
        if arguments.count:
            write_atomic(NUMBERS, numbers(arguments.slots).to_csv(index=False, float_format="%.6g"))
        write_atomic(PAGE, page())
    except UserError as error:
        sys.exit(f"llr_scale: {error}")


if __name__ == "__main__":
    main()
