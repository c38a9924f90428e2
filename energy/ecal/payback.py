"""When does the option with the higher fixed energy pay back? Two costs that grow with use, and where they cross.

::

    energy |            alternative: fixed 2 + n x marginal 2
           |         .-'
           |      .-X-------- candidate: fixed 1 + n x marginal 1
           |-----'  |
           |_____.-'|_________ n
                 break-even n = (fixed 1 - fixed 2) / (marginal 2 - marginal 1)

A unit is an inference or a correctly received bit. For a bit, ``marginal_j`` is the energy of an inference over the
bits that it decides correctly (:func:`correct_bits`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from leanrx_core.checks import fraction


def correct_bits(data_bits: float, error_rate: float) -> float:
    """Goodput of an inference: data bits times 1 - BER, or times 1 - BLER where a wrong block is lost as a whole.

    With the BER, even random bits are correct in half of the cases. Compare receivers that work.

    Raises:
        UserError: if the rate is outside 0..1.

    Example:
        >>> correct_bits(1000, 0.1)
        900.0
    """
    return data_bits * (1 - fraction("error_rate", error_rate))


_REL_TOL = 1e-12
"""Two marginal energies that differ by no more than this fraction are equal: they were computed in another order."""


class Outcome(StrEnum):
    """What two costs say of a candidate against an alternative.

    Attributes:
        PAYBACK: the candidate has the higher fixed energy and saves it back.
        NEVER: the candidate never saves its fixed energy back.
        IMMEDIATE: the candidate costs no more from the first unit on.
        TEMPORARY: the candidate costs less at first and more later.
    """

    PAYBACK = "payback"
    NEVER = "never"
    IMMEDIATE = "immediate"
    TEMPORARY = "temporary"


@dataclass(frozen=True)
class Cost:
    """Energy ``fixed_j + n marginal_j`` of n units.

    Attributes:
        fixed_j: before the first unit.
        marginal_j: of each unit.
        uncertainty: independent sources of error by name. Each has the effect of one standard deviation on ``fixed_j``
            and on ``marginal_j``. A source that two costs share cancels in their difference as far as it is equal.

    Example:
        >>> Cost(100.0, 2.0).at(10)
        (120.0, 0.0)
    """

    fixed_j: float
    marginal_j: float
    uncertainty: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def at(self, units: float) -> tuple[float, float]:
        """Energy of ``units`` units and its standard deviation."""
        variance = sum((fixed + units * marginal) ** 2 for fixed, marginal in self.uncertainty.values())
        return self.fixed_j + units * self.marginal_j, math.sqrt(variance)


@dataclass(frozen=True)
class BreakEven:
    """Where two costs are equal.

    Attributes:
        units: break-even by the values themselves; none where the candidate ends up with more energy, 0 where it never
            had more.
        low, high: the candidate costs significantly more below ``low`` and significantly less above ``high``. In
            between the uncertainty does not decide. ``low`` none: significantly more at any number. ``high`` none:
            never significantly less. Both none where the uncertainty is not known.
        outcome: by the values themselves.
        significant: whether the uncertainty confirms that outcome (not the number); none where it is not known.
    """

    units: float | None
    low: float | None
    high: float | None
    outcome: Outcome
    significant: bool | None


def break_even(candidate: Cost, alternative: Cost, coverage: float | None) -> BreakEven:
    """After how many units the candidate has paid back its higher fixed energy.

    The difference of the two costs is ``d(n) = a - n b`` with ``a`` the extra fixed energy and ``b`` the saving per
    unit. The bounds are Fieller's: n for which ``|d(n)|`` is within ``coverage`` standard deviations (E. C. Fieller,
    J. Royal Statistical Society B 16, 1954). The interval opens where the saving itself is within its uncertainty.

    Args:
        candidate, alternative: both in the same units.
        coverage: standard deviations on each side, Student's t of the interval's level; none if the uncertainty is
            not known.

    Example:
        >>> result = break_even(Cost(100.0, 1.0), Cost(0.0, 2.0), coverage=None)
        >>> result.units, result.outcome.value
        (100.0, 'payback')
    """
    extra = candidate.fixed_j - alternative.fixed_j
    saving = alternative.marginal_j - candidate.marginal_j
    if abs(saving) <= _REL_TOL * alternative.marginal_j:
        saving = 0.0
    if saving < 0 or (saving == 0 and extra > 0):
        units, outcome = None, Outcome.NEVER if extra >= 0 else Outcome.TEMPORARY
    else:
        units = max(0.0, extra / saving) if saving else 0.0
        outcome = Outcome.PAYBACK if units else Outcome.IMMEDIATE
    if coverage is None:
        return BreakEven(units, None, None, outcome, None)
    names = candidate.uncertainty.keys() | alternative.uncertainty.keys()
    zero = (0.0, 0.0)
    pairs = [(candidate.uncertainty.get(n, zero), alternative.uncertainty.get(n, zero)) for n in sorted(names)]
    errors = [(c[0] - a[0], a[1] - c[1]) for c, a in pairs]  # of a and of b, per source
    square = coverage**2
    low, high = _bounds(
        saving**2 - square * sum(s * s for _, s in errors),
        extra * saving - square * sum(e * s for e, s in errors),
        extra**2 - square * sum(e * e for e, _ in errors),
        extra,
        saving,
    )
    if outcome is Outcome.NEVER:
        significant = low is None
    elif units is None:
        significant = saving**2 > square * sum(s * s for _, s in errors)
    else:
        significant = high is not None if units else high == 0
    return BreakEven(units, low, high, outcome, significant)


def _bounds(q: float, p: float, r: float, extra: float, saving: float) -> tuple[float | None, float | None]:
    """``low`` and ``high`` of :class:`BreakEven`.

    ``q n^2 - 2 p n + r <= 0`` where the sign of ``d(n)`` is not significant; ``q > 0`` where the saving is
    significant, and ``r > 0`` where the extra fixed energy is.
    """
    root = math.sqrt(max(0.0, p * p - q * r))
    roots = sorted((p + sign * root) / q for sign in (-1, 1)) if q else [r / (2 * p)] if p else []
    positive = [n for n in roots if n >= 0]
    low, high = 0.0, math.inf
    if r > 0 and extra > 0:
        low = positive[0] if positive else math.inf
    if q > 0 and saving > 0:
        high = max(0.0, roots[-1])
    elif q == saving == 0 and r > 0 > extra:  # nothing changes with use
        high = 0.0
    return low if low < math.inf else None, high if high < math.inf else None
