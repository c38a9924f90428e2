"""The lock file, the constraints and the project's metadata agree, and hooks are valid."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = {package["name"]: package for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}


def _name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def test_lock_knows_all_requirements() -> None:
    metadata = LOCK["leanrx"]["metadata"]["requires-dist"]
    extras = [requirement for group in PROJECT["optional-dependencies"].values() for requirement in group]
    assert {entry["name"] for entry in metadata} == {_name(r) for r in [*PROJECT["dependencies"], *extras]} - {"leanrx"}
    specifiers = {(entry["name"], entry.get("specifier", "")) for entry in metadata}
    for requirement in PROJECT["dependencies"]:
        required = ",".join(re.findall(r"[<>=!~]=?[\w.*]+", requirement))
        assert (_name(requirement), required) in specifiers, requirement


def test_lock_and_constraints_hold_equal_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    versions = {_name(line): line.partition("==")[2] for line in lines}
    assert {_name(r) for r in PROJECT["dependencies"]} <= set(versions)
    locked = {name: package["version"] for name, package in LOCK.items() if name in versions}
    assert locked == {name: versions[name] for name in locked}


def test_lock_names_no_other_index() -> None:
    sources = {str(package["source"].get("registry", ".")) for package in LOCK.values()}
    assert sources == {"https://pypi.org/simple", "."}


def test_hooks_are_valid() -> None:
    command = [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
