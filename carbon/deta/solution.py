"""Solutions of a linear programme: by simplex, interior point or with whole numbers, and what is infeasible.

HiGHS solves all of them. From 200 sites on, its interior-point method does. With sites that sleep for whole slots the
programme has whole numbers and no marginal values. Those given are then of the programme with these numbers held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from carbon.deta.programme import Array, Rows
from leanrx_core.errors import UserError

INTERIOR_POINT_SITES = 200
"""Sites from which the interior-point method is faster."""
MILP_SECONDS = 300.0
_MILP_GAP = 1e-7
_INFEASIBLE = 2
_SMALL = 1e-7


class InfeasibleNetwork(UserError):
    """Limits of a network that a policy cannot meet together."""


class LinearProgramme(Protocol):
    """What a solution needs of a programme. Attributes are those of :class:`carbon.deta.programme.Programme`."""

    sites: int
    size: int

    @property
    def policy(self) -> str: ...
    @property
    def site_names(self) -> list[str]: ...
    @property
    def rows(self) -> list[Rows]: ...
    @property
    def bounds(self) -> Array: ...
    @property
    def objective(self) -> Array: ...
    @property
    def whole_numbers(self) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class Solution:
    """The least emissions of a programme.

    Attributes:
        values: of all variables, scaled as in the programme.
        least: the objective, scaled.
        marginals: change of the objective by one unit of each equality's right-hand side, in the order of the rows.
        gap: largest relative distance from the optimum; 0 without whole numbers.
        holds_whole_numbers: whether the marginals hold the whole numbers.
    """

    values: Array
    least: float
    marginals: Array
    gap: float
    holds_whole_numbers: bool


def solve(programme: LinearProgramme) -> Solution:
    """The solution of least emissions.

    Raises:
        InfeasibleNetwork: if limits cannot be met together. It names site, slot, limit and amount.
        UserError: if the solver ends without a solution.
    """
    bounds, gap = programme.bounds, 0.0
    whole = np.flatnonzero(programme.whole_numbers)
    if len(whole):
        values, gap = _whole_numbers(programme)
        bounds[whole] = np.round(values[whole])[:, None]
    equal, equals = _stacked([r for r in programme.rows if r.is_equality])
    limited, limits = _stacked([r for r in programme.rows if not r.is_equality])
    method = "highs-ipm" if programme.sites >= INTERIOR_POINT_SITES else "highs"
    result = linprog(programme.objective, limited, limits, equal, equals, bounds, method=method)
    if result.status == _INFEASIBLE:
        raise InfeasibleNetwork(_infeasible_text(programme))
    if result.x is None:
        raise UserError(
            f"network: {programme.policy} was not solved ({result.message}); make the values more alike in size"
        )
    return Solution(np.maximum(result.x, 0.0), float(result.fun), result.eqlin.marginals, gap, bool(len(whole)))


def _stacked(rows: list[Rows]) -> tuple[sparse.csr_array, Array]:
    return sparse.vstack([r.matrix for r in rows], "csr"), np.concatenate([r.limits for r in rows])


def _whole_numbers(programme: LinearProgramme) -> tuple[Array, float]:
    """The best solution with whole numbers, and its relative gap."""
    constraints = []
    for rows in programme.rows:
        low = rows.limits if rows.is_equality else np.full(len(rows.limits), -np.inf)
        constraints.append(LinearConstraint(rows.matrix, low, rows.limits))
    bounds = programme.bounds
    result = milp(
        programme.objective,
        integrality=programme.whole_numbers,
        bounds=Bounds(bounds[:, 0], bounds[:, 1]),
        constraints=constraints,
        options={"time_limit": MILP_SECONDS, "mip_rel_gap": _MILP_GAP},
    )
    if result.status == _INFEASIBLE:
        raise InfeasibleNetwork(_infeasible_text(programme))
    if result.x is None:
        raise UserError(
            f"network: {programme.policy} has no solution after {MILP_SECONDS:g} s; "
            "leave out wake_kwh, wake_s, whole_slot_sleep and whole_batches, or give fewer slots"
        )
    return result.x, float(result.mip_gap or 0.0)


def _infeasible_text(programme: LinearProgramme) -> str:
    """Name limits that cannot be met together, by the least sum of relative excesses.

    Balances and whole numbers hold exactly. Each limit may be exceeded, at a price of one over its scale: its size, or
    the mean size of its kind if that is larger.
    """
    equal, equals = _stacked([r for r in programme.rows if r.is_equality])
    limits = [r for r in programme.rows if not r.is_equality]
    limited, values = _stacked(limits)
    elastic = np.concatenate([np.full(len(r.limits), r.is_elastic) for r in limits])
    scales = np.concatenate([_scales(r) for r in limits])
    chosen = np.flatnonzero(elastic)
    excess = sparse.csr_array((np.ones(len(chosen)), (chosen, np.arange(len(chosen)))), (len(values), len(chosen)))
    bounds = np.concatenate([programme.bounds, np.tile([0.0, np.inf], (len(chosen), 1))])
    result = milp(
        np.concatenate([np.zeros(programme.size), 1 / scales[chosen]]),
        integrality=np.concatenate([programme.whole_numbers, np.zeros(len(chosen), dtype=int)]),
        bounds=Bounds(bounds[:, 0], bounds[:, 1]),
        constraints=[
            LinearConstraint(sparse.hstack([limited, -excess], "csr"), -np.inf, values),
            LinearConstraint(
                sparse.hstack([equal, sparse.csr_array((len(equals), len(chosen)))], "csr"), equals, equals
            ),
        ],
        options={"time_limit": MILP_SECONDS},
    )
    if result.x is None:
        raise UserError(f"network: {programme.policy} was not solved ({result.message})")
    amounts = np.zeros(len(values))
    amounts[chosen] = result.x[programme.size :]
    places = list(_excesses(programme, limits, amounts))
    more = f"; and {len(places) - 3} more" if len(places) > 3 else ""
    return (
        f"network: {programme.policy} is infeasible: {'; '.join(places[:3])}{more}; raise these limits or lower loads"
    )


def _scales(rows: Rows) -> Array:
    sizes = np.abs(rows.limits if rows.sizes is None else rows.sizes)
    return np.asarray(np.maximum(sizes, sizes.mean() or 1.0))


def _excesses(programme: LinearProgramme, limits: list[Rows], amounts: Array) -> Iterator[str]:
    begin = 0
    for rows in limits:
        excesses = amounts[begin : begin + len(rows.limits)]
        begin += len(rows.limits)
        size, unit = rows.unit
        for index in np.flatnonzero(excesses > _SMALL):
            site = rows.sites[index]
            place = "all sites" if site < 0 else f"site {programme.site_names[site]}"
            amount = f"{size * excesses[index]:.4g} {unit}"
            yield f"{place}, slot {rows.slots[index] + 1}, {rows.name} is short by {amount}"
