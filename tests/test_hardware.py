"""The machine: what is done to it before a run."""

import subprocess
import sys

import pytest

from minuteloop import hardware
from minuteloop.records import environment

LEAVES_ALONE = """
import gc, sys
from minuteloop import hardware
from minuteloop.records import environment
assert "torch" not in sys.modules
hardware.import_lightning()
frozen = gc.get_freeze_count()
assert "pytorch_lightning" in sys.modules and frozen > 100_000 and gc.isenabled(), frozen
kept = [[] for _ in range(1000)]
hardware.import_lightning()
assert gc.get_freeze_count() <= frozen, "a later call must not keep what has become garbage by then"
"""


def test_what_lightning_makes_is_left_out_of_garbage_collection_and_nothing_after_it():
    done = subprocess.run([sys.executable, "-c", LEAVES_ALONE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # some bindings complain of what is left at exit


@pytest.mark.parametrize(
    ("cpuinfo", "named"),
    [
        ("cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\nflags\t: fpu sse", "AMD EPYC (family 26, model 2)"),
        ("CPU implementer\t: 0x41\nmodel name\t: Cortex-A76", "Cortex-A76"),
    ],
)
def test_a_processor_is_told_from_others_of_its_name(tmp_path, monkeypatch, cpuinfo, named):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "cpuinfo")
    assert environment.describe_host("cpu")["cpu"] == named
    assert not hardware.has_fast_bf16("cpu")


def test_cores_that_omp_num_threads_divided_are_not_divided_again(monkeypatch):
    monkeypatch.setattr(hardware, "idle_cores", lambda: 1.2)
    monkeypatch.setattr(hardware, "default_threads", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert hardware.idle_threads() == 4
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert hardware.idle_threads() == 1
