"""Slots to hand on: blocks written to HDF5 files that people can read without leanrx, and read back with it.

A dataset is one folder::

    dataset.yaml            what was drawn: scenario, seed, split, test points
    drawn/block-000000.h5   blocks as the scenario draws them, or
    sinr+05.00-share0.800/  blocks at one test point
    SHA256SUMS              hashes of the block files; ``sha256sum -c SHA256SUMS`` checks them

A block file holds one array per field of :class:`channels.slots.Slots`, with named axes, a unit and a description.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Literal, Self

import h5py
import torch
from pydantic import Field, model_validator

from channels.scenarios import NamedScenario, Scenario, Split
from channels.slots import Slots
from channels.stream import SlotStream
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.records import Record

VERSION: Literal[1] = 1
SUMS = "SHA256SUMS"

_AXES = {"B": "slot", "R": "antenna", "I": "interferer", "K": "bit", "S": "symbol", "F": "subcarrier"}
_FIELDS: dict[str, tuple[str, str, str]] = {
    "y": ("BRSF", "", "received resource grid"),
    "pilots": ("BSF", "", "transmitted pilot values, 0 off the pilots"),
    "is_data": ("BSF", "", "true where an element carries data"),
    "bits": ("BKSF", "", "transmitted bits, 0 where there are none"),
    "bits_per_symbol": ("B", "bit", "bits that the slot's modulation carries; the first ones are in use"),
    "h": ("BRSF", "", "true channel of the wanted signal"),
    "h_interference": ("BIRSF", "", "true channels of the interferers times their amplitudes"),
    "noise_var": ("B", "", "mean noise power per element and antenna; 1 is the mean wanted power"),
    "interference_var": ("B", "", "mean interference power per element and antenna"),
    "snr_db": ("B", "dB", "realised signal-to-noise ratio"),
    "sir_db": ("B", "dB", "realised signal-to-interference ratio"),
    "sinr_db": ("B", "dB", "realised signal-to-interference-and-noise ratio"),
}
_COMPRESSED = ("pilots", "is_data", "bits")  # the others are noise, which does not shrink


class Dataset(Record):
    """What a dataset holds.

    Attributes:
        label: name of its folder.
        scenario: a preset's name or a scenario.
        split: which of the scenario's channel models.
        seed, purpose: as those of :class:`channels.stream.SlotStream`; the same slots as a stream of these.
        block_slots, num_blocks: slots in a block, blocks (numbered from 0) per test point.
        sinr_db, interference_fractions: test points; without ``sinr_db`` slots are as the scenario draws them.
    """

    label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    scenario: NamedScenario
    split: Split
    seed: int = Field(1, ge=0, lt=2**32)
    purpose: str = ""
    block_slots: int = Field(64, ge=1, le=2**16)
    num_blocks: int = Field(ge=1, le=10**6)
    sinr_db: tuple[float, ...] = ()
    interference_fractions: tuple[float, ...] = Field((0.0,), min_length=1)
    version: Literal[1] = VERSION

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        if not getattr(self.scenario.channels, self.split):
            raise ValueError(f"scenario.channels.{self.split} is empty; name at least one model")
        if not self.sinr_db and self.interference_fractions != (0.0,):
            raise ValueError(
                "interference_fractions: needs sinr_db; without test points the scenario draws its own SIR"
            )
        if len(set(self.points)) < len(self.points):
            raise ValueError("sinr_db, interference_fractions: two test points are less than 0.01 dB or 0.001 apart")
        for sinr_db in self.sinr_db:
            if not -50 <= sinr_db <= 100:
                raise ValueError(f"sinr_db: {sinr_db} is outside -50..100 dB")
            for share in self.interference_fractions:
                try:
                    self.scenario.at_sinr(sinr_db, share)
                except UserError as error:
                    raise ValueError(str(error)) from None
        return self

    @property
    def points(self) -> list[str]:
        """Names of the folders that hold blocks."""
        if not self.sinr_db:
            return ["drawn"]
        return [_point(sinr_db, share) for share in self.interference_fractions for sinr_db in self.sinr_db]


def _point(sinr_db: float, share: float) -> str:
    return f"sinr{sinr_db:+06.2f}-share{share:.3f}"


def write_dataset(dataset: Dataset, root: str | Path, device: str = "cpu") -> Iterator[tuple[int, int]]:
    """Write the blocks of a dataset that are not there yet; yield how many are, and of how many, after each.

    Raises:
        UserError: if the folder holds another dataset.
    """
    folder = Path(root) / dataset.label
    record = folder / "dataset.yaml"
    if record.exists() and Dataset.load(record) != dataset:
        raise UserError(f"{folder}: holds another dataset; change 'label' or delete the folder")
    write_atomic(record, dataset.to_yaml())
    stream = SlotStream(dataset.scenario, dataset.seed, dataset.block_slots, dataset.split, device, dataset.purpose)
    done = _read_sums(folder)
    total, count = len(dataset.points) * dataset.num_blocks, 0
    with (folder / SUMS).open("a") as sums:
        for share in dataset.interference_fractions if dataset.sinr_db else (0.0,):
            for sinr_db in dataset.sinr_db or (None,):
                at_point = stream if sinr_db is None else stream.at_sinr(sinr_db, share)
                point = "drawn" if sinr_db is None else _point(sinr_db, share)
                for number in range(dataset.num_blocks):
                    name = f"{point}/block-{number:06d}.h5"
                    if name not in done or not (folder / name).exists():
                        data = _pack(at_point.block(number), dataset, number)
                        write_atomic(folder / name, data)
                        sums.write(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
                        sums.flush()
                    count += 1
                    yield count, total


class DatasetStream:
    """The blocks of a dataset, with the face of the :class:`channels.stream.SlotStream` that they came from.

    Args:
        folder: a dataset's folder.
        device: torch device on which blocks are wanted.

    Raises:
        UserError: if the folder is not a dataset of this version.
    """

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        self._folder, self.device = Path(folder), device
        record = self._folder / "dataset.yaml"
        if not record.is_file():
            raise UserError(f"{folder}: not a dataset (no dataset.yaml); write one with: leanrx data CONFIG")
        self.dataset = Dataset.load(record)
        self.scenario, self.seed, self.block_slots = self.dataset.scenario, self.dataset.seed, self.dataset.block_slots
        self.name = f"{self.dataset.split}/{self.dataset.purpose}"
        self._sums = _read_sums(self._folder)
        self._point = "drawn"

    @property
    def digest(self) -> str:
        """Fingerprint of all blocks."""
        return hashlib.sha256("".join(f"{k}{v}" for k, v in sorted(self._sums.items())).encode()).hexdigest()

    def require(self, scenario: Scenario, split: Split, block_slots: int) -> DatasetStream:
        """This stream, if it holds what is wanted.

        Raises:
            UserError: if it holds slots of another scenario or split, or blocks of another size.
        """
        wanted = {"scenario": scenario, "split": split, "block_slots": block_slots}
        for field, value in wanted.items():
            found = getattr(self.dataset, field)
            if found != value:
                told = "differs" if field == "scenario" else f"is {found}, wanted is {value}"
                raise UserError(f"{self._folder}: {field} {told}; write a dataset for this configuration")
        return self

    def at_sinr(self, sinr_db: float, interference_fraction: float = 0.0) -> DatasetStream:
        """The blocks of one test point.

        Raises:
            UserError: if the dataset has no such point.
        """
        point = _point(sinr_db, interference_fraction)
        if point not in self.dataset.points:
            raise UserError(
                f"{self._folder}: has no test point {sinr_db:g} dB with interference share {interference_fraction:g}; "
                f"it has {', '.join(self.dataset.points)}"
            )
        other = object.__new__(DatasetStream)
        other.__dict__.update(
            self.__dict__, _point=point, scenario=self.dataset.scenario.at_sinr(sinr_db, interference_fraction)
        )
        return other

    def block(self, number: int) -> Slots:
        """Read block ``number``.

        Raises:
            UserError: if it is not in the dataset, damaged or truncated.
        """
        if not 0 <= number < self.dataset.num_blocks:
            raise UserError(
                f"{self._folder}: block {number} was asked for, num_blocks is {self.dataset.num_blocks}; "
                "write a longer dataset"
            )
        if self._point not in self.dataset.points:
            raise UserError(f"{self._folder}: holds test points alone: {', '.join(self.dataset.points)}")
        name = f"{self._point}/block-{number:06d}.h5"
        path = self._folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); write the dataset again") from None
        if hashlib.sha256(data).hexdigest() != self._sums.get(name):
            raise UserError(
                f"{path}: damaged or truncated ({len(data)} bytes; its SHA-256 is not the one in {SUMS}); "
                "delete the file and write the dataset again"
            )
        with h5py.File(io.BytesIO(data), "r") as file:
            arrays = {name: torch.from_numpy(file[name][()]).to(self.device) for name in _FIELDS}
        return Slots(**arrays)


def _pack(slots: Slots, dataset: Dataset, number: int) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs.update(
            {
                "format": "leanrx slots",
                "version": VERSION,
                "block": number,
                "seed": dataset.seed,
                "split": dataset.split,
                "scenario": dataset.scenario.to_yaml(),
            }
        )
        for field in fields(Slots):
            axes, unit, description = _FIELDS[field.name]
            values = getattr(slots, field.name).cpu().numpy()
            compression = {"compression": "gzip", "compression_opts": 1} if field.name in _COMPRESSED else {}
            array = file.create_dataset(field.name, data=values, **compression)
            array.attrs.update({"unit": unit, "description": description})
            for axis, letter in enumerate(axes):
                array.dims[axis].label = _AXES[letter]
    return buffer.getvalue()


def _read_sums(folder: Path) -> dict[str, str]:
    """Hashes by file name. A line that a kill cut short is dropped, so that its block is written again."""
    path = folder / SUMS
    if not path.exists():
        return {}
    text = path.read_text()
    lines = re.findall(r"^([0-9a-f]{64})  (\S+)\n", text, re.MULTILINE)
    if not text.endswith("\n"):
        write_atomic(path, "".join(f"{digest}  {name}\n" for digest, name in lines))
    return {name: digest for digest, name in lines}
