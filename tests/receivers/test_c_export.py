"""C files of receivers: compiled with warnings as errors and sanitizers, and compared with the tested receivers."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import perturbed_receiver

import receivers
from channels import Channels, Dmrs, Grid, Scenario, Slots, SlotStream
from channels.grid import Subcarriers
from leanrx_core.errors import UserError
from receivers import zoo
from receivers.base import Receiver
from receivers.classical import LmmseIrcReceiver, LmmseReceiver
from receivers.export import export_c
from receivers.export.c_export import compile_library, example_program
from receivers.export.c_source import BUILD_FLAGS, c_sources
from receivers.export.export_card import file_name
from receivers.export.exported_receiver import ExportedReceiver
from receivers.export.parity import compare
from receivers.neural.weight_quantization import round_weight, weight_unit
from receivers.neural.weights import NeuralReceiver
from receivers.runtime import CLibrary

COMPILERS = [compiler for compiler in ("gcc", "clang", "clang-14") if shutil.which(compiler)]
STRICT = ("-Wall", "-Wextra", "-Werror", "-O1", "-march=x86-64-v3" if os.uname().machine == "x86_64" else "-O1")

pytestmark = pytest.mark.skipif(not COMPILERS, reason="needs a C compiler")


def conditions(**grid: object) -> Scenario:
    return Scenario(
        name="s",
        grid=Grid(**{"num_prb": 2, "pilot_patterns": ((2,), (2, 11)), **grid}),  # type: ignore[arg-type]
        channels=Channels(test=("TDL-A",)),
        modulations=("QPSK", "16-QAM"),
        interferers=({"probability": 0.5, "sir_db": (0.0, 20.0)},),
        snr_db=(0.0, 25.0),
    )


def compiled(receiver: Receiver, grid: Grid, folder: Path, *flags: str, compiler: str = "") -> ExportedReceiver:
    folder.mkdir(exist_ok=True)
    for name, text in c_sources(receiver, grid).items():
        (folder / name).write_text(text)
    compile_library(folder / f"{file_name(receiver)}.c", folder / "receiver.so", (*STRICT, *flags), compiler)
    return ExportedReceiver(folder / "receiver.so", "C")


@pytest.fixture(
    scope="module",
    params=["hybrid-w4-d2", "hybrid-recurrent-w5-d3", "deeprx-w0.0625-d3", "deeprx-interpolated-w0.0625-d3"],
)
def spec(request: pytest.FixtureRequest) -> str:
    """A network of each family."""
    return str(request.param)


@pytest.fixture(scope="module")
def library(spec: str, tmp_path_factory: pytest.TempPathFactory) -> ExportedReceiver:
    return compiled(perturbed_receiver(spec), conditions().grid, tmp_path_factory.mktemp("c"))


@pytest.mark.parametrize("num_prb", [40, 1, 2, 3, 17])
def test_one_file_serves_all_bandwidths(spec: str, library: ExportedReceiver, num_prb: int) -> None:
    """In any order: nothing of a wide slot is left in a narrow one."""
    slots = SlotStream(conditions(num_prb=num_prb), 1, 6, "test").block(0)
    assert len(slots.bits_per_symbol.unique()) == len(slots.pilot_symbols.sum(1).unique()) == 2
    assert compare(perturbed_receiver(spec), library, slots).equal
    assert not library(slots)[~slots.bit_mask].any()


@pytest.mark.parametrize(
    ("spec", "num_rx", "num_bits", "grid"),
    [
        ("hybrid-w3-d5", 1, 2, {"subcarrier_spacing_hz": 30000}),
        ("hybrid-w3-d5", 4, 8, {"dmrs": Dmrs(additional_positions=(0, 2)), "pilot_patterns": ()}),
        ("hybrid-w3-d5", 3, 6, {"dmrs": Dmrs(config_type=2, cdm_groups_without_data=1), "pilot_patterns": ()}),
        ("hybrid-recurrent-w3-d2", 1, 2, {"subcarrier_spacing_hz": 30000}),
        (
            "hybrid-recurrent-w3-d3",
            4,
            8,
            {"dmrs": Dmrs(config_type=2, cdm_groups_without_data=1), "pilot_patterns": ()},
        ),
        ("deeprx-w0.03125-d5", 1, 2, {"subcarrier_spacing_hz": 30000}),
        ("deeprx-w0.1-d3", 4, 8, {"dmrs": Dmrs(additional_positions=(0, 2)), "pilot_patterns": ()}),
        ("deeprx-w0.03125-d7", 3, 6, {"dmrs": Dmrs(config_type=2, cdm_groups_without_data=1), "pilot_patterns": ()}),
        ("deeprx-interpolated-w0.03125-d3", 1, 2, {"pilot_patterns": ((1, 4, 12),)}),
        ("deeprx-interpolated-w0.03125-d3", 4, 4, {"dmrs": Dmrs(additional_positions=(0, 2)), "pilot_patterns": ()}),
        (
            "deeprx-interpolated-w0.03125-d3",
            2,
            4,
            {"dmrs": Dmrs(config_type=2, cdm_groups_without_data=1), "pilot_patterns": ()},
        ),
    ],
)
def test_any_antennas_modulations_and_pilots(
    tmp_path: Path, spec: str, num_rx: int, num_bits: int, grid: dict[str, object]
) -> None:
    modulations = ("QPSK", "16-QAM", "64-QAM", "256-QAM")[: num_bits // 2]
    scenario = conditions(num_prb=4, num_rx=num_rx, **grid).model_copy(update={"modulations": modulations})
    receiver = perturbed_receiver(spec, num_rx, num_bits)
    slots = SlotStream(scenario, 2, 12, "test").block(0)
    assert len(slots.bits_per_symbol.unique()) == len(modulations)
    assert compare(receiver, compiled(receiver, scenario.grid, tmp_path), slots).equal


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(
    "spec", ["hybrid-w4-d2", "hybrid-recurrent-w4-d2", "deeprx-w0.03125-d5", "deeprx-interpolated-w0.03125-d3"]
)
def test_the_example_program_is_clean_under_sanitizers(tmp_path: Path, compiler: str, spec: str) -> None:
    """Two slots through standard input, at the largest bandwidth that the program is built for."""
    receiver, scenario = perturbed_receiver(spec), conditions(num_prb=3)
    for name, text in {**c_sources(receiver, scenario.grid), "main.c": example_program("net")}.items():
        (tmp_path / name).write_text(text)
    flags = [*BUILD_FLAGS, *STRICT, "-g", "-DLEANRX_MAX_PRB=3", "-fsanitize=address,undefined", "-fno-sanitize-recover"]
    command = [compiler, *flags, "main.c", "net.c", "-o", "receiver", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    slots = SlotStream(scenario.model_copy(update={"modulations": ("16-QAM",)}), 1, 2, "test").at_sinr(12.0).block(0)
    values = [x for i in range(2) for x in (slots.y[i].numpy().tobytes(), slots.pilots[i].numpy().tobytes())]
    result = subprocess.run(
        [str(tmp_path / "receiver"), "3", "4", repr(float(slots.noise_var[0]))],
        input=b"".join(values),
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    llrs = torch.tensor(np.frombuffer(result.stdout, np.float32)).view(2, 4, 14, 36)
    expected = receiver(slots)
    assert (llrs - expected)[slots.bit_mask].abs().max() < 1e-4 * expected.abs().max()


def test_a_compiler_without_vectors_of_gnu_c_computes_the_same(tmp_path: Path) -> None:
    receiver, scenario = perturbed_receiver("deeprx-w0.0625-d3"), conditions()
    for name, text in c_sources(receiver, scenario.grid).items():
        (tmp_path / name).write_text(text.replace("__GNUC__", "OTHER_COMPILER"))
    compile_library(tmp_path / "net.c", tmp_path / "receiver.so", STRICT)
    slots = SlotStream(scenario, 1, 6, "test").block(0)
    assert compare(receiver, ExportedReceiver(tmp_path / "receiver.so", "C"), slots).equal


@pytest.mark.parametrize("receiver", [LmmseReceiver, LmmseIrcReceiver])
@pytest.mark.parametrize(
    ("num_rx", "grid"), [(2, {"num_prb": 5}), (3, {"dmrs": Dmrs(additional_positions=(1,)), "pilot_patterns": ()})]
)
def test_classical_receivers(
    tmp_path: Path, receiver: type[LmmseReceiver | LmmseIrcReceiver], num_rx: int, grid: dict[str, object]
) -> None:
    """Over all SINRs, with and without interference."""
    scenario = conditions(num_rx=num_rx, **grid).model_copy(update={"modulations": ("QPSK", "16-QAM", "64-QAM")})
    original = receiver(scenario)
    exported = compiled(original, scenario.grid, tmp_path)
    slots = SlotStream(scenario, 4, 24, "test").block(0)
    assert compare(original, exported, slots).equal
    assert not exported(slots)[~slots.bit_mask].any()
    wide = SlotStream(conditions(num_rx=num_rx, **{**grid, "num_prb": 7}), 1, 1, "test").block(0)
    with pytest.raises(UserError, match=f"num_prb is not {scenario.grid.num_prb}, that of the receiver"):
        exported(wide)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_sanitizers_accept_a_classical_receiver(tmp_path: Path, compiler: str) -> None:
    scenario = conditions()
    flags = ("-fsanitize=undefined", "-fno-sanitize-recover", "-fsanitize-undefined-trap-on-error")
    exported = compiled(LmmseIrcReceiver(scenario), scenario.grid, tmp_path, *flags, compiler=compiler)
    assert exported(SlotStream(scenario, 4, 2, "test").block(0)).isfinite().all()


@pytest.mark.parametrize("weight_bits", [3, 8])
def test_weights_of_few_bits_are_packed(tmp_path: Path, weight_bits: int) -> None:
    """The file holds integers, and computes what the receiver computes."""
    receiver = perturbed_receiver("hybrid-w6-d3")
    for module in receiver.net.modules():
        if isinstance(module, torch.nn.Conv2d):
            unit = weight_unit(module)
            integers, scale = round_weight(module.weight.detach() / unit, weight_bits)
            module.weight.data.copy_(integers * scale * unit)
    packed = NeuralReceiver(receiver.net, receiver.card.model_copy(update={"training": {"weight_bits": weight_bits}}))
    scenario = conditions(num_prb=3)
    slots = SlotStream(scenario, 1, 6, "test").block(0)
    assert compare(packed, compiled(packed, scenario.grid, tmp_path / "packed"), slots).equal
    compiled(receiver, scenario.grid, tmp_path / "floats")
    constants = [_rodata_bytes(tmp_path / name) for name in ("packed", "floats")]
    weights = sum(p.numel() for block in receiver.net.blocks for n, p in block.named_parameters() if "weight" in n)  # type: ignore[union-attr, operator]
    stored_bits = {3: 4, 8: 8}[weight_bits]
    assert constants[1] - constants[0] > 0.8 * weights * (4 - stored_bits / 8)


def _rodata_bytes(folder: Path) -> int:
    command = [COMPILERS[0], "-O1", "-c", "net.c", "-o", "net.o"]
    subprocess.run(command, cwd=folder, check=True)
    lines = subprocess.run(["size", "-A", "net.o"], cwd=folder, check=True, capture_output=True, text=True).stdout
    return sum(int(line.split()[1]) for line in lines.splitlines() if line.startswith((".rodata", ".data")))


@pytest.mark.parametrize("name", ["hybrid-w4-d2", "hybrid-recurrent-w5-d3"])
def test_the_file_of_a_hybrid_states_the_memory_of_a_resource_block(tmp_path: Path, name: str) -> None:
    """The sizes of its arrays, without optimisation, for two numbers of resource blocks."""
    source, header = c_sources(perturbed_receiver(name), conditions().grid).items()
    (tmp_path / source[0]).write_text(source[1])
    (tmp_path / header[0]).write_text(header[1])
    stated_bytes = int(re.findall(r"about (\d+) bytes per resource block", source[1] + header[1])[0])
    first, second = (_static_bytes(tmp_path / source[0], f"-DLEANRX_MAX_PRB={num_prb}") for num_prb in (64, 128))
    assert abs((second - first) / 64 - stated_bytes) <= 1


def _static_bytes(source: Path, flag: str) -> int:
    subprocess.run([COMPILERS[0], "-O0", flag, "-c", source.name, "-o", "net.o"], cwd=source.parent, check=True)
    sizes = subprocess.run(["size", "net.o"], cwd=source.parent, check=True, capture_output=True, text=True).stdout
    return int(sizes.splitlines()[1].split()[2])


def test_values_beyond_floats_have_a_code(tmp_path: Path) -> None:
    """The LLRs of a hybrid are no numbers here."""
    library = compiled(perturbed_receiver("hybrid-w4-d2"), conditions().grid, tmp_path)
    slots = SlotStream(conditions(), 1, 2, "test").at_sinr(12.0).block(0)
    huge = replace(slots, y=1e14 * slots.y, pilots=1e14 * slots.pilots)
    with pytest.raises(UserError, match=r"slot 0 of the batch: values of the slot are too large for float"):
        library(huge)


def test_llrs_of_8_bits_are_the_rounded_and_limited_ones(library: ExportedReceiver) -> None:
    import ctypes

    slots = SlotStream(conditions(), 5, 1, "test").block(0)
    function = ctypes.CDLL(str(library.session.path)).leanrx_receive_int8
    llrs = np.empty((4, 14, 24), np.int8)
    pointers = [array.numpy().ctypes.data_as(ctypes.c_void_p) for array in (slots.y[0], slots.pilots[0])]
    noise_var = float(slots.noise_var[0] + slots.interference_var[0])
    expected = library(slots)[0]
    scale = 200 / float(expected.abs().max())
    code = function(
        *pointers,
        ctypes.c_float(noise_var),
        int(slots.bits_per_symbol[0]),
        2,
        ctypes.c_float(scale),
        llrs.ctypes.data_as(ctypes.c_void_p),
    )
    assert code == 0
    scaled = (scale * expected).clamp(-127, 127).numpy()
    assert abs(llrs - scaled).max() <= 0.501
    assert abs(llrs).max() == 127


def test_a_slot_beyond_the_range_of_floats_leaves_later_ones_as_they_are(library: ExportedReceiver) -> None:
    narrow, wide = (SlotStream(conditions(num_prb=n), 1, 2, "test").block(0) for n in (2, 3))
    expected = library(narrow)
    with contextlib.suppress(UserError):
        library(replace(wide, y=1e14 * wide.y, pilots=1e14 * wide.pilots))
    assert torch.equal(library(narrow), expected)


def bad_slots(slots: Slots, fault: str) -> Slots:
    match fault:
        case "noise of 0":
            return replace(slots, noise_var=0 * slots.noise_var, interference_var=0 * slots.interference_var)
        case "NaN":
            return replace(slots, y=slots.y.clone().fill_(float("nan")))
        case "no pilots":
            return replace(slots, pilots=torch.zeros_like(slots.pilots))
        case "moved pilots":
            return replace(slots, pilots=slots.pilots.roll(1, 1))
        case "order":
            return replace(slots, bits_per_symbol=slots.bits_per_symbol * 0 + 6)
        case _:
            wide = SlotStream(conditions(num_prb=273), 1, 1, "test").block(0)
            return replace(wide, y=torch.cat([wide.y, wide.y[..., :12]], -1), pilots=wide.pilots[..., :12].tile(274))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("noise of 0", "noise_plus_interference_var: not a finite number above 0"),
        ("NaN", "a received sample or a pilot is not finite"),
        ("no pilots", "the pilots are on other symbols or subcarriers"),
        ("moved pilots", "the pilots are on other symbols or subcarriers"),
        ("order", r"bits_per_symbol: receiver\.so takes 2, 4; give one per slot"),
        ("274 PRB", "num_prb is outside 1 to LEANRX_MAX_PRB"),
    ],
)
def test_bad_slots_are_refused(library: ExportedReceiver, fault: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        library(bad_slots(SlotStream(conditions(), 1, 1, "test").block(0), fault))


def test_bad_arrays_and_libraries_are_refused(library: ExportedReceiver, tmp_path: Path) -> None:
    runtime = library.session
    y, pilots = np.zeros((1, 2, 14, 24), np.complex64), np.zeros((1, 14, 24), np.complex64)
    for arguments, message in [
        ((y.astype(np.complex128), pilots), "y: dtype complex128 is not allowed"),
        ((y[:, :1], pilots), r"y: shape \(1, 1, 14, 24\) is not allowed"),
        ((y[..., :13], pilots), r"y: shape \(1, 2, 14, 13\) is not allowed"),
        ((y, pilots[..., :12]), r"pilots: shape \(1, 14, 12\) does not fit y"),
    ]:
        with pytest.raises(UserError, match=message):
            runtime(*arguments, 0.1, 4)
    (tmp_path / "text.so").write_text("no library")
    (tmp_path / "other.c").write_text("int other(void) { return 0; }\n")
    subprocess.run([COMPILERS[0], "-shared", "-fPIC", "other.c", "-o", "other.so"], cwd=tmp_path, check=True)
    for name, message in [("text.so", "no shared library"), ("none.so", "missing"), ("other.so", "has no function")]:
        with pytest.raises(UserError, match=message):
            CLibrary(tmp_path / name)


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = SlotStream(conditions(), 1, 2, "test", purpose="export")
    own = perturbed_receiver("deeprx-w0.0625-d3")
    own.net.__class__ = type("OwnNetwork", (type(own.net),), {})
    with pytest.raises(
        UserError,
        match=r"net is a deeprx-w0.0625-d3; receivers in C are DeepRx, hybrids, LMMSE and LMMSE-IRC; use onnx",
    ):
        export_c(own, tmp_path / "x", stream, (10.0,))
    for spec in ("hybrid-w4-d2", "deeprx-w0.0625-d3"):
        with pytest.raises(UserError, match=r"net has 2 antennas, but the grid has 4"):
            export_c(perturbed_receiver(spec), tmp_path / "x", SlotStream(conditions(num_rx=4), 1, 2, "test"), (10.0,))
    guarded = conditions(num_prb=6, subcarriers=Subcarriers(fft_size=64))
    for receiver in (perturbed_receiver("deeprx-w0.0625-d3"), LmmseReceiver(guarded)):
        with pytest.raises(UserError, match=r"the grid has 64 subcarriers, and a C file takes whole resource blocks"):
            export_c(receiver, tmp_path / "x", SlotStream(guarded, 1, 2, "test"), (10.0,))
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(UserError, match=r"no C compiler \(no-such-compiler\)"):
        export_c(perturbed_receiver("hybrid-w4-d2"), tmp_path / "x", stream, (10.0,))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(COMPILERS[:1] != ["gcc"], reason="clang unrolls more loops")
def test_the_smallest_shipped_receiver_fits_in_64_kb(tmp_path: Path) -> None:
    """Code and weights, by the build line with AVX2."""
    scenario = zoo.results("tdl-6prb-hybrid-w5-d5-kd").scenario
    receiver = receivers.load("tdl-6prb-hybrid-w5-d5-kd")
    folder = tmp_path / "c"
    parity = export_c(receiver, folder, SlotStream(scenario, 1, 4, "test", purpose="export"), (9.0,), (0.0, 0.8))
    assert parity.equal
    card = json.loads((folder / "card.json").read_text())
    assert set(card["files"]) == {"main.c", f"{receiver.name}.c", f"{receiver.name}.h"}
    subprocess.run(
        ["gcc", *BUILD_FLAGS, STRICT[-1], "-c", f"{receiver.name}.c", "-o", "receiver.o"], cwd=folder, check=True
    )
    sizes = subprocess.run(["size", "receiver.o"], cwd=folder, check=True, capture_output=True, text=True).stdout
    text_bytes, data_bytes = map(int, sizes.splitlines()[1].split()[:2])
    assert text_bytes + data_bytes <= 64 * 1024
