"""Joules of the rounds of a federated training, kept beside its checkpoint so that an interrupted one goes on."""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distillation.federated import FederatedAveraging, Round
from energy.metering.measurement import Provenance, weakest
from energy.metering.training import TrainingEnergy, TrainingMeter
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic


@dataclass(frozen=True)
class RoundsEnergy:
    """Energy of all rounds of a training by the best instrument.

    Attributes:
        energy_j: of all rounds. One whose reading was lost counts as the mean of the others.
        instrument, provenance: of the joules.
    """

    energy_j: float
    instrument: str
    provenance: Provenance


def train_metered(
    federated: FederatedAveraging,
    path: Path,
    meter: TrainingMeter,
    on_round: Callable[[Round], None] = lambda result: None,
) -> RoundsEnergy:
    """Train the rounds that are left, and meter each.

    Args:
        federated: a training, with a checkpoint if it is to resume.
        path: JSON file of the energy of each round. It is replaced after every round.
        meter: of this machine.
        on_round: called after each round.

    Raises:
        UserError: if the file is damaged, or no round was metered.
    """
    energies = _read(path)
    rounds, is_complete = federated.train(), False
    while not is_complete:
        meter.open()
        result = next(rounds, None)
        energy = meter.close()
        is_complete = result is None
        if result is not None:
            energies[result.number] = energy
            write_atomic(path, json.dumps({str(n): e.as_json() for n, e in energies.items()}) + "\n")
            on_round(result)
    count = len(federated.rounds)
    metered = [energy for number, energy in energies.items() if number <= count]
    total = functools.reduce(operator.add, metered, TrainingEnergy(()))
    instrument = total.best_instrument
    if instrument is None:
        raise UserError(f"{path}: no round was metered; delete it and the checkpoint, and train again")
    provenance = weakest(m.provenance for m in total.by(instrument))
    return RoundsEnergy(total.energy_j(instrument) * count / len(metered), instrument, provenance)


def _read(path: Path) -> dict[int, TrainingEnergy]:
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {int(number): TrainingEnergy.from_json(energy, str(path)) for number, energy in data.items()}
    except (OSError, ValueError, AttributeError):
        raise UserError(f"{path}: damaged; delete it and the checkpoint beside it, and train again") from None
