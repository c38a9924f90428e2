"""Feature and attention transfer: losses between inner layers of student and teacher.

Inner layers are named by their module path and read through forward hooks, so the networks need no change. A 1x1
convolution adapts unequal channel counts. It belongs to the loss and not to the student.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import avg_pool2d, normalize

from channels import NUM_SYMBOLS
from leanrx_core.errors import UserError
from leanrx_core.records import Record
from receivers.neural.network import Network


class FeatureTransfer(Record):
    """A pair of modules whose activations are compared in the loss of a student.

    Attributes:
        student, teacher: module paths as in ``named_modules``, such as ``blocks.2``.
        loss: ``feature`` (:func:`feature_loss`) or ``attention`` (:func:`attention_loss`).
        weight: factor of this term in the student's loss.
    """

    renamed_keys: ClassVar = {"kind": "loss"}

    student: str = Field(min_length=1)
    teacher: str = Field(min_length=1)
    loss: Literal["feature", "attention"] = "feature"
    weight: float = Field(1.0, gt=0)


class ActivationRecorder:
    """Records the activations of named modules with forward hooks, without changing what the network computes.

    The hooks stay until :meth:`remove`, or until the end of a ``with`` statement.

    Args:
        net: any module.
        paths: names of modules inside ``net``.

    Example:
        >>> net = nn.Sequential(nn.Identity(), nn.ReLU())
        >>> with ActivationRecorder(net, ["0"]) as recorder:
        ...     output = net(torch.tensor([-1.0, 1.0]))
        ...     activations = recorder.pop()
        >>> activations["0"], output
        (tensor([-1.,  1.]), tensor([0., 1.]))
    """

    def __init__(self, net: nn.Module, paths: Iterable[str]) -> None:
        self._activations: dict[str, Any] = {}
        self._hooks = [
            net.get_submodule(path).register_forward_hook(partial(self._record, path)) for path in dict.fromkeys(paths)
        ]

    def _record(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._activations[path] = output

    def pop(self) -> dict[str, Any]:
        """The last output of each module by path. The recorder forgets them, so that their memory can be freed."""
        activations, self._activations = self._activations, {}
        return activations

    def remove(self) -> None:
        """Remove the hooks from the network."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def activation_channels(net: Network, paths: Iterable[str], owner: str) -> dict[str, int]:
    """Number of channels of the activations of named modules.

    They come from a forward pass without data on a copy of the network.

    Args:
        net: a network from ``(B, C, S, F)`` to ``(B, K, S, F)``.
        paths: names of modules inside ``net``.
        owner: name of the network in errors, such as ``student``.

    Returns:
        Channels by path.

    Raises:
        UserError: if a module does not exist or does not run, or if its output is not one tensor over the symbols and
            over equal groups of subcarriers.
    """
    paths = list(paths)
    names = [name for name, _ in net.named_modules() if name]
    for path in paths:
        if path not in names:
            near = difflib.get_close_matches(path, names, n=3, cutoff=0.5) or [n for n in names if "." not in n]
            raise UserError(f"transfers: {owner} has no module '{path}'; near names: {', '.join(near)}")
    grid = (NUM_SYMBOLS, 12)
    meta_net = copy.deepcopy(net).to("meta").eval()
    with ActivationRecorder(meta_net, paths) as recorder:
        meta_net(torch.empty(1, net.num_features, *grid, device="meta"))
        activations = recorder.pop()
    channels = {}
    for path in paths:
        activation = activations.get(path)
        if not isinstance(activation, torch.Tensor) or not _is_over_grid(activation.shape, grid):
            inside = [name for name in names if name.startswith(f"{path}.")]
            remedy = f"name a module inside it, such as {', '.join(inside[:3])}" if inside else "name another module"
            raise UserError(
                f"transfers: the output of module '{path}' of {owner} is not a tensor over symbols and subcarriers; "
                f"{remedy}"
            )
        channels[path] = activation.shape[1]
    return channels


def _is_over_grid(shape: torch.Size, grid: tuple[int, int]) -> bool:
    return len(shape) == 4 and shape[2] == grid[0] and grid[1] % shape[3] == 0 and shape[3] > 1


def match_resolution(student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Average the finer of two activations over subcarriers, down to the groups of the coarser one.

    Hybrids average in the same way between their resolutions.

    Args:
        student, teacher: activations, float ``(B, C, S, G)`` and ``(B, C', S, G')``.

    Returns:
        Both activations, over ``min(G, G')`` groups of subcarriers.
    """
    columns = min(student.shape[3], teacher.shape[3])
    return (
        avg_pool2d(student, (1, student.shape[3] // columns)),
        avg_pool2d(teacher, (1, teacher.shape[3] // columns)),
    )


def channel_adapter(student_channels: int, teacher_channels: int) -> nn.Module:
    """A 1x1 convolution from the student's channels to the teacher's; the identity if the counts are equal."""
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, 1)


def feature_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared error over the teacher's power: FitNets (1412.6550, eq. (3)), made independent of scale.

    Args:
        student, teacher: activations, float ``(B, C, S, F)``; the student's after its adapter.

    Returns:
        The loss, a scalar.

    Example:
        >>> teacher = torch.ones(1, 2, 14, 12)
        >>> feature_loss(3 * teacher, teacher)
        tensor(4.)
    """
    power = teacher.square().mean().clamp_min(torch.finfo(teacher.dtype).tiny)
    return (student - teacher).square().mean() / power


def attention_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared distance of attention maps, from 0 to 2, averaged over slots (1612.03928, eq. (2)).

    A map is ``sum_c a_c^2`` over the REs of the slot, scaled to norm 1. The channel counts may therefore differ.

    Args:
        student, teacher: activations, float ``(B, C, S, F)`` and ``(B, C', S, F)``.

    Returns:
        The loss, a scalar.

    Example:
        >>> teacher = torch.ones(1, 2, 14, 12)
        >>> attention_loss(3 * teacher, teacher) < 1e-12
        tensor(True)
    """
    maps = [normalize(a.square().sum(1).flatten(1)) for a in (student, teacher)]
    return (maps[0] - maps[1]).square().sum(1).mean()
