"""The uninterrupted run that resumed runs are compared with."""

import time
from types import SimpleNamespace

import pytest
from small_run import OPTIONS

import minuteloop


@pytest.fixture(scope="session")
def reference(tmp_path_factory) -> SimpleNamespace:
    """Return the `folder` of a run that nothing interrupted, and its `seconds`."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    begin = time.perf_counter()
    minuteloop.run([*OPTIONS, f"hydra.run.dir={folder}"])
    return SimpleNamespace(folder=folder, seconds=time.perf_counter() - begin)
