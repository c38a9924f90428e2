"""A language-model service from prompt to answer: uplink, reception, transport, prefill, decode, downlink, hardware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from carbon.accounting import Site
from carbon.aolo.oracle import lowest_power_w, solve
from carbon.aolo.requests import Array, Requests
from carbon.aolo.token_costs import TokenCosts
from carbon.embodied import EmbodiedCarbon
from carbon.footprint import Emission, Footprint, Scope
from leanrx_core.errors import UserError
from leanrx_core.records import Record

_THERMAL_DBM_PER_HZ = -174.0


class RadioChannel(Record):
    """A link with noise and fading, and the transmitter that feeds it.

    Attributes:
        bandwidth_hz: of the signal and its noise.
        path_loss_db: mean loss from antenna to antenna, gains included.
        noise_figure_db: of the receiver.
        fading: ``none`` or ``rayleigh``.
        static_w: power of the transmitter that this user is charged for, whatever is sent, W.
        slope: watts consumed per watt sent.
        min_power_w, max_power_w: bounds of the power sent.
    """

    bandwidth_hz: float = Field(gt=0)
    path_loss_db: float = Field(ge=0, le=300)
    noise_figure_db: float = Field(9.0, ge=0, le=100)
    fading: str = Field("none", pattern="^(none|rayleigh)$")
    static_w: float = Field(ge=0)
    slope: float = Field(gt=0)
    min_power_w: float = Field(gt=0)
    max_power_w: float = Field(gt=0)

    @model_validator(mode="after")
    def _check_powers(self) -> Self:
        if self.min_power_w > self.max_power_w:
            raise ValueError(f"min_power_w {self.min_power_w:g} is above max_power_w {self.max_power_w:g}; write less")
        return self

    @property
    def snr_per_w(self) -> float:
        """Mean SNR per watt sent."""
        return float(snr_per_w(self.path_loss_db, self.bandwidth_hz, self.noise_figure_db))


def snr_per_w(path_loss_db: float | Array, bandwidth_hz: float | Array, noise_figure_db: float = 9.0) -> Array:
    """Mean SNR per watt sent, over thermal noise of -174 dBm/Hz.

    Example:
        >>> round(float(snr_per_w(110.0, 10e6)), 3)  # 1 W: 30 dBm - 110 dB against -95 dBm of noise
        31.623
    """
    noise_dbm = _THERMAL_DBM_PER_HZ + noise_figure_db + 10 * np.log10(bandwidth_hz)
    return np.asarray(10 ** ((30 - np.asarray(path_loss_db) - noise_dbm) / 10))


class Quality(Record):
    """The quality of an answer by its length, and by its delay where ``patience_s`` is given.

    Attributes:
        token_scale: length from which more tokens bring less.
        min_tokens, max_tokens: bounds of the length; the quality is 1 at the upper one.
        min_quality: lowest quality that is allowed.
        deadline_s: longest time until the last token; none without a deadline.
        free_delay_s: delay that costs no quality.
        patience_s: delay beyond it that divides the quality by e; none for a quality without delay.
    """

    token_scale: float = Field(32.0, gt=0)
    min_tokens: int = Field(16, ge=1)
    max_tokens: int = Field(512, ge=1)
    min_quality: float = Field(0.6, ge=0, le=1)
    deadline_s: float | None = Field(None, gt=0)
    free_delay_s: float = Field(2.0, ge=0)
    patience_s: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}; write less")
        return self


class Service(Record):
    """The chain of one request.

    Attributes:
        costs: of a token in the data centre.
        data_centre: intensity and PUE of the computers. Its own embodied figure is not used.
        hardware: embodied emissions of one device of the data centre; none if they are not modelled.
        downlink: from the base station to the user.
        ran: intensity and PUE of the base station.
        uplink: from the user to the base station, at its highest power; none if it is not modelled.
        user: intensity of the electricity of the user's device; needed with an uplink.
        reception_w: power of the base station while it receives; none if it is not modelled.
        transport_j_per_bit: between base station and data centre; none if it is not modelled.
        token_bits: bits sent per token, overhead included.
    """

    costs: TokenCosts
    data_centre: Site
    hardware: EmbodiedCarbon | None = None
    downlink: RadioChannel
    ran: Site
    uplink: RadioChannel | None = None
    user: Site | None = None
    reception_w: float | None = Field(None, ge=0)
    transport_j_per_bit: float | None = Field(None, ge=0)
    token_bits: float = Field(32.0, gt=0)

    @model_validator(mode="after")
    def _check_intensities(self) -> Self:
        for site in (self.data_centre, self.ran, *([self.user] if self.user else [])):
            if site.intensity.g_per_kwh == 0:
                raise ValueError(f"intensity {site.intensity.name} is 0 g/kWh; give one above 0")
        return self

    def uplink_s(self, prompt_tokens: int) -> float:
        """Time of sending the prompt, s; 0 where the uplink is not modelled."""
        if self.uplink is None:
            return 0.0
        requests = self._link(self.uplink)
        return float(prompt_tokens * self.token_bits / requests.rate_bps(self.uplink.max_power_w).item())

    def _link(self, channel: RadioChannel) -> Requests:
        """A request that only has a link."""
        link = {name: getattr(channel, name) for name in ("static_w", "slope", "min_power_w", "max_power_w")}
        return Requests(
            fixed_g=np.zeros(1),
            token_g=0.0,
            radio_g_per_j=1.0,
            fixed_s=0.0,
            token_s=0.0,
            token_bits=self.token_bits,
            bandwidth_hz=channel.bandwidth_hz,
            snr_per_w=channel.snr_per_w,
            rayleigh=float(channel.fading == "rayleigh"),
            min_tokens=1,
            max_tokens=1,
            token_scale=1.0,
            min_quality=0.0,
            **link,
        )

    def request(self, prompt_tokens: int, quality: Quality) -> Requests:
        """One request as arrays of shape ``(1,)``, for :func:`carbon.aolo.oracle.solve`."""
        self.footprint(prompt_tokens, 1, self.downlink.max_power_w)  # refuses two bases of intensities in one sum
        before = self._before_decision(prompt_tokens)
        per_token = Footprint(rows=self._token_rows(1))
        link = {name: getattr(self.downlink, name) for name in ("static_w", "slope", "min_power_w", "max_power_w")}
        fading = self.downlink.fading == "rayleigh"
        return Requests(
            fixed_g=np.array([before.total_g]),
            token_g=per_token.total_g,
            radio_g_per_j=self.ran.operational_g(1.0),
            fixed_s=self.uplink_s(prompt_tokens) + prompt_tokens * (self.costs.prefill_s or 0.0),
            token_s=self.costs.decode_s,
            token_bits=self.token_bits,
            bandwidth_hz=self.downlink.bandwidth_hz,
            snr_per_w=self.downlink.snr_per_w,
            rayleigh=float(fading),
            min_tokens=quality.min_tokens,
            max_tokens=quality.max_tokens,
            token_scale=quality.token_scale,
            min_quality=quality.min_quality,
            deadline_s=quality.deadline_s or np.inf,
            free_delay_s=quality.free_delay_s if quality.patience_s else np.inf,
            patience_s=quality.patience_s or np.inf,
            **link,
        )

    def footprint(self, prompt_tokens: int, tokens: int, power_w: float) -> Footprint:
        """Emissions of one answered request, a row for each link of the chain."""
        downlink_j = float(self._link(self.downlink).transmission_j(tokens, power_w).item())
        downlink = Emission.of_energy(
            "response downlink", "RAN", 2, downlink_j, self.ran.intensity, "modelled", self.ran.pue
        )
        return self._before_decision(prompt_tokens) + Footprint(rows=(*self._token_rows(tokens), downlink))

    def _before_decision(self, prompt_tokens: int) -> Footprint:
        """Rows that the decision does not change."""
        if self.uplink is not None and self.user is None:
            raise UserError("service: user: missing; the uplink needs the intensity of the user's electricity")
        bits = prompt_tokens * self.token_bits
        prefill_j, device_s = self.costs.prefill_j, self.costs.prefill_device_s
        prefill = _energy(
            "prefill", "edge/cloud", None if prefill_j is None else prompt_tokens * prefill_j, self.data_centre
        )
        uplink_j = reception_j = None
        if self.uplink is not None:
            uplink_j = float(self._link(self.uplink).transmission_j(prompt_tokens, self.uplink.max_power_w).item())
            if self.reception_w is not None:
                reception_j = self.reception_w * self.uplink_s(prompt_tokens)
        rows = (
            _energy("prompt uplink", "user device", uplink_j, self.user, scope=3),
            _energy("base-station reception", "RAN", reception_j, self.ran),
            _energy("prompt transport", "core", self._transport_j(bits), self.ran),
            prefill,
            *self._hardware_rows("prefill", None if device_s is None else prompt_tokens * device_s),
        )
        return Footprint(rows=rows)

    def _token_rows(self, tokens: int) -> tuple[Emission, ...]:
        """Rows in proportion to the length of the answer, downlink excluded."""
        return (
            _energy("decode", "edge/cloud", tokens * self.costs.decode_j, self.data_centre),
            _energy("response transport", "core", self._transport_j(tokens * self.token_bits), self.ran),
            *self._hardware_rows("decode", tokens * self.costs.decode_device_s),
        )

    def _transport_j(self, bits: float) -> float | None:
        return None if self.transport_j_per_bit is None else bits * self.transport_j_per_bit

    def _hardware_rows(self, phase: str, device_s: float | None) -> tuple[Emission, ...]:
        if self.hardware is None or device_s is None:
            return (Emission(stage=f"embodied, {phase}", component="edge/cloud", scope=3),)
        return (Emission.of_hardware(f"embodied, {phase}", "edge/cloud", self.hardware, device_s),)


def _energy(stage: str, component: str, energy_j: float | None, site: Site | None, scope: Scope = 2) -> Emission:
    """A row of electricity; without joules or a site, it is not modelled."""
    if energy_j is None or site is None:
        return Emission(stage=stage, component=component, scope=scope)
    return Emission.of_energy(stage, component, scope, energy_j, site.intensity, "modelled", site.pue)


@dataclass(frozen=True)
class Materiality:
    """How much transmission matters in a request at its optimum.

    Attributes:
        transmission_fraction: part of the downlink in the footprint.
        half_bits: bits per token at which it would be a half.
        power_effect: relative rise of the footprint from the best power to the worst allowed one.
    """

    transmission_fraction: float
    half_bits: float
    power_effect: float

    def text(self) -> str:
        """One or two sentences, the weightiest first."""
        sentence = (
            f"Transmission is {self.transmission_fraction:.3g} of the footprint; it would be a half at "
            f"{self.half_bits / 1e3:.4g} kbit a token."
        )
        if self.power_effect < 0.01:
            return f"The choice of power changes the total by {self.power_effect:.2g}, under 1 %. {sentence}"
        return f"The choice of power changes the total by up to {self.power_effect:.1%}. {sentence}"


def materiality(requests: Requests) -> Materiality:
    """Materiality of transmission of one request.

    Args:
        requests: of shape ``(1,)``.

    Raises:
        UserError: if the request is infeasible; the message names the constraint.
    """
    optimum = solve(requests)
    if not optimum.feasible[0]:
        raise UserError(f"request: infeasible by its {optimum.binding[0]}; relax it, or choose another model or link")
    tokens, power = optimum.tokens, optimum.power_w
    sent_g = float((requests.array("radio_g_per_j") * requests.transmission_j(tokens, power)).item())
    total_g = float(optimum.footprint_g.item())
    low_w = np.maximum(lowest_power_w(requests, tokens), requests.array("min_power_w"))
    ends = np.stack([low_w, requests.array("max_power_w")])
    worst_g = float(requests[None].footprint_g(tokens, ends).max())
    token_bits = float(requests.array("token_bits").item())
    half_bits = token_bits * (total_g - sent_g) / sent_g
    return Materiality(sent_g / total_g, half_bits, worst_g / total_g - 1)
