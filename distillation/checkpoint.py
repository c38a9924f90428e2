"""Checkpoints: one safetensors file from which a training resumes bit-exactly. Each write replaces it atomically.

Step *i* trains on block *i* of the stream, and nothing else is random. Weights, optimiser state and the step number
are therefore sufficient. The cost of the training so far is saved with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from distillation.energy_allocation import TrainingCost
from distillation.job import difference, weight_settings
from energy.metering.training import TrainingEnergy
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file and the training that owns it.

    Attributes:
        path: path of the file.
        name: name of the receiver, for errors.
        description: everything that determines the weights. A checkpoint with another description is refused.
    """

    path: Path
    name: str
    description: dict[str, Any]

    def save(
        self, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, step: int, cost: TrainingCost
    ) -> None:
        """Replace the file by the state after ``step`` steps.

        Args:
            modules: modules to save, by name.
            optimizer: their optimiser.
            step: number of steps taken.
            cost: cost of the training so far.
        """
        tensors = {
            f"{name}.{key}": value.detach().cpu().contiguous()
            for name, module in modules.items()
            for key, value in module.state_dict().items()
        }
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v.detach().cpu().contiguous() for k, v in state.items()}
        metadata = {"job": self._job(), "step": str(step), "cost": json.dumps(asdict(cost))}
        write_atomic(self.path, safetensors.torch.save(tensors, metadata))

    def load(self, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> tuple[int, TrainingCost]:
        """Restore modules and optimiser from the file, if it exists.

        Returns:
            The number of steps taken, and the cost of the training so far.

        Raises:
            UserError: if the file is damaged, comes from an earlier version, or belongs to another training.
        """
        if not self.path.exists():
            return 0, TrainingCost()
        metadata, tensors = self._read()
        for name, module in modules.items():
            state = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
            try:
                module.load_state_dict(state)
            except RuntimeError:
                raise UserError(
                    f"{self.path}: checkpoint of another network or another version of leanrx; {self._remedy()}"
                ) from None
        try:
            optimizer.load_state_dict(_optimizer_state(tensors, optimizer))
            step, cost = int(metadata["step"]), json.loads(metadata["cost"])
            energy, teacher_slots = cost["energy"], dict[str, float](cost["teacher_slots"])
            is_possible = step >= 1 and all(0 <= slots < math.inf for slots in teacher_slots.values())
        except (ValueError, LookupError, TypeError, RuntimeError, RecursionError):
            is_possible = False
        if not is_possible:
            raise UserError(f"{self.path}: damaged checkpoint; {self._remedy()}")
        training_energy = TrainingEnergy.from_json(energy, str(self.path)) if energy else None
        return step, TrainingCost(training_energy, teacher_slots)

    def _read(self) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
        try:
            with safetensors.safe_open(str(self.path), "pt") as file:
                metadata = file.metadata() or {}
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            cost = json.loads(metadata.get("cost", "{}"))
        except (safetensors.SafetensorError, OSError, ValueError, RecursionError):
            metadata, tensors, cost = {}, {}, {}
        if "bill" in metadata or "reading" in cost:
            raise UserError(f"{self.path}: checkpoint of an earlier version of leanrx; {self._remedy()}")
        if not {"job", "step", "cost"} <= metadata.keys():
            raise UserError(f"{self.path}: damaged checkpoint; {self._remedy()}")
        self._check_job(metadata["job"])
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise UserError(f"{self.path}: its values are not finite; {self._remedy()}")
        return metadata, tensors

    def _check_job(self, stored: str) -> None:
        try:
            mismatch = difference(weight_settings(json.loads(stored)), weight_settings(self.description))
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.path}: checkpoint of another version of leanrx; {self._remedy()}") from None
        if mismatch is not None:
            field, previous, current = mismatch
            raise UserError(
                f"{self.path}: checkpoint of another configuration: {field} {previous} there, {current} here; go back, "
                f"or {self._remedy()}"
            )

    def _remedy(self) -> str:
        return f"delete it to train {self.name} from the start"

    def _job(self) -> str:
        return json.dumps(self.description, sort_keys=True)


def _optimizer_state(tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's state dictionary with the moments of a checkpoint."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            if value.dim():  # moments need the memory format of their parameter: sums depend on the order
                value = torch.empty_like(parameters[int(index)]).copy_(value)
            state.setdefault(int(index), {})[name] = value.detach()
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
