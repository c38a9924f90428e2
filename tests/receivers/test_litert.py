"""LiteRT files against the receivers that they are exported from, and the session that runs them without torch."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from factories import perturbed_receiver

from channels import Channels, Dmrs, Grid, Scenario, SlotStream
from leanrx_core.errors import UserError
from receivers.classical import LmmseIrcReceiver, LmmseReceiver
from receivers.evaluation.stopping import Evaluation
from receivers.export import export_int8, export_litert, quantise
from receivers.export.exported_file import open_exported
from receivers.export.exported_receiver import ExportedReceiver
from receivers.export.litert import convert, litert_file, with_metadata
from receivers.export.onnx import write_graph
from receivers.export.parity import compare
from receivers.runtime import LiteRtSession
from receivers.runtime.slot_format import SlotFormat

pytestmark = pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs leanrx[edge]")

SLOTS = SlotFormat(
    num_rx=2,
    num_bits=2,
    subcarrier_spacing_hz=15000,
    min_prb=1,
    max_prb=2,
    pilots=(((2,), (0, 2, 4)), ((2, 11), (0, 2, 4))),
)
GRAPH = """
<ir_version: 8, opset_import: ["": 18]>
parts (float[batch,2,14,subcarriers,2] y, float[batch,14,subcarriers,2] pilots) => (float[batch,2,14,subcarriers] llrs)
{ zero = Constant <value_int = 0> () real = Gather <axis = 4> (y, zero) llrs = Relu (real) }
"""


def conditions(**grid: object) -> Scenario:
    return Scenario(
        name="s",
        grid=Grid(**{"num_prb": 3, "pilot_patterns": ((2,), (2, 11)), **grid}),  # type: ignore[arg-type]
        channels=Channels(test=("TDL-A",)),
        modulations=("QPSK", "16-QAM"),
        interferers=({"probability": 0.5, "sir_db": (0.0, 20.0)},),
        snr_db=(0.0, 25.0),
    )


@pytest.mark.parametrize(
    ("spec", "grid"),
    [
        ("hybrid-w3-d2", {}),
        (
            "hybrid-w2-d1",
            {
                "num_rx": 4,
                "dmrs": Dmrs(additional_positions=(0, 2)),
                "pilot_patterns": (),
                "subcarrier_spacing_hz": 30000,
            },
        ),
        ("hybrid-w2-d1", {"dmrs": Dmrs(config_type=2, cdm_groups_without_data=1), "pilot_patterns": ()}),
        ("deeprx-w0.0625-d3", {}),
        ("deeprx-interpolated-w0.0625-d3", {"dmrs": Dmrs(additional_positions=(0, 1)), "pilot_patterns": ()}),
    ],
)
def test_a_file_goes_from_samples_to_llrs(tmp_path: Path, spec: str, grid: dict[str, object]) -> None:
    """Of any bandwidth, batch and modulation; all parts are in the file, and its card describes it."""
    scenario, folder = conditions(**grid), tmp_path / "net"
    receiver = perturbed_receiver(spec, scenario.grid.num_rx)
    write_graph(receiver, tmp_path / "net.onnx", scenario.grid)
    stream = SlotStream(scenario, 1, 4, "test", purpose="export")
    assert export_litert(receiver, tmp_path / "net.onnx", folder, stream, (10.0,), (0.0, 0.5)).equal
    exported = ExportedReceiver(folder / "net.tflite", "x")
    for num_prb, batch in ((8, 3), (3, 2)):
        wide = scenario.model_copy(update={"grid": scenario.grid.model_copy(update={"num_prb": num_prb})})
        slots = SlotStream(wide, 1, batch, "test").block(0)
        assert compare(receiver, exported, slots).equal
        assert not exported(slots)[~slots.bit_mask].any()
    card = json.loads((folder / "card.json").read_text())
    assert card["sha256"] == exported.digest
    assert card["inputs"]["y"] == {"dtype": "float32", "shape": [1, scenario.grid.num_rx, 14, "subcarriers", 2]}
    assert card["inputs"]["bits_per_symbol"]["dtype"] == "int64"
    assert ("noise_plus_interference_var" in card["inputs"]) == spec.startswith("hybrid")
    assert open_exported(folder, tmp_path).arithmetic == "float"


@pytest.mark.parametrize(
    ("receiver_class", "grid"),
    [
        (LmmseReceiver, {}),
        (LmmseIrcReceiver, {"num_rx": 3, "dmrs": Dmrs(additional_positions=(1,)), "pilot_patterns": ()}),
    ],
)
def test_classical_receivers(
    tmp_path: Path, receiver_class: type[LmmseReceiver | LmmseIrcReceiver], grid: dict[str, object]
) -> None:
    """Over all SINRs, with and without interference, of the bandwidth of their scenario alone."""
    scenario, folder = conditions(**grid), tmp_path / "classical"
    receiver = receiver_class(scenario)
    write_graph(receiver, tmp_path / "x.onnx", scenario.grid)
    stream = SlotStream(scenario, 1, 12, "test", purpose="export")
    assert export_litert(receiver, tmp_path / "x.onnx", folder, stream, (0.0, 12.0, 24.0), (0.0, 0.5)).equal
    exported = open_exported(folder, tmp_path)
    assert exported.name == f"{receiver.name.lower()}.tflite"
    slots = SlotStream(scenario, 4, 24, "test").block(0)
    assert compare(receiver, exported, slots).equal
    assert not exported(slots)[~slots.bit_mask].any()
    card = json.loads((folder / "card.json").read_text())
    assert card["inputs"]["y"]["shape"] == [1, scenario.grid.num_rx, 14, 36, 2]
    assert card["receiver"]["digest"] == receiver.digest
    with pytest.raises(UserError, match=r"y: 4 resource blocks; .*\.tflite takes 3"):
        exported(SlotStream(conditions(**{**grid, "num_prb": 4}), 1, 1, "test").block(0))


@pytest.mark.parametrize(("spec", "part"), [("hybrid-w3-d2", 0.05), ("deeprx-interpolated-w0.0625-d3", 1)])
def test_an_int8_file_has_the_scales_of_the_onnx_file(tmp_path: Path, spec: str, part: float) -> None:
    """Both runtimes round alike, but for values between two integers.

    In LiteRT, concatenated values have one scale, so the depthwise results of a DeepRx are rounded to others.
    """
    scenario = conditions()
    receiver, calibration = (
        perturbed_receiver(spec),
        SlotStream(scenario, 1, 8, "test", purpose="calibration").block(0),
    )
    write_graph(receiver, tmp_path / "net.onnx", scenario.grid)
    (tmp_path / "net.tflite").write_bytes(litert_file(onnx.load(tmp_path / "net.onnx")))
    evaluation = Evaluation(sinr_db=(0, 10), block_slots=8, min_slots=16, max_slots=16, target_slot_errors=None)
    stream = SlotStream(scenario, 1, 8, "test", purpose="export")
    comparison = export_int8(
        tmp_path / "net.tflite", tmp_path / "net.onnx", calibration, stream, evaluation, target_ber=0.4
    )
    assert comparison.path == tmp_path / "net-int8.tflite"
    report = json.loads((tmp_path / "net-int8.json").read_text())
    assert report["format"].startswith("tflite, convolutions in int8")
    assert open_exported(comparison.path, tmp_path).arithmetic == "int8"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("net-int8.json", "net-int8.tflite", "net.onnx", "net.tflite")
    ]
    quantise(tmp_path / "net.onnx", tmp_path / "int8.onnx", calibration)
    slots = stream.at_sinr(10.0, 0.0).block(3)
    mask, files = (
        slots.bit_mask,
        (ExportedReceiver(comparison.path, "x"), ExportedReceiver(tmp_path / "int8.onnx", "y")),
    )
    int8, witness = (file(slots)[mask] for file in files)
    float32 = receiver(slots)[mask]
    assert (int8 - witness).square().mean() < part * (witness - float32).square().mean()
    assert 0 < (int8 - float32).square().mean() < 1e-3 * float32.square().mean()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose LLRs are the real parts of samples, where these are positive."""
    path = tmp_path_factory.mktemp("litert") / "x.tflite"
    path.write_bytes(with_metadata(convert(onnx.parser.parse_model(GRAPH)), "hybrid-w2-d1", SLOTS))
    return path


def arrays(num_prb: int = 2, symbols: tuple[int, ...] = (2, 11)) -> tuple[np.ndarray, np.ndarray]:
    """Samples and pilots of two slots."""
    generator = np.random.default_rng(1)
    y = generator.standard_normal((2, 2, 14, 12 * num_prb, 2)).astype(np.float32).view(np.complex64)[..., 0]
    pilots = np.zeros((2, 14, 12 * num_prb), np.complex64)
    for symbol in symbols:
        pilots[:, symbol] = np.tile([1, 0, 1, 0, 1j] + 7 * [0], num_prb)
    return y, pilots


def test_llrs_are_those_of_the_graph_at_each_bandwidth(file: Path) -> None:
    session = LiteRtSession(file)
    assert (session.receiver, session.num_rx, session.num_bits) == ("hybrid-w2-d1", 2, 2)
    for num_prb in (2, 1, 2):
        y, pilots = arrays(num_prb)
        llrs = session(y[:, :, :, ::-1], pilots, 0.1, 2)  # not contiguous
        assert llrs.dtype == np.float32
        np.testing.assert_array_equal(llrs, np.maximum(y.real[:, :, :, ::-1], 0))


def test_damaged_and_foreign_files_are_refused(file: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "x.tflite", file.read_bytes()
    with pytest.raises(UserError, match="missing; export"):
        LiteRtSession(path)
    with zipfile.ZipFile(file) as archive:
        model = data[: archive.infolist()[0].header_offset]
    flipped = bytes([*model[:600], model[600] ^ 1, *model[601:]])
    for content, words in [
        (b"no model", "not exported by leanrx"),
        (model, "not exported by leanrx"),
        (data[: len(data) // 2], "not exported by leanrx"),
        (flipped + data[len(model) :], "damaged since its export"),
        (with_metadata(b"no model", "deeprx", SLOTS), "LiteRT cannot load it"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            LiteRtSession(path)


def test_an_operator_without_a_form_is_named_with_its_layer(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(GRAPH)
    model.graph.node[-1].op_type = "Selu"
    model.graph.node[-1].name = "/net/blocks.3/activation"
    with pytest.raises(UserError, match=r"/net/blocks\.3/activation is a Selu, which has no form in LiteRT"):
        convert(model)


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        ({"tensorflow"}, "(2, 2, 14, 24)"),
        ({"tensorflow", "ai_edge_litert"}, "LiteRT is not installed; run: pip install ai-edge-litert"),
    ],
)
def test_the_runtime_needs_numpy_and_litert_alone(file: Path, packages: set[str], words: str) -> None:
    blocked = sorted(packages | {"torch", "pandas", "sionna", "scipy", "pydantic", "onnx", "onnxruntime"})
    code = (
        "import sys, numpy as np\n"
        f"sys.modules.update(dict.fromkeys({blocked}))\n"
        "from leanrx_core.errors import UserError\n"
        "from receivers.runtime import LiteRtSession\n"
        "y, pilots = np.ones((2, 2, 14, 24), np.complex64), np.zeros((2, 14, 24), np.complex64)\n"
        "pilots[:, 2, [0, 2, 4, 12, 14, 16]] = 1\n"
        "try:\n"
        f"    print(LiteRtSession({str(file)!r})(y, pilots, 0.1, 2).shape)\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert words in done.stdout, done.stderr
    assert "INFO" not in done.stderr


def test_tensorflow_has_the_same_runtime(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    y, pilots = arrays()
    expected = LiteRtSession(file)(y, pilots, 0.1, 2)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.warns(UserWarning, match="deprecated"):
        np.testing.assert_array_equal(LiteRtSession(file)(y, pilots, 0.1, 2), expected)


def test_without_tensorflow_nothing_is_exported(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=r"litert needs TensorFlow; run: pip install 'leanrx\[edge\]'"):
        convert(onnx.parser.parse_model(GRAPH))
