"""W&B's own process: started beside the imports of a run, ended when it no longer answers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from minuteloop.records.background_calls import BackgroundCalls

START_TIMEOUT = 2  # seconds


@contextlib.contextmanager
def service_started_early(is_wanted: bool) -> Iterator[None]:
    """Import W&B and start its process beside what follows, if it `is_wanted`; enter before torch is imported.

    W&B's import goes through every loaded module, so that it takes 0.3 s longer after torch. A failure is reported when
    the logger starts. Leaving waits for the start, so that it changes nothing after a run that fails early.
    """
    thread = _start_service() if is_wanted else None
    try:
        yield
    finally:
        if thread is not None:
            thread.join(START_TIMEOUT)


def _start_service() -> threading.Thread | None:
    def start() -> None:
        with contextlib.suppress(Exception):
            wandb.setup()

    with contextlib.suppress(Exception):
        import wandb
        import wandb.apis.public  # wandb.init does it later
        from wandb.analytics.opentelemetry import opentelemetry_proxy

        opentelemetry_proxy.disable()  # reports of W&B's own use, for which a process waits 30 s before it exits

        thread = threading.Thread(target=start, daemon=True)
        thread.start()
        return thread
    return None


def end_service(service) -> None:
    """End W&B's process after a failure, so that neither exit nor the next run waits for it."""
    import wandb

    def teardown() -> None:
        with contextlib.suppress(Exception, SystemExit):
            wandb.teardown()

    process = service._proc  # None where another process has started it
    if process is not None:
        process._process.kill()
    calls = BackgroundCalls("W&B")
    calls.wait(teardown, 5)
    calls.close()
