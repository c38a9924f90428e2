"""Which sleep mode saves the most energy in a gap between loads, with energy and time of waking."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from carbon.transmitters import nr_station
from leanrx_core.checks import positive
from leanrx_core.errors import UserError
from leanrx_core.records import Record


class SleepMode(Record):
    """A state without work.

    Attributes:
        name: of the state.
        power: in it, W or the units of a station.
        transition_energy: added by entering and leaving it: power times seconds.
        transition_s: shortest gap in which it can be entered and left.
    """

    name: str
    power: float = Field(ge=0)
    transition_energy: float = Field(0.0, ge=0)
    transition_s: float = Field(0.0, ge=0)

    def energy(self, gap_s: float) -> float:
        """Energy over a gap, in the unit of the power times seconds."""
        return self.power * gap_s + self.transition_energy


def best_sleep_mode(modes: Sequence[SleepMode], gap_s: float) -> SleepMode:
    """The mode of least energy among those that fit into a gap. Of equal ones, the deeper one.

    Raises:
        UserError: if no mode fits.

    Example:
        >>> modes = nr_sleep_modes("category 1, set 1")
        >>> [best_sleep_mode(modes, 1e-3 * gap_ms).name for gap_ms in (5, 6, 49, 50)]
        ['micro sleep', 'light sleep', 'light sleep', 'deep sleep']
    """
    positive("gap_s", gap_s)
    fitting = [mode for mode in modes if mode.transition_s <= gap_s]
    if not fitting:
        raise UserError(f"sleep: no mode fits into {gap_s:g} s; add one without a transition time")
    return min(fitting, key=lambda mode: (mode.energy(gap_s), mode.power))


_TRANSITIONS = {1: ((90e-3, 6e-3), (1.0, 50e-3)), 2: ((1.088, 0.64), (17.0, 10.0))}
"""By category: added energy (unit-s) and time (s) of light and of deep sleep; TR 38.864, clause 5.1."""


def nr_sleep_modes(station: str) -> tuple[SleepMode, SleepMode, SleepMode]:
    """Micro, light and deep sleep of a station of TR 38.864, such as ``"category 1, set 1"``.

    Raises:
        UserError: if there is no such station.
    """
    deep, light, micro, _, _ = nr_station(station).units
    (light_energy, light_s), (deep_energy, deep_s) = _TRANSITIONS[int(station.split(",")[0].split()[1])]
    return (
        SleepMode(name="micro sleep", power=micro),
        SleepMode(name="light sleep", power=light, transition_energy=light_energy, transition_s=light_s),
        SleepMode(name="deep sleep", power=deep, transition_energy=deep_energy, transition_s=deep_s),
    )


PI_BOOT_S = 30.0
"""Assumed time from halted to ready."""
PI_LOADED_W, PI_IDLE_W, PI_HALTED_W = 6.4, 2.7, 1.0
"""Of a Raspberry Pi 4B: four cores loaded, and idle, as measured at 5 V by others; halted is assumed."""


def raspberry_pi_modes() -> tuple[SleepMode, SleepMode]:
    """Idle and halted, of a Raspberry Pi 4B, which has no suspended state. A boot loads all cores, which is assumed.

    Example:
        >>> [round(mode.energy(60)) for mode in raspberry_pi_modes()]
        [162, 252]
    """
    boot_j = PI_BOOT_S * PI_LOADED_W
    return (
        SleepMode(name="idle", power=PI_IDLE_W),
        SleepMode(name="halted", power=PI_HALTED_W, transition_energy=boot_j, transition_s=PI_BOOT_S),
    )
