"""The report's page and files, written together and swapped in at once."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leanrx.experiment.run import Run
from leanrx.life_cycle.inventory import METERED, LifeCycleInventory
from leanrx.report import life_cycle_charts, sweep_figures
from leanrx.report import text as report_text
from leanrx.report.analysis import Analysis, analyse, mape
from leanrx.report.charts import Figure, HeatMap, to_files, to_plotly
from leanrx.report.emissions import Footing, emission_table, emissions
from leanrx.report.figures import agreement_words, figures
from leanrx.report.formatting import interval, number, table
from leanrx_core.errors import UserError
from leanrx_core.files import TEMPORARY


@dataclass
class _Section:
    title: str
    texts: list[str] = field(default_factory=list)
    figures: list[dict[str, str]] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)


def write_report(run: Run, footing: Footing | None = None) -> Path:
    """Write ``report/index.html``, each figure as PNG and PDF, and each table as CSV.

    Args:
        footing: on which emissions are stated; without it there are none in the report.

    Returns:
        the page.

    Raises:
        UserError: if the run was not evaluated or metered yet, or has no such functional units.
    """
    analysis, inventory = analyse(run), LifeCycleInventory(run)
    drawn = [*figures(analysis), *sweep_figures.figures(analysis), *life_cycle_charts.figures(inventory)]
    tables, sections = _csv(analysis, inventory), _sections(run, analysis, inventory, drawn)
    if footing is not None:
        found = emissions(inventory, analysis.energy, footing)
        tables["carbon.csv"] = emission_table(found, footing.unit)
        sections.insert(-1, _carbon_section(inventory, tables["carbon.csv"], footing))
    files: dict[str, bytes] = {"index.html": _page(run, analysis, sections).encode()}
    for figure in drawn:
        files |= to_files(figure)
    for name, rows in ((n, r) for n, r in tables.items() if len(r)):
        files[name] = rows.to_csv(index=False, lineterminator="\n").encode()
    with tempfile.TemporaryDirectory(dir=run.folder, prefix=TEMPORARY) as work:
        complete = Path(work) / "complete"
        complete.mkdir()
        for name, data in files.items():
            (complete / name).write_bytes(data)
        if run.report_folder.exists():
            run.report_folder.rename(Path(work) / "old")
        shutil.move(complete, run.report_folder)
    return run.report_folder / "index.html"


def _csv(analysis: Analysis, inventory: LifeCycleInventory) -> dict[str, pd.DataFrame]:
    return {
        "ber.csv": analysis.rates,
        "sizes.csv": analysis.sizes,
        "energy.csv": analysis.energy,
        "agreement.csv": analysis.agreement,
        "training.csv": analysis.training,
        "variants.csv": analysis.variants,
        "gains.csv": analysis.gains,
        "gains-by-seed.csv": analysis.seeds,
        "losses.csv": analysis.losses,
        "floors.csv": analysis.floors,
        "teachers.csv": analysis.taught,
        "families.csv": analysis.contest,
        "savings.csv": life_cycle_charts.savings_table(inventory),
        "life-cycle.csv": life_cycle_charts.life_cycle_table(inventory),
        "correct-bits.csv": life_cycle_charts.correct_bit_table(inventory),
        "break-even.csv": life_cycle_charts.payback_table(inventory),
    }


def _page(run: Run, analysis: Analysis, sections: list[_Section]) -> str:
    import jinja2
    from plotly.offline import get_plotlyjs

    template = (resources.files("leanrx.report") / "page.html.jinja").read_text()
    scenario = run.config.scenario
    grid = scenario.grid
    patterns = ", ".join("+".join(map(str, p)) for p in grid.pilot_patterns)
    subtitle = (
        f"Scenario {scenario.name}: {grid.num_prb} PRB x 14 symbols, {grid.num_rx} receive antennas, "
        f"{', '.join(scenario.modulations)}, pilot symbols {patterns}; "
        f"trained on {', '.join(scenario.channels.train)}, "
        f"tested on {', '.join(scenario.channels.test)}; delay repeatability {scenario.delay_spread_s[0] * 1e9:g} to "
        f"{scenario.delay_spread_s[1] * 1e9:g} ns, Doppler up to {scenario.max_doppler_hz[1]:g} Hz."
    )
    return (
        jinja2.Environment(autoescape=True)
        .from_string(template)
        .render(
            label=run.config.label,
            subtitle=subtitle,
            findings=_findings(run, analysis),
            sections=sections,
            plotly_js=get_plotlyjs(),
        )
    )


def _sections(
    run: Run, analysis: Analysis, inventory: LifeCycleInventory, drawn: list[Figure | HeatMap]
) -> list[_Section]:
    ber = [_figure(f) for f in drawn if f.name.startswith("ber-interference")]
    rest = {f.name: _figure(f) for f in drawn}
    return [
        _Section(
            "Bit error rate",
            [
                "SINR is mean wanted power over mean noise-plus-interference power per receive antenna, before "
                "combining; slots fade around it. All receivers saw the same slots, with channel models that none was "
                "trained on. LS and LMMSE know the noise and interference power, both LMMSE the covariance of the test "
                "channels; LMMSE-IRC estimates the interference across antennas from the pilots; perfect CSI knows "
                "the channel itself, perfect CSI-IRC those of the interferers too."
            ],
            ber,
        ),
        _Section(
            "Energy against BER",
            [_energy_words(analysis)],
            [rest[name] for name in ("trade-off", "ber-macs") if name in rest],
            [_size_table(analysis)],
        ),
        *([_distillation_section(analysis, rest)] if len(analysis.gains) else []),
        _Section(
            "Estimate and meter",
            [agreement_words(analysis)],
            [rest["agreement"]],
            [_energy_table(analysis), *_score_tables(run), *_clock_tables(run)],
        ),
        _Section("Training", [_training_words(analysis)], tables=[_training_table(analysis)]),
        _Section(
            "Life cycle",
            life_cycle_charts.texts(inventory),
            [figure for name, figure in rest.items() if name.startswith(("ecal", "savings", "break-even"))],
            [life_cycle_charts.payback_page_table(inventory), life_cycle_charts.life_cycle_page_table(inventory)],
        ),
        _Section("What was measured with what", tables=[_instrument_table(run, analysis)]),
    ]


def _distillation_section(analysis: Analysis, drawn: dict[str, dict[str, str]]) -> _Section:
    text = (
        "A gain is how much less SINR a student needs for a BER than its twin, a loss how much more than its teacher. "
        "Both are means over seeds of the difference within one seed, on the same slots. With several seeds the "
        "interval covers slots and seeds together; with one, slots alone."
    )
    names = [name for name in drawn if name.startswith(("gain", "loss", "teachers", "map-", "ways"))]
    return _Section("What distillation brings", [text], [drawn[n] for n in names], [report_text.gain_table(analysis)])


def _figure(figure: Figure | HeatMap) -> dict[str, str]:
    html = to_plotly(figure).to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"figure-{figure.name.replace('.', '-')}",
        config={"responsive": True, "displaylogo": False, "displayModeBar": False},
    )
    links = " ".join(f'<a href="{figure.name}.{kind}">{kind.upper()}</a>' for kind in ("png", "pdf"))
    return {"html": html, "caption": figure.caption, "links": links}


def _findings(run: Run, analysis: Analysis) -> list[str]:
    sizes = analysis.sizes.set_index("receiver")
    learned = sizes[sizes["role"].isin(["teacher", "student", "scratch"])]
    sentences = []
    below = {name: int((learned["ber_high"] < sizes.loc[name, "ber_low"]).sum()) for name in ("LS", "LMMSE")}
    sentences.append(
        f"At {analysis.sinr_db:g} dB SINR, {below['LS']} of {len(learned)} learned receivers are below the BER of LS "
        f"({sizes.loc['LS', 'ber']:.2g}) and {below['LMMSE']} below that of LMMSE ({sizes.loc['LMMSE', 'ber']:.2g}), "
        "with separated 95 % intervals."
    )
    students = sizes[sizes["role"] == "student"]
    if len(students):
        smallest = students["parameters"].idxmin()
        row, teacher = sizes.loc[smallest], sizes.loc[_reference(run, str(smallest))]
        if teacher["role"] != "classical":
            sentences.append(
                f"The smallest student, {smallest}, has {row['parameters'] / teacher['parameters']:.1%} of its "
                f"teacher's parameters and takes {row['energy_j_per_slot'] / teacher['energy_j_per_slot']:.0%} of its "
                f"energy per slot ({row['energy_kind']}); BER {row['ber']:.2g} against {teacher['ber']:.2g}."
            )
    sentences += report_text.sentences(analysis)
    for estimator, error in mape(analysis.agreement).items():
        kind = "measurement" if analysis.metered_kind == "measured" else "model"
        sentences.append(
            f"{estimator} differs from the {METERED} {kind} by {error:.0f} % on average over receivers (MAPE)."
        )
    return sentences


def _reference(run: Run, name: str) -> str:
    teacher = run.plan.reference_teacher(name)
    assert teacher is not None  # a student has one
    return teacher.name


def _energy_words(analysis: Analysis) -> str:
    return (
        f"Energy is CPU and GPU together over a window of repeated calls, {METERED}'s, and is {analysis.metered_kind}. "
        f"A slot carries {analysis.data_bits_per_slot:g} data bits. Perfect CSI cannot be built and has no energy."
    )


def _training_words(analysis: Analysis) -> str:
    metered = analysis.training[analysis.training["source"] == METERED].set_index("receiver")
    total = metered["energy_j"].sum()
    roles = analysis.sizes.set_index("receiver")["role"]
    teachers = metered["energy_j"][metered.index.map(roles) == "teacher"].sum()
    return (
        f"Training took {total:.3g} J in all ({analysis.metered_kind}), {teachers / total:.0%} of it for teachers. "
        "Receivers that were trained together share the joules of their slots, and those that listened to one teacher "
        "those of its forward passes."
    )


def _size_table(analysis: Analysis) -> dict[str, Any]:
    target = f"{analysis.target_ber:g}"
    head = [
        "receiver",
        "parameters",
        "MACs per slot",
        f"energy per slot [mJ, {analysis.metered_kind}]",
        "energy per data bit [µJ]",
        f"BER at {analysis.sinr_db:g} dB (95 %)",
        "BER at the highest SINR (95 %)",
        f"SINR for BER {target} [dB]",
        "loss to teacher [dB]",
        "gain over twin [dB]",
    ]
    rows = []
    for row in analysis.sizes.itertuples():
        rows.append(
            [
                str(row.receiver),
                number(row.parameters or np.nan, "{:,.0f}"),
                f"{row.macs_per_slot:,}",
                number(1e3 * row.energy_j_per_slot, "{:.3g}"),
                number(1e6 * row.energy_j_per_data_bit, "{:.3g}"),
                interval(row.ber, row.ber_low, row.ber_high, "{:.2e}"),
                interval(row.ber_at_highest_sinr, row.ber_at_highest_sinr_low, row.ber_at_highest_sinr_high, "{:.2e}")
                + ("" if row.highest_sinr_reliable else " †"),
                number(row.sinr_db_at_target, "{:.1f}", "not reached"),
                interval(row.loss_to_teacher_db, row.loss_to_teacher_db_low, row.loss_to_teacher_db_high, "{:+.2f}"),
                interval(row.gain_over_twin_db, row.gain_over_twin_db_low, row.gain_over_twin_db_high, "{:+.2f}"),
            ]
        )
    note = (
        "† fewer than 100 erroneous slots: says nothing about an error floor. Gaps in dB have paired bootstrap "
        "intervals over blocks of slots; no seed-to-seed repeatability. "
    )
    return table(head, rows, note, ["sizes.csv"])


def _energy_table(analysis: Analysis) -> dict[str, Any]:
    head = [
        "receiver",
        "source",
        "kind",
        "time per slot [ms]",
        "energy per slot [mJ]",
        "repeats",
        "window [s]",
    ]
    rows = [
        [
            str(r.receiver),
            str(r.source),
            str(r.kind),
            f"{1e3 * r.duration_s_per_slot:.3g}",
            f"{1e3 * r.energy_j_per_slot:.3g}",
            str(r.repeats) if r.source == METERED else "",
            f"{r.duration_s:.1f}" if r.source == METERED else "",
        ]
        for r in analysis.energy.itertuples()
    ]
    return table(head, rows, files=["energy.csv"])


def _score_tables(run: Run) -> list[dict[str, Any]]:
    """How well estimators agree with the meter over all runtimes, if ``leanrx energy`` was run."""
    path = run.agreement_folder / "scores.csv"
    if not path.exists():
        return []
    scores = pd.read_csv(path)
    if not {"instrument", "kind", "mape_energy_percent"} <= set(scores):
        raise UserError(f"{path}: damaged or of another version; run: leanrx energy {run.folder}")
    head = ["phase", "runtime", "estimator", "calls", "MAPE of time [%]", "rank of time", "MAPE of energy [%]"]
    rows = [
        [
            str(r.phase),
            str(r.runtime),
            str(r.estimator),
            str(r.calls),
            number(r.mape_time_percent, "{:.1f}"),
            number(r.rank_time, "{:.3f}"),
            number(r.mape_energy_percent, "{:.1f}"),
        ]
        for r in scores.itertuples()
    ]
    instrument, kind = scores[["instrument", "kind"]].iloc[0]
    compared = "a measurement" if kind == "measured" else "a model, not with a measurement: only time is tested"
    note = (
        "Fitted estimators never saw the receiver that they are scored on, nor one that does the same work. Energy by "
        f"{instrument} is {kind}: estimates are compared with {compared}."
    )
    return [table(head, rows, note)]


def _clock_tables(run: Run) -> list[dict[str, Any]]:
    """FLOPs per clock that calls achieved, beside the assumed ones, if ``leanrx energy`` was run."""
    path = run.agreement_folder / "agreement.csv"
    if not path.exists():
        return []
    columns = [
        "receiver",
        "runtime",
        "phase",
        "batch_slots",
        "achieved_flops_per_clock",
        "assumed_flops_per_clock",
        "cycle_source",
    ]
    read = pd.read_csv(path)
    if not set(columns) <= set(read):
        raise UserError(f"{path}: damaged or of another version; run: leanrx energy {run.folder}")
    calls = read[columns].drop_duplicates()
    head = ["receiver", "runtime", "phase", "slots a call", "FLOPs per clock, achieved", "assumed", "cycles by"]
    rows = [
        [
            str(r.receiver),
            str(r.runtime),
            str(r.phase),
            str(r.batch_slots),
            number(r.achieved_flops_per_clock, "{:.3g}"),
            f"{r.assumed_flops_per_clock:g}",
            str(r.cycle_source),
        ]
        for r in calls.itertuples()
    ]
    note = "Of one core. Threads that wait in a spin take cycles, too."
    return [table(head, rows, note)]


def _carbon_section(inventory: LifeCycleInventory, emitted: pd.DataFrame, footing: Footing) -> _Section:
    text = (
        "Software Carbon Intensity of ISO/IEC 21031, ((E x I) + M) per R: energy of inference by the meter, the "
        f"intensity of {footing.site.intensity.place} in {footing.site.intensity.year} "
        f"({footing.site.intensity.source}), and R one {footing.unit}, delivered at {inventory.sinr_db:g} dB SINR and "
        f"interference share {inventory.interference_fraction:g}."
    )
    rows = emitted[["receiver", "line"]].to_numpy().tolist()
    return _Section("Carbon", [text], tables=[table(["receiver", "SCI"], rows, files=["carbon.csv"])])


def _training_table(analysis: Analysis) -> dict[str, Any]:
    head = ["receiver", "source", "kind", "slots", "time [s]", "energy [J]"]
    rows = [
        [
            str(r.receiver),
            str(r.source),
            str(r.kind),
            f"{r.slots:,}",
            f"{r.duration_s:.3g}",
            f"{r.energy_j:.3g}",
        ]
        for r in analysis.training.itertuples()
    ]
    return table(head, rows, files=["training.csv"])


def _instrument_table(run: Run, analysis: Analysis) -> dict[str, Any]:
    environment = run.environment()
    rows = [[f"energy: {s}", k, i] for s, k, i in _instruments(analysis.energy)]
    rows.append(["energy: RAM", "assumed", "a constant in CodeCarbon; left out of all energies"])
    rows.append(["time", "measured", "wall clock of the metering window"])
    rows.append(["BER", "measured", "errors counted on simulated slots"])
    rows.append(["MACs", "counted", "torch's operators, checked against fvcore; classical receivers by formula"])
    packages = ", ".join(f"{n} {v}" for n, v in environment["packages"].items() if v)
    machines = ", ".join(dict.fromkeys(analysis.energy["machine"]))
    rows.append(["machine", "", f"metered on {machines}; run begun on {environment['platform']}; {packages}"])
    for finding in environment["instruments"]:
        state = "usable" if finding["usable"] else "not usable"
        rows.append([finding["name"], state, f"{finding['detail']}. {finding['remedy']}".strip()])
    return table(["what", "kind", "instrument or assumption"], rows)


def _instruments(energy: pd.DataFrame) -> list[tuple[str, str, str]]:
    unique = energy[["source", "kind", "instrument"]].drop_duplicates()
    return [(str(s), str(k), str(i)) for s, k, i in unique.itertuples(index=False)]
