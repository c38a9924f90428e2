"""The classical receivers: baselines of the learned ones, and genie-aided bounds."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property, lru_cache
from typing import ClassVar, TypeGuard

import torch

from channels import Grid, Scenario, Slots
from leanrx_core.errors import UserError
from receivers.base import FormulaCount, Receiver
from receivers.classical.channel_estimation import Covariance, lmmse_estimate_macs
from receivers.classical.combining import (
    debias_covariance,
    genie_whitening_macs,
    mmse_irc_combine,
    mmse_irc_macs,
    mrc,
    mrc_macs,
    residual_covariance,
    whiten_with_genie_csi,
)
from receivers.classical.demapping import Demapper, demap, demap_elements, demap_macs
from receivers.classical.least_squares import LsErrorPower, ls_estimate, ls_estimate_macs
from receivers.classical.slot_sizes import SlotSizes
from receivers.noise_power import check_powers, is_power, noise_plus_interference_var

GENIE_AIDED = ("perfect CSI", "perfect CSI-IRC")
"""Names of the receivers that know the true channel, which no real receiver does."""

_MAX_LOG = " max-log"


class ClassicalReceiver(ABC):
    """Symbol estimates, then LLRs by a demapper: a :class:`receivers.base.Receiver`.

    Args:
        version: fingerprint of the symbol estimates.
        demapper: exact or max-log.

    Attributes:
        label: name in tables and figures; with the max-log demapper, ``name`` ends in ``" max-log"``.
        name, digest: as of every receiver.
    """

    label: ClassVar[str]

    def __init__(self, version: str, demapper: Demapper) -> None:
        self.name = self.label if demapper == "app" else f"{self.label}{_MAX_LOG}"
        self.digest = f"classical/{version}/{demapper}"
        self._demapper = demapper

    @abstractmethod
    def symbols(self, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        """Estimate the symbols of slots.

        Returns:
            Unbiased symbol estimates, complex64, and their error power, float32, both ``(B, S, F)``.
        """

    @staticmethod
    @abstractmethod
    def symbol_macs(sizes: SlotSizes) -> float:
        """Complex MACs of :meth:`symbols` on one slot."""

    def __call__(self, slots: Slots) -> torch.Tensor:
        z, error_var = self.symbols(slots)
        return demap(z, error_var, slots.bits_per_symbol, slots.bits.shape[1], self._demapper)


class LsReceiver(ClassicalReceiver):
    """Least squares, linear interpolation, maximum-ratio combining: the practical baseline.

    The error power of its estimate is added to the noise in the demapper. A slot continues the interpolation beyond its
    outer pilots, or repeats the nearest estimate, see :class:`receivers.classical.LsErrorPower`.

    Args:
        demapper: exact or max-log.
        scenario: conditions whose covariance gives the error power of the interpolation. Without it, all slots continue
            the line. The error power is then only the noise that the interpolation passes, and LLRs are overconfident
            where the channel changes.
        device: torch device of the slots.
    """

    label = "LS"

    def __init__(self, demapper: Demapper = "app", scenario: Scenario | None = None, device: str = "cpu") -> None:
        super().__init__("ls/4" if scenario is None else f"ls/4/{_fingerprint(scenario)}", demapper)
        self._scenario, self._device = scenario, device

    @cached_property
    def _error_power(self) -> LsErrorPower:
        return LsErrorPower(None if self._scenario is None else _test_covariance(self._scenario, self._device))

    def symbols(self, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        error_var, extrapolate = self._error_power(slots)
        return mrc(slots.y, ls_estimate(slots, extrapolate), _noise_plus_interference_var(slots) + error_var)

    @staticmethod
    def symbol_macs(sizes: SlotSizes) -> float:
        return ls_estimate_macs(sizes) + mrc_macs(sizes)


class LmmseReceiver(ClassicalReceiver):
    """LMMSE channel estimation with the covariance of the test channels, which favours this receiver.

    Args:
        scenario: conditions whose covariance is used.
        device: torch device of the slots.
        demapper: exact or max-log.

    Attributes:
        scenario: as given.

    Example:
        >>> from channels import SlotStream, scenario
        >>> conditions = scenario("tdl-6prb")
        >>> slots = SlotStream(conditions, seed=1, block_slots=2, split="test").at_sinr(20).block(0)
        >>> receiver = LmmseReceiver(conditions)
        >>> tuple(receiver(slots).shape) == tuple(slots.bits.shape)
        True
    """

    label = "LMMSE"

    def __init__(self, scenario: Scenario, device: str = "cpu", demapper: Demapper = "app") -> None:
        super().__init__(f"lmmse/4/{_fingerprint(scenario)}", demapper)
        self.scenario, self._device = scenario, device

    @property
    def covariance(self) -> Covariance:
        """Covariance of the channel, computed at first use."""
        return _test_covariance(self.scenario, self._device)

    def symbols(self, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        h, error_var = self.covariance.estimate(slots)
        return mrc(slots.y, h, _noise_plus_interference_var(slots) + error_var[:, 0])

    @staticmethod
    def symbol_macs(sizes: SlotSizes) -> float:
        return lmmse_estimate_macs(sizes) + mrc_macs(sizes)


class LmmseIrcReceiver(ClassicalReceiver):
    """LMMSE channel estimation as :class:`LmmseReceiver`, and MMSE interference rejection combining (IRC).

    The channel estimate uses the given mean noise-plus-interference power. The covariance across antennas is estimated
    from the pilots of each slot.

    Args:
        scenario, device, demapper: as for :class:`LmmseReceiver`.

    Attributes:
        scenario: as given.
    """

    label = "LMMSE-IRC"

    def __init__(self, scenario: Scenario, device: str = "cpu", demapper: Demapper = "app") -> None:
        super().__init__(f"lmmse-irc/4/{_fingerprint(scenario)}", demapper)
        self.scenario, self._device = scenario, device

    @property
    def covariance(self) -> Covariance:
        """Covariance of the channel, computed at first use."""
        return _test_covariance(self.scenario, self._device)

    def symbols(self, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        estimator = self.covariance
        h, error = estimator.estimate(slots)
        errors = estimator.error_decomposition(slots, error)
        covariance = debias_covariance(residual_covariance(slots, h), errors, noise_plus_interference_var(slots))
        scale = 1 + errors.gain  # the covariance at a data RE is (1 + gain) C + estimation_error_var I
        z, error_var = mmse_irc_combine(slots.y, h, covariance, errors.estimation_error_var / scale)
        return z, error_var * scale

    @staticmethod
    def symbol_macs(sizes: SlotSizes) -> float:
        return lmmse_estimate_macs(sizes) + mmse_irc_macs(sizes) + mrc_macs(sizes)


class PerfectCsiReceiver(ClassicalReceiver):
    """The true channel in place of an estimate: a bound for receivers that treat interference as white noise.

    Args:
        demapper: exact or max-log.
    """

    label = "perfect CSI"

    def __init__(self, demapper: Demapper = "app") -> None:
        super().__init__("perfect-csi/1", demapper)

    def symbols(self, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        var = _noise_plus_interference_var(slots)
        check_powers("noise_plus_interference_var", is_power(var))  # others check it with the pilots
        return mrc(slots.y, slots.h, var)

    @staticmethod
    def symbol_macs(sizes: SlotSizes) -> float:
        return mrc_macs(sizes)


class PerfectCsiIrcReceiver(ClassicalReceiver):
    """The true channels of all transmitters: a bound for receivers that reject interference by linear combining.

    It is a bound while the interferer's delay is below the cyclic prefix. Then its channel alone determines the
    covariance across antennas. Beyond the prefix, an FFT window holds parts of two symbols of the interferer, whose
    subcarriers leak into each other. Then the true covariance is another one, and :class:`LmmseIrcReceiver`, which
    measures it, can have fewer block errors.

    Args:
        demapper: exact or max-log.
    """

    label = "perfect CSI-IRC"

    def __init__(self, demapper: Demapper = "app") -> None:
        super().__init__("perfect-csi-irc/1", demapper)

    def symbols(self, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        return mrc(*whiten_with_genie_csi(slots), slots.noise_var[:, None, None])

    @staticmethod
    def symbol_macs(sizes: SlotSizes) -> float:
        return genie_whitening_macs(sizes) + mrc_macs(sizes)


def classical_receivers(scenario: Scenario, device: str = "cpu") -> list[Receiver]:
    """The classical receivers of a scenario, weakest first (without interference).

    Args:
        scenario: conditions under test.
        device: torch device of the slots.

    Returns:
        LS, LMMSE, LMMSE-IRC and perfect CSI; perfect CSI-IRC too where the scenario has interference.

    Example:
        >>> from channels import scenario
        >>> [receiver.name for receiver in classical_receivers(scenario("tdl-6prb"))]
        ['LS', 'LMMSE', 'LMMSE-IRC', 'perfect CSI', 'perfect CSI-IRC']
    """
    receivers: list[Receiver] = [
        LsReceiver(scenario=scenario, device=device),
        LmmseReceiver(scenario, device),
        LmmseIrcReceiver(scenario, device),
        PerfectCsiReceiver(),
    ]
    if any(interferer.probability > 0 for interferer in scenario.interferers):
        receivers.append(PerfectCsiIrcReceiver())
    return receivers


def is_exact_lmmse(receiver: Receiver) -> TypeGuard[LmmseReceiver | LmmseIrcReceiver]:
    """Whether a receiver is LMMSE or LMMSE-IRC with exact LLRs, which can be exported."""
    return isinstance(receiver, LmmseReceiver | LmmseIrcReceiver) and receiver.name == receiver.label


_CLASSES: dict[str, type[ClassicalReceiver]] = {
    cls.label: cls for cls in (LsReceiver, LmmseReceiver, LmmseIrcReceiver, PerfectCsiReceiver, PerfectCsiIrcReceiver)
}


def formula_count(name: str, grid: Grid, num_bits: int) -> FormulaCount:
    """Operations of a classical receiver on one slot, by formula.

    The slot has the grid's pilot pattern with the most pilot symbols. Every algorithm states its own count, see
    :meth:`ClassicalReceiver.symbol_macs` and :func:`receivers.classical.demapping.demap_macs`. A complex MAC is four
    real MACs.

    Args:
        name: a classical receiver, such as ``"LMMSE"``, or with the max-log demapper, such as ``"LMMSE max-log"``.
        grid: sets antennas, pilots and data REs.
        num_bits: bits per symbol K.

    Raises:
        UserError: if ``name`` is not a classical receiver.

    Example:
        >>> from channels import scenario
        >>> formula_count("LS", scenario("tdl-6prb").grid, num_bits=4)
        FormulaCount(macs=26784, elements={'exp': 14976})
    """
    label = name.removesuffix(_MAX_LOG)
    if label not in _CLASSES:
        raise UserError(f"receiver: no formula for '{name}'; formulas: {', '.join(_CLASSES)}")
    sizes = SlotSizes.of(grid)
    complex_macs = _CLASSES[label].symbol_macs(sizes) + demap_macs(sizes, num_bits)
    return FormulaCount(int(4 * complex_macs), demap_elements(sizes, num_bits, "app" if name == label else "maxlog"))


@lru_cache(maxsize=8)
def _test_covariance(scenario: Scenario, device: str) -> Covariance:
    """The covariance of a scenario, computed at first use and shared by its receivers."""
    return Covariance(scenario, device=device)


def _fingerprint(scenario: Scenario) -> str:
    """Hash of all parts of a scenario that affect the covariance."""
    return hashlib.sha256(scenario.slots_json.encode()).hexdigest()[:16]


def _noise_plus_interference_var(slots: Slots) -> torch.Tensor:
    """Mean noise-plus-interference power, float32 ``(B, 1, 1)``."""
    return noise_plus_interference_var(slots)[:, None, None]
