"""Recorded slots with the errors of a receiver, for programs that replay them through an exported file.

One HDF5 file holds slots at several test points, with everything that a receiver needs and what it should give. Arrays
have named axes, units and descriptions. ``scripts/checks/verify_recording.py`` reads it with numpy and h5py alone.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from channels import Slots, SlotStream
from leanrx_core.files import TEMPORARY
from receivers.base import Receiver

FORMAT = "leanrx recording"
VERSION = 1

_AXES = {"B": "slot", "R": "antenna", "K": "bit", "S": "symbol", "F": "subcarrier", "L": "slot with LLRs"}
_FIELDS: dict[str, tuple[str, str, str]] = {
    "y": ("BRSF", "complex64", "received resource grid; the mean power of the wanted signal is 1"),
    "pilots": ("BSF", "complex64", "transmitted pilot values, 0 where there is no pilot"),
    "noise_plus_interference_var": ("B", "float32", "mean power per resource element and antenna"),
    "bits_per_symbol": ("B", "int64", "bits of the slot's modulation; the slot uses the first ones of axis bit"),
    "is_data": ("BSF", "bool", "true where a resource element carries data"),
    "bits": ("BKSF", "uint8", "transmitted bits, 0 where there are none"),
    "sinr_db": ("B", "float64", "SINR of the slot's test point, dB"),
    "interference_fraction": ("B", "float64", "part of interference in noise plus interference of the test point"),
    "bit_errors": ("B", "int64", "wrong decisions of the reference receiver"),
    "llrs": ("LKSF", "float32", "LLRs of the reference receiver, log P(bit = 1) / P(bit = 0), for a few slots"),
    "llr_slots": ("L", "int64", "numbers of the slots that have LLRs"),
}
_COMPRESSED = ("pilots", "is_data", "bits")  # the other arrays contain noise, which cannot be compressed


def write_recording(
    receiver: Receiver,
    stream: SlotStream,
    points: list[tuple[float, float]],
    blocks: int,
    target_ber: float,
    path: str | Path,
) -> Iterator[tuple[int, int]]:
    """Record blocks of slots at each point, with the errors of a receiver and the LLRs of each block's first slot.

    Args:
        receiver: the reference.
        stream: slots that the receiver was not trained on.
        points: interference fraction and SINR in dB.
        blocks: at each point.
        target_ber: BER at which a reader may state a gap.
        path: replaced when the recording is complete.

    Yields:
        numbers of recorded slots and of all slots.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY, suffix=path.suffix)
    os.close(handle)
    try:
        with h5py.File(name, "w") as file:
            yield from _write_blocks(file, receiver, stream, points, blocks, target_ber)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _write_blocks(
    file: h5py.File,
    receiver: Receiver,
    stream: SlotStream,
    points: list[tuple[float, float]],
    blocks: int,
    target_ber: float,
) -> Iterator[tuple[int, int]]:
    size, total = stream.block_slots, len(points) * blocks * stream.block_slots
    scenario = stream.scenario
    file.attrs.update(
        {
            "format": FORMAT,
            "version": VERSION,
            "receiver": receiver.name,
            "weights_sha256": receiver.digest,
            "scenario": scenario.to_yaml(),
            "seed": stream.seed,
            "target_ber": target_ber,
        }
    )
    shapes = {"R": scenario.grid.num_rx, "K": scenario.bits_per_symbol, "S": 14, "F": scenario.grid.num_subcarriers}
    shapes |= {"B": total, "L": len(points) * blocks}
    for field, (axes, dtype, description) in _FIELDS.items():
        shape = tuple(shapes[axis] for axis in axes)
        compression = {"compression": "gzip", "compression_opts": 1} if field in _COMPRESSED else {}
        array = file.create_dataset(field, shape, dtype, chunks=(min(size, shape[0]), *shape[1:]), **compression)
        array.attrs["description"] = description
        for axis, letter in enumerate(axes):
            array.dims[axis].label = _AXES[letter]
    first = 0
    for fraction, sinr_db in points:
        for number in range(blocks):
            slots = stream.at_sinr(sinr_db, fraction).block(number)
            values = _arrays(receiver, slots, sinr_db, fraction)
            block = first // size
            file["llrs"][block], file["llr_slots"][block] = values.pop("llrs"), first
            for field, array in values.items():
                file[field][first : first + size] = array
            first += size
            yield first, total


def _arrays(receiver: Receiver, slots: Slots, sinr_db: float, fraction: float) -> dict[str, NDArray[Any]]:
    """The arrays of a block, and the LLRs of its first slot."""
    with torch.no_grad():
        llrs = receiver(slots)
    wrong = ((llrs > 0) != slots.bits.bool()) & slots.bit_mask
    num_slots = len(slots)
    return {
        "y": slots.y.numpy(),
        "pilots": slots.pilots.numpy(),
        "noise_plus_interference_var": (slots.noise_var + slots.interference_var).numpy(),
        "bits_per_symbol": slots.bits_per_symbol.numpy(),
        "is_data": slots.is_data.numpy(),
        "bits": slots.bits.numpy(),
        "sinr_db": np.full(num_slots, sinr_db),
        "interference_fraction": np.full(num_slots, fraction),
        "bit_errors": wrong.sum((1, 2, 3)).numpy(),
        "llrs": llrs[0].numpy(),
    }
