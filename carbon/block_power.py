"""The transmit power of least carbon per correct transport block.

More power costs joules and loses fewer blocks, so ``(E_tx + E_rx) / (1 - BLER)`` has a minimum between both ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carbon.link_table import LinkCase, curve
from carbon.receiver_options import ReceiverFamily

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BlockOptimum:
    """The power of least emissions per correct transport block, for one receiver.

    Attributes:
        receiver: its name.
        sinr_db, output_w, bler: at the optimum.
        block_g: emissions per correct block.
        is_interior: whether the optimum lies inside the tested range and below the limit of the power.
        sinrs_db, curve_g: emissions per correct block over SINR, for a figure.
    """

    receiver: str
    sinr_db: float
    output_w: float
    bler: float
    block_g: float
    is_interior: bool
    sinrs_db: Array
    curve_g: Array


def block_optima(family: ReceiverFamily, case: LinkCase, path_loss_db: float) -> list[BlockOptimum]:
    """Minimise ``(E_tx + E_rx) / (1 - BLER)`` over the power, for every receiver in time; the least first.

    Raises:
        UserError: if no transport blocks were counted.
    """
    scale_w = case.link.noise_w(family) * 10 ** (path_loss_db / 10)
    limit_db = 10 * math.log10(case.link.max_output_w(family.num_prb) / scale_w)
    optima = []
    for option in family.options:
        blocks = curve(option, "BLER")
        if case.deadline_s is not None and option.duration_s > case.deadline_s:
            continue
        sinrs_db = np.arange(blocks.sinr_db[0], min(blocks.sinr_db[-1], limit_db) + 1e-9, 0.01)
        if not len(sinrs_db):
            continue
        output_w = scale_w * 10 ** (sinrs_db / 10)
        sent_g = case.transmitter_site.operational_g(1.0) * case.link.transmitter.slope * output_w * family.slot_s
        bler = blocks.rate(sinrs_db)
        with np.errstate(divide="ignore"):
            block_g = (sent_g + case.receiver_site.operational_g(option.energy_j)) / (1 - bler)
        best = int(block_g.argmin())
        interior = 0 < best < len(sinrs_db) - 1
        at = (float(sinrs_db[best]), float(output_w[best]), float(bler[best]), float(block_g[best]))
        optima.append(BlockOptimum(option.name, *at, interior, sinrs_db, block_g))
    return sorted(optima, key=lambda optimum: optimum.block_g)
