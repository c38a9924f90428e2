"""What a shipped receiver was found to do and to cost: ``results.json`` beside its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationError

from channels import Scenario
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.records import Record
from receivers.evaluation.error_counts import Counts


class Point(Record):
    """Errors at one test point.

    Attributes:
        interference_fraction: part of interference in the interference-plus-noise power.
        sinr_db: mean powers, per receive antenna.
        realised_sinr_db: mean over the slots that were counted.
        counts: of the receiver; rates and intervals follow from them.
        classical: of classical receivers on the same slots, by name.
    """

    interference_fraction: float
    sinr_db: float
    realised_sinr_db: float
    counts: Counts
    classical: dict[str, Counts]


class Metered(Record):
    """Energy of one window of inference.

    Attributes:
        machine: what computed.
        kind: measured, modelled or assumed.
        instrument: what read or modelled the energy.
        slots, batch_slots: in the window, and per call.
        duration_s, energy_j: of the window; CPU and GPU.
    """

    machine: str
    kind: Literal["measured", "modelled", "assumed"]
    instrument: str
    slots: int
    batch_slots: int
    duration_s: float
    energy_j: float

    @property
    def energy_j_per_slot(self) -> float:
        return self.energy_j / self.slots


class Results(Record):
    """Counts, operations and energy of one artefact.

    Attributes:
        weights_sha256: of the weights that all of this is about.
        scenario: what it was trained and tested on.
        test_seed, block_slots: of the test slots.
        stream: fingerprint of the test slots, see :func:`receivers.evaluation.block_counter.stream_digest`.
        device: what drew and detected them.
        points: errors, by interference share and SINR.
        macs: multiply-accumulates per slot of the scenario's grid; a MAC is two FLOPs.
        macs_method: how they were counted.
        energy: of inference.
    """

    weights_sha256: str
    scenario: Scenario
    test_seed: int
    block_slots: int
    stream: str
    device: str
    points: tuple[Point, ...]
    macs: int
    macs_method: str
    energy: tuple[Metered, ...]

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read the file.

        Raises:
            UserError: if it is missing or damaged.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError:
            raise UserError(f"{path}: missing; restore the file") from None
        except ValidationError:
            raise UserError(f"{path}: not the results of a receiver; restore the file") from None

    def write(self, path: str | Path) -> None:
        """Write the file."""
        write_atomic(path, json.dumps(self.model_dump(mode="json"), indent=1) + "\n")

    @property
    def flops(self) -> int:
        """Per slot."""
        return 2 * self.macs
