"""Datasets: blocks of slots in HDF5 files, which leanrx and other programs can read.

A dataset is one folder::

    dataset.yaml               scenario, seed, split and test points
    drawn/block-000000.h5      blocks at the scenario's random SNR and SIR, or
    sinr+05.00-fraction0.800/  blocks at one test point: SINR in dB and interference fraction
    SHA256SUMS                 hashes of the block files; ``sha256sum -c SHA256SUMS`` checks them

A block file holds one array per field of :class:`channels.slots.Slots`. Each array has named axes, a unit and a
description.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from channels.grid import NUM_SYMBOLS
from channels.scenarios import MAX_BLOCK_SLOTS, NamedScenario, Scenario, Split
from channels.slots import Slots
from channels.stream import SlotStream
from leanrx_core.errors import UserError
from leanrx_core.files import append_lines, drop_unfinished_line, lock, write_atomic
from leanrx_core.records import PathComponent, Record, read_yaml

VERSION: Literal[4] = 4
"""Version of the format. Version 1 had other keys and folder names, version 2 no ``subcarrier_spacing_hz``,
version 3 no ``slot_number``, ``n_id`` and ``n_scid``."""
SUMS = "SHA256SUMS"
_RECORD = "dataset.yaml"
_DRAWN = "drawn"

_AXES = {"B": "slot", "R": "antenna", "I": "interferer", "K": "bit", "S": "symbol", "F": "subcarrier"}
_FIELDS: dict[str, tuple[str, str, str]] = {
    "y": ("BRSF", "", "received resource grid"),
    "pilots": ("BSF", "", "transmitted pilot values, 0 where there is no pilot"),
    "is_data": ("BSF", "", "true where a resource element carries data"),
    "bits": ("BKSF", "", "transmitted bits, 0 where there are none"),
    "bits_per_symbol": ("B", "bit", "bits of the slot's modulation; the slot uses the first ones of axis bit"),
    "subcarrier_spacing_hz": ("B", "Hz", "subcarrier spacing"),
    "slot_number": ("B", "", "number of the slot in its frame; -1 without DMRS"),
    "n_id": ("B", "", "scrambling identity of the DMRS; -1 without DMRS"),
    "n_scid": ("B", "", "n_SCID of the DMRS; -1 without DMRS"),
    "h": ("BRSF", "", "true channel of the wanted signal"),
    "h_interference": ("BIRSF", "", "true channels of the interferers times their amplitudes"),
    "noise_var": ("B", "", "mean noise power per resource element and antenna; the mean wanted power is 1"),
    "interference_var": ("B", "", "mean interference power per resource element and antenna"),
    "snr_db": ("B", "dB", "realised signal-to-noise ratio"),
    "sir_db": ("B", "dB", "realised signal-to-interference ratio"),
    "sinr_db": ("B", "dB", "realised signal-to-interference-plus-noise ratio"),
}
_DTYPES = {
    **dict.fromkeys(("y", "pilots", "h", "h_interference"), "complex64"),
    "is_data": "bool",
    "bits": "uint8",
    **dict.fromkeys(("bits_per_symbol", "subcarrier_spacing_hz", "slot_number", "n_id", "n_scid"), "int64"),
}
"""Types of the arrays that are not float32."""

_INFINITE = ("snr_db", "sir_db", "sinr_db")  # without interference the SIR is infinite
_COMPRESSED = ("pilots", "is_data", "bits")  # the other arrays contain noise, which cannot be compressed


class Dataset(Record):
    """Contents of a dataset. It holds the same slots as a :class:`channels.stream.SlotStream` of equal arguments.

    Attributes:
        label: name of its folder.
        scenario: a scenario, or the name of a preset.
        split: ``train`` or ``test``: which of the scenario's channel models.
        seed: seed of the stream.
        purpose: purpose of the stream.
        block_slots: slots in a block.
        num_blocks: blocks per test point, numbered from 0.
        sinr_db: mean SINR of the test points, dB. Without it, the slots have the scenario's random SNR and SIR.
        interference_fractions: fractions of interference in the test points. Each is combined with each ``sinr_db``.
        version: version of the format.

    Example:
        >>> Dataset(label="x", scenario="tdl-6prb", split="test", num_blocks=1, sinr_db=(5.0, 10.0)).points
        ['sinr+05.00-fraction0.000', 'sinr+10.00-fraction0.000']
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"interference_shares": "interference_fractions"}

    label: PathComponent
    scenario: NamedScenario
    split: Split
    seed: int = Field(1, ge=0, lt=2**32)
    purpose: str = ""
    block_slots: int = Field(64, ge=1, le=MAX_BLOCK_SLOTS)
    num_blocks: int = Field(ge=1, le=10**6)
    sinr_db: tuple[float, ...] = ()
    interference_fractions: tuple[float, ...] = Field((0.0,), min_length=1)
    version: Literal[4] = VERSION

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        if not getattr(self.scenario.channels, self.split):
            raise ValueError(f"scenario.channels.{self.split} is empty; name at least one model")
        if self.scenario.mixture is not None and self.split == "train":
            raise ValueError("scenario.mixture: a dataset has the slots of one scenario; write one for each member")
        if not self.sinr_db and self.interference_fractions != (0.0,):
            raise ValueError(
                "interference_fractions: needs sinr_db; without test points the scenario draws its own SIR"
            )
        if len(set(self.points)) < len(self.points):
            raise ValueError("sinr_db, interference_fractions: two test points are less than 0.01 dB or 0.001 apart")
        for sinr_db in self.sinr_db:
            if not -50 <= sinr_db <= 100:
                raise ValueError(f"sinr_db: {sinr_db} is outside -50..100 dB")
            for fraction in self.interference_fractions:
                try:
                    self.scenario.at_sinr(sinr_db, fraction)
                except UserError as error:
                    raise ValueError(str(error)) from None
        return self

    @property
    def points(self) -> list[str]:
        """Names of the folders that hold blocks, one per test point."""
        if not self.sinr_db:
            return [_DRAWN]
        return [_point_name(sinr_db, fraction) for fraction in self.interference_fractions for sinr_db in self.sinr_db]


def _point_name(sinr_db: float, interference_fraction: float) -> str:
    return f"sinr{sinr_db:+06.2f}-fraction{interference_fraction:.3f}"


def write_dataset(dataset: Dataset, root: str | Path, device: str = "cpu") -> Iterator[tuple[int, int]]:
    """Write a dataset. Blocks that exist already are kept, so an interrupted call can be repeated.

    Args:
        dataset: contents of the dataset.
        root: the dataset becomes the folder ``root/label``.
        device: torch device on which the slots are computed.

    Returns:
        An iterator that writes a block in each step, and gives the numbers of complete blocks and of all blocks.

    Raises:
        UserError: if the folder holds another dataset, or one of an earlier version, or another process writes it.
    """
    folder = Path(root) / dataset.label
    if (folder / _RECORD).exists() and _load_record(folder) != dataset:
        raise UserError(f"{folder}: holds another dataset; change 'label' or delete the folder")
    return _write_blocks(dataset, folder, device)


def _write_blocks(dataset: Dataset, folder: Path, device: str) -> Iterator[tuple[int, int]]:
    with lock(folder):
        write_atomic(folder / _RECORD, dataset.to_yaml())
        drop_unfinished_line(folder / SUMS)
        hashes = _read_hashes(folder)
        total = len(dataset.points) * dataset.num_blocks
        blocks = itertools.product(_point_streams(dataset, device), range(dataset.num_blocks))
        for count, ((point, stream), number) in enumerate(blocks, start=1):
            name = _block_name(point, number)
            if name not in hashes or not (folder / name).exists():
                data = _pack(stream.block(number), dataset, number)
                write_atomic(folder / name, data)
                _add_hash(folder, hashes, name, hashlib.sha256(data).hexdigest())
            yield count, total


def _add_hash(folder: Path, hashes: dict[str, str], name: str, digest: str) -> None:
    """Add the hash of a block; that of a block which is written again replaces the earlier one."""
    is_new = name not in hashes
    hashes[name] = digest
    if is_new:
        append_lines(folder / SUMS, f"{digest}  {name}\n")
    else:
        write_atomic(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in hashes.items()))


def _point_streams(dataset: Dataset, device: str) -> list[tuple[str, SlotStream]]:
    """Return the name and the stream of each test point, in the order of ``dataset.points``."""
    stream = SlotStream(dataset.scenario, dataset.seed, dataset.block_slots, dataset.split, device, dataset.purpose)
    if not dataset.sinr_db:
        return [(_DRAWN, stream)]
    return [
        (_point_name(sinr_db, fraction), stream.at_sinr(sinr_db, fraction))
        for fraction in dataset.interference_fractions
        for sinr_db in dataset.sinr_db
    ]


def _block_name(point: str, number: int) -> str:
    return f"{point}/block-{number:06d}.h5"


def _load_record(folder: Path) -> Dataset:
    """Read the record of a dataset.

    Raises:
        UserError: if the dataset has another version.
    """
    record = read_yaml(folder / _RECORD)
    version = record.get("version") if isinstance(record, dict) else None
    if version != VERSION:
        raise UserError(
            f"{folder}: dataset of version {version}, but this leanrx reads version {VERSION}; "
            "delete the folder and write it again with: leanrx data CONFIG"
        )
    return Dataset.parse(record, str(folder / _RECORD))


class DatasetStream:
    """Reads a dataset. It has the interface of the :class:`channels.stream.SlotStream` that the slots came from.

    Args:
        folder: folder of the dataset.
        device: torch device of the blocks.

    Raises:
        UserError: if the folder is not a dataset of this version.

    Example:
        >>> import tempfile
        >>> root = tempfile.TemporaryDirectory()
        >>> dataset = Dataset(label="x", scenario="tdl-6prb", split="test", block_slots=2, num_blocks=1, sinr_db=(5.0,))
        >>> list(write_dataset(dataset, root.name))
        [(1, 1)]
        >>> DatasetStream(f"{root.name}/x").at_sinr(5.0).block(0).y.shape
        torch.Size([2, 2, 14, 72])
        >>> root.cleanup()
    """

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        self._folder, self.device = Path(folder), device
        if not (self._folder / _RECORD).is_file():
            raise UserError(f"{folder}: not a dataset (no {_RECORD}); write one with: leanrx data CONFIG")
        self.dataset = _load_record(self._folder)
        self.scenario, self.seed, self.block_slots = self.dataset.scenario, self.dataset.seed, self.dataset.block_slots
        self.name = f"{self.dataset.split}/{self.dataset.purpose}"
        self._hashes = _read_hashes(self._folder)
        self._point = _DRAWN

    @property
    def digest(self) -> str:
        """SHA-256 over the hashes of all blocks."""
        return hashlib.sha256("".join(f"{k}{v}" for k, v in sorted(self._hashes.items())).encode()).hexdigest()

    def check_files(self) -> None:
        """Check the hash of every block.

        Raises:
            UserError: if a block is missing or damaged.
        """
        for point in self.dataset.points:
            for number in range(self.dataset.num_blocks):
                self._read_block(_block_name(point, number))

    def require(self, scenario: Scenario, split: Split, block_slots: int) -> DatasetStream:
        """Return this stream if the dataset fits a configuration.

        Args:
            scenario: required scenario.
            split: required split.
            block_slots: required slots per block.

        Raises:
            UserError: if the dataset has another scenario, split or block size.
        """
        requirements = {"scenario": scenario, "split": split, "block_slots": block_slots}
        for field, required in requirements.items():
            value = getattr(self.dataset, field)
            if value != required:
                difference = "differs" if field == "scenario" else f"is {value}, but {required} is required"
                raise UserError(f"{self._folder}: {field} {difference}; write a dataset for this configuration")
        return self

    def at_sinr(self, sinr_db: float, interference_fraction: float = 0.0) -> DatasetStream:
        """Return the stream of one test point.

        Args:
            sinr_db: mean SINR of the test point.
            interference_fraction: interference fraction of the test point.

        Raises:
            UserError: if the dataset has no such test point.
        """
        point = _point_name(sinr_db, interference_fraction)
        if point not in self.dataset.points:
            raise UserError(
                f"{self._folder}: has no test point {sinr_db:g} dB with interference fraction "
                f"{interference_fraction:g}; it has {', '.join(self.dataset.points)}"
            )
        stream = object.__new__(DatasetStream)
        stream.__dict__.update(
            self.__dict__, _point=point, scenario=self.dataset.scenario.at_sinr(sinr_db, interference_fraction)
        )
        return stream

    def block(self, number: int) -> Slots:
        """Read block ``number``.

        Raises:
            UserError: if it is not in the dataset, damaged or truncated.
        """
        if not 0 <= number < self.dataset.num_blocks:
            raise UserError(
                f"{self._folder}: has no block {number}, because num_blocks is {self.dataset.num_blocks}; "
                "write a longer dataset"
            )
        if self._point not in self.dataset.points:
            raise UserError(f"{self._folder}: holds only test points: {', '.join(self.dataset.points)}; use at_sinr")
        name = _block_name(self._point, number)
        data, path = self._read_block(name), self._folder / name
        try:
            with h5py.File(io.BytesIO(data), "r") as file:
                self._check_attributes(dict(file.attrs), number)
                arrays = {field: self._array(field, file[field][()]) for field in _FIELDS}
        except (OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(
                f"{path}: not the slots of {_RECORD} ({error}); delete the folder and write the dataset again"
            ) from None
        return Slots(**{field: torch.from_numpy(array).to(self.device) for field, array in arrays.items()})

    def _read_block(self, name: str) -> bytes:
        """The content of a block's file, whose hash is the one in the list.

        Raises:
            UserError: if it is missing, damaged or truncated.
        """
        path = self._folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); write the dataset again") from None
        if hashlib.sha256(data).hexdigest() != self._hashes.get(name):
            raise UserError(
                f"{path}: damaged or truncated ({len(data)} bytes; its SHA-256 is not the one in {SUMS}); "
                "delete the file and write the dataset again"
            )
        return data

    def _check_attributes(self, attributes: dict[str, Any], number: int) -> None:
        required = {"version": VERSION, "block": number, "seed": self.seed, "split": self.dataset.split}
        for name, value in required.items():
            if attributes.get(name) != value:
                raise ValueError(f"attribute {name} is not {value}")

    def _array(self, field: str, array: Any) -> NDArray[Any]:
        """An array of a block, of the type, the shape and the range of its field."""
        scenario, grid = self.scenario, self.scenario.grid
        sizes = {"B": self.block_slots, "R": grid.num_rx, "S": NUM_SYMBOLS, "F": grid.num_subcarriers}
        sizes |= {"K": scenario.bits_per_symbol, "I": len(self.scenario.interferers)}
        shape, dtype = tuple(sizes[axis] for axis in _FIELDS[field][0]), _DTYPES.get(field, "float32")
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
            raise ValueError(f"{field} is not {dtype} {shape}")
        if array.dtype.kind in "fc" and field not in _INFINITE and not np.isfinite(array).all():
            raise ValueError(f"{field} is not finite")
        return array


def _pack(slots: Slots, dataset: Dataset, number: int) -> bytes:
    """Return a block as the content of an HDF5 file."""
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


def _read_hashes(folder: Path) -> dict[str, str]:
    """Read the hashes of the block files, by file name. An unfinished line is ignored."""
    path = folder / SUMS
    if not path.exists():
        return {}
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: cannot be read; delete the folder and write the dataset again") from None
    hashes = {}
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        match = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        if match is None:
            raise UserError(f"{path}: line {number} is no hash; delete the folder and write the dataset again")
        hashes[match[2]] = match[1]
    return hashes
