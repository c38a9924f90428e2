"""What adapting a trained receiver to another scenario costs, as a part of training it there from scratch.

``scripts/reproduce/adaptation_ratio.py`` measures it and writes ``adaptation.json``.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import resources

import numpy as np
from pydantic import Field
from scipy import special

from leanrx_core.records import Record


class AdaptationSeed(Record):
    """The shortest adaptation that reaches the BER of training from scratch.

    Attributes:
        seed: of the slots of the adaptation.
        shipped_ber: of the receiver before its adaptation, in the other scenario.
        scratch_ber, adapted_ber: after training from scratch, and after adaptation, on the same test slots.
        scratch_steps, adapted_steps: of the two.
        scratch_j, adapted_j: joules of the two, by the training meter.
    """

    seed: int
    shipped_ber: float = Field(gt=0, lt=1)
    scratch_ber: float = Field(gt=0, lt=1)
    adapted_ber: float = Field(ge=0, lt=1)
    scratch_steps: int = Field(ge=1)
    adapted_steps: int = Field(ge=0)
    scratch_j: float = Field(gt=0)
    adapted_j: float = Field(ge=0)

    @property
    def ratio(self) -> float:
        """Joules of the adaptation over those of training from scratch."""
        return self.adapted_j / self.scratch_j


class Adaptation(Record):
    """Adaptations of one receiver from one scenario to another one.

    Attributes:
        receiver: its architecture.
        from_scenario, to_scenario: where it was trained, and where it is adapted.
        sinr_db: of the test slots.
        test_slots: their number.
        provenance: of the joules.
        seeds: one entry for each.
    """

    receiver: str
    from_scenario: str
    to_scenario: str
    sinr_db: float
    test_slots: int
    provenance: str
    seeds: tuple[AdaptationSeed, ...] = Field(min_length=2)

    @property
    def ratio(self) -> float:
        """Mean over seeds of joules of the adaptation over those of training from scratch."""
        return float(np.mean([seed.ratio for seed in self.seeds]))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean ratio over seeds, by Student's distribution."""
        count = len(self.seeds)
        sd = float(np.std([seed.ratio for seed in self.seeds], ddof=1))
        half = float(special.stdtrit(count - 1, 0.975)) * sd / math.sqrt(count)
        return self.ratio - half, self.ratio + half

    @property
    def text(self) -> str:
        """The ratio with its interval, and where it comes from."""
        low, high = self.interval
        return (
            f"{self.ratio:.2g} of the joules of training from scratch (95 % {max(low, 0.0):.2g} to {high:.2g}, "
            f"{len(self.seeds)} seeds; {self.receiver} from {self.from_scenario} to {self.to_scenario})"
        )


@cache
def shipped_adaptation() -> Adaptation:
    """The adaptation that was measured for a receiver of the zoo."""
    data = (resources.files("leanrx.life_cycle") / "adaptation.json").read_text(encoding="utf-8")
    return Adaptation.model_validate_json(data)
