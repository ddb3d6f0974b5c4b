"""What a run changes in its process, restored for callers such as notebooks."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import random
import sys
import warnings
from collections.abc import Iterator

# packages whose loggers are reset where a run is the first to import them. Not W&B: nothing but its import sets its
# logger up, and the logs of a user's own W&B runs need that
LOGGING_PACKAGES = ("hydra", "lightning_fabric", "matplotlib", "minuteloop", "pytorch_lightning", "torchmetrics")


@contextlib.contextmanager
def restored_process_state() -> Iterator[None]:
    """Restore all that torch is not needed for: environment, sys.path, loggers, warnings, hooks, Python's generator.

    Modules stay imported and memory stays in the process. Imports no torch, so that config errors stay fast.
    """
    state, environment, path = random.getstate(), dict(os.environ), list(sys.path)
    loggers, hook = _loggers(), sys.excepthook
    start_method = multiprocessing.get_start_method(allow_none=True)
    with warnings.catch_warnings():
        try:
            yield
        finally:
            random.setstate(state)
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]
            os.environ.update(environment)
            sys.path[:], sys.excepthook = path, hook
            _restore_loggers(loggers)
            multiprocessing.set_start_method(start_method, force=True)


@contextlib.contextmanager
def restored_torch_state() -> Iterator[None]:
    """Restore the random generators of torch and numpy, torch's threads, and the flags and rank that a trainer sets."""
    import numpy as np
    import torch
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    cuda, cudnn = torch.cuda, torch.backends.cudnn
    # reading the state of a device that is not in use would initialize it; its generator starts from the CPU's seed
    devices, seed = cuda.get_rng_state_all() if cuda.is_initialized() else None, torch.initial_seed()
    numpy_state, torch_state, threads = np.random.get_state(), torch.get_rng_state(), torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, rank = cudnn.benchmark, rank_zero_only.rank
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if devices is None:
            cuda.manual_seed_all(seed)
        else:
            cuda.set_rng_state_all(devices)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        cudnn.benchmark, rank_zero_only.rank = benchmark, rank


def _loggers() -> dict[logging.Logger, tuple]:
    """Return {logger: (level, propagate, disabled, handlers)} of the root logger and every other one."""
    named = logging.root.manager.loggerDict.values()
    loggers = [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]
    return {logger: (logger.level, logger.propagate, logger.disabled, list(logger.handlers)) for logger in loggers}


def _restore_loggers(before: dict[logging.Logger, tuple]) -> None:
    unconfigured = (logging.NOTSET, True, False, [])
    for logger in _loggers():
        if logger in before or logger.name.partition(".")[0] in LOGGING_PACKAGES:
            level, propagate, disabled, handlers = before.get(logger, unconfigured)
            logger.setLevel(level)
            logger.propagate, logger.disabled, logger.handlers[:] = propagate, disabled, handlers
