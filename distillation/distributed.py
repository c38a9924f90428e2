"""Processes that train one receiver together, as torchrun starts them (DistributedDataParallel).

::

    block of batch_slots slots, made by every rank ---> rank r's part ---> gradient ---+
                                                                                       sum over ranks ---> step
    rank 0 alone writes checkpoints, logs and the receiver

A step trains on the slots that it would train on in one process. Losses are means over the bits that were sent, so each
rank's gradient is weighted by its part of them: the sum is the one-process gradient, up to the order of additions.
Batch statistics are those of all ranks on CUDA (SyncBatchNorm), and each rank's own on a CPU, where torch has no other;
running averages are then rank 0's. Hybrids have none.

Making slots is not shared out: N ranks are no faster than ``(block + step) / (block + step / N)``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace

import torch
from torch import distributed, nn

from channels import Slots
from energy.metering.meter import Reading
from leanrx_core.errors import UserError


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        local_rank: its number on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def wrap(self, net: nn.Module) -> nn.Module:
        """The net with gradients that are averaged over ranks; its parameters become rank 0's."""
        if self.size == 1:
            return net
        return nn.parallel.DistributedDataParallel(net)

    def shard(self, slots: Slots) -> tuple[Slots, float]:
        """This rank's slots of a block, and what to multiply the mean loss over their bits by."""
        if self.size == 1:
            return slots, 1.0
        first, last = (len(slots) * r // self.size for r in (self.rank, self.rank + 1))
        own = Slots(**{f.name: getattr(slots, f.name)[first:last] for f in fields(Slots)})
        return own, self.size * (own.bit_mask.sum() / slots.bit_mask.sum()).item()

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over ranks."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values / self.size

    def sum_energy(self, reading: Reading) -> Reading:
        """The energy of all ranks; what is read of a whole machine (RAM, a CPU's counter) counts once per machine."""
        if self.size == 1:
            return reading
        readings: list[tuple[int, Reading]] = [(0, reading)] * self.size
        distributed.all_gather_object(readings, (self.local_rank, reading))
        return replace(
            reading,
            cpu_j=sum(r.cpu_j for local, r in readings if local == 0 or r.cpu_kind != "measured"),
            gpu_j=sum(r.gpu_j for _, r in readings),
            ram_j=sum(r.ram_j for local, r in readings if local == 0),
        )

    def barrier(self) -> None:
        """Until all ranks are here."""
        if self.size > 1:
            distributed.barrier()


SINGLE_PROCESS = ProcessGroup()


def init() -> ProcessGroup:
    """Join the processes that torchrun started; on CUDA each then sees one GPU, its own.

    Raises:
        UserError: if there are more processes than GPUs.
    """
    if not distributed.is_torchelastic_launched():
        return SINGLE_PROCESS
    local = int(os.environ["LOCAL_RANK"])
    gpus = torch.cuda.device_count()  # asks NVML, so that CUDA has not yet read what is visible
    if gpus:
        if local >= gpus:
            raise UserError(f"torchrun: {os.environ['LOCAL_WORLD_SIZE']} processes for {gpus} GPUs; start one per GPU")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[local]
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    return current()


def current() -> ProcessGroup:
    """This process among those that joined."""
    if not distributed.is_initialized():
        return SINGLE_PROCESS
    return ProcessGroup(distributed.get_rank(), distributed.get_world_size(), int(os.environ["LOCAL_RANK"]))
