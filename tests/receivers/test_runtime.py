"""Exported receivers without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from leanrx_core.errors import UserError
from receivers.runtime import OnnxSession

GRAPH = """
<ir_version: 8, opset_import: ["": 18]>
halves (float[batch,4,14,subcarriers] features) => (float[batch,2,14,subcarriers] llrs)
{ llrs, rest = Split <axis = 1, num_outputs = 2> (features) }
"""
METADATA = {"receiver": "hybrid-w2-d1", "feature_description": "four planes"}


def write(path: Path, metadata: dict[str, str] = METADATA) -> Path:
    model = onnx.parser.parse_model(GRAPH)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def test_llrs_are_those_of_the_graph(tmp_path: Path) -> None:
    session = OnnxSession(write(tmp_path / "x.onnx"))
    assert (session.receiver, session.feature_description) == ("hybrid-w2-d1", "four planes")
    assert (session.num_features, session.num_bits) == (4, 2)
    features = np.random.default_rng(1).standard_normal((3, 4, 14, 24)).astype(np.float32)
    llrs = session(features[:, :, :, ::2])  # not contiguous
    assert llrs.dtype == np.float32
    np.testing.assert_array_equal(llrs, features[:, :2, :, ::2])


def test_wrong_features_are_refused(tmp_path: Path) -> None:
    session = OnnxSession(write(tmp_path / "x.onnx"))
    with pytest.raises(UserError, match="dtype float64 is not allowed"):
        session(np.zeros((1, 4, 14, 12)))
    for shape in ((4, 14, 12), (1, 5, 14, 12), (1, 4, 13, 12), (0, 4, 14, 12)):
        with pytest.raises(UserError, match=r"is not allowed; x\.onnx takes \(batch, 4, 14, subcarriers\)"):
            session(np.zeros(shape, np.float32))


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with pytest.raises(UserError, match="missing; export"):
        OnnxSession(path)
    path.write_bytes(b"not a graph")
    with pytest.raises(UserError, match="cannot load"):
        OnnxSession(path)
    with pytest.raises(UserError, match="name no receiver"):
        OnnxSession(write(path, {}))
    with pytest.raises(UserError, match=r"earlier version of leanrx .*export again"):
        OnnxSession(write(path, {"receiver": "deeprx", "features": "those of old"}))


def test_the_runtime_loads_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "x.onnx")
    code = (
        "import sys, numpy as np\n"
        "from receivers.runtime import OnnxSession\n"
        f"OnnxSession({str(path)!r})(np.zeros((1, 4, 14, 12), np.float32))\n"
        "heavy = {'torch', 'pandas', 'sionna', 'scipy', 'pydantic', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
