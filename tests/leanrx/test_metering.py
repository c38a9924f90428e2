"""What `leanrx energy` prints."""

import pandas as pd
import pytest

from leanrx.experiment.energy_metering import Validation


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
