"""What figures are allowed: each check returns its value or says in one line how to mend it."""

from __future__ import annotations

import math
from typing import Any

from channels.errors import UserError


def number(field: str, value: Any, low: float, high: float = math.inf, open_low: bool = False) -> float:
    """A finite number from ``low`` (excluded if ``open_low``) to ``high``."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if plain and math.isfinite(value) and (value > low if open_low else value >= low) and value <= high:
        return float(value)
    least = f"above {low:g}" if open_low else f"{low:g} or more"
    allowed = least if high == math.inf else f"from {low:g}{' (excluded)' if open_low else ''} to {high:g}"
    raise UserError(f"{field}: {value!r} is not allowed; give a number {allowed}")


def positive(field: str, value: Any) -> float:
    return number(field, value, 0.0, open_low=True)


def share(field: str, value: Any) -> float:
    return number(field, value, 0.0, 1.0)


def whole(field: str, value: Any, least: int) -> int:
    """A whole number of at least ``least``; a float without a fraction is one."""
    counted = number(field, value, least)
    if counted != int(value):
        raise UserError(f"{field}: {value!r} is not a whole number; give {least} or more")
    return int(value)


def choice(field: str, value: Any, allowed: Any) -> Any:
    names = list(allowed)
    if value not in names:
        raise UserError(f"{field}: {value!r} is not known; choose from {', '.join(names)}")
    return value
