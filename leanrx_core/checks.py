"""Checks of single values. Each check returns the value, or raises an error that says what is allowed."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from leanrx_core.errors import UserError


def number(field: str, value: Any, low: float, high: float = math.inf, open_low: bool = False) -> float:
    """Check that a value is a finite number in a range.

    Args:
        field: name of the value in the error message.
        value: the value.
        low: lower end of the range.
        high: upper end of the range, included.
        open_low: whether the range excludes ``low``.

    Raises:
        UserError: if the value is no number, not finite, or outside the range.

    Example:
        >>> number("power_w", 3.5, 0)
        3.5
        >>> number("power_w", -1, 0)
        Traceback (most recent call last):
        leanrx_core.errors.UserError: power_w: -1 is not allowed; give a number of 0 or more
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        above_low = low < value if open_low else low <= value
        if above_low and value <= high and value < math.inf:
            return value
    if high == math.inf:
        allowed = f"above {low:g}" if open_low else f"of {low:g} or more"
    else:
        allowed = f"from {low:g}{' (excluded)' if open_low else ''} to {high:g}"
    raise UserError(f"{field}: {value!r} is not allowed; give a number {allowed}")


def positive(field: str, value: Any) -> float:
    """Check that a value is a finite number above 0.

    Raises:
        UserError: if it is not.
    """
    return number(field, value, 0.0, open_low=True)


def fraction(field: str, value: Any) -> float:
    """Check that a value is a number from 0 to 1.

    Raises:
        UserError: if it is not.
    """
    return number(field, value, 0.0, 1.0)


def integer(field: str, value: Any, low: int) -> int:
    """Check that a value is a whole number of at least ``low``. A float such as ``3.0`` is accepted.

    Raises:
        UserError: if it is not.

    Example:
        >>> integer("epochs", 3.0, 1)
        3
    """
    checked = number(field, value, low)
    if checked != int(checked):
        raise UserError(f"{field}: {value!r} is not a whole number; give {low} or more")
    return int(checked)


def choice(field: str, value: Any, allowed: Collection[Any]) -> Any:
    """Check that a value is one of the allowed names or whole numbers.

    Raises:
        UserError: if it is not.

    Example:
        >>> choice("stack", "wifi", ("generic", "wifi"))
        'wifi'
    """
    if not isinstance(value, str | int) or value not in allowed:
        raise UserError(f"{field}: {value!r} is not known; choose from {', '.join(map(str, allowed))}")
    return value
