"""Where a run's seconds go. Imports no torch: it starts before the heavy imports."""

from __future__ import annotations

import threading
import time

STAGES = ("setup", "calibrate", "compile", "train", "eval", "log", "paused")  # of a run
BEAT, PAUSE = 0.1, 1.0  # seconds between two looks at the clock; by how much a look is late after a pause, at least


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
        inside["paused"] = self.pauses.take(now)
        self.add({stage: now - self.last - sum(inside.values()), **inside, "total": now - self.last})
        self.last = now

    def running(self) -> float:
        """Return the seconds since the last lap, without pauses."""
        now = time.perf_counter()
        return now - self.last - self.pauses.look(now)

    def paused(self) -> float:
        """Return the seconds of all pauses so far."""
        return self.seconds["paused"] + self.pauses.look(time.perf_counter())

    def add(self, seconds: dict[str, float]) -> None:
        """Add seconds spent elsewhere, such as in an earlier attempt."""
        for stage, passed in seconds.items():
            self.seconds[stage] += passed


class Pauses:
    """Finds pauses of the process: it was stopped (Ctrl-Z, SIGSTOP), or frozen with its container or its machine.

    After a pause a thread that looks at the clock every BEAT seconds does so late. In a process that waits for cores
    or a disk the thread still runs, and a call that holds Python's global lock uses CPU time; neither is a pause.
    """

    def __init__(self) -> None:
        self.seconds = 0.0  # of the pauses since the last `take`
        self.lock, self.stopped = threading.RLock(), threading.Event()
        self.seen: tuple[float, float] | None = None  # wall-clock and CPU seconds at the last look; None: not watching

    def watch(self) -> None:
        """Start the thread."""
        self.seen, self.stopped = (time.perf_counter(), time.process_time()), threading.Event()
        threading.Thread(target=self._watch, args=(self.stopped,), daemon=True).start()

    def unwatch(self) -> None:
        """End the thread."""
        with self.lock:
            self.look(time.perf_counter())
            self.seen = None
        self.stopped.set()

    def _watch(self, stopped: threading.Event) -> None:
        while not stopped.wait(BEAT):
            self.look(time.perf_counter())

    def look(self, now: float) -> float:
        """Return the seconds of the pauses since the last `take`; `now` is a time.perf_counter()."""
        with self.lock:
            if self.seen:
                cpu = time.process_time()
                late = now - self.seen[0] - BEAT
                if late > PAUSE and cpu - self.seen[1] < late:
                    self.seconds += late
                self.seen = max(now, self.seen[0]), cpu
            return self.seconds

    def take(self, now: float) -> float:
        """Return the same, and start again at 0."""
        with self.lock:
            seconds, self.seconds = self.look(now), 0.0
            return seconds
