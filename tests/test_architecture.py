"""Packages import downwards only, names are unique, and the command line is light."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BELOW = {
    "leanrx_core": set(),
    "channels": {"leanrx_core"},
    "receivers": {"leanrx_core", "channels"},
    "energy": {"leanrx_core", "channels", "receivers"},
    "distillation": {"leanrx_core", "channels", "receivers", "energy"},
    "carbon": {"leanrx_core", "channels", "receivers", "energy"},
    "leanrx": {"leanrx_core", "channels", "receivers", "energy", "distillation", "carbon"},
}
"""Packages, and those that each may import."""


APPLICATION = ["experiment", "life_cycle", "report", "cli"]
"""Sub-packages of ``leanrx``, each of which may import those before it."""


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


@pytest.mark.parametrize("package", BELOW)
def test_packages_import_in_one_direction(package: str) -> None:
    above = set(BELOW) - BELOW[package] - {package}
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not {module.split(".")[0] for module in imported_modules(path)} & above, path


@pytest.mark.parametrize("index", range(len(APPLICATION)))
def test_parts_of_the_application_import_in_one_direction(index: int) -> None:
    above = tuple(f"leanrx.{name}" for name in APPLICATION[index + 1 :])
    files = sorted((ROOT / "leanrx" / APPLICATION[index]).rglob("*.py"))
    assert files
    for path in files:
        assert not [module for module in imported_modules(path) if module.startswith(above)], path


def test_help_is_light() -> None:
    code = (
        "import sys; sys.argv = ['leanrx', '--help']\n"
        "from leanrx.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'sionna', 'pandas', 'plotly', 'codecarbon', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for command in (
        "doctor",
        "train",
        "sweep",
        "tune",
        "evaluate",
        "merge",
        "count",
        "energy",
        "ecal",
        "report",
        "export",
    ):
        assert command in done.stdout


def test_channels_loads_names_at_their_first_use() -> None:
    code = (
        "import sys\n"
        "from leanrx_core.errors import UserError\n"
        "assert 'pydantic' not in sys.modules\n"
        "from leanrx_core.records import Record\n"
        "assert 'torch' not in sys.modules\n"
        "from channels import scenario\n"
        "assert scenario('tdl-6prb').name == 'tdl-6prb'\n"
        "import channels\n"
        "assert all(getattr(channels, name) for name in channels.__all__)\n"
        "assert set(channels.__all__) <= set(dir(channels))\n"
        "assert not hasattr(channels, 'nothing')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_the_packages_and_their_data_alone(tmp_path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    (wheel,) = tmp_path.glob("leanrx-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == set(BELOW)
    for data in (
        "channels/presets/tdl-6prb.yaml",
        "energy/hardware/devices.yaml",
        "energy/ecal/presets/published-mlp.yaml",
        "leanrx/report/page.html.jinja",
        "carbon/intensities.yaml",
        "carbon/presets/embodied.yaml",
        "receivers/zoo/__init__.py",
    ):
        assert data in names
    shipped = [p.relative_to(ROOT) for p in (ROOT / "receivers" / "zoo").glob("*/*") if p.parent.name[0] not in "_."]
    assert {str(p) for p in shipped} <= set(names)
    assert {f"{package}/py.typed" for package in BELOW} <= set(names)
    assert any(n.endswith("licenses/LICENSE") for n in names)
