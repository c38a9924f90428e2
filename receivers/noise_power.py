"""Noise powers of slots: receivers in torch refuse those that :mod:`receivers.runtime` refuses."""

from __future__ import annotations

import torch

from channels import Slots
from leanrx_core.errors import UserError
from receivers.runtime.call_arguments import MAX_NOISE_VAR, MIN_NOISE_VAR


def noise_plus_interference_var(slots: Slots) -> torch.Tensor:
    """Mean noise-plus-interference power of each slot, which receivers know.

    It is not checked. :func:`receivers.classical.pilot_groups.pilot_groups` does this without waiting for a GPU.

    Args:
        slots: received slots.

    Returns:
        float32 ``(B,)``.
    """
    return slots.noise_var + slots.interference_var


def is_power(values: torch.Tensor) -> torch.Tensor:
    """Whether noise powers are finite numbers above 0, within the limits of exported files.

    Args:
        values: float32 ``(B,)``.

    Returns:
        bool ``(B,)``.

    Example:
        >>> is_power(torch.tensor([1e-12, 0.0, -1.0, float("nan"), float("inf")])).tolist()
        [True, False, False, False, False]
    """
    return (values >= MIN_NOISE_VAR) & (values < MAX_NOISE_VAR)


def check_powers(name: str, allowed: torch.Tensor) -> None:
    """Refuse noise powers that exported files refuse.

    Args:
        name: of the powers, for messages.
        allowed: of :func:`is_power`; the host waits for it.

    Raises:
        UserError: if one is not allowed.
    """
    if not bool(allowed.all()):
        raise UserError(f"{name}: not a finite number above 0; give the mean power of a slot")
