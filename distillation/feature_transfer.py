"""Feature and attention transfer: what nets find inside, read by module path through forward hooks.

The nets are left as they are: a hook looks on, and a 1x1 adapter between unequal channel counts belongs to the loss.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, Self

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import avg_pool2d, normalize

from channels import NUM_SYMBOLS
from leanrx_core.errors import UserError
from leanrx_core.records import Record
from receivers.neural.network import Network


class Transfer(Record):
    """One module of the student that follows one of the teacher.

    Attributes:
        student, teacher: module paths as ``named_modules`` has them, such as ``blocks.2``.
        kind: ``feature`` (:func:`feature_loss`) or ``attention`` (:func:`attention_loss`).
        weight: of this loss in the student's.
    """

    student: str = Field(min_length=1)
    teacher: str = Field(min_length=1)
    kind: Literal["feature", "attention"] = "feature"
    weight: float = Field(1.0, gt=0)


class Taps:
    """Activations of named modules, kept by forward hooks; the net computes what it would without them.

    Args:
        net: any module.
        paths: names of modules inside.
    """

    def __init__(self, net: nn.Module, paths: Iterable[str]) -> None:
        self._kept: dict[str, Any] = {}
        self._hooks = [
            net.get_submodule(path).register_forward_hook(partial(self._keep, path)) for path in dict.fromkeys(paths)
        ]

    def _keep(self, path: str, module: nn.Module, args: Any, output: Any) -> None:
        self._kept[path] = output

    def take(self) -> dict[str, Any]:
        """What each module put out last, by path; it is given once, so that it is not held longer than needed."""
        kept, self._kept = self._kept, {}
        return kept

    def remove(self) -> None:
        """Take the hooks off the net."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def channels_at(net: Network, paths: Iterable[str], whose: str) -> dict[str, int]:
    """Channels of the activations of named modules, from a dry run without data on a copy of the net.

    Args:
        net: a network from ``(B, C, S, F)`` to ``(B, K, S, F)``.
        paths: names of modules inside.
        whose: named in errors, such as ``student``.

    Raises:
        UserError: if a module does not exist, is not run, or does not put out one tensor over the slot's symbols and
            equal groups of its subcarriers.
    """
    paths = list(paths)
    names = [name for name, _ in net.named_modules() if name]
    for path in paths:
        if path not in names:
            near = difflib.get_close_matches(path, names, n=3, cutoff=0.5) or [n for n in names if "." not in n]
            raise UserError(f"transfers: {whose} has no module '{path}'; near names: {', '.join(near)}")
    grid = (NUM_SYMBOLS, 12)
    dry = copy.deepcopy(net).to("meta").eval()
    with Taps(dry, paths) as taps:
        dry(torch.empty(1, net.num_features, *grid, device="meta"))
    kept, channels = taps.take(), {}
    for path in paths:
        found = kept.get(path)
        if not isinstance(found, torch.Tensor) or not _over_grid(found.shape, grid):
            inside = [name for name in names if name.startswith(f"{path}.")]
            hint = f"take a module inside, such as {', '.join(inside[:3])}" if inside else "take another module"
            raise UserError(
                f"transfers: module '{path}' of {whose} does not put out a tensor over symbols and subcarriers; {hint}"
            )
        channels[path] = found.shape[1]
    return channels


def _over_grid(shape: torch.Size, grid: tuple[int, int]) -> bool:
    return len(shape) == 4 and shape[2] == grid[0] and grid[1] % shape[3] == 0 and shape[3] > 1


def on_one_grid(student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both over as many groups of subcarriers as the coarser one has: means of the finer one, which a hybrid uses too.

    Args:
        student, teacher: activations, float ``(B, C, S, G)`` and ``(B, C', S, G')``.
    """
    columns = min(student.shape[3], teacher.shape[3])
    return tuple(avg_pool2d(a, (1, a.shape[3] // columns)) for a in (student, teacher))  # type: ignore[return-value]


def adapter(student_channels: int, teacher_channels: int) -> nn.Module:
    """From the student's channels to the teacher's: a 1x1 convolution, or nothing where they are as many."""
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, 1)


def feature_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared error over the teacher's power: FitNets (1412.6550, eq. (3)), normalised to be free of scale.

    Args:
        student, teacher: activations, float ``(B, C, S, F)``; the student's after its adapter.
    """
    power = teacher.square().mean().clamp_min(torch.finfo(teacher.dtype).tiny)
    return (student - teacher).square().mean() / power


def attention_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared distance of attention maps, 0 to 2, mean over slots (1612.03928, eq. (2) with the map of summed squares).

    A map is ``sum_c a_c^2`` over the slot's REs, scaled to norm 1, so that channels need not be as many.

    Args:
        student, teacher: activations, float ``(B, C, S, F)`` and ``(B, C', S, F)``.
    """
    maps = [normalize(a.square().sum(1).flatten(1)) for a in (student, teacher)]
    return (maps[0] - maps[1]).square().sum(1).mean()
