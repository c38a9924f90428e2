"""Carbon intensity over time: equal intervals of a day or year, from the user's CSV file."""

from __future__ import annotations

import math
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from carbon.accounting import CarbonIntensity, IntensityBasis
from leanrx_core.errors import UserError
from leanrx_core.records import Record
from leanrx_core.units import JOULES_PER_KWH


class IntensitySeries(Record):
    """Carbon intensity of one place in equal intervals.

    Attributes:
        name: of the series.
        begin: begin of the first interval, ISO 8601 with the offset from UTC.
        step_s: length of an interval.
        g_per_kwh: mean of each interval, gCO2e per kWh.
        source: who published the values.
        basis: what the values count; not given where it is not known.

    Example:
        >>> series = IntensitySeries(
        ...     name="two hours", begin="2026-01-01T00:00+00:00", step_s=3600, g_per_kwh=(100, 300), source="example"
        ... )
        >>> series.operational_g([3.6e6, 1.8e6])  # 1 kWh in the first hour, half in the second
        250.0
    """

    name: str
    begin: datetime
    step_s: float = Field(gt=0)
    g_per_kwh: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    source: str
    basis: IntensityBasis | None = None

    @property
    def mean(self) -> CarbonIntensity:
        """The mean over all intervals."""
        return CarbonIntensity(
            name=f"mean of {self.name}",
            place=self.name,
            year=self.begin.year,
            g_per_kwh=math.fsum(self.g_per_kwh) / len(self.g_per_kwh),
            source=self.source,
            basis=self.basis,
        )

    def operational_g(self, energy_j: ArrayLike) -> float:
        """Emissions of energy in each interval.

        Args:
            energy_j: joules by interval, ``(len(g_per_kwh),)``.

        Returns:
            gCO2e.

        Raises:
            UserError: if there is not one value for each interval, or one is negative.
        """
        values = np.asarray(energy_j, dtype=float)
        if values.shape != (len(self.g_per_kwh),) or not (values >= 0).all():
            raise UserError(
                f"carbon: energy over {self.name} needs {len(self.g_per_kwh)} values of 0 J or more, one an interval; "
                f"given: {values.size}"
            )
        return math.fsum(values / JOULES_PER_KWH * np.array(self.g_per_kwh))

    @classmethod
    def read_csv(cls, path: str | Path, basis: IntensityBasis | None = None) -> Self:
        """Read a file with the columns ``time`` and ``g_per_kwh``.

        A time is the begin of an interval, with its offset from UTC. All intervals have one length.

        Args:
            path: of the file.
            basis: what its values count.

        Raises:
            UserError: if the file is missing, has a gap, or a value is not allowed.
        """
        times, values = _columns(Path(path))
        steps = {(later - earlier).total_seconds() for earlier, later in pairwise(times)}
        if len(steps) != 1:
            raise UserError(
                f"{path}: times have {len(steps)} different steps; give two or more rows at one step, without gaps"
            )
        data = {"name": Path(path).stem, "begin": times[0], "step_s": steps.pop(), "g_per_kwh": tuple(values)}
        return cls.parse({**data, "source": str(path), "basis": basis}, str(path))


def _columns(path: Path) -> tuple[list[datetime], list[float]]:
    import csv

    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: cannot be read; give a CSV file with the columns time,g_per_kwh") from None
    times, values = [], []
    for number, row in enumerate(rows, start=2):
        try:
            time = datetime.fromisoformat(row["time"])
            values.append(float(row["g_per_kwh"]))
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{path}: line {number}: not a time and a number; write 2026-01-01T00:00+00:00,381.0 below the "
                "heading time,g_per_kwh"
            ) from None
        if time.tzinfo is None:
            raise UserError(f"{path}: line {number}: the time has no offset from UTC; add one, such as +00:00")
        times.append(time)
    return times, values
