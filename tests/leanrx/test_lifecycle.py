"""Life cycles of a run with known numbers: results, allocation, goodput, payback, and runs without energy."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from energy_factories import energy_row
from run_factories import DATA_BITS, block_count_row, save_receivers
from scipy import stats

from energy.ecal import Outcome, hop, transport_energy_j
from energy.metering.table import ENERGY
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import EcalConfig, SweepConfig
from leanrx.life_cycle.inventory import LifeCycleInventory, slot_bits
from leanrx.life_cycle.life_cycle_result import RUN_TEACHER, TRAIN_AND_RUN_TEACHER, Payback
from leanrx.report.life_cycle_json import life_cycle_json, write_life_cycle
from leanrx.report.life_cycle_tables import life_cycle_table
from leanrx.report.life_cycle_text import headline, notes, payback_phrase, sentences
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.tables import write_table
from receivers.evaluation.store import COUNTS

CONFIG = SweepConfig.parse(
    {
        "label": "known",
        "scenario": {
            "name": "tiny",
            "grid": {"num_prb": 1, "subcarrier_spacing_hz": 30000},
            "channels": {"train": ["TDL-B"], "test": ["TDL-A"]},
        },
        "teacher": {"receiver": "deeprx-w0.0625-d3"},
        "students": {"receivers": ["deeprx-w0.03125-d3", "deeprx-w0.015625-d3"]},
        "evaluation": {"sinr_db": [0, 10]},
        "report": {"sinr_db": 9},
    },
    "known",
)
SMALL, TINY = "deeprx-w0.03125-d3", "deeprx-w0.015625-d3"
TRAINING_J = {
    "teacher": 1000.0,
    f"{SMALL}-kd": 300.0,
    f"{SMALL}-scratch": 200.0,
    f"{TINY}-kd": 250.0,
    f"{TINY}-scratch": 150.0,
}
SLOT_J = {
    "LS": 1e-3,
    "teacher": 10e-3,
    f"{SMALL}-kd": 5.0e-3,
    f"{SMALL}-scratch": 5.1e-3,
    f"{TINY}-kd": 3e-3,
    f"{TINY}-scratch": 2.9e-3,
}
BER = {
    "LS": 0.2,
    "teacher": 0.1,
    f"{SMALL}-kd": 0.12,
    f"{SMALL}-scratch": 0.14,
    f"{TINY}-kd": 0.3,
    f"{TINY}-scratch": 0.3,
}
TRAINED, TEST, BITS = 8000, 400, DATA_BITS
APPLICATION_BITS = 2 * 2 * 14 * 12 * 32
METER, FORMULA = "RAPL", "FLOPs/W"


def energy(name: str, digest: str, phase: str, method: str, slots: int, energy_j: float) -> dict[str, Any]:
    provenance = "measured" if method == METER else "modelled"
    return asdict(energy_row(name, digest, phase, method, slots, energy_j, provenance=provenance))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A complete run with known joules and errors. The formula gives a tenth of the meter, equal for equal networks."""
    return run_with_results(Run(tmp_path / "known", CONFIG), TRAINING_J, SLOT_J, BER)


def run_with_results(run: Run, training_j: dict[str, float], slot_j: dict[str, float], ber: dict[str, float]) -> Run:
    write_atomic(run.folder / "config.yaml", run.config.to_yaml())
    digests = {"LS": "classical/ls/1"}
    digests |= {name: card.weights_sha256 for name, card in save_receivers(run, TRAINED).items()}
    rows, counts = [], []
    for name, digest in digests.items():
        equal = name.replace("-scratch", "-kd")
        rows.append(energy(name, digest, "inference", METER, 1000, 1000 * slot_j[name]))
        rows.append(energy(name, digest, "inference", FORMULA, 1000, 100 * slot_j.get(equal, slot_j[name])))
        if name in training_j:
            rows.append(energy(name, digest, "training", METER, TRAINED, training_j[name]))
            rows.append(energy(name, digest, "training", FORMULA, TRAINED, 0.1 * training_j[name]))
        for sinr_db in (0.0, 10.0):
            errors = round(ber[name] * BITS * TEST / 2) if sinr_db else BITS * TEST // 4
            counts.append(block_count_row(name, digest, sinr_db, TEST // 2, errors, 150))
    write_table(run.energy_path, pd.DataFrame(rows), ENERGY)
    write_table(run.ber_path, pd.DataFrame(counts), COUNTS)
    return run


def test_bits_of_a_slot() -> None:
    assert slot_bits(CONFIG.scenario.grid) == APPLICATION_BITS


def test_the_split_of_a_student(run: Run) -> None:
    result = LifeCycleInventory(run).result(f"{SMALL}-kd", METER, inferences=10_000)
    passes_j = TRAINED * 10e-3
    assert result.provenance == "measured"
    assert result.ecal.components_j == pytest.approx(
        {
            "collection": 0,
            "teacher": 1000,
            "distillation": passes_j,
            "training": 300 - passes_j,
            "evaluation": TEST * 5e-3,
            "inference_collection": 0,
            "inference": 10_000 * 5e-3,
            "virtualisation": 0,
        }
    )
    assert result.ecal.bits == (2 * TRAINED + TEST + 10_000) * APPLICATION_BITS
    assert result.ecal.absolute_j == pytest.approx(1000 + 300 + TEST * 5e-3 + 50)


def with_files(run: Run, **files: tuple[str, float]) -> Run:
    """The run with metered files: runtime and joules per slot by receiver."""
    table = run.energy()
    rows = [
        asdict(energy_row(name, f"file of {name}", "inference", METER, 1000, 1000 * slot_j, runtime=runtime))
        for name, (runtime, slot_j) in files.items()
    ]
    write_table(run.energy_path, pd.concat([table, pd.DataFrame(rows)], ignore_index=True), ENERGY)
    return run


def test_service_has_the_deployed_form_and_development_what_was_executed(run: Run) -> None:
    student, before = f"{SMALL}-kd", LifeCycleInventory(run)
    tested = before.result(student, METER)
    assert tested.form == "the receiver as tested, in torch, 1 slot a call"
    inventory = LifeCycleInventory(with_files(run, **{student: ("litert-fp32", 1e-3), "teacher": ("c", 20e-3)}))
    result = inventory.result(student, METER)
    assert result.form == "the exported LiteRT file, one slot after the other on one thread"
    assert inventory.result("teacher", METER).form == "the receiver as tested, in torch, 1 slot a call", "C needs more"
    parts, tested_parts = result.ecal.components_j, tested.ecal.components_j
    assert parts["inference"] == pytest.approx(1_000_000 * 1e-3)
    assert {k: v for k, v in parts.items() if k != "inference"} == {
        k: v for k, v in tested_parts.items() if k != "inference"
    }
    running = payback_of(inventory, student, RUN_TEACHER)
    assert running.slots == pytest.approx((1000 + 300 + TEST * 5e-3) / (10e-3 - 1e-3))
    assert running.low < running.slots < running.high
    formula = payback_of(inventory, student, RUN_TEACHER, method=FORMULA)
    assert formula == payback_of(before, student, RUN_TEACHER, method=FORMULA), "estimates stay those of torch"
    assert life_cycle_json(inventory)["inference"][student][METER]["form"] == result.form


def test_split_teacher_energy_sums_to_the_teachers_training(run: Run) -> None:
    inventory = LifeCycleInventory(run, EcalConfig(teacher_allocation="split"))
    students = [inventory.result(n, METER).ecal for n in inventory.students]
    assert sum(e.components_j["teacher"] for e in students) == pytest.approx(1000)
    assert students[0].development_bits == (1.5 * TRAINED + TEST) * APPLICATION_BITS


def test_all_upstream_receivers_are_counted_once(tmp_path: Path) -> None:
    """An ensemble, an assistant and its student, and a genie-aided teacher; every joule is in the right sums."""
    kd = f"{SMALL}-kd"
    ensemble, assistant, privileged = f"{kd}-s1+s2", f"{kd}-s1", f"{kd}-perfect-CSI"
    assisted = f"{kd}-{assistant}"
    ways = ["teacher-s1 + teacher-s2", "teacher-s1", assistant, "perfect CSI"]
    changes = {
        "teacher": {"receiver": "deeprx-w0.0625-d3", "seeds": [1, 2]},
        "students": {
            "receivers": [SMALL],
            "distillation": [{"teacher": w, "generations": 2 if w == assistant else 1} for w in ways],
        },
    }
    config = SweepConfig.parse({**CONFIG.model_dump(), **changes}, "chain")
    training_j = {
        "teacher-s1": 1000.0,
        "teacher-s2": 2000.0,
        ensemble: 510.0,
        assistant: 520.0,
        assisted: 540.0,
        f"{assisted}-g2": 550.0,
        privileged: 580.0,
        f"{SMALL}-scratch": 200.0,
    }
    slot_j = {**dict.fromkeys(["LS", *training_j], 1e-3), "teacher-s1": 10e-3, "teacher-s2": 20e-3, assistant: 5e-3}
    run = run_with_results(Run(tmp_path / "chain", config), training_j, slot_j, dict.fromkeys(slot_j, 0.1))
    inventory = LifeCycleInventory(run)
    full = {name: inventory.result(name, METER, "full") for name in training_j}
    assert full[ensemble].teachers_j == {"teacher-s1": 1000, "teacher-s2": 2000}
    assert full[assistant].teachers_j == {"teacher-s1": 1000}
    assert full[assisted].teachers_j == {"teacher-s1": 1000, assistant: 520}
    assert full[f"{assisted}-g2"].teachers_j == {"teacher-s1": 1000, assistant: 520, assisted: 540}
    assert full[privileged].teachers_j == {}
    assert full[ensemble].ecal.components_j["distillation"] == pytest.approx(TRAINED * 30e-3)
    assert full[assisted].ecal.components_j["distillation"] == pytest.approx(
        TRAINED * 5e-3
    )  # its only teacher is the assistant
    assert full[privileged].ecal.components_j["distillation"] == 0
    for name, energy_j in training_j.items():
        parts = full[name].ecal.components_j
        energies_j = sum(parts.get(part, 0.0) for part in ("teacher", "distillation", "training"))
        assert energies_j == pytest.approx(energy_j + sum(full[name].teachers_j.values()))

    split = {name: inventory.result(name, METER, "split").teachers_j for name in training_j}
    assert split[assisted] == {
        "teacher-s1": pytest.approx(1000 / 4),
        assistant: 520,
    }  # an assistant is no common teacher
    for teacher in ("teacher-s1", "teacher-s2"):
        assert sum(result.get(teacher, 0.0) for result in split.values()) == pytest.approx(training_j[teacher])
    assert inventory.trained_teacher(privileged) is None
    assert inventory.trained_teacher(assisted) == "teacher-s1"


def test_classical_receivers_and_scratch_baselines_carry_no_teacher(run: Run) -> None:
    inventory = LifeCycleInventory(run)
    for name in ("LS", f"{SMALL}-scratch", "teacher"):
        assert not {"teacher", "distillation"} & set(inventory.result(name, METER).ecal.components_j)
    assert inventory.result("LS", METER).ecal.development_j == pytest.approx(TEST * 1e-3)
    assert inventory.roles["LS"] == "classical"


def test_estimates_have_results_and_a_provenance_of_their_own(run: Run) -> None:
    inventory = LifeCycleInventory(run)
    assert inventory.methods == [METER, FORMULA]
    metered, modelled = (inventory.result("teacher", s) for s in inventory.methods)
    assert modelled.ecal.absolute_j == pytest.approx(0.1 * metered.ecal.absolute_j)
    assert (metered.provenance, modelled.provenance) == ("measured", "modelled")


def test_hops_and_virtualisation(run: Run) -> None:
    settings = EcalConfig(hops=1, development_hops=2, virtualisation=0.1, inferences=1000)
    ecal = LifeCycleInventory(run, settings).result("teacher", METER).ecal
    generic = (hop("generic"),)
    assert ecal.components_j["collection"] == 2 * transport_energy_j((TRAINED + TEST) * APPLICATION_BITS, generic)
    assert ecal.components_j["inference_collection"] == transport_energy_j(1000 * APPLICATION_BITS, generic)
    assert LifeCycleInventory(run, settings).result("teacher", METER).provenance == "assumed"
    assert ecal.absolute_j == pytest.approx(1.1 * (ecal.development_j + 1000 * ecal.inference_j_per_inference))


def payback_of(
    inventory: LifeCycleInventory,
    student: str,
    against: str,
    per: str = "slot",
    method: str = METER,
    teacher: str = "full",
) -> Payback:
    key = (student, against, per, method, teacher)
    (payback,) = [
        p for p in inventory.paybacks() if (p.student, p.against, p.per, p.method, p.teacher_allocation) == key
    ]
    return payback


def test_payback_against_the_teacher(run: Run) -> None:
    inventory, student = LifeCycleInventory(run), f"{SMALL}-kd"
    running = payback_of(inventory, student, RUN_TEACHER)
    assert running.slots == pytest.approx((1000 + 300 + TEST * 5e-3) / (10e-3 - 5e-3))
    training = payback_of(inventory, student, TRAIN_AND_RUN_TEACHER)
    assert training.slots == pytest.approx((300 + TEST * (5e-3 - 10e-3)) / (10e-3 - 5e-3))
    split = payback_of(inventory, student, RUN_TEACHER, teacher="split")
    assert split.slots == pytest.approx((500 + 300 + TEST * 5e-3) / (10e-3 - 5e-3))
    assert running.low < running.slots < running.high
    exact = payback_of(inventory, student, RUN_TEACHER, method=FORMULA)
    assert exact.slots == pytest.approx(running.slots)
    assert exact.low == pytest.approx(exact.high)


def test_payback_for_equal_correct_bits(run: Run) -> None:
    """Work for B correct bits costs B / (1 - BER) bits' worth of slots on each side."""
    inventory, student = LifeCycleInventory(run), f"{SMALL}-kd"
    assert (inventory.interference_fraction, inventory.sinr_db) == (0, 10)
    per_bit = {n: SLOT_J[n] / (BITS * (1 - BER[n])) for n in (student, "teacher")}
    bits = (1000 + 300 + TEST * 5e-3) / (per_bit["teacher"] - per_bit[student])
    got = payback_of(inventory, student, RUN_TEACHER, "correct bit")
    assert got.slots == pytest.approx(bits / (BITS * (1 - BER[student])), rel=1e-4)  # errors are whole numbers
    (row,) = [r for r in inventory.correct_bit_rows() if (r["receiver"], r["sinr_db"]) == (student, 10)]
    assert row["methods"][METER]["inference_j_per_correct_bit"] == pytest.approx(per_bit[student], rel=1e-4)
    assert row["methods"][METER]["inference_j_per_bit_of_correct_slots"] == pytest.approx(SLOT_J[student] / (BITS / 4))


def test_a_coded_slot_delivers_the_size_of_its_block(run: Run) -> None:
    """Blocks of two sizes, of which the larger ones fail: 150 blocks of 100 bits are 75 bits per slot."""
    counts = run.counts()
    counts["code_rate"], counts["transport_blocks"], counts["block_errors"] = 0.5, 200, 50
    counts["transport_block_bits"], counts["decoded_bits"] = 150 * 100 + 50 * 300, 150 * 100
    write_table(run.ber_path, counts, COUNTS)
    inventory, student = LifeCycleInventory(run), f"{SMALL}-kd"
    assert inventory.point_rows[student]["bits_of_correct_slots_per_slot"] == 75
    (row,) = [r for r in inventory.correct_bit_rows() if (r["receiver"], r["sinr_db"]) == (student, 10)]
    assert row["methods"][METER]["inference_j_per_bit_of_correct_slots"] == pytest.approx(SLOT_J[student] / 75)


def test_an_uncoded_slot_delivers_its_own_bits(run: Run) -> None:
    """The 150 wrong slots of the smallest student have twice the bits of the 50 correct ones."""
    counts = run.counts()
    correct = DATA_BITS * 200 // 7
    counts["correct_slot_bits"] = correct
    write_table(run.ber_path, counts, COUNTS)
    row = LifeCycleInventory(run).point_rows[f"{TINY}-kd"]
    assert row["bits_of_correct_slots_per_slot"] == correct / 200


def test_payback_against_the_scratch_baseline_comes_from_fewer_errors_only(run: Run) -> None:
    inventory = LifeCycleInventory(run)
    assert payback_of(inventory, f"{SMALL}-kd", f"{SMALL}-scratch").outcome is Outcome.NEVER
    better = payback_of(inventory, f"{SMALL}-kd", f"{SMALL}-scratch", "correct bit")
    saved = 5e-3 / (BITS * 0.86) - 5e-3 / (BITS * 0.88)
    extra = 1000 + 300 - 200 + TEST * (5e-3 - 5.1e-3)
    assert better.slots == pytest.approx(extra / saved / (BITS * 0.88), rel=1e-3)
    assert payback_of(inventory, f"{TINY}-kd", f"{TINY}-scratch", "correct bit").outcome is Outcome.NEVER


def test_repeatability_is_that_of_equal_networks(run: Run) -> None:
    inventory = LifeCycleInventory(run)
    differences = [math.log(5.0 / 5.1), math.log(3 / 2.9)]
    assert inventory.repeatability.degrees == 2
    assert inventory.repeatability.relative_sd == pytest.approx(math.sqrt(sum(d * d / 2 for d in differences) / 2))
    assert inventory.repeatability.coverage == pytest.approx(stats.t.ppf(0.975, 2))


def test_no_payback_against_less_energy_per_slot(run: Run) -> None:
    inventory = LifeCycleInventory(run)
    never = payback_of(inventory, f"{SMALL}-kd", "LS")
    assert (never.slots, never.low, never.high, never.outcome) == (None, None, None, Outcome.NEVER)
    text = headline(inventory)
    assert f"Against running the teacher, {TINY}-kd pays back" in text
    assert "It never pays back against deeprx-w0.015625-d3-scratch: the same network uses the same energy" in text
    assert "It never pays back against LS: they use no more energy per slot." in text
    assert text.endswith("does not reach the target BER of 0.01, so this payback is of no practical use.")
    assert "its BER is 0.3, and the teacher's is 0.1" in text
    slots = (1000 + 250 + TEST * 3e-3) / 7e-3
    assert f"after {slots * 0.5e-3:.3g} s of continuous traffic" in text  # a slot at 30 kHz lasts half a millisecond
    lines = sentences(inventory)
    assert lines[0] == text
    assert f"{SMALL}-kd against LS: {payback_phrase(never, inventory.slot_s)}." in lines


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({}, "pays back after 12,300 slots, 6.17 s of traffic (95 %: 9,000 to 20,000)"),
        (
            {"significant": None, "low": None, "high": None},
            "pays back after 12,300 slots, 6.17 s of traffic (uncertainty unknown)",
        ),
        (
            {"significant": False, "high": None},
            "pays back after 12,300 slots, 6.17 s of traffic, but the saving is within the uncertainty; "
            "no payback before 9,000 slots",
        ),
        (
            {"slots": 0.0, "low": 0.0, "high": 0.0, "outcome": Outcome.IMMEDIATE},
            "uses less energy from the first slot",
        ),
        ({"slots": None, "low": None, "high": None, "outcome": Outcome.NEVER}, "never pays back"),
        (
            {"slots": None, "high": None, "outcome": Outcome.NEVER, "significant": False},
            "never pays back, but the saving is within the uncertainty; no payback before 9,000 slots",
        ),
    ],
)
def test_payback_phrases(change: dict[str, Any], phrase: str) -> None:
    payback = Payback("a", METER, "measured", "full", "b", "slot", 12345.0, 9e3, 2e4, Outcome.PAYBACK, True)
    assert payback_phrase(replace(payback, **change), 0.5e-3) == phrase


def test_notes_tell_convention_network_allocation_and_uncertainty(run: Run) -> None:
    text = " ".join(notes(LifeCycleInventory(run, EcalConfig(hops=2, teacher_allocation="split"))))
    assert "overhead bits truncated, radio energy all-layers" in text
    assert "Slots in service cross 2 generic network hops. Training and test slots cross no network." in text
    assert "The students of one teacher split its training energy equally." in text
    assert "2 degrees of freedom" in text


def test_the_file_has_all_life_cycles(run: Run) -> None:
    written = json.loads(json.dumps(life_cycle_json(write_life_cycle(run)), allow_nan=False))
    assert written == json.loads(run.ecal_path.read_text())
    result = written["life_cycle"][f"{SMALL}-kd"][METER]
    for key in ("ecal_j_per_bit", "absolute_j", "development_j", "inference_j_per_inference", "components_j", "bits"):
        assert key in result
    assert sum(result["components_j"].values()) == pytest.approx(result["absolute_j"])
    assert any("no network" in n for n in written["notes"])


def with_wattmeter(run: Run, per_joule: float) -> Run:
    """The run with energy of inference by a wattmeter, and none of training."""
    table = run.energy()
    metered = table[(table["phase"] == "inference") & (table["method"] == METER)]
    logged = metered.assign(method="wattmeter", energy_j=per_joule * metered["energy_j"])
    rest = table[table["method"] != "wattmeter"]
    write_table(run.energy_path, pd.concat([rest, logged], ignore_index=True), ENERGY)
    return run


def test_a_wattmeter_at_twice_the_power_doubles_inference_alone(run: Run) -> None:
    """Training stays with the instrument that metered it, and so does the teachers' part of it."""
    before, after = (
        LifeCycleInventory(with_wattmeter(run, factor)).result(f"{SMALL}-kd", "wattmeter") for factor in (3.0, 6.0)
    )
    doubled = {"inference", "evaluation"}  # both are forward passes
    for name, energy_j in before.ecal.components_j.items():
        assert after.ecal.components_j[name] == pytest.approx((2 if name in doubled else 1) * energy_j), name
    assert after.ecal.asymptotic_j_per_bit == pytest.approx(2 * before.ecal.asymptotic_j_per_bit)
    assert before.training_method == METER
    assert before.ecal.components_j["teacher"] == 1000
    assert before.ecal.components_j["distillation"] == pytest.approx(TRAINED * 10e-3)
    assert before.ecal.components_j["inference"] == pytest.approx(1_000_000 * 3 * 5e-3)


def test_the_payback_follows_the_reference(run: Run) -> None:
    student = f"{SMALL}-kd"
    by_meter = payback_of(LifeCycleInventory(run), student, RUN_TEACHER)
    inventory = LifeCycleInventory(with_wattmeter(run, 3.0))
    assert inventory.methods == ["wattmeter", FORMULA]
    by_wattmeter = payback_of(inventory, student, RUN_TEACHER, method="wattmeter")
    saved_j = 3 * (10e-3 - 5e-3)
    assert by_wattmeter.slots == pytest.approx((1000 + 300 + TEST * 3 * 5e-3) / saved_j)
    assert by_wattmeter.slots < by_meter.slots
    life_cycles = life_cycle_json(inventory)["life_cycle"]
    assert life_cycles[student]["wattmeter"]["training_method"] == METER, "both instruments are named"
    assert set(life_cycle_table(inventory).query("method == 'wattmeter' and role == 'student'")["training_method"]) == {
        METER
    }
    configured = run.config.model_copy(
        update={"metering": run.config.metering.model_copy(update={"reference_instrument": METER})}
    )
    assert payback_of(LifeCycleInventory(Run(run.folder, configured)), student, RUN_TEACHER) == by_meter
    assert LifeCycleInventory(run, reference=METER).methods == [METER, FORMULA]
    with pytest.raises(UserError, match="instruments: RAPL, wattmeter"):
        LifeCycleInventory(run, reference="NVML")


def test_the_provenance_is_that_of_the_weakest_joule(run: Run) -> None:
    table = with_wattmeter(run, 1.0).energy()
    modelled = (table["phase"] == "training") & (table["method"] == METER)
    table.loc[modelled, "provenance"] = "modelled"
    write_table(run.energy_path, table, ENERGY)
    inventory = LifeCycleInventory(run)
    assert inventory.result(f"{SMALL}-kd", "wattmeter").provenance == "modelled"
    assert inventory.result("LS", "wattmeter").provenance == "measured", "it has no training"


def test_a_table_of_another_version_is_refused(run: Run) -> None:
    table = run.energy().rename(columns={"method": "source", "provenance": "kind"})
    table.to_parquet(run.energy_path)
    with pytest.raises(UserError, match=r"energy\.parquet: .*another version; delete it and run: leanrx energy"):
        LifeCycleInventory(run)


def drop(run: Run, **where: str) -> None:
    table = run.energy()
    gone = pd.Series(True, index=table.index)
    for column, value in where.items():
        gone &= table[column] == value
    write_table(run.energy_path, table[~gone], ENERGY)


def test_runs_without_energy_are_refused(run: Run) -> None:
    drop(run, receiver=f"{SMALL}-kd", phase="training")
    with pytest.raises(UserError, match=f"{SMALL}-kd was trained without a meter"):
        LifeCycleInventory(run)
    drop(run, receiver=f"{TINY}-scratch", phase="inference")
    drop(run, receiver=f"{SMALL}-kd")
    with pytest.raises(UserError, match=f"no energy of inference of {SMALL}-kd.*run: leanrx energy"):
        LifeCycleInventory(run)
    run.energy_path.unlink()
    with pytest.raises(UserError, match="run: leanrx energy"):
        LifeCycleInventory(run)


def test_a_run_that_was_not_evaluated_is_refused(run: Run) -> None:
    counts = run.counts()
    write_table(run.ber_path, counts[counts["receiver"] != "teacher"], COUNTS)
    with pytest.raises(UserError, match="no counts of teacher; run: leanrx evaluate"):
        LifeCycleInventory(run)
    run.ber_path.unlink()
    with pytest.raises(UserError, match="run: leanrx evaluate"):
        LifeCycleInventory(run)


def test_energy_of_other_weights_is_refused(run: Run) -> None:
    table = run.energy()
    table.loc[table["receiver"] == "teacher", "digest"] = "old"
    write_table(run.energy_path, table, ENERGY)
    with pytest.raises(UserError, match="no energy of inference of teacher as it is now"):
        LifeCycleInventory(run)
