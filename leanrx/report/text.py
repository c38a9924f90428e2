"""What a sweep answers, in words and in the page's tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from leanrx.report.analysis import Analysis
from leanrx.report.formatting import interval, table
from leanrx.report.sweep_figures import CASE_STUDY, CLOSE_DB, SMALL

CLOSE_AT_BER = 1e-2
"""BER at which a student is called close to its teacher."""


def sentences(analysis: Analysis) -> list[str]:
    """The answers that this sweep has: gains, closeness to the teacher, teachers, families, the front."""
    students = analysis.variants[analysis.variants["role"] == "student"]
    if not len(students):
        return []
    found = [_gain(analysis, str(spec), rows) for spec, rows in students.groupby("receiver", sort=False)]
    found += [f"{CASE_STUDY}.", _luck(analysis), *_closeness(analysis)]
    found += [_teacher(analysis, str(spec), rows) for spec, rows in analysis.taught.groupby("receiver", sort=False)]
    if len(analysis.contest):
        found.append(_families(analysis))
    if students["receiver"].nunique() > 1:
        front = analysis.variants.loc[analysis.variants["on_front"], "variant"]
        found.append(
            f"No other receiver has a lower BER at {analysis.sinr_db:g} dB, less energy and fewer parameters at once "
            f"than {', '.join(front)}."
        )
    return found


def _gain(analysis: Analysis, spec: str, ways: pd.DataFrame) -> str:
    best = ways[ways["best"]].iloc[0]
    rows = analysis.gains[analysis.gains["variant"] == best["variant"]]
    parts = [_gain_at(row) for row in rows.to_dict("records")]
    floor = analysis.floors[analysis.floors["variant"] == best["variant"]]
    if len(floor):
        parts.append(_floor(analysis, floor.iloc[0]))
    which = f"{best['variant']}, of {len(ways)} ways that with the lowest BER at {analysis.sinr_db:g} dB"
    return (
        f"Distillation against training from scratch, {which if len(ways) > 1 else best['variant']}: "
        f"{'; '.join(parts) if parts else 'it has no twin'}."
    )


def _gain_at(row: dict[str, Any]) -> str:
    at = f"at BER {row['target_ber']:g}"
    if not np.isnan(row["gain_db"]):
        return f"{row['gain_db']:+.2f} dB {at} ({_verdict(row)})"
    if not np.isnan(row["gain_db_at_least"]):
        return f"at least {row['gain_db_at_least']:+.2f} dB {at}, which the twin does not reach in the tested range"
    return f"no gain in dB {at}, which the student does not reach in the tested range"


def _verdict(row: dict[str, Any]) -> str:
    low, high = row["gain_db_low"], row["gain_db_high"]
    if np.isnan(low):
        return "interval not available: too few blocks, or some resamples do not reach that BER"
    words = "gain" if low > 0 else "loss" if high < 0 else "no separated difference"
    return f"95 % interval over {row['over']} {low:+.2f} to {high:+.2f} dB: {words}"


def _floor(analysis: Analysis, row: pd.Series) -> str:
    at = f"at {analysis.highest_sinr_db:g} dB, the highest SINR,"
    if np.isnan(row["ber_ratio"]):
        return f"{at} one of the two has no error at all"
    ratio = interval(row["ber_ratio"], row["ber_ratio_low"], row["ber_ratio_high"], "{:.2f}")
    doubt = "" if firm(analysis, str(row["variant"])) else ", on too few erroneous slots to speak of a floor"
    return f"{at} the twin has {ratio} times its BER{doubt}"


def firm(analysis: Analysis, variant: str) -> bool:
    """Whether a student and its twin have 100 erroneous slots each at the highest SINR, with every seed."""
    both = analysis.variants.set_index("variant")
    spec = both.loc[variant, "receiver"]
    twins = both[(both["role"] == "scratch") & (both["receiver"] == spec)]
    return bool(both.loc[variant, "highest_sinr_reliable"] and twins["highest_sinr_reliable"].all())


def _luck(analysis: Analysis) -> str:
    seeds = int(analysis.variants.loc[analysis.variants["role"] == "student", "seeds"].max())
    words = f"Students were trained with {seeds} seed(s): "
    if seeds == 1:
        words += "intervals cover the test slots, not the luck of training."
    else:
        words += "intervals in dB cover the test slots and the luck of training students, not that of the teacher."
    return words + (" No claim for distillation rests on fewer than 3 seeds." if seeds < 3 else "")


def _closeness(analysis: Analysis) -> list[str]:
    """Which small students are close to their teacher, each in the way to distil that comes closest."""
    students = analysis.variants.loc[analysis.variants["role"] == "student", ["variant", "receiver"]]
    rows = analysis.losses.merge(students, on="variant").dropna(subset=["macs_share"])
    rows = rows[rows["target_ber"] == CLOSE_AT_BER].sort_values("loss_db").drop_duplicates(["receiver", "against"])
    if not len(rows):
        return []
    small = rows[rows["macs_share"] <= SMALL]
    if not len(small):
        return [
            f"No student has {SMALL:.0%} or less of its teacher's MACs; the least is {rows['macs_share'].min():.0%}."
        ]
    told = small.dropna(subset=["loss_db"])
    close = told[told["loss_db"] <= CLOSE_DB]
    words = f"Of {len(small)} students with {SMALL:.0%} or less of their teacher's MACs, "
    if len(close):
        return [
            f"{words}{len(close)} lose{'s' if len(close) == 1 else ''} {CLOSE_DB:g} dB or less to it at BER "
            f"{CLOSE_AT_BER:g}: {'; '.join(map(_lost, close.to_dict('records')))}."
        ]
    if len(told):
        return [
            f"{words}none is within {CLOSE_DB:g} dB of it at BER {CLOSE_AT_BER:g}; the closest: "
            f"{_lost(told.iloc[0].to_dict())}."
        ]
    return [f"{words}none can be compared with it at BER {CLOSE_AT_BER:g}: one of the two does not reach it."]


def _lost(row: dict[str, Any]) -> str:
    loss = interval(row["loss_db"], row["loss_db_low"], row["loss_db_high"], "{:+.2f}")
    return f"{row['variant']} with {row['macs_share']:.1%} of the MACs of {row['against']}, {loss} dB"


def _teacher(analysis: Analysis, spec: str, rows: pd.DataFrame) -> str:
    first, *others = rows.sort_values("ber").to_dict("records")
    words = f"Best teacher of {spec} by BER at {analysis.sinr_db:g} dB: {first['teacher']} ({first['ber']:.2g}"
    if others:
        apart = "separated" if first["ber_high"] < others[0]["ber_low"] else "intervals overlap"
        words += f"; next {others[0]['teacher']}, {others[0]['ber']:.2g}: {apart}"
    return words + ")."


def _families(analysis: Analysis) -> str:
    contest = analysis.contest
    families = [c.removesuffix("_ber") for c in contest.columns if c.endswith("_ber")]
    parts = []
    for family in families:
        won = contest[contest["winner"] == family]
        parts.append(f"{family} at {len(won)} ({int(won['separated'].sum())} with separated intervals)")
    return (
        f"Families at equal MACs: of {len(contest)} size(s) from {contest['macs_per_slot'].min():.3g} to "
        f"{contest['macs_per_slot'].max():.3g} MACs per slot, the best student with at most so many has the lowest "
        f"BER at {analysis.sinr_db:g} dB from {', '.join(parts)}."
    )


def gain_table(analysis: Analysis) -> dict[str, Any]:
    """The page's table of gains, floors and losses, one row per student and twin."""
    bers = sorted(analysis.gains["target_ber"].unique(), reverse=True)
    head = [
        "receiver",
        "seeds",
        *(f"gain over twin at BER {b:g} [dB]" for b in bers),
        f"BER of twin / BER at {analysis.highest_sinr_db:g} dB",
        *(f"loss to teacher at BER {b:g} [dB]" for b in bers),
        "MACs / teacher's",
    ]
    gains, losses = (t.set_index(["variant", "target_ber"]) for t in (analysis.gains, analysis.losses))
    floors = analysis.floors.set_index("variant")
    share = analysis.losses.drop_duplicates("variant").set_index("variant")["macs_share"]
    rows = []
    for row in analysis.variants[analysis.variants["role"].isin(["student", "scratch"])].to_dict("records"):
        name = row["variant"]
        floor = ""
        if name in floors.index:
            low, high = floors.loc[name, "ber_ratio_low"], floors.loc[name, "ber_ratio_high"]
            floor = interval(floors.loc[name, "ber_ratio"], low, high, "{:.2f}")
            floor += "" if firm(analysis, name) or not floor else " †"
        rows.append(
            [
                name,
                str(row["seeds"]),
                *(_gap(gains, (name, b), "gain_db") for b in bers),
                floor,
                *(_gap(losses, (name, b), "loss_db") for b in bers),
                f"{share[name]:.1%}" if name in share.index and not np.isnan(share[name]) else "",
            ]
        )
    over = [o for o in analysis.gains["over"].unique() if o != "nothing"]
    note = (
        (f"95 % intervals over {' or '.join(over)}. " if over else "")
        + "≥: one receiver never reaches the BER in the tested range, so the difference is larger. Empty: no "
        "difference. † fewer than 100 erroneous slots: says nothing about an error floor. "
    )
    files = ["gains.csv", "gains-by-seed.csv", "losses.csv", "floors.csv", "variants.csv"]
    return table(head, rows, note, files)


def _gap(rows: pd.DataFrame, at: tuple[str, float], column: str) -> str:
    if at not in rows.index:
        return ""
    row = rows.loc[at]
    if np.isnan(row[column]) and not np.isnan(row[f"{column}_at_least"]):
        return f"≥ {row[f'{column}_at_least']:+.2f}"
    return interval(row[column], row[f"{column}_low"], row[f"{column}_high"], "{:+.2f}")
