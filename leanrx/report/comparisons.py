"""What distillation brought, as tables: nets over their seeds, gains over twins, losses to teachers, families.

A *variant* is a net with its way to distil, whatever the seed: ``hybrid-w8-d2-kd-T4`` for ``hybrid-w8-d2-kd-T4-s1``,
``-s2`` and so on. No drawing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple

import numpy as np
import pandas as pd

from distillation.objective import Distillation
from leanrx.experiment.plan import Plan, ReceiverRecord
from leanrx.experiment.sweep_config import SweepConfig
from receivers.evaluation.comparison import Comparison, Pairs, mean_gap_db, mean_ratio

TARGETS = (1e-2, 1e-3)
"""BERs at which gains are stated, besides the report's own."""


def variant_names(names: Sequence[str], plan: Plan) -> list[str]:
    """Receivers without their seeds."""
    return [plan[name].variant for name in names]


def variants(sizes: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """One row per variant and classical receiver, means over seeds.

    Args:
        sizes: :attr:`leanrx.report.analysis.Analysis.sizes`.

    Returns:
        columns ``variant, role, receiver, family, way, rest, teacher, kind``, numeric settings of the distillation,
        ``seeds, parameters, macs_per_slot, energy_j_per_slot, energy_kind, ber, ber_low, ber_high,
        ber_at_highest_sinr, ber_at_highest_sinr_low, ber_at_highest_sinr_high, highest_sinr_reliable, best, on_front``.
        ``receiver`` is the spec string; ``way`` what tells a way to distil from others, and ``rest`` that without
        temperature and alpha; ``kind`` says what taught: ``teacher`` (one trained one), ``bound``, or
        ``other``. BERs are means over seeds, and their ends the outermost of the seeds' intervals. ``best`` marks the
        variant of a spec's students with the lowest BER, and every receiver that is no student; ``on_front`` those that
        no other beats in BER, energy and parameters at once.
    """
    rows = []
    for name, group in sizes.groupby("variant", sort=False):
        first = group.iloc[0]
        entry = plan[str(first["receiver"])]
        row = {
            "variant": name,
            "role": first["role"],
        }
        row |= dict.fromkeys(("way", "rest", "teacher", "kind"), "")
        row |= {**_description(entry, plan), "seeds": len(group)}
        row |= {c: first[c] for c in ("parameters", "macs_per_slot", "energy_kind")}
        row["energy_j_per_slot"] = group["energy_j_per_slot"].mean()
        for ber in ("ber", "ber_at_highest_sinr"):
            row |= {ber: group[ber].mean(), f"{ber}_low": group[f"{ber}_low"].min()}
            row[f"{ber}_high"] = group[f"{ber}_high"].max()
        row["highest_sinr_reliable"] = group["highest_sinr_reliable"].all()
        rows.append(row)
    found = pd.DataFrame(rows)
    students = found[found["role"] == "student"]
    found["best"] = (found["role"] != "student") | found.index.isin(students.groupby("receiver")["ber"].idxmin())
    built = found.dropna(subset=["energy_j_per_slot"])
    front = pareto(built["ber"], built["energy_j_per_slot"], built["parameters"])
    found["on_front"] = front.reindex(found.index, fill_value=False)
    return found


def _description(entry: ReceiverRecord, plan: Plan) -> dict[str, object]:
    row: dict[str, object] = {"receiver": entry.spec, "family": entry.family}
    if entry.distillation is None:
        return row
    role = plan[entry.teachers[0]].role if len(entry.teachers) == 1 else ""
    settings = {k: getattr(entry.distillation, k) for k in Distillation.model_fields}
    row |= {k: v for k, v in settings.items() if isinstance(v, float)}
    return {
        **row,
        "way": "-".join(entry.setting_labels.values()),
        "rest": "-".join(label for k, label in entry.setting_labels.items() if k not in ("temperature", "alpha")),
        "teacher": "+".join(plan[t].variant for t in entry.teachers),
        "kind": {"classical": "bound", "teacher": "teacher"}.get(role, "other"),
    }


def pareto(*costs: pd.Series) -> pd.Series:
    """Which rows are on the front: no other is as low in all costs and lower in one."""
    each = [c.to_numpy()[:, None] for c in costs]
    no_worse = np.logical_and.reduce([c >= c.T for c in each])
    better = np.logical_or.reduce([c > c.T for c in each])
    return pd.Series(~(no_worse & better).any(1), index=costs[0].index)


def targets(config: SweepConfig) -> list[float]:
    """BERs at which gains are stated, highest first."""
    return sorted({config.report.target_ber, *TARGETS}, reverse=True)


def twin_pairs(names: Sequence[str], plan: Plan) -> dict[str, Pairs]:
    """Twin and student of every seed, by variant of the students among ``names``."""
    return _pairs(names, plan, lambda record: (plan.scratch_of(record.name), record))


def teacher_pairs(names: Sequence[str], plan: Plan) -> dict[str, Pairs]:
    """Receiver and teacher of every seed, by variant of the students and twins among ``names``."""
    return _pairs(names, plan, lambda record: (record, plan.reference_teacher(record.name)))


def _pairs(
    names: Sequence[str],
    plan: Plan,
    pair: Callable[[ReceiverRecord], tuple[ReceiverRecord | None, ReceiverRecord | None]],
) -> dict[str, Pairs]:
    found: dict[str, list[tuple[str, str]]] = {}
    for record in plan.neural:
        first, second = pair(record)
        if first and second and first.name in names and second.name in names:
            found.setdefault(record.variant, []).append((first.name, second.name))
    return dict(found)


def gaps(pairs: Mapping[str, Pairs], counts: pd.DataFrame, bers: Sequence[float], name: str) -> pd.DataFrame:
    """Differences in needed SINR at several BERs.

    Args:
        pairs: by variant: what needs more, and than what.
        counts: of one interference share.
        bers: targets.
        name: of the column of dB.

    Returns:
        columns ``variant, target_ber, seeds, <name>, <name>_low, <name>_high, <name>_at_least, over``, as
        :class:`receivers.evaluation.comparison.Comparison`.
    """
    rows = []
    for v, both in pairs.items():
        theirs = counts[counts["receiver"].isin({receiver for pair in both for receiver in pair})]
        rows += [{"variant": v, "target_ber": b, **_row(mean_gap_db(theirs, both, b), name)} for b in bers]
    return pd.DataFrame(rows, columns=["variant", "target_ber", *_columns(name)])


def with_teacher(losses: pd.DataFrame, pairs: Mapping[str, Pairs], sizes: pd.DataFrame) -> pd.DataFrame:
    """Losses with the name of the teacher that they are told against, and the share of its MACs.

    The share is NaN where the teacher knows the channel and so cannot be built.

    Args:
        losses: of :func:`gaps`.
        pairs: that they were made from.
        sizes: as :func:`variants`.
    """
    table = sizes.set_index("receiver")
    macs = table["macs_per_slot"].where(table["role"] != "classical")
    share = {v: macs[both[0][0]] / macs[both[0][1]] for v, both in pairs.items()}
    return losses.assign(
        against=[pairs[v][0][1] for v in losses["variant"]], macs_share=[share[v] for v in losses["variant"]]
    )


def floors(pairs: Mapping[str, Pairs], counts: pd.DataFrame, sinr_db: float) -> pd.DataFrame:
    """BER of the first receivers over that of the second at one SINR, in columns like those of :func:`gaps`."""
    rows = [{"variant": v, **_row(mean_ratio(counts, both, sinr_db), "ber_ratio")} for v, both in pairs.items()]
    return pd.DataFrame(rows, columns=["variant", *_columns("ber_ratio")])


def _columns(name: str) -> list[str]:
    return ["seeds", name, f"{name}_low", f"{name}_high", f"{name}_at_least", "over"]


def _row(found: Comparison, name: str) -> dict[str, object]:
    *values, of_seeds = astuple(found)
    return dict(zip(_columns(name), [len(of_seeds), *values, found.over], strict=True))


def by_teacher(table: pd.DataFrame) -> pd.DataFrame:
    """Students by the trained teacher that taught them, each in its best other settings.

    Args:
        table: of :func:`variants`.

    Returns:
        columns ``receiver, teacher, teacher_macs_per_slot, variant, ber, ber_low, ber_high``; empty unless teachers of
        several sizes taught.
    """
    macs = table[table["role"] == "teacher"].set_index("variant")["macs_per_slot"]
    taught = table[(table["role"] == "student") & (table["kind"] == "teacher")]
    best = taught.loc[taught.groupby(["receiver", "teacher"], sort=False)["ber"].idxmin()]
    found = best.assign(teacher_macs_per_slot=best["teacher"].map(macs)).sort_values("teacher_macs_per_slot")
    if found["teacher_macs_per_slot"].nunique() < 2:
        found = found.iloc[:0]
    return found[["receiver", "teacher", "teacher_macs_per_slot", "variant", "ber", "ber_low", "ber_high"]].reset_index(
        drop=True
    )


def contest(table: pd.DataFrame) -> pd.DataFrame:
    """The best that each family does with at most so many MACs: one row per size at which all families have a student.

    Args:
        table: of :func:`variants`.

    Returns:
        columns ``macs_per_slot, winner, separated`` and, for each family, ``<family>, <family>_ber, <family>_ber_low,
        <family>_ber_high``; empty unless there are students of two families. The winner is separated if its interval
        ends below those of the others.
    """
    students = table[table["role"] == "student"]
    families = list(dict.fromkeys(students["family"]))
    rows = []
    for macs in sorted(students["macs_per_slot"].unique()) if len(families) > 1 else []:
        fitting = students[students["macs_per_slot"] <= macs]
        if set(fitting["family"]) != set(families):
            continue
        best = fitting.loc[fitting.groupby("family")["ber"].idxmin()].set_index("family")
        winner = str(best["ber"].idxmin())
        row = {
            "macs_per_slot": macs,
            "winner": winner,
            "separated": bool(best.loc[winner, "ber_high"] < best["ber_low"].drop(winner).min()),
        }
        for family, one in best.iterrows():
            row |= {str(family): one["variant"]} | {f"{family}_{k}": one[k] for k in ("ber", "ber_low", "ber_high")}
        rows.append(row)
    return pd.DataFrame(rows)
