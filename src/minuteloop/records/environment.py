"""Where a run was made: the machine, the packages and the code, as every record describes them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from minuteloop.hardware import cpuinfo
from minuteloop.schema import Recipe
from minuteloop.validation import flat

PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "timm", "wandb", "numpy")
PACKAGE = Path(__file__).parents[1]
CHECKOUT = PACKAGE.parents[1]
# no run imports them, so none depends on them
AROUND_RUNS = {"study", "trained", "report", "tune", "cli.py", "__main__.py"}


def describe_host(device: str) -> dict:
    """Return the machine's description; memory in bytes."""
    import torch

    host = {
        "name": platform.node(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
    }
    if device == "cuda":
        host["gpu"] = torch.cuda.get_device_name()
        host["gpu_memory"] = torch.cuda.get_device_properties(0).total_memory
    return host


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def describe_code(recipe: Recipe) -> dict:
    """Return the package's version, a hash of its source and, in a git checkout, its commit and whether files differ.

    The hash is of the files that a run may depend on. It includes the Python files beside each of the recipe's classes
    that is not the package's.
    """
    package, source = _package()
    source = source.copy()
    targets = (value for key, value in flat(dataclasses.asdict(recipe)).items() if key.endswith("._target_"))
    modules = {target.rpartition(".")[0] for target in targets if target and not target.startswith("minuteloop.")}
    for folder in sorted({Path(importlib.util.find_spec(module).origin).parent for module in modules}):
        for file in sorted(folder.glob("*.py")):
            source.update(file.read_bytes())
    return package | {"hash": source.hexdigest()[:16]}


@functools.cache
def _package() -> tuple[dict, Any]:
    files = [file for file in sorted(PACKAGE.rglob("*.py")) if file.relative_to(PACKAGE).parts[0] not in AROUND_RUNS]
    source = hashlib.sha256(b"".join(file.read_bytes() for file in files))
    package = {"version": metadata.version("minuteloop"), "hash": "", "commit": None, "dirty": None}
    if (CHECKOUT / ".git").exists():
        package["commit"] = _git("rev-parse", "HEAD")
        package["dirty"] = bool(_git("status", "--porcelain", "--untracked-files=no"))
    return package, source


def _git(*command: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(CHECKOUT), *command], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu() -> str:
    """Return the processor's name, with family and model where several generations share a name."""
    name = cpuinfo("model name") or platform.processor()
    family, model = cpuinfo("cpu family"), cpuinfo("model")
    return f"{name} (family {family}, model {model})" if family and model else name
