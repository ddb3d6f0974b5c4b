"""The machine: what `auto` means on it, and the settings that make it fast."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import logging
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from minuteloop.schema import Config, parse_budget
from minuteloop.validation import ConfigError

CPUINFO = Path("/proc/cpuinfo")
CGROUP = Path("/sys/fs/cgroup")
BUSY = 0.5  # cores that may be missing; the system itself takes a few percent
STAT = Path("/proc/stat")
COMPILE_SECONDS = 300  # a cold compile takes about a minute and makes a CUDA step a quarter faster

log = logging.getLogger("minuteloop")


def keep_freed_memory() -> None:
    """Keep freed memory in the process; call before the first tensor.

    glibc returns blocks above 32 MB to the kernel at each free and faults their pages in again, which takes a third of
    a ConvNeXt step on a CPU.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)  # bytes
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def resolve_auto(config: Config) -> Config:
    """Return `config` with every `auto` about the machine replaced, and set torch's threads. Raises ConfigError."""
    import torch

    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise ConfigError("device=cuda: torch finds no CUDA device. Did you mean cpu?")
    device = ("cuda" if has_cuda else "cpu") if config.device == "auto" else config.device
    amount, unit = parse_budget(config.budget)
    chosen = {
        "device": device,
        "precision": "bf16" if has_fast_bf16(device) else "fp32",
        "compile": device == "cuda" and unit == "s" and amount >= COMPILE_SECONDS,
        "channels_last": True,
    }
    if config.threads == "auto":
        threads, reason = auto_threads()
        chosen["threads"] = threads_of_each(threads, config.devices)
        if reason:
            log.info(f"threads={chosen['threads']} (auto): {reason}")
    config = dataclasses.replace(
        config, **{key: value for key, value in chosen.items() if getattr(config, key) == "auto"}
    )
    default_threads()
    config = with_threads(config, config.threads)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return config


def threads_of_each(threads: int, devices: int) -> int:
    """Return the threads of each process of a run on the CPU that shares `threads`."""
    return max(1, threads // devices)


def with_threads(config: Config, threads: int) -> Config:
    """Return the config with a number of threads, and set torch's."""
    import torch

    torch.set_num_threads(threads)
    return dataclasses.replace(config, threads=threads)


def has_fast_bf16(device: str) -> bool:
    """Return whether the hardware has bf16 convolutions: CUDA since Ampere, a CPU by its flags."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    flags = cpuinfo("flags")
    return "avx512_bf16" in flags or "amx_bf16" in flags


def usable_cores() -> int:
    """Return how many cores this process may use: by affinity and by the CPU quota of its cgroup (docker --cpus)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def _cgroup_quota() -> float | None:
    """Return the CPU quota in cores, of cgroup version 2 or 1; None without one."""
    v2, v1 = CGROUP / "cpu.max", CGROUP / "cpu/cpu.cfs_quota_us"
    try:
        if v2.exists():
            quota, period = v2.read_text().split()
            return None if quota == "max" else int(quota) / int(period)
        if v1.exists() and (quota := int(v1.read_text())) > 0:
            return quota / int((CGROUP / "cpu/cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        pass  # unreadable, or of a version to come
    return None


def idle_cores(seconds: float = 0.1) -> float:
    """Return how many of the machine's cores were idle over the next `seconds`; all where the system does not say."""
    before = _core_seconds()
    if before is None:
        return float(os.cpu_count() or 1)
    time.sleep(seconds)
    idle, busy = (later - earlier for later, earlier in zip(_core_seconds(), before, strict=True))
    return (os.cpu_count() or 1) * idle / max(idle + busy, 1e-3)


def busy(threads: int | str) -> str | None:
    """Return in words how many of the cores that `threads` takes are idle, or None where all are."""
    wanted = min(default_threads() if threads == "auto" else threads, usable_cores())
    idle = idle_cores()
    return f"{idle:.1f} of {wanted} cores were idle" if idle < wanted - BUSY else None


def _core_seconds() -> tuple[float, float] | None:
    """Return the seconds that the machine's cores have been idle and busy, or None where the system does not say."""
    if not STAT.exists():
        return None
    times = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
    idle = times[3] + times[4]  # doing nothing and waiting for disks
    return tuple(ticks / os.sysconf("SC_CLK_TCK") for ticks in (idle, sum(times) - idle))


class OtherLoad:
    """Counts the cores that other processes keep busy, from its creation on; `own` are more that are the run's."""

    def __init__(self, own: Sequence[int] = ()) -> None:
        self.own = own
        self.begin = self._read()

    def _read(self) -> tuple[float, float]:
        """Return the time, and the CPU seconds of other processes."""
        busy = (_core_seconds() or (0.0, 0.0))[1] - time.process_time() - sum(map(_process_seconds, self.own))
        return time.perf_counter(), busy

    def cores(self) -> float:
        """Return the mean number of cores; 0 where the system does not say."""
        seconds, used = (later - earlier for later, earlier in zip(self._read(), self.begin, strict=True))
        return max(used / max(seconds, 1e-3), 0.0)


def _process_seconds(process: int) -> float:
    """Return the CPU seconds of another process; 0 where the system does not say."""
    try:
        user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def auto_threads() -> tuple[int, str]:
    """Return the default number of threads, and why there are fewer than cores, or ''.

    There are fewer where other processes keep cores busy. With OMP_NUM_THREADS set, somebody has divided the cores
    already (joblib does). On two cores beside one busy process a ConvNeXt step takes 2 to 4 times longer with two
    threads than with one: they wait for each other at every barrier.
    """
    threads, cores = default_threads(), os.cpu_count() or 1
    if "OMP_NUM_THREADS" in os.environ:
        return threads, f"OMP_NUM_THREADS is {os.environ['OMP_NUM_THREADS']}" if threads < cores else ""
    idle = idle_cores()
    if round(idle) < threads:
        return max(1, round(idle)), f"other processes keep {cores - idle:.1f} of {cores} cores busy"
    if usable_cores() < cores:
        return threads, f"CPU affinity or a quota allows {usable_cores()} of {cores} cores"
    return threads, "torch's own choice, one for each physical core" if threads < cores else ""


@functools.cache
def default_threads() -> int:
    """Return torch's own choice, read before a run sets another, or fewer where fewer cores are usable."""
    import torch

    return min(torch.get_num_threads(), usable_cores())


def peak_memory(device: str) -> int:
    """Return bytes: the most that tensors took on a CUDA device, or that this process took of the machine."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def cpuinfo(key: str) -> str:
    """Return the first value of `key` in /proc/cpuinfo, or ''."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), "")
