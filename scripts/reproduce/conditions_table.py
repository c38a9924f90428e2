"""Test one receiver in many conditions, beside LMMSE-IRC and LMMSE on the same slots, and write docs/conditions.md.

    python scripts/reproduce/conditions_table.py count RECEIVER [--shard 1/4] [--cells WORD...] [--specialists FOLDER]
    python scripts/reproduce/conditions_table.py specialists RECEIVER [--cells WORD...]
    python scripts/reproduce/conditions_table.py write RECEIVER

RECEIVER is a folder with weights and card, or a name in the zoo. Its network takes any number of antennas. A cell is a
combination of antennas, modulation, DMRS symbols, subcarrier spacing, bandwidth, Doppler and interferer. Counts go to
``runs/conditions``, one table per cell, and an interrupted call resumes. Shards divide the cells. LMMSE-IRC and LMMSE
know the covariance of each cell's own test channels.

``specialists`` trains the same network on single cells, with as many slots as the receiver. ``count`` tests them too.

``write`` puts the numbers into ``docs/data/conditions.csv``, the page into ``docs/conditions.md``, and a summary into
the receiver's card. Without a receiver, it writes the page from the numbers alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from channels import SlotStream
from channels.grid import SUBCARRIERS_PER_PRB
from distillation.job import Job, Training
from distillation.trainer import train
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table
from receivers import zoo
from receivers.base import Receiver
from receivers.classical import LmmseIrcReceiver, LmmseReceiver
from receivers.evaluation.comparison import mean_ratio
from receivers.evaluation.condition_cells import (
    BLOCKS,
    MARGIN_DB,
    TARGET_BERS,
    TEST_CHANNELS,
    Cell,
    cells,
    chosen_cells,
)
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.points import Shard
from receivers.evaluation.rates import rates
from receivers.neural.registry import FAMILIES
from receivers.neural.weights import Card, NeuralReceiver, load

ROOT = Path(__file__).parents[2]
NUMBERS = ROOT / "docs" / "data" / "conditions.csv"
PAGE = ROOT / "docs" / "conditions.md"
COUNTS = Path("runs/conditions")

SEED = 11
LMMSE_IRC, LMMSE = "LMMSE-IRC", "LMMSE"
LOSS_LIMITS_DB = (0.1, 0.2)
VERDICTS = ("below", "not separated", "above")


def count(receiver: NeuralReceiver, cell: Cell, specialists: Path | None = None) -> None:
    """Count the errors of the receiver and of both classical receivers in a cell."""
    scenario = cell.scenario
    receivers: list[Receiver] = [LmmseReceiver(scenario), LmmseIrcReceiver(scenario), receiver]
    if specialists is not None and (specialists / cell.name / "card.json").exists():
        receivers.append(load(specialists / cell.name))
    stream = SlotStream(scenario, SEED, cell.evaluation.block_slots, "test", purpose="conditions")
    for state in count_errors(receivers, stream, cell.evaluation, counts_path(receiver, cell)):
        if state.stopped:
            errors = ", ".join(f"{name} {value.ber:.2e}" for name, value in state.counts.items())
            print(f"{cell.name} {state.sinr_db:g} dB: {errors}", flush=True)


def counts_path(receiver: NeuralReceiver, cell: Cell) -> Path:
    """Table of counts of a cell."""
    return COUNTS / receiver.digest[:12] / f"{cell.name}.parquet"


def train_specialist(receiver: NeuralReceiver, cell: Cell, folder: Path) -> None:
    """Train the receiver's network on one cell, with as many slots and the same settings; resumes after a kill."""
    settings = {key: value for key, value in receiver.card.training.items() if key in Training.model_fields}
    job = Job(cell.name, "scratch", receiver.card.receiver, cell.scenario, Training.model_validate(settings), seed=SEED)
    if not (folder / "receivers" / cell.name / "card.json").exists():
        train([job], folder)
    print(f"{cell.name}: trained", flush=True)


def numbers(receiver: NeuralReceiver) -> pd.DataFrame:
    """One row per counted cell and test point."""
    rows: list[dict[str, Any]] = []
    for cell in cells():
        path = counts_path(receiver, cell)
        if path.exists():
            counts = pd.read_parquet(path)
            counts.loc[counts["digest"] == receiver.digest, "receiver"] = (
                receiver.name
            )  # it may have been renamed since
            rows += cell_rows(cell, counts, receiver.name)
    if not rows:
        raise UserError(f"{COUNTS}: has no counts of {receiver.name}; run 'count' first")
    return with_losses(pd.DataFrame(rows)).assign(**training_facts(receiver.card))


def training_facts(card: Card) -> dict[str, Any]:
    """What the page says about the receiver and its training, from its card.

    Raises:
        UserError: if the card does not hold the conditions, or a test channel was one of the training.
    """
    if card.conditions is None:
        raise UserError(f"{card.name}: its card is of an earlier version and holds no conditions; train it again")
    members = card.conditions.training_members
    common_channels = sorted({name for member in members for name in member.channels.train} & set(TEST_CHANNELS))
    if common_channels:
        raise UserError(
            f"{card.name}: was trained on {', '.join(common_channels)}; take a receiver without test channels"
        )
    prb = [member.grid.num_subcarriers // SUBCARRIERS_PER_PRB for member in members]
    return {
        "name": card.name,
        "parameters": card.parameters,
        "steps": card.training.get("steps_taken", card.training["steps"]),
        "all_steps": card.training["steps"],
        "scenario": card.scenario,
        "members": len(members),
        "min_trained_prb": min(prb),
        "max_trained_prb": max(prb),
    }


def with_losses(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the ratio to LMMSE-IRC as a loss in dB, ``loss_db``.

    The logarithm of the ratio is divided by the slope of the receiver's own BER curve between the SINRs of a cell. The
    loss is negative where the receiver has fewer errors. There is none without errors, or if it would be larger than
    the distance of the SINRs, over which the slope is known.

    Example:
        >>> points = {"cell": "a", "sinr_db": [0.0, 10.0], "ber_receiver": [1e-1, 1e-2], "ratio": [10**0.05, 1.0]}
        >>> with_losses(pd.DataFrame(points))["loss_db"].round(3).tolist()
        [0.5, 0.0]
    """
    with np.errstate(divide="ignore"):
        logs = np.log(table["ber_receiver"])
        log_ratios = np.log(table["ratio"])
    points = table.assign(log=logs).groupby("cell", sort=False)
    slopes = -(points["log"].last() - points["log"].first()) / (points["sinr_db"].last() - points["sinr_db"].first())
    losses = log_ratios / table["cell"].map(slopes)
    distances = table["cell"].map(points["sinr_db"].last() - points["sinr_db"].first())
    return table.assign(loss_db=losses.where(losses.abs() <= distances))


def cell_rows(cell: Cell, counts: pd.DataFrame, name: str) -> Iterator[dict[str, Any]]:
    """Rows of a cell: conditions, BER of all receivers, and the ratio to LMMSE-IRC and to the specialist."""
    table = rates(counts).set_index(["sinr_db", "receiver"])
    for sinr_db in cell.sinr_db:
        row = {
            "cell": cell.name,
            "antennas": cell.num_rx,
            "modulation": cell.modulation,
            "dmrs_symbols": cell.dmrs_symbols,
            "spacing_khz": cell.spacing_hz // 1000,
            "prb": cell.num_prb,
            "doppler_hz": f"{cell.max_doppler_hz[0]:g}-{cell.max_doppler_hz[1]:g}",
            "interference_fraction": cell.interference_fraction,
            "sinr_db": sinr_db,
            "slots": int(table.loc[(sinr_db, name), "slots"]),
        }
        for column, receiver in (("receiver", name), ("lmmse_irc", LMMSE_IRC), ("lmmse", LMMSE)):
            row[f"ber_{column}"] = table.loc[(sinr_db, receiver), "ber"]
        ratio = mean_ratio(counts, [(name, LMMSE_IRC)], sinr_db)
        row |= {"ratio": ratio.value, "ratio_low": ratio.low, "ratio_high": ratio.high}
        if (sinr_db, cell.name) in table.index:  # a specialist has the name of its cell
            ratio = mean_ratio(counts, [(name, cell.name)], sinr_db)
            row |= {"specialist_ratio": ratio.value, "specialist_low": ratio.low, "specialist_high": ratio.high}
        yield row


def verdict(low: float, high: float) -> str:
    """Where a receiver's BER lies, by the interval of its ratio to another: one of :data:`VERDICTS`, or nothing.

    Example:
        >>> verdict(0.5, 0.9), verdict(0.9, 1.2), verdict(1.01, 1.2), verdict(float("nan"), float("nan"))
        ('below', 'not separated', 'above', '')
    """
    if np.isnan(low) or np.isnan(high):
        return ""
    return "below" if high < 1 else "above" if low > 1 else "not separated"


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """What the table says in a few numbers, for the receiver's card."""
    verdicts = [verdict(low, high) for low, high in zip(table["ratio_low"], table["ratio_high"], strict=True)]
    result: dict[str, Any] = {"cells": int(table["cell"].nunique()), "points": len(table)}
    result |= {f"{name.replace(' ', '_')}_lmmse_irc": verdicts.count(name) for name in VERDICTS}
    losses = table["loss_db"].where([name == "above" for name in verdicts])
    result |= {f"above_by_{limit}_db": int((losses > limit).sum()) for limit in LOSS_LIMITS_DB}
    result |= {"largest_loss_db": round(float(losses.max()), 3) if losses.notna().any() else 0.0}
    text = table.to_csv(index=False, float_format="%.6g")
    return result | {"table_sha256": hashlib.sha256(text.encode()).hexdigest()}


FACTORS = {
    "antennas": "antennas",
    "modulation": "modulation",
    "dmrs_symbols": "DMRS symbols",
    "spacing_khz": "spacing [kHz]",
    "prb": "PRB",
    "doppler_hz": "Doppler [Hz]",
    "interference_fraction": "interference fraction",
}
"""Columns of conditions, and their headings."""


def page(table: pd.DataFrame) -> str:
    """The page of the documentation."""
    totals = summary(table)
    losses = (
        "The loss is the additional SINR in dB that the receiver needs for the BER of LMMSE-IRC. It is estimated from "
        "the ratio and from the slope of the receiver's own BER curve between both SINRs of a cell. It is negative "
        "where the receiver makes fewer errors. The largest loss is that of a point with the verdict `above`."
    )
    lines = [
        "# One receiver in many conditions",
        "",
        _introduction(table),
        "",
        _reading(table),
        "",
        losses,
        "",
        f"* Cells: {totals['cells']}, with {totals['points']} test points.",
        f"* BER below LMMSE-IRC's: {totals['below_lmmse_irc']} points.",
        f"* Not separated: {totals['not_separated_lmmse_irc']} points.",
        f"* BER above LMMSE-IRC's: {totals['above_lmmse_irc']} points. The loss is above {LOSS_LIMITS_DB[0]} dB in "
        f"{totals[f'above_by_{LOSS_LIMITS_DB[0]}_db']} of them, above {LOSS_LIMITS_DB[1]} dB in "
        f"{totals[f'above_by_{LOSS_LIMITS_DB[1]}_db']}. The largest estimate is {totals['largest_loss_db']:.2f} dB.",
        f"* We aimed at no point above. This goal is {'not met' if totals['above_lmmse_irc'] else 'met'}.",
        *_specialists(table),
        "",
        "`scripts/reproduce/conditions_table.py` counts the errors and writes this page.",
        "",
        "## By condition",
        "",
        "The ratio is the geometric mean of the receiver's BER over LMMSE-IRC's.",
        "",
        *_markdown(
            ["condition", "value", "points", *VERDICTS, "ratio", "largest loss [dB]"],
            list(_by_condition(table)),
        ),
        "",
        "## All cells",
        "",
        "Each row is one test point.",
        "",
        *_markdown(
            [*FACTORS.values(), "SINR [dB]", "receiver", LMMSE_IRC, LMMSE, "ratio", "loss [dB]", "verdict"],
            _point_rows(table),
        ),
        "",
    ]
    return "\n".join(lines)


def _introduction(table: pd.DataFrame) -> str:
    """What was compared, and how the receiver was trained."""
    first = table.iloc[0]
    steps = " of ".join(dict.fromkeys(f"{int(first[name]):,}" for name in ("steps", "all_steps")))
    prb = " to ".join(dict.fromkeys(f"{int(first[name])}" for name in ("min_trained_prb", "max_trained_prb")))
    conditions = f", a mixture of {int(first['members'])} conditions" if first["members"] > 1 else ""
    wider = sorted(set(table["prb"][table["prb"] > first["max_trained_prb"]]))
    outside = f" Slots of {', '.join(map(str, wider))} PRB are outside of it." if wider else ""
    return (
        f"This page compares one receiver, `{first['name']}` with {int(first['parameters']):,} parameters, with "
        "LMMSE-IRC and LMMSE. It has the same weights in all conditions. It was trained on the scenario "
        f"`{first['scenario']}`{conditions}, for {steps} steps. Training had {prb} PRB.{outside} Each cell is one "
        "combination of conditions, with test channels and slots that no training had. The combinations are a part of "
        f"all. All receivers see the same slots. Test channels are {', '.join(TEST_CHANNELS)}. The SINRs are those at "
        f"which perfect CSI has a BER of about {' and '.join(f'{ber:g}' for ber in TARGET_BERS)} in Rayleigh fading, "
        f"and {MARGIN_DB:g} dB more."
    )


def _reading(table: pd.DataFrame) -> str:
    """How to read the verdicts."""
    points = table[(table["interference_fraction"] == 0) & (table["ber_lmmse_irc"] > 0) & (table["ber_lmmse"] > 0)]
    ratio = float(np.exp(np.log(points["ber_lmmse"] / points["ber_lmmse_irc"]).mean()))
    without_interferer = (
        f"Without an interferer, the BER of LMMSE is {ratio:.3f} times that of LMMSE-IRC, in the mean. "
    )
    return (
        "LMMSE-IRC and LMMSE know the covariance of each cell's test channels, which no receiver in service does. The "
        f"receiver knows nothing of the cell. {without_interferer if len(points) else ''}A verdict rests on the 95 % "
        f"interval of the ratio of the receiver's BER to that of LMMSE-IRC, over {BLOCKS} blocks of slots. With equal "
        "receivers, one verdict in forty would be `above` by chance."
    )


def _specialists(table: pd.DataFrame) -> list[str]:
    """The line on networks that were trained on one cell each, if there are any."""
    points = table[table["specialist_ratio"] > 0] if "specialist_ratio" in table else table[:0]
    if points.empty:
        return []
    verdicts = [
        verdict(low, high) for low, high in zip(points["specialist_low"], points["specialist_high"], strict=True)
    ]
    ratio = float(np.exp(np.log(points["specialist_ratio"]).mean()))
    return [
        f"* The same network was also trained on {points['cell'].nunique()} single cells, for as many steps. In the "
        f"mean, the receiver's BER is {ratio:.2f} times that of the network of the cell. It is below that in "
        f"{verdicts.count('below')} of {len(points)} points, not separated in {verdicts.count('not separated')}, and "
        f"above in {verdicts.count('above')}."
    ]


def _by_condition(table: pd.DataFrame) -> Iterator[list[str]]:
    """Rows of each condition, and of the two that decide: pilots in time, and how fast the channel changes."""
    pilots, doppler = "DMRS symbols, Doppler [Hz]", table["dmrs_symbols"].astype(str) + ", " + table["doppler_hz"]
    for column, heading in [*FACTORS.items(), (pilots, pilots)]:
        for value, rows in table.assign(**{pilots: doppler}).groupby(column, sort=column == pilots):
            totals, logs = summary(rows), np.log(rows["ratio"].dropna())
            counts = [str(totals[f"{name.replace(' ', '_')}_lmmse_irc"]) for name in VERDICTS]
            ratio = f"{np.exp(logs.mean()):.2f}" if len(logs) else ""
            loss = totals["largest_loss_db"]
            yield [heading, str(value), str(len(rows)), *counts, ratio, f"{loss:.2f}" if loss else ""]


def _point_rows(table: pd.DataFrame) -> list[list[str]]:
    return [
        [
            *(str(row[column]) for column in FACTORS),
            f"{row['sinr_db']:g}",
            *(f"{row[f'ber_{name}']:#.3g}" for name in ("receiver", "lmmse_irc", "lmmse")),
            "" if np.isnan(row["ratio"]) else f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})",
            "" if np.isnan(row["loss_db"]) else f"{row['loss_db']:.2f}",
            verdict(row["ratio_low"], row["ratio_high"]),
        ]
        for row in table.to_dict("records")
    ]


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return markdown_table(headings, rows, text_columns=len(headings)).splitlines()


def write(name: str | None) -> None:
    """Write numbers and summary of a receiver, and the page from the numbers."""
    if name is not None:
        receiver, folder = _receiver(name)
        card = receiver.card
        write_atomic(NUMBERS, numbers(receiver).to_csv(index=False, float_format="%.6g"))
        card = card.model_copy(update={"tested_conditions": summary(pd.read_csv(NUMBERS))})
        write_atomic(folder / "card.json", json.dumps(card.model_dump(mode="json"), indent=2) + "\n")
    write_atomic(PAGE, page(pd.read_csv(NUMBERS)))


def _receiver(name: str) -> tuple[NeuralReceiver, Path]:
    """A receiver and its folder, from a folder or the zoo."""
    folder = Path(name) if Path(name).is_dir() else zoo.SHIPPED / name
    receiver = zoo.load(name)
    if not receiver.net.takes_any_num_rx:
        takers = " or ".join(family.name for family in FAMILIES.values() if family.network.takes_any_num_rx)
        raise UserError(f"{name}: {receiver.card.receiver} takes {receiver.card.num_rx} antennas; name a {takers}")
    return receiver, folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("count", "specialists", "write"))
    parser.add_argument("receiver", nargs="?", help="folder of a receiver, or a name in the zoo")
    parser.add_argument("--shard", default="1/1", help="part of the cells, such as 1/4")
    parser.add_argument("--cells", nargs="*", default=[], metavar="WORD", help="parts of names of cells; default: all")
    parser.add_argument("--specialists", type=Path, default=COUNTS / "specialists", help="run folder of specialists")
    arguments = parser.parse_args()
    try:
        if arguments.step == "write":
            write(arguments.receiver)
            return
        if arguments.receiver is None:
            raise UserError(f"{arguments.step}: name a receiver")
        receiver, _ = _receiver(arguments.receiver)
        for cell in chosen_cells(arguments.cells, Shard.parse(arguments.shard)):
            if arguments.step == "count":
                count(receiver, cell, arguments.specialists / "receivers")
            else:
                train_specialist(receiver, cell, arguments.specialists)
    except UserError as error:
        sys.exit(f"conditions_table: {error}")


if __name__ == "__main__":
    main()
