"""The machine: what `auto` means on it, the settings that make it fast, and its description in every record."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import dataclasses
import functools
import gc
import hashlib
import importlib.util
import logging
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from minuteloop.plan import parse_budget
from minuteloop.schema import Config, ConfigError, Recipe, flat

CPUINFO = Path("/proc/cpuinfo")
PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "timm", "wandb", "numpy")


def prepare() -> None:
    """Keeps freed memory in the process; call before the first tensor.

    glibc gives blocks above 32 MB back to the kernel at each free and faults their pages in again, which is a third
    of a ConvNeXt step on a CPU.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)  # bytes
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def keep_compiled() -> None:
    """Has torch.compile keep its kernels in ~/.cache/minuteloop/compiled instead of /tmp, for later starts.

    A TORCHINDUCTOR_CACHE_DIR that is set stays.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path.home() / ".cache/minuteloop/compiled"))


def prepare_wandb() -> None:
    """Imports W&B and starts its service beside what follows; call before torch is imported.

    The import goes through every module that is loaded, so that it takes 0.3 s longer after torch. A failure is told
    when W&B is started.
    """

    def start_service() -> None:
        with contextlib.suppress(Exception):
            wandb.setup()

    with contextlib.suppress(Exception):
        import wandb
        import wandb.apis.public  # wandb.init does it later

        threading.Thread(target=start_service, daemon=True).start()


def import_lightning() -> None:
    """Imports torch and Lightning with garbage collection off, and exempts what they made from later collections.

    They make half a million objects that last as long as the process; looking through them again and again is a fifth
    of the import. The last look, at exit, has to see them: Triton's binding complains of what it does not free.
    """
    if "pytorch_lightning" in sys.modules or not gc.isenabled():
        return  # what others have left by now may be garbage
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # that torchmetrics imports, and that tells of its fonts
    gc.disable()
    try:
        import pytorch_lightning  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)


def idle_cores(seconds: float = 0.1) -> float:
    """How many cores the machine had nothing to do on for the last `seconds`; all of them where it does not tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return float(os.cpu_count() or 1)

    def ticks() -> tuple[int, int]:
        times = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1:9]]
        return times[3] + times[4], sum(times)  # idle and waiting for disks; all

    idle, total = ticks()
    time.sleep(seconds)
    idle_later, total_later = ticks()
    return (os.cpu_count() or 1) * (idle_later - idle) / max(total_later - total, 1)


def free_threads() -> int:
    """Torch's default, or fewer where others keep cores busy and nobody has divided them with OMP_NUM_THREADS.

    A launcher of parallel jobs (joblib) gives each its share of the cores in that variable. On two cores beside one
    busy process a ConvNeXt step takes 2 to 4 times longer with two threads, which wait for a core at every barrier,
    than with one.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return default_threads()
    return max(1, min(default_threads(), round(idle_cores())))


@functools.cache
def default_threads() -> int:
    """Torch's own choice, asked for before a run sets another."""
    import torch

    return torch.get_num_threads()


def resolve_auto(config: Config) -> Config:
    """`config` with every `auto` about the machine replaced, and torch's threads set. Raises ConfigError."""
    import torch

    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise ConfigError("device=cuda: torch sees no CUDA device (nearest: cpu)")
    device = ("cuda" if has_cuda else "cpu") if config.device == "auto" else config.device
    seconds, unit = parse_budget(config.budget)
    chosen = {
        "device": device,
        "precision": "bf16" if has_fast_bf16(device) else "fp32",
        # a cold compile takes about a minute and gives about a quarter on CUDA; on CPUs it gave nothing
        "compile": device == "cuda" and unit == "s" and seconds >= 300,
        "channels_last": True,
        "threads": free_threads() if config.threads == "auto" else config.threads,
    }
    config = dataclasses.replace(
        config, **{key: value for key, value in chosen.items() if getattr(config, key) == "auto"}
    )
    default_threads()
    torch.set_num_threads(config.threads)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return config


def peak_memory(device: str) -> int:
    """Bytes: the most that tensors took on a CUDA device, or that this process took of the machine."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def has_fast_bf16(device: str) -> bool:
    """Whether bf16 convolutions run on hardware for them: every CUDA device since Ampere, a CPU by its flags."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    flags = _cpuinfo("flags")
    return "avx512_bf16" in flags or "amx_bf16" in flags


def describe(device: str) -> dict:
    """The machine as records name it; memory in bytes."""
    import torch

    host = {
        "name": platform.node(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }
    if device == "cuda":
        host["gpu"] = torch.cuda.get_device_name()
        host["gpu_memory"] = torch.cuda.get_device_properties(0).total_memory
    return host


def versions() -> dict[str, str]:
    """Python's and the packages' versions."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def code(recipe: Recipe) -> dict:
    """The package's version, a hash of its source and, in a git checkout, its commit and whether files differ.

    The hash takes in the Python files beside each of the recipe's classes that is not the package's.
    """
    found, source = _package()
    source = source.copy()
    targets = (value for key, value in flat(dataclasses.asdict(recipe)).items() if key.endswith("._target_"))
    modules = {target.rpartition(".")[0] for target in targets if target and not target.startswith("minuteloop.")}
    for folder in sorted({Path(importlib.util.find_spec(module).origin).parent for module in modules}):
        for file in sorted(folder.glob("*.py")):
            source.update(file.read_bytes())
    return found | {"hash": source.hexdigest()[:16]}


@functools.cache
def _package() -> tuple[dict, Any]:
    package = Path(__file__).parent
    source = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(package.rglob("*.py"))))
    found = {"version": metadata.version("minuteloop"), "hash": "", "commit": None, "dirty": None}
    checkout = Path(__file__).parents[2]
    if (checkout / ".git").exists():
        found["commit"] = _git(checkout, "rev-parse", "HEAD")
        found["dirty"] = bool(_git(checkout, "status", "--porcelain", "--untracked-files=no"))
    return found, source


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu() -> str:
    """The processor's name, and its family and model where the name may stand for several generations."""
    name = _cpuinfo("model name") or platform.processor()
    family, model = _cpuinfo("cpu family"), _cpuinfo("model")
    return f"{name} (family {family}, model {model})" if family and model else name


def _cpuinfo(key: str) -> str:
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), "")
