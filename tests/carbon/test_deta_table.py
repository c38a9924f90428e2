"""Table I of DETA as a fixture: sums, implied intensities, energy models, and slips."""

from __future__ import annotations

import numpy as np
import pytest

from carbon.deta.published_table import (
    energy_model,
    g_per_kwh_range,
    published_trainings,
    slips,
    statement_kg,
    yearly_t,
)


def test_sums_of_the_table() -> None:
    rows = published_trainings()
    assert len(rows) == 18
    assert sum(row.kwh for row in rows) == pytest.approx(50.2943, abs=1e-9)
    assert sum(row.g for row in rows) == pytest.approx(8539, abs=0.5)
    assert statement_kg() == pytest.approx(29.27, abs=0.005)


def test_intensities_that_the_table_implies() -> None:
    values = {
        "MLP": [23.5, 24.4, 35.6, 150, 240, 329],
        "CNN": [23.6, 24.2, 34.8, 127, 201, 253],
        "LSTM": [21.7, 23.7, 34.0, 125, 216, 307],
    }
    for model, implied in values.items():
        rows = [row for row in published_trainings() if row.model == model]
        np.testing.assert_allclose([row.g_per_kwh for row in rows], implied, atol=0.5)
    low, high = g_per_kwh_range([row for row in published_trainings() if row.servers == 11])
    assert (round(low), round(high)) == (253, 329)


def test_energy_models() -> None:
    mlp, cnn, lstm = (energy_model(model) for model in ("MLP", "CNN", "LSTM"))
    np.testing.assert_allclose(mlp.coefficients, (0.950, 0.00342), rtol=2e-3)
    np.testing.assert_allclose(cnn.coefficients, (1.872, 0.01123), rtol=2e-3)
    assert np.abs([*mlp.errors, *cnn.errors]).max() < 0.10
    assert np.abs(lstm.errors).max() < 0.11
    np.testing.assert_allclose([m.servers_r2 for m in (mlp, cnn, lstm)], [0.961, 0.952, 0.993], atol=5e-4)
    np.testing.assert_allclose([m.energy_growth for m in (mlp, cnn, lstm)], [2.5, 2.2, 7.6], atol=0.05)
    np.testing.assert_allclose([m.carbon_growth for m in (mlp, cnn, lstm)], [35, 23, 107], atol=0.6)


def test_slips_of_the_article() -> None:
    texts = [slip.choice for slip in slips()]
    assert texts[0].startswith("552 t: 428.9 g/kWh")
    assert texts[1].startswith("+57%: 29.5 t and 46.4 t a year")
    assert texts[2].startswith("63.9 %")
    assert 784 * 200 + 200 + 200 * 10 + 10 == 159_010
    assert yearly_t(1, 0) == 0
