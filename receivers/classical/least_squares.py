"""Least-squares channel estimation: raw estimates at the pilots, averaged over CDM pairs and interpolated linearly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch

from channels import Slots
from receivers.classical.channel_estimation import LmmseEstimator, raw_estimate_macs
from receivers.classical.pilot_groups import PilotGroup, pilot_groups
from receivers.classical.slot_sizes import SlotSizes
from receivers.noise_power import noise_plus_interference_var


def ls_estimate(slots: Slots, extrapolate: torch.Tensor | None = None) -> torch.Tensor:
    """Least squares at the pilots, linear interpolation over subcarriers and then over symbols.

    Outside the outer pilots, the line through the two nearest estimates is continued, or the nearest one is repeated.
    The pilots of a 5G demodulation reference signal (TS 38.211, 6.4.1.1.3) come in pairs of a code-division multiplex
    (CDM) group. The mean of two such estimates stands in the middle between them. Sionna averages them too.

    Args:
        slots: received slots.
        extrapolate: whether each slot continues the line, bool ``(B,)``. Default: all do.

    Returns:
        complex64 ``(B, R, S, F)``.

    Example:
        >>> from channels import SlotStream, scenario
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=4, split="test").at_sinr(60).block(0)
        >>> error = (ls_estimate(slots) - slots.h)[:, :, 2]  # at the pilot symbol
        >>> bool(error.abs().max() < 0.01)
        True
    """
    h = torch.empty_like(slots.y)
    num_symbols, num_subcarriers = h.shape[2:]
    if extrapolate is None:
        extrapolate = torch.ones(len(slots), dtype=torch.bool, device=h.device)
    for group in pilot_groups(slots):
        positions = _positions(group, num_subcarriers)
        for is_line in extrapolate[group.indices].unique().tolist():
            part = replace(group, indices=group.indices[extrapolate[group.indices] == is_line])
            raw, _ = part.raw_estimates(slots)
            raw = positions.subcarriers.mean(positions.symbols.mean(raw, dim=2), dim=3)
            over_subcarriers = positions.subcarriers.interpolate(raw, num_subcarriers, 3, is_line)
            h[part.indices] = positions.symbols.interpolate(over_subcarriers, num_symbols, 2, is_line)
    return h


class LsErrorPower:
    """Error power of :func:`ls_estimate`, and whether a slot should continue the line beyond the outer pilots.

    The noise of the pilots passes with the squared weights of the interpolation. With a covariance
    ``R_t kron R_f`` of the channel and weights ``W = W_t kron W_f``, the interpolation adds
    ``diag(R - 2 Re(W R_p) + W R_pp W^H)``. Both depend on the pilots alone, so a receiver reads them from a table.
    Continuing the line amplifies noise, so repeating the nearest estimate is better at low SINR. A slot takes the one
    with the smaller mean error power.

    Args:
        covariance: of the channel. Without it, the error of the interpolation is left out, and all slots continue the
            line.
    """

    def __init__(self, covariance: LmmseEstimator | None = None) -> None:
        self._covariance = covariance
        self._cache: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean error power of each RE, float32 ``(B, S, F)``, and the choice of each slot, bool ``(B,)``.

        Args:
            slots: received slots, whose noise-plus-interference power is known.
        """
        error_var, var_of_slot = torch.empty_like(slots.pilots.real), noise_plus_interference_var(slots)
        extrapolate = torch.ones(len(slots), dtype=torch.bool, device=error_var.device)
        for group in pilot_groups(slots):
            _, power = group.raw_estimates(slots)
            var = (var_of_slot[group.indices] / power)[:, None, None]
            noise_gain, interpolation_var = self._table(group, True, *error_var.shape[1:])
            error_var[group.indices] = var * noise_gain + interpolation_var
            if self._covariance is not None:
                noise_gain, interpolation_var = self._table(group, False, *error_var.shape[1:])
                repeated = var * noise_gain + interpolation_var
                is_better = repeated.mean((1, 2)) < error_var[group.indices].mean((1, 2))
                error_var[group.indices[is_better]] = repeated[is_better]
                extrapolate[group.indices[is_better]] = False
        return error_var, extrapolate

    def _table(
        self, group: PilotGroup, extrapolate: bool, num_symbols: int, num_subcarriers: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gain of the noise and error power of the interpolation, both float32 ``(S, F)``."""
        key = (extrapolate, *group.symbols.tolist(), -1, *group.subcarriers.tolist())
        if key not in self._cache:
            positions = _positions(group, num_subcarriers)
            weights_t = positions.symbols.weights(num_symbols, extrapolate)
            weights_f = positions.subcarriers.weights(num_subcarriers, extrapolate)
            gain = torch.outer(weights_t.square().sum(1), weights_f.square().sum(1))
            error = torch.zeros_like(gain)
            if self._covariance is not None:
                terms_t = _error_terms(self._covariance.time.cpu(), weights_t, group.symbols)
                terms_f = _error_terms(self._covariance.frequency.cpu(), weights_f, group.subcarriers)
                prior, cross, passed = (torch.outer(t, f) for t, f in zip(terms_t, terms_f, strict=True))
                error = (prior - 2 * cross + passed).real
            device = group.indices.device
            self._cache[key] = gain.float().to(device), error.clamp_min(0).float().to(device)
        return self._cache[key]


def ls_estimate_macs(sizes: SlotSizes) -> int:
    """Complex MACs of :func:`ls_estimate`.

    The raw estimates, and two neighbours with real weights (half a complex MAC each) for each interpolated value: over
    subcarriers ``R P F`` where Q < F, over symbols ``R S F`` where P > 1. Means of CDM pairs are additions.
    """
    r, s, f, p, q, _ = sizes
    return raw_estimate_macs(sizes) + (r * p * f if q < f else 0) + (r * s * f if p > 1 else 0)


@dataclass(frozen=True)
class _AxisPositions:
    """Positions of estimates on one axis.

    Attributes:
        centres: positions of the estimates, increasing, float64 ``(N,)``.
        average: number of neighbouring pilots that an estimate is the mean of: 1 or 2.
    """

    centres: torch.Tensor
    average: int

    @classmethod
    def of(cls, pilots: torch.Tensor, average: int) -> Self:
        """Positions of estimates that are each the mean of ``average`` neighbouring pilots."""
        return cls(pilots.double().unflatten(0, (-1, average)).mean(1), average)

    def mean(self, raw: torch.Tensor, dim: int) -> torch.Tensor:
        """Mean of the raw estimates that belong together."""
        return raw if self.average == 1 else raw.unflatten(dim, (-1, self.average)).mean(dim + 1)

    def interpolate(self, values: torch.Tensor, count: int, dim: int, extrapolate: bool) -> torch.Tensor:
        """Linear interpolation along ``dim`` to all positions ``0..count - 1``."""
        if len(self.centres) == 1:
            shape = list(values.shape)
            shape[dim] = count
            return values.expand(shape)
        if len(self.centres) == count and self.average == 1:
            return values
        targets = torch.arange(count, dtype=torch.float64)
        if not extrapolate:
            targets = targets.clamp(float(self.centres[0]), float(self.centres[-1]))
        right = torch.searchsorted(self.centres, targets).clamp(1, len(self.centres) - 1)
        left_position, right_position = self.centres[right - 1], self.centres[right]
        weight = (targets - left_position) / (right_position - left_position)
        weight = weight.to(values.dtype).view([-1 if d == dim else 1 for d in range(values.dim())]).to(values.device)
        right = right.to(values.device)
        return values.index_select(dim, right - 1).lerp(values.index_select(dim, right), weight)

    def weights(self, count: int, extrapolate: bool) -> torch.Tensor:
        """Weights of the raw estimates in each interpolated value, float64 ``(count, pilots)``."""
        identity = torch.eye(len(self.centres) * self.average, dtype=torch.float64, device=self.centres.device)
        return self.interpolate(self.mean(identity, 0), count, 0, extrapolate)


@dataclass(frozen=True)
class _Positions:
    """Positions of the estimates of a group of slots."""

    symbols: _AxisPositions
    subcarriers: _AxisPositions


def _positions(group: PilotGroup, num_subcarriers: int) -> _Positions:
    """Where the estimates stand: at the pilots, or in the middle of the CDM pairs of a comb.

    In a comb of 5G, neighbouring pilots are pairs. Double-symbol DMRS also has pairs of neighbouring symbols.
    """
    is_comb = 2 * len(group.subcarriers) <= num_subcarriers and len(group.subcarriers) % 2 == 0
    steps = group.symbols.diff()[::2]
    is_double = is_comb and len(group.symbols) % 2 == 0 and bool((steps == 1).all())
    return _Positions(
        _AxisPositions.of(group.symbols, 2 if is_double else 1),
        _AxisPositions.of(group.subcarriers, 2 if is_comb else 1),
    )


def _error_terms(
    covariance: torch.Tensor, weights: torch.Tensor, pilots: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Diagonals of ``R``, ``W R_p`` and ``W R_pp W^H`` of one axis, complex128 ``(N,)``."""
    weights = weights.to(covariance.dtype)
    cross = (weights * covariance[pilots].T).sum(1)
    passed = (weights @ covariance[pilots][:, pilots] * weights).sum(1)
    return covariance.diagonal(), cross, passed
