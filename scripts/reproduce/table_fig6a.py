"""Compare receivers with a public rerun of DeepRx's figure 6(a): BER of 16-QAM without interference.

leanrx defines SINR per receive antenna. The rerun does not state its definition. The last columns compare its curve for
a known channel with the curve of leanrx at 3 dB more, as if the rerun summed the power of both antennas.

The rerun (github.com/Tonyerwite/DeepRX, MATLAB's 5G Toolbox) has 1000 slots per point. leanrx uses the scenario
``deeprx-2021`` with its test channels, one or two pilot symbols, and the same slots for all receivers. Counts are
stored in ``runs/fig6a``, and a second call resumes.

    python scripts/reproduce/table_fig6a.py [--receivers NAME...] [--slots 2048] [--workers 2] [--write]

``--receivers`` are receivers of the zoo. They are compared with the rerun's DeepRx at 3 dB more. ``--write`` keeps this
comparison in ``docs/data/fig6a.csv``, and writes the tables of docs/results.md from it and from
``docs/data/family.csv``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from channels import SlotStream, scenario
from leanrx.report.formatting import interval
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content
from receivers import zoo
from receivers.base import Receiver
from receivers.classical import LmmseReceiver, LsReceiver, PerfectCsiReceiver
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.rates import rates
from receivers.evaluation.stopping import Evaluation

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
NUMBERS, FAMILY = (ROOT / "docs" / "data" / name for name in ("fig6a.csv", "family.csv"))
SINR_DB = (0.0, 6.0, 12.0, 18.0)
SHIFT_DB = 3.0  # of a power convention that sums both antennas
PILOTS = {1: ((2,), (3,)), 2: ((2, 11), (3, 11))}
DEEPRX = {0.0: (0.1981, 0.1658), 6.0: (0.0533, 0.0461), 12.0: (0.004064, 0.002817), 18.0: (0.000539, 0.000188)}
"""BER of the rerun's DeepRx by SINR in dB, with 1 and 2 pilot symbols."""
RERUN = {  # LMMSE with 1 pilot, with 2 pilots, with the channel known
    0.0: (0.2669, 0.2210, 0.1745),
    6.0: (0.1882, 0.0591, 0.0488),
    12.0: (0.1545, 0.007657, 0.003289),
    18.0: (0.1482, 0.002431, 0.000233),
}


def count(pilots: int, names: Sequence[str], slots: int, workers: int) -> pd.DataFrame:
    base = scenario("deeprx-2021")
    grid = base.grid.model_copy(update={"pilot_patterns": PILOTS[pilots]})
    quiet = base.model_copy(update={"grid": grid, "interferers": ()})
    points = tuple(s + d for s in SINR_DB for d in (0.0, SHIFT_DB))
    evaluation = Evaluation(sinr_db=points, block_slots=64, min_slots=slots, max_slots=slots, target_slot_errors=None)
    path = Path("runs/fig6a") / f"pilots-{pilots}.parquet"
    receivers: list[Receiver] = [LsReceiver(), LmmseReceiver(quiet), PerfectCsiReceiver()]
    receivers += [zoo.load(name) for name in names]
    stream = SlotStream(quiet, 1, evaluation.block_slots, "test")
    for state in count_errors(receivers, stream, evaluation, path, workers):
        if state.stopped:
            print(f"{pilots} pilots, {state.sinr_db:g} dB: {state.slots} slots", flush=True)
    return rates(pd.read_parquet(path)).set_index(["receiver", "sinr_db"])


def numbers(tables: dict[int, pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """BER of the receivers and of perfect CSI at the SINRs of the rerun, shifted.

    Args:
        tables: rates by number of pilot symbols.
        names: of receivers.
    """
    columns = ["slots", "ber", "ber_low", "ber_high"]
    rows = [
        (pilots, name, sinr_db, *tables[pilots].loc[(name, sinr_db + SHIFT_DB), columns])
        for pilots in PILOTS
        for name in [*names, PerfectCsiReceiver.label]
        for sinr_db in SINR_DB
    ]
    return pd.DataFrame(rows, columns=["pilots", "receiver", "sinr_db", *columns])


def learned_table(table: pd.DataFrame) -> str:
    """Receivers beside the rerun's DeepRx, with one and two pilot symbols, and perfect CSI."""
    names = [name for name in table["receiver"].unique() if name != PerfectCsiReceiver.label]
    rows = table.set_index(["pilots", "receiver", "sinr_db"])
    head = ["SINR of the rerun"]
    for pilots in PILOTS:
        plural = "s" if pilots > 1 else ""
        head += [f"{pilots} pilot{plural}: `{name}`" for name in names] + [f"{pilots} pilot{plural}: rerun's DeepRx"]
    lines = []
    for sinr_db in SINR_DB:
        cells = [f"{sinr_db:g} dB"]
        for pilots, rerun in zip(PILOTS, DEEPRX[sinr_db], strict=True):
            values = [rows.loc[(pilots, name, sinr_db), ["ber", "ber_low", "ber_high"]] for name in names]
            cells += [interval(ber, low, high, "{:.3g}") for ber, low, high in values] + [f"{rerun:.3g}"]
        lines.append([*cells, f"{rows.loc[(2, PerfectCsiReceiver.label, sinr_db), 'ber']:.3g}"])
    return markdown_table([*head, "2 pilots: perfect CSI"], lines)


def family_table(table: pd.DataFrame) -> str:
    """The rerun at 6, 12 and 18 dB beside the family at 3 dB more, each with one pilot symbol.

    Args:
        table: numbers of ``scripts/reproduce/family_tables.py``.
    """
    points = SINR_DB[1:]
    head = ["", *(f"{s:g} / {s + SHIFT_DB:g} dB" for s in points)]
    lines = [["rerun, DeepRx", *(f"{DEEPRX[s][0]:.3g}" for s in points)]]
    for (spec, _), rows in table[table["role"].isin(["teacher", "student"])].groupby(["spec", "role"], sort=False):
        seeds = f", mean of {len(rows)} seeds" if len(rows) > 1 else ""
        lines.append([f"ours, `{spec}`{seeds}", *(f"{rows[f'ber at {s + SHIFT_DB:g} dB'].mean():.3g}" for s in points)])
    lines.append(["rerun, LMMSE with known channel", *(f"{RERUN[s][2]:.3g}" for s in points)])
    bound = table[table["receiver"] == PerfectCsiReceiver.label].iloc[0]
    lines.append(["ours, perfect CSI", *(f"{bound[f'ber at {s + SHIFT_DB:g} dB']:.3g}" for s in points)])
    return markdown_table(head, lines)


def page() -> str:
    """The page with the present tables between their marks.

    Raises:
        UserError: if the page has no marks.
    """
    return with_marked_content(PAGE, {"fig6a": learned_table(pd.read_csv(NUMBERS))})


def family_page() -> str:
    """The page with the table of the family beside the rerun.

    Raises:
        UserError: if the page has no marks.
    """
    return with_marked_content(PAGE, {"rerun": family_table(pd.read_csv(FAMILY))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receivers", nargs="+", default=[], metavar="NAME", help="receivers of the zoo")
    parser.add_argument("--slots", type=int, default=2048, help="slots per point, a multiple of 64")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write the tables of docs/results.md, of --receivers")
    arguments = parser.parse_args()
    try:
        if arguments.write and not arguments.receivers:
            raise UserError("--write: needs --receivers; give the receivers of the table")
        tables = {pilots: count(pilots, arguments.receivers, arguments.slots, arguments.workers) for pilots in PILOTS}
        if arguments.write:
            write_atomic(NUMBERS, numbers(tables, arguments.receivers).to_csv(index=False, float_format="%.6g"))
            write_atomic(PAGE, page())
            write_atomic(PAGE, family_page())
    except UserError as error:
        sys.exit(f"table_fig6a: {error}")

    def cell(receiver: str, pilots: int, sinr_db: float) -> str:
        row = tables[pilots].loc[(receiver, sinr_db)]
        return f"{row['ber']:.3g} ({row['ber_low']:.3g}..{row['ber_high']:.3g})"

    classical = Table(
        "SINR dB", "LS 1", "LMMSE 1", "rerun", "LS 2", "LMMSE 2", "rerun", "known", "known, +3 dB", "rerun"
    )
    names = [*arguments.receivers, "rerun's DeepRx"]
    learned = Table("SINR dB (leanrx: +3 dB)", *(f"{name} {p}" for p in PILOTS for name in names))
    for sinr_db in SINR_DB:
        shifted_db = sinr_db + SHIFT_DB
        rerun_1, rerun_2, rerun_csi = (f"{ber:.3g}" for ber in RERUN[sinr_db])
        classical.add_row(
            f"{sinr_db:g}",
            cell("LS", 1, sinr_db),
            cell("LMMSE", 1, sinr_db),
            rerun_1,
            cell("LS", 2, sinr_db),
            cell("LMMSE", 2, sinr_db),
            rerun_2,
            cell("perfect CSI", 2, sinr_db),
            cell("perfect CSI", 2, shifted_db),
            rerun_csi,
        )
        pairs = zip(PILOTS, DEEPRX[sinr_db], strict=True)
        learned.add_row(
            f"{sinr_db:g}",
            *(x for p, ber in pairs for x in (*(cell(n, p, shifted_db) for n in arguments.receivers), f"{ber:.3g}")),
        )
    console = Console(width=190)
    console.print(classical)
    if arguments.receivers:
        console.print(learned)


if __name__ == "__main__":
    main()
