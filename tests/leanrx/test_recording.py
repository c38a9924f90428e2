"""``leanrx record``, and the second verifier, which replays a recording without leanrx."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from leanrx.cli import sessions
from leanrx.cli.main import main
from leanrx.experiment.run_export import ExportSource
from receivers import zoo
from receivers.evaluation.stopping import Evaluation
from receivers.export.c_export import example_program
from receivers.export.c_source import c_sources
from receivers.export.litert import with_metadata
from receivers.runtime.slot_format import SlotFormat

NAME = "tdl-6prb-hybrid-w5-d5-kd"
CHECKS = Path(__file__).parents[2] / "scripts" / "checks"
BLOCKED = ("leanrx", "leanrx_core", "channels", "receivers", "energy", "torch", "sionna", "pandas", "pydantic", "scipy")
COMPILER = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), "")

pytestmark = pytest.mark.skipif(not COMPILER, reason="needs a C compiler")


def leanrx_record(*arguments: object) -> None:
    previous, sys.argv = sys.argv, ["leanrx", "record", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = previous
        sessions.release_locks()
    assert not end.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 96 slots at three points, and the C file of its receiver with its library."""
    folder = tmp_path_factory.mktemp("recording")
    evaluation = Evaluation(sinr_db=(3, 12, 24), block_slots=8, min_slots=8, max_slots=8)
    source = ExportSource(zoo.load(NAME), Path(), zoo.results(NAME).scenario, 1, evaluation, 0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExportSource, "of_zoo", lambda name, root: source)
        leanrx_record(NAME, "--slots", 96, "--output", folder / "slots.h5")
    for name, text in {**c_sources(source.receiver, source.scenario.grid), "main.c": example_program(NAME)}.items():
        (folder / name).write_text(text)
    flags = ["-std=c11", "-O1", "-march=native", "-shared", "-fPIC"]
    subprocess.run([COMPILER, *flags, f"{NAME}.c", "-o", "receiver.so", "-lm"], cwd=folder, check=True)
    return folder


def replay(folder: Path, *arguments: object, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run the second verifier where leanrx and its heavy packages cannot be imported."""
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
        f"sys.argv = ['verify_recording', *{[str(a) for a in arguments]!r}]\n"
        f"runpy.run_path({str(CHECKS / 'verify_recording.py')!r}, run_name='__main__')"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    return done.returncode, done.stdout, done.stderr


def test_a_recording_describes_itself(folder: Path) -> None:
    with h5py.File(folder / "slots.h5") as file:
        assert dict(file.attrs)["format"] == "leanrx recording"
        assert file["y"].shape == (96, 2, 14, 72)
        assert [dim.label for dim in file["bits"].dims] == ["slot", "bit", "symbol", "subcarrier"]
        assert all(array.attrs["description"] for array in file.values())
        assert sorted(set(file["sinr_db"][()])) == [3, 12, 24]
        slots = file["llr_slots"][()]
        wrong = ((file["llrs"][()] > 0) != file["bits"][()][slots]) & file["is_data"][()][slots][:, None]
        np.testing.assert_array_equal(wrong.sum((1, 2, 3)), file["bit_errors"][()][slots])


def test_the_file_of_the_receiver_has_the_recorded_errors_without_leanrx(folder: Path) -> None:
    code, output, errors = replay(folder, "slots.h5", "receiver.so")
    assert code == 0, errors
    assert output.endswith("equal\n")
    assert re.search(r"gap at BER 0.05, interference fraction 0: [+-]0\.000\d dB", output)


def test_a_file_with_a_fault_has_other_errors(folder: Path) -> None:
    text = (folder / f"{NAME}.c").read_text()
    copy = "memcpy(llrs + at, rows[b], sizeof(float) * num_subcarriers);"
    assert text.count(copy) == 1
    other = folder / "other"
    other.mkdir()
    (other / f"{NAME}.h").write_text((folder / f"{NAME}.h").read_text())
    loop = "for (size_t f = 0; f < num_subcarriers; f++) llrs[at + f] = -rows[b][f];"
    (other / f"{NAME}.c").write_text(text.replace(copy, loop))
    code, output, errors = replay(folder, "slots.h5", other / f"{NAME}.c")
    assert code == 1
    assert output.endswith("different\n")
    assert "the slots' error counts differ" in errors


def test_a_compiler_alone_decodes_raw_slots(folder: Path) -> None:
    """By the commands that the script prints."""
    code, output, errors = replay(folder, "slots.h5", "--raw", "raw")
    assert code == 0, errors
    for source, program in (("main.c", [f"{NAME}.c"]), (str(CHECKS / "count_errors.c"), [])):
        name = "count_errors" if not program else "receiver"
        command = [COMPILER, "-std=c11", "-O1", "-march=native", "-Wall", "-Wextra", "-Werror", source, *program]
        subprocess.run([*command, "-o", name, "-lm"], cwd=folder, check=True)
    lines = output.splitlines()
    assert len(lines) == 6
    done = subprocess.run(["sh", "-e", "-c", "\n".join(lines)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    wrong = lines[1].rsplit(" ", 1)[0] + " 0"
    assert subprocess.run(["sh", "-c", wrong], cwd=folder, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.h5", "receiver.so"), "missing, or no HDF5 file"),
        (("receiver.so", "receiver.so"), "missing, or no HDF5 file"),
        (("slots.h5", "none.so"), "no exported file"),
        (("slots.h5", "main.c"), "fails"),
        (("slots.h5", "text.onnx"), "ONNX Runtime cannot load it"),
        (("slots.h5", "text.tflite"), "damaged, or not exported by leanrx"),
        (("slots.h5", "flipped.tflite"), "damaged since its export"),
        (("slots.h5", "changed.onnx"), "changed since its export"),
        (("slots.h5", "changed-int8.onnx"), "changed since its export"),
        (("slots.h5", "no-card.onnx"), "no-card.json: damaged"),
        (("slots.h5", "text.so"), "no library of an exported C file"),
    ],
)
def test_bad_files_are_one_line(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    for name in ("text.onnx", "text.tflite", "text.so", "changed.onnx", "changed-int8.onnx", "no-card.onnx"):
        (folder / name).write_text("text")
    intact = with_metadata(b"model", "hybrid-w2-d1", SlotFormat(2, 2, 15000, 1, 0, ()))
    (folder / "flipped.tflite").write_bytes(b"n" + intact[1:])
    (folder / "changed-int8.json").write_text(json.dumps({"file": "changed-int8.onnx", "sha256": "0"}))
    (folder / "changed.json").write_text(json.dumps({"files": {"changed.onnx": {"sha256": "0"}}}))
    (folder / "no-card.json").write_text("[]")
    compiler = {"CC": "false"} if "main.c" in arguments else None
    code, _, errors = replay(folder, *arguments, environment=compiler)
    assert code == 2
    (line,) = errors.splitlines()
    assert words in line


def test_an_interrupted_recording_leaves_nothing(tmp_path: Path) -> None:
    from channels import SlotStream
    from receivers.evaluation.recording import write_recording

    receiver, scenario = zoo.load(NAME), zoo.results(NAME).scenario
    stream = SlotStream(scenario, 1, 2, "test", purpose="recording")
    steps = write_recording(receiver, stream, [(0.0, 9.0)], 2, 1e-2, tmp_path / "x.h5")
    assert next(steps) == (2, 4)
    steps.close()
    assert list(tmp_path.iterdir()) == []
