import math
import subprocess
import sys
from collections.abc import Callable

import pytest

from leanrx_core.checks import choice, fraction, integer, number, positive
from leanrx_core.errors import UserError
from leanrx_core.units import JOULES_PER_KWH


def test_allowed_values_are_returned() -> None:
    assert number("x", 3, 3, 4) == 3
    assert positive("x", 1e-9) == 1e-9
    assert [fraction("x", value) for value in (0, 0.5, 1)] == [0, 0.5, 1]
    assert type(integer("x", 2.0, 1)) is int
    assert choice("x", 8, (8, 16)) == 8


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: number("x", 2, 3), "x: 2 is not allowed; give a number of 3 or more"),
        (lambda: number("x", 5, 3, 4), "x: 5 is not allowed; give a number from 3 to 4"),
        (lambda: number("x", 3, 3, 4, open_low=True), "x: 3 is not allowed; give a number from 3 (excluded) to 4"),
        (lambda: number("x", True, 0), "x: True is not allowed; give a number of 0 or more"),
        (lambda: number("x", math.inf, 0), "x: inf is not allowed; give a number of 0 or more"),
        (lambda: number("x", math.nan, 0), "x: nan is not allowed; give a number of 0 or more"),
        (lambda: positive("x", "1"), "x: '1' is not allowed; give a number above 0"),
        (lambda: fraction("x", 1.1), "x: 1.1 is not allowed; give a number from 0 to 1"),
        (lambda: integer("x", 2.5, 1), "x: 2.5 is not a whole number; give 1 or more"),
        (lambda: integer("x", 0, 1), "x: 0 is not allowed; give a number of 1 or more"),
        (lambda: choice("x", "lora", ("wifi", "lte")), "x: 'lora' is not known; choose from wifi, lte"),
        (lambda: choice("x", [8], (8, 16)), "x: [8] is not known; choose from 8, 16"),
    ],
)
def test_other_values_are_refused(check: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError) as error:
        check()
    assert str(error.value) == message


def test_a_kilowatt_hour_is_a_kilowatt_for_an_hour() -> None:
    assert JOULES_PER_KWH == 1000 * 60 * 60


def test_the_ground_package_imports_no_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, leanrx_core\n"
        "names = [m.name for m in pkgutil.iter_modules(leanrx_core.__path__)]\n"
        "for name in names: importlib.import_module(f'leanrx_core.{name}')\n"
        "assert {'checks', 'errors', 'files', 'records', 'units'} <= set(names)\n"
        "heavy = {'torch', 'numpy', 'pandas', 'sionna', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
