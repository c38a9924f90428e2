"""Matrix products of C files: sums of a fixed number of products, and matrices whose size is a multiple of it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from receivers.export.c_constants import by_fours, c_array

MIN_TERMS, MAX_TERMS = 4, 20
"""Products that are written out, so that a sum of them needs no loop. Their weights must fit in registers."""


def round_up(count: int, multiple: int) -> int:
    """The smallest multiple that is not below a count."""
    return -(-count // multiple) * multiple


def num_terms(sizes: Iterable[tuple[int, int]]) -> int:
    """Products that are written out, for matrices of some sizes (columns, rows).

    Columns are filled up with zeros. Sums are read and written once per ``terms`` columns, which takes the time of one.

    Example:
        >>> num_terms([(19, 15)]), num_terms([(64, 32), (96, 64)])
        (19, 16)
    """
    sizes = list(sizes)

    def cost(terms: int) -> int:
        return sum(-(-columns // terms) * (terms + 1) * rows for columns, rows in sizes)

    return min(range(MAX_TERMS, MIN_TERMS - 1, -1), key=cost)


def matrix_products(*terms: int) -> str:
    """C functions ``matrix_product_N`` for sums of N products each."""
    folder = resources.files("receivers.export") / "c"
    template = (folder / "products.c.in").read_text()
    functions = [
        template.replace("@TERM_LIST@", "\n        ".join(f"TERM({c})" for c in range(count))).replace(
            "@TERMS@", str(count)
        )
        for count in sorted(set(terms))
    ]
    return (folder / "pointwise.c.in").read_text().replace("@PRODUCTS@", "\n".join(functions))


def padded(values: NDArray[np.float64], *multiples: int) -> NDArray[np.float64]:
    """Values with zeros behind them, so that each dimension is a multiple of a number.

    Example:
        >>> padded(np.ones((1, 3)), 2, 4).tolist()
        [[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    sizes = zip(values.shape, multiples, strict=True)
    return np.pad(values, [(0, round_up(size, multiple) - size) for size, multiple in sizes])


def c_matrix(name: str, weight: NDArray[np.float64], terms: int) -> str:
    """A matrix ``(outputs, inputs)`` as a constant: groups of four outputs, and a multiple of ``terms`` inputs."""
    groups = by_fours(padded(weight, 1, terms))
    return f"static const float {name}[][4] = {c_array(groups.reshape(-1, 4))};"
