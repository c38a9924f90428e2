"""What `leanrx energy` prints."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from factories import perturbed_receiver, untrained_receiver

from channels import Scenario
from energy.counting.profile import OperationProfile
from energy.hardware.devices import Device
from energy.metering.measurement import Measurement
from energy.metering.power_log import Wattmeter
from energy.metering.session import Window
from energy.metering.table import energy_table, metered_calls, workload_rows
from energy.metering.training import TrainingEnergy, TrainingWindow
from energy.metering.workloads import Workload
from leanrx.experiment import energy_metering
from leanrx.experiment.energy_metering import Validation, _c_workloads, _score_reference
from leanrx_core.errors import UserError
from receivers.classical import LmmseIrcReceiver, LsReceiver


def test_instruments_are_compared_per_slot() -> None:
    call = {"receiver": "net", "runtime": "eager", "phase": "inference", "batch_slots": 4}
    instruments = pd.DataFrame(
        [
            {**call, "method": "CodeCarbon", "provenance": "modelled", "gross_j": 0.8},
            {**call, "method": "RAPL", "provenance": "measured", "gross_j": 1.2},
            {**call, "receiver": "other", "method": "RAPL", "provenance": "measured", "gross_j": 2.0},
        ]
    )
    rows = pd.DataFrame(
        [
            {
                **call,
                "estimator": e,
                "achieved_flops_per_clock": 3.0,
                "assumed_flops_per_clock": 32.0,
                "cycle_source": "perf",
            }
            for e in ("FLOPs/W", "roofline")
        ]
    )
    found = Validation(rows, pd.DataFrame(), instruments, "RAPL")
    shown = found.by_instrument()
    assert list(shown.columns) == ["CodeCarbon [mJ per slot, modelled]", "RAPL [mJ per slot, measured]"]
    assert shown.loc[("net", "eager", "inference", 4)].tolist() == pytest.approx([200.0, 300.0])
    missing, seen = shown.loc[("other", "eager", "inference", 4)]
    assert pd.isna(missing)
    assert seen == pytest.approx(500.0)
    assert len(found.clocks) == 1, "one row per call, not per estimator"
    assert found.clocks.loc[0, ["achieved_flops_per_clock", "assumed_flops_per_clock"]].tolist() == [3.0, 32.0]


class Warnings:
    """A progress callback that stores warnings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_warning(self, text: str) -> None:
        self.texts.append(text)


def test_new_workloads_without_a_log_do_not_block_the_scores() -> None:
    """The wattmeter metered the receiver, and not yet a runtime that was added afterwards."""
    profile = OperationProfile.from_formula("net", macs=2000, batch_slots=4)
    receiver, added = (
        Workload("net", runtime, "inference", profile, lambda: None, "abc") for runtime in ("receiver", "compiled")
    )
    device = Device(name="x", cores=1, clock_hz=1e9, flops_per_clock=1, power_w=2, source="example")
    rapl, meter = (
        Measurement(component, energy_j, "measured", name, "1", 0.0, 5.0)
        for component, energy_j, name in (("cpu", 50.0, "RAPL"), ("whole", 90.0, "wattmeter"))
    )
    windows = [
        Window(receiver.name, 0, 10, 0.0, 5.0, 4.0, (rapl, meter)),
        Window(added.name, 0, 10, 10.0, 5.0, 4.0, (rapl,)),
    ]
    table = energy_table(row for w in (receiver, added) for row in workload_rows(w, windows, device))
    progress = Warnings()
    assert _score_reference(table, [receiver], None, progress) == "wattmeter"  # type: ignore[arg-type]
    assert progress.texts == []
    assert _score_reference(table, [receiver, added], None, progress) == "RAPL"  # type: ignore[arg-type]
    (warning,) = progress.texts
    assert warning.startswith("wattmeter is the run's reference instrument, but did not meter all workloads.")
    assert "scored against RAPL. Give a log of the new windows with --wattmeter." in warning
    assert _score_reference(table, [receiver, added], "wattmeter", progress) == "wattmeter", "as named"  # type: ignore[arg-type]
    with pytest.raises(UserError, match="name another one with --reference"):
        metered_calls([added], table, "wattmeter")


@pytest.mark.parametrize(
    ("last_s", "words"),
    [
        (1200.0, []),
        (1097.0, ["log.csv covers 97.0% of the training of net: the rest is taken at the same mean power"]),
        (1050.0, ["log.csv covers 50.0% of the training of net: too little, so it is not used there"]),
        (990.0, []),
    ],
)
def test_part_of_a_training_in_a_log_is_named(monkeypatch, last_s: float, words: list[str]) -> None:
    """A training of 100 s from 1000 s on, and a log that ends earlier or later, or has none of it."""
    energy = TrainingEnergy((), (TrainingWindow(1000.0, 100.0),))
    net = SimpleNamespace(name="net", card=SimpleNamespace(training={"energy": energy.as_json()}))
    monkeypatch.setattr(energy_metering, "NeuralReceiver", SimpleNamespace)
    run, progress = SimpleNamespace(receivers_folder=Path("receivers")), Warnings()
    times_s = np.arange(900.0, last_s + 0.5)
    log = Wattmeter("log.csv", times_s, np.full(len(times_s), 40.0))
    energy_metering._warn_of_part_of_log(run, [net, object()], log, progress)  # type: ignore[arg-type, list-item]
    assert progress.texts == words


def c_run(scenario: Scenario, device: str = "cpu") -> SimpleNamespace:
    """What the C files of a run are made from."""
    metering = SimpleNamespace(batch_slots=2, c_files=True)
    return SimpleNamespace(
        config=SimpleNamespace(scenario=scenario, seed=1, metering=metering, torch_device=lambda: device)
    )


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
def test_receivers_with_a_c_form_are_metered_in_c(small: Scenario) -> None:
    """A receiver that C refuses is named, and the others are metered."""
    deeprx, refused = untrained_receiver("deeprx-w0.03125-d3", 1), perturbed_receiver("hybrid-w2-d1", num_rx=1)
    receivers, progress = [deeprx, LsReceiver(), LmmseIrcReceiver(small), refused], Warnings()
    workloads = _c_workloads(c_run(small), receivers, progress)  # type: ignore[arg-type]
    assert [(w.receiver, w.runtime, w.profile.batch_slots) for w in workloads] == [
        (deeprx.name, "c", 1),
        ("LMMSE-IRC", "c", 1),
    ]
    assert progress.texts == ["net is not metered in C; export: net has 1 antennas, but the grid has 2"]
    assert not _c_workloads(c_run(small, "cuda"), receivers, progress), "the machine of the table is the GPU"  # type: ignore[arg-type]


def test_without_a_compiler_nothing_is_metered_in_c(small: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    progress, hybrid = Warnings(), perturbed_receiver("hybrid-w2-d1")
    assert not _c_workloads(c_run(small), [hybrid, LmmseIrcReceiver(small)], progress)  # type: ignore[arg-type]
    (line,) = progress.texts
    assert line == (
        "no C file is metered; compiler: no C compiler (no-such-compiler) is installed; install one, or set CC"
    )
    assert not _c_workloads(c_run(small), [LsReceiver()], progress)  # type: ignore[arg-type]
    assert len(progress.texts) == 1, "no receiver has a C form, so no compiler is missed"
