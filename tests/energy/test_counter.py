import numpy as np
import pytest
import torch
from scipy.linalg import toeplitz
from torch import nn

from channels import Dmrs, Grid
from energy.counting.counter import count
from energy.estimation.estimators import ESTIMATORS
from energy.hardware.detect import device
from leanrx_core.errors import UserError
from receivers.classical.robust_estimation import frequency_lags
from receivers.neural.deeprx import DeepRx
from receivers.neural.network import Network
from receivers.neural.registry import build


@pytest.mark.parametrize(
    ("spec", "macs"),
    [("deeprx", 5_313_165_312), ("deeprx-w0.5", 1_395_244_032), ("deeprx-w0.25", 382_287_360), ("deeprx-d5", None)],
)
def test_published_macs(spec: str, macs: int | None) -> None:
    counted = count(spec, Grid())
    if macs is not None:
        assert counted.macs == macs
    else:
        assert counted.macs == pytest.approx(2.167e9, rel=5e-4)
    assert counted.cross_check_flops == counted.flops == 2 * counted.macs
    assert counted.counters_agree


class Hand(DeepRx):
    """Convolutions whose MACs fit on a napkin, on 10 x 14 x 12 inputs."""

    def __init__(self) -> None:
        Network.__init__(self, num_features=10, num_bits=4)
        self.depthwise = nn.Conv2d(10, 20, 3, padding=2, dilation=2, groups=10)
        self.norm = nn.BatchNorm2d(20)
        self.pointwise = nn.Conv2d(20, 4, 1, bias=False)
        self.skip = nn.Conv2d(10, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.pointwise(self.norm(self.depthwise(x))) + self.skip(x))


def test_hand_counted_net_and_nothing_dropped_in_silence() -> None:
    counted = count(Hand(), Grid(num_prb=1))
    positions = 14 * 12
    assert counted.macs == positions * (20 * 9 + 20 * 4 + 10 * 4)
    assert counted.parameters == 20 * 9 + 20 + 40 + 80 + 44
    assert counted.batch_norm_elements == 20 * positions
    assert counted.other_elements["sigmoid"] == counted.other_elements["add"] == 4 * positions


def test_a_hybrid_is_counted_with_its_front_end() -> None:
    grid, width, depth = Grid(num_prb=1, pilot_patterns=((2,),)), 4, 2
    counted = count(build(f"hybrid-w{width}-d{depth}"), grid)
    positions, data, found = 14 * 12, 13 * 12, 14
    inner = 3 * width
    of_state = depth * ((width + found) * inner + 15 * inner + inner * (width + 5)) + width * 8
    of_block = 3 + 7 + 1 + 7 + 2.5  # combining, soft symbols, comparing, interpolating
    whitening = 2 * 12 + 4 * 12 + 8 / 3 + 1.5 * (4 + 2) * positions + 2 * positions
    lags = frequency_lags(12, 15e3)
    rank = int((np.linalg.eigvalsh(toeplitz(lags, lags.conj())) > 1e-4).sum())
    estimate = 2 * (12 + 12 * rank + rank + 12 * rank + positions // 2)
    first_detection = 3 * data + 4 * data
    by_formula = int(4 * (estimate + first_detection + (depth * of_block + 5) * positions + whitening))
    assert counted.formula_macs == by_formula
    assert counted.macs == positions // 6 * of_state + by_formula
    assert counted.counters_agree
    assert counted.other_elements["_softmax"] == depth * 2 * 4 * positions
    assert counted.other_elements["exp"] >= 4 * 4 * data


def test_counting_leaves_the_mode_alone() -> None:
    net = build("deeprx-w0.03125-d3").train()
    count(net, Grid(num_prb=1))
    assert net.training


def test_classical_by_formula() -> None:
    one_pilot = Grid(num_prb=1, num_rx=2, pilot_patterns=((2,),))
    data = 13 * 12
    assert count("LS", one_pilot, num_bits=4).macs == 4 * (2 * 12 + 3 * data + 4 * data)
    assert count("perfect CSI", one_pilot, num_bits=2).macs == 4 * (3 + 2) * data
    assert count("LMMSE", one_pilot, num_bits=4).macs > count("LS", one_pilot, num_bits=4).macs
    assert count("perfect CSI-IRC", one_pilot, num_bits=2).macs == 4 * (3 + 9 + 2) * data
    exact, max_log = (count(name, one_pilot, num_bits=4) for name in ("LS", "LS max-log"))
    assert exact.macs == max_log.macs
    assert exact.other_elements == {"exp": 4 * 4 * data}
    assert max_log.other_elements == {"max": 4 * 4 * data}
    with pytest.raises(UserError):
        count("magic", one_pilot, num_bits=4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"precision": "banana"}, "precision: LMMSE is a classical receiver"),
        ({"precision": "int8"}, "precision: LMMSE is a classical receiver"),
        ({"training": True}, "training: LMMSE is a classical receiver"),
        ({"batch_slots": 0}, "batch_slots: 0 is not allowed"),
        ({"num_bits": 3}, "num_bits: 3"),
    ],
)
def test_what_has_no_effect_or_sense_is_refused(arguments: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        count("LMMSE", Grid(num_prb=1), **arguments)


def test_estimates_say_which_bytes_are_not_known() -> None:
    """The MACs of a formula are in every estimate, and their bytes in none."""
    profile, machine = count(build("hybrid-w2-d1"), Grid(num_prb=1)), device("generic")
    assert 0 < profile.formula_macs < profile.macs
    seconds = {e.name: e.estimate(profile, machine) for e in ESTIMATORS}
    assert seconds["FLOPs/clock"].duration_s == pytest.approx(2 * profile.macs / machine.peak_flops_per_s)
    assert seconds["FLOPs/W"].energy_j == pytest.approx(2 * profile.macs / machine.flops_per_w)
    assert seconds["roofline"].duration_s >= seconds["FLOPs/clock"].duration_s
    for name in ("roofline", "per operation"):
        assert f"bytes of {profile.formula_macs:,} MACs by formula are not known" in seconds[name].assumption
    training = count(build("hybrid-w2-d1"), Grid(num_prb=1), training=True)
    assert training.formula_macs == profile.formula_macs
    assert training.omitted == "the backward pass of the operations that are counted by formula"


def test_classical_on_a_comb() -> None:
    """Type 1 DMRS on symbols 2, 7 and 11 beside data: 6 of 12 subcarriers carry pilots, the others data."""
    grid = Grid(num_prb=2, num_rx=2, dmrs=Dmrs(additional_positions=(0, 2), cdm_groups_without_data=1))
    data = 11 * 24 + 3 * 12
    ls = 2 * 3 * 12 + 2 * 3 * 24 + 2 * 14 * 24 + (3 + 4) * data
    assert count("LS", grid, num_bits=4).macs == 4 * ls
    transform = 2 * (9 * 12 + 3 * 12**2 + 3 * 12) + 2 * (3 * 12 * 24 + 14 * 3 * 24)
    assert count("LMMSE", grid, num_bits=4).macs == 4 * (2 * 3 * 12 + transform + (3 + 4) * data)
