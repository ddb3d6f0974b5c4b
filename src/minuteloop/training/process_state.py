"""What a run changes in its process, restored for callers such as notebooks."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import warnings
from collections.abc import Iterator

# set by Lightning's seed_everything, and deleted by its trainers
VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "WORLD_SIZE")


@contextlib.contextmanager
def restored_process_state() -> Iterator[None]:
    """Restore random generators, torch's threads, warning filters, Lightning's log level, seed and rank on leaving."""
    import numpy as np
    import torch
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    lightning = logging.getLogger("pytorch_lightning")
    level, threads, rank = lightning.level, torch.get_num_threads(), rank_zero_only.rank
    variables = {name: os.environ.get(name) for name in VARIABLES}
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
            rank_zero_only.rank = rank
            for name, value in variables.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
