"""What a training needs to go on bit-exactly, in one safetensors file that is replaced atomically.

Step *i* trains on block *i* of the stream, and nothing else is random, so weights, optimiser state and the step number
are all there is to it; the bill so far goes with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from energy.metering.meter import Reading
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic


@dataclass(frozen=True)
class Bill:
    """What a training has cost so far.

    Attributes:
        reading: its part of the energy, none if it was not metered.
        teacher_slots: slots that teachers received for it, by teacher; one that several heard counts in parts.
    """

    reading: Reading | None = None
    teacher_slots: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: Bill) -> Bill:
        reading = self.reading + other.reading if self.reading and other.reading else self.reading or other.reading
        names = [*self.teacher_slots, *(n for n in other.teacher_slots if n not in self.teacher_slots)]
        return Bill(reading, {n: self.teacher_slots.get(n, 0.0) + other.teacher_slots.get(n, 0.0) for n in names})


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

    def save(self, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, step: int, bill: Bill) -> None:
        """Replace the file by the state after ``step`` steps."""
        tensors = {
            f"{part}.{k}": v.detach().cpu().contiguous()
            for part, module in modules.items()
            for k, v in module.state_dict().items()
        }
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v.detach().cpu().contiguous() for k, v in state.items()}
        metadata = {"job": self._job(), "step": str(step), "bill": json.dumps(asdict(bill))}
        write_atomic(self.path, safetensors.torch.save(tensors, metadata))

    def load(self, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> tuple[int, Bill]:
        """Bring modules and optimiser to the state of the file, if there is one; the step to go on from, and the bill.

        Raises:
            UserError: if the file is damaged or belongs to another training.
        """
        if not self.path.exists():
            return 0, Bill()
        try:
            with safetensors.safe_open(str(self.path), "pt") as file:
                metadata = file.metadata()
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        except safetensors.SafetensorError:
            metadata = None
        if not metadata or not {"job", "step", "bill"} <= metadata.keys():
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
        bill = json.loads(metadata["bill"])
        reading = Reading(**bill["reading"]) if bill["reading"] else None
        return int(metadata["step"]), Bill(reading, bill["teacher_slots"])

    def _job(self) -> str:
        return json.dumps(self.description, sort_keys=True)
