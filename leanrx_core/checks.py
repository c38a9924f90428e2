"""What figures are allowed: each check returns its value or says in one line how to mend it."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from leanrx_core.errors import UserError


def number(field: str, value: Any, low: float, high: float = math.inf, open_low: bool = False) -> float:
    """A finite number from ``low`` (excluded if ``open_low``) to ``high``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        above = low < value if open_low else low <= value
        if above and value <= high and value < math.inf:
            return value
    least = f"above {low:g}" if open_low else f"{low:g} or more"
    allowed = least if high == math.inf else f"from {low:g}{' (excluded)' if open_low else ''} to {high:g}"
    raise UserError(f"{field}: {value!r} is not allowed; give a number {allowed}")


def positive(field: str, value: Any) -> float:
    return number(field, value, 0.0, open_low=True)


def fraction(field: str, value: Any) -> float:
    return number(field, value, 0.0, 1.0)


def integer(field: str, value: Any, least: int) -> int:
    """A whole number of at least ``least``; a float without a fraction is one."""
    counted = number(field, value, least)
    if counted != int(value):
        raise UserError(f"{field}: {value!r} is not a whole number; give {least} or more")
    return int(value)


def choice(field: str, value: Any, allowed: Collection[Any]) -> Any:
    """One of the names (or whole numbers) that are allowed."""
    if not isinstance(value, str | int) or value not in allowed:
        raise UserError(f"{field}: {value!r} is not known; choose from {', '.join(map(str, allowed))}")
    return value
