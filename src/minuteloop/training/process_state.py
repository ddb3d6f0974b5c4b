"""What a run changes in its process, restored for callers such as notebooks."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import warnings
from collections.abc import Iterator

SEED_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")  # set by Lightning's seed_everything


@contextlib.contextmanager
def restored_process_state() -> Iterator[None]:
    """Restore random generators, torch's threads, warning filters, Lightning's log level and seed on leaving."""
    import numpy as np
    import torch

    lightning = logging.getLogger("pytorch_lightning")
    level, threads = lightning.level, torch.get_num_threads()
    variables = {name: os.environ.get(name) for name in SEED_VARIABLES}
    # reading the state of a device that is not in use would initialize it
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    with warnings.catch_warnings(), torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])
            torch.set_num_threads(threads)
            lightning.setLevel(level)
            for name, value in variables.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
