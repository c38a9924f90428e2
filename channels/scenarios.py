"""Scenarios: the radio conditions of a simulation as a record that is read from YAML, and the presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from channels.grid import BITS_PER_SYMBOL, Antennas, Grid, Modulation
from leanrx_core.errors import UserError
from leanrx_core.records import PathComponent, Range, Record, read_yaml

Split = Literal["train", "test"]
"""Which of a scenario's channel models a stream draws from."""

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
"""Names of the channel models, see :class:`Channels`."""

_FIXED_DELAY_SPREAD_S = {"TDLA30": 30e-9, "TDLB100": 100e-9, "TDLC300": 300e-9}
_FLAT = ("AWGN", "Rayleigh")
SYSTEM_LEVEL_MODELS = ("UMi", "UMa", "RMa")
POLARISED_MODELS = ("CDL-A", "CDL-B", "CDL-C", "CDL-D", "CDL-E", *SYSTEM_LEVEL_MODELS)
"""Channel models whose rays have directions and polarisations."""

MAX_BLOCK_SLOTS = 2**16
"""Slots that are simulated, trained on or metered in one block."""

_RENAMED_PRESETS = {"desk": "tdl-6prb"}


def _within(low: float, high: float, unit: str) -> AfterValidator:
    def check(interval: tuple[float, float]) -> tuple[float, float]:
        if interval[0] < low or interval[1] > high:
            raise ValueError(f"must lie within {low:g}..{high:g} {unit}; is the unit {unit}?")
        return interval

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
"""Channel models and the weights with which a slot draws one. A list of names stands for equal weights."""


class Channels(Record):
    """Mixtures of channel models for training and for testing. The two must not share a model.

    * ``TDL-A`` to ``TDL-E`` and ``CDL-A`` to ``CDL-E`` are the profiles of TR 38.901, 7.7.2 and 7.7.1.
    * ``TDLA30``, ``TDLB100`` and ``TDLC300`` are the profiles of TS 38.101-4, B.2.1.1. Their delay spread is fixed: 30,
      100 and 300 ns.
    * ``AWGN`` is a gain of 1, and ``Rayleigh`` is one complex Gaussian gain per slot and antenna. Both are flat in time
      and frequency.
    * ``UMi``, ``UMa`` and ``RMa`` are the system-level models of TR 38.901, 7.5. Each draw has its own delay spread.

    Attributes:
        train: models and their weights for training.
        test: models and their weights for testing.
    """

    train: Mixture = Field(default_factory=dict)
    test: Mixture = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_disjoint(self) -> Self:
        shared = sorted(set(self.train) & set(self.test))
        if shared:
            raise ValueError(f"train and test share {', '.join(shared)}; a model belongs to one of them")
        return self


class Interferer(Record):
    """An interfering transmitter with its own data, channel, Doppler shift and timing.

    Attributes:
        probability: probability that a slot has the interferer.
        sir_db: signal-to-interference ratio: mean powers over the whole grid, per receive antenna.
        timing_offset_symbols: delay of its OFDM symbols in symbol durations. Within the cyclic prefix (0.066) its
            subcarriers stay orthogonal. Beyond it they interfere with each other.
        frequency_offset_hz: its carrier frequency relative to the receiver's.
        bandwidth_fraction: fraction of the grid's resource blocks that it occupies. The blocks are adjacent, and the
            first one is random. A narrow interferer of the same SIR is stronger in its band.
        modulations: list from which each slot draws with equal probability. Default: the scenario's list.
        channels: its channel models. Default: the scenario's.

    Example:
        >>> Interferer(probability=0.5, sir_db=(0, 20)).bandwidth_fraction
        (1.0, 1.0)
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"bandwidth_share": "bandwidth_fraction"}

    probability: float = Field(1.0, ge=0, le=1)
    sir_db: Annotated[Range, _within(-50, 100, "dB")] = (0.0, 36.0)
    timing_offset_symbols: Annotated[Range, _within(0, 1, "symbol durations")] = (0.0, 1.0)
    frequency_offset_hz: Annotated[Range, _within(-1e5, 1e5, "Hz")] = (0.0, 0.0)
    bandwidth_fraction: Annotated[Range, _within(0, 1, "of the grid")] = (1.0, 1.0)
    modulations: tuple[Modulation, ...] | None = Field(None, min_length=1)
    channels: Channels | None = None


class PowerAmplifier(Record):
    """Rapp's model of the solid-state power amplifier in the wanted transmitter.

    An input amplitude ``r`` gives the output amplitude ``r (1 + (r/A)^2p)^(-1/2p)``.

    Attributes:
        input_backoff_db: saturation power ``A^2`` over the mean power of the signal.
        smoothness: p. A larger value gives a more abrupt saturation.
    """

    input_backoff_db: float = Field(ge=0, le=30)
    smoothness: float = Field(2.0, gt=0.1, le=20)


class Impairments(Record):
    """Impairments of the wanted transmitter and of the receiver's timing. Each slot draws uniformly from the ranges.

    Attributes:
        carrier_frequency_offset_hz: carrier frequency of the wanted signal relative to the receiver's.
        timing_offset_s: delay of the wanted signal relative to the receiver's FFT window. Negative means early.
        phase_noise_linewidth_hz: 3 dB linewidth of a free-running oscillator. Its phase is a Wiener process.
        amplifier: a non-linear power amplifier. Default: a linear one.
    """

    carrier_frequency_offset_hz: Annotated[Range, _within(-1e5, 1e5, "Hz")] = (0.0, 0.0)
    timing_offset_s: Annotated[Range, _within(-1e-4, 1e-4, "s")] = (0.0, 0.0)
    phase_noise_linewidth_hz: float = Field(0.0, ge=0, le=1e5)
    amplifier: PowerAmplifier | None = None


def _complete(member: Any, base: dict[str, Any], index: int) -> Any:
    """A member of a mixture with the settings of its scenario where it has none. Other values stay for their errors."""
    if not isinstance(member, dict):
        return member
    if not member:
        raise ValueError(f"mixture.{index}: names no condition; write what differs, such as {{grid: {{num_rx: 4}}}}")
    settings = {key: value.model_dump() if isinstance(value, Record) else value for key, value in base.items()}
    for key, value in member.items():
        is_part = isinstance(value, dict) and isinstance(settings.get(key), dict)
        settings[key] = {**settings[key], **value} if is_part else value
    return settings


class Scenario(Record):
    """Radio conditions of simulated slots. Each slot draws uniformly from the ranges.

    Attributes:
        name: name of the scenario.
        grid: resource grid.
        modulations: list from which each slot draws with equal probability.
        channels: channel models for training and for testing.
        delay_spread_s: RMS delay spread of the profiles (TR 38.901, 7.7.3).
        max_doppler_hz: maximum Doppler shift of the wanted link and of the interferers.
        snr_db: signal-to-noise ratio: mean powers, per receive antenna.
        interferers: any number of interfering transmitters.
        impairments: impairments of the wanted link.
        channel_normalisation: ``ensemble``: channels have unit mean power over all draws, and a slot's own power fades.
            ``slot``: every channel of every slot has unit mean power over antennas, symbols and subcarriers.
        domain: ``frequency`` applies the channel per subcarrier and symbol. It leaves out the intersymbol and
            intercarrier interference of the wanted channel. ``time`` sends samples through the channel. It takes about
            twenty times as long, and is needed if delays exceed the cyclic prefix.
        mixture: scenarios for training, in place of this one. Each block of training slots has the conditions of one
            member, see :class:`channels.mixture_stream.MixtureStream`. A member is written as its differences to this
            scenario. Its ``grid``, ``channels`` and ``impairments`` are completed key by key. Tests, and slots that no
            network is trained on, have the conditions of the scenario itself.

    Example:
        >>> flat = Scenario(name="flat", grid=Grid(num_prb=1), channels=Channels(train=["Rayleigh"], test=["AWGN"]))
        >>> flat.at_sinr(10.0).snr_db
        (10.0, 10.0)
    """

    name: PathComponent
    grid: Grid = Grid()
    modulations: tuple[Modulation, ...] = Field(("16-QAM",), min_length=1)
    channels: Channels
    delay_spread_s: Annotated[Range, _within(0, 1e-5, "s")] = (10e-9, 300e-9)
    max_doppler_hz: Annotated[Range, _within(0, 1e4, "Hz")] = (0.0, 500.0)
    snr_db: Annotated[Range, _within(-50, 100, "dB")] = (-4.0, 32.0)
    interferers: tuple[Interferer, ...] = ()
    impairments: Impairments = Impairments()
    channel_normalisation: Literal["ensemble", "slot"] = "ensemble"
    domain: Literal["frequency", "time"] = "frequency"
    mixture: tuple[Scenario, ...] | None = Field(None, min_length=1, max_length=1000)

    @model_validator(mode="before")
    @classmethod
    def _complete_members(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("mixture"), list | tuple):
            return data
        base = {key: value for key, value in data.items() if key != "mixture"}
        return {**data, "mixture": [_complete(member, base, i) for i, member in enumerate(data["mixture"])]}

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        members = self.mixture or ()
        for i, member in enumerate(members):
            if member.mixture is not None:
                raise ValueError(f"mixture.{i}.mixture: a member has no mixture of its own; list its members instead")
            if member in members[:i]:
                raise ValueError(f"mixture.{i}: equals mixture.{members.index(member)}; name it once")
        return self

    @model_validator(mode="after")
    def _check_antennas(self) -> Self:
        """Refuse elements that a channel model cannot have, or whose mean power is not 1."""
        if self.grid.antennas == Antennas():
            return self
        without = sorted(self._models("train", "test") - set(POLARISED_MODELS))
        if without:
            raise ValueError(
                f"grid.antennas: {without[0]} has no directions, so no polarisation or pattern; leave it out or "
                f"choose from {', '.join(POLARISED_MODELS)}"
            )
        system_level = sorted(self._models("train", "test") & set(SYSTEM_LEVEL_MODELS))
        if system_level and self.grid.antennas.terminal_pattern != "omni":
            raise ValueError(f"grid.antennas.terminal_pattern: {system_level[0]} does not turn terminals; write omni")
        if self.channel_normalisation != "slot":
            raise ValueError(
                "grid.antennas: polarisation and patterns change the mean power; write 'channel_normalisation: slot'"
            )
        return self

    @model_validator(mode="after")
    def _check_interferers(self) -> Self:
        for split in ("train", "test"):
            for i, interferer in enumerate(self.interferers):
                channels = interferer.channels
                if channels is not None and getattr(self.channels, split) and not getattr(channels, split):
                    raise ValueError(f"interferers.{i}.channels.{split} is empty; name at least one model")
        shared = sorted(self._models("train") & self._models("test"))
        if shared:
            raise ValueError(f"interferers: train and test share {', '.join(shared)}; a model belongs to one of them")
        return self

    @model_validator(mode="after")
    def _check_time_domain(self) -> Self:
        """Refuse timing offsets beyond the simulated samples, and channels that change too fast for their gains."""
        limit_s, limit_hz = self.grid.symbol_duration_s / 2, self.grid.subcarrier_spacing_hz / 10
        if max(map(abs, self.impairments.timing_offset_s)) > limit_s:
            raise ValueError(f"impairments.timing_offset_s: must lie within half a symbol, {limit_s:.3g} s")
        has_doppler = not self._models("train", "test") <= set(_FLAT)
        if self.domain == "time" and has_doppler and self.max_doppler_hz[1] > limit_hz:
            raise ValueError(
                f"max_doppler_hz: {self.max_doppler_hz[1]:g} Hz is above a tenth of the subcarrier spacing "
                f"({limit_hz:g} Hz); lower it or widen the spacing"
            )
        return self

    @model_validator(mode="after")
    def _check_frequency_domain(self) -> Self:
        """Refuse delays and Doppler shifts whose interference the frequency-domain channel would leave out."""
        if self.domain == "time":
            return self
        prefix_s, limit_hz = self.grid.cyclic_prefix_s, self.grid.subcarrier_spacing_hz / 20
        remedy = "write 'domain: time'"
        models = self._models("train", "test")
        system_level = sorted(models & set(SYSTEM_LEVEL_MODELS))
        if system_level:
            raise ValueError(f"channels: {system_level[0]} draws delays beyond the cyclic prefix; {remedy}")
        spreads_s = [_FIXED_DELAY_SPREAD_S.get(m, self.delay_spread_s[1]) for m in models if m not in _FLAT]
        longest_s = max(spreads_s, default=0.0)
        if 3 * longest_s > prefix_s:
            raise ValueError(
                f"delay_spread_s: {longest_s:g} s is above a third of the cyclic prefix ({prefix_s / 3:.3g} s at "
                f"{self.grid.subcarrier_spacing_hz} Hz), where intersymbol interference matters; shorten it or {remedy}"
            )
        earliest_s, latest_s = self.impairments.timing_offset_s
        if earliest_s < 0 or latest_s + 3 * longest_s > prefix_s:
            raise ValueError(
                f"impairments.timing_offset_s: [{earliest_s:g}, {latest_s:g}] s and three delay spreads leave the "
                f"cyclic prefix (0..{prefix_s:.3g} s); narrow it or {remedy}"
            )
        if self.max_doppler_hz[1] > limit_hz and not models <= set(_FLAT):
            raise ValueError(
                f"max_doppler_hz: {self.max_doppler_hz[1]:g} Hz is above a twentieth of the subcarrier spacing "
                f"({limit_hz:g} Hz), where intercarrier interference matters; lower it or {remedy}"
            )
        return self

    def _models(self, *splits: Split) -> set[str]:
        """Return the channel models of the wanted link and of the interferers."""
        lists = [self.channels, *(i.channels for i in self.interferers if i.channels is not None)]
        return {model for channels in lists for split in splits for model in getattr(channels, split)}

    @property
    def bits_per_symbol(self) -> int:
        """Largest number of bits per RE in this scenario. Receivers return this many LLRs per RE."""
        return max(BITS_PER_SYMBOL[m] for m in self.modulations)

    @property
    def training_members(self) -> tuple[Scenario, ...]:
        """Scenarios of the training slots: the mixture, or this scenario alone."""
        return self.mixture or (self,)

    @property
    def num_bits(self) -> int:
        """LLRs per RE of a network that is trained on this scenario: bits of the highest modulation in it."""
        return max(member.bits_per_symbol for member in (self, *self.training_members))

    @property
    def training_sinr_db(self) -> tuple[float, float]:
        """Lowest and highest SINR of the training slots (ratio of mean powers, dB)."""
        ranges = [member.sinr_range_db for member in self.training_members]
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    @property
    def slots_json(self) -> str:
        """JSON of all that determines the scenario's own slots, except their SNR.

        Keys of later versions are left out at their defaults, so that hashes of older results stay valid.
        """
        exclude: dict[str, Any] = {"name": True, "snr_db": True, "mixture": True}
        if self.channel_normalisation == "ensemble":
            exclude["channel_normalisation"] = True
        later = {"subcarriers": None, "antennas": Antennas()}
        exclude["grid"] = {key for key, default in later.items() if getattr(self.grid, key) == default}
        return self.model_dump_json(exclude=exclude)

    def snr_db_at_ebn0(self, ebn0_db: float, code_rate: float) -> float:
        """Return the SNR of an energy per information bit over the noise power density, for one antenna.

        ``SNR = Eb/N0 x R x K`` for code rate R and K bits per RE, as Sionna's ``ebnodb2no`` without a resource grid.
        Energy of pilots, cyclic prefix and CRC is not counted. Without interference, SNR and SINR are equal.

        Args:
            ebn0_db: Eb/N0, dB.
            code_rate: information bits per coded bit; 1 without a code.

        Raises:
            UserError: if the scenario has several modulations, or the code rate is out of range.

        Example:
            >>> round(scenario("tdl-6prb").snr_db_at_ebn0(4.0, code_rate=0.5), 2)  # 16-QAM
            7.01
        """
        if len(self.modulations) > 1:
            raise UserError(f"ebn0_db: scenario {self.name} has several modulations, so several SNRs; keep one of them")
        if not 0 < code_rate <= 1:
            raise UserError(f"code_rate: {code_rate:g} is outside 0..1 (0 excluded)")
        return ebn0_db + 10 * math.log10(code_rate * self.bits_per_symbol)

    @property
    def sinr_range_db(self) -> tuple[float, float]:
        """Lowest and highest SINR (ratio of mean powers, dB) that a slot of the scenario can draw."""
        low, high = (10 ** (-snr_db / 10) for snr_db in self.snr_db)
        for interferer in self.interferers:
            if interferer.probability > 0:
                low += 10 ** (-interferer.sir_db[0] / 10)
            if interferer.probability == 1:
                high += 10 ** (-interferer.sir_db[1] / 10)
        return -10 * math.log10(low), -10 * math.log10(high)

    def on_grid(self, num_prb: int, where: str = "num_prb") -> Scenario:
        """The scenario with another number of resource blocks.

        Args:
            num_prb: resource blocks of the grid.
            where: what a message names, such as an option of a command.

        Raises:
            UserError: if there is no such grid.

        Example:
            >>> scenario("tdl-6prb").on_grid(26).grid.num_subcarriers
            312
        """
        grid = {**self.grid.model_dump(), "num_prb": num_prb}
        return Scenario.parse({**self.model_dump(), "grid": grid}, where)

    def at_sinr(self, sinr_db: float, interference_fraction: float = 0.0) -> Scenario:
        """Return the scenario at one SINR, for a test point.

        All interferers are present in every slot, except those of probability 0. Several interferers divide the
        interference power by the ratios of their mean ``sir_db``.

        Args:
            sinr_db: mean wanted power over mean interference-plus-noise power, per receive antenna.
            interference_fraction: interference power over interference-plus-noise power, 0 to 1 (excluded). For one
                interferer, 3GPP calls this ratio the dominant interferer proportion (DIP, TR 36.829).

        Raises:
            UserError: if the fraction is outside its range, or is not 0 in a scenario without interferers.

        Example:
            >>> point = scenario("tdl-6prb").at_sinr(10.0, interference_fraction=0.5)
            >>> round(point.snr_db[0], 2), round(point.interferers[0].sir_db[0], 2)
            (13.01, 13.01)
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
    """Return the names of the scenarios that come with leanrx.

    Example:
        >>> presets()
        ['deeprx-2021', 'deeprx-6prb', 'pusch-fr1', 'sionna-neural-receiver', 'tdl-6prb']
    """
    return sorted(f.name.removesuffix(".yaml") for f in (resources.files("channels") / "presets").iterdir())


def scenario(name: str) -> Scenario:
    """Return a preset.

    Args:
        name: one of :func:`presets`.

    Raises:
        UserError: if no preset has this name.

    Example:
        >>> scenario("tdl-6prb").grid.num_subcarriers
        72
    """
    if name in _RENAMED_PRESETS:
        raise UserError(f"scenario: preset '{name}' was renamed to '{_RENAMED_PRESETS[name]}'")
    if name not in presets():
        raise UserError(f"scenario: no preset '{name}'; choose from {', '.join(presets())}")
    path = resources.files("channels") / "presets" / f"{name}.yaml"
    return Scenario.parse(read_yaml(str(path)), name)


def _load_preset(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return scenario(value)
        except UserError as error:
            raise ValueError(str(error).removeprefix("scenario: ")) from None
    return value


NamedScenario = Annotated[Scenario, BeforeValidator(_load_preset)]
"""A scenario, or the name of a preset."""
