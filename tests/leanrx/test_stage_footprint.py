"""Footprints of a run with known joules, by stage, component and scope, and its carbon impact statement."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from test_lifecycle import BER, CONFIG, FORMULA, METER, SLOT_J, SMALL, TEST, TINY, TRAINING_J, run_with_results

from carbon import CarbonIntensity, Footprint, Site, carbon_intensity
from energy.ecal import hop, transport_energy_j
from leanrx.cli.main import app
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import EcalConfig
from leanrx.life_cycle.adaptation import Adaptation, shipped_adaptation
from leanrx.life_cycle.inventory import LifeCycleInventory
from leanrx.life_cycle.stage_footprint import (
    NOT_IN_ECAL,
    LifeCycleSites,
    carbon_payback_slots,
    g_per_application_bit,
    slots_at_development_share,
    stage_footprint,
)
from leanrx.report.impact_statement import run_footprint, statement_sentences
from leanrx.report.life_cycle_footprint import footprint_frame
from leanrx_core.errors import UserError

WORLD = Site(intensity=carbon_intensity("world-2023"))
SITES = LifeCycleSites(development=WORLD, application=WORLD)
KD = f"{SMALL}-kd"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_with_results(Run(tmp_path_factory.mktemp("runs") / "known", CONFIG), TRAINING_J, SLOT_J, BER)


def _site(g_per_kwh: float) -> Site:
    return Site(intensity=CarbonIntensity(name="own value", place="a site", g_per_kwh=g_per_kwh, source="test"))


def _counted_j(footprint: Footprint) -> float:
    return math.fsum(row.energy_j or 0.0 for row in footprint.rows if row.process not in NOT_IN_ECAL)


def test_joules_are_those_of_ecal(run: Run) -> None:
    for settings in (EcalConfig(), EcalConfig(hops=1, development_hops=2, virtualisation=0.2)):
        inventory = LifeCycleInventory(run, settings)
        for name in inventory.roles:
            for method in (METER, FORMULA):
                result = inventory.result(name, method)
                footprint = stage_footprint(inventory, result, SITES)
                assert _counted_j(footprint) == pytest.approx(result.ecal.absolute_j, rel=1e-12)
                parts = [cell for cell in footprint.matrix().values() if cell is not None]
                assert math.fsum(parts) == pytest.approx(footprint.total_g, rel=1e-12)


def test_stages_of_a_student_by_hand(run: Run) -> None:
    inventory = LifeCycleInventory(run)
    result = inventory.result(KD, METER, inferences=10_000)
    sites = LifeCycleSites(development=_site(36.0), application=_site(360.0))
    footprint = stage_footprint(inventory, result, sites, adaptation_j=130.0)
    # 36 g/kWh are 1e-5 g/J; the teacher's 1000 J, 300 J of training, and test slots of 5 mJ
    by_stage = footprint.sums("stage")
    assert by_stage["development"] == pytest.approx(1e-5 * (1300 + TEST * 5e-3))
    assert by_stage["application"] == pytest.approx(1e-4 * 50)
    assert by_stage["recycling"] == pytest.approx(1e-5 * 130)
    assert by_stage["preparation"] is None
    assert footprint.sums("component")["RAN"] == pytest.approx(1e-4 * 50)
    assert g_per_application_bit(footprint, result) == pytest.approx(footprint.total_g / result.ecal.bits)
    assert {"preparation, collection", "application, distribution of weights"} <= set(footprint.not_modelled)
    with pytest.raises(UserError, match="adaptation_j: -1"):
        stage_footprint(inventory, result, sites, adaptation_j=-1.0)


def test_weights_are_sent_over_the_hops_of_development(run: Run) -> None:
    inventory = LifeCycleInventory(run, EcalConfig(development_hops=1))
    rows = stage_footprint(inventory, inventory.result(KD, METER), SITES).rows
    (sent,) = [row for row in rows if row.process == "distribution of weights"]
    parameters = run.receiver(KD).card.parameters
    assert sent.energy_j == pytest.approx(transport_energy_j(32 * parameters, (hop("generic"),)))
    assert (sent.stage, sent.component, sent.provenance) == ("application", "core", "assumed")


def test_carbon_payback_moves_with_the_place_of_development() -> None:
    sites = LifeCycleSites(development=_site(23.7), application=_site(659.8))
    assert round(carbon_payback_slots(203_000, sites)) == 7292
    assert carbon_payback_slots(203_000, SITES) == 203_000


def test_share_of_development(run: Run) -> None:
    inventory = LifeCycleInventory(run)
    result = inventory.result(KD, METER)
    for share in (0.2, 0.1):
        slots = round(slots_at_development_share(result, share))
        ecal = inventory.result(KD, METER, inferences=slots).ecal
        assert ecal.development_j / ecal.absolute_j == pytest.approx(share, rel=1e-5)
    # a development of 1,637 J and 4.92 mJ per slot, as the smallest student of the quickstart run in the documentation
    assert pytest.approx(1.33e6, rel=0.01) == 1637 / 4.92e-3 * 4
    assert slots_at_development_share(result, 0.1) == pytest.approx(9 / 4 * slots_at_development_share(result, 0.2))


def test_an_adaptation_is_a_measured_part_of_a_training(run: Run) -> None:
    ratio = shipped_adaptation().ratio
    assert 0 < ratio < 1
    for adaptations in (0, 1, 3):
        frame = footprint_frame(LifeCycleInventory(run), SITES, adaptations=adaptations)
        row = frame[(frame.receiver == KD) & (frame.process == "adaptation")].iloc[0]
        assert row.energy_j == pytest.approx(adaptations * ratio * 300)  # of 300 J of training
        assert row.provenance == "modelled"


def test_a_ratio_and_its_interval_by_hand() -> None:
    seeds = [
        {
            "seed": seed,
            "shipped_ber": 0.1,
            "scratch_ber": 0.05,
            "adapted_ber": 0.04,
            "scratch_steps": 10,
            "adapted_steps": seed,
            "scratch_j": 10.0,
            "adapted_j": float(seed),
        }
        for seed in (1, 2, 3)
    ]
    values = {"receiver": "net", "from_scenario": "a", "to_scenario": "b", "sinr_db": 12, "test_slots": 9}
    adaptation = Adaptation.parse({**values, "provenance": "measured", "seeds": seeds}, "x")
    half = 4.302653 * 0.1 / math.sqrt(3)  # Student's t of two degrees of freedom, and a standard deviation of 0.1
    assert adaptation.ratio == pytest.approx(0.2)
    assert adaptation.interval == pytest.approx((0.2 - half, 0.2 + half), rel=1e-6)
    assert adaptation.text.startswith("0.2 of the joules of training from scratch (95 % 0 to 0.45, 3 seeds; net from a")


def test_two_bases_are_refused(run: Run) -> None:
    inventory = LifeCycleInventory(run)
    direct = Site(intensity=carbon_intensity("US-VT-2023"))
    with pytest.raises(UserError, match="intensities of two bases"):
        stage_footprint(inventory, inventory.result(KD, METER), LifeCycleSites(development=direct, application=WORLD))


def test_the_statement_of_a_run(run: Run) -> None:
    inventory = LifeCycleInventory(run)
    footprint = run_footprint(inventory, WORLD)
    kinds = {row.process: row.energy_j for row in footprint.rows}
    evaluated = TEST * sum(SLOT_J.values())
    assert kinds == pytest.approx(
        {
            "training of teachers": 1000,
            "training of students": 550,
            "training from scratch": 350,
            "evaluation": evaluated,
            "metering": 1000 * sum(SLOT_J.values()),
            "making of hardware": None,
        }
    )
    with_hardware = run_footprint(inventory, WORLD.model_copy(update={"embodied_kg": 10.0}))
    assert with_hardware.sums("scope")["3"] is not None
    text = statement_sentences(inventory, footprint, WORLD, is_default=True)
    kwh = math.fsum(value for value in kinds.values() if value) / 3.6e6
    assert text[0] == f"Carbon impact statement: this run used {kwh:.3g} kWh, which emit {481 * kwh:.3g} gCO2e."
    assert "world-2023, 481 g/kWh, which was not given and is assumed" in text[1]
    assert text[-1].startswith("Not counted: making of hardware, simulation of test slots")


def test_the_command(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanrx.cli.carbon_planning_commands.load_locked_run", lambda *_, **__: (run, None))
    options = ["--intensity", "659.8", "--development-intensity", "23.7"]
    app(["carbon", "life-cycle", str(run.folder), *options, "--csv", str(tmp_path / "f.csv")], standalone_mode=False)
    text = capsys.readouterr().out
    assert "23.7 g/kWh x PUE 1 to develop" in text
    assert f"{TINY}-kd: its carbon is paid back against running the teacher after" in text
    assert "Not modelled: preparation, collection;" in text
    assert "Recycling is assumed as 1 adaptation(s), each at 0.0" in text
    assert (tmp_path / "f.csv").read_text().startswith("receiver,stage,process,component,scope,energy_j,g")
    app(["carbon", "life-cycle", str(run.folder), *options, "--json"], standalone_mode=False)
    answer = json.loads(capsys.readouterr().out)
    row = next(row for row in answer["receivers"] if row["receiver"] == KD)
    inventory = LifeCycleInventory(run)
    (payback,) = [
        p
        for p in inventory.paybacks()
        if (p.student, p.method, p.teacher_allocation, p.per) == (KD, METER, "full", "slot")
        and p.against == "running the teacher"
    ]
    assert payback.slots is not None
    assert row["carbon_payback_slots"] == pytest.approx(payback.slots * 23.7 / 659.8)
