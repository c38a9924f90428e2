"""The tables of the page, as functions of the results of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from energy.metering.deployment import form_name
from energy.metering.workloads import OMITTED_OF_NETWORKS
from leanrx.report.formatting import PageTable, interval, number
from leanrx.report.results import EstimatorValidation, RunResults
from leanrx.report.text import has_reliable_floor
from receivers.evaluation.transport_block import TransportFormat

_UNRELIABLE_FLOOR = "† Fewer than 100 slots have errors, so this gives no error floor."


def receiver_page_table(results: RunResults) -> PageTable:
    """Size, energy and error rates of every receiver."""
    point = results.point
    head = [
        "receiver",
        "parameters",
        "MACs per slot",
        f"energy per slot [mJ, {results.provenance}]",
        "deployed form",
        "energy per data bit [µJ]",
        "time per slot in the file [ms]",
        f"BER at {point.sinr_db:g} dB (95 %)",
        f"BER at {point.highest_sinr_db:g} dB (95 %)",
        f"SINR for BER {point.target_ber:g} [dB]",
        "loss to teacher [dB]",
        "gain over scratch baseline [dB]",
    ]
    rows = []
    for _, row in results.receivers.iterrows():
        mark = "" if row["highest_sinr_reliable"] else " †"
        rows.append(
            [
                str(row["receiver"]),
                number(row["parameters"] or np.nan, "{:,.0f}"),
                f"{row['macs_per_slot']:,}",
                number(1e3 * row["energy_j_per_slot"], "{:.3g}"),
                form_name(row["runtime"]) if row["runtime"] else "",
                number(1e6 * row["energy_j_per_data_bit"], "{:.3g}"),
                number(1e3 * row["latency_s"], "{:.3g}"),
                _interval(row, "ber", "{:.2e}"),
                _interval(row, "ber_at_highest_sinr", "{:.2e}") + mark,
                number(row["sinr_db_at_target"], "{:.1f}", "not reached"),
                _interval(row, "loss_to_teacher_db", "{:+.2f}"),
                _interval(row, "gain_over_scratch_db", "{:+.2f}"),
            ]
        )
    note = (
        f"{_UNRELIABLE_FLOOR} Gains and losses in dB are for one seed. Their 95 % jackknife intervals are paired over "
        "blocks of slots and do not cover seed-to-seed variance."
    )
    return PageTable(head, rows, note, ["receivers.csv"])


def _interval(row: pd.Series, column: str, form: str) -> str:
    return interval(row[column], row[f"{column}_low"], row[f"{column}_high"], form)


def transport_format_page_table(formats: Sequence[TransportFormat], code_rate: float) -> PageTable:
    """Size and rate of every transport block that a slot can carry.

    Args:
        formats: of the scenario's slots.
        code_rate: target of the evaluation.
    """
    head = ["bits per RE", "coded bits n", "information bits K", "target rate", "K/n", "base graph", "code blocks"]
    rows = [
        [
            str(block.bits_per_symbol),
            f"{block.coded_bits:,}",
            f"{block.size_bits:,}",
            f"{code_rate:.4g}",
            f"{block.code_rate:.4g}",
            str(block.base_graph),
            str(block.code_blocks),
        ]
        for block in formats
    ]
    note = "K is the block size of TS 38.214, 5.1.3.2, without CRC bits. Its steps move K/n away from the target rate."
    return PageTable(head, rows, note)


def gain_page_table(results: RunResults) -> PageTable:
    """Gains, error floors and losses, one row per student and scratch baseline."""
    comparisons, point = results.comparisons, results.point
    bers = sorted(comparisons.gains["target_ber"].unique(), reverse=True)
    head = [
        "receiver",
        "seeds",
        *(f"gain over scratch baseline at BER {b:g} [dB]" for b in bers),
        f"BER of scratch baseline / BER at {point.highest_sinr_db:g} dB",
        *(f"loss to teacher at BER {b:g} [dB]" for b in bers),
        "MACs / teacher's MACs",
    ]
    gains, losses = (t.set_index(["variant", "target_ber"]) for t in (comparisons.gains, comparisons.losses))
    macs_ratio = comparisons.losses.drop_duplicates("variant").set_index("variant")["macs_ratio"]
    variants = comparisons.variants
    rows = [
        [
            str(row["variant"]),
            str(row["seeds"]),
            *(_gap_cell(gains, (row["variant"], b), "gain_db") for b in bers),
            _floor_cell(results, row["variant"]),
            *(_gap_cell(losses, (row["variant"], b), "loss_db") for b in bers),
            number(macs_ratio.get(row["variant"], np.nan), "{:.1%}"),
        ]
        for _, row in variants[variants["role"].isin(["student", "scratch"])].iterrows()
    ]
    coverage = [o for o in comparisons.gains["interval_over"].unique() if o != "nothing"]
    note = (
        (f"95 % intervals cover {' or '.join(coverage)}. " if coverage else "")
        + "≥: one receiver does not reach the BER in the tested range, so the difference is larger. An empty cell has "
        f"no difference. {_UNRELIABLE_FLOOR}"
    )
    files = ["gains.csv", "gains-by-seed.csv", "losses.csv", "error-floors.csv", "variants.csv"]
    return PageTable(head, rows, note, files)


def _gap_cell(rows: pd.DataFrame, key: tuple[str, float], column: str) -> str:
    if key not in rows.index:
        return ""
    row = rows.loc[key]
    if np.isnan(row[column]) and not np.isnan(row[f"{column}_at_least"]):
        return f"≥ {row[f'{column}_at_least']:+.2f}"
    return _interval(row, column, "{:+.2f}")


def _floor_cell(results: RunResults, variant: str) -> str:
    floors = results.comparisons.error_floors.set_index("variant")
    if variant not in floors.index:
        return ""
    cell = _interval(floors.loc[variant], "ber_ratio", "{:.2f}")
    return cell + (" †" if cell and not has_reliable_floor(results, variant) else "")


def energy_page_table(results: RunResults) -> PageTable:
    """Energy and time of inference by every method."""
    head = ["receiver", "method", "provenance", "time per slot [ms]", "energy per slot [mJ]", "repeats", "window [s]"]
    rows = []
    for _, row in results.energy.iterrows():
        is_reference = row["method"] == results.reference_instrument
        rows.append(
            [
                str(row["receiver"]),
                str(row["method"]),
                str(row["provenance"]),
                f"{1e3 * row['duration_s_per_slot']:.3g}",
                f"{1e3 * row['energy_j_per_slot']:.3g}",
                str(row["repeats"]) if is_reference else "",
                f"{row['duration_s']:.1f}" if is_reference else "",
            ]
        )
    return PageTable(head, rows, files=["energy.csv", "energy-estimates.csv"])


def file_page_table(results: RunResults) -> PageTable:
    """Energy and time of inference of every exported file by every method."""
    head = ["receiver", "runtime", "slots a call", "method", "provenance", "time per slot [ms]", "energy per slot [mJ]"]
    rows = [
        [
            str(row["receiver"]),
            str(row["runtime"]),
            str(row["batch_slots"]),
            str(row["method"]),
            str(row["provenance"]),
            f"{1e3 * row['duration_s_per_slot']:.3g}",
            f"{1e3 * row['energy_j_per_slot']:.3g}",
        ]
        for _, row in results.file_energy.iterrows()
    ]
    return PageTable(head, rows, files=["energy-files.csv"])


def validation_page_tables(validation: EstimatorValidation) -> list[PageTable]:
    """Scores of the estimators, and FLOPs per clock."""
    return [_score_page_table(validation.scores), _clock_page_table(validation.clocks)]


def _score_page_table(scores: pd.DataFrame) -> PageTable:
    head = ["phase", "runtime", "estimator", "calls", "MAPE of time [%]", "rank of time", "MAPE of energy [%]"]
    rows = [
        [
            str(row["phase"]),
            str(row["runtime"]),
            str(row["estimator"]),
            str(row["calls"]),
            number(row["mape_time_percent"], "{:.1f}"),
            number(row["rank_time"], "{:.3f}"),
            number(row["mape_energy_percent"], "{:.1f}"),
        ]
        for _, row in scores.iterrows()
    ]
    instrument, provenance = scores[["instrument", "provenance"]].iloc[0]
    note = (
        "Fitted estimators are scored on receivers that are not part of the fit, and have no equal network in it. "
        f"{OMITTED_OF_NETWORKS} Energy by {instrument} is {provenance}."
    )
    if provenance != "measured":
        note += " The comparison is with a model, so it tests the time only."
    return PageTable(head, rows, note)


def _clock_page_table(clocks: pd.DataFrame) -> PageTable:
    head = [
        "receiver",
        "runtime",
        "phase",
        "batch [slots]",
        "FLOPs per clock, achieved",
        "FLOPs per clock, assumed",
        "cycle source",
    ]
    rows = [
        [
            str(row["receiver"]),
            str(row["runtime"]),
            str(row["phase"]),
            str(row["batch_slots"]),
            number(row["achieved_flops_per_clock"], "{:.3g}"),
            f"{row['assumed_flops_per_clock']:g}",
            str(row["cycle_source"]),
        ]
        for _, row in clocks.iterrows()
    ]
    return PageTable(head, rows, "Values are per core. Cycles include those of busy-waiting threads.")


def training_page_table(results: RunResults) -> PageTable:
    """Energy and time of every training by every method."""
    head = ["receiver", "method", "provenance", "slots", "time [s]", "energy [J]"]
    rows = [
        [
            str(row["receiver"]),
            str(row["method"]),
            str(row["provenance"]),
            f"{row['slots']:,}",
            f"{row['duration_s']:.3g}",
            f"{row['energy_j']:.3g}",
        ]
        for _, row in results.training.iterrows()
    ]
    return PageTable(head, rows, files=["training.csv"])


def carbon_page_table(emissions: pd.DataFrame) -> PageTable:
    """The SCI of every receiver.

    Args:
        emissions: of :func:`leanrx.report.emissions.emission_table`.
    """
    rows = emissions[["receiver", "form", "line"]].to_numpy().tolist()
    return PageTable(["receiver", "deployed form", "SCI"], rows, files=["carbon.csv"])


def instrument_page_table(results: RunResults) -> PageTable:
    """Instruments and assumptions behind every quantity, the machine and its packages."""
    environment, energy = results.environment, results.energy
    methods = energy[["method", "provenance", "description"]].drop_duplicates().astype(str).to_numpy().tolist()
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items() if version)
    machines = ", ".join(dict.fromkeys(energy["machine"]))
    rows: list[Sequence[str]] = [
        *([f"energy: {method}", provenance, instrument] for method, provenance, instrument in methods),
        ["energy: RAM", "assumed", "a constant in CodeCarbon, not part of any energy here"],
        ["time", "measured", "wall clock of the metering window"],
        ["BER", "measured", "errors counted on simulated slots"],
        ["MACs", "counted", "executed operators, checked with fvcore; classical receivers by formula"],
        ["machine", "", f"metered on {machines}; run started on {environment['platform']}; {packages}"],
    ]
    for check in environment["instruments"]:
        state = "usable" if check["usable"] else "not usable"
        rows.append([check["name"], state, f"{check['detail']}. {check['remedy']}".strip()])
    return PageTable(["quantity", "provenance", "instrument or assumption"], rows)
