"""A thread for the calls of a service that may fail or hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Worker:
    """Makes calls one after the other, beside the run, which they can neither stop nor end.

    The first failure, a call that raises or is waited for in vain, is told; the calls after it are left out.
    """

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self.name, self.say, self.failed = name, say, False
        self._calls: SimpleQueue = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()  # a daemon: exit does not wait for it

    def post(self, call: Callable[[], Any]) -> None:
        """Has `call` made when those before it are done, and does not wait."""
        self._calls.put((call, [], threading.Event(), False))

    def wait(self, call: Callable[[], Any], seconds: float, always: bool = False) -> Any:
        """What `call` returns; None when it fails, takes longer, or, unless `always`, when a call before it failed."""
        result, done = [], threading.Event()
        self._calls.put((call, result, done, always))
        if not done.wait(seconds):
            self._fail(f"no answer within {seconds:g} s")
        return result[0] if result else None

    def close(self) -> None:
        """Ends the thread when the calls that it has are done."""
        self._calls.put(None)

    def _work(self) -> None:
        while (entry := self._calls.get()) is not None:
            call, result, done, always = entry
            try:
                if always or not self.failed:
                    result.append(call())
            except BaseException as error:  # a library's sys.exit() ends no run either
                self._fail(first_line(error))
            done.set()

    def _fail(self, why: str) -> None:
        if not self.failed:
            self.failed = True
            self.say(f"warning: {self.name} failed and is left alone: {why}")


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)
