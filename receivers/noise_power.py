"""Noise powers of slots: receivers in torch refuse those that :mod:`receivers.runtime` refuses."""

from __future__ import annotations

import torch

from channels import Slots
from leanrx_core.errors import UserError
from receivers.runtime.call_arguments import MAX_NOISE_VAR, MIN_NOISE_VAR


def noise_plus_interference_var(slots: Slots) -> torch.Tensor:
    """Mean noise-plus-interference power of each slot, which receivers know.

    Args:
        slots: received slots.

    Returns:
        float32 ``(B,)``.

    Raises:
        UserError: if it is not a finite number above 0.

    Example:
        >>> from dataclasses import replace
        >>> from channels import SlotStream, scenario
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2, split="test").at_sinr(10).block(0)
        >>> bool((noise_plus_interference_var(slots) > 0).all())
        True
        >>> noise_plus_interference_var(replace(slots, noise_var=-slots.interference_var))
        Traceback (most recent call last):
        leanrx_core.errors.UserError: noise_plus_interference_var: not a finite number above 0; give the mean power ...
    """
    power = slots.noise_var + slots.interference_var
    check_power("noise_plus_interference_var", power)
    return power


def check_power(name: str, power: torch.Tensor) -> None:
    """Refuse noise powers that exported files refuse.

    Args:
        name: of the powers, for messages.
        power: float32 ``(B,)``.

    Raises:
        UserError: if one is not a finite number above 0, or beyond the limits of exported files.
    """
    if not bool(((power >= MIN_NOISE_VAR) & (power < MAX_NOISE_VAR)).all()):
        raise UserError(f"{name}: not a finite number above 0; give the mean power of a slot")
