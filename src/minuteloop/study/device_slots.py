"""Spread the cells that train side by side on a machine over its CUDA devices."""

from __future__ import annotations

import fcntl
import itertools
import os
import platform
from pathlib import Path
from typing import IO

FOLDER = "devices"  # in the sweep's, with a locked file for each cell that trains

_held: list[IO[str]] = []  # the lock of this process, which ends with it


def take_device(sweep: Path) -> str | None:
    """Let this process see one CUDA device, of those with the fewest cells; return it, or None without a choice.

    Call it before CUDA starts. The device is free again when the process ends, however it ends.
    """
    devices = visible_devices()
    if len(devices) < 2:
        return None
    folder = sweep / FOLDER
    folder.mkdir(exist_ok=True)
    for place, device in ((place, device) for place in itertools.count() for device in devices):
        file = (folder / f"{platform.node()}-{device}-{place}").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another cell has this place
            file.close()
            continue
        except OSError:  # some network file systems lock nothing
            device = devices[os.getpid() % len(devices)]
        _held.append(file)
        os.environ["CUDA_VISIBLE_DEVICES"] = device
        return device


def visible_devices() -> list[str]:
    """Return the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them. Starts no CUDA."""
    import torch

    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return named[:count] if named else [str(index) for index in range(count)]
