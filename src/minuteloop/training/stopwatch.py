"""Where a run's seconds go. Imports no torch: it starts before the heavy imports."""

from __future__ import annotations

import signal
import threading
import time

STAGES = ("setup", "calibrate", "compile", "train", "eval", "log", "paused")  # of a run


class Stopwatch:
    """`seconds` of each stage of a run and of "total", over all attempts.

    While `pauses` watches, a pause of the process is a stage of its own, "paused".
    """

    def __init__(self, started: float | None = None) -> None:
        """`started` is the time.perf_counter() of the first lap's start; None = now."""
        self.last = time.perf_counter() if started is None else started
        self.seconds = dict.fromkeys((*STAGES, "total"), 0.0)
        self.pauses = Pauses()

    def lap(self, stage: str, **inside: float) -> None:
        """Add the time since the last lap to `stage`, except the seconds of other stages spent `inside` it."""
        now = time.perf_counter()
        inside["paused"] = self.pauses.take()
        self.add({stage: now - self.last - sum(inside.values()), **inside, "total": now - self.last})
        self.last = now
        self.pauses.mark()

    def running(self) -> float:
        """Return the seconds since the last lap, without pauses."""
        return time.perf_counter() - self.last - self.pauses.seconds

    def paused(self) -> float:
        """Return the seconds of all pauses so far."""
        return self.seconds["paused"] + self.pauses.seconds

    def add(self, seconds: dict[str, float]) -> None:
        """Add seconds spent elsewhere, such as in an earlier attempt."""
        for stage, passed in seconds.items():
            self.seconds[stage] += passed


class Pauses:
    """Adds up how long the process was stopped (Ctrl-Z, SIGSTOP) while watched: the system reports its end by SIGCONT.

    A process that waits for cores or a disk is slow, not stopped. CPU time used since the last `mark` is no part of a
    pause, so that it is exact to a step.
    """

    def __init__(self) -> None:
        self.seconds = 0.0  # since the last `take`
        self.last, self.handler = (0.0, 0.0), None  # wall-clock and CPU seconds at the last mark; the earlier handler

    def watch(self) -> None:
        """Begin; only the main thread can."""
        self.mark()
        if threading.current_thread() is threading.main_thread():
            self.handler = signal.signal(signal.SIGCONT, self._continued) or signal.SIG_DFL

    def unwatch(self) -> None:
        """End, where it has begun."""
        if self.handler is not None:
            signal.signal(signal.SIGCONT, self.handler)
            self.handler = None

    def mark(self) -> None:
        """Note that the process runs now."""
        self.last = time.perf_counter(), time.process_time()

    def _continued(self, *_: object) -> None:
        wall, cpu = time.perf_counter() - self.last[0], time.process_time() - self.last[1]
        self.seconds += max(wall - cpu, 0.0)
        self.mark()

    def take(self) -> float:
        """Return the seconds, and start again at 0."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds
