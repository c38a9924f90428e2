import math

import pytest
import torch

from channels import Channels, Grid, Interferer, Scenario, SlotStream
from channels.interference import seen_by_receiver

GRID = Grid(num_prb=6)


def symbols(num_slots: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    sent = torch.randn(num_slots, 1, 15, GRID.num_subcarriers, dtype=torch.complex64, generator=generator)
    return sent.expand(-1, 2, -1, -1)


def seen(sent: torch.Tensor, delay_samples: float) -> torch.Tensor:
    """Through a channel that is the delay's phase ramp; the antennas see the same."""
    ramp = torch.exp(-2j * math.pi * GRID.frequencies_hz() * delay_samples / GRID.sample_rate_hz)
    delays = torch.full((len(sent),), delay_samples)
    return seen_by_receiver(ramp.expand_as(sent), sent[:, 0], delays, torch.zeros(len(sent)), GRID)


def by_sample(sent: torch.Tensor, delay: int) -> torch.Tensor:
    """The same from one long stream of samples, sample by sample, with torch's DFT of each window alone."""
    size, prefix, half = GRID.fft_size, GRID.cyclic_prefix_samples, GRID.num_subcarriers // 2
    bins = (torch.arange(GRID.num_subcarriers) - half) % size
    out = torch.zeros_like(sent[:, :, 1:])
    for slot in range(len(sent)):
        for rx in range(sent.shape[1]):
            stream: list[complex] = []
            for symbol in sent[slot, rx]:
                spectrum = torch.zeros(size, dtype=torch.complex64)
                spectrum[bins] = symbol
                samples = torch.fft.ifft(spectrum).tolist()
                stream += samples[-prefix:] + samples
            for s in range(14):
                begin = (s + 1) * (size + prefix) + prefix - delay
                out[slot, rx, s] = torch.fft.fft(torch.tensor(stream[begin : begin + size]))[bins]
    return out


@pytest.mark.parametrize("delay", [0, 5, 9, 10, 70, 136, 137])
def test_windows_equal_those_of_the_stream(delay: int) -> None:
    sent = symbols(1)
    torch.testing.assert_close(seen(sent, delay), by_sample(sent, delay), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("delay", [0, 1, 9, 4.3])
def test_within_the_cyclic_prefix_it_stays_orthogonal(delay: float) -> None:
    sent = symbols()
    ramp = torch.exp(-2j * math.pi * GRID.frequencies_hz() * delay / GRID.sample_rate_hz)
    torch.testing.assert_close(seen(sent, delay), sent[:, :, 1:] * ramp, atol=1e-4, rtol=1e-4)


def test_beyond_the_prefix_it_smears_but_keeps_its_power() -> None:
    sent = symbols(300)
    late, aligned = seen(sent, 70), seen(sent, 0)
    outside = (late - aligned).abs().square().mean() / sent.abs().square().mean()
    assert float(outside) > 0.5
    # half of each window shows the symbol before: subcarriers leak outside the band of the grid, but little
    assert 0.9 < float(late.abs().square().mean() / sent.abs().square().mean()) <= 1.0


def test_a_frequency_offset_of_one_subcarrier_moves_it_by_one() -> None:
    sent = symbols(2)
    moved = seen_by_receiver(torch.ones_like(sent), sent[:, 0], torch.zeros(2), torch.full((2,), 15e3), GRID)
    # each symbol starts a prefix later, in which the offset turns on by 2 pi 9/128
    turn = torch.exp(2j * math.pi * 9 / 128 * torch.arange(14))[:, None]
    torch.testing.assert_close(moved[..., 1:], sent[:, :, 1:, :-1] * turn, atol=1e-3, rtol=1e-3)


def interference(interferer: Interferer, slots: int = 64) -> torch.Tensor:
    """The interferer alone at the receiver: the difference of two streams."""
    made = Scenario(
        name="x", grid=GRID, channels=Channels.model_validate({"train": ["TDL-A"]}), interferers=(interferer,)
    )  # fmt: skip
    loud = SlotStream(made, 1, slots).block(0)
    return loud.y - SlotStream(made.model_copy(update={"interferers": ()}), 1, slots).block(0).y


def test_a_narrow_interferer_is_strong_where_it_is() -> None:
    narrow = interference(Interferer(sir_db=(0, 0), bandwidth_share=(0.5, 0.5), timing_offset_symbols=(0, 0)), 400)
    of_prb = narrow.abs().square().unflatten(-1, (6, 12)).mean((1, 2, 4))
    occupied = of_prb > 1e-6
    assert (occupied.sum(1) == 3).all()
    assert {int(row.float().argmax()) for row in occupied} == {0, 1, 2, 3}
    assert float(of_prb.mean()) == pytest.approx(1.0, rel=0.15)
    assert float(of_prb[occupied].mean()) == pytest.approx(2.0, rel=0.15)


def test_its_modulation_is_its_own() -> None:
    """On a flat, orthogonal link the QPSK of an interferer to 16-QAM shows four points."""
    made = Scenario(
        name="x", grid=Grid(num_prb=1, num_rx=1), channels=Channels.model_validate({"train": ["AWGN"]}),
        snr_db=(90, 90),
        interferers=(Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0), modulations=("QPSK",)),),
    )  # fmt: skip
    loud = SlotStream(made, 1, 2).block(0)
    alone = loud.y - SlotStream(made.model_copy(update={"interferers": ()}), 1, 2).block(0).y
    torch.testing.assert_close(alone.real.abs(), torch.full_like(alone.real, math.sqrt(0.5)), atol=1e-3, rtol=0)


def test_its_channels_are_its_own() -> None:
    """An AWGN interferer in a Rayleigh scenario always has the power that it is given."""
    made = Scenario(
        name="x", grid=Grid(num_prb=2, num_rx=1), channels=Channels.model_validate({"train": ["Rayleigh"]}),
        interferers=(Interferer(sir_db=(0, 0), channels=Channels.model_validate({"train": ["AWGN"]})),),
    )  # fmt: skip
    slots = SlotStream(made, 1, 32).block(0)
    torch.testing.assert_close(slots.h_interference.abs(), torch.ones(32, 1, 1, 14, 24))
    assert float(slots.h.abs().std()) > 0.3
