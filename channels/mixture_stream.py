"""Training slots from the mixture of a scenario: each block has the conditions of one of its members."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
from torch.nn.functional import pad

from channels.scenarios import Scenario, Split
from channels.slots import Slots
from channels.stream import SlotStream
from leanrx_core.errors import UserError


def training_stream(
    scenario: Scenario, seed: int, block_slots: int, device: str = "cpu", purpose: str = ""
) -> SlotStream | MixtureStream:
    """Training slots of a scenario: of its mixture, or of itself where it has none. Arguments as of the streams.

    Raises:
        UserError: if there is no channel model for training.
    """
    stream = SlotStream if scenario.mixture is None else MixtureStream
    return stream(scenario, seed, block_slots, "train", device, purpose)


class MixtureStream:
    """An endless sequence of blocks of simulated slots, each drawn from one member of a mixture.

    M blocks in a row have each of the M members once, in random order. Block *n* has the same slots as block *n* of a
    :class:`channels.stream.SlotStream` of its member. So it depends on no other block.

    Args:
        scenario: its ``mixture`` names the members.
        seed, block_slots, split, device, purpose: as of :class:`channels.stream.SlotStream`.

    Raises:
        UserError: if the scenario has no mixture, or a member has no channel model for this split.

    Example:
        >>> from channels import scenario
        >>> base = scenario("tdl-6prb").model_dump(exclude={"mixture"})
        >>> members = ({"grid": {"num_rx": 1}}, {"grid": {"num_rx": 4, "num_prb": 4}, "modulations": ["64-QAM"]})
        >>> stream = MixtureStream(Scenario.parse({**base, "mixture": members}, "example"), seed=1, block_slots=2)
        >>> sorted((tuple(slots.y.shape), slots.bits.shape[1]) for slots in (stream.block(0), stream.block(1)))
        [((2, 1, 14, 72), 6), ((2, 4, 14, 48), 6)]
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        block_slots: int,
        split: Split = "train",
        device: str = "cpu",
        purpose: str = "",
    ) -> None:
        if scenario.mixture is None:
            raise UserError(f"scenario {scenario.name}: has no mixture; name its members, or take a SlotStream")
        self.scenario, self.seed, self.block_slots, self.device = scenario, seed, block_slots, device
        self.name = f"{split}/{purpose}"
        self._streams = [SlotStream(m, seed, block_slots, split, device, purpose) for m in scenario.mixture]

    def at_sinr(self, sinr_db: float, interference_fraction: float = 0.0) -> MixtureStream:
        """Refuse: a test has one grid and one number of antennas.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"scenario {self.scenario.name}: a mixture is for training; test its members, or the scenario itself"
        )

    def block(self, number: int) -> Slots:
        """Compute block ``number`` (0 or greater). Its bits have the size of the mixture's highest modulation."""
        slots = self._streams[self._member(number)].block(number)
        missing = self.scenario.num_bits - slots.bits.shape[1]
        return replace(slots, bits=pad(slots.bits, (0, 0, 0, 0, 0, missing))) if missing else slots

    def _member(self, number: int) -> int:
        """Index of the member of a block."""
        cycle, position = divmod(number, len(self._streams))
        entropy = [self.seed, zlib.crc32(f"mixture/{self.name}".encode()), cycle]
        return int(np.random.default_rng(entropy).permutation(len(self._streams))[position])
