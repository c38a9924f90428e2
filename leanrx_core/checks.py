"""Checks of single values. Each check returns the value, or raises an error that says what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

from leanrx_core.errors import UserError
from leanrx_core.messages import echo

MAX_NUMBER = 1e30
"""Largest magnitude of a number in any input. Products of several such numbers stay finite."""

MAX_COUNT = 10**15
"""Largest count in any input. Fields with a smaller limit of their own say so."""

MAX_NAME = 100
"""Characters in a name that becomes a part of a path. File systems allow 255 bytes, and names are joined."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Names that become a part of a path: no separators, and no leading dot or dash."""


def number(field: str, value: Any, low: float, high: float = MAX_NUMBER, open_low: bool = False) -> float:
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
    is_too_large = isinstance(value, int | float) and MAX_NUMBER < value < math.inf
    if high >= MAX_NUMBER and not is_too_large:
        allowed = f"above {low:g}" if open_low else f"of {low:g} or more"
    else:
        allowed = f"from {low:g}{' (excluded)' if open_low else ''} to {high:g}"
    raise UserError(f"{field}: {echo(value)} is not allowed; give a number {allowed}")


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


def integer(field: str, value: Any, low: int, high: int = MAX_COUNT) -> int:
    """Check that a value is a whole number from ``low`` to ``high``. A float such as ``3.0`` is accepted.

    Raises:
        UserError: if it is not.

    Example:
        >>> integer("epochs", 3.0, 1)
        3
    """
    checked = number(field, value, low)
    if checked != int(checked):
        raise UserError(f"{field}: {echo(value)} is not a whole number; give {low} or more")
    if checked > high:
        raise UserError(f"{field}: {echo(value)} is not allowed; give a whole number from {low} to {high}")
    return int(checked)


def path_component(field: str, value: Any) -> str:
    """Check that a value can be the name of a file or a folder.

    Raises:
        UserError: if it is no text, is too long, or has characters that leave its folder.

    Example:
        >>> path_component("label", "family-2")
        'family-2'
        >>> path_component("label", "..")
        Traceback (most recent call last):
        leanrx_core.errors.UserError: label: '..' is not a name; use letters, digits, '.', '_' and '-', and begin with
        a letter or a digit
    """
    if not isinstance(value, str) or re.fullmatch(NAME_PATTERN.rstrip("$"), value) is None:
        raise UserError(
            f"{field}: {echo(value)} is not a name; use letters, digits, '.', '_' and '-', and begin with a letter or "
            "a digit"
        )
    if len(value) > MAX_NAME:
        raise UserError(f"{field}: {echo(value)} has {len(value)} characters; use at most {MAX_NAME}")
    return value


def choice(field: str, value: Any, allowed: Collection[Any]) -> Any:
    """Check that a value is one of the allowed names or whole numbers.

    Raises:
        UserError: if it is not.

    Example:
        >>> choice("stack", "wifi", ("generic", "wifi"))
        'wifi'
    """
    if not isinstance(value, str | int) or value not in allowed:
        raise UserError(f"{field}: {echo(value)} is not known; choose from {', '.join(map(str, allowed))}")
    return value
