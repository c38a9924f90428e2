"""BER of the classical chain against closed forms, within its own 99 % intervals."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad
from scipy.special import erfc

from channels import Channels, Grid, Scenario, SlotStream
from receivers.classical import PerfectCsiIrcReceiver, PerfectCsiReceiver
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.rates import rates
from receivers.evaluation.stopping import Evaluation

MODULATIONS = {"QPSK": 2, "16-QAM": 4, "64-QAM": 6, "256-QAM": 8}


def q_terms(num_bits: int) -> list[tuple[float, float]]:
    """BER of Gray square QAM as ``sum w Q(sqrt(2 c snr))`` (K. Cho, D. Yoon, IEEE Trans. Commun. 50(7), 2002)."""
    side = 2 ** (num_bits // 2)
    terms = []
    for k in range(1, num_bits // 2 + 1):
        for i in range(int((1 - 2**-k) * side)):
            sign = (-1) ** math.floor(i * 2 ** (k - 1) / side)
            weight = sign * (2 ** (k - 1) - math.floor(i * 2 ** (k - 1) / side + 0.5))
            scale = (2 * i + 1) ** 2 * 3 / (2 * (side**2 - 1))
            terms.append((2 * weight / side / (num_bits // 2), scale))
    return terms


def awgn_ber(num_bits: int, snr: float) -> float:
    return sum(w * 0.5 * erfc(math.sqrt(c * snr)) for w, c in q_terms(num_bits))


def rayleigh_ber(num_bits: int, snr: float, branches: int) -> float:
    """Average of each Q function over maximum-ratio combining (J. G. Proakis, Digital Communications, 14.4-15)."""

    def average(c: float) -> float:
        mu = math.sqrt(c * snr / (1 + c * snr))
        series = sum(math.comb(branches - 1 + k, k) * ((1 + mu) / 2) ** k for k in range(branches))
        return ((1 - mu) / 2) ** branches * series

    return sum(w * average(c) for w, c in q_terms(num_bits))


def simulate(tmp_path, model: str, modulation: str, num_rx: int, sinr_db: list[float], block: int) -> pd.DataFrame:
    scenario = Scenario.model_validate(
        {
            "name": "closed-form",
            "grid": Grid(num_prb=1, num_rx=num_rx, pilot_patterns=((2,),)),
            "modulations": [modulation],
            "channels": Channels.model_validate({"test": [model]}),
        }
    )
    evaluation = Evaluation(
        sinr_db=tuple(sinr_db), block_slots=block, min_slots=4 * block, max_slots=4 * block, target_slot_errors=10**9
    )
    stream = SlotStream(scenario, 11, block, "test")
    path = tmp_path / "ber.parquet"
    for _ in count_errors([PerfectCsiReceiver()], stream, evaluation, path):
        pass
    return rates(pd.read_parquet(path), level=0.99)


def assert_on_curve(table: pd.DataFrame, expected: list[float]) -> None:
    for row, truth in zip(table.itertuples(), expected, strict=True):
        assert row.ber_low <= truth <= row.ber_high, (row, truth)
        assert row.ber_high / row.ber_low < 1.6, "the interval is too wide to prove anything"


def snr_for(ber: float, num_bits: int, branches: int) -> float:
    """SNR in dB at which a closed form gives ``ber``; 0 branches mean AWGN."""
    low, high = -10.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        snr = 10 ** (middle / 10)
        ber_at_snr = rayleigh_ber(num_bits, snr, branches) if branches else awgn_ber(num_bits, snr)
        low, high = (middle, high) if ber_at_snr > ber else (low, middle)
    return round(middle, 1)


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_awgn(tmp_path, modulation: str) -> None:
    bits = MODULATIONS[modulation]
    points = sorted(snr_for(ber, bits, 0) for ber in (5e-2, 1e-2, 1e-3))
    table = simulate(tmp_path, "AWGN", modulation, 1, points, 200)
    assert_on_curve(table, [awgn_ber(bits, 10 ** (s / 10)) for s in points])


@pytest.mark.parametrize("branches", [1, 2, 4])
@pytest.mark.parametrize("modulation", MODULATIONS)
def test_flat_rayleigh(tmp_path, modulation: str, branches: int) -> None:
    bits = MODULATIONS[modulation]
    points = sorted(snr_for(ber, bits, branches) for ber in (1e-1, 1e-2))
    table = simulate(tmp_path, "Rayleigh", modulation, branches, points, 2500)
    assert_on_curve(table, [rayleigh_ber(bits, 10 ** (s / 10), branches) for s in points])


def optimum_combining_ber(num_bits: int, snr: float, inr: float, branches: int) -> float:
    """BER of optimum combining with one interferer, all gains Rayleigh (J. H. Winters, IEEE JSAC 2(4), 1984).

    Across the interferer's channel there are ``branches - 1`` gains at ``snr``, along it one at ``snr / (1 + inr x)``
    with x a sum of ``branches`` exponentials. Q functions are averaged in the form of J. W. Craig (IEEE MILCOM
    1991), ``Q(sqrt(2 c g)) = 1/pi int_0^(pi/2) exp(-c g / sin^2 t) dt``.
    """
    t = (np.arange(400) + 0.5) * math.pi / 800

    def integrand(x: float) -> float:
        def average(c: float) -> float:
            across = (1 + c * snr / np.sin(t) ** 2) ** -(branches - 1)
            return float((across / (1 + c * snr / (1 + inr * x) / np.sin(t) ** 2)).mean()) / 2

        density = x ** (branches - 1) * math.exp(-x) / math.factorial(branches - 1)
        return density * sum(w * average(c) for w, c in q_terms(num_bits))

    return float(quad(integrand, 0, 60, limit=200)[0])


@pytest.mark.parametrize(("branches", "inr_db"), [(1, 3.0), (2, 0.0), (2, 20.0), (4, 30.0)])
@pytest.mark.parametrize("modulation", ["QPSK", "16-QAM"])
def test_known_interference_in_flat_rayleigh(modulation: str, branches: int, inr_db: float) -> None:
    """Against optimum combining, with a Gaussian interferer and fresh gains of it in every RE."""
    scenario = Scenario.model_validate(
        {
            "name": "closed-form",
            "grid": Grid(num_prb=1, num_rx=branches, pilot_patterns=((2,),)),
            "modulations": [modulation],
            "channels": Channels(test=("Rayleigh",)),
        }
    )
    snr_db = 12.0
    slots = SlotStream(scenario, 11, 2500, "test").at_sinr(snr_db).block(0)
    generator = torch.Generator().manual_seed(1)
    shape = (len(slots), 1, *slots.y.shape[1:])
    g = 10 ** ((inr_db - snr_db) / 20) * torch.randn(shape, dtype=torch.complex64, generator=generator)
    symbols = torch.randn(len(slots), 1, *shape[3:], dtype=torch.complex64, generator=generator)
    slots = replace(slots, y=slots.y + g[:, 0] * symbols, h_interference=g)
    wrong = ((PerfectCsiIrcReceiver()(slots) > 0) != slots.bits.bool()) & slots.bit_mask
    rate = wrong.sum((1, 2, 3)) / slots.bit_mask.sum((1, 2, 3))  # per slot: slots are independent, REs of one are not
    truth = optimum_combining_ber(MODULATIONS[modulation], 10 ** (snr_db / 10), 10 ** (inr_db / 10), branches)
    error = float(rate.std()) / math.sqrt(len(slots))
    assert abs(float(rate.mean()) - truth) < 3.3 * error
    assert error < 0.15 * truth, "too few slots to prove anything"


def test_optimum_combining_without_its_interferer_is_maximum_ratio_combining() -> None:
    for branches in (1, 2, 4):
        expected = rayleigh_ber(4, 10.0, branches)
        assert optimum_combining_ber(4, 10.0, 0.0, branches) == pytest.approx(expected, rel=1e-3)


def test_closed_forms_agree_with_textbook_values() -> None:
    assert awgn_ber(2, 10 ** (0.96 + 0.301)) == pytest.approx(1e-5, rel=0.1)  # Eb/N0 9.6 dB
    assert rayleigh_ber(2, 2 * 10**2.4, 1) == pytest.approx(1e-3, rel=0.05)  # Eb/N0 24 dB
