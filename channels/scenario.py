"""What is simulated: one small record that fits in a YAML file, and its presets."""

from __future__ import annotations

import math
from importlib import resources
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from channels.grid import BITS_PER_SYMBOL, Grid, Modulation
from channels.records import Range, Record, UserError, read_yaml

Split = Literal["train", "test"]
ChannelModel = Literal[
    "AWGN", "Rayleigh",
    "TDL-A", "TDL-B", "TDL-C", "TDL-D", "TDL-E",
    "TDLA30", "TDLB100", "TDLC300",
    "CDL-A", "CDL-B", "CDL-C", "CDL-D", "CDL-E",
]  # fmt: skip


_OWN_DELAY_SPREAD_S = {"TDLA30": 30e-9, "TDLB100": 100e-9, "TDLC300": 300e-9}


def _within(low: float, high: float, unit: str) -> AfterValidator:
    def check(ends: tuple[float, float]) -> tuple[float, float]:
        if ends[0] < low or ends[1] > high:
            raise ValueError(f"must lie within {low:g}..{high:g} {unit}; is the unit {unit}?")
        return ends

    return AfterValidator(check)


class Channels(Record):
    """Channel models, drawn with equal probability per slot. The two lists must not overlap.

    ``TDL-`` and ``CDL-`` are the profiles of TR 38.901, 7.7.2 and 7.7.1; ``TDLA30``, ``TDLB100`` and ``TDLC300`` are
    those of TS 38.101-4, B.2.1.1, whose delay spread of 30, 100 and 300 ns is their own; ``AWGN`` is a unit gain and
    ``Rayleigh`` one complex Gaussian gain per slot and antenna, both flat in time and frequency.
    """

    train: tuple[ChannelModel, ...] = ()
    test: tuple[ChannelModel, ...] = ()

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        shared = sorted(set(self.train) & set(self.test))
        if shared:
            raise ValueError(f"train and test share {', '.join(shared)}; a model belongs to one of them")
        return self


class Interference(Record):
    """One interfering transmitter with its own data, channel draw, Doppler and symbol timing.

    Attributes:
        probability: share of slots that have the interferer.
        sir_db: signal-to-interference ratio; mean powers, per receive antenna.
        timing_offset_symbols: how late its OFDM symbols arrive, in symbol durations; within the cyclic prefix
            (0.066) it stays orthogonal, beyond it smears over symbols and subcarriers.
    """

    probability: float = Field(1.0, ge=0, le=1)
    sir_db: Annotated[Range, _within(-50, 100, "dB")] = (0.0, 36.0)
    timing_offset_symbols: Annotated[Range, _within(0, 1, "symbol durations")] = (0.0, 1.0)


class Scenario(Record):
    """The radio conditions that slots are drawn from. All ranges are uniform, drawn per slot.

    Attributes:
        grid: resource grid.
        modulations: drawn with equal probability per slot.
        channels: channel models for training and for testing.
        delay_spread_s: RMS delay spread of the profile (TR 38.901, 7.7.3).
        max_doppler_hz: maximum Doppler shift, for the wanted and the interfering link.
        snr_db: signal-to-noise ratio; mean powers, per receive antenna.
        interference: the interferer, or none.
    """

    name: str = Field(min_length=1)
    grid: Grid = Grid()
    modulations: tuple[Modulation, ...] = Field(("16-QAM",), min_length=1)
    channels: Channels
    delay_spread_s: Annotated[Range, _within(0, 1e-5, "s")] = (10e-9, 300e-9)
    max_doppler_hz: Annotated[Range, _within(0, 1e4, "Hz")] = (0.0, 500.0)
    snr_db: Annotated[Range, _within(-50, 100, "dB")] = (-4.0, 32.0)
    interference: Interference | None = None

    @model_validator(mode="after")
    def _frequency_domain_holds(self) -> Self:
        """Refuse delays and Dopplers whose interference the frequency-domain channel would leave out."""
        limit_s, limit_hz = self.grid.cyclic_prefix_s / 3, self.grid.subcarrier_spacing_hz / 20
        own_s = [
            _OWN_DELAY_SPREAD_S[m] for m in (*self.channels.train, *self.channels.test) if m in _OWN_DELAY_SPREAD_S
        ]
        longest_s = max(self.delay_spread_s[1], *own_s, 0.0)
        if longest_s > limit_s:
            raise ValueError(
                f"delay_spread_s: {longest_s:g} s is above a third of the cyclic prefix ({limit_s:.3g} s "
                f"at {self.grid.subcarrier_spacing_hz} Hz), where intersymbol interference matters; it is not modelled"
            )
        if self.max_doppler_hz[1] > limit_hz:
            raise ValueError(
                f"max_doppler_hz: {self.max_doppler_hz[1]:g} Hz is above a twentieth of the subcarrier spacing "
                f"({limit_hz:g} Hz), where intercarrier interference matters; it is not modelled"
            )
        return self

    @property
    def bits_per_symbol(self) -> int:
        """The most bits that one RE of this scenario carries; receivers put out this many LLRs per RE."""
        return max(BITS_PER_SYMBOL[m] for m in self.modulations)

    @property
    def sinr_range_db(self) -> tuple[float, float]:
        """Lowest and highest SINR (mean powers) that the scenario draws."""
        low, high = self.snr_db
        if self.interference is not None and self.interference.probability > 0:
            interfered = 10 ** (-low / 10) + 10 ** (-self.interference.sir_db[0] / 10)
            low = -10 * math.log10(interfered)
            if self.interference.probability == 1:
                high = -10 * math.log10(10 ** (-high / 10) + 10 ** (-self.interference.sir_db[1] / 10))
        return low, high

    def at_sinr(self, sinr_db: float, interference_share: float = 0.0) -> Scenario:
        """The same scenario at one SINR (mean powers), for a test point.

        Args:
            sinr_db: mean wanted power over mean interference-plus-noise power, per receive antenna.
            interference_share: part of the interference-plus-noise power that the interferer brings, 0 to 1 (excl.).

        Raises:
            UserError: if the share is outside its range.
        """
        if not 0 <= interference_share < 1:
            raise UserError(f"interference_share: {interference_share} is outside 0..1 (1 excluded: noise remains)")
        snr_db = sinr_db - 10 * math.log10(1 - interference_share)
        interference = None
        if interference_share > 0:
            sir_db = sinr_db - 10 * math.log10(interference_share)
            base = self.interference or Interference()
            interference = base.model_copy(update={"probability": 1.0, "sir_db": (sir_db, sir_db)})
        return self.model_copy(update={"snr_db": (snr_db, snr_db), "interference": interference})


def presets() -> list[str]:
    """Names of the scenarios that come with leanrx."""
    return sorted(f.name.removesuffix(".yaml") for f in (resources.files("channels") / "presets").iterdir())


def scenario(name: str) -> Scenario:
    """A preset by name.

    Raises:
        UserError: if there is no such preset.
    """
    if name not in presets():
        raise UserError(f"scenario: no preset '{name}'; presets: {', '.join(presets())}")
    path = resources.files("channels") / "presets" / f"{name}.yaml"
    return Scenario.parse(read_yaml(str(path)), name)
