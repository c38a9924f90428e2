"""Counting the operations of receivers: of networks by their operators, of classical receivers by formula."""

from __future__ import annotations

import torch

from channels import NUM_SYMBOLS, Grid
from energy.counting.profile import OperationProfile
from energy.counting.torch_net import count_module
from leanrx_core.errors import UserError
from receivers.base import Receiver
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
        grid: sets the input ``(batch_slots, num_features, 14, num_subcarriers)``. The pilot pattern with the most pilot
            symbols counts.
        num_bits: bits per QAM symbol, where ``receiver`` is a string or a classical receiver.
        name: in tables; the receiver's own if not given.
        batch_slots: slots of the call.
        precision: of floating-point values, for bytes.
        training: a training step in place of a forward pass.

    Returns:
        the profile of the whole call.

    Raises:
        UserError: if the receiver, the precision or an operator is not known.

    Example:
        >>> profile = count("deeprx-w0.25", Grid())
        >>> f"{profile.macs:,} MACs, {profile.parameters:,} parameters"
        '382,287,360 MACs, 91,556 parameters'
    """
    net = _network(receiver, grid, num_bits)
    label = name or (receiver if isinstance(receiver, str) else getattr(receiver, "name", ""))
    if net is not None:
        shape = (batch_slots, net.num_features, NUM_SYMBOLS, grid.num_subcarriers)
        inputs = torch.empty(shape, device="meta")
        profile = count_module(net, inputs, name=label, precision=precision, training=training)
        formula = net.formula_count(grid)
    elif training:
        raise UserError(f"training: {label} is a classical receiver and has no training step; leave it out")
    else:
        classical = receiver if isinstance(receiver, str) else getattr(receiver, "name", "")
        profile = OperationProfile(label, batch_slots=batch_slots)
        formula = formula_count(classical, grid, num_bits)
    elements = {operator: batch_slots * number for operator, number in formula.elements.items()}
    return profile.with_formula(batch_slots * formula.macs, elements)


def _network(receiver: Network | Receiver | str, grid: Grid, num_bits: int) -> Network | None:
    """The network of a receiver; none of a classical one."""
    if isinstance(receiver, Network):
        return receiver
    if isinstance(receiver, NeuralReceiver):
        return receiver.net
    if isinstance(receiver, str) and receiver.removesuffix(" max-log") not in CLASSICAL:
        return build(receiver, grid.num_rx, num_bits)
    return None
