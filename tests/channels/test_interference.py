import math

import pytest
import torch

from channels import Channels, Grid, Interferer, Scenario, SlotStream
from channels.asynchronous import apply_asynchronous_interference
from channels.ofdm import frequency_shift, ofdm_demodulate

GRID = Grid(num_prb=6)


def symbols(num_slots: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(num_slots, 2, 15, GRID.num_subcarriers, dtype=torch.complex64, generator=generator)


def seen(sent: torch.Tensor, delay_samples: float) -> torch.Tensor:
    """With the delay's phase ramp, which belongs to the channel response."""
    ramp = torch.exp(-2j * math.pi * GRID.frequencies_hz() * delay_samples / GRID.sample_rate_hz)
    delays = torch.full((len(sent),), delay_samples)
    return ofdm_demodulate(apply_asynchronous_interference(sent * ramp, delays, GRID), GRID)


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
    windows = apply_asynchronous_interference(sent, torch.zeros(2), GRID)
    moved = ofdm_demodulate(windows * frequency_shift(torch.full((2,), 15e3), 14, GRID)[:, None], GRID)
    # each symbol starts a prefix later, in which the offset turns on by 2 pi 9/128
    turn = torch.exp(2j * math.pi * 9 / 128 * torch.arange(14))[:, None]
    torch.testing.assert_close(moved[..., 1:], sent[:, :, 1:, :-1] * turn, atol=1e-3, rtol=1e-3)


def interference(interferer: Interferer, slots: int = 64) -> torch.Tensor:
    """The interferer alone at the receiver: the difference of two streams."""
    made = Scenario(
        name="x", grid=GRID, channels=Channels.model_validate({"train": ["TDL-A"]}), interferers=(interferer,)
    )
    loud = SlotStream(made, 1, slots).block(0)
    return loud.y - SlotStream(made.model_copy(update={"interferers": ()}), 1, slots).block(0).y


def test_a_narrow_interferer_is_strong_where_it_is() -> None:
    narrow = interference(Interferer(sir_db=(0, 0), bandwidth_fraction=(0.5, 0.5), timing_offset_symbols=(0, 0)), 400)
    of_prb = narrow.abs().square().unflatten(-1, (6, 12)).mean((1, 2, 4))
    occupied = of_prb > 1e-6
    assert (occupied.sum(1) == 3).all()
    assert {int(row.float().argmax()) for row in occupied} == {0, 1, 2, 3}
    assert float(of_prb.mean()) == pytest.approx(1.0, rel=0.15)
    assert float(of_prb[occupied].mean()) == pytest.approx(2.0, rel=0.15)


def alone(*interferers: Interferer, domain: str = "frequency", slots: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Flat interferers of QPSK at the receiver, and their channels."""
    aloft = Channels.model_validate({"train": ["AWGN"]})
    made = Scenario(
        name="x",
        grid=Grid(num_prb=2, num_rx=1),
        channels=Channels.model_validate({"train": ["Rayleigh"]}),
        snr_db=(90, 90),
        domain=domain,
        interferers=tuple(i.model_copy(update={"modulations": ("QPSK",), "channels": aloft}) for i in interferers),
    )
    loud = SlotStream(made, 1, slots).block(0)
    quiet = SlotStream(made.model_copy(update={"interferers": ()}), 1, slots).block(0)
    return loud.y - quiet.y, loud.h_interference


@pytest.mark.parametrize("domain", ["frequency", "time"])
def test_offsets_of_an_interferer_reach_the_receiver(domain: str) -> None:
    """In time and on frequency its QPSK has one magnitude; half a symbol late it smears; a subcarrier off it moves."""
    still, h = alone(Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0)), domain=domain)
    torch.testing.assert_close(still.abs(), torch.ones_like(still.abs()), atol=1e-3, rtol=0)
    torch.testing.assert_close(h.abs(), torch.ones_like(h.abs()), atol=1e-3, rtol=0)
    late, _ = alone(Interferer(sir_db=(0, 0), timing_offset_symbols=(0.5, 0.5)), domain=domain)
    assert float((late.abs() - 1).abs().mean()) > 0.2
    off, _ = alone(
        Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0), frequency_offset_hz=(15e3, 15e3)), domain=domain
    )
    torch.testing.assert_close(off[..., 1:].abs(), torch.ones_like(off[..., 1:].abs()), atol=1e-2, rtol=0)
    assert float(off[..., 0].abs().max()) < 1e-2


def test_interferers_send_data_of_their_own() -> None:
    """Two of equal QPSK cancel where their symbols are opposite: a quarter of all elements."""
    still = Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0))
    both, _ = alone(still, still, slots=64)
    cancelled = float((both.abs() < 1e-2).float().mean())
    assert cancelled == pytest.approx(0.25, abs=0.01)


def test_the_channel_of_a_narrow_interferer_is_narrow() -> None:
    seen, h = alone(Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0), bandwidth_fraction=(0.5, 0.5)))
    assert torch.equal(h[:, 0].abs() > 1e-6, seen.abs() > 1e-3)
    assert 0 < float((h == 0).float().mean()) < 1


def test_an_interferer_may_carry_more_bits_than_the_wanted_signal() -> None:
    made = Scenario(
        name="x",
        grid=Grid(num_prb=1, num_rx=1),
        modulations=("QPSK",),
        snr_db=(90, 90),
        channels=Channels.model_validate({"train": ["AWGN"]}),
        interferers=(Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0), modulations=("256-QAM",)),),
    )
    loud = SlotStream(made, 1, 8).block(0)
    quiet = SlotStream(made.model_copy(update={"interferers": ()}), 1, 8).block(0)
    assert loud.bits.shape[1] == 2
    levels = (loud.y - quiet.y).real.flatten().mul(100).round().unique()
    assert len(levels) == 16


def test_its_modulation_is_its_own() -> None:
    """On a flat, orthogonal link the QPSK of an interferer to 16-QAM shows four points."""
    made = Scenario(
        name="x",
        grid=Grid(num_prb=1, num_rx=1),
        channels=Channels.model_validate({"train": ["AWGN"]}),
        snr_db=(90, 90),
        interferers=(Interferer(sir_db=(0, 0), timing_offset_symbols=(0, 0), modulations=("QPSK",)),),
    )
    loud = SlotStream(made, 1, 2).block(0)
    alone = loud.y - SlotStream(made.model_copy(update={"interferers": ()}), 1, 2).block(0).y
    torch.testing.assert_close(alone.real.abs(), torch.full_like(alone.real, math.sqrt(0.5)), atol=1e-3, rtol=0)


def test_its_channels_are_its_own() -> None:
    """An AWGN interferer in a Rayleigh scenario always has the power that it is given."""
    made = Scenario(
        name="x",
        grid=Grid(num_prb=2, num_rx=1),
        channels=Channels.model_validate({"train": ["Rayleigh"]}),
        interferers=(Interferer(sir_db=(0, 0), channels=Channels.model_validate({"train": ["AWGN"]})),),
    )
    slots = SlotStream(made, 1, 32).block(0)
    torch.testing.assert_close(slots.h_interference.abs(), torch.ones(32, 1, 1, 14, 24))
    assert float(slots.h.abs().std()) > 0.3
