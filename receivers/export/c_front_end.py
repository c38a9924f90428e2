"""Constants of the front end of C files: pilot layouts, and the eigenbases of LMMSE channel estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from channels import NUM_SYMBOLS
from channels.grid import SUBCARRIERS_PER_PRB
from channels.pilots import DmrsLayout
from receivers.classical.channel_estimation import LmmseEstimator
from receivers.classical.robust_estimation import WINDOW_PRB, frequency_basis, time_basis
from receivers.export.c_constants import c_array, float64

MIN_EIGENVALUE = 1e-7
"""Smaller eigenvalues of a scenario's covariance are left out; their mean is 1. Noise hides them up to 60 dB SINR."""


def pilots_of_prb(layout: DmrsLayout) -> tuple[int, ...]:
    """Subcarriers of a resource block with pilots."""
    return tuple(i for i, has_pilot in enumerate(layout.has_pilot) if has_pilot)


def layout_constants(layouts: list[DmrsLayout]) -> str:
    """The array ``LAYOUTS``."""
    rows = ",\n".join(
        f"{{.num_symbols = {len(layout.symbols)}, .symbols = {{{', '.join(map(str, layout.symbols))}}}, "
        f".num_pilots = {sum(layout.has_pilot)}, .pilots = {{{', '.join(map(str, pilots_of_prb(layout)))}}}, "
        f".has_data = {{{', '.join(str(int(d)) for d in layout.has_data)}}}}}"
        for layout in layouts
    )
    return f"#define NUM_LAYOUTS {len(layouts)}\nstatic const Layout LAYOUTS[] = {{\n{rows}\n}};"


def describe_layout(layout: DmrsLayout) -> str:
    """Where the pilots are, for people."""
    pilots = pilots_of_prb(layout)
    where = "all subcarriers" if len(pilots) == SUBCARRIERS_PER_PRB else f"subcarriers {', '.join(map(str, pilots))}"
    return f"symbols {', '.join(map(str, layout.symbols))}, {where} of each resource block"


@dataclass(frozen=True)
class _TimeConstants:
    """Eigenbasis over P pilot symbols: values ``(P,)``, vectors ``(P, P)``, out ``(S, P)`` and prior power ``(S,)``."""

    values: NDArray[np.float64]
    vectors: NDArray[np.complex128]
    out: NDArray[np.complex128]
    prior: NDArray[np.float64]

    def initialiser(self) -> str:
        parts = [self.values, self.vectors.real, self.vectors.imag, self.out.real, self.out.imag, self.prior]
        return "{" + ",\n".join(c_array(part) for part in parts) + "}"


@dataclass(frozen=True)
class _FrequencyConstants:
    """Eigenbasis over V pilots of a window of W resource blocks, Q eigenvalues, errors at N positions.

    Attributes:
        values: ``(Q,)``.
        vectors: ``(V, Q)``.
        out: ``(W, Q, 12)``.
        gain, pilot_gain: ``(N, Q)``.
        omitted_power: mean power of a pilot that the eigenvalues leave out, ``(N,)``.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.complex128]
    out: NDArray[np.complex128]
    gain: NDArray[np.float64]
    pilot_gain: NDArray[np.float64]
    omitted_power: NDArray[np.float64]

    def initialiser(self) -> str:
        literals = {
            "vectors_re": self.vectors.real,
            "vectors_im": self.vectors.imag,
            "out_re": self.out.real,
            "out_im": self.out.imag,
        }
        arrays = {
            "values": self.values,
            "gain": self.gain,
            "pilot_gain": self.pilot_gain,
            "omitted_gain": 1 - self.pilot_gain.sum(1),
            "omitted_power": self.omitted_power,
        }
        fields = [f".{name} = {c_array(values)}" for name, values in arrays.items()]
        for name, values in literals.items():
            sizes = f"[{len(values)}][MAX_RANK]" + "[12]" * (values.ndim - 2)
            fields.append(f".{name} = (const float{sizes}){c_array(values)}")
        return "{" + ", ".join([f".window = {len(self.out)}, .rank = {len(self.values)}", *fields]) + "}"


@dataclass(frozen=True)
class EstimatorConstants:
    """An LMMSE channel estimator as constants: bases by layout, and by window where there are several.

    Attributes:
        time, frequency: bases.
        is_sliding: whether a window slides over wider grids.
        reference: name of the function of leanrx that computes the same.
    """

    time: list[_TimeConstants]
    frequency: list[list[_FrequencyConstants]]
    is_sliding: bool
    reference: str

    @classmethod
    def robust(cls, layouts: list[DmrsLayout], subcarrier_spacing_hz: int) -> Self:
        """The estimator of :func:`receivers.classical.robust_lmmse_estimate`, for any bandwidth."""
        time, frequency = [], []
        for layout in layouts:
            basis = time_basis(tuple(layout.symbols), "cpu")
            time.append(
                _TimeConstants(float64(basis.values), basis.vectors.numpy(), basis.out.numpy(), np.ones(NUM_SYMBOLS))
            )
            frequency.append(
                [
                    _robust_frequency(pilots_of_prb(layout), subcarrier_spacing_hz, window, time[-1].values.mean())
                    for window in range(1, WINDOW_PRB + 1)
                ]
            )
        return cls(time, frequency, True, "robust_lmmse_estimate")

    @classmethod
    def of_covariance(cls, covariance: LmmseEstimator, layouts: list[DmrsLayout], num_prb: int) -> Self:
        """The estimator of :meth:`receivers.classical.LmmseEstimator.estimate`, for one bandwidth."""
        time, frequency = [], []
        for layout in layouts:
            values, vectors, out, _ = covariance.time_basis(torch.tensor(layout.symbols))
            prior = (covariance.time.diagonal() * covariance.frequency.diagonal().mean()).real
            time.append(_TimeConstants(float64(values), vectors.numpy(), out.numpy(), float64(prior)))
            prb = np.arange(num_prb) * SUBCARRIERS_PER_PRB
            pilots = torch.from_numpy(np.add.outer(prb, pilots_of_prb(layout)).ravel())
            frequency.append([_whole_grid(covariance.frequency_basis(pilots), num_prb)])
        return cls(time, frequency, False, "LmmseEstimator")

    @property
    def bases(self) -> list[_FrequencyConstants]:
        """All bases over frequency."""
        return [basis for by_window in self.frequency for basis in by_window]

    def values(self, layouts: list[DmrsLayout]) -> dict[str, str]:
        """Values of the template."""
        time = ",\n".join(basis.initialiser() for basis in self.time)
        frequency = ",\n".join("{" + ",\n".join(b.initialiser() for b in row) + "}" for row in self.frequency)
        return {
            "WINDOW": str(max(len(basis.out) for basis in self.bases)),
            "WINDOWS": str(len(self.frequency[0])),
            "POSITIONS": str(max(len(basis.gain) for basis in self.bases)),
            "COMPLEX_TIME": str(int(any(abs(b.vectors.imag).max() + abs(b.out.imag).max() > 0 for b in self.time))),
            "IS_SLIDING": str(int(self.is_sliding)),
            "MAX_RANK": str(max(len(basis.values) for basis in self.bases)),
            "MAX_PILOTS_PER_PRB": str(max(sum(layout.has_pilot) for layout in layouts)),
            "ESTIMATOR": self.reference,
            "BASES": f"static const TimeBasis TIME_BASES[] = {{\n{time}\n}};\n\n"
            f"static const FrequencyBasis FREQUENCY_BASES[][WINDOWS] = {{\n{frequency}\n}};",
        }


def _robust_frequency(
    pilots: tuple[int, ...], subcarrier_spacing_hz: int, window: int, mean_time_value: float
) -> _FrequencyConstants:
    basis = frequency_basis(pilots, subcarrier_spacing_hz, window, "cpu")
    values, pilot_gain = float64(basis.values), float64(basis.pilot_gain)
    omitted_power = 1 - mean_time_value * (pilot_gain @ values)
    out = basis.out.mT.numpy()
    return _FrequencyConstants(values, basis.vectors.numpy(), out, float64(basis.gain), pilot_gain, omitted_power)


def _whole_grid(basis: tuple[torch.Tensor, ...], num_prb: int) -> _FrequencyConstants:
    values, vectors, out, gain = basis
    significant = values > MIN_EIGENVALUE
    num_values, num_pilots = int(significant.sum()), len(values)
    by_prb = out[:, significant].numpy().reshape(num_prb, SUBCARRIERS_PER_PRB, num_values).swapaxes(1, 2)
    return _FrequencyConstants(
        float64(values[significant]),
        vectors[:, significant].numpy(),
        by_prb,
        float64(gain.mean(0)[significant])[None],
        np.full((1, num_values), 1 / num_pilots),
        np.zeros(1),
    )
