"""Charts of estimates against metered values."""

from pathlib import Path

import numpy as np
import pandas as pd

from energy.counting.profile import Layer, OperationProfile
from energy.estimation.estimate import MeteredCall
from energy.estimation.roofline import Roofline
from energy.estimation.validation import leave_one_out, validation_table
from energy.hardware.devices import Device
from leanrx.report.estimator_charts import estimator_charts, write_estimator_charts

MACHINE = Device(
    name="machine",
    cores=2,
    clock_hz=1e9,
    flops_per_clock=10,
    power_w=30,
    memory_bytes_per_s=4e9,
    source="example",
)


def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    law, calls = Roofline(0.5, 0.1, 1.0, 1e-5), []
    for index, width in enumerate((8, 16, 32, 64, 128)):
        depth = int(rng.integers(3, 12))
        layers = (Layer("conv", "Conv", "dense", "forward", 0, 4000 * width**2, 0, 32000 * width, 0),) * depth
        profile = OperationProfile(f"net {index}", layers=layers)
        calls.append(MeteredCall(profile.name, "eager", profile, law.estimate(profile, MACHINE).duration_s))
    return validation_table(leave_one_out(calls, MACHINE))


def test_equal_points_give_equal_bytes() -> None:
    files = estimator_charts(table(), ["FLOPs/clock", "roofline, fitted"])
    assert files["png"].startswith(b"\x89PNG")
    assert files == estimator_charts(table(), ["FLOPs/clock", "roofline, fitted"])


def test_an_estimator_without_points_has_no_panel(tmp_path: Path) -> None:
    """A fitted model has no estimates where a run has one network."""
    rows = table()
    write_estimator_charts(rows, tmp_path)
    both = (tmp_path / "estimates-time.png").stat().st_size
    rows.loc[rows["estimator"] != "FLOPs/clock", ["estimated_s", "estimated_j"]] = np.nan
    write_estimator_charts(rows, tmp_path)
    assert (tmp_path / "estimates-time.png").stat().st_size < both
    nothing = tmp_path / "nothing"
    write_estimator_charts(rows.assign(flops_per_byte=np.nan), nothing)
    assert not nothing.exists()
