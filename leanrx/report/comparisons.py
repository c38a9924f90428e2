"""Comparisons between the receivers of a run, as tables: gains over scratch baselines, losses to teachers, families.

A *variant* is a network with its distillation setting, for all seeds: ``hybrid-w8-d2-kd-T4`` stands for
``hybrid-w8-d2-kd-T4-s1``, ``hybrid-w8-d2-kd-T4-s2`` and so on. BERs without unit are bit error rates between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import pandas as pd

from distillation.objective import Distillation
from leanrx.experiment.plan import Plan, ReceiverRecord
from receivers.evaluation.comparison import Comparison, Pairs, mean_gap_db, mean_ratio

DEFAULT_BERS = (1e-2, 1e-3)
"""BERs at which gains are stated, besides the report's own target."""

_BER_COLUMNS = ("ber", "ber_at_highest_sinr")


@dataclass(frozen=True)
class Comparisons:
    """Tables that compare the receivers of a run. Gains, losses and intervals in dB are differences of required SINR.

    Attributes:
        variants: one row per variant, see :func:`variants`.
        gains: dB that a student saves over its scratch baseline, by ``variant`` and ``target_ber``, see
            :func:`sinr_gaps`.
        gains_by_seed: the same for each student alone, in the same columns; ``variant`` is the student's name.
        losses: dB that a student or scratch baseline needs more than its teacher, see :func:`sinr_gaps` and
            :func:`with_reference_teacher`.
        error_floors: BER of the scratch baseline over that of the student at the highest SINR, see
            :func:`error_floors`.
        students_by_teacher: see :func:`students_by_teacher`.
        families: see :func:`families_at_equal_macs`.
    """

    variants: pd.DataFrame
    gains: pd.DataFrame
    gains_by_seed: pd.DataFrame
    losses: pd.DataFrame
    error_floors: pd.DataFrame
    students_by_teacher: pd.DataFrame
    families: pd.DataFrame


def compare(
    receivers: pd.DataFrame, plan: Plan, counts: pd.DataFrame, bers: Sequence[float], highest_sinr_db: float
) -> Comparisons:
    """Compare the receivers of a run.

    Args:
        receivers: one row per receiver, as :attr:`leanrx.report.results.RunResults.receivers`.
        plan: of the run.
        counts: error counts at one interference fraction.
        bers: BERs at which gains and losses are stated.
        highest_sinr_db: SINR at which error floors are read.
    """
    names = receivers["receiver"].tolist()
    baselines, teachers = scratch_pairs(names, plan), teacher_pairs(names, plan)
    by_seed = {student: [(baseline, student)] for pairs in baselines.values() for baseline, student in pairs}
    table = variants(receivers, plan)
    return Comparisons(
        variants=table,
        gains=sinr_gaps(baselines, counts, bers, "gain_db"),
        gains_by_seed=sinr_gaps(by_seed, counts, bers, "gain_db"),
        losses=with_reference_teacher(sinr_gaps(teachers, counts, bers, "loss_db"), teachers, receivers),
        error_floors=error_floors(baselines, counts, highest_sinr_db),
        students_by_teacher=students_by_teacher(table),
        families=families_at_equal_macs(table),
    )


def target_bers(target_ber: float) -> list[float]:
    """BERs at which gains are stated, highest first.

    >>> target_bers(0.05)
    [0.05, 0.01, 0.001]
    """
    return sorted({target_ber, *DEFAULT_BERS}, reverse=True)


def variants(receivers: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """One row per variant and classical receiver, with means over seeds.

    Args:
        receivers: one row per receiver, as :attr:`leanrx.report.results.RunResults.receivers`.
        plan: of the run.

    Returns:
        columns

        * ``variant, role, spec, family`` as :class:`leanrx.experiment.plan.ReceiverRecord`,
        * ``setting``: label of the distillation setting, and ``other_settings``: that label without temperature and
          alpha,
        * ``teacher``: variants of the teachers, joined by ``+``, and ``teacher_kind``: ``teacher`` (one trained
          teacher), ``genie-aided`` or ``other``,
        * ``temperature``, ``alpha`` and the other numbers of the distillation setting, NaN elsewhere,
        * ``seeds``: number of receivers in the row,
        * ``parameters, macs_per_slot, energy_j_per_slot`` (joules), ``provenance`` and ``runtime`` of the energy, and
          ``latency_s`` with its ``latency_runtime``,
        * ``ber, ber_at_highest_sinr`` with ``_low`` and ``_high``: means over seeds, and the outermost ends of the
          seeds' intervals,
        * ``highest_sinr_reliable``: whether every seed has a reliable point at the highest SINR,
        * ``best``: the variant with the lowest BER among those of one student network; true for other roles,
        * ``on_front``: no other receiver is as good in BER, energy and parameters and better in one of them.
    """
    rows = []
    for name, group in receivers.groupby("variant", sort=False):
        first = group.iloc[0]
        row = {"variant": name, "role": first["role"], **_description(plan[str(first["receiver"])], plan)}
        row |= {"seeds": len(group), **{c: first[c] for c in ("parameters", "macs_per_slot", "provenance")}}
        row |= {c: " and ".join(group[c].unique()) for c in ("runtime", "latency_runtime")}
        row |= {c: group[c].mean() for c in ("energy_j_per_slot", "latency_s")}
        for ber in _BER_COLUMNS:
            row |= {ber: group[ber].mean(), f"{ber}_low": group[f"{ber}_low"].min()}
            row[f"{ber}_high"] = group[f"{ber}_high"].max()
        row["highest_sinr_reliable"] = group["highest_sinr_reliable"].all()
        rows.append(row)
    table = pd.DataFrame(rows)
    students = table[table["role"] == "student"]
    table["best"] = (table["role"] != "student") | table.index.isin(students.groupby("spec")["ber"].idxmin())
    buildable = table.dropna(subset=["energy_j_per_slot"])
    front = pareto_front(buildable["ber"], buildable["energy_j_per_slot"], buildable["parameters"])
    table["on_front"] = front.reindex(table.index, fill_value=False)
    return table


def _description(record: ReceiverRecord, plan: Plan) -> dict[str, object]:
    """What identifies a variant, and the numbers of its distillation setting."""
    row: dict[str, object] = {"spec": record.spec, "family": record.family}
    row |= dict.fromkeys(("setting", "other_settings", "teacher", "teacher_kind"), "")
    if record.distillation is None:
        return row
    settings = {name: getattr(record.distillation, name) for name in Distillation.model_fields}
    labels = record.setting_labels
    teacher_role = plan[record.teachers[0]].role if len(record.teachers) == 1 else ""
    return {
        **row,
        **{name: value for name, value in settings.items() if isinstance(value, float)},
        "setting": "-".join(labels.values()),
        "other_settings": "-".join(v for name, v in labels.items() if name not in ("temperature", "alpha")),
        "teacher": "+".join(plan[t].variant for t in record.teachers),
        "teacher_kind": {"classical": "genie-aided", "teacher": "teacher"}.get(teacher_role, "other"),
    }


def pareto_front(*costs: pd.Series) -> pd.Series:
    """Rows on the Pareto front: no other row is as low in all costs and lower in one of them.

    >>> pareto_front(pd.Series([1.0, 2.0, 2.0]), pd.Series([0.3, 0.1, 0.2])).tolist()
    [True, True, False]
    """
    columns = [cost.to_numpy()[:, None] for cost in costs]
    no_worse = np.logical_and.reduce([column >= column.T for column in columns])
    worse = np.logical_or.reduce([column > column.T for column in columns])
    return pd.Series(~(no_worse & worse).any(1), index=costs[0].index)


def scratch_pairs(names: Sequence[str], plan: Plan) -> dict[str, Pairs]:
    """Scratch baseline and student of every seed, by variant of the students among ``names``."""
    return _pairs(names, plan, lambda record: (plan.scratch_of(record.name), record))


def teacher_pairs(names: Sequence[str], plan: Plan) -> dict[str, Pairs]:
    """Receiver and reference teacher of every seed, by variant of the students and baselines among ``names``."""
    return _pairs(names, plan, lambda record: (record, plan.reference_teacher(record.name)))


RecordPair = tuple[ReceiverRecord | None, ReceiverRecord | None]


def _pairs(names: Sequence[str], plan: Plan, pair: Callable[[ReceiverRecord], RecordPair]) -> dict[str, Pairs]:
    pairs: dict[str, list[tuple[str, str]]] = {}
    for record in plan.neural:
        first, second = pair(record)
        if first and second and first.name in names and second.name in names:
            pairs.setdefault(record.variant, []).append((first.name, second.name))
    return dict(pairs)


def sinr_gaps(pairs: Mapping[str, Pairs], counts: pd.DataFrame, bers: Sequence[float], column: str) -> pd.DataFrame:
    """Differences in required SINR at several BERs.

    Args:
        pairs: by variant; the gap is the SINR of the first receiver minus that of the second.
        counts: error counts at one interference fraction.
        bers: target BERs.
        column: name of the gap.

    Returns:
        columns ``variant, target_ber, seeds``, ``<column>, <column>_low, <column>_high, <column>_at_least`` in dB, and
        ``interval_over``, as :class:`receivers.evaluation.comparison.Comparison`.
    """
    rows = []
    for variant, both in pairs.items():
        own_counts = counts[counts["receiver"].isin({name for pair in both for name in pair})]
        for ber in bers:
            comparison = mean_gap_db(own_counts, both, ber)
            rows.append({"variant": variant, "target_ber": ber, **_comparison_row(comparison, column)})
    return pd.DataFrame(rows, columns=["variant", "target_ber", *_comparison_columns(column)])


def error_floors(pairs: Mapping[str, Pairs], counts: pd.DataFrame, sinr_db: float) -> pd.DataFrame:
    """Ratio of the BERs of two receivers at one SINR.

    Returns:
        columns ``variant, seeds``, ``ber_ratio`` (first receiver over second) with ``_low``, ``_high`` and
        ``_at_least``, and ``interval_over``.
    """
    rows = [
        {"variant": variant, **_comparison_row(mean_ratio(counts, both, sinr_db), "ber_ratio")}
        for variant, both in pairs.items()
    ]
    return pd.DataFrame(rows, columns=["variant", *_comparison_columns("ber_ratio")])


def _comparison_columns(column: str) -> list[str]:
    return ["seeds", column, f"{column}_low", f"{column}_high", f"{column}_at_least", "interval_over"]


def _comparison_row(comparison: Comparison, column: str) -> dict[str, object]:
    *values, per_seed = astuple(comparison)
    return dict(zip(_comparison_columns(column), [len(per_seed), *values, comparison.interval_scope], strict=True))


def with_reference_teacher(losses: pd.DataFrame, pairs: Mapping[str, Pairs], receivers: pd.DataFrame) -> pd.DataFrame:
    """Losses with the columns ``reference_teacher`` and ``macs_ratio``, the MACs over those of that teacher.

    The ratio is NaN where the teacher is genie-aided, because such a receiver cannot be built.

    Args:
        losses: of :func:`sinr_gaps`.
        pairs: the pairs of ``losses``.
        receivers: one row per receiver, as :attr:`leanrx.report.results.RunResults.receivers`.
    """
    table = receivers.set_index("receiver")
    macs = table["macs_per_slot"].where(table["role"] != "classical")
    ratio = {variant: macs[both[0][0]] / macs[both[0][1]] for variant, both in pairs.items()}
    return losses.assign(
        reference_teacher=[pairs[variant][0][1] for variant in losses["variant"]],
        macs_ratio=[ratio[variant] for variant in losses["variant"]],
    )


def students_by_teacher(table: pd.DataFrame) -> pd.DataFrame:
    """Students by their trained teacher, each in its best other settings.

    Args:
        table: of :func:`variants`.

    Returns:
        columns ``spec, teacher, teacher_macs_per_slot, variant, ber, ber_low, ber_high``, by the teacher's MACs. Empty
        unless the run has teachers of several sizes.
    """
    macs = table[table["role"] == "teacher"].set_index("variant")["macs_per_slot"]
    students = table[(table["role"] == "student") & (table["teacher_kind"] == "teacher")]
    best = students.loc[students.groupby(["spec", "teacher"], sort=False)["ber"].idxmin()]
    rows = best.assign(teacher_macs_per_slot=best["teacher"].map(macs)).sort_values("teacher_macs_per_slot")
    if rows["teacher_macs_per_slot"].nunique() < 2:
        rows = rows.iloc[:0]
    columns = ["spec", "teacher", "teacher_macs_per_slot", "variant", "ber", "ber_low", "ber_high"]
    return rows[columns].reset_index(drop=True)


def families_at_equal_macs(table: pd.DataFrame) -> pd.DataFrame:
    """The best student of each family with at most so many MACs, for each size that all families have a student for.

    Args:
        table: of :func:`variants`.

    Returns:
        columns ``macs_per_slot, family, variant, ber, ber_low, ber_high``; ``lowest_ber`` marks the best family of a
        size, and ``separated`` says whether its interval ends below those of the others. Empty unless there are
        students of two families.
    """
    students = table[table["role"] == "student"]
    num_families = students["family"].nunique()
    sizes = sorted(students["macs_per_slot"].unique()) if num_families > 1 else []
    groups = []
    for macs in sizes:
        candidates = students[students["macs_per_slot"] <= macs]
        best = candidates.loc[candidates.groupby("family", sort=False)["ber"].idxmin()]
        if len(best) < num_families:
            continue
        lowest = best["ber"] == best["ber"].min()
        separated = lowest & (best["ber_high"] < best.loc[~lowest, "ber_low"].min())
        columns = best[["family", "variant", "ber", "ber_low", "ber_high"]]
        groups.append(columns.assign(macs_per_slot=macs, lowest_ber=lowest, separated=separated))
    columns = ["macs_per_slot", "family", "variant", "ber", "ber_low", "ber_high", "lowest_ber", "separated"]
    return pd.concat(groups, ignore_index=True)[columns] if groups else pd.DataFrame(columns=columns)
