"""Receivers in torch refuse the noise powers that exported files refuse, in the same words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from factories import perturbed_receiver

from channels import Channels, Grid, Interferer, Scenario, Slots, SlotStream
from leanrx_core.errors import UserError
from receivers.base import Receiver
from receivers.classical.baselines import (
    LmmseIrcReceiver,
    LmmseReceiver,
    LsReceiver,
    PerfectCsiIrcReceiver,
    PerfectCsiReceiver,
)
from receivers.runtime.call_arguments import noise_powers

CONDITIONS = Scenario(
    name="small",
    grid=Grid(num_prb=3),
    channels=Channels(test=("Rayleigh",)),
    interferers=(Interferer(probability=1.0),),
)
SPECS = (
    "deeprx-w0.03125-d3",
    "deeprx-interpolated-w0.03125-d3",
    "hybrid-w2-d1",
    "hybrid-shared-w3-d1",
    "hybrid-recurrent-w2-d1",
)
POWERS = {"zero": 0.0, "negative": -0.1, "not-a-number": float("nan"), "infinite": float("inf"), "denormal": 1e-40}


@pytest.fixture(scope="module")
def slots() -> Slots:
    return SlotStream(CONDITIONS, seed=1, block_slots=3, split="test").at_sinr(10).block(0)


@pytest.fixture(scope="module")
def receivers() -> dict[str, Receiver]:
    classical = (
        LsReceiver(),
        LsReceiver("maxlog", CONDITIONS),
        LmmseReceiver(CONDITIONS),
        LmmseIrcReceiver(CONDITIONS),
        PerfectCsiReceiver(),
        PerfectCsiIrcReceiver(),
    )
    return {receiver.name: receiver for receiver in classical} | {spec: perturbed_receiver(spec) for spec in SPECS}


NAMES = ("LS", "LS max-log", "LMMSE", "LMMSE-IRC", "perfect CSI", "perfect CSI-IRC", *SPECS)


def with_power(slots: Slots, power: float) -> Slots:
    """The second slot has neither interference nor noise, but for this power."""
    noise_var, interference_var = slots.noise_var.clone(), slots.interference_var.clone()
    noise_var[1], interference_var[1] = power, 0
    return replace(slots, noise_var=noise_var, interference_var=interference_var)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("name", NAMES)
def test_a_power_that_is_not_above_0_is_refused(
    receivers: dict[str, Receiver], slots: Slots, name: str, power: str
) -> None:
    with pytest.raises(UserError, match="noise_") as refusal:
        receivers[name](with_power(slots, POWERS[power]))
    with pytest.raises(UserError) as refusal_of_files:
        noise_powers(with_power(slots, POWERS[power]).noise_var.numpy(), len(slots))
    rest = "var: not a finite number above 0; give the mean power of a slot"
    assert str(refusal.value).endswith(rest)
    assert str(refusal_of_files.value).endswith(rest)


@pytest.mark.parametrize("name", NAMES)
def test_a_small_power_gives_finite_llrs(receivers: dict[str, Receiver], slots: Slots, name: str) -> None:
    assert torch.isfinite(receivers[name](with_power(slots, 1e-12))).all()


def test_a_network_refuses_features_without_noise(slots: Slots) -> None:
    """Training takes features without a receiver."""
    net = perturbed_receiver("hybrid-recurrent-w2-d1").net
    with pytest.raises(UserError, match="noise_plus_interference_var"):
        net.features(with_power(slots, 0.0))
