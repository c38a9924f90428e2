"""What trading and moving tasks can save between equal sites in regions of different intensity.

All sites have equal loads of task energy, and a harvest that is a part of the load. There is one slot, no battery, and
no energy of transport. Random draws are the default, because a picked set of regions can show almost any cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import optimize, special

from carbon.accounting import CarbonIntensity
from carbon.deta.dispatch import dispatch
from carbon.deta.edge_network import EdgeNetwork
from carbon.deta.programme import Policy
from carbon.intensity_sets import intensity_set
from leanrx_core.checks import fraction, integer
from leanrx_core.errors import UserError

PICKED_STATES = tuple(f"US-{code}-2023" for code in ("VT", "WA", "CA", "NY", "PA", "TX", "OH", "MO", "WY", "WV"))
"""Ten states picked from cleanest to dirtiest."""
NATION = "US-2023"
PUBLISHED_CUT = 0.749
"""The largest cut that the article states, with ten servers."""


def regions(name: str) -> list[CarbonIntensity]:
    """All places of a set of intensities, without the nation as a whole."""
    return [record for record in intensity_set(name).values() if record.name != NATION]


def equal_network(
    places: Sequence[CarbonIntensity], harvest_share: float, trading_loss: float = 0.05, cap: float = 0.5
) -> EdgeNetwork:
    """Equal sites of 1 kWh in one slot.

    Args:
        places: one for each site.
        harvest_share: harvest over load.
        trading_loss: part of traded energy that is lost.
        cap: of batches and of harvest that a site may send to others.
    """
    fraction("harvest_share", harvest_share)
    sites = [
        {
            "name": f"{number}: {place.name}",
            "intensity": place.name,
            "g_per_kwh": (place.g_per_kwh,),
            "basis": place.basis,
            "batches": (100.0,),
            "batch_kwh": 0.01,
            "harvest_kwh": (harvest_share,),
        }
        for number, place in enumerate(places, start=1)
    ]
    values = {"sites": sites, "slot_s": 3600.0, "trading_loss": trading_loss, "offload_cap": cap, "trade_cap": cap}
    return EdgeNetwork.model_validate(values)


def cut(network: EdgeNetwork, policy: Policy, baseline: Policy = "B1") -> float:
    """Part of the baseline's emissions that a policy saves."""
    return 1 - dispatch(network, policy).total_g / dispatch(network, baseline).total_g


@dataclass(frozen=True)
class CutSummary:
    """Cuts over random draws of places.

    Attributes:
        sites: number of sites.
        mean: of the cuts.
        low, high: 95 % confidence interval of the mean.
        sd: standard deviation of the cuts.
        draws: number of draws.
    """

    sites: int
    mean: float
    low: float
    high: float
    sd: float
    draws: int


def drawn_cuts(
    places: Sequence[CarbonIntensity],
    sites: int,
    harvest_share: float = 0.2,
    draws: int = 100,
    seed: int = 1,
    baseline: Policy = "B1",
    policy: Policy = "DETA",
) -> CutSummary:
    """Cuts with sites at random places, each place at most once.

    Args:
        places: to draw from.
        sites: number of sites.
        harvest_share: harvest over load.
        draws: number of draws, at least 2.
        seed: of the draws.
        baseline: what the cut is against.
        policy: whose cut it is.

    Raises:
        UserError: if there are fewer places than sites.
    """
    return drawn_policy_cuts(places, sites, (policy,), harvest_share, draws, seed, baseline)[policy]


def drawn_policy_cuts(
    places: Sequence[CarbonIntensity],
    sites: int,
    policies: Sequence[Policy] = ("DET", "DAT", "DETA"),
    harvest_share: float = 0.2,
    draws: int = 100,
    seed: int = 1,
    baseline: Policy = "B1",
) -> dict[Policy, CutSummary]:
    """Cuts of several policies on the same draws; see :func:`drawn_cuts`."""
    integer("draws", draws, 2)
    if not 1 <= sites <= len(places):
        raise UserError(f"sites: {sites} is not allowed; give 1 to {len(places)}, the number of places")
    rng = np.random.default_rng(seed)
    cuts: dict[Policy, list[float]] = {policy: [] for policy in policies}
    for _ in range(draws):
        selection = [places[index] for index in rng.choice(len(places), sites, replace=False)]
        network = equal_network(selection, harvest_share)
        base_g = dispatch(network, baseline).total_g
        for policy in policies:
            cuts[policy].append(1 - dispatch(network, policy).total_g / base_g)
    return {policy: _summary(sites, values) for policy, values in cuts.items()}


def _summary(sites: int, cuts: Sequence[float]) -> CutSummary:
    draws = len(cuts)
    mean, sd = float(np.mean(cuts)), float(np.std(cuts, ddof=1))
    half = float(special.stdtrit(draws - 1, 0.975)) * sd / math.sqrt(draws)
    return CutSummary(sites, mean, mean - half, mean + half, sd, draws)


def harvest_share_of_cut(
    places: Sequence[CarbonIntensity], baseline: Policy, target: float = PUBLISHED_CUT, policy: Policy = "DETA"
) -> float | None:
    """The harvest share at which a policy reaches a cut; none if a share up to 0.5 does not.

    Args:
        places: one for each site.
        baseline: what the cut is against.
        target: the cut.
        policy: whose cut it is.
    """
    if _excess(_HIGHEST_SHARE, places, baseline, target, policy) < 0:
        return None
    if _excess(0.0, places, baseline, target, policy) >= 0:
        return 0.0
    function = partial(_excess, places=places, baseline=baseline, target=target, policy=policy)
    return float(optimize.brentq(function, 0.0, _HIGHEST_SHARE, xtol=1e-4))


_HIGHEST_SHARE = 0.5


def _excess(share: float, places: Sequence[CarbonIntensity], baseline: Policy, target: float, policy: Policy) -> float:
    return cut(equal_network(places, share), policy, baseline) - target
