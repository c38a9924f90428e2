"""The report of a sweep whose every error and joule is made up: two families, teachers, seeds, a grid of settings."""

import itertools
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from energy.counting.counter import count
from energy.metering.table import EnergyRow
from leanrx.experiment.plan import Plan, ReceiverRecord, build_plan
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import SweepConfig
from leanrx.life_cycle.inventory import METERED, LifeCycleInventory
from leanrx.report import figures, life_cycle_charts, sweep_figures, text
from leanrx.report.analysis import Analysis, analyse
from leanrx.report.charts import Curve, Figure, HeatMap, to_plotly
from leanrx.report.comparisons import contest, pareto
from leanrx.report.page import write_report
from leanrx.report.style import colours, style
from leanrx_core.files import write_atomic
from receivers.classical import GENIE_AIDED, classical_receivers
from receivers.evaluation.error_counts import BlockCount
from receivers.neural.registry import build
from receivers.neural.weights import Card, save

BITS, SLOTS, BLOCKS = 624, 64, 5
SINR_DB = (0.0, 6.0, 12.0, 18.0, 24.0, 30.0)


def config(**changes: Any) -> SweepConfig:
    students = {"receivers": ["deeprx-w0.015625-d5", "hybrid-w4-d1"], "seeds": [1, 2], **changes.pop("students", {})}
    return SweepConfig.parse(
        {
            "label": "made-up",
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
        "made-up",
    )


def sooner_db(record: ReceiverRecord) -> float:
    """By how many dB a made-up receiver needs less SINR than LS: what the report must find again."""
    if record.role == "teacher":
        return 8.0 if record.spec == "deeprx-w0.0625-d3" else 7.0
    base = {"d": 2.0, "h": 4.0}[record.spec[0]] + 0.5 * (record.seed - 1)
    if record.distillation is None:
        return base
    how = record.distillation
    gain = 1.0 + 0.2 * how.temperature - how.alpha + (0.4 if "w0.03125" in record.teachers[0] else 0.0)
    return base + gain + 0.2 * (record.seed - 1)


def made_up(folder: Path, config: SweepConfig) -> Run:
    """A complete run: BER is 0.3 at 0 dB and falls tenfold in 10 dB, that of twins to a floor of 4e-4."""
    run = Run(folder, config)
    write_atomic(folder / "config.yaml", config.to_yaml())
    environment = {"platform": "a computer", "packages": {"torch": "1"}, "instruments": []}
    write_atomic(folder / "environment.json", json.dumps(environment))
    curves = {r.name: (r.digest, 0.0 if r.name == "LS" else 3.0, 0.0) for r in classical_receivers(config.scenario)}
    joules = {name: 1e-3 for name in curves if name not in GENIE_AIDED}
    for entry in run.plan.neural:
        net = build(entry.spec)
        card = Card(
            name=entry.name,
            receiver=entry.spec,
            role=entry.role,
            num_rx=2,
            num_bits=4,
            parameters=sum(p.numel() for p in net.parameters()),
            scenario="tiny",
            channels=("TDL-B",),
            trained_sinr_db=(0, 30),
            seed=entry.seed,
            training={"slots": 8000, "teacher_slots": dict.fromkeys(set(entry.teachers) - set(GENIE_AIDED), 8000)},
        )
        digest = save(run.receivers_folder / entry.name, net, card).digest
        curves[entry.name] = digest, sooner_db(entry), 4e-4 if entry.role == "scratch" else 0.0
        joules[entry.name] = 1e-6 * card.parameters * (1 + 0.01 * (entry.role == "scratch") + 0.02 * entry.seed)
    counts, energy = [], []
    for name, (digest, sooner, floor) in curves.items():
        for sinr_db in SINR_DB:
            for block in range(BLOCKS):
                luck = 1 + 0.15 * (block - BLOCKS // 2)  # 1 on average
                errors = round(BITS * SLOTS * luck * max(0.3 * 10 ** (-(sinr_db + sooner) / 10), floor))
                counts.append(
                    asdict(
                        BlockCount(
                            receiver=name,
                            digest=digest,
                            stream="s",
                            device="cpu",
                            code_rate=0.0,
                            interference_fraction=0.0,
                            sinr_db=sinr_db,
                            block=block,
                            slots=SLOTS,
                            bits=BITS * SLOTS,
                            bit_errors=errors,
                            slot_errors=min(SLOTS, errors),
                            bit_errors_sq=errors**2 // 40,
                            bit_errors_x_bits=errors * BITS,
                            bits_sq=BITS**2 * SLOTS,
                            realised_sinr_db=sinr_db,
                        )
                    )
                )
    trained = {r.name for r in run.plan.neural}
    for name, slot_j in joules.items():
        windows = [("inference", 1000, 1000 * slot_j)] + [("training", 8000, 3e4 * slot_j)] * (name in trained)
        for source, factor in ((METERED, 1.0), ("FLOPs/W", 0.5)):
            energy += [
                asdict(
                    EnergyRow(
                        name,
                        curves[name][0],
                        "m",
                        phase,
                        source,
                        "modelled",
                        "i",
                        slots,
                        1,
                        1,
                        1,
                        1.0,
                        factor * energy_j,
                        0.0,
                    )
                )
                for phase, slots, energy_j in windows
            ]
    write_atomic(run.ber_path, pd.DataFrame(counts).to_parquet())
    write_atomic(run.energy_path, pd.DataFrame(energy).to_parquet())
    return run


GRID = {"distillation": {"temperature": [1, 4], "alpha": [0.5, 0.9]}}
LARGE, LESS = "teacher-deeprx-w0.0625-d3", "teacher-deeprx-w0.03125-d3"
DEEPRX, HYBRID = "deeprx-w0.015625-d5", "hybrid-w4-d1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_up(tmp_path_factory.mktemp("runs") / "made-up", config(students=GRID))


@pytest.fixture(scope="module")
def analysis(run: Run) -> Analysis:
    return analyse(run)


def way(spec: str, teacher: str, temperature: int, alpha: float) -> str:
    return f"{spec}-kd-{teacher.removeprefix('teacher-')}-T{temperature}-a{alpha:g}"


def test_variants_are_means_over_seeds(run: Run, analysis: Analysis) -> None:
    table = analysis.variants.set_index("variant")
    assert len(table) == 4 + 2 + 2 * (2 * 4 + 1)
    name = way(HYBRID, LESS, 4, 0.9)
    row = table.loc[name]
    assert (row["receiver"], row["family"], row["teacher"], row["kind"]) == (HYBRID, "hybrid", LESS, "teacher")
    assert (row["temperature"], row["alpha"], row["rest"], row["seeds"]) == (4.0, 0.9, LESS.removeprefix("teacher-"), 2)
    sizes = analysis.sizes.set_index("receiver").loc[[f"{name}-s1", f"{name}-s2"]]
    assert row["ber"] == sizes["ber"].mean()
    assert (row["ber_low"], row["ber_high"]) == (sizes["ber_low"].min(), sizes["ber_high"].max())
    best = table[(table["role"] == "student") & table["best"]].index.tolist()
    assert best == [way(DEEPRX, LESS, 4, 0.5), way(HYBRID, LESS, 4, 0.5)]
    assert table[table["role"] != "student"]["best"].all()


def test_gains_and_losses_are_the_made_up_ones(run: Run, analysis: Analysis) -> None:
    plan = run.plan
    gains = analysis.gains.set_index(["variant", "target_ber"])
    losses = analysis.losses.set_index(["variant", "target_ber"])
    assert analysis.gains["target_ber"].unique().tolist() == [0.05, 0.01, 0.001]
    for spec, teacher, temperature, alpha in itertools.product((DEEPRX, HYBRID), (LARGE, LESS), (1, 4), (0.5, 0.9)):
        name = way(spec, teacher, temperature, alpha)
        kd = [sooner_db(plan[f"{name}-s{s}"]) for s in (1, 2)]
        twin = [sooner_db(plan[f"{spec}-scratch-s{s}"]) for s in (1, 2)]
        gain, loss = gains.loc[name, 0.01], losses.loc[name, 0.01]
        expected = np.subtract(kd, twin)
        assert gain["gain_db"] == pytest.approx(expected.mean(), abs=0.05)
        half = stats.t.ppf(0.975, 1) * expected.std(ddof=1) / math.sqrt(2)  # slots are good or bad for all alike
        assert (gain["gain_db_high"] - gain["gain_db_low"]) / 2 == pytest.approx(half, rel=0.15)
        assert (gain["over"], loss["over"], gain["seeds"]) == ("slots and seeds", "slots and seeds", 2)
        assert loss["against"] == teacher
        assert loss["loss_db"] == pytest.approx(sooner_db(plan[teacher]) - np.mean(kd), abs=0.05)
        alone = analysis.seeds.set_index(["variant", "target_ber"]).loc[f"{name}-s2", 0.01]
        assert (alone["gain_db"], alone["over"]) == (pytest.approx(expected[1], abs=0.05), "slots")


def test_macs_share_and_floors(run: Run, analysis: Analysis) -> None:
    name = way(HYBRID, LARGE, 1, 0.5)
    grid = run.config.scenario.grid
    macs = [count(build(spec), grid).macs for spec in (HYBRID, "deeprx-w0.0625-d3")]
    share = analysis.losses.set_index("variant").loc[name, "macs_share"].unique()
    assert share == pytest.approx([macs[0] / macs[1]])
    ratio = analysis.floors.set_index("variant").loc[name]
    plan = run.plan
    ber = [0.3 * 10 ** (-(30 + sooner_db(plan[f"{name}-s{s}"])) / 10) for s in (1, 2)]
    assert ratio["ber_ratio"] == pytest.approx(4e-4 / math.sqrt(ber[0] * ber[1]), rel=0.05)
    assert not text.firm(analysis, name), "a few dozen erroneous slots say nothing of a floor"


def test_cells_of_a_map_stand_at_their_temperature_and_alpha(analysis: Analysis) -> None:
    maps = {f.name: f for f in sweep_figures.figures(analysis) if isinstance(f, HeatMap)}
    assert len(maps) == 4
    found = maps[f"map-{HYBRID}-{LESS.removeprefix('teacher-')}"]
    assert (found.x, found.y) == (["1", "4"], ["0.5", "0.9"])
    at = analysis.gains[analysis.gains["target_ber"] == sweep_figures.compared_at(analysis)].set_index("variant")[
        "gain_db"
    ]
    assert found.z == [[at[way(HYBRID, LESS, t, a)] for t in (1, 4)] for a in (0.5, 0.9)]
    assert found.labels[1][0].startswith(f"{found.z[1][0]:+.2f}<br>")
    assert found.max_abs == max(map(max, found.z))


def test_the_best_teacher(analysis: Analysis) -> None:
    taught = analysis.taught
    assert taught[taught["receiver"] == HYBRID]["teacher"].tolist() == [LESS, LARGE], "by MACs"
    assert taught["variant"].tolist()[0].endswith("T4-a0.5"), "each teacher at its best"
    words = " ".join(text.sentences(analysis))
    for spec in (DEEPRX, HYBRID):
        assert f"Best teacher of {spec} by BER at 12 dB: {LESS}" in words
    (figure,) = (f for f in sweep_figures.figures(analysis) if f.name == "teachers")
    assert [c.name for c in figure.curves if c.name] == ["the teachers", DEEPRX, HYBRID]


def test_families_at_equal_macs(analysis: Analysis) -> None:
    (row,) = analysis.contest.to_dict("records")  # at the smaller size there is no DeepRx
    assert (row["winner"], row["hybrid"]) == ("hybrid", way(HYBRID, LESS, 4, 0.5))
    assert row["separated"] == (row["hybrid_ber_high"] < row["deeprx_ber_low"])
    hybrids = analysis.variants[analysis.variants["family"] == "hybrid"]
    students = analysis.variants[analysis.variants["role"] == "student"].set_index("family")["macs_per_slot"]
    assert row["macs_per_slot"] == students["deeprx"].min() > students["hybrid"].min()
    assert not len(contest(hybrids))


def test_a_front_over_three_costs() -> None:
    a, b, c = pd.Series([1.0, 2.0, 1.0, 2.0]), pd.Series([2.0, 1.0, 2.0, 2.0]), pd.Series([5.0, 5.0, 4.0, 9.0])
    assert pareto(a, b, c).tolist() == [False, True, True, False]


def small(analysis: Analysis, share: float, *losses_db: float) -> Analysis:
    """The same with other losses: of the hybrid and then the DeepRx students, at BER 0.01."""
    rows = [
        {
            "variant": way(spec, LARGE, 1, 0.5),
            "target_ber": 0.01,
            "loss_db": loss,
            "loss_db_low": loss - 0.1,
            "loss_db_high": loss + 0.1,
            "against": LARGE,
            "macs_share": share,
        }
        for spec, loss in zip((HYBRID, DEEPRX), losses_db, strict=True)
    ]
    return replace(analysis, losses=pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("share", "losses_db", "words"),
    [
        (
            0.1,
            (0.25, 0.9),
            "Of 2 students with 10% or less of their teacher's MACs, 1 loses 0.3 dB or less to it at "
            f"BER 0.01: {way(HYBRID, LARGE, 1, 0.5)} with 10.0% of the MACs of {LARGE}, +0.25 (+0.15 to +0.35) dB",
        ),
        (0.1, (0.5, 0.31), f"none is within 0.3 dB of it at BER 0.01; the closest: {DEEPRX}-kd"),
        (0.1, (np.nan, np.nan), "none can be compared with it at BER 0.01"),
        (0.2, (0.1, 0.1), "No student has 10% or less of its teacher's MACs; the least is 20%."),
    ],
)
def test_students_close_to_their_teacher(
    analysis: Analysis, share: float, losses_db: tuple[float, float], words: str
) -> None:
    assert words in " ".join(text.sentences(small(analysis, share, *losses_db)))


def test_sentences_of_gains(analysis: Analysis) -> None:
    words = text.sentences(analysis)
    assert words[0].startswith(f"Distillation against training from scratch, {way(DEEPRX, LESS, 4, 0.5)}, of 8 ways")
    assert "interval over slots and seeds" in words[0]
    assert "too few erroneous slots to speak of a floor" in words[0]
    assert any("+4 dB at BER 0.001 (arXiv 2507.10409, second-hand" in w for w in words)
    assert any("not that of the teacher. No claim for distillation rests on fewer than 3 seeds" in w for w in words)
    gains = analysis.gains.copy()
    gains.loc[gains["target_ber"] == 0.001, "gain_db"] = np.nan
    gains.loc[gains["target_ber"] == 0.001, "gain_db_at_least"] = 5.0
    bound = replace(analysis, gains=gains)
    assert "at least +5.00 dB at BER 0.001, which the twin does not reach" in text.sentences(bound)[0]
    assert any("≥ +5.00" in row for row in text.gain_table(bound)["rows"])
    (figure,) = (f for f in sweep_figures.figures(bound) if f.name == "gain")
    (arrows,) = (c for c in figure.curves if c.marker == "arrow-up")
    assert arrows.y == [5.0, 5.0]


def test_what_training_costs_and_saves(run: Run, analysis: Analysis) -> None:
    table = life_cycle_charts.savings_table(LifeCycleInventory(run)).set_index(["variant", "source"])
    name = way(HYBRID, LARGE, 1, 0.5)
    row = table.loc[name, METERED]
    sizes = analysis.sizes.set_index("receiver")["energy_j_per_slot"]
    mine, teacher = sizes[[f"{name}-s1", f"{name}-s2"]].mean(), sizes[LARGE]
    test_slots = SLOTS * BLOCKS * len(SINR_DB)
    assert row["teachers_j"] == pytest.approx(3e4 * teacher)
    assert row["development_j"] == pytest.approx(3e4 * teacher + 3e4 * mine + test_slots * mine)
    assert row["saved_j_per_slot"] == pytest.approx(teacher - mine)
    assert row["break_even_slots"] == pytest.approx(row["development_j"] / (teacher - mine))
    assert row["saved_j_per_slot_low"] < row["saved_j_per_slot"] < row["saved_j_per_slot_high"]


def test_the_page_of_a_sweep(run: Run) -> None:
    page = write_report(run).read_text()
    names = {p.name for p in run.report_folder.iterdir()}
    for figure in ("gain", "loss", "teachers", "ber-macs", "savings", f"map-{HYBRID}-deeprx-w0.0625-d3"):
        assert {f"{figure}.png", f"{figure}.pdf"} <= names
        assert f'id="figure-{figure.replace(".", "-")}"' in page
    for name in ("variants", "gains", "gains-by-seed", "losses", "floors", "teachers", "families", "savings"):
        assert len(pd.read_csv(run.report_folder / f"{name}.csv"))
    assert "ways.png" not in names, "no more differs than teachers, temperature and alpha"


def test_a_sweep_of_one_student_draws_nothing_more(tmp_path: Path) -> None:
    one = config(teacher={"receiver": "deeprx-w0.0625-d3"}, students={"receivers": [HYBRID], "seeds": [1]})
    analysis = analyse(made_up(tmp_path / "one", one))
    assert sweep_figures.figures(analysis) == []
    assert "ber-macs" not in [f.name for f in figures.figures(analysis)]
    assert analysis.variants["variant"].tolist() == analysis.sizes["receiver"].tolist()
    words = " ".join(text.sentences(analysis))
    assert f"from scratch, {HYBRID}-kd: " in words
    assert "interval over slots +" in words
    assert "not the luck of training" in words


def test_lines_and_ways(tmp_path: Path) -> None:
    ways = [{"temperature": [1, 4]}, {"teacher": "perfect CSI"}, {"teacher": "teacher", "generations": 2}]
    found = analyse(
        made_up(
            tmp_path / "ways",
            config(teacher={"receiver": "deeprx-w0.0625-d3"}, students={"receivers": [HYBRID], "distillation": ways}),
        )
    )
    drawn = {f.name: f for f in sweep_figures.figures(found)}
    assert set(drawn) == {"gain-temperature", "ways"}
    (line,) = drawn["gain-temperature"].curves
    assert line.x == [1.0, 2.0, 4.0], "the first generation of the third way is one more temperature"
    assert np.diff(line.y) == pytest.approx([0.2, 0.4], abs=0.05)
    assert drawn["ways"].x_labels == ("teacher", "perfect-CSI", "teacher-g2")
    kinds = found.variants.set_index("rest")["kind"]
    assert kinds["perfect-CSI"] == "bound"
    assert kinds["teacher-g2"] == "other"
    # a second generation is held against the teacher of the first, not against the first
    assert set(found.losses.loc[found.losses["variant"].str.endswith("g2"), "against"]) == {"teacher"}


def test_figures_say_what_they_are_given() -> None:
    """Below 0 a value is a bound on a logarithmic axis alone; equal nets share a colour, families a mark."""
    curve = Curve("a", [1.0, 2.0], [-1.0, 2.0], [-2.0, 1.0], [0.5, 3.0])
    linear = to_plotly(Figure("f", "", "x", "y", [curve], y_log=False))
    assert list(linear.data[0].y) == [-1.0, 2.0]
    bound = to_plotly(Figure("f", "", "x", "y", [curve]))
    assert list(bound.data[0].y) == [0.5, 2.0]
    names = [LARGE, LESS, way(DEEPRX, LESS, 1, 0.5), f"{DEEPRX}-scratch", f"{HYBRID}-scratch", f"{HYBRID}-kd"]
    palette = colours(names)
    assert palette[names[2]] == palette[names[3]]
    assert len({palette[n] for n in names}) == 4
    assert [style(n) for n in names[3:]] == [
        ("dash", "circle-open"),
        ("dash", "triangle-up-open"),
        ("solid", "triangle-up"),
    ]


def test_a_report_builds_the_plan_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made_up(tmp_path / "one", config(students={"receivers": [HYBRID], "seeds": [1, 2]}))
    plans: list[Plan] = []

    def count_plans(config: SweepConfig) -> Plan:
        plans.append(build_plan(config))
        return plans[-1]

    monkeypatch.setattr("leanrx.experiment.run.build_plan", count_plans)
    write_report(Run(run.folder, run.config))
    assert len(plans) == 1
