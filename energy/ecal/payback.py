"""When does the dearer start pay? Two costs that grow with use, where they cross, and how surely.

::

    energy |            alternative: start 2 + n x per unit 2
           |         .-'
           |      .-X-------- candidate: start 1 + n x per unit 1
           |-----'  |
           |_____.-'|_________ n
                 break-even n = (start 1 - start 2) / (per unit 2 - per unit 1)

A unit is an inference, or a correctly received bit: then ``per_unit_j`` is the energy of an inference over the bits
that it gets right (:func:`correct_bits`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from leanrx_core.checks import fraction


def correct_bits(data_bits: float, error_rate: float) -> float:
    """Goodput of an inference: data bits times 1 - BER, or times 1 - BLER where a wrong block is lost as a whole.

    Counted with the BER, even a coin gets half of its bits right; that reading suits receivers that work.

    Raises:
        UserError: if the rate is outside 0..1.
    """
    return data_bits * (1 - fraction("error_rate", error_rate))


_DUST = 1e-12
"""Two prices that differ by no more than this share are equal: they were computed in another order."""


@dataclass(frozen=True)
class Cost:
    """Energy ``start_j + n per_unit_j`` of n units.

    Attributes:
        start_j: before the first unit.
        per_unit_j: of each unit.
        noise: independent sources of error by name, each with what one standard deviation of it does to ``start_j`` and
            to ``per_unit_j``. A source that two costs share cancels in their difference as far as it is equal.
    """

    start_j: float
    per_unit_j: float
    noise: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def at(self, units: float) -> tuple[float, float]:
        """Energy and its standard deviation."""
        variance = sum((start + units * unit) ** 2 for start, unit in self.noise.values())
        return self.start_j + units * self.per_unit_j, math.sqrt(variance)


@dataclass(frozen=True)
class BreakEven:
    """Where two costs are equal.

    Attributes:
        units: break-even by the values themselves; none where the candidate ends up dearer, 0 where it never was.
        low, high: the candidate is dearer for sure below ``low`` and cheaper for sure above ``high``; in between the
            uncertainty does not say. ``low`` none: dearer for sure at any number. ``high`` none: never cheaper for
            sure. Both none where the uncertainty is not known.
        outcome: what the values themselves say: ``repaid``, ``never repaid``, ``cheaper from the first`` or
            ``cheaper at first, dearer later``.
        sure: whether the uncertainty leaves that outcome (not the number) standing; none where it is not known.
    """

    units: float | None
    low: float | None
    high: float | None
    outcome: str
    sure: bool | None


def break_even(candidate: Cost, alternative: Cost, coverage: float | None) -> BreakEven:
    """After how many units the candidate has repaid its higher start.

    The difference of the two costs is ``d(n) = a - n b`` with ``a`` the extra start and ``b`` the saving per unit. The
    bounds are Fieller's: n for which ``|d(n)|`` is within ``coverage`` standard deviations (E. C. Fieller, J. Royal
    Statistical Society B 16, 1954), an interval that opens where the saving itself is within its uncertainty.

    Args:
        candidate, alternative: both in the same units.
        coverage: standard deviations on each side, Student's t of the interval's level; none if the uncertainty is
            not known.
    """
    extra = candidate.start_j - alternative.start_j
    saving = alternative.per_unit_j - candidate.per_unit_j
    if abs(saving) <= _DUST * alternative.per_unit_j:
        saving = 0.0
    if saving < 0 or (saving == 0 and extra > 0):
        units, outcome = None, "never repaid" if extra >= 0 else "cheaper at first, dearer later"
    else:
        units = max(0.0, extra / saving) if saving else 0.0
        outcome = "repaid" if units else "cheaper from the first"
    if coverage is None:
        return BreakEven(units, None, None, outcome, None)
    names = candidate.noise.keys() | alternative.noise.keys()
    pairs = [(candidate.noise.get(n, (0.0, 0.0)), alternative.noise.get(n, (0.0, 0.0))) for n in sorted(names)]
    errors = [(mine[0] - theirs[0], theirs[1] - mine[1]) for mine, theirs in pairs]  # of a and of b, per source
    square = coverage**2
    low, high = _bounds(
        saving**2 - square * sum(s * s for _, s in errors),
        extra * saving - square * sum(e * s for e, s in errors),
        extra**2 - square * sum(e * e for e, _ in errors),
        extra,
        saving,
    )
    if outcome == "never repaid":
        sure = low is None
    elif units is None:
        sure = saving**2 > square * sum(s * s for _, s in errors)
    else:
        sure = high is not None if units else high == 0
    return BreakEven(units, low, high, outcome, sure)


def _bounds(q: float, p: float, r: float, extra: float, saving: float) -> tuple[float | None, float | None]:
    """``low`` and ``high`` of :class:`BreakEven`.

    ``q n^2 - 2 p n + r <= 0`` where the sign of ``d(n)`` is not sure; ``q > 0`` where that of the saving is sure, and
    ``r > 0`` where that of the extra start is.
    """
    root = math.sqrt(max(0.0, p * p - q * r))
    roots = sorted((p + sign * root) / q for sign in (-1, 1)) if q else [r / (2 * p)] if p else []
    ahead = [n for n in roots if n >= 0]
    low, high = 0.0, math.inf
    if r > 0 and extra > 0:
        low = ahead[0] if ahead else math.inf
    if q > 0 and saving > 0:
        high = max(0.0, roots[-1])
    elif q == saving == 0 and r > 0 > extra:  # nothing changes with use
        high = 0.0
    return low if low < math.inf else None, high if high < math.inf else None
