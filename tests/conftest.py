"""Small scenarios that the tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from channels import Channels, Grid, Interferer, Scenario

collect_ignore = ["conftest.py", "bad_inputs/conftest.py"]  # no examples to test; both are modules of the same name


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Rates of this machine are kept apart from those of its user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def flat() -> Scenario:
    """One PRB, one antenna, AWGN for tests and Rayleigh for training."""
    return Scenario(
        name="flat",
        grid=Grid(num_prb=1, num_rx=1, pilot_patterns=((2,),)),
        channels=Channels(train=("Rayleigh",), test=("AWGN",)),
    )


@pytest.fixture(scope="session")
def small() -> Scenario:
    """Two PRB, two antennas, tapped delay lines, an interferer in half of the slots, two pilot patterns."""
    return Scenario(
        name="small",
        grid=Grid(num_prb=2, pilot_patterns=((2,), (2, 11))),
        channels=Channels(train=("TDL-B", "TDL-D"), test=("TDL-A",)),
        snr_db=(0.0, 20.0),
        interferers=(Interferer(probability=0.5, sir_db=(0.0, 20.0)),),
    )
