"""Counting the operations of receivers: of networks by their operators, of classical receivers by formula."""

from __future__ import annotations

from dataclasses import replace

import torch

from channels import NUM_SYMBOLS, Grid
from channels.grid import SUBCARRIERS_PER_PRB
from energy.counting.profile import OperationProfile
from energy.counting.torch_net import count_module
from leanrx_core.checks import choice, integer
from leanrx_core.errors import UserError
from receivers.base import FormulaCount, Receiver
from receivers.classical import GENIE_AIDED, formula_count
from receivers.neural.network import Network
from receivers.neural.registry import build
from receivers.neural.weights import NeuralReceiver

CLASSICAL = ("LS", "LMMSE", "LMMSE-IRC", *GENIE_AIDED)
"""Receivers that are counted by formula alone; ``" max-log"`` may follow the name."""


def count(
    receiver: Network | Receiver | str,
    grid: Grid,
    *,
    num_bits: int = 4,
    name: str = "",
    batch_slots: int = 1,
    precision: str = "fp32",
    training: bool = False,
) -> OperationProfile:
    """Count the operations of one call of a receiver.

    The MACs of a network come from the shapes of the operators that it executes, and are compared with fvcore's, see
    :func:`energy.counting.torch_net.count_module`. A network's front end and its products in elementwise operators are
    counted by formula, forward only, see :meth:`receivers.neural.network.Network.formula_count`. So are classical
    receivers.

    Args:
        receiver: a network, a receiver, a spec string such as ``"deeprx-w0.25"``, or the name of a classical receiver.
        grid: sets the input, features ``(batch_slots, C, 14, num_subcarriers)``. The pilot pattern with the most pilot
            symbols counts.
        num_bits: bits per QAM symbol, where ``receiver`` is a string or a classical receiver.
        name: in tables; the receiver's own if not given.
        batch_slots: slots of the call.
        precision: of a network's floating-point values, for bytes; classical receivers compute in fp32.
        training: a training step in place of a forward pass.

    Returns:
        the profile of the whole call.

    Raises:
        UserError: if the receiver, the precision or an operator is not known, or slots or bits are not possible.

    Example:
        >>> profile = count("deeprx-w0.25", Grid())
        >>> f"{profile.macs:,} MACs, {profile.parameters:,} parameters"
        '382,287,360 MACs, 91,556 parameters'
    """
    integer("batch_slots", batch_slots, 1)
    choice("num_bits", num_bits, (2, 4, 6, 8))
    net = _network(receiver, grid, num_bits)
    label = name or (receiver if isinstance(receiver, str) else getattr(receiver, "name", ""))
    if net is not None:
        if net.needs_resource_blocks and (grid.num_subcarriers % SUBCARRIERS_PER_PRB or grid.empty_subcarriers):
            raise UserError(f"{label}: needs whole resource blocks; write num_prb in place of subcarriers")
        shape = (batch_slots, net.input_channels(grid.num_rx), NUM_SYMBOLS, grid.num_subcarriers)
        inputs = torch.empty(shape, device="meta")
        profile = count_module(net, inputs, name=label, precision=precision, training=training)
        formula = net.formula_count(grid)
        if training and formula.macs:
            profile = replace(profile, omitted="the backward pass of the operations that are counted by formula")
        return _with_formula(profile, formula)
    if training:
        raise UserError(f"training: {label} is a classical receiver and has no training step; leave it out")
    if precision != "fp32":
        raise UserError(f"precision: {label} is a classical receiver and computes in fp32; leave it out")
    classical = receiver if isinstance(receiver, str) else getattr(receiver, "name", "")
    return _with_formula(OperationProfile(label, batch_slots=batch_slots), formula_count(classical, grid, num_bits))


def depends_on_pilots(receiver: Network | str) -> bool:
    """Whether the operations of a receiver depend on the pilots of the slot: those of a formula do."""
    if isinstance(receiver, str):
        return receiver.removesuffix(" max-log") in CLASSICAL or depends_on_pilots(build(receiver))
    return type(receiver).formula_count is not Network.formula_count


def _with_formula(profile: OperationProfile, formula: FormulaCount) -> OperationProfile:
    """The profile with operations that are counted by formula, on each of its slots."""
    elements = {operator: profile.batch_slots * number for operator, number in formula.elements.items()}
    return profile.with_formula(profile.batch_slots * formula.macs, elements)


def _network(receiver: Network | Receiver | str, grid: Grid, num_bits: int) -> Network | None:
    """The network of a receiver; none of a classical one."""
    if isinstance(receiver, Network):
        return receiver
    if isinstance(receiver, NeuralReceiver):
        return receiver.net
    if isinstance(receiver, str) and receiver.removesuffix(" max-log") not in CLASSICAL:
        return build(receiver, grid.num_rx, num_bits)
    return None
