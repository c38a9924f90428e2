"""Requests to a language model over a radio link, as arrays: footprint, time and quality of a decision.

A decision is the number of output tokens ``k`` and the transmit power ``P``. With energy per token ``e``, static power
``A``, slope ``d``, ``b`` bits per token and mean rate ``R(P)``::

    footprint  = fixed + k (g_token + g_radio b (A + d P) / R(P))
    time       = fixed + k (s_token + b / R(P))
    quality    = ln(1 + k / k0) / ln(1 + k_max / k0)       (Weber-Fechner)
    with delay = quality exp(-max(0, time - free delay) / patience)
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from carbon.aolo.ergodic_rate import spectral_efficiency
from leanrx_core.errors import UserError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Requests:
    """Requests of one service. All attributes are floats or arrays that broadcast to one shape ``(requests,)``.

    Attributes:
        fixed_g: emissions that the decision does not change: prompt, prefill and uplink, gCO2e.
        token_g: emissions of computing one output token, embodied ones included, gCO2e.
        radio_g_per_j: emissions of one joule at the transmitter, gCO2e.
        fixed_s, token_s: time before the first token, and of computing one, s.
        token_bits: bits sent per token, overhead included.
        bandwidth_hz: of the link.
        snr_per_w: mean SNR per watt of transmit power.
        rayleigh: 1 where the link fades.
        static_w, slope: static power of the transmitter, W, and watts consumed per watt sent.
        min_power_w, max_power_w: bounds of the transmit power.
        min_tokens, max_tokens: bounds of the output length.
        token_scale: ``k0`` of the quality.
        min_quality: lowest quality that is allowed.
        deadline_s: longest time that is allowed; infinity without one.
        free_delay_s, patience_s: of the quality with delay; infinity for a quality without delay.

    Raises:
        UserError: if bounds cross, or a value is not allowed.
    """

    fixed_g: ArrayLike
    token_g: ArrayLike
    radio_g_per_j: ArrayLike
    fixed_s: ArrayLike
    token_s: ArrayLike
    token_bits: ArrayLike
    bandwidth_hz: ArrayLike
    snr_per_w: ArrayLike
    rayleigh: ArrayLike
    static_w: ArrayLike
    slope: ArrayLike
    min_power_w: ArrayLike
    max_power_w: ArrayLike
    min_tokens: ArrayLike
    max_tokens: ArrayLike
    token_scale: ArrayLike
    min_quality: ArrayLike
    deadline_s: ArrayLike = np.inf
    free_delay_s: ArrayLike = np.inf
    patience_s: ArrayLike = np.inf

    def __post_init__(self) -> None:
        names = [f.name for f in fields(self)]
        values = np.broadcast_arrays(*(np.asarray(getattr(self, n), dtype=float) for n in names))
        for name, value in zip(names, values, strict=True):
            object.__setattr__(self, name, value)
            low, open_low = (0.0, True) if name in _POSITIVE else (0.0, False)
            allowed = (value > low if open_low else value >= low) & (np.isfinite(value) | (name in _UNBOUNDED))
            if not allowed.all():
                limit = "above 0" if open_low else "of 0 or more"
                raise UserError(f"requests: {name}: {value[~allowed].flat[0]:g} is not allowed; give a number {limit}")
        for low_name, high_name in (("min_power_w", "max_power_w"), ("min_tokens", "max_tokens")):
            low_end, high_end = self.array(low_name), self.array(high_name)
            if not (low_end <= high_end).all():
                index = int(np.argmax(low_end > high_end))
                raise UserError(
                    f"requests: {low_name} {low_end.flat[index]:g} is above {high_name} {high_end.flat[index]:g}; "
                    "write the lower bound first"
                )

    def array(self, name: str) -> Array:
        """One attribute as an array."""
        return np.asarray(getattr(self, name))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all attributes."""
        return self.array("fixed_g").shape

    def __getitem__(self, index: Any) -> Self:
        """Some of the requests, or a new axis, as numpy's indexing."""
        return type(self)(**{f.name: self.array(f.name)[index] for f in fields(self)})

    def rate_bps(self, power_w: ArrayLike) -> Array:
        """Mean rate at a transmit power, bit/s."""
        snr = np.asarray(power_w, dtype=float) * self.array("snr_per_w")
        return self.array("bandwidth_hz") * spectral_efficiency(snr, self.array("rayleigh") > 0)

    def transmission_j(self, tokens: ArrayLike, power_w: ArrayLike) -> Array:
        """Energy of the transmitter while it sends the tokens, J."""
        power = np.asarray(power_w, dtype=float)
        consumed_w = self.array("static_w") + self.array("slope") * power
        return consumed_w * np.asarray(tokens) * self.array("token_bits") / self.rate_bps(power)

    def footprint_g(self, tokens: ArrayLike, power_w: ArrayLike) -> Array:
        """Emissions of a decision, gCO2e."""
        computed = self.array("fixed_g") + np.asarray(tokens) * self.array("token_g")
        return computed + self.array("radio_g_per_j") * self.transmission_j(tokens, power_w)

    def time_s(self, tokens: ArrayLike, power_w: ArrayLike) -> Array:
        """Time until the last token has arrived, s."""
        per_token = self.array("token_s") + self.array("token_bits") / self.rate_bps(power_w)
        return self.array("fixed_s") + np.asarray(tokens) * per_token

    def length_quality(self, tokens: ArrayLike) -> Array:
        """Quality of a length, without delay, from 0 to 1."""
        scale = self.array("token_scale")
        return np.log1p(np.asarray(tokens) / scale) / np.log1p(self.array("max_tokens") / scale)

    def quality(self, tokens: ArrayLike, power_w: ArrayLike) -> Array:
        """Quality of a decision, with delay where the requests have a patience."""
        late_s = np.maximum(self.time_s(tokens, power_w) - self.array("free_delay_s"), 0.0)
        return self.length_quality(tokens) * np.exp(-late_s / self.array("patience_s"))


_POSITIVE = {"token_bits", "bandwidth_hz", "snr_per_w", "slope", "min_power_w", "max_power_w", "min_tokens"}
_POSITIVE |= {"max_tokens", "token_scale", "deadline_s", "patience_s"}
_UNBOUNDED = {"deadline_s", "free_delay_s", "patience_s"}
