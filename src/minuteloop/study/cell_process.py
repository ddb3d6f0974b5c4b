"""Train a cell in its own process, which keeps its threads, compiled code, peak memory and death to itself."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from minuteloop.records.terminal import drop_lost_output
from minuteloop.schema import Config

# imported once, in the process that cells are forked from; torch starts no thread and no device by being imported.
# Not minuteloop: that process may find another copy of it, since it does not know this one's sys.path (Python 3.11)
PRELOADED = ["torch", "pytorch_lightning", "torchmetrics.classification"]


def train_in_process(config: Config, folder: Path, stop: Path) -> str:
    """Train a config in another process, and return how that ended: by which signal, or with which exit code.

    When the file `stop` appears, the process is sent SIGINT, once.
    """
    multiprocessing.set_start_method("forkserver", force=True)  # joblib's workers have a method that children lack
    multiprocessing.set_forkserver_preload(PRELOADED)
    process = multiprocessing.Process(target=_train, args=(config, folder, stop))
    process.start()
    interrupted = False
    try:
        while process.exitcode is None:
            process.join(0.2)
            if stop.exists() and not interrupted:
                interrupted = True
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(process.pid, signal.SIGINT)
    finally:
        process.kill()  # if it is still alive
    code = process.exitcode
    return f"by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _train(config: Config, folder: Path, stop: Path) -> None:
    drop_lost_output()
    os.setpgrp()  # the terminal's Ctrl-C is for the sweep's process
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a launcher's worker may pass on that it ignores it
    _end_with_parent()
    try:
        from minuteloop.training.run import train  # Ctrl-C may come while it is imported

        if stop.exists():
            sys.exit(130)
        train(config, folder)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        with (folder / "log.txt").open("a") as log:
            traceback.print_exc(file=log)
        sys.exit(1)


def _end_with_parent() -> None:
    """Send this process SIGTERM when its parent ends."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
