"""What the report says, as tables; no drawing here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from channels import NUM_SYMBOLS
from leanrx.experiment.run import Run
from leanrx.experiment.workflow import all_receivers, operation_profiles
from leanrx.life_cycle.inventory import METERED
from leanrx.report.comparisons import (
    by_teacher,
    contest,
    floors,
    gaps,
    targets,
    teacher_pairs,
    twin_pairs,
    variant_names,
    variants,
    with_teacher,
)
from leanrx_core.errors import UserError
from receivers.evaluation.rates import rates
from receivers.evaluation.required_sinr import NO_GAP, gap_db, sinr_at_ber
from receivers.neural.weights import NeuralReceiver


@dataclass(frozen=True)
class Analysis:
    """Everything that is shown.

    Attributes:
        rates: BER and slot error rate with intervals, by receiver, interference share and SINR.
        sizes: one row per receiver: size, energy, SINR needed, loss to the teacher, gain over the twin.
        energy: metered and estimated energy of inference, per slot and per data bit.
        agreement: estimates beside the meter, per receiver and estimator.
        training: energy of training each learned receiver.
        variants: one row per receiver but for its seed, see :func:`leanrx.report.comparisons.variants`.
        gains: dB less than the twin, by variant and BER, see :func:`leanrx.report.comparisons.gaps`.
        losses: dB more than the teacher, likewise, with its name and the share of its MACs.
        floors: BER of the twin over the student's at the highest SINR, by variant.
        seeds: ``gains`` for each seed alone; ``variant`` is the student.
        taught: students by the size of their teacher, see :func:`leanrx.report.comparisons.by_teacher`.
        contest: the families at equal MACs, see :func:`leanrx.report.comparisons.contest`.
        data_bits_per_slot: data bits that a slot carries (mean over pilot patterns, highest modulation).
        share, sinr_db, target_ber: where the trade-off is read.
        highest_sinr_db: where error floors are read.
        metered_kind: mark of the metered joules.
    """

    rates: pd.DataFrame
    sizes: pd.DataFrame
    energy: pd.DataFrame
    agreement: pd.DataFrame
    training: pd.DataFrame
    variants: pd.DataFrame
    gains: pd.DataFrame
    losses: pd.DataFrame
    floors: pd.DataFrame
    seeds: pd.DataFrame
    taught: pd.DataFrame
    contest: pd.DataFrame
    data_bits_per_slot: float
    share: float
    sinr_db: float
    highest_sinr_db: float
    target_ber: float
    metered_kind: str


def analyse(run: Run) -> Analysis:
    """Compute all tables of a run.

    Raises:
        UserError: if the run was not evaluated or metered yet.
    """
    counts, energy_rows = run.counts(), run.energy()
    receivers = all_receivers(run, "cpu")
    counts = _only_current(counts, {r.name: r.digest for r in receivers})
    table = rates(counts)
    share = min(run.config.evaluation.interference_fractions)
    points = np.array(shared_points(table, share))
    if not len(points):
        raise UserError(f"{run.folder}: no SINR at which all receivers were counted; run: leanrx evaluate {run.folder}")
    sinr_db = float(points[np.abs(points - run.config.report.sinr_db).argmin()])
    bits = _data_bits_per_slot(run)
    energy = _inference(energy_rows, bits)
    sizes = _sizes(run, receivers, counts, table, energy, share, sinr_db)
    at_share = counts[counts["interference_fraction"] == share]
    names = sizes["receiver"].tolist()
    sizes.insert(1, "variant", variant_names(names, run.plan))
    twins, teachers = twin_pairs(names, run.plan), teacher_pairs(names, run.plan)
    bers, by_variant = targets(run.config), variants(sizes, run.plan)
    return Analysis(
        rates=table,
        sizes=sizes,
        energy=energy,
        agreement=_agreement(energy),
        training=_training(energy_rows),
        variants=by_variant,
        gains=gaps(twins, at_share, bers, "gain_db"),
        losses=with_teacher(gaps(teachers, at_share, bers, "loss_db"), teachers, sizes),
        floors=floors(twins, at_share, float(points[-1])),
        seeds=gaps({s: [(t, s)] for pairs in twins.values() for t, s in pairs}, at_share, bers, "gain_db"),
        taught=by_teacher(by_variant),
        contest=contest(by_variant),
        data_bits_per_slot=bits,
        share=share,
        sinr_db=sinr_db,
        highest_sinr_db=float(points[-1]),
        target_ber=run.config.report.target_ber,
        metered_kind=str(energy.loc[energy["source"] == METERED, "kind"].iloc[0]),
    )


def shared_points(table: pd.DataFrame, share: float) -> list[float]:
    """SINR points at which every receiver of the table was counted, increasing."""
    rows = table[table["interference_fraction"] == share]
    receivers = rows.groupby("sinr_db")["receiver"].nunique()
    return sorted(float(s) for s in receivers.index[receivers == rows["receiver"].nunique()])


def mape(agreement: pd.DataFrame) -> dict[str, float]:
    """Mean absolute percentage error of the energy of each estimator against the meter."""
    error = (agreement["estimated_j_per_slot"] / agreement["metered_j_per_slot"] - 1).abs()
    return {str(k): float(v) for k, v in (100 * error.groupby(agreement["estimator"]).mean()).items()}


def _only_current(counts: pd.DataFrame, digests: dict[str, str]) -> pd.DataFrame:
    known = counts["receiver"].map(digests)
    return counts[known == counts["digest"]]


def _data_bits_per_slot(run: Run) -> float:
    grid = run.config.scenario.grid
    pilots = np.mean([len(p) for p in grid.pilot_patterns])
    return float((NUM_SYMBOLS - pilots) * grid.num_subcarriers * run.config.scenario.bits_per_symbol)


def _inference(rows: pd.DataFrame, bits: float) -> pd.DataFrame:
    rows = rows[rows["phase"] == "inference"].copy()
    rows["energy_j_per_slot"] = rows["energy_j"] / rows["slots"]
    rows["energy_j_per_data_bit"] = rows["energy_j_per_slot"] / bits
    rows["duration_s_per_slot"] = rows["duration_s"] / rows["slots"]
    return rows.reset_index(drop=True)


def _training(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["phase"] == "training"].reset_index(drop=True)


def _agreement(energy: pd.DataFrame) -> pd.DataFrame:
    metered = energy[energy["source"] == METERED].set_index("receiver")
    rows = energy[energy["source"] != METERED]
    return pd.DataFrame(
        {
            "receiver": rows["receiver"],
            "estimator": rows["source"],
            "metered_j_per_slot": rows["receiver"].map(metered["energy_j_per_slot"]),
            "metered_kind": rows["receiver"].map(metered["kind"]),
            "estimated_j_per_slot": rows["energy_j_per_slot"],
            "metered_s_per_slot": rows["receiver"].map(metered["duration_s_per_slot"]),
            "estimated_s_per_slot": rows["duration_s_per_slot"],
            "ratio": rows["energy_j_per_slot"] / rows["receiver"].map(metered["energy_j_per_slot"]),
        }
    ).reset_index(drop=True)


def _sizes(
    run: Run,
    receivers: list[Any],
    counts: pd.DataFrame,
    table: pd.DataFrame,
    energy: pd.DataFrame,
    share: float,
    sinr_db: float,
) -> pd.DataFrame:
    nets = {_net(r): r for r in receivers}
    counted = operation_profiles(run, list(nets.values()))
    metered = energy[energy["source"] == METERED].set_index("receiver")
    target = run.config.report.target_ber
    at_share = counts[counts["interference_fraction"] == share]
    highest_db = shared_points(table, share)[-1]
    evaluated = set(counts["receiver"])
    rows = []
    for receiver in receivers:
        name = receiver.name
        if name not in evaluated:
            continue
        curve = table[(table["receiver"] == name) & (table["interference_fraction"] == share)].sort_values("sinr_db")
        at_point = curve[curve["sinr_db"] == sinr_db].iloc[0]
        floor = curve[curve["sinr_db"] == highest_db].iloc[0]
        points, errors, bits = curve[["sinr_db", "bit_errors", "bits"]].to_numpy(float).T
        operation = counted[nets[_net(receiver)].name]
        role = receiver.card.role if isinstance(receiver, NeuralReceiver) else "classical"
        row = {
            "receiver": name,
            "role": role,
            "parameters": operation.parameters,
            "macs_per_slot": operation.macs,
            "energy_j_per_slot": _look_up(metered, name, "energy_j_per_slot"),
            "energy_kind": metered["kind"].get(name, ""),
            "energy_j_per_data_bit": _look_up(metered, name, "energy_j_per_data_bit"),
            "ber": at_point["ber"],
            "ber_low": at_point["ber_low"],
            "ber_high": at_point["ber_high"],
            "ber_at_highest_sinr": floor["ber"],
            "ber_at_highest_sinr_low": floor["ber_low"],
            "ber_at_highest_sinr_high": floor["ber_high"],
            "highest_sinr_reliable": floor["reliable"],
            "sinr_db_at_target": float(sinr_at_ber(points, errors, bits, target)),
        }
        twin, teacher = run.plan.scratch_of(name), run.plan.reference_teacher(name)
        gaps = {
            "loss_to_teacher_db": gap_db(at_share, name, teacher.name, target) if teacher else NO_GAP,
            "gain_over_twin_db": gap_db(at_share, twin.name, name, target) if twin else NO_GAP,
        }
        for column, gap in gaps.items():
            row |= {column: gap.gap_db, f"{column}_low": gap.low_db, f"{column}_high": gap.high_db}
        rows.append(row)
    return pd.DataFrame(rows)


def _net(receiver: Any) -> str:
    """What operations depend on: equal nets are counted once."""
    return receiver.card.receiver if isinstance(receiver, NeuralReceiver) else str(receiver.name)


def _look_up(table: pd.DataFrame, name: str, column: str) -> float:
    return float(table[column].get(name, np.nan))
