"""W&B's own process: started beside the imports of a run, ended when it no longer answers."""

from __future__ import annotations

import contextlib
import threading

from minuteloop.records.background_calls import BackgroundCalls


def start_service_early() -> None:
    """Import W&B and start its process beside what follows; call before torch is imported.

    W&B's import goes through every loaded module, so that it takes 0.3 s longer after torch. A failure is reported when
    the logger starts.
    """

    def start() -> None:
        with contextlib.suppress(Exception):
            wandb.setup()

    with contextlib.suppress(Exception):
        import wandb
        import wandb.apis.public  # wandb.init does it later
        from wandb.analytics.opentelemetry import opentelemetry_proxy

        opentelemetry_proxy.disable()  # reports of W&B's own use, for which a process waits 30 s before it exits

        threading.Thread(target=start, daemon=True).start()


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
