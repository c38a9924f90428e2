"""Write what a receiver's size costs in dB into docs/results.md, beside published receivers, and draw the figure.

    leanrx sweep configs/family.yaml
    leanrx sweep configs/small.yaml
    python scripts/reproduce/size_at_loss.py runs/family runs/small

Both runs have the same teacher, and test on the same slots. The numbers are kept in ``docs/data/size-at-loss.csv``.
Without a run, the script only writes the tables and the figure, from this file and from
``docs/data/compact-receivers.csv``. The latter has the figures of other projects, as published.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from channels import NUM_SYMBOLS
from energy.counting.counter import count
from leanrx.experiment.run import Run, load_run
from leanrx.report.charts import Curve, Figure, to_files
from leanrx.report.comparisons import teacher_pairs
from leanrx.report.formatting import interval
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content
from receivers.evaluation.comparison import Comparison, Pairs, mean_gap_db

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
NUMBERS = ROOT / "docs" / "data" / "size-at-loss.csv"
PUBLISHED = ROOT / "docs" / "data" / "compact-receivers.csv"
FIGURE = ROOT / "docs" / "images" / "size-at-loss.png"
BOUND = "perfect CSI-IRC"
ROLES = {"teacher": "teacher", "student": "distilled", "scratch": "scratch baseline"}
GOAL_PARAMETERS, GOAL_KMACS, GOAL_LOSS_DB = 2_000, 1.0, 0.5
"""Goal for the smallest receiver: at most these parameters and operations per RE, at most this loss to the teacher."""

STYLES = {
    "hybrid-w64-d8": ("#d55e00", "square"),
    "hybrid-w13-d8": ("#0072b2", "circle"),
    "hybrid-recurrent-w10-d3": ("#cc79a7", "pentagon"),
}
OTHER_STYLE = ("#009e73", "triangle-up")
PUBLISHED_MARKERS = ("star", "cross", "hexagon", "pentagon", "diamond", "triangle-down", "square-open")
PUBLISHED_COLOUR = "#777777"
PUBLISHED_ROW_DB = -0.4
"""Place of the published receivers on the vertical axis, which has no meaning for them."""


def numbers(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per network, role and interference fraction: sizes, loss to the teacher, and SINR beyond perfect CSI.

    A network in several runs, such as their teacher, has the row of the first one.
    """
    table = pd.DataFrame(row for run in runs for row in _rows(run))
    return table.drop_duplicates(["network", "role", "interference_fraction"], ignore_index=True)


def _rows(run: Run) -> Iterator[dict[str, object]]:
    counts, config, grid = run.counts(), run.config, run.config.scenario.grid
    to_teacher = teacher_pairs(sorted(counts["receiver"].unique()), run.plan)
    for variant in dict.fromkeys(record.variant for record in run.plan.neural):
        records = [record for record in run.plan.neural if record.variant == variant]
        to_bound = [(record.name, BOUND) for record in records]
        operations = count(records[0].spec, grid)
        for fraction in config.evaluation.interference_fractions:
            at_fraction = counts[counts["interference_fraction"] == fraction]
            gaps = {"loss": to_teacher.get(variant), "beyond": to_bound}
            yield {
                "network": records[0].spec,
                "role": ROLES[records[0].role],
                "trainings": len(records),
                "parameters": operations.parameters,
                "macs_per_re": operations.macs / (grid.num_subcarriers * NUM_SYMBOLS),
                "interference_fraction": fraction,
                "target_ber": config.report.target_ber,
                **{
                    f"{kind}_db{end}": value
                    for kind, pairs in gaps.items()
                    for end, value in _gap(at_fraction, pairs, config.report.target_ber).items()
                },
            }


def _gap(counts: pd.DataFrame, pairs: Pairs | None, target_ber: float) -> dict[str, float]:
    """A gap with the ends of its interval; 0 for the teacher to itself."""
    gap = Comparison(0.0, 0.0, 0.0, float("nan"), (0.0,)) if pairs is None else mean_gap_db(counts, pairs, target_ber)
    return {"": gap.value, "_low": gap.low, "_high": gap.high}


def published() -> pd.DataFrame:
    """Receivers of other projects, with their operations per RE and layer where these are published."""
    table = pd.read_csv(PUBLISHED, keep_default_na=False, na_values={"flop_per_slot": "", "res_per_slot": ""})
    layers = pd.to_numeric(table["layers"], errors="coerce")
    table["kmacs_per_re"] = table["flop_per_slot"] / 2e3 / table["res_per_slot"] / layers
    return table.sort_values("kmacs_per_re", ascending=False)


def markdown(table: pd.DataFrame) -> str:
    """The goal in words, our receivers, and published receivers."""
    return "\n\n".join([goal_sentences(table), _own_table(table), PUBLISHED_TEXT, _published_table()])


PUBLISHED_TEXT = """Published receivers have other channels, antennas and baselines. So their losses cannot be compared
with ours, and the figure marks only their operations. A MAC is two FLOPs. Operations are those
of one spatial layer, so of one transmitted stream."""


def goal_sentences(table: pd.DataFrame) -> str:
    """How far the network with the fewest parameters is from the goal."""
    quiet = table[(table["interference_fraction"] == 0) & (table["role"] != "teacher")]
    smallest = quiet[quiet["parameters"] == quiet["parameters"].min()].sort_values("loss_db").iloc[0]
    parameters, kmacs = smallest["parameters"], smallest["macs_per_re"] / 1e3
    is_small = parameters <= GOAL_PARAMETERS and kmacs <= GOAL_KMACS
    verdict = "met" if is_small and smallest["loss_db_high"] <= GOAL_LOSS_DB else "**not met**"
    share = smallest["macs_per_re"] / table.loc[table["role"] == "teacher", "macs_per_re"].iloc[0]
    return (
        f"We aimed at a loss of at most {GOAL_LOSS_DB:g} dB with {GOAL_PARAMETERS:,} parameters and {GOAL_KMACS:g} "
        f"kMAC per RE. This goal is {verdict}. The smallest network, `{smallest['network']}`, has {parameters:,} "
        f"parameters, {kmacs:.2f} kMAC per RE and 1/{1 / share:.0f} of the teacher's operations. The loss of its "
        f"better variant ({smallest['role']}) is {_cell(smallest, 'loss')} dB without an interferer"
        + (", an interval that contains zero." if smallest["loss_db_low"] <= 0 <= smallest["loss_db_high"] else ".")
    )


def _own_table(table: pd.DataFrame) -> str:
    fractions = sorted(table["interference_fraction"].unique())
    phrases = ["with an interferer" if fraction else "without interferer" for fraction in fractions]
    head = ["receiver", "trainings", "parameters", "kMAC per RE"]
    head += [f"loss to the teacher [dB], {phrase}" for phrase in phrases]
    head += [f"SINR beyond {BOUND} [dB], {phrase}" for phrase in phrases]
    rows = []
    for (network, role), group in table.groupby(["network", "role"], sort=False):
        first, by_fraction = group.iloc[0], group.set_index("interference_fraction")
        gaps = [_cell(by_fraction.loc[fraction], kind) for kind in ("loss", "beyond") for fraction in fractions]
        sizes = [str(first["trainings"]), f"{first['parameters']:,}", f"{first['macs_per_re'] / 1e3:.2f}"]
        rows.append([f"`{network}`, {role}", *sizes, *gaps])
    return markdown_table(head, rows)


def _cell(row: pd.Series, kind: str) -> str:
    if kind == "loss" and row["role"] == "teacher":
        return "0"
    value, low, high = (float(row[f"{kind}_db{end}"]) for end in ("", "_low", "_high"))
    return interval(value, low, high, "{:.2f}") or "not reached"


def _published_table() -> str:
    head = ["receiver", "published result", "source", "parameters", "kMAC per RE"]
    rows = [
        [
            str(row["receiver"]),
            str(row["result"]),
            str(row["source"]),
            f"{row['parameters']:,}",
            "not published" if pd.isna(row["kmacs_per_re"]) else _three_digits(row["kmacs_per_re"]),
        ]
        for row in published().to_dict("records")
    ]
    return markdown_table(head, rows, text_columns=3)


def _three_digits(value: float) -> str:
    """A number with three digits or all its whole ones."""
    return f"{value:,.{max(0, 2 - int(math.log10(value)))}f}"


def figure(table: pd.DataFrame) -> Figure:
    """Loss to the teacher over operations per RE, without an interferer."""
    quiet = table[table["interference_fraction"] == 0]
    curves = [_point(row) for _, row in quiet.iterrows()]
    goal_x, goal_y = [0.4, GOAL_KMACS, GOAL_KMACS], [GOAL_LOSS_DB, GOAL_LOSS_DB, 0.0]
    curves.append(Curve(f"goal: {GOAL_PARAMETERS:,}", goal_x, goal_y, colour="#000000", dash="dash", marker="none"))
    rows = published().dropna(subset="kmacs_per_re").to_dict("records")
    curves += [
        Curve(
            f"{row['receiver']}: {row['parameters']:,}",
            [row["kmacs_per_re"]],
            [PUBLISHED_ROW_DB],
            colour=PUBLISHED_COLOUR,
            marker=marker,
            lines=False,
            size=10,
        )
        for row, marker in zip(rows, PUBLISHED_MARKERS, strict=True)
    ]
    return Figure(
        name=FIGURE.stem,
        caption="",
        x_title="kMAC per RE (and layer), front end and detection included",
        y_title="loss to the teacher at BER 0.01 [dB]",
        curves=curves,
        x_log=True,
        y_log=False,
        y_range=(1.5 * PUBLISHED_ROW_DB, 1.05 * float(quiet["loss_db_high"].max())),
    )


def _point(row: pd.Series) -> Curve:
    colour, marker = STYLES.get(str(row["network"]), OTHER_STYLE)
    return Curve(
        f"{row['network']}, {row['role']}: {row['parameters']:,}",
        [row["macs_per_re"] / 1e3],
        [row["loss_db"]],
        [row["loss_db_low"]],
        [row["loss_db_high"]],
        colour=colour,
        marker=marker + ("-open" if row["role"] == ROLES["scratch"] else ""),
        lines=False,
        size=10,
    )


def page() -> str:
    """The page with the present tables between their marks.

    Raises:
        UserError: if the page has no marks.
    """
    return with_marked_content(PAGE, {"size at loss": markdown(pd.read_csv(NUMBERS))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders of evaluated runs with one teacher")
    arguments = parser.parse_args()
    try:
        if arguments.runs:
            table = numbers([load_run(run) for run in arguments.runs])
            write_atomic(NUMBERS, table.to_csv(index=False, float_format="%.6g"))
        write_atomic(PAGE, page())
        write_atomic(FIGURE, to_files(figure(pd.read_csv(NUMBERS)))[FIGURE.name])
    except UserError as error:
        sys.exit(f"size_at_loss: {error}")


if __name__ == "__main__":
    main()
