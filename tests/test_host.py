"""The machine: what is done to it before a run."""

import subprocess
import sys

LEAVES_ALONE = """
import gc, sys
from minuteloop import host
assert "torch" not in sys.modules
host.import_lightning()
frozen = gc.get_freeze_count()
assert "pytorch_lightning" in sys.modules and frozen > 100_000 and gc.isenabled(), frozen
kept = [[] for _ in range(1000)]
host.import_lightning()
assert gc.get_freeze_count() <= frozen, "a later call must not keep what has become garbage by then"
"""


def test_what_lightning_makes_is_left_out_of_garbage_collection_and_nothing_after_it():
    done = subprocess.run([sys.executable, "-c", LEAVES_ALONE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # some bindings complain of what is left at exit
