"""Where a run's seconds go. Imports no torch: it starts before the heavy imports."""

from __future__ import annotations

import time

STAGES = ("setup", "calibrate", "compile", "train", "eval", "log")  # of a run


class Stopwatch:
    """`seconds` of each stage of a run and of "total", over all attempts."""

    def __init__(self, started: float | None = None) -> None:
        """`started` is the time.perf_counter() of the first lap's start; None = now."""
        self.last = time.perf_counter() if started is None else started
        self.seconds = dict.fromkeys((*STAGES, "total"), 0.0)

    def lap(self, stage: str, **inside: float) -> None:
        """Add the time since the last lap to `stage`, except the seconds of other stages spent `inside` it."""
        now = time.perf_counter()
        self.add({stage: now - self.last - sum(inside.values()), **inside, "total": now - self.last})
        self.last = now

    def add(self, seconds: dict[str, float]) -> None:
        """Add seconds spent elsewhere, such as in an earlier attempt."""
        for stage, passed in seconds.items():
            self.seconds[stage] += passed
