import numpy as np
import pytest
import torch
from pydantic import ValidationError

from channels.grid import BITS_PER_SYMBOL, Grid, modulate, pam_levels


@pytest.mark.parametrize("num_bits", BITS_PER_SYMBOL.values())
def test_mapping_equals_sionna(num_bits: int) -> None:
    from sionna.phy.mapping import Constellation

    labels = torch.arange(2**num_bits)
    bits = ((labels[:, None] >> torch.arange(num_bits - 1, -1, -1)) & 1).to(torch.uint8)
    points = Constellation("qam", num_bits, device="cpu").points
    torch.testing.assert_close(modulate(bits), points)


def test_16_qam_is_that_of_38_211() -> None:
    # TS 38.211, 5.1.4: (1-2b0)(2-(1-2b2)) + j(1-2b1)(2-(1-2b3)), over sqrt(10)
    for label in range(16):
        b = [(label >> i) & 1 for i in (3, 2, 1, 0)]
        expected = complex((1 - 2 * b[0]) * (2 - (1 - 2 * b[2])), (1 - 2 * b[1]) * (2 - (1 - 2 * b[3]))) / np.sqrt(10)
        assert complex(modulate(torch.tensor([b], dtype=torch.uint8))[0]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("num_bits", [1, 2, 3, 4])
def test_bits_are_hierarchical_and_gray(num_bits: int) -> None:
    levels, bits = pam_levels(num_bits)
    assert float((levels**2).mean()) == pytest.approx(0.5)
    ordered = bits[levels.argsort()].int()
    assert ((ordered[1:] - ordered[:-1]).abs().sum(1) == 1).all()
    assert ((levels < 0) == (bits[:, 0] == 1)).all()


def test_numerology() -> None:
    grid = Grid(num_prb=26)
    assert grid.num_subcarriers == 312
    assert grid.fft_size == 512
    assert grid.cyclic_prefix_s == pytest.approx(144 / 2048 / 15e3)
    assert grid.symbol_duration_s * 14 == pytest.approx(1e-3)
    assert Grid(num_prb=273).fft_size == 4096
    assert float(grid.frequencies_hz()[1] - grid.frequencies_hz()[0]) == 15e3


@pytest.mark.parametrize(
    "fields",
    [
        {"num_prb": 0},
        {"num_prb": 274},
        {"pilot_patterns": [[14]]},
        {"pilot_patterns": [[]]},
        {"pilot_patterns": [[3, 2]]},
        {"subcarrier_spacing_hz": 15},
    ],
)
def test_impossible_grids_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Grid.model_validate(fields)
