"""Where a run's seconds go, by phase. Imports no torch."""

from __future__ import annotations

import time

PHASES = ("setup", "calibrate", "compile", "train", "eval", "log")


class Stopwatch:
    """`seconds` of each phase and in "total", all attempts of a run together."""

    def __init__(self, started: float | None = None) -> None:
        self.last = time.perf_counter() if started is None else started
        self.seconds = dict.fromkeys((*PHASES, "total"), 0.0)

    def lap(self, phase: str, **inside: float) -> None:
        """Books the time since the last lap on `phase`, less the seconds of other phases that passed `inside` it."""
        now = time.perf_counter()
        self.add({phase: now - self.last - sum(inside.values()), **inside, "total": now - self.last})
        self.last = now

    def add(self, seconds: dict[str, float]) -> None:
        """Books seconds that passed elsewhere, such as those of an earlier attempt."""
        for phase, passed in seconds.items():
            self.seconds[phase] += passed
