"""The typed results of a run, computed once. Tables, figures and sentences of the report are pure functions of them.

::

    Run: plan, error counts, energy, cards ---> run_results ---> RunResults ---> tables, figures, sentences, page
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from channels import NUM_SYMBOLS, Scenario
from channels.pilots import dmrs_layouts
from energy.metering.deployment import deployed_form, deployed_rows, latency_rows
from energy.metering.measurement import weakest
from energy.metering.table import file_rows, inference_rows, trainer_rows
from leanrx.experiment.plan import Plan
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import SweepConfig
from leanrx.experiment.workflow import all_receivers, operation_profiles
from leanrx.life_cycle.inventory import LifeCycleInventory
from leanrx.report.comparisons import Comparisons, compare, target_bers
from leanrx.report.style import StyleSheet, style_sheet
from leanrx_core.errors import UserError
from leanrx_core.tables import read_csv
from receivers.base import Receiver
from receivers.evaluation.rates import rates
from receivers.evaluation.required_sinr import NO_GAP, gap_db, sinr_at_ber


@dataclass(frozen=True)
class OperatingPoint:
    """Where error rates are read.

    Attributes:
        interference_fraction: the lowest tested one.
        sinr_db: the tested SINR closest to the report's setting, for the trade-off.
        highest_sinr_db: the highest SINR of all receivers, for error floors.
        target_ber: BER for required SINR.
    """

    interference_fraction: float
    sinr_db: float
    highest_sinr_db: float
    target_ber: float


@dataclass(frozen=True)
class EstimatorValidation:
    """What ``leanrx energy`` says about the energy estimators, over all runtimes.

    Attributes:
        scores: columns ``phase, runtime, estimator, calls, mape_time_percent, rank_time, mape_energy_percent,
            instrument, provenance``.
        clocks: FLOPs per clock of one core: columns ``receiver, runtime, phase, batch_slots,
            achieved_flops_per_clock, assumed_flops_per_clock, cycle_source``.
    """

    scores: pd.DataFrame
    clocks: pd.DataFrame


@dataclass(frozen=True)
class RunResults:
    """All results of a run.

    Attributes:
        config, plan: of the run.
        point: where error rates are read.
        data_bits_per_slot: data bits of a slot: mean over pilot layouts, at the highest modulation.
        rates: BER, slot error rate and BLER with intervals, see :func:`receivers.evaluation.rates.rates`.
        receivers: one row per receiver, see :func:`_receiver_table`.
        energy: inference energy of receivers as tested, by every method: the columns of ``energy.parquet``, and
            ``energy_j_per_slot``, ``energy_j_per_data_bit``, ``duration_s_per_slot``.
        deployed_energy: inference energy of the deployed form by the reference instrument, see
            :mod:`energy.metering.deployment`, indexed by receiver: the columns of ``energy``, ``form`` in words, and
            ``latency_s`` and ``latency_runtime`` of the fastest exported file that computes one slot after the other.
        file_energy: inference energy of exported files by every method, with the columns of ``energy``.
        training: training energy by every method: the columns of ``energy.parquet``.
        estimates: estimated energy beside that of the reference instrument, both as tested, see :func:`_estimates`.
        comparisons: between receivers.
        life_cycles: energy from the first training slot to the last slot in service.
        validation: of the energy estimators; none before ``leanrx energy``.
        environment: packages, platform and instruments at the start of the run.
        reference_instrument: whose joules count.
        provenance: of these joules: ``measured`` or ``modelled``.
    """

    config: SweepConfig
    plan: Plan
    point: OperatingPoint
    data_bits_per_slot: float
    rates: pd.DataFrame
    receivers: pd.DataFrame
    energy: pd.DataFrame
    deployed_energy: pd.DataFrame
    file_energy: pd.DataFrame
    training: pd.DataFrame
    estimates: pd.DataFrame
    comparisons: Comparisons
    life_cycles: LifeCycleInventory
    validation: EstimatorValidation | None
    environment: Mapping[str, Any]
    reference_instrument: str
    provenance: str

    @cached_property
    def styles(self) -> StyleSheet:
        """Styles of all receivers in figures."""
        return style_sheet(self.plan)

    @property
    def students(self) -> pd.DataFrame:
        """The rows of ``comparisons.variants`` that are students."""
        table = self.comparisons.variants
        return table[table["role"] == "student"]


def run_results(run: Run) -> RunResults:
    """Compute the results of a run.

    Raises:
        UserError: if the run was not evaluated or metered yet.
    """
    counts, receivers = run.counts(), all_receivers(run, "cpu")
    life_cycles = LifeCycleInventory(run)
    counts = _current_counts(counts, {r.name: r.digest for r in receivers})
    error_rates = rates(counts)
    point = _operating_point(run, error_rates)
    bits = data_bits_per_slot(run.config.scenario)
    energy_rows = run.energy()
    energy = _per_slot(inference_rows(energy_rows), bits)
    deployed = _deployed_energy(energy_rows, bits, life_cycles.reference_instrument)
    counts = counts[counts["interference_fraction"] == point.interference_fraction]
    table = _receiver_table(run, receivers, counts, error_rates, deployed, point)
    bers = target_bers(point.target_ber)
    return RunResults(
        config=run.config,
        plan=run.plan,
        point=point,
        data_bits_per_slot=bits,
        rates=error_rates,
        receivers=table,
        energy=energy,
        deployed_energy=deployed,
        file_energy=_per_slot(file_rows(energy_rows), bits),
        training=trainer_rows(energy_rows),
        estimates=_estimates(energy, life_cycles.reference_instrument),
        comparisons=compare(table, run.plan, counts, bers, point.highest_sinr_db),
        life_cycles=life_cycles,
        validation=estimator_validation(run),
        environment=run.environment(),
        reference_instrument=life_cycles.reference_instrument,
        provenance=weakest(deployed["provenance"]),
    )


def data_bits_per_slot(scenario: Scenario) -> float:
    """Data bits of a slot: the mean over the pilot layouts that a slot can have, at the highest modulation.

    >>> from channels import scenario
    >>> data_bits_per_slot(scenario("tdl-6prb"))  # 72 subcarriers, 13 data symbols of 4 bits per RE
    3744.0
    """
    grid = scenario.grid
    if grid.dmrs is None:
        occupied = grid.num_subcarriers - len(grid.empty_subcarriers)
        data_res = [(NUM_SYMBOLS - len(pattern)) * occupied for pattern in grid.pilot_patterns]
    else:
        data_res = [
            ((NUM_SYMBOLS - len(symbols)) * 12 + len(symbols) * sum(carries_data)) * grid.num_prb
            for symbols, _, carries_data in dmrs_layouts(grid.dmrs)
        ]
    return float(np.mean(data_res) * scenario.bits_per_symbol)


def shared_sinrs_db(error_rates: pd.DataFrame, interference_fraction: float) -> list[float]:
    """SINRs at which every receiver of the table was tested, increasing."""
    rows = error_rates[error_rates["interference_fraction"] == interference_fraction]
    receivers = rows.groupby("sinr_db")["receiver"].nunique()
    return sorted(float(s) for s in receivers.index[receivers == rows["receiver"].nunique()])


def mape(estimates: pd.DataFrame) -> dict[str, float]:
    """Mean absolute percentage error of each estimator's energy.

    Args:
        estimates: columns ``estimator, reference_j_per_slot, estimated_j_per_slot``.

    Returns:
        percent, by estimator.
    """
    error = (estimates["estimated_j_per_slot"] / estimates["reference_j_per_slot"] - 1).abs()
    return {str(k): float(v) for k, v in (100 * error.groupby(estimates["estimator"]).mean()).items()}


def _current_counts(counts: pd.DataFrame, digests: Mapping[str, str]) -> pd.DataFrame:
    """Counts of the receivers as they are now, and not of earlier weights."""
    return counts[counts["receiver"].map(digests) == counts["digest"]]


def _operating_point(run: Run, error_rates: pd.DataFrame) -> OperatingPoint:
    interference_fraction = min(run.config.evaluation.interference_fractions)
    sinrs_db = np.array(shared_sinrs_db(error_rates, interference_fraction))
    if not len(sinrs_db):
        raise UserError(
            f"{run.folder}: no SINR at which all receivers were evaluated; run: leanrx evaluate {run.folder}"
        )
    report = run.config.report
    closest = float(sinrs_db[np.abs(sinrs_db - report.sinr_db).argmin()])
    return OperatingPoint(interference_fraction, closest, float(sinrs_db[-1]), report.target_ber)


def _per_slot(rows: pd.DataFrame, data_bits: float) -> pd.DataFrame:
    energy_j = rows["energy_j"] / rows["slots"]
    return rows.assign(
        energy_j_per_slot=energy_j,
        energy_j_per_data_bit=energy_j / data_bits,
        duration_s_per_slot=rows["duration_s"] / rows["slots"],
    )


def _deployed_energy(table: pd.DataFrame, data_bits: float, instrument: str) -> pd.DataFrame:
    """See :attr:`RunResults.deployed_energy`."""
    deployed, latency = (
        _reference_rows(_per_slot(rows, data_bits), instrument) for rows in (deployed_rows(table), latency_rows(table))
    )
    columns = {"duration_s_per_slot": "latency_s", "runtime": "latency_runtime"}
    deployed = deployed.join(latency[list(columns)].rename(columns=columns)).fillna({"latency_runtime": ""})
    return deployed.assign(form=list(map(deployed_form, deployed["runtime"], deployed["batch_slots"])))


def _reference_rows(energy: pd.DataFrame, instrument: str) -> pd.DataFrame:
    return energy[energy["method"] == instrument].set_index("receiver")


def _estimates(energy: pd.DataFrame, instrument: str) -> pd.DataFrame:
    """Estimated inference energy beside that of the reference instrument.

    Returns:
        one row per receiver and estimator: ``receiver, estimator, provenance`` (of the reference),
        ``reference_j_per_slot, estimated_j_per_slot`` in joules, ``reference_s_per_slot, estimated_s_per_slot`` in
        seconds, and the ``ratio`` of the energies.
    """
    reference, rows = _reference_rows(energy, instrument), energy[energy["estimated"]]
    reference_j = rows["receiver"].map(reference["energy_j_per_slot"])
    columns = {
        "receiver": rows["receiver"],
        "estimator": rows["method"],
        "provenance": rows["receiver"].map(reference["provenance"]),
        "reference_j_per_slot": reference_j,
        "estimated_j_per_slot": rows["energy_j_per_slot"],
        "reference_s_per_slot": rows["receiver"].map(reference["duration_s_per_slot"]),
        "estimated_s_per_slot": rows["duration_s_per_slot"],
        "ratio": rows["energy_j_per_slot"] / reference_j,
    }
    return pd.DataFrame(columns).reset_index(drop=True)


def _receiver_table(
    run: Run,
    receivers: Sequence[Receiver],
    counts: pd.DataFrame,
    error_rates: pd.DataFrame,
    energy: pd.DataFrame,
    point: OperatingPoint,
) -> pd.DataFrame:
    """Size, energy and error rates of every evaluated receiver.

    Args:
        counts: error counts at the interference fraction of ``point``.
        energy: see :attr:`RunResults.deployed_energy`.

    Returns:
        columns

        * ``receiver, variant, role``,
        * ``parameters, macs_per_slot``,
        * ``energy_j_per_slot, energy_j_per_data_bit`` in joules, and ``provenance``; NaN and empty for a genie-aided
          receiver,
        * ``runtime`` of this energy, that of the deployed form,
        * ``latency_s``, the time of one slot in the fastest exported file that computes one slot after the other, and
          its ``latency_runtime``; NaN and empty without such a file,
        * ``ber, ber_low, ber_high`` at the SINR of the trade-off, ``ber_at_highest_sinr`` likewise, and
          ``highest_sinr_reliable``,
        * ``sinr_db_at_target``: required SINR for the target BER in dB,
        * ``loss_to_teacher_db`` and ``gain_over_scratch_db`` with ``_low`` and ``_high``, at the target BER.
    """
    evaluated = [r for r in receivers if r.name in set(counts["receiver"])]
    specs = {r.name: run.plan[r.name].spec or r.name for r in evaluated}
    networks = {specs[r.name]: r for r in evaluated}  # equal networks are counted once
    profiles = operation_profiles(run, list(networks.values()))
    rows = []
    for name, spec in specs.items():
        profile = profiles[networks[spec].name]
        rows.append(
            {
                "receiver": name,
                "variant": run.plan[name].variant,
                "role": run.plan[name].role,
                "parameters": profile.parameters,
                "macs_per_slot": profile.macs,
                **{c: float(energy[c].get(name, np.nan)) for c in ("energy_j_per_slot", "energy_j_per_data_bit")},
                **{c: energy[c].get(name, "") for c in ("provenance", "runtime", "latency_runtime")},
                "latency_s": float(energy["latency_s"].get(name, np.nan)),
                **_error_rate_columns(name, error_rates, point),
                **_gap_columns(name, run.plan, counts, point.target_ber),
            }
        )
    return pd.DataFrame(rows)


def _error_rate_columns(name: str, error_rates: pd.DataFrame, point: OperatingPoint) -> dict[str, Any]:
    at_fraction = error_rates["interference_fraction"] == point.interference_fraction
    curve = error_rates[at_fraction & (error_rates["receiver"] == name)].sort_values("sinr_db").set_index("sinr_db")
    at_point, floor = curve.loc[point.sinr_db], curve.loc[point.highest_sinr_db]
    errors, bits = curve[["bit_errors", "bits"]].to_numpy(float).T
    sinrs_db = curve.index.to_numpy(float)
    return {
        **{c: at_point[c] for c in ("ber", "ber_low", "ber_high")},
        "ber_at_highest_sinr": floor["ber"],
        "ber_at_highest_sinr_low": floor["ber_low"],
        "ber_at_highest_sinr_high": floor["ber_high"],
        "highest_sinr_reliable": bool(floor["reliable"]),
        "sinr_db_at_target": float(sinr_at_ber(sinrs_db, errors, bits, point.target_ber)),
    }


def _gap_columns(name: str, plan: Plan, counts: pd.DataFrame, target_ber: float) -> dict[str, float]:
    baseline, teacher = plan.scratch_of(name), plan.reference_teacher(name)
    gaps = {
        "loss_to_teacher_db": gap_db(counts, name, teacher.name, target_ber) if teacher else NO_GAP,
        "gain_over_scratch_db": gap_db(counts, baseline.name, name, target_ber) if baseline else NO_GAP,
    }
    row: dict[str, float] = {}
    for column, gap in gaps.items():
        row |= {column: gap.gap_db, f"{column}_low": gap.low_db, f"{column}_high": gap.high_db}
    return row


_SCORE_COLUMNS = ["phase", "runtime", "estimator", "calls", "mape_time_percent", "rank_time", "mape_energy_percent"]
_CLOCK_COLUMNS = [
    "receiver",
    "runtime",
    "phase",
    "batch_slots",
    "achieved_flops_per_clock",
    "assumed_flops_per_clock",
    "cycle_source",
]


_TEXT_COLUMNS = {"phase", "runtime", "estimator", "receiver", "cycle_source", "instrument", "provenance"}


def estimator_validation(run: Run) -> EstimatorValidation | None:
    """The validation of the estimators that ``leanrx energy`` wrote; none before that.

    Raises:
        UserError: if a file is damaged or of another version.
    """
    scores_path, calls_path = run.validation_folder / "scores.csv", run.validation_folder / "estimates.csv"
    tables = {}
    for path, columns in ((scores_path, [*_SCORE_COLUMNS, "instrument", "provenance"]), (calls_path, _CLOCK_COLUMNS)):
        if not path.exists():
            continue
        numbers = [c for c in columns if c not in _TEXT_COLUMNS]
        tables[path] = read_csv(path, columns, numbers, f"run: leanrx energy {run.folder}")
    if len(tables) < 2:
        return None
    clocks = tables[calls_path].drop_duplicates().reset_index(drop=True)
    return EstimatorValidation(tables[scores_path], clocks)
