"""The Slurm launcher, with srun and scontrol replaced by scripts that log their calls."""

import os
import subprocess
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm" / "slurm_sweep.sh"

SRUN = """#!/bin/bash
[[ "$*" == *"ray start"* ]] && echo $$ >> "$CALLS.pids"
echo "$*" >> "$CALLS"
case "$*" in
    *"hostname --ip-address") echo "fe80::1 127.0.0.1 10.0.0.7 10.1.0.7" ;;
    *"ray start"*) exec /bin/sleep 60 ;;
    *"ray status"*) [[ $(grep -c "ray status" "$CALLS") -ge 2 && $(grep -c "ray start" "$CALLS") -eq 3 ]] ;;
    *"leanrx sweep"*) exit "$CODE" ;;
esac
"""
SCONTROL = """#!/bin/bash
[[ "$*" == "show hostnames node[1-3]" ]] && printf 'node1\\nnode2\\nnode3\\n'
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job on three nodes of 16 cores and a GPU; ``CODE`` is the exit code of the sweep."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("sleep", '#!/bin/bash\nexec /bin/sleep "${1/#2/0}"\n')):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "CODE": "0",
        "SLURM_JOB_NODELIST": "node[1-3]",
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_GPUS_ON_NODE": "1",
    }


def launch(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(SCRIPT), *arguments], env=env, capture_output=True, text=True, timeout=30)


def test_the_launcher_is_an_executable_bash_script() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    assert os.access(SCRIPT, os.X_OK)


@pytest.mark.parametrize("code", [0, 2])
def test_the_job_starts_a_head_then_workers_then_the_sweep(slurm: dict[str, str], code: int) -> None:
    process = launch({**slurm, "CODE": str(code)}, "configs/my sweep.yaml", "--cores", "4")
    assert process.returncode == code, process.stderr
    for pid in Path(slurm["CALLS"] + ".pids").read_text().split():
        assert not psutil.pid_exists(int(pid)), "Ray is stopped"
    calls = Path(slurm["CALLS"]).read_text().splitlines()
    on = "--overlap --nodes=1 --ntasks=1 --cpus-per-task=16 --nodelist=node"
    assert calls[0] == f"{on}1 hostname --ip-address"
    size = "--num-cpus=16 --num-gpus=1"
    assert sorted(x for x in calls if "ray start" in x) == [
        f"{on}1 ray start --block --head --node-ip-address=10.0.0.7 --port=6379 --include-dashboard=false {size}",
        f"{on}2 ray start --block --address=10.0.0.7:6379 {size}",
        f"{on}3 ray start --block --address=10.0.0.7:6379 {size}",
    ]
    assert calls.count(f"{on}1 ray status --address=10.0.0.7:6379") >= 2  # until it answers
    assert calls[-1] == f"{on}1 leanrx sweep configs/my sweep.yaml --cores 4 --ray 10.0.0.7:6379"


@pytest.mark.parametrize(
    ("arguments", "nodes", "message"), [([], "node1", "usage: sbatch"), (["a.yaml"], "", "not in a Slurm job")]
)
def test_mistakes_of_a_launch(slurm: dict[str, str], arguments: list[str], nodes: str, message: str) -> None:
    process = launch({**slurm, "SLURM_JOB_NODELIST": nodes}, *arguments)
    assert process.returncode == 2
    assert message in process.stderr
    assert not Path(slurm["CALLS"]).exists()
