"""What is simulated: one small record that fits in a YAML file, and its presets."""

from __future__ import annotations

import math
from importlib import resources
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from channels.grid import BITS_PER_SYMBOL, Grid, Modulation
from leanrx_core.errors import UserError
from leanrx_core.records import Range, Record, read_yaml

Split = Literal["train", "test"]
ChannelModel = Literal[
    "AWGN",
    "Rayleigh",
    "TDL-A",
    "TDL-B",
    "TDL-C",
    "TDL-D",
    "TDL-E",
    "TDLA30",
    "TDLB100",
    "TDLC300",
    "CDL-A",
    "CDL-B",
    "CDL-C",
    "CDL-D",
    "CDL-E",
    "UMi",
    "UMa",
    "RMa",
]

_OWN_DELAY_SPREAD_S = {"TDLA30": 30e-9, "TDLB100": 100e-9, "TDLC300": 300e-9}
_FLAT = ("AWGN", "Rayleigh")
SYSTEM_LEVEL_MODELS = ("UMi", "UMa", "RMa")


def _within(low: float, high: float, unit: str) -> AfterValidator:
    def check(ends: tuple[float, float]) -> tuple[float, float]:
        if ends[0] < low or ends[1] > high:
            raise ValueError(f"must lie within {low:g}..{high:g} {unit}; is the unit {unit}?")
        return ends

    return AfterValidator(check)


def _equal_weights(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple) and all(isinstance(model, str) for model in value):
        if len(set(value)) < len(value):
            raise ValueError("names a model twice; give weights, such as {TDL-A: 2, CDL-A: 1}")
        return dict.fromkeys(value, 1.0)
    return value


Mixture = Annotated[dict[ChannelModel, Annotated[float, Field(gt=0, le=1e6)]], BeforeValidator(_equal_weights)]
"""Channel models and the weights with which a slot draws one; a list stands for equal weights."""


class Channels(Record):
    """Mixtures of channel models for training and for testing. The two must not share a model.

    ``TDL-`` and ``CDL-`` are the profiles of TR 38.901, 7.7.2 and 7.7.1; ``TDLA30``, ``TDLB100`` and ``TDLC300`` are
    those of TS 38.101-4, B.2.1.1, whose delay spread of 30, 100 and 300 ns is their own; ``AWGN`` is a unit gain and
    ``Rayleigh`` one complex Gaussian gain per slot and antenna, both flat in time and frequency. ``UMi``, ``UMa`` and
    ``RMa`` are drops of TR 38.901, 7.5, with delay spreads of their own.
    """

    train: Mixture = Field(default_factory=dict)
    test: Mixture = Field(default_factory=dict)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        shared = sorted(set(self.train) & set(self.test))
        if shared:
            raise ValueError(f"train and test share {', '.join(shared)}; a model belongs to one of them")
        return self


class Interferer(Record):
    """An interfering transmitter with its own data, channel draw, Doppler and timing.

    Attributes:
        probability: share of slots that have the interferer.
        sir_db: signal-to-interference ratio; mean powers over the whole grid, per receive antenna.
        timing_offset_symbols: how late its OFDM symbols arrive, in symbol durations; within the cyclic prefix
            (0.066) it stays orthogonal, beyond it smears over symbols and subcarriers.
        frequency_offset_hz: its carrier frequency relative to the receiver's.
        bandwidth_fraction: part of the grid's resource blocks that it occupies, side by side from a random one on;
            a narrow one of the same SIR is stronger where it is.
        modulations: drawn with equal probability per slot; the scenario's if not given.
        channels: its channel models; the scenario's if not given.
    """

    probability: float = Field(1.0, ge=0, le=1)
    sir_db: Annotated[Range, _within(-50, 100, "dB")] = (0.0, 36.0)
    timing_offset_symbols: Annotated[Range, _within(0, 1, "symbol durations")] = (0.0, 1.0)
    frequency_offset_hz: Annotated[Range, _within(-1e5, 1e5, "Hz")] = (0.0, 0.0)
    bandwidth_fraction: Annotated[Range, _within(0, 1, "of the grid")] = (1.0, 1.0)
    modulations: tuple[Modulation, ...] | None = Field(None, min_length=1)
    channels: Channels | None = None


class PowerAmplifier(Record):
    """Rapp's solid-state amplifier in the wanted transmitter: amplitude ``r`` leaves as ``r (1 + (r/A)^2p)^(-1/2p)``.

    Attributes:
        input_backoff_db: saturation power ``A^2`` over the mean power of the signal.
        smoothness: p; the larger, the more abrupt the saturation.
    """

    input_backoff_db: float = Field(ge=0, le=30)
    smoothness: float = Field(2.0, gt=0.1, le=20)


class Impairments(Record):
    """What is not ideal about the wanted transmitter and the receiver's timing. Ranges are uniform, drawn per slot.

    Attributes:
        carrier_frequency_offset_hz: of the wanted signal relative to the receiver.
        timing_offset_s: how late the wanted signal arrives in the receiver's FFT window; negative is early.
        phase_noise_linewidth_hz: 3 dB linewidth of a free-running oscillator, whose phase is a Wiener process.
        amplifier: a non-linear power amplifier, or none.
    """

    carrier_frequency_offset_hz: Annotated[Range, _within(-1e5, 1e5, "Hz")] = (0.0, 0.0)
    timing_offset_s: Annotated[Range, _within(-1e-4, 1e-4, "s")] = (0.0, 0.0)
    phase_noise_linewidth_hz: float = Field(0.0, ge=0, le=1e5)
    amplifier: PowerAmplifier | None = None


class Scenario(Record):
    """The radio conditions that slots are drawn from. All ranges are uniform, drawn per slot.

    Attributes:
        grid: resource grid.
        modulations: drawn with equal probability per slot.
        channels: channel models for training and for testing.
        delay_spread_s: RMS delay spread of the profile (TR 38.901, 7.7.3).
        max_doppler_hz: maximum Doppler shift, for the wanted and the interfering links.
        snr_db: signal-to-noise ratio; mean powers, per receive antenna.
        interferers: any number of interfering transmitters.
        impairments: of the wanted link.
        domain: ``frequency`` applies each channel per subcarrier and symbol, without intersymbol and intercarrier
            interference of the wanted signal's channel; ``time`` sends samples through it, needs about twenty times
            as long, and is asked for where delays exceed the cyclic prefix.
    """

    name: str = Field(min_length=1)
    grid: Grid = Grid()
    modulations: tuple[Modulation, ...] = Field(("16-QAM",), min_length=1)
    channels: Channels
    delay_spread_s: Annotated[Range, _within(0, 1e-5, "s")] = (10e-9, 300e-9)
    max_doppler_hz: Annotated[Range, _within(0, 1e4, "Hz")] = (0.0, 500.0)
    snr_db: Annotated[Range, _within(-50, 100, "dB")] = (-4.0, 32.0)
    interferers: tuple[Interferer, ...] = ()
    impairments: Impairments = Impairments()
    domain: Literal["frequency", "time"] = "frequency"

    @model_validator(mode="after")
    def _interferers_fit(self) -> Self:
        for split in ("train", "test"):
            for i, interferer in enumerate(self.interferers):
                own = interferer.channels
                if own is not None and getattr(self.channels, split) and not getattr(own, split):
                    raise ValueError(f"interferers.{i}.channels.{split} is empty; name at least one model")
        shared = sorted(self._models("train") & self._models("test"))
        if shared:
            raise ValueError(f"interferers: train and test share {', '.join(shared)}; a model belongs to one of them")
        return self

    @model_validator(mode="after")
    def _time_domain_holds(self) -> Self:
        """Refuse what leaves the stream of samples, or changes faster than its gains are drawn."""
        limit_s, limit_hz = self.grid.symbol_duration_s / 2, self.grid.subcarrier_spacing_hz / 10
        if max(map(abs, self.impairments.timing_offset_s)) > limit_s:
            raise ValueError(f"impairments.timing_offset_s: must lie within half a symbol, {limit_s:.3g} s")
        moving = not self._models("train", "test") <= set(_FLAT)
        if self.domain == "time" and moving and self.max_doppler_hz[1] > limit_hz:
            raise ValueError(
                f"max_doppler_hz: {self.max_doppler_hz[1]:g} Hz is above a tenth of the subcarrier spacing "
                f"({limit_hz:g} Hz); lower it or widen the spacing"
            )
        return self

    @model_validator(mode="after")
    def _frequency_domain_holds(self) -> Self:
        """Refuse delays and Dopplers whose interference the frequency-domain channel would leave out."""
        if self.domain == "time":
            return self
        prefix_s, limit_hz = self.grid.cyclic_prefix_s, self.grid.subcarrier_spacing_hz / 20
        mend = "write 'domain: time'"
        models = self._models("train", "test")
        drops = sorted(models & set(SYSTEM_LEVEL_MODELS))
        if drops:
            raise ValueError(f"channels: {drops[0]} draws delays beyond the cyclic prefix; {mend}")
        spreads_s = [_OWN_DELAY_SPREAD_S.get(m, self.delay_spread_s[1]) for m in models if m not in _FLAT]
        longest_s = max(spreads_s, default=0.0)
        if 3 * longest_s > prefix_s:
            raise ValueError(
                f"delay_spread_s: {longest_s:g} s is above a third of the cyclic prefix ({prefix_s / 3:.3g} s at "
                f"{self.grid.subcarrier_spacing_hz} Hz), where intersymbol interference matters; shorten it or {mend}"
            )
        early_s, late_s = self.impairments.timing_offset_s
        if early_s < 0 or late_s + 3 * longest_s > prefix_s:
            raise ValueError(
                f"impairments.timing_offset_s: [{early_s:g}, {late_s:g}] s and three delay spreads leave the cyclic "
                f"prefix (0..{prefix_s:.3g} s); narrow it or {mend}"
            )
        if self.max_doppler_hz[1] > limit_hz and not models <= set(_FLAT):
            raise ValueError(
                f"max_doppler_hz: {self.max_doppler_hz[1]:g} Hz is above a twentieth of the subcarrier spacing "
                f"({limit_hz:g} Hz), where intercarrier interference matters; lower it or {mend}"
            )
        return self

    def _models(self, *splits: Split) -> set[str]:
        """Channel models of the wanted and the interfering links."""
        lists = [self.channels, *(i.channels for i in self.interferers if i.channels is not None)]
        return {model for channels in lists for split in splits for model in getattr(channels, split)}

    @property
    def bits_per_symbol(self) -> int:
        """The most bits that one RE of this scenario carries; receivers put out this many LLRs per RE."""
        return max(BITS_PER_SYMBOL[m] for m in self.modulations)

    @property
    def sinr_range_db(self) -> tuple[float, float]:
        """Lowest and highest SINR (mean powers) that the scenario draws."""
        low, high = (10 ** (-snr_db / 10) for snr_db in self.snr_db)
        for interferer in self.interferers:
            if interferer.probability > 0:
                low += 10 ** (-interferer.sir_db[0] / 10)
            if interferer.probability == 1:
                high += 10 ** (-interferer.sir_db[1] / 10)
        return -10 * math.log10(low), -10 * math.log10(high)

    def at_sinr(self, sinr_db: float, interference_fraction: float = 0.0) -> Scenario:
        """The same scenario at one SINR (mean powers), for a test point.

        Args:
            sinr_db: mean wanted power over mean interference-plus-noise power, per receive antenna.
            interference_fraction: part of the interference-plus-noise power that the interferers bring, 0 to 1 (excl.).
                Several share it as the middles of their ``sir_db`` relate. They are present in every slot; one of
                probability 0 stays away.

        Raises:
            UserError: if the share is outside its range, or not 0 in a scenario without interferers.
        """
        if not 0 <= interference_fraction < 1:
            raise UserError(
                f"interference_fraction: {interference_fraction} is outside 0..1 (1 excluded: noise remains)"
            )
        snr_db = sinr_db - 10 * math.log10(1 - interference_fraction)
        update: dict[str, Any] = {"snr_db": (snr_db, snr_db), "interferers": ()}
        if interference_fraction > 0:
            powers = [10 ** (-sum(i.sir_db) / 20) * (i.probability > 0) for i in self.interferers]
            if not any(powers):
                raise UserError(
                    f"interference_fraction: {interference_fraction} needs an interferer, and scenario {self.name} has "
                    "none; add one under 'interferers' or write 0"
                )
            interferers = []
            for interferer, power in zip(self.interferers, powers, strict=True):
                if power > 0:
                    sir_db = sinr_db - 10 * math.log10(interference_fraction * power / sum(powers))
                    interferer = interferer.model_copy(update={"probability": 1.0, "sir_db": (sir_db, sir_db)})
                interferers.append(interferer)
            update["interferers"] = tuple(interferers)
        return self.model_copy(update=update)


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


def _by_name(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return scenario(value)
        except UserError as error:
            raise ValueError(str(error).removeprefix("scenario: ")) from None
    return value


NamedScenario = Annotated[Scenario, BeforeValidator(_by_name)]
"""A scenario, or the name of a preset."""
