"""Exported receivers without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from leanrx_core.errors import UserError
from receivers.export.litert import litert_file
from receivers.runtime import LiteRtSession, OnnxSession, ReceiverSession

GRAPH = """
<ir_version: 8, opset_import: ["": 18]>
parts (float[batch,2,14,subcarriers,2] y, float[batch,14,subcarriers,2] pilots) => (float[batch,2,14,subcarriers] llrs)
{ zero = Constant <value_int = 0> () llrs = Gather <axis = 4> (y, zero) }
"""
SLOTS = {
    "num_rx": 2,
    "num_bits": 2,
    "subcarrier_spacing_hz": 15000,
    "min_prb": 1,
    "max_prb": 2,
    "pilots": [[[2], [0, 2, 4]], [[2, 11], [0, 2, 4]]],
}
METADATA = {"receiver": "hybrid-w2-d1", "slots": json.dumps(SLOTS)}


def write(path: Path, metadata: dict[str, str] = METADATA) -> Path:
    model = onnx.parser.parse_model(GRAPH)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def arrays(num_prb: int = 2, symbols: tuple[int, ...] = (2, 11)) -> tuple[np.ndarray, np.ndarray]:
    """Samples and pilots of two slots."""
    generator = np.random.default_rng(1)
    y = generator.standard_normal((2, 2, 14, 12 * num_prb, 2)).astype(np.float32).view(np.complex64)[..., 0]
    pilots = np.zeros((2, 14, 12 * num_prb), np.complex64)
    for symbol in symbols:
        pilots[:, symbol] = np.tile([1, 0, 1, 0, 1j] + 7 * [0], num_prb)
    return y, pilots


def test_llrs_are_those_of_the_graph(tmp_path: Path) -> None:
    session = OnnxSession(write(tmp_path / "x.onnx"))
    assert (session.receiver, session.num_rx, session.num_bits) == ("hybrid-w2-d1", 2, 2)
    y, pilots = arrays()
    llrs = session(y[:, :, :, ::-1], pilots, 0.1, 2)  # not contiguous
    assert llrs.dtype == np.float32
    np.testing.assert_array_equal(llrs, y.real[:, :, :, ::-1])


@pytest.fixture(scope="module", params=["onnx", "tflite"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ReceiverSession:
    path = write(tmp_path_factory.mktemp("runtime") / "x.onnx")
    if request.param == "onnx":
        return OnnxSession(path)
    if find_spec("tensorflow") is None:
        pytest.skip("needs leanrx[edge]")
    path.with_suffix(".tflite").write_bytes(litert_file(onnx.load(path)))
    return LiteRtSession(path.with_suffix(".tflite"))


def test_wrong_slots_are_refused_and_the_next_ones_computed(session: ReceiverSession) -> None:
    y, pilots = arrays()
    nan, wide = np.full_like(y, np.nan), arrays(3)
    for arguments, words in [
        ((y.astype(np.complex128), pilots, 0.1, 2), "y: dtype complex128 is not allowed"),
        ((y.real, pilots, 0.1, 2), "y: dtype float32 is not allowed"),
        ((y[:, :1], pilots, 0.1, 2), r"x\.(onnx|tflite) takes \(batch, 2, 14, subcarriers\), 12 subcarriers for each"),
        ((y[..., :13], pilots, 0.1, 2), r"y: shape \(2, 2, 14, 13\) is not allowed"),
        ((y[:0], pilots[:0], 0.1, 2), r"y: shape \(0, 2, 14, 24\) is not allowed"),
        ((*wide, 0.1, 2), r"y: 3 resource blocks; x\.(onnx|tflite) takes 1 to 2"),
        ((y, pilots[:1], 0.1, 2), r"pilots: shape \(1, 14, 24\) does not fit y"),
        ((nan, pilots, 0.1, 2), "y: a value is not finite"),
        ((-1e15 * y, pilots, 0.1, 2), r"y: a value is not finite, or is 1e\+15 or more"),
        ((y, 1e15 * pilots, 0.1, 2), "pilots: a value is not finite, or"),
        ((y, pilots, -0.1, 2), "noise_plus_interference_var: not a finite number above 0"),
        ((y, pilots, 0.0, 2), "noise_plus_interference_var: not a finite number above 0"),
        ((y, pilots, [0.1, np.inf], 2), "noise_plus_interference_var: not a finite number above 0"),
        ((y, pilots, 0.1, 4), r"bits_per_symbol: x\.(onnx|tflite) takes 2"),
        ((y, arrays(symbols=(3,))[1], 0.1, 2), "pilots: they are on other symbols"),
        ((y, np.roll(pilots, 1, -1), 0.1, 2), "pilots: they are on other symbols"),
        ((y, 0 * pilots, 0.1, 2), "pilots: they are on other symbols"),
    ]:
        with pytest.raises(UserError, match=words):
            session(*arguments)
    assert session(y, arrays(symbols=(2,))[1], 0.1, [2, 2]).shape == y.shape


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with pytest.raises(UserError, match="missing; export"):
        OnnxSession(path)
    path.write_bytes(b"not a graph")
    with pytest.raises(UserError, match="cannot load"):
        OnnxSession(path)
    with pytest.raises(UserError, match="name no receiver"):
        OnnxSession(write(path, {}))
    with pytest.raises(UserError, match=r"earlier version of leanrx, without its front end; export again"):
        OnnxSession(write(path, {"receiver": "deeprx", "feature_description": "those of old"}))
    for damaged in (
        "{",
        "[]",
        "{}",
        json.dumps({**SLOTS, "pilots": 3}),
        json.dumps({**SLOTS, "more": 1}),
        "[" * 10_000,
        json.dumps({**SLOTS, "num_rx": "2"}),
    ):
        with pytest.raises(UserError, match="its metadata describe no slots"):
            OnnxSession(write(path, {"receiver": "deeprx", "slots": damaged}))


def test_the_runtime_needs_numpy_and_onnxruntime_alone(tmp_path: Path) -> None:
    """All other packages that leanrx depends on are missing."""
    path = write(tmp_path / "x.onnx")
    code = (
        "import sys, numpy as np\n"
        "for name in ('torch', 'pandas', 'scipy', 'pydantic', 'yaml', 'onnx', 'lazy_loader', 'typer', 'rich'):\n"
        "    sys.modules[name] = None\n"
        "from receivers.runtime import OnnxSession\n"
        "pilots = np.zeros((1, 14, 12), np.complex64)\n"
        "pilots[:, 2, [0, 2, 4]] = 1\n"
        f"OnnxSession({str(path)!r})(np.zeros((1, 2, 14, 12), np.complex64), pilots, 0.1, 2)\n"
        "assert 'sionna' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
