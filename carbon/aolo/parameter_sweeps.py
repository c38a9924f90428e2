"""Sweeps over parameters of the requests, with agents that are not trained again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbon.aolo.request_environment import RequestDistribution
from carbon.aolo.study import ACTORS, Study
from carbon.aolo.tasks import HELD_OUT_REQUESTS, HELD_OUT_SEED, evaluate_requests

INTENSITY_RATIO = "intensity ratio"
"""Intensity of the radio over that of the data centre, which is then held."""
SWEEPS: dict[str, tuple[float, ...]] = {
    "min_quality": (0.3, 0.45, 0.6, 0.75, 0.9),
    "path_loss_db": (90.0, 100.0, 110.0, 120.0, 125.0),
    "bandwidth_hz": (5e6, 10e6, 20e6, 50e6, 100e6),
    INTENSITY_RATIO: (0.2, 0.5, 1.0, 2.0, 5.0),
    "token_bits": (32.0, 1e3, 10e3, 32e3, 64e3),
}
"""Five values of each parameter; all others are drawn as in the training."""
_HELD_G_PER_KWH = 150.0


def _changes(parameter: str, value: float) -> dict[str, tuple[float, float]]:
    """Ranges of the distribution that a value changes."""
    if parameter != INTENSITY_RATIO:
        return {parameter: (value, value)}
    radio = value * _HELD_G_PER_KWH
    return {"data_centre_g_per_kwh": (_HELD_G_PER_KWH, _HELD_G_PER_KWH), "radio_g_per_kwh": (radio, radio)}


def sweep_agents(study: Study, distribution: RequestDistribution, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Gaps and reduction over the sweeps.

    Args:
        study: of requests, whose agents are trained for ``seeds``.
        distribution: of the requests before a parameter is changed.
        seeds: of both agents.

    Returns:
        one row per parameter, value and seed: ``parameter, value, seed, sac_gap, sdrl_gap, reduction``, projected.
    """
    rows = []
    for seed in seeds:
        agents = {name: study.trained_agent(name, seed) for name in ACTORS}
        for parameter, values in SWEEPS.items():
            for value in values:
                pool = distribution.model_copy(update=_changes(parameter, value)).draw(HELD_OUT_REQUESTS, HELD_OUT_SEED)
                results = {name: evaluate_requests(agent, pool) for name, agent in agents.items()}
                rows.append(
                    {
                        "parameter": parameter,
                        "value": value,
                        "seed": seed,
                        "sac_gap": results["sac"].gap,
                        "sdrl_gap": results["sdrl"].gap,
                        "reduction": 1 - results["sdrl"].footprint_g / results["sac"].footprint_g,
                    }
                )
    return rows
