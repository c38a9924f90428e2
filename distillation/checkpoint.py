"""What a training needs to go on bit-exactly, in one safetensors file that is replaced atomically.

Step *i* trains on block *i* of the stream, and nothing else is random, so weights, optimiser state and the step number
are all there is to it; the cost so far goes with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from distillation.energy_allocation import TrainingCost
from energy.metering.meter import Reading
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic


@dataclass(frozen=True)
class Checkpoint:
    """The file, and whom it belongs to.

    Attributes:
        path: of the file.
        name: of the receiver, for messages.
        description: all that determines the weights; a checkpoint of another one is refused.
    """

    path: Path
    name: str
    description: dict[str, Any]

    def save(
        self, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, step: int, cost: TrainingCost
    ) -> None:
        """Replace the file by the state after ``step`` steps."""
        tensors = {
            f"{part}.{k}": v.detach().cpu().contiguous()
            for part, module in modules.items()
            for k, v in module.state_dict().items()
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
            UserError: if the file is damaged or belongs to another training.
        """
        if not self.path.exists():
            return 0, TrainingCost()
        try:
            with safetensors.safe_open(str(self.path), "pt") as file:
                metadata = file.metadata()
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        except safetensors.SafetensorError:
            metadata = None
        if metadata and "bill" in metadata:
            raise UserError(
                f"{self.path}: checkpoint of an earlier version of leanrx; "
                f"delete it to train {self.name} from the start"
            )
        if not metadata or not {"job", "step", "cost"} <= metadata.keys():
            raise UserError(f"{self.path}: damaged checkpoint; delete it to train {self.name} from the start") from None
        if metadata["job"] != self._job():
            raise UserError(f"{self.path}: checkpoint of another configuration; delete it or use another label")
        for part, module in modules.items():
            own = {k.removeprefix(f"{part}."): v for k, v in tensors.items() if k.startswith(f"{part}.")}
            try:
                module.load_state_dict(own)
            except RuntimeError:
                raise UserError(
                    f"{self.path}: checkpoint of another network, as of another version of leanrx; "
                    f"delete it to train {self.name} from the start"
                ) from None
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                if value.dim():  # moments get the memory format of their parameter: sums depend on the order
                    value = torch.empty_like(parameters[int(index)]).copy_(value)
                state.setdefault(int(index), {})[name] = value.detach()
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        cost = json.loads(metadata["cost"])
        reading = Reading(**cost["reading"]) if cost["reading"] else None
        return int(metadata["step"]), TrainingCost(reading, cost["teacher_slots"])

    def _job(self) -> str:
        return json.dumps(self.description, sort_keys=True)
