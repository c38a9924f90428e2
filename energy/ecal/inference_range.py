"""Points of a sweep over the number of inferences."""

from __future__ import annotations

import re

from leanrx_core.errors import UserError


def sweep_points(text: str) -> list[int]:
    """``inferences=1e2..1e8`` as whole numbers: both ends, and 1, 2 and 5 of each decade between them.

    Raises:
        UserError: if it is not written so, or the range is empty or begins below 1.
    """
    match = re.fullmatch(r"inferences=([0-9.]+(?:e\+?\d+)?)\.\.([0-9.]+(?:e\+?\d+)?)", text.replace(" ", ""))
    try:
        low, high = (float(end) for end in match.groups()) if match else (0.0, 0.0)
    except ValueError:
        low = high = 0.0
    if not match or max(low, high) > 1e15 or low != int(low) or high != int(high) or not 1 <= low < high <= 1e15:
        raise UserError(f"sweep: '{text}' is not a range; write inferences=1e2..1e8, whole numbers from 1 to 1e15")
    steps = (m * 10**decade for decade in range(16) for m in (1, 2, 5))
    return sorted({int(low), int(high), *(s for s in steps if low < s < high)})
