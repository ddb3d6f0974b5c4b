"""Train the trials of a search, several side by side, until there are as many as asked."""

from __future__ import annotations

import contextlib
import csv
import logging
import os
import signal
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from minuteloop import hardware
from minuteloop.config.errors import is_user_error
from minuteloop.schema import Config
from minuteloop.study.cell import Cell
from minuteloop.study.train_cell import train_or_reuse
from minuteloop.tune.objective import metrics_of, shown
from minuteloop.tune.search import Search
from minuteloop.tune.storage import exclusive, finished, retry, running, seeded_sampler

log = logging.getLogger("minuteloop")

WAIT = 1.0  # seconds until a worker looks again whether a trial of another process has died


class Stopped(Exception):
    """Ctrl-C ended a trial, whose point is tried again when the search continues."""


class TrialFailed(Exception):
    """A trial has no result."""


class Trials:
    """The trials that this process trains, each in a process of its own."""

    def __init__(self, search: Search, study: optuna.Study) -> None:
        self.search, self.study = search, study
        self.stop = search.folder / f"stop-{os.getpid()}"  # a file: processes that train look for it
        self.seconds: list[float] = []  # that each trial took here

    def run(self) -> bool:
        """Train until the search has its trials; return whether Ctrl-C ended it first."""
        workers = self.search.settings.workers
        previous = signal.signal(signal.SIGINT, self._request_stop)
        try:
            with seeded_sampler(self.search, self.study), ThreadPoolExecutor(workers) as pool:
                for future in [pool.submit(self._work_or_stop) for _ in range(workers)]:
                    future.result()
            return self.stop.exists()
        finally:
            signal.signal(signal.SIGINT, previous)
            self.stop.unlink(missing_ok=True)

    def _request_stop(self, *_: Any) -> None:
        if self.stop.exists():
            self.stop.unlink()
            os._exit(130)  # processes that train end with this one
        self.stop.touch()
        log.info("stopping the search after the running trials have saved; press Ctrl-C again to stop immediately")

    def _work_or_stop(self) -> None:
        """Train one trial after the other; an error of the program ends the other workers too."""
        try:
            self._work()
        except BaseException:
            self.stop.touch()
            raise

    def _work(self) -> None:
        while not self.stop.exists():
            with contextlib.ExitStack() as turn:  # one worker at a time counts the trials and begins another
                turn.enter_context(exclusive(self.search.folder / "search.lock"))
                fail_stale_trials(self.study)
                others = running(self.study)  # before those that have finished: a trial may end in between
                left = self.search.trials - len(finished(self.study))
                if left <= 0:
                    return
                if others < left:
                    self._train_one(turn)
                    continue
            time.sleep(WAIT)

    def _train_one(self, turn: contextlib.ExitStack) -> None:
        def objective(trial: Trial) -> list[float]:
            turn.close()
            return self._objective(trial)

        with contextlib.suppress(Stopped):
            self.study.optimize(objective, n_trials=1, catch=(TrialFailed,), callbacks=[self._log_progress])

    def _objective(self, trial: Trial) -> list[float]:
        """Train a trial and return the values of the objectives; see `_result` for what it raises."""
        point = self.search.space.suggest(trial)
        trial.set_user_attr("overrides", self.search.space.overrides(point))
        overrides = [*self.search.typed, *self.search.space.overrides(point)]
        cell = Cell(trial.number, overrides, self.search.folder / f"trial-{trial.number}")
        try:
            config = self._config(overrides)
        except Exception as error:
            if not is_user_error(error):
                raise
            raise self._failed(trial, str(error)) from error
        is_one = len(self.search.objective.names) == 1  # Optuna stops no trial of several objectives
        watch = Watch(trial, config.evaluations) if is_one else None
        cell = train_or_reuse(cell, config, self.search.folder, self.stop, contextlib.nullcontext(), watch)
        cell.save(self.search.folder)
        return self._result(trial, cell, watch)

    def _result(self, trial: Trial, cell: Cell, watch: Watch | None) -> list[float]:
        """Return the values of the objectives of a trial that has ended.

        Raises:
            TrialPruned: it was stopped early.
            Stopped: Ctrl-C ended it.
            TrialFailed: it has no result.
        """
        record = cell.record() or {"status": None}
        trial.set_user_attr("folder", os.path.relpath(cell.folder, self.search.folder))
        trial.set_user_attr("seconds", record.get("seconds", {}).get("train", 0.0))
        if record["status"] == "finished":
            metrics = metrics_of(record)
            trial.set_user_attr("metrics", metrics)
            return self.search.objective.values(metrics)
        if watch and watch.is_pruned:
            raise optuna.TrialPruned
        if self.stop.exists():
            retry(self.study, trial.number)
            raise Stopped
        raise self._failed(trial, cell.failure() or record["status"])

    def _failed(self, trial: Trial, reason: str) -> TrialFailed:
        trial.set_user_attr("error", reason)
        return TrialFailed(reason)

    def _config(self, overrides: list[str]) -> Config:
        """Return a trial's config; workers share the cores. Raises ConfigError."""
        config, workers = self.search.compose(overrides), self.search.settings.workers
        if config.threads == "auto" and workers > 1:
            config = replace(config, threads=max(1, hardware.default_threads() // workers))
        return config

    def _log_progress(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Log a trial that has ended, the best so far, and how long the others will take."""
        names, done = self.search.objective.names, finished(study)
        self.seconds.append(trial.duration.total_seconds())
        parts = [f"trial {trial.number} ({len(done)} of {self.search.trials}): {outcome(trial, names)}"]
        parts.append(" ".join(trial.user_attrs["overrides"]))
        if len(names) == 1 and any(other.state == TrialState.COMPLETE for other in done):
            parts.append(f"best: trial {study.best_trial.number}, {shown(names[0], study.best_value)}")
        left = (self.search.trials - len(done)) / self.search.settings.workers
        minutes = statistics.mean(self.seconds) * left / 60
        log.info("; ".join([*parts, *([f"about {minutes:,.0f} min to the end"] if minutes >= 1 else [])]))


def outcome(trial: FrozenTrial, names: list[str]) -> str:
    """Return what a trial has come to, in words; `names` are those of the objectives."""
    if trial.state == TrialState.COMPLETE:
        return ", ".join(f"{name} {shown(name, value)}" for name, value in zip(names, trial.values, strict=True))
    return "stopped early" if trial.state == TrialState.PRUNED else f"failed: {trial.user_attrs.get('error')}"


class Watch:
    """Reports a trial's validation curve to Optuna, and asks whether to stop the trial early."""

    def __init__(self, trial: Trial, evaluations: int) -> None:
        self.trial, self.evaluations = trial, evaluations
        self.reported, self.is_pruned = 0, False

    def __call__(self, folder: Path) -> bool:
        """Report what is new in the curve of a run's folder; return whether the trial is to stop.

        At the last evaluation the training is over, and there is nothing left to save.
        """
        for value in _curve(folder / "metrics.csv")[self.reported :]:
            self.trial.report(value, self.reported)
            self.reported += 1
            self.is_pruned |= self.reported < self.evaluations and self.trial.should_prune()
        return self.is_pruned


def _curve(file: Path) -> list[float]:
    """Return val/acc at each evaluation so far."""
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        return [float(row["val/acc"]) for row in csv.DictReader(lines) if row.get("val/acc")]
