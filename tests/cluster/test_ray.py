"""Sweeps on Ray, two nodes on this host: the results are the basic launcher's, also after a node has died."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweeps import has_checkpoint, has_resumed, results, start_sweep, wait_for

RAY = Path(__file__).parents[2] / "scripts/cluster/ray.sh"
pytestmark = [pytest.mark.cluster, pytest.mark.exhaustive]


@pytest.fixture
def launcher(tmp_path_factory):
    """Return the overrides that send cells to a Ray of two nodes."""
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    if not sys.platform.startswith("linux"):
        pytest.skip("scripts/cluster/ray.sh is for Linux")
    base = tmp_path_factory.getbasetemp()
    with (base.parent / "ray.lock").open("w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(
            lock, fcntl.LOCK_EX
        )  # there is one Ray on a host, and pytest-xdist may run this file in two processes
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.chdir(base)
        subprocess.run([RAY, "start"], check=True, capture_output=True)
        address = subprocess.run([RAY, "address"], check=True, capture_output=True, text=True).stdout.strip()
        ray = "hydra.launcher.ray.init"
        yield ["hydra/launcher=ray", f"{ray}.address={address}", f"+{ray}.object_store_memory=null"]
        subprocess.run([RAY, "stop"], check=True, capture_output=True)


def test_cells_have_the_results_of_the_basic_launcher_and_one_resumes_after_its_node_has_died(launcher, tmp_path):
    cells = ["budget=1500steps", "recipe.lr=0.1,0.01"]
    expected = results(tmp_path / "basic", start_sweep(tmp_path / "basic", *cells))
    cwd = tmp_path / "ray"
    sweep = start_sweep(cwd, *cells, *launcher)
    wait_for(lambda: has_checkpoint(cwd))
    subprocess.run([RAY, "kill"], check=True)
    assert results(cwd, sweep) == expected and len(expected) == 2
    assert has_resumed(cwd)
    assert not list(Path.cwd().glob("runs")), "cells write where the sweep was started, not where Ray was"
