"""Sentences of the report about accuracy, energy and distillation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from energy.metering.deployment import form_name
from leanrx.report import life_cycle_text
from leanrx.report.formatting import interval
from leanrx.report.results import RunResults, mape

CASE_STUDY_GAIN_DB = 4.0
"""Gain at BER 1e-3 over training from scratch in arXiv 2507.10409, second-hand."""

CASE_STUDY = (
    f"The case study reports {CASE_STUDY_GAIN_DB:+g} dB at BER 0.001 (arXiv 2507.10409, second-hand). Its channel, "
    "modulation and networks are not known to us."
)
SMALL_MACS_RATIO = 0.1
"""A small student has at most this part of its teacher's MACs."""

CLOSE_DB = 0.3
"""A student is close to its teacher if it loses at most this to it."""

CLOSE_AT_BER = 1e-2
"""BER at which a student is compared with its teacher."""

MIN_SEEDS = 3
"""A claim for distillation rests on at least so many seeds."""

BIT_ERROR_RATE_TEXT = (
    "SINR is the mean desired power over the mean noise-plus-interference power, per receive antenna and before "
    "combining. Slots fade around this mean. All receivers are tested on the same slots, with channel models that were "
    "not used for training. LS and LMMSE are given the noise-plus-interference power, and both LMMSE receivers the "
    "covariance of the test channels, which also gives the error power of LS. "
    "LMMSE-IRC estimates the covariance of the interference from the pilots. Perfect "
    "CSI is given the true channel, and perfect CSI-IRC also the channels of the interferers."
)
BLOCK_ERROR_RATE_TEXT = (
    "The data REs of each slot carry one transport block of 5G. A block is wrong if any of its information bits is "
    "wrong after decoding. The table has one row for each modulation and number of pilots that a slot can have."
)
GAIN_TEXT = (
    "A gain is the SINR that a student saves over its scratch baseline at the same BER. A loss is the SINR that it "
    "needs more than its teacher. Both are means over seeds of the difference within one seed, on the same slots. With "
    "several seeds the interval covers slots and seeds, with one seed slots only."
)


def key_results(results: RunResults) -> list[str]:
    """At most five paragraphs, the most useful first.

    They are: the smallest receiver that beats LMMSE, size and BER of the smallest student, its gain, energy payback,
    the Pareto front.
    """
    table = results.students
    lines = [_against_lmmse(results)]
    if len(table):
        best = table[table["best"]]
        smallest = best.loc[best["parameters"].idxmin()]
        lines += [
            _smallest_student(results, smallest),
            _key_gain(results, smallest),
            life_cycle_text.headline(results.life_cycles),
        ]
    if table["spec"].nunique() > 1:
        lines.append(_pareto_front(results))
    return [line for line in lines if line]


def _smallest_student(results: RunResults, student: pd.Series) -> str:
    """Size, energy and BER of a student beside its trained teacher; empty if it has none."""
    receivers = results.receivers.set_index("receiver")
    name = str(receivers.index[receivers["variant"] == student["variant"]][0])
    teacher = results.plan.reference_teacher(name)
    if teacher is None or teacher.role == "classical":
        return ""
    row, reference = receivers.loc[name], receivers.loc[teacher.name]
    share = f"{row['parameters'] / reference['parameters']:.1%} of its teacher's parameters"
    if row["runtime"] == reference["runtime"]:
        ratio = row["energy_j_per_slot"] / reference["energy_j_per_slot"]
        energy = f" and {ratio:.0%} of its energy per slot ({row['provenance']}, {form_name(row['runtime'])})."
    else:
        student_text, teacher_text = (
            f"{1e3 * r['energy_j_per_slot']:.3g} mJ per slot ({form_name(r['runtime'])})" for r in (row, reference)
        )
        energy = f". It needs {student_text}, and the teacher {teacher_text}, {row['provenance']}."
    return (
        f"The smallest student, {name}, has {share}{energy} At {results.point.sinr_db:g} dB its BER is "
        f"{row['ber']:.2g}, and the teacher's is {reference['ber']:.2g}."
    )


def _key_gain(results: RunResults, student: pd.Series) -> str:
    """The gain of a student at one BER: the report's target where the gain is known, else the highest such BER."""
    variant = str(student["variant"])
    gains = results.comparisons.gains
    gains = gains[gains["variant"] == variant]
    if not len(gains):
        return ""
    known = gains.dropna(subset=["gain_db"])
    rows = known if len(known) else gains
    at_target = rows[rows["target_ber"] == results.point.target_ber]
    row = (at_target if len(at_target) else rows).iloc[0].to_dict()
    text = f"{variant} is compared with its scratch baseline. {_gain_sentence(row)}"
    num_settings = int((results.students["spec"] == student["spec"]).sum())
    if num_settings > 1:
        text += f" It is the best of {num_settings} distillation settings on these slots, so a selection bias remains."
    if student["seeds"] < MIN_SEEDS:
        text += f" A claim for distillation needs at least {MIN_SEEDS} seeds; this run has {student['seeds']}."
    return text


def _against_lmmse(results: RunResults) -> str:
    """The smallest neural receiver whose BER is below LMMSE's at most SINRs, with separate intervals."""
    rates = results.rates[results.rates["interference_fraction"] == results.point.interference_fraction]
    by_sinr = rates.set_index(["receiver", "sinr_db"])
    limits = by_sinr.loc["LMMSE", "ber_low"]
    receivers = results.receivers[results.receivers["role"] != "classical"].set_index("receiver")
    wins = {name: int((by_sinr.loc[name, "ber_high"] < limits).sum()) for name in receivers.index}
    winners = receivers[[2 * wins[name] > len(limits) for name in receivers.index]]
    where = f"{interference_phrase(results.point.interference_fraction)}, with separate 95 % intervals"
    if not len(winners):
        best = max(wins, key=lambda name: wins[name])
        return (
            f"No neural receiver has a lower BER than LMMSE at most SINRs {where}. The best, {best}, has it at "
            f"{wins[best]} of {len(limits)}."
        )
    name = winners.sort_values(["parameters", "ber"]).index[0]
    return (
        f"The smallest neural receiver with a lower BER than LMMSE at most SINRs is {name}, with "
        f"{winners.loc[name, 'parameters']:,.0f} parameters. Its BER is lower at {wins[name]} of {len(limits)} SINRs "
        f"{where}. At {results.point.sinr_db:g} dB it is {winners.loc[name, 'ber']:.2g}, and LMMSE's is "
        f"{results.receivers.set_index('receiver').loc['LMMSE', 'ber']:.2g}. {len(winners)} of {len(receivers)} neural "
        "receivers do so."
    )


def _pareto_front(results: RunResults) -> str:
    table = results.comparisons.variants
    return (
        f"On the Pareto front of BER at {results.point.sinr_db:g} dB, energy and parameters: "
        f"{', '.join(table.loc[table['on_front'], 'variant'])}."
    )


def distillation_sentences(results: RunResults) -> list[str]:
    """What the run says about distillation: gains, seeds, closeness to the teacher, teachers and families."""
    students = results.students
    if not len(students):
        return []
    lines = [gain_sentences(results, str(spec)) for spec in students["spec"].unique()]
    lines += [f"{_seed_note(results)} {CASE_STUDY}", _closeness(results)]
    by_teacher = results.comparisons.students_by_teacher
    lines += [_best_teacher(results, str(spec), rows) for spec, rows in by_teacher.groupby("spec", sort=False)]
    if len(results.comparisons.families):
        lines.append(_families(results))
    return [line for line in lines if line]


def gain_sentences(results: RunResults, spec: str) -> str:
    """The gain of a student network in its best distillation setting, at each BER and at the highest SINR."""
    settings = results.students[results.students["spec"] == spec]
    best = settings[settings["best"]].iloc[0]
    variant = str(best["variant"])
    comparisons = results.comparisons
    if len(settings) > 1:
        sentences = [
            f"Of {len(settings)} distillation settings, {variant} has the lowest BER at {results.point.sinr_db:g} dB."
        ]
    else:
        sentences = [f"{variant} is compared with its scratch baseline."]
    gains = comparisons.gains[comparisons.gains["variant"] == variant]
    if not len(gains):
        return f"{variant} has no scratch baseline in this run."
    sentences += [_gain_sentence(row) for row in gains.to_dict("records")]
    floors = comparisons.error_floors
    sentences += [_floor_sentence(results, row) for row in floors[floors["variant"] == variant].to_dict("records")]
    return " ".join(sentences)


def _gain_sentence(row: Mapping[str, Any]) -> str:
    ber = f"At BER {row['target_ber']:g}"
    if not math.isnan(row["gain_db"]):
        return f"{ber} it gains {row['gain_db']:+.2f} dB ({_gain_interval(row)})."
    if not math.isnan(row["gain_db_at_least"]):
        return f"{ber} it gains at least {row['gain_db_at_least']:+.2f} dB: the baseline does not reach this BER."
    return f"{ber} there is no gain in dB: the student does not reach this BER."


def _gain_interval(row: Mapping[str, Any]) -> str:
    low, high = row["gain_db_low"], row["gain_db_high"]
    if math.isnan(low):
        return "no interval: too few blocks, or without one of them a receiver does not reach this BER"
    verdict = "" if low > 0 else ", a loss" if high < 0 else ", not significant"
    return f"95 % interval over {row['interval_over']}: {low:+.2f} to {high:+.2f} dB{verdict}"


def _floor_sentence(results: RunResults, row: Mapping[str, Any]) -> str:
    sinr = f"At {results.point.highest_sinr_db:g} dB, the highest SINR,"
    if math.isnan(row["ber_ratio"]):
        return f"{sinr} one of the two receivers has no errors."
    ratio = interval(row["ber_ratio"], row["ber_ratio_low"], row["ber_ratio_high"], "{:.2f}")
    doubt = (
        "" if has_reliable_floor(results, str(row["variant"])) else ", but too few slots have errors to call it a floor"
    )
    return f"{sinr} the baseline has {ratio} times its BER{doubt}."


def has_reliable_floor(results: RunResults, variant: str) -> bool:
    """Whether a student and its scratch baseline have a reliable point at the highest SINR, with every seed."""
    table = results.comparisons.variants.set_index("variant")
    baselines = table[(table["role"] == "scratch") & (table["spec"] == table.loc[variant, "spec"])]
    return bool(table.loc[variant, "highest_sinr_reliable"] and baselines["highest_sinr_reliable"].all())


def _seed_note(results: RunResults) -> str:
    seeds = int(results.students["seeds"].max())
    if seeds == 1:
        text = "Students have one seed each, so intervals cover test slots only, not seed-to-seed variance."
    else:
        text = (
            f"Students have {seeds} seeds each. Intervals in dB cover test slots and the students' seed-to-seed "
            "variance, not that of the teacher."
        )
    return text + (f" A claim for distillation needs at least {MIN_SEEDS} seeds." if seeds < MIN_SEEDS else "")


def _closeness(results: RunResults) -> str:
    """Which small students are close to their teacher, each in its closest distillation setting."""
    students = results.students[["variant", "spec"]]
    rows = results.comparisons.losses.merge(students, on="variant").dropna(subset=["macs_ratio"])
    rows = rows[rows["target_ber"] == CLOSE_AT_BER].sort_values("loss_db")
    rows = rows.drop_duplicates(["spec", "reference_teacher"])
    if not len(rows):
        return ""
    small = rows[rows["macs_ratio"] <= SMALL_MACS_RATIO]
    if not len(small):
        return (
            f"No student has {SMALL_MACS_RATIO:.0%} or less of its teacher's MACs. The smallest ratio is "
            f"{rows['macs_ratio'].min():.0%}."
        )
    comparable = small.dropna(subset=["loss_db"])
    close = comparable[comparable["loss_db"] <= CLOSE_DB]
    group = f"{len(small)} students with {SMALL_MACS_RATIO:.0%} or less of their teacher's MACs"
    if len(close):
        return (
            f"{len(close)} of {group} lose{'s' if len(close) == 1 else ''} {CLOSE_DB:g} dB or less to it at BER "
            f"{CLOSE_AT_BER:g}: {'; '.join(map(_loss_phrase, close.to_dict('records')))}."
        )
    if len(comparable):
        return (
            f"None of {group} is within {CLOSE_DB:g} dB of it at BER {CLOSE_AT_BER:g}. The closest is "
            f"{_loss_phrase(comparable.iloc[0].to_dict())}."
        )
    return (
        f"None of {group} can be compared with it at BER {CLOSE_AT_BER:g}, because one of the two receivers does not "
        "reach this BER."
    )


def _loss_phrase(row: Mapping[str, Any]) -> str:
    loss = interval(row["loss_db"], row["loss_db_low"], row["loss_db_high"], "{:+.2f}")
    return f"{row['variant']} with {row['macs_ratio']:.1%} of the MACs of {row['reference_teacher']}, {loss} dB"


def _best_teacher(results: RunResults, spec: str, rows: pd.DataFrame) -> str:
    first, *others = rows.sort_values("ber").to_dict("records")
    text = (
        f"The best teacher of {spec} at {results.point.sinr_db:g} dB is {first['teacher']}, with BER "
        f"{first['ber']:.2g} of the student."
    )
    if others:
        relation = "are separate" if first["ber_high"] < others[0]["ber_low"] else "overlap"
        text += f" The next is {others[0]['teacher']} with {others[0]['ber']:.2g}. Their intervals {relation}."
    return text


def _families(results: RunResults) -> str:
    table = results.comparisons.families
    num_sizes = table["macs_per_slot"].nunique()
    wins = table[table["lowest_ber"]]["family"].value_counts()
    parts = [f"{family} at {wins.get(family, 0)}" for family in table["family"].unique()]
    return (
        f"Families are compared at equal MACs, for {num_sizes} size(s) from {table['macs_per_slot'].min():.3g} to "
        f"{table['macs_per_slot'].max():.3g} MACs per slot. The student with the lowest BER at "
        f"{results.point.sinr_db:g} dB is from {', from '.join(parts)} of these sizes. Its interval is separate from "
        f"those of the other families at {int(table['separated'].sum())}."
    )


def seed_caption(results: RunResults) -> str:
    """What points and bars of a caption stand for where receivers have several seeds; begins with a space."""
    if results.comparisons.variants["seeds"].max() == 1:
        return ""
    return " Points are means over seeds. Bars join the outermost ends of the seeds' intervals."


def setting_caption(results: RunResults) -> str:
    """Which of several distillation settings a figure shows; begins with a space."""
    if results.comparisons.variants["best"].all():
        return ""
    return (
        f" Of several distillation settings, the figure shows the one with the lowest BER at "
        f"{results.point.sinr_db:g} dB. The choice was made on these slots, so a selection bias remains."
    )


def interval_caption(table: pd.DataFrame) -> str:
    """What the bars of a figure are.

    Args:
        table: with the column ``interval_over``, as :func:`leanrx.report.comparisons.sinr_gaps`.
    """
    over = table.loc[table["interval_over"] != "nothing", "interval_over"].unique()
    return f"Bars are 95 % intervals over {' or '.join(over)}." if len(over) else "There are no intervals."


def interference_phrase(interference_fraction: float) -> str:
    """The interference of a figure's or table's slots.

    >>> interference_phrase(0.8), interference_phrase(0.0)
    ('with an interferer (80% of the noise-plus-interference power)', 'without interference')
    """
    if not interference_fraction:
        return "without interference"
    return f"with an interferer ({interference_fraction:.0%} of the noise-plus-interference power)"


def energy_text(results: RunResults) -> str:
    """What the energies of the receiver table are."""
    text = (
        "Energy is the gross energy of all metered components over windows of repeated calls, "
        f"{results.provenance} by {results.reference_instrument}. A slot carries {results.data_bits_per_slot:g} data "
        "bits. Genie-aided receivers cannot be built and have no energy. "
    )
    if not len(results.file_energy):
        return text + "No exported file was metered, so the deployed form is torch."
    return text + (
        "The energy of a receiver is that of its deployed form: of the C file, the float32 ONNX and LiteRT files and "
        "torch, the one with the least metered energy per slot. Life cycle, payback and emissions use the same form. "
        "The validation of the energy model alone uses torch, which executed the counted operations. In the figure of "
        "latency, a line marks the duration of a slot. A receiver to the right of it cannot keep up with the slots."
    )


def training_text(results: RunResults) -> str:
    """Energy of all trainings, and the teachers' part of it."""
    life_cycles = results.life_cycles
    trainings = [
        life_cycles.result(name, results.reference_instrument)
        for name, role in life_cycles.roles.items()
        if role != "classical"
    ]
    total_j = sum(t.training_j for t in trainings)
    teachers_j = sum(t.training_j for t in trainings if t.role == "teacher")
    methods = ", ".join(dict.fromkeys(t.training_method for t in trainings))
    return (
        f"Training took {total_j:.3g} J in total by {methods}, {teachers_j / total_j:.0%} of it for teachers. "
        "Receivers of one training group share the energy of their slots. Students of one teacher share the energy of "
        "its forward passes."
    )


def validation_text(results: RunResults) -> str:
    """How far the estimators are off, and what they are compared with."""
    deviations = [f"{name} by {error:.0f} %" for name, error in mape(results.estimates).items()]
    text = (
        f"Estimates of the energy per slot deviate from the {results.reference_instrument} energy: "
        f"{', '.join(deviations)} (MAPE over receivers). "
    )
    return text + reference_note(results)


def reference_note(results: RunResults) -> str:
    """Whether estimates are compared with a measurement or with another model."""
    if results.provenance == "measured":
        return f"Energy by {results.reference_instrument} is measured, so this compares estimates with measurements."
    return (
        f"Energy by {results.reference_instrument} is modelled: CPU power times this process's part of the CPU time. "
        "The comparison tests the time only: counted FLOPs at an assumed rate against the wall clock."
    )
