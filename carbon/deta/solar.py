"""Harvest of a solar panel: clear sky by place and time, and clouds that persist from slot to slot.

The clear sky is that of pvlib (Ineichen and Perez, with its climatology of turbidity), on a horizontal panel. Clouds
are a Markov chain of two states, clear and cloudy, with a seed.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from leanrx_core.errors import UserError
from leanrx_core.records import Record

Array = NDArray[np.float64]
STANDARD_W_PER_M2 = 1000.0
"""Irradiance at which the peak power of a panel is stated."""
_SAMPLE_S = 900.0


class Clouds(Record):
    """Clouds of two states, as a factor on the clear sky: 1, or ``cloudy_factor``.

    With mean ``m``, correlation ``r`` and cloudy factor ``f``, a slot is clear with probability
    ``p = (m - f)/(1 - f)``.
    A clear slot turns cloudy with probability ``(1 - p)(1 - r)``, and a cloudy one clears with ``p (1 - r)``.

    Attributes:
        mean_factor: mean of the factor.
        correlation: of the factors of two consecutive slots.
        cloudy_factor: in a cloudy slot.
        seed: of the chain.

    Example:
        >>> clouds = Clouds(mean_factor=0.7, correlation=0.8, cloudy_factor=0.25, seed=1)
        >>> sorted(set(clouds.factors(100).tolist()))
        [0.25, 1.0]
    """

    mean_factor: float = Field(ge=0, le=1)
    correlation: float = Field(0.8, ge=0, lt=1)
    cloudy_factor: float = Field(0.25, ge=0, lt=1)
    seed: int = Field(1, ge=0)

    @model_validator(mode="after")
    def _check_mean(self) -> Self:
        if self.mean_factor < self.cloudy_factor:
            raise ValueError(
                f"mean_factor {self.mean_factor:g} is below cloudy_factor {self.cloudy_factor:g}; "
                "write a mean between cloudy_factor and 1"
            )
        return self

    def factors(self, slots: int) -> Array:
        """The factor of each slot, ``(slots,)``. The first slot is drawn from the long-run distribution."""
        rng = np.random.default_rng(self.seed)
        clear_part = (self.mean_factor - self.cloudy_factor) / (1 - self.cloudy_factor)
        draws = rng.random(slots)
        # A slot keeps its state with probability r, and is drawn anew otherwise.
        renewed = rng.random(slots) >= self.correlation
        renewed[:1] = True
        last_renewal = np.maximum.accumulate(np.where(renewed, np.arange(slots), 0))
        return np.where(draws[last_renewal] < clear_part, 1.0, self.cloudy_factor)


class SolarPanel(Record):
    """A horizontal solar panel at a place.

    Attributes:
        latitude, longitude: degrees, north and east.
        altitude_m: above sea level.
        peak_kw: power at 1 kW per square metre.
        performance_ratio: output over that of a lossless panel.
        clouds: on the clear sky; a clear sky where not given.
    """

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    altitude_m: float = Field(0.0, ge=-500, le=9000)
    peak_kw: float = Field(ge=0)
    performance_ratio: float = Field(0.8, gt=0, le=1)
    clouds: Clouds | None = None

    def harvest_kwh(self, begin: datetime, slots: int, slot_s: float) -> tuple[float, ...]:
        """Energy of each slot.

        Args:
            begin: of the first slot, with its offset from UTC.
            slots: number of slots.
            slot_s: length of a slot.

        Raises:
            UserError: if pvlib is not installed.
        """
        clear = clear_sky_w_per_m2(self, begin, slots, slot_s) / STANDARD_W_PER_M2
        factors = 1.0 if self.clouds is None else self.clouds.factors(slots)
        energy = clear * factors * self.peak_kw * self.performance_ratio * slot_s / 3600
        return tuple(energy.tolist())


def clear_sky_w_per_m2(panel: SolarPanel, begin: datetime, slots: int, slot_s: float) -> Array:
    """Mean irradiance on a horizontal plane under a clear sky, by slot, W per square metre.

    A slot is the mean over the middles of parts of at most 15 minutes.
    """
    pvlib = _pvlib()
    import pandas as pd

    parts = max(1, math.ceil(slot_s / _SAMPLE_S))
    step_s = slot_s / parts
    offsets = pd.to_timedelta((np.arange(slots * parts) + 0.5) * step_s, unit="s")
    times = pd.DatetimeIndex(pd.Timestamp(begin).tz_convert("UTC") + offsets)
    location = pvlib.location.Location(panel.latitude, panel.longitude, "UTC", panel.altitude_m)
    irradiance = location.get_clearsky(times)["ghi"].to_numpy(dtype=float)
    return np.maximum(np.nan_to_num(irradiance), 0.0).reshape(slots, parts).mean(1)


def _pvlib() -> Any:
    try:
        import pvlib
    except ImportError:
        raise UserError("solar: pvlib is not installed; run: pip install 'leanrx[carbon]'") from None
    return pvlib
