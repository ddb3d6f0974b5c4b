"""Sweeps on a Slurm of two nodes on this host: the results are the basic launcher's, also after a node has died."""

import fcntl
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from sweeps import has_checkpoint, has_resumed, results, start_sweep, wait_for

SLURM = Path(__file__).parents[2] / "scripts/cluster/slurm.sh"
LAUNCHER = ["hydra/launcher=submitit_slurm", "hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=30"]
pytestmark = [pytest.mark.cluster, pytest.mark.exhaustive]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A Slurm of two nodes; SLURM_CONF is its."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    if os.getuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        pytest.skip("needs root and Debian's slurm-wlm and munge")
    base = tmp_path_factory.getbasetemp()
    with (base.parent / "slurm.lock").open("w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its ports are fixed, and pytest-xdist may run this file in two processes
        folder = base / "slurm"
        subprocess.run([SLURM, "start", folder, "2"], check=True)
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield folder
        subprocess.run([SLURM, "stop", folder], check=True)


def slurm_says(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def start_requeued_job(job: str) -> None:
    """Slurm lets a requeued job wait for two minutes; let it start now."""
    wait_for(lambda: slurm_says("squeue", "--noheader", "--format=%T", f"--jobs={job}") == "PENDING")
    slurm_says("scontrol", "update", f"jobid={job}", "StartTime=now")


def test_cells_have_the_results_of_the_basic_launcher(slurm, tmp_path):
    cells = ["budget=20steps", "recipe.lr=0.1,0.03,0.01"]
    tasks = [[], [*LAUNCHER, "hydra.launcher.cpus_per_task=1"], [*LAUNCHER, "hydra.sweeper.cells_per_task=2"]]
    found = []
    for number, launcher in enumerate(tasks):
        cwd = tmp_path / str(number)
        found.append(results(cwd, start_sweep(cwd, *cells, *launcher)))
    assert len(found[0]) == 3 and found[1] == found[0] and found[2] == found[0]


def end_at_a_time_limit(job: str, folder: Path) -> None:
    """Send what Slurm sends a while before."""
    slurm_says("scancel", "--signal=USR2", job)


def kill_the_node(job: str, folder: Path) -> None:
    """Kill the daemon of the job's node, and all processes of the job; Slurm notices it within a minute."""
    node = slurm_says("squeue", "--noheader", "--format=%N", f"--jobs={job}")
    os.kill(int((folder / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)
    commands = {path.parent: read(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
    daemons = [path for path, command in commands.items() if command.startswith(f"slurmstepd: [{job}.".encode())]
    others = [path for path in commands if f"SLURM_JOB_ID={job}".encode() in read(path / "environ").split(b"\0")]
    for path in [*daemons, *others]:  # a daemon would report that the job has ended
        os.kill(int(path.name), signal.SIGKILL)


def read(path: Path) -> bytes:
    """Return what a file of /proc holds, or nothing of a process that has ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("end", [end_at_a_time_limit, kill_the_node])
def test_interrupted_cell_resumes_from_its_checkpoint(slurm, tmp_path, end):
    cell = ["budget=1500steps", "recipe.lr=0.1"]
    expected = results(tmp_path / "basic", start_sweep(tmp_path / "basic", *cell))
    sweep = start_sweep(tmp_path / "slurm", *cell, *LAUNCHER)
    wait_for(lambda: has_checkpoint(tmp_path / "slurm"))
    job = slurm_says("squeue", "--noheader", "--format=%A")
    end(job, slurm)
    start_requeued_job(job)
    assert results(tmp_path / "slurm", sweep) == expected
    assert has_resumed(tmp_path / "slurm")
