"""Table I of DETA: energy and carbon of 18 federated trainings, what it implies, and slips of the article."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np

from leanrx_core.records import Record, read_yaml
from leanrx_core.units import JOULES_PER_KWH, SECONDS_PER_YEAR

Model = Literal["MLP", "CNN", "LSTM"]
EPOCHS = 50
DIGITS = 60_000
"""Images of MNIST that are trained on."""
CHINA_2021_G_PER_KWH = 582.0
"""The factor that the article's carbon statement uses."""


class PublishedTraining(Record):
    """One row of the table.

    Attributes:
        model: the network.
        servers: that train together.
        batch_size: of each step.
        kwh: energy of all servers.
        g: gCO2e.
    """

    model: Model
    servers: int
    batch_size: int
    kwh: float
    g: float

    @property
    def g_per_kwh(self) -> float:
        """The carbon intensity that the row implies."""
        return self.g / self.kwh


@cache
def published_trainings() -> tuple[PublishedTraining, ...]:
    """All 18 rows.

    Example:
        >>> rows = published_trainings()
        >>> len(rows), round(sum(row.kwh for row in rows), 4)
        (18, 50.2943)
    """
    path = resources.files("carbon") / "presets" / "deta_table.yaml"
    return tuple(
        PublishedTraining.model_validate(dict(zip(PublishedTraining.model_fields, (model, *row), strict=True)))
        for model, rows in read_yaml(str(path)).items()
        for row in rows
    )


@dataclass(frozen=True)
class EnergyModel:
    """Energy of the rows of one model, as a sum of two terms fitted with least relative squares.

    For MLP and CNN, a step costs ``fixed_j + sample_j B`` at batch size B, and the total is that of all steps. For
    LSTM, the total is affine in the servers: the work was not divided by their number.

    Attributes:
        model: the network.
        coefficients: J per step and J per sample; for LSTM, kWh and kWh per server.
        kwh: modelled energy by row.
        errors: relative error by row.
        servers_r2: coefficient of determination of the published energy over servers, by a straight line.
        energy_growth, carbon_growth: of the last row over the first one.
    """

    model: Model
    coefficients: tuple[float, float]
    kwh: tuple[float, ...]
    errors: tuple[float, ...]
    servers_r2: float
    energy_growth: float
    carbon_growth: float


def energy_model(model: Model) -> EnergyModel:
    """Fit the energy model of one network to its rows.

    Example:
        >>> [round(value, 5) for value in energy_model("MLP").coefficients]
        [0.94969, 0.00342]
    """
    rows = [row for row in published_trainings() if row.model == model]
    kwh = np.array([row.kwh for row in rows])
    servers = np.array([row.servers for row in rows], dtype=float)
    if model == "LSTM":
        terms = np.stack([np.ones_like(servers), servers], 1)
    else:
        samples = EPOCHS * DIGITS
        steps = samples / np.array([row.batch_size for row in rows], dtype=float)
        terms = np.stack([steps, np.full(len(rows), samples)], 1) / JOULES_PER_KWH
    coefficients = np.linalg.lstsq(terms / kwh[:, None], np.ones(len(rows)), rcond=None)[0]
    modelled = terms @ coefficients
    return EnergyModel(
        model=model,
        coefficients=(float(coefficients[0]), float(coefficients[1])),
        kwh=tuple(modelled.tolist()),
        errors=tuple((modelled / kwh - 1).tolist()),
        servers_r2=float(np.corrcoef(servers, kwh)[0, 1] ** 2),
        energy_growth=float(kwh[-1] / kwh[0]),
        carbon_growth=rows[-1].g / rows[0].g,
    )


def g_per_kwh_range(rows: Sequence[PublishedTraining]) -> tuple[float, float]:
    """Lowest and highest intensity that rows of equal servers imply.

    Under equal shares of the energy, they would be equal but for rounding.
    """
    values = [row.g_per_kwh for row in rows]
    return min(values), max(values)


@dataclass(frozen=True)
class Slip:
    """A figure of the article that does not hold, and what is used here.

    Attributes:
        stated: by the article.
        choice: used here, with the reason.
    """

    stated: str
    choice: str


def yearly_t(power_kw: float, g_per_kwh: float) -> float:
    """Tonnes of CO2e of a constant power over a year.

    Example:
        >>> [round(yearly_t(power_kw, 481), 1) for power_kw in (7, 11)]
        [29.5, 46.4]
    """
    return power_kw * SECONDS_PER_YEAR / 3600 * g_per_kwh / 1e6


def slips() -> tuple[Slip, ...]:
    """Slips of the article, and our choice."""
    training_g_per_kwh = 552e6 / 1.287e6
    growth = 11 / 7 - 1
    return (
        Slip("1,287 MWh of a training are 552 kg", f"552 t: {training_g_per_kwh:.1f} g/kWh; 552 kg would be 0.4 g/kWh"),
        Slip(
            "from 7 kW to 11 kW is +70 %",
            f"+{growth:.0%}: {yearly_t(7, 481):.1f} t and {yearly_t(11, 481):.1f} t a year at 481 g/kWh",
        ),
        Slip("RAN and core are over 70 %", f"{50.6 + 13.3:.1f} %, the sum of the article's 50.6 % and 13.3 %"),
        Slip("ten servers", "ten or eleven: the table has eleven, the platform has ten and a coordinator"),
        Slip("MLP of two hidden layers: 159,010 parameters", "one hidden layer: 784 x 200 + 200 + 200 x 10 + 10"),
        Slip("CNN of ten outputs: 90,242 parameters", "62 outputs; ten give 85,822"),
        Slip("LSTM: 866,578 parameters", "258 symbols, embedding of 8, 2 x 256 with peepholes and one set of biases"),
        Slip("manufacturing is in scope 1", "scope 3, as in the GHG Protocol"),
    )


def statement_kg() -> float:
    """Carbon of the whole table by the article's factor, kg.

    Example:
        >>> round(statement_kg(), 2)
        29.27
    """
    return math.fsum(row.kwh for row in published_trainings()) * CHINA_2021_G_PER_KWH / 1e3
