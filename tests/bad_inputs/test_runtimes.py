"""Bad arguments of exported receivers: the same refusals in every runtime, and return codes in C."""

from __future__ import annotations

import contextlib
import ctypes
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from leanrx_core.errors import UserError
from leanrx_core.messages import MAX_LENGTH
from receivers import zoo
from receivers.export.c_export import compile_library
from receivers.export.c_source import c_sources
from receivers.export.litert import litert_file
from receivers.export.onnx import write_graph
from receivers.runtime import CLibrary, LiteRtSession, OnnxSession

NAME = "tdl-6prb-hybrid-w5-d5-kd"
NUM_PRB = 4
SHAPE = (2, 2, 14, 12 * NUM_PRB)
CANARY = -12345.0

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")


def arguments() -> dict[str, Any]:
    """A good call: two slots of 16-QAM with pilots on symbol 2."""
    rng = np.random.default_rng(1)
    y = (rng.standard_normal(SHAPE) + 1j * rng.standard_normal(SHAPE)).astype(np.complex64)
    pilots = np.zeros((2, 14, SHAPE[3]), np.complex64)
    pilots[:, 2] = np.exp(0.5j * np.pi * rng.integers(0, 4, (2, SHAPE[3])))
    return {
        "y": y,
        "pilots": pilots,
        "noise_plus_interference_var": np.full(2, 0.1, np.float32),
        "bits_per_symbol": np.full(2, 4),
    }


def with_value(name: str, value: complex) -> Callable[[dict[str, Any]], Any]:
    """An array with one value replaced, on a pilot symbol."""

    def change(call: dict[str, Any]) -> Any:
        array = call[name].copy()
        array[(1,) * (array.ndim - 2) + (2, 5) if array.ndim > 1 else 1] = value
        return array

    return change


LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "double": lambda x: x.astype(np.complex128),
    "real": lambda x: x.real.copy(),
    "integers": lambda x: x.real.astype(np.int16),
    "real-pairs": lambda x: x.view(np.float32).reshape(*x.shape, 2),
    "no-batch": lambda x: x[0],
    "one-more-axis": lambda x: x[None],
    "subcarriers-first": lambda x: np.swapaxes(x, -1, -2),
    "12-symbols": lambda x: x[..., :12, :],
    "no-slots": lambda x: x[:0],
    "no-subcarriers": lambda x: x[..., :0],
    "part-of-a-resource-block": lambda x: x[..., :30],
    "nothing": lambda x: None,
    "text": lambda x: "y",
    "lists": lambda x: x.real.tolist(),
}
BAD_NUMBERS: dict[str, Any] = {
    "zero": 0.0,
    "negative": -0.1,
    "not-a-number": float("nan"),
    "infinite": float("inf"),
    "overflow": 1e300,
    "text": "x",
    "nothing": None,
    "complex": 1j,
    "three-values": np.ones(3),
    "matrix": np.full((2, 2), 0.1),
}
BAD_ORDERS: dict[str, Any] = {
    **{key: BAD_NUMBERS[key] for key in ("zero", "negative", "not-a-number", "infinite", "text", "nothing")},
    "odd": 3,
    "fraction": 4.5,
    "above-the-receiver": 6,
    "wraps-around": 2**32 + 4,
    "one-of-two": [4, 5],
    "three-values": [4, 4, 4],
}
CHANGES: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    **{f"y-{k}": ("y", lambda call, f=f: f(call["y"])) for k, f in LAYOUTS.items()},
    **{f"pilots-{k}": ("pilots", lambda call, f=f: f(call["pilots"])) for k, f in LAYOUTS.items()},
    **{f"noise-{k}": ("noise_plus_interference_var", lambda call, v=v: v) for k, v in BAD_NUMBERS.items()},
    **{f"order-{k}": ("bits_per_symbol", lambda call, v=v: v) for k, v in BAD_ORDERS.items()},
    "one-resource-block": ("y", lambda call: call["y"][..., :12]),
    "y-not-a-number": ("y", with_value("y", complex("nan"))),
    "y-infinite": ("y", with_value("y", complex("inf"))),
    "pilots-not-a-number": ("pilots", with_value("pilots", complex("nan"))),
    "pilots-infinite": ("pilots", with_value("pilots", complex("inf"))),
    "y-too-large": ("y", with_value("y", -1e15j)),
    "pilots-too-large": ("pilots", with_value("pilots", 1e15)),
    "pilots-zero": ("pilots", lambda call: 0 * call["pilots"]),
    "pilots-too-small": ("pilots", lambda call: 1e-30 * call["pilots"]),
    "pilots-one-lost": ("pilots", with_value("pilots", 0)),
    "pilots-on-another-symbol": ("pilots", lambda call: np.roll(call["pilots"], 1, 1)),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("c")
    for name, text in c_sources(zoo.load(NAME), zoo.results(NAME).scenario.grid).items():
        (folder / name).write_text(text)
    compile_library(folder / f"{NAME}.c", folder / "receiver.so", ("-O1",))
    return folder / "receiver.so"


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / f"{NAME}.onnx"
    write_graph(zoo.load(NAME), path, zoo.results(NAME).scenario.grid)
    return path


@pytest.fixture(scope="module", params=["c", "onnx", "litert"])
def runtime(request: pytest.FixtureRequest, library: Path, graph: Path) -> Callable[..., np.ndarray]:
    if request.param != "litert":
        return CLibrary(library) if request.param == "c" else OnnxSession(graph)
    if find_spec("tensorflow") is None:
        pytest.skip("needs leanrx[edge]")
    path = graph.with_suffix(".tflite")
    path.write_bytes(litert_file(onnx.load(graph)))
    return LiteRtSession(path)


def test_a_good_call_is_computed(runtime: Callable[..., np.ndarray]) -> None:
    llrs = runtime(**arguments())
    assert llrs.shape == (2, 4, 14, 12 * NUM_PRB)
    assert np.isfinite(llrs).all()
    one_value = runtime(**{**arguments(), "noise_plus_interference_var": 0.1, "bits_per_symbol": 4})
    np.testing.assert_array_equal(one_value, llrs)


def test_a_slot_of_zeros_has_small_finite_llrs(runtime: Callable[..., np.ndarray]) -> None:
    """An empty slot says nothing on its bits: the LLRs are those of the constellation and of the last layer's bias."""
    call = arguments()
    llrs = runtime(**{**call, "y": 0 * call["y"]})
    assert np.isfinite(llrs).all()
    assert abs(llrs).max() < 1


def test_a_slot_beyond_the_range_of_floats_leaves_the_next_one_as_it_is(runtime: Callable[..., np.ndarray]) -> None:
    call = arguments()
    llrs = runtime(**call)
    with np.errstate(all="ignore"):
        for y, pilots, noise_var in ((1e14, 1e3, 0.1), (1e10, 1e6, 1e-37)):
            large = {"y": y * call["y"], "pilots": pilots * call["pilots"], "noise_plus_interference_var": noise_var}
            with contextlib.suppress(UserError):
                runtime(**{**call, **large})
    np.testing.assert_array_equal(runtime(**call), llrs)


@pytest.mark.parametrize("change", CHANGES)
def test_a_bad_argument_is_refused_in_one_line(runtime: Callable[..., np.ndarray], change: str) -> None:
    call = arguments()
    name, new_value = CHANGES[change]
    with pytest.raises(UserError) as refusal:
        runtime(**{**call, name: new_value(call)})
    message = str(refusal.value)
    assert message.isprintable()
    assert len(message) <= MAX_LENGTH
    assert ": " in message


CODES = {
    "no-resource-blocks": ({"num_prb": 0}, -1),
    "negative-resource-blocks": ({"num_prb": -1}, -1),
    "too-many-resource-blocks": ({"num_prb": 10**6}, -1),
    "order-of-0": ({"order": 0}, -2),
    "odd-order": ({"order": 3}, -2),
    "order-above-the-receiver": ({"order": 6}, -2),
    "no-noise": ({"noise": 0.0}, -3),
    "negative-noise": ({"noise": -1.0}, -3),
    "noise-not-a-number": ({"noise": float("nan")}, -3),
    "infinite-noise": ({"noise": float("inf")}, -3),
    "no-pilots": ({"pilots": 0j}, -4),
    "pilots-not-a-number": ({"pilots": complex("nan")}, -5),
    "samples-not-a-number": ({"y": complex("nan")}, -5),
    "infinite-samples": ({"y": complex("inf")}, -5),
    "no-samples": ({"y": None}, -6),
    "pilots-missing": ({"pilots": None}, -6),
}


@pytest.mark.parametrize("function", ["leanrx_receive", "leanrx_receive_int8"])
@pytest.mark.parametrize("fault", CODES)
def test_a_c_function_returns_a_code_and_writes_nothing(library: Path, fault: str, function: str) -> None:
    changes, code = CODES[fault]
    call, loaded = arguments(), ctypes.CDLL(str(library))
    is_int8 = function == "leanrx_receive_int8"
    llrs = np.full((4, 14, 12 * NUM_PRB), 77 if is_int8 else CANARY, np.int8 if is_int8 else np.float32)
    before = llrs.copy()
    pointers = []
    for name in ("y", "pilots"):
        array = np.ascontiguousarray(call[name][0])
        if changes.get(name, 1) is not None and name in changes:
            array = np.full_like(array, changes[name])
        pointers.append(None if changes.get(name, 1) is None else array.ctypes.data_as(ctypes.c_void_p))
        call[name] = array  # keeps it alive
    numbers = (
        ctypes.c_float(changes.get("noise", 0.1)),
        ctypes.c_int(changes.get("order", 4)),
        ctypes.c_int(changes.get("num_prb", NUM_PRB)),
    )
    scale = (ctypes.c_float(4.0),) if is_int8 else ()
    assert getattr(loaded, function)(*pointers, *numbers, *scale, llrs.ctypes.data_as(ctypes.c_void_p)) == code
    np.testing.assert_array_equal(llrs, before)
    assert getattr(loaded, function)(*pointers, *numbers, *scale, None) == -6
    loaded.leanrx_message.restype = ctypes.c_char_p
    assert loaded.leanrx_message(code) not in (b"no error", b"unknown code")
