"""Results of a shipped receiver: error counts, operations and energy, in ``results.json`` next to its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError

from channels import Scenario
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.records import Record
from receivers.evaluation.error_counts import Counts
from receivers.zoo.coded_results import CodedResults


class Point(Record):
    """Errors at one test point.

    Attributes:
        interference_fraction: part of interference in the interference-plus-noise power.
        sinr_db: mean powers, per receive antenna.
        counts: error counts of the receiver; rates and intervals follow from them.
        classical: error counts of classical receivers on the same slots, by name.
    """

    interference_fraction: float
    sinr_db: float
    counts: Counts
    classical: dict[str, Counts]


class InferenceEnergy(Record):
    """Energy of inference by the reference instrument of a run.

    Attributes:
        machine: name of the processor.
        provenance: whether the energy is measured, modelled or assumed.
        instrument: name of the instrument or model.
        runtime: ``receiver`` or ``classical`` for the receiver as tested, ``c`` or ``onnx-...`` for its exported file.
        slots, batch_slots: slots of all calls, and per call.
        duration_s, energy_j: of all these slots, without what is assumed.
    """

    machine: str
    provenance: Literal["measured", "modelled", "assumed"]
    instrument: str
    runtime: str
    slots: int
    batch_slots: int
    duration_s: float
    energy_j: float

    @property
    def energy_j_per_slot(self) -> float:
        """Mean energy of one slot."""
        return self.energy_j / self.slots


class Results(Record):
    """Error counts, operations and energy of one receiver.

    Attributes:
        weights_sha256: of the weights that the results belong to.
        scenario: of training and test.
        test_seed, block_slots: of the test slots.
        stream: digest of the test slots, see :func:`receivers.evaluation.block_counter.stream_digest`.
        device: device that drew and detected the test slots.
        points: error counts, by interference fraction and SINR.
        macs: multiply-accumulates per slot of the scenario's grid; a MAC is two FLOPs.
        macs_method: how they were counted.
        energy: of inference; first in the form with the least, then as tested.
        classical_energy: of inference of classical receivers that were metered with it, likewise, by name.
        coded: wrong transport blocks; none where no code was tested.
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
    energy: tuple[InferenceEnergy, ...]
    classical_energy: dict[str, tuple[InferenceEnergy, ...]] = Field(default_factory=dict)
    coded: CodedResults | None = None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read the file.

        Raises:
            UserError: if it is missing, damaged or of an earlier version.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError:
            raise UserError(f"{path}: missing; restore the file") from None
        except ValidationError:
            raise UserError(
                f"{path}: not the results of a receiver, or of an earlier version of leanrx; restore the file"
            ) from None

    def write(self, path: str | Path) -> None:
        """Write the file."""
        write_atomic(path, json.dumps(self.model_dump(mode="json"), indent=1) + "\n")

    @property
    def flops(self) -> int:
        """FLOPs per slot."""
        return 2 * self.macs
