"""All that a library could change in its process, to be compared before and after a run."""

import gc
import logging
import multiprocessing
import os
import random
import signal
import sys
import warnings

from hydra import version
from hydra.core.global_hydra import GlobalHydra

PACKAGES = ("minuteloop", "pytorch_lightning", "lightning_fabric", "torchmetrics", "matplotlib", "hydra", "wandb")


def snapshot() -> dict:
    """Return the state of the process; of torch, numpy and matplotlib only where they are imported."""
    loggers = [logging.root, *map(logging.getLogger, PACKAGES)]
    state = {
        "python generator": random.getstate(),
        "environment": dict(os.environ),
        "sys.path": list(sys.path),
        "working folder": os.getcwd(),
        "streams and arguments": (sys.stdout, sys.stderr, list(sys.argv)),
        "hooks": (sys.excepthook, sys.displayhook, sys.unraisablehook, sys.gettrace(), sys.getprofile()),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "loggers": {log.name: (log.level, log.propagate, log.disabled, list(log.handlers)) for log in loggers},
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), gc.get_debug(), list(gc.callbacks)),
        "signals": {signum: signal.getsignal(signum) for signum in signal.valid_signals()},
        "start method": multiprocessing.get_start_method(allow_none=True),
        "hydra": (GlobalHydra.instance().hydra, version.getbase() if hasattr(version, "getbase") else None),
    }
    if "torch" in sys.modules:
        state |= _torch_state()
    if "matplotlib" in sys.modules:
        import matplotlib

        # not rcParams[name], which would choose a backend
        state["rcParams"] = {name: dict.__getitem__(matplotlib.rcParams, name) for name in matplotlib.rcParams}
    return state


def _torch_state() -> dict:
    import numpy as np
    import torch

    name, keys, *rest = np.random.get_state()
    cudnn, has_cuda = torch.backends.cudnn, torch.cuda.is_initialized()
    return {
        "numpy": (name, keys.tolist(), rest, np.geterr(), np.get_printoptions()),
        "generators": (torch.get_rng_state().tolist(), torch.initial_seed()),
        "CUDA generators": [state.tolist() for state in torch.cuda.get_rng_state_all()] if has_cuda else None,
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            cudnn.deterministic,
            cudnn.benchmark,
        ),
        "precision": (torch.get_float32_matmul_precision(), torch.get_default_dtype(), torch.is_autocast_enabled()),
        "autograd": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "sharing": torch.multiprocessing.get_sharing_strategy(),
    }


def differences(before: dict, after: dict) -> dict:
    """Return {part: (before, after)} of what changed; of a dict, the entries that changed."""
    changed = {}
    for part in before:
        old, new = before[part], after[part]
        if old != new and isinstance(old, dict):
            keys = [key for key in old | new if old.get(key, "missing") != new.get(key, "missing")]
            old, new = {key: old.get(key) for key in keys}, {key: new.get(key) for key in keys}
        if old != new:
            changed[part] = (old, new)
    return changed
