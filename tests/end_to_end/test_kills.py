"""Commands that are killed at random times resume, and give the same files as commands that were not."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from test_cli import SMALL, STUDENT

KILLS = 6
"""Kills of each command; 48 in all."""

DATASET = {
    "label": "points",
    "scenario": SMALL["scenario"],
    "split": "test",
    "block_slots": 16,
    "num_blocks": 40,
    "sinr_db": [0, 10],
}
SEARCH = {"ranges": {"temperature": [1, 8]}, "trials": 3, "steps": 8, "slots": 32}

COMMANDS: dict[str, tuple[str, ...]] = {
    "data": ("data", "dataset.yaml", "--data", "."),
    "train": ("train", "small.yaml", "--runs", "."),
    "evaluate": ("evaluate", "small"),
    "evaluate-2": ("evaluate", "small", "--sinr-db", "5", "--workers", "2"),
    "energy": ("energy", "small", "--rounds", "1", "--allow-model"),
    "report": ("report", "small"),
    "export": ("export", "small", STUDENT),
    "tune": ("tune", "small.yaml", "--runs", "."),
}
"""In an order in which each command finds the files of those before it."""

RESULTS = {
    "data": "points/**/*.h5",
    "train": "small/receivers/*/weights.safetensors",
    "evaluate": "small/ber.parquet",
    "evaluate-2": "small/ber.parquet",
    "report": "small/report/ber.csv",
    "export": "small/exports/*/*.onnx",
    "tune": "small/search/receivers/*/weights.safetensors",
}
"""Files that must be equal. Joules and times differ, so ``energy`` must only end."""


def _start(arguments: tuple[str, ...], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "leanrx", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _finish(arguments: tuple[str, ...], folder: Path) -> float:
    """Run a command to its end, and return its duration in seconds."""
    begin, process = time.monotonic(), _start(arguments, folder)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return time.monotonic() - begin


def _kill(arguments: tuple[str, ...], folder: Path, after_s: float) -> None:
    process = _start(arguments, folder)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors.decode()


@pytest.mark.slow
def test_killed_commands_resume_and_give_the_same_files(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    (whole / "small.yaml").write_text(yaml.safe_dump({**SMALL, "search": SEARCH}))
    (whole / "dataset.yaml").write_text(yaml.safe_dump(DATASET))
    rng = random.Random(1)
    for name, arguments in COMMANDS.items():
        shutil.rmtree(killed, ignore_errors=True)
        shutil.copytree(whole, killed)
        duration_s = _finish(arguments, whole)
        for _ in range(KILLS):
            _kill(arguments, killed, rng.uniform(0.2, 1.0) * duration_s)
        _finish(arguments, killed)
        assert not list(killed.rglob(".tmp-*")), name
        paths = sorted(whole.glob(RESULTS[name])) if name in RESULTS else []
        assert paths or name not in RESULTS
        for path in paths:
            other = killed / path.relative_to(whole)
            if path.suffix == ".parquet":
                pd.testing.assert_frame_equal(pd.read_parquet(other), pd.read_parquet(path))
            elif path.suffix != ".onnx":
                assert other.read_bytes() == path.read_bytes(), (name, path.name)
            else:
                assert other.stat().st_size == path.stat().st_size
