"""The report of a run with synthetic errors and joules: two families, teachers, seeds, a grid of settings."""

import itertools
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from energy_factories import energy_row
from run_factories import DATA_BITS, block_count_row, save_receivers
from scipy import stats

from carbon.deta.receiver_network import ReceiverNetwork
from energy.counting.counter import count
from energy.metering.table import ENERGY
from leanrx.experiment.plan import Plan, ReceiverRecord, build_plan
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import SweepConfig
from leanrx.life_cycle.inventory import LifeCycleInventory
from leanrx.report import ber_figures, comparison_figures, page, text
from leanrx.report.charts import Curve, Figure, HeatMap, to_plotly
from leanrx.report.comparisons import families_at_equal_macs, pareto_front
from leanrx.report.life_cycle_tables import savings_table
from leanrx.report.page import sections, write_report
from leanrx.report.page_tables import gain_page_table
from leanrx.report.results import RunResults, run_results
from leanrx_core.files import write_atomic
from leanrx_core.tables import write_table
from receivers.classical import GENIE_AIDED, classical_receivers
from receivers.evaluation.store import COUNTS
from receivers.neural.registry import FAMILIES, Family, build, register

BITS, SLOTS, BLOCKS = DATA_BITS, 64, 5
SINR_DB = (0.0, 6.0, 12.0, 18.0, 24.0, 30.0)


def config(**changes: Any) -> SweepConfig:
    students = {"receivers": ["deeprx-w0.015625-d5", "hybrid-w4-d1"], "seeds": [1, 2], **changes.pop("students", {})}
    return SweepConfig.parse(
        {
            "label": "synthetic",
            "scenario": {
                "name": "tiny",
                "grid": {"num_prb": 1, "subcarrier_spacing_hz": 30000},
                "channels": {"train": ["TDL-B"], "test": ["TDL-A"]},
            },
            "teacher": {"receiver": ["deeprx-w0.0625-d3", "deeprx-w0.03125-d3"]},
            "students": students,
            "evaluation": {"sinr_db": list(SINR_DB)},
            "report": {"sinr_db": 12, "target_ber": 0.05},
            **changes,
        },
        "synthetic",
    )


def advantage_db(record: ReceiverRecord) -> float:
    """By how many dB a synthetic receiver needs less SINR than LS. The report must reproduce it."""
    if record.role == "teacher":
        return 8.0 if record.spec == "deeprx-w0.0625-d3" else 7.0
    base = {"deeprx": 2.0, "hybrid": 4.0, "third": 3.0}[record.family] + 0.5 * (record.seed - 1)
    if record.distillation is None:
        return base
    setting = record.distillation
    gain = 1.0 + 0.2 * setting.temperature - setting.alpha + (0.4 if "w0.03125" in record.teachers[0] else 0.0)
    return base + gain + 0.2 * (record.seed - 1)


def synthetic_run(folder: Path, config: SweepConfig) -> Run:
    """A complete run: BER is 0.3 at 0 dB and falls tenfold in 10 dB, that of scratch baselines to a floor of 4e-4."""
    run = Run(folder, config)
    write_atomic(folder / "config.yaml", config.to_yaml())
    environment = {"platform": "a computer", "packages": {"torch": "1"}, "instruments": []}
    write_atomic(folder / "environment.json", json.dumps(environment))
    curves = {r.name: (r.digest, 0.0 if r.name == "LS" else 3.0, 0.0) for r in classical_receivers(config.scenario)}
    joules = {name: 1e-3 for name in curves if name not in GENIE_AIDED}
    for name, card in save_receivers(run, training_slots=8000).items():
        record = run.plan[name]
        curves[name] = card.weights_sha256, advantage_db(record), 4e-4 if record.role == "scratch" else 0.0
        joules[name] = 1e-6 * card.parameters * (1 + 0.01 * (record.role == "scratch") + 0.02 * card.seed)
    counts, energy = [], []
    for name, (digest, gain_db, floor) in curves.items():
        for sinr_db, block in itertools.product(SINR_DB, range(BLOCKS)):
            block_factor = 1 + 0.15 * (block - BLOCKS // 2)  # 1 on average
            ber = block_factor * max(0.3 * 10 ** (-(sinr_db + gain_db) / 10), floor)
            counts.append(block_count_row(name, digest, sinr_db, SLOTS, round(BITS * SLOTS * ber), 64, block))
    trained = {r.name for r in run.plan.neural}
    for name, slot_j in joules.items():
        windows = [("inference", 1000, 1000 * slot_j)] + [("training", 8000, 3e4 * slot_j)] * (name in trained)
        for method, factor in (("CodeCarbon", 1.0), ("FLOPs/W", 0.5)):
            energy += [
                asdict(energy_row(name, curves[name][0], phase, method, slots, factor * energy_j))
                for phase, slots, energy_j in windows
            ]
    write_table(run.ber_path, pd.DataFrame(counts), COUNTS)
    write_table(run.energy_path, pd.DataFrame(energy), ENERGY)
    return run


GRID = {"distillation": {"temperature": [1, 4], "alpha": [0.5, 0.9]}}
LARGE, MIDDLE = "teacher-deeprx-w0.0625-d3", "teacher-deeprx-w0.03125-d3"
DEEPRX, HYBRID = "deeprx-w0.015625-d5", "hybrid-w4-d1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return synthetic_run(tmp_path_factory.mktemp("runs") / "synthetic", config(students=GRID))


@pytest.fixture(scope="module")
def results(run: Run) -> RunResults:
    return run_results(run)


def variant(spec: str, teacher: str, temperature: int, alpha: float) -> str:
    return f"{spec}-kd-{teacher.removeprefix('teacher-')}-T{temperature}-a{alpha:g}"


def test_variants_are_means_over_seeds(results: RunResults) -> None:
    table = results.comparisons.variants.set_index("variant")
    assert len(table) == 4 + 2 + 2 * (2 * 4 + 1)
    name = variant(HYBRID, MIDDLE, 4, 0.9)
    row = table.loc[name]
    assert (row["spec"], row["family"], row["teacher"], row["teacher_kind"]) == (HYBRID, "hybrid", MIDDLE, "teacher")
    other_settings = MIDDLE.removeprefix("teacher-")
    assert (row["temperature"], row["alpha"], row["other_settings"], row["seeds"]) == (4.0, 0.9, other_settings, 2)
    assert row["setting"] == f"{other_settings}-T4-a0.9"
    receivers = results.receivers.set_index("receiver").loc[[f"{name}-s1", f"{name}-s2"]]
    assert row["ber"] == receivers["ber"].mean()
    assert (row["ber_low"], row["ber_high"]) == (receivers["ber_low"].min(), receivers["ber_high"].max())
    best = table[(table["role"] == "student") & table["best"]].index.tolist()
    assert best == [variant(DEEPRX, MIDDLE, 4, 0.5), variant(HYBRID, MIDDLE, 4, 0.5)]
    assert table[table["role"] != "student"]["best"].all()


def test_gains_and_losses_are_those_of_the_synthetic_run(results: RunResults) -> None:
    plan, comparisons = results.plan, results.comparisons
    gains, losses, by_seed = (
        table.set_index(["variant", "target_ber"])
        for table in (comparisons.gains, comparisons.losses, comparisons.gains_by_seed)
    )
    assert comparisons.gains["target_ber"].unique().tolist() == [0.05, 0.01, 0.001]
    for spec, teacher, temperature, alpha in itertools.product((DEEPRX, HYBRID), (LARGE, MIDDLE), (1, 4), (0.5, 0.9)):
        name = variant(spec, teacher, temperature, alpha)
        students_db = [advantage_db(plan[f"{name}-s{s}"]) for s in (1, 2)]
        baselines_db = [advantage_db(plan[f"{spec}-scratch-s{s}"]) for s in (1, 2)]
        gain, loss = gains.loc[name, 0.01], losses.loc[name, 0.01]
        expected = np.subtract(students_db, baselines_db)
        assert gain["gain_db"] == pytest.approx(expected.mean(), abs=0.05)
        half = stats.t.ppf(0.975, 1) * expected.std(ddof=1) / math.sqrt(2)  # blocks are good or bad for all receivers
        assert (gain["gain_db_high"] - gain["gain_db_low"]) / 2 == pytest.approx(half, rel=0.15)
        coverage = "slots and seeds"
        assert (gain["interval_over"], loss["interval_over"], gain["seeds"]) == (coverage, coverage, 2)
        assert loss["reference_teacher"] == teacher
        assert loss["loss_db"] == pytest.approx(advantage_db(plan[teacher]) - np.mean(students_db), abs=0.05)
        one_seed = by_seed.loc[f"{name}-s2", 0.01]
        assert (one_seed["gain_db"], one_seed["interval_over"]) == (pytest.approx(expected[1], abs=0.05), "slots")


def test_macs_ratio_and_error_floors(results: RunResults) -> None:
    name, plan = variant(HYBRID, LARGE, 1, 0.5), results.plan
    grid = results.config.scenario.grid
    macs = [count(build(spec), grid).macs for spec in (HYBRID, "deeprx-w0.0625-d3")]
    ratio = results.comparisons.losses.set_index("variant").loc[name, "macs_ratio"].unique()
    assert ratio == pytest.approx([macs[0] / macs[1]])
    floor = results.comparisons.error_floors.set_index("variant").loc[name]
    ber = [0.3 * 10 ** (-(30 + advantage_db(plan[f"{name}-s{s}"])) / 10) for s in (1, 2)]
    assert floor["ber_ratio"] == pytest.approx(4e-4 / math.sqrt(ber[0] * ber[1]), rel=0.05)
    assert not text.has_reliable_floor(results, name), "a few dozen erroneous slots give no error floor"


def test_cells_of_a_heat_map_are_at_their_temperature_and_alpha(results: RunResults) -> None:
    maps = {f.name: f for f in comparison_figures.figures(results) if isinstance(f, HeatMap)}
    assert len(maps) == 4
    chart = maps[f"map-{HYBRID}-{MIDDLE.removeprefix('teacher-')}"]
    assert (chart.x, chart.y) == (["1", "4"], ["0.5", "0.9"])
    gains = results.comparisons.gains
    gain = gains[gains["target_ber"] == comparison_figures.comparison_ber(results)].set_index("variant")["gain_db"]
    assert chart.z == [[gain[variant(HYBRID, MIDDLE, t, a)] for t in (1, 4)] for a in (0.5, 0.9)]
    assert chart.labels[1][0].startswith(f"{chart.z[1][0]:+.2f}<br>")
    assert chart.max_abs == max(map(max, chart.z))


def test_the_best_teacher(results: RunResults) -> None:
    table = results.comparisons.students_by_teacher
    assert table[table["spec"] == HYBRID]["teacher"].tolist() == [MIDDLE, LARGE], "by MACs"
    assert table["variant"].tolist()[0].endswith("T4-a0.5"), "each teacher at its best"
    paragraphs = " ".join(text.distillation_sentences(results))
    for spec in (DEEPRX, HYBRID):
        assert f"The best teacher of {spec} at 12 dB is {MIDDLE}" in paragraphs
    (figure,) = (f for f in comparison_figures.figures(results) if f.name == "teachers")
    assert [c.name for c in figure.curves if c.name] == ["the teachers", DEEPRX, HYBRID]


def test_families_at_equal_macs(results: RunResults) -> None:
    table = results.comparisons.families
    (macs,) = table["macs_per_slot"].unique()  # at the smaller size there is no DeepRx
    rows = table.set_index("family")
    hybrid, deeprx = rows.loc["hybrid"], rows.loc["deeprx"]
    assert (hybrid["lowest_ber"], deeprx["lowest_ber"]) == (True, False)
    assert hybrid["variant"] == variant(HYBRID, MIDDLE, 4, 0.5)
    assert hybrid["separated"] == (hybrid["ber_high"] < deeprx["ber_low"])
    variants = results.comparisons.variants
    students = results.students.set_index("family")["macs_per_slot"]
    assert macs == students["deeprx"].min() > students["hybrid"].min()
    assert not len(families_at_equal_macs(variants[variants["family"] == "hybrid"]))
    paragraph = text.distillation_sentences(results)[-1]
    assert "is from deeprx at 0, from hybrid at 1 of these sizes" in paragraph
    assert paragraph.endswith(f"of the other families at {int(hybrid['separated'])}.")


def test_a_front_over_three_costs() -> None:
    a, b, c = pd.Series([1.0, 2.0, 1.0, 2.0]), pd.Series([2.0, 1.0, 2.0, 2.0]), pd.Series([5.0, 5.0, 4.0, 9.0])
    assert pareto_front(a, b, c).tolist() == [False, True, True, False]


def with_losses(results: RunResults, macs_ratio: float, *losses_db: float) -> RunResults:
    """The same results with other losses of the hybrid and the DeepRx student at BER 0.01."""
    rows = [
        {
            "variant": variant(spec, LARGE, 1, 0.5),
            "target_ber": 0.01,
            "loss_db": loss,
            "loss_db_low": loss - 0.1,
            "loss_db_high": loss + 0.1,
            "reference_teacher": LARGE,
            "macs_ratio": macs_ratio,
        }
        for spec, loss in zip((HYBRID, DEEPRX), losses_db, strict=True)
    ]
    return replace(results, comparisons=replace(results.comparisons, losses=pd.DataFrame(rows)))


@pytest.mark.parametrize(
    ("macs_ratio", "losses_db", "sentence"),
    [
        (
            0.1,
            (0.25, 0.9),
            "1 of 2 students with 10% or less of their teacher's MACs loses 0.3 dB or less to it at "
            f"BER 0.01: {variant(HYBRID, LARGE, 1, 0.5)} with 10.0% of the MACs of {LARGE}, +0.25 (+0.15 to +0.35) dB",
        ),
        (0.1, (0.5, 0.31), f"is within 0.3 dB of it at BER 0.01. The closest is {DEEPRX}-kd"),
        (0.1, (np.nan, np.nan), "can be compared with it at BER 0.01, because one of the two receivers does not"),
        (0.2, (0.1, 0.1), "No student has 10% or less of its teacher's MACs. The smallest ratio is 20%."),
    ],
)
def test_students_close_to_their_teacher(
    results: RunResults, macs_ratio: float, losses_db: tuple[float, float], sentence: str
) -> None:
    assert sentence in " ".join(text.distillation_sentences(with_losses(results, macs_ratio, *losses_db)))


def test_sentences_of_gains(results: RunResults) -> None:
    paragraphs = text.distillation_sentences(results)
    assert paragraphs[0].startswith(f"Of 8 distillation settings, {variant(DEEPRX, MIDDLE, 4, 0.5)} has the lowest BER")
    assert "interval over slots and seeds" in paragraphs[0]
    assert "too few slots have errors to call it a floor" in paragraphs[0]
    assert any("+4 dB at BER 0.001 (arXiv 2507.10409, second-hand" in p for p in paragraphs)
    assert any("not that of the teacher. A claim for distillation needs at least 3 seeds" in p for p in paragraphs)
    gains = results.comparisons.gains.copy()
    gains.loc[gains["target_ber"] == 0.001, "gain_db"] = np.nan
    gains.loc[gains["target_ber"] == 0.001, "gain_db_at_least"] = 5.0
    bound = replace(results, comparisons=replace(results.comparisons, gains=gains))
    sentence = "At BER 0.001 it gains at least +5.00 dB: the baseline does not reach this BER."
    assert sentence in text.distillation_sentences(bound)[0]
    assert any("≥ +5.00" in row for row in gain_page_table(bound).rows)
    (figure,) = (f for f in comparison_figures.figures(bound) if f.name == "gain")
    (arrows,) = (c for c in figure.curves if c.marker == "arrow-up")
    assert arrows.y == [5.0, 5.0]


def test_key_results_are_few_and_begin_with_the_receivers_that_beat_lmmse(results: RunResults) -> None:
    paragraphs = text.key_results(results)
    assert len(paragraphs) == 5
    smallest = variant(HYBRID, MIDDLE, 4, 0.5)
    receivers = results.receivers.set_index("receiver")
    teacher = results.plan.reference_teacher(f"{smallest}-s1")
    assert teacher is not None
    assert teacher.name == MIDDLE
    ratio = receivers.loc[f"{smallest}-s1", "parameters"] / receivers.loc[MIDDLE, "parameters"]
    assert paragraphs[1].startswith(f"The smallest student, {smallest}-s1, has {ratio:.1%} of its teacher's parameters")
    gain = results.comparisons.gains.set_index(["variant", "target_ber"]).loc[smallest, 0.05]
    assert f"At BER 0.05 it gains {gain['gain_db']:+.2f} dB (95 % interval over slots and seeds: " in paragraphs[2]
    assert "best of 8 distillation settings on these slots, so a selection bias remains" in paragraphs[2]
    assert "needs at least 3 seeds; this run has 2." in paragraphs[2]
    assert paragraphs[3].startswith("Against running the teacher, ")
    best = f"{variant(HYBRID, MIDDLE, 4, 0.5)}-s2"  # needs 6.4 dB less than LS, LMMSE 3 dB; BER is 0.3 at 0 dB for LS
    rates = results.rates.set_index(["receiver", "sinr_db"])
    lower = sum(rates.loc[(best, x), "ber_high"] < rates.loc[("LMMSE", x), "ber_low"] for x in SINR_DB)
    assert lower >= 4
    assert paragraphs[0].startswith(
        f"The smallest neural receiver with a lower BER than LMMSE at most SINRs is {best}, with "
        f"{receivers.loc[best, 'parameters']:,} parameters. Its BER is lower at {lower} of 6 SINRs without "
        "interference, with separate 95 % intervals. At 12 dB it is 0.0043, and LMMSE's is 0.0095."
    )
    assert smallest in paragraphs[4]


def test_cost_and_saving_of_training(run: Run, results: RunResults) -> None:
    table = savings_table(LifeCycleInventory(run)).set_index(["variant", "method"])
    name = variant(HYBRID, LARGE, 1, 0.5)
    row = table.loc[name, "CodeCarbon"]
    energy_j = results.receivers.set_index("receiver")["energy_j_per_slot"]
    student_j, teacher_j = energy_j[[f"{name}-s1", f"{name}-s2"]].mean(), energy_j[LARGE]
    test_slots = SLOTS * BLOCKS * len(SINR_DB)
    assert row["teachers_j"] == pytest.approx(3e4 * teacher_j)
    assert row["development_j"] == pytest.approx(3e4 * teacher_j + 3e4 * student_j + test_slots * student_j)
    assert row["saved_j_per_slot"] == pytest.approx(teacher_j - student_j)
    assert row["payback_slots"] == pytest.approx(row["development_j"] / (teacher_j - student_j))
    assert row["saved_j_per_slot_low"] < row["saved_j_per_slot"] < row["saved_j_per_slot_high"]


def test_energy_is_that_of_the_reference_instrument(tmp_path: Path) -> None:
    """A wattmeter of three times the power covers inference; trainings keep the energy of the other instrument."""
    one = config(students={"receivers": [HYBRID], "seeds": [1]})
    run = synthetic_run(tmp_path / "one", one)
    before = run_results(run)
    table = run.energy()
    metered = table[(table["method"] == "CodeCarbon") & (table["phase"] == "inference")]
    wattmeter = metered.assign(method="wattmeter", provenance="measured", energy_j=3 * metered["energy_j"])
    write_table(run.energy_path, pd.concat([table, wattmeter]), ENERGY)
    after = run_results(Run(run.folder, one))
    assert (before.reference_instrument, before.provenance) == ("CodeCarbon", "modelled")
    assert (after.reference_instrument, after.provenance) == ("wattmeter", "measured")
    energies_j = [results.receivers["energy_j_per_slot"].dropna().tolist() for results in (before, after)]
    assert energies_j[1] == pytest.approx([3 * energy_j for energy_j in energies_j[0]])
    assert text.training_text(after) == text.training_text(before)
    assert "by CodeCarbon, " in text.training_text(after)
    assert "measured by wattmeter" in text.energy_text(after)
    metering = one.metering.model_copy(update={"reference_instrument": "CodeCarbon"})
    named = run_results(Run(run.folder, one.model_copy(update={"metering": metering})))
    assert named.receivers["energy_j_per_slot"].dropna().tolist() == energies_j[0]


def test_energy_is_that_of_the_deployed_form(tmp_path: Path) -> None:
    """A C file of one receiver, with one slot and with several a call; the others are deployed in torch."""
    one = config(students={"receivers": [HYBRID], "seeds": [1]})
    run = synthetic_run(tmp_path / "one", one)
    before = run_results(run)
    best = before.students.set_index("variant")["best"].idxmax()
    table, name = run.energy(), next(record.name for record in run.plan.neural if record.variant == best)
    is_metered = (table["method"] == "CodeCarbon") & (table["phase"] == "inference")
    (row,) = table[(table["receiver"] == name) & is_metered].index
    files = pd.concat([table.loc[[row]]] * 2).assign(runtime="c", batch_slots=[1, 8], slots=[100, 800], repeats=100)
    files = files.assign(energy_j=[0.02, 0.08], duration_s=[0.05, 0.2])
    write_table(run.energy_path, pd.concat([table, files]), ENERGY)
    after = run_results(Run(run.folder, one))
    rows = after.receivers.set_index("receiver")
    assert rows.loc[name, ["energy_j_per_slot", "latency_s", "runtime"]].tolist() == [0.02 / 100, 0.05 / 100, "c"]
    assert rows["latency_s"].notna().sum() == 1
    assert rows.drop(name)["runtime"].isin(["receiver", "classical", ""]).all()
    assert before.receivers["latency_s"].isna().all()
    assert "trade-off-latency" not in [f.name for f in ber_figures.figures(before)]
    (figure,) = [f for f in ber_figures.figures(after) if f.name == "trade-off-latency"]
    limit, mark = figure.curves
    assert (limit.name, limit.x) == ("a slot lasts 0.5 ms", [0.5, 0.5]), "at 30 kHz"
    assert (mark.name, mark.x) == (f"{best} (C file)", [pytest.approx(0.5)])
    assert "the deployed form is torch" in text.energy_text(before)
    html = page._html(after, sections(after, page.figures(after)))
    assert "Energy and latency against BER" in html
    parts, before_parts = (r.life_cycles.result(name, "CodeCarbon").ecal.components_j for r in (after, before))
    changed = {part for part in parts if parts[part] != before_parts[part]}
    assert changed == {"inference"}, "development is what the run executed"
    costly = files.assign(energy_j=[5.0, 40.0])
    write_table(run.energy_path, pd.concat([table, costly]), ENERGY)
    in_torch = run_results(Run(run.folder, one)).receivers.set_index("receiver").loc[name]
    assert in_torch["runtime"] == "receiver", "the file needs more than torch"
    assert (in_torch["latency_s"], in_torch["latency_runtime"]) == (0.05 / 100, "c")


def test_the_page_of_a_sweep(run: Run) -> None:
    page = write_report(run).read_text()
    names = {p.name for p in run.report_folder.iterdir()}
    for figure in ("gain", "loss", "teachers", "ber-macs", "savings", f"map-{HYBRID}-deeprx-w0.0625-d3"):
        assert {f"{figure}.png", f"{figure}.pdf"} <= names
        assert f'id="figure-{figure.replace(".", "-")}"' in page
    tables = ("receivers", "variants", "gains", "gains-by-seed", "losses", "error-floors", "teachers", "families")
    for name in (*tables, "savings", "payback", "energy-estimates"):
        assert len(pd.read_csv(run.report_folder / f"{name}.csv"))
        assert f'href="{name}.csv"' in page or name in ("teachers", "families")
    assert "settings.png" not in names, "no more differs than teachers, temperature and alpha"
    for title in ("Distillation gain", "Energy model validation", "Instruments and assumptions"):
        assert f"<h2>{title}</h2>" in page
    assert "jackknife intervals" in page
    assert "pilots: symbols 2 or 2+11" in page


def test_a_sweep_of_one_student_has_no_more_figures(tmp_path: Path) -> None:
    one = config(teacher={"receiver": "deeprx-w0.0625-d3"}, students={"receivers": [HYBRID], "seeds": [1]})
    results = run_results(synthetic_run(tmp_path / "one", one))
    assert comparison_figures.figures(results) == []
    assert "ber-macs" not in [f.name for f in ber_figures.figures(results)]
    assert results.comparisons.variants["variant"].tolist() == results.receivers["receiver"].tolist()
    paragraphs = " ".join(text.distillation_sentences(results))
    assert f"{HYBRID}-kd is compared with its scratch baseline. " in paragraphs
    assert "interval over slots: +" in paragraphs
    assert "not seed-to-seed variance" in paragraphs


def test_lines_and_distillation_settings(tmp_path: Path) -> None:
    settings = [{"temperature": [1, 4]}, {"teacher": "perfect CSI"}, {"teacher": "teacher", "generations": 2}]
    students = {"receivers": [HYBRID], "distillation": settings}
    run = synthetic_run(tmp_path / "x", config(teacher={"receiver": "deeprx-w0.0625-d3"}, students=students))
    results = run_results(run)
    charts = {f.name: f for f in comparison_figures.figures(results)}
    assert set(charts) == {"gain-temperature", "settings"}
    (line,) = charts["gain-temperature"].curves
    assert line.x == [1.0, 2.0, 4.0], "the first generation of the third setting is one more temperature"
    assert np.diff(line.y) == pytest.approx([0.2, 0.4], abs=0.05)
    assert charts["settings"].x_labels == ("teacher", "perfect-CSI", "teacher-g2")
    kinds = results.comparisons.variants.set_index("other_settings")["teacher_kind"]
    assert kinds["perfect-CSI"] == "genie-aided"
    assert kinds["teacher-g2"] == "other"
    # a second generation is compared with the teacher of the first, not with the first
    losses = results.comparisons.losses
    assert set(losses.loc[losses["variant"].str.endswith("g2"), "reference_teacher"]) == {"teacher"}


def test_bounds_on_linear_and_logarithmic_axes() -> None:
    """A value below 0 is replaced by its upper bound on a logarithmic axis only."""
    curve = Curve("a", [1.0, 2.0], [-1.0, 2.0], [-2.0, 1.0], [0.5, 3.0])
    linear = to_plotly(Figure("f", "", "x", "y", [curve], y_log=False))
    assert list(linear.data[0].y) == [-1.0, 2.0]
    bound = to_plotly(Figure("f", "", "x", "y", [curve]))
    assert list(bound.data[0].y) == [0.5, 2.0]


def test_equal_networks_share_a_colour_and_families_a_marker(results: RunResults) -> None:
    styles = results.styles.by_name
    student, baselines = variant(DEEPRX, MIDDLE, 1, 0.5), [f"{DEEPRX}-scratch", f"{HYBRID}-scratch"]
    hybrid = variant(HYBRID, MIDDLE, 1, 0.5)
    assert styles[student].colour == styles[baselines[0]].colour == styles[f"{baselines[0]}-s2"].colour
    assert len({styles[n].colour for n in (LARGE, MIDDLE, student, *baselines, hybrid)}) == 4
    assert [styles[n][1:] for n in (*baselines, hybrid)] == [
        ("dash", "circle-open"),
        ("dash", "triangle-up-open"),
        ("solid", "triangle-up"),
    ]


def test_a_report_builds_the_plan_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = synthetic_run(tmp_path / "one", config(students={"receivers": [HYBRID], "seeds": [1, 2]}))
    plans: list[Plan] = []

    def count_plans(config: SweepConfig) -> Plan:
        plans.append(build_plan(config))
        return plans[-1]

    monkeypatch.setattr("leanrx.experiment.run.build_plan", count_plans)
    write_report(Run(run.folder, run.config))
    assert len(plans) == 1


DMRS_SCENARIO = {
    "name": "dmrs",
    "grid": {
        "num_prb": 1,
        "subcarrier_spacing_hz": 30000,
        "dmrs": {"config_type": 1, "additional_positions": [0, 1], "cdm_groups_without_data": 2},
    },
    "channels": {"train": ["TDL-B"], "test": ["TDLA30"]},
}


def test_a_run_with_dmrs_has_a_report(tmp_path: Path) -> None:
    """A DMRS symbol of TS 38.211 with two CDM groups without data carries no data: 13 or 12 of 14 symbols do."""
    dmrs = config(scenario=DMRS_SCENARIO, students={"receivers": [HYBRID], "seeds": [1]})
    run = synthetic_run(tmp_path / "dmrs", dmrs)
    site = {"name": "site", "g_per_kwh": (500, 50), "path_loss_db": (90, 90), "activity": (1, 1), "computers": 1e6}
    rules = {"slot_s": 3600, "link": "nr-macro", "ber": 0.2, "deadline_ms": 1e6, "network_g_per_kwh": 500}
    network = ReceiverNetwork.parse({**rules, "sites": [{**site, "harvest_kwh": (0, 1e6)}]}, "network")
    page = write_report(run, network=network).read_text()
    assert "<h2>Receiving sites over a day</h2>" in page
    assert 'id="figure-sites-day"' in page
    assert {"sites-day.png", "sites-slots.csv", "sites-policies.csv"} <= {p.name for p in run.report_folder.iterdir()}
    assert run_results(run).data_bits_per_slot == 12.5 * 12 * 4
    assert "single-symbol DMRS of type 1 and mapping type A with 0 or 1 additional positions" in page
    assert "A slot carries 600 data bits." in page


@pytest.fixture
def third_family() -> Iterator[Family]:
    """A family that the package does not have: DeepRx networks under another name."""
    yield register(replace(FAMILIES["deeprx"], name="third", colour="#123456", marker="star"))
    del FAMILIES["third"]


def test_a_third_family_is_reported_by_its_registry_row(tmp_path: Path, third_family: Family) -> None:
    third = "third-w0.03125-d3"
    run = synthetic_run(tmp_path / "third", config(students={"receivers": [DEEPRX, HYBRID, third], "seeds": [1]}))
    page = write_report(run).read_text()
    results = run_results(run)
    assert set(results.comparisons.families["family"]) == {"deeprx", "hybrid", "third"}
    (chart,) = (f for f in ber_figures.figures(results) if f.name == "ber-macs")
    (distilled,) = (c for c in chart.curves if c.name == "third, distilled")
    assert (distilled.colour, distilled.marker) == ("#123456", "star")
    assert results.styles.by_spec[third].marker == "star"
    assert "third, from scratch" in page


def test_a_coded_run_shows_block_errors_and_the_size_of_its_blocks(tmp_path: Path) -> None:
    """One PRB of 16-QAM and one or two pilot symbols at rate 1/2; a fifth of LMMSE's blocks fail at every point."""
    coded = synthetic_run(tmp_path / "coded", config(evaluation={"sinr_db": list(SINR_DB), "code_rate": "1/2"}))
    counts = coded.counts()
    counts["code_rate"], counts["transport_blocks"] = 0.5, counts["slots"]
    counts["block_errors"] = np.where(counts["receiver"] == "LMMSE", 13, 0)
    write_table(coded.ber_path, counts, COUNTS)
    coded_results = run_results(coded)
    charts = ber_figures.figures(coded_results)
    (section,) = [s for s in sections(coded_results, charts) if s.title == "Block error rate"]
    assert section.tables[0].rows == [
        ["4", "576", "288", "0.5", "0.5", "2", "1"],
        ["4", "624", "320", "0.5", "0.5128", "2", "1"],
    ]
    (figure,) = section.figures
    assert isinstance(figure, Figure)
    (curve,) = [c for c in figure.curves if c.name == "LMMSE"]
    assert curve.y == pytest.approx([13 / 64] * len(SINR_DB))


def test_an_uncoded_run_has_no_section_on_blocks(results: RunResults) -> None:
    charts = ber_figures.figures(results)
    assert not [c for c in charts if c.name.startswith("bler")]
    assert "Block error rate" not in [s.title for s in sections(results, charts)]


@pytest.mark.parametrize(
    ("missing", "num_points", "num_blocks"),
    [
        (("deeprx-w0.015625-d5-kd",), 2, 2),
        (("deeprx-w0.015625-d5-scratch",), 2, 2),
        (("teacher", "deeprx-w0.015625-d5-kd", "hybrid-w4-d1-kd"), 2, 2),
        ((), 1, 1),
    ],
)
def test_a_part_of_a_run_has_a_report(
    tmp_path: Path, missing: tuple[str, ...], num_points: int, num_blocks: int
) -> None:
    """Receivers whose training diverged are missing, or there are few points and blocks."""
    evaluation = {"sinr_db": list(SINR_DB[:num_points])}
    sections = {"teacher": {"receiver": "deeprx-w0.0625-d3"}, "students": {"seeds": [1]}, "evaluation": evaluation}
    run = synthetic_run(tmp_path / "part", config(**sections))
    for name in missing:
        shutil.rmtree(run.receivers_folder / name)
    counts, energy = run.counts(), run.energy()
    counts = counts[counts["sinr_db"].isin(SINR_DB[:num_points]) & (counts["block"] < num_blocks)]
    write_table(run.ber_path, counts[~counts["receiver"].isin(missing)], COUNTS)
    write_table(run.energy_path, energy[~energy["receiver"].isin(missing)], ENERGY)
    results = run_results(run)
    charts = page.figures(results)
    html = page._html(results, page.sections(results, charts))
    assert all(f">{name}<" not in html for name in missing)
    assert "hybrid-w4-d1-scratch" in html
    assert len(page.csv_tables(results)["ber.csv"]) == num_points * results.rates["receiver"].nunique()
