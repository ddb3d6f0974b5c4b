"""What every test runs under: one torch thread, no network logging, and real CIFAR-10 where it is at hand."""

import logging
import os
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: side by side, threads fight
os.environ["WANDB_MODE"] = "offline"


@pytest.fixture(autouse=True)
def own_wandb_service():
    """A process that a test starts has a W&B service of its own, not one that an earlier test has ended."""
    os.environ.pop("WANDB_SERVICE", None)


@pytest.fixture(autouse=True)
def own_log_handlers():
    """Handlers that Hydra adds to the root logger end with the test, as does the stream that they write to."""
    handlers = [*logging.root.handlers]
    yield
    logging.root.handlers[:] = handlers


@pytest.fixture
def cwd(tmp_path, monkeypatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cifar_root() -> Path:
    """A folder that holds CIFAR-10, from $MINUTELOOP_DATA."""
    root = Path(os.environ.get("MINUTELOOP_DATA", "/nonexistent"))
    if not any(root.glob("cifar-10-batches-*")):
        pytest.skip("CIFAR-10 is not in $MINUTELOOP_DATA")
    return root


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("gpu"):
            import torch

            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        if item.get_closest_marker("network") and not os.environ.get("MINUTELOOP_NETWORK"):
            item.add_marker(pytest.mark.skip(reason="set MINUTELOOP_NETWORK=1 to use the network"))
