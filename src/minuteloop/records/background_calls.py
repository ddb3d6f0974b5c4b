"""Calls of a service that may fail or hang."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

NOTICE = 3.0  # seconds of waiting after which a log message says so

log = logging.getLogger("minuteloop")


class BackgroundCalls:
    """Run calls sequentially on a daemon thread; their errors never reach the training run.

    The first failure, a call that raises or exceeds its deadline, is logged as a warning; later calls are skipped. Not
    a ThreadPoolExecutor: the interpreter would wait for its thread at exit, however long a call hangs.
    """

    def __init__(self, name: str) -> None:
        self.name, self.failed = name, False
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, call: Callable[[], Any]) -> None:
        """Run `call` after the calls before it, without waiting, unless one of them failed."""
        self._calls.put((lambda: None if self.failed else call(), Future()))

    def wait(self, call: Callable[[], Any], seconds: float, always: bool = False) -> Any:
        """Return what `call` returns, or None if it fails or exceeds its deadline.

        After a failure it is skipped too, unless `always`. A wait of more than NOTICE seconds is logged.
        """
        future = Future()
        self._calls.put((lambda: None if self.failed and not always else call(), future))
        try:
            with contextlib.suppress(TimeoutError):
                return future.result(min(NOTICE, seconds))
            if seconds > NOTICE:
                log.info("%s: no answer yet; waiting for at most %g s more", self.name, seconds - NOTICE)
            return future.result(max(seconds - NOTICE, 0))
        except TimeoutError:
            self._fail(f"no answer within {seconds:g} s")
            return None

    def close(self) -> None:
        """End the thread after the calls it has."""
        self._calls.put(None)

    def _work(self) -> None:
        while (entry := self._calls.get()) is not None:
            call, future = entry
            try:
                future.set_result(call())
            except BaseException as error:  # a library's sys.exit() must not end the run either
                self._fail(first_line(error))
                future.set_result(None)

    def _fail(self, reason: str) -> None:
        if not self.failed:
            self.failed = True
            log.warning("%s failed and is skipped from now on: %s", self.name, reason)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type."""
    return next(iter(str(error).splitlines()), type(error).__name__)
