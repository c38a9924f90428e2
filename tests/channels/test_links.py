"""Interferers at the receiver, one property at a time."""

import math

import pytest
import torch
from signals import received_interference

from channels import Channels, Grid, Interferer, Scenario, SlotStream

AWGN = Channels.model_validate({"train": ["AWGN"]})


def flat_interference(
    *interferers: Interferer, domain: str = "frequency", num_slots: int = 16
) -> tuple[torch.Tensor, torch.Tensor]:
    """Received interference of QPSK interferers with flat channels, and their channels."""
    scenario = Scenario(
        name="x",
        grid=Grid(num_prb=2, num_rx=1),
        channels=Channels.model_validate({"train": ["Rayleigh"]}),
        snr_db=(90, 90),
        domain=domain,
        interferers=tuple(i.model_copy(update={"modulations": ("QPSK",), "channels": AWGN}) for i in interferers),
    )
    h_interference = SlotStream(scenario, 1, num_slots).block(0).h_interference
    return received_interference(scenario, num_slots), h_interference


def test_narrow_interferer_is_stronger_in_its_band() -> None:
    interferer = Interferer(sir_db=(0, 0), bandwidth_fraction=(0.5, 0.5), timing_offset_symbols=(0, 0))
    scenario = Scenario(
        name="x",
        grid=Grid(num_prb=6),
        channels=Channels.model_validate({"train": ["TDL-A"]}),
        interferers=(interferer,),
    )
    power = received_interference(scenario, 400).abs().square().unflatten(-1, (6, 12)).mean((1, 2, 4))
    occupied = power > 1e-6
    assert (occupied.sum(1) == 3).all()
    assert {int(row.float().argmax()) for row in occupied} == {0, 1, 2, 3}
    assert float(power.mean()) == pytest.approx(1.0, rel=0.15)
    assert float(power[occupied].mean()) == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize("domain", ["frequency", "time"])
def test_offsets_of_an_interferer_reach_the_receiver(domain: str) -> None:
    """Aligned QPSK has one magnitude. Half a symbol of delay destroys it, and one subcarrier of offset shifts it."""
    aligned, h = flat_interference(Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0)), domain=domain)
    torch.testing.assert_close(aligned.abs(), torch.ones_like(aligned.abs()), atol=1e-3, rtol=0)
    torch.testing.assert_close(h.abs(), torch.ones_like(h.abs()), atol=1e-3, rtol=0)
    delayed, _ = flat_interference(Interferer(sir_db=(0, 0), timing_offset_symbols=(0.5, 0.5)), domain=domain)
    assert float((delayed.abs() - 1).abs().mean()) > 0.2
    shifted, _ = flat_interference(
        Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0), frequency_offset_hz=(15e3, 15e3)), domain=domain
    )
    torch.testing.assert_close(shifted[..., 1:].abs(), torch.ones_like(shifted[..., 1:].abs()), atol=1e-2, rtol=0)
    assert float(shifted[..., 0].abs().max()) < 1e-2


def test_interferers_send_independent_data() -> None:
    """Two equally strong QPSK signals cancel where their symbols are opposite: in a quarter of all elements."""
    interferer = Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0))
    interference, _ = flat_interference(interferer, interferer, num_slots=64)
    cancelled = float((interference.abs() < 1e-2).float().mean())
    assert cancelled == pytest.approx(0.25, abs=0.01)


def test_channel_of_a_narrow_interferer_is_zero_outside_its_band() -> None:
    interferer = Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0), bandwidth_fraction=(0.5, 0.5))
    interference, h = flat_interference(interferer)
    assert torch.equal(h[:, 0].abs() > 1e-6, interference.abs() > 1e-3)
    assert 0 < float((h == 0).float().mean()) < 1


def test_interferer_can_have_more_bits_per_symbol_than_the_wanted_signal() -> None:
    scenario = Scenario(
        name="x",
        grid=Grid(num_prb=1, num_rx=1),
        modulations=("QPSK",),
        snr_db=(90, 90),
        channels=AWGN,
        interferers=(Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0), modulations=("256-QAM",)),),
    )
    assert SlotStream(scenario, 1, 8).block(0).bits.shape[1] == 2
    levels = received_interference(scenario, 8).real.flatten().mul(100).round().unique()
    assert len(levels) == 16


def test_interferer_uses_its_modulations() -> None:
    """On a flat, orthogonal link, a QPSK interferer to a 16-QAM signal has four points."""
    scenario = Scenario(
        name="x",
        grid=Grid(num_prb=1, num_rx=1),
        channels=AWGN,
        snr_db=(90, 90),
        interferers=(Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0), modulations=("QPSK",)),),
    )
    real = received_interference(scenario, 2).real
    torch.testing.assert_close(real.abs(), torch.full_like(real, math.sqrt(0.5)), atol=1e-3, rtol=0)


def test_interferer_uses_its_channel_models() -> None:
    """An AWGN interferer in a Rayleigh scenario always has its mean power."""
    scenario = Scenario(
        name="x",
        grid=Grid(num_prb=2, num_rx=1),
        channels=Channels.model_validate({"train": ["Rayleigh"]}),
        interferers=(Interferer(sir_db=(0, 0), channels=AWGN),),
    )
    slots = SlotStream(scenario, 1, 32).block(0)
    torch.testing.assert_close(slots.h_interference.abs(), torch.ones(32, 1, 1, 14, 24))
    assert float(slots.h.abs().std()) > 0.3
