"""The trials of a search in Optuna's database, which several processes may use at once and any may leave."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from minuteloop.tune.samplers import make_pruner, make_sampler
from minuteloop.tune.search import Search
from minuteloop.validation import ConfigError

HEARTBEAT, GRACE = 5, 20  # seconds between a trial's signs of life, and without one until another process retries it


def open_study(search: Search) -> optuna.Study:
    """Return the study of a search, made where there is none.

    Raises:
        ConfigError: for a database that cannot be opened.
    """
    asked = search.settings.storage
    url = f"sqlite:///{search.folder / 'search.db'}" if asked == "auto" else asked
    try:
        with exclusive(search.folder / "search.lock"):  # two processes cannot make the tables at once
            storage = RDBStorage(
                url,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
            return optuna.create_study(
                storage=storage,
                study_name=search.folder.name,
                directions=search.objective.directions,
                pruner=make_pruner(search.settings, search.objective),
                load_if_exists=True,
            )
    except Exception as error:  # of a database driver, whichever it is
        raise ConfigError(f"tune.storage={url}: cannot be opened ({str(error).splitlines()[0]})") from error


@contextlib.contextmanager
def seeded_sampler(search: Search, study: optuna.Study) -> Iterator[None]:
    """Give `study` a sampler that repeats neither what another process draws nor what was drawn before this one."""
    with contextlib.ExitStack() as stack:
        worker = _worker_number(search.folder, stack)
        seed = json.dumps([search.settings.seed, len(study.get_trials(deepcopy=False)), worker])
        digest = hashlib.sha256(seed.encode()).digest()
        study.sampler = make_sampler(search.settings, search.space, search.objective, int.from_bytes(digest[:4], "big"))
        yield


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have ended and count: all but those that were killed and are retried."""
    trials = study.get_trials(deepcopy=False)
    retried = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in retried]


def running(study: optuna.Study) -> int:
    """Return how many trials run now, in any process."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def retry(study: optuna.Study, number: int) -> None:
    """Enqueue the point of a trial again."""
    RetryHeartbeatStaleTrialCallback()(study, study.get_trials()[number])


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna's own log of trials, and its warnings of parts that are new, off the terminal."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keep other processes and threads that do so too waiting."""
    with path.open("w") as file:
        with contextlib.suppress(OSError):  # some network file systems lock nothing
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _worker_number(folder: Path, stack: contextlib.ExitStack) -> int:
    """Return the smallest number that no other process of the search has; it is this one's until `stack` closes."""
    number = 0
    while True:
        file = stack.enter_context((folder / f"worker-{number}.lock").open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number
        except BlockingIOError:
            number += 1
        except OSError:  # some network file systems lock nothing
            return number
