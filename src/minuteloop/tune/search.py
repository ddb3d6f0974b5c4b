"""A search: its settings and its space, composed from what was typed, and how a trial is composed."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from minuteloop.config.compose import checked, own_hydra, search_settings, without_search
from minuteloop.schema import Config, TuneConfig
from minuteloop.study.design import key_of
from minuteloop.study.earlier_records import RUNS
from minuteloop.tune.objective import Objective, objective_of
from minuteloop.tune.samplers import make_pruner, make_sampler
from minuteloop.tune.space import Space, is_searched, parse, space_of
from minuteloop.validation import ConfigError

ANY_VALUE = ("tune.trials", "tune.workers", "tune.folder", "tune.storage")  # keys that do not make it another search


@dataclass
class Search:
    """What a search varies, what it optimizes, and how its trials are composed. `typed` are overrides of all trials."""

    config_name: str
    config_dir: str
    typed: list[str]
    settings: TuneConfig
    space: Space
    objective: Objective
    folder: Path
    lock: threading.Lock = field(default_factory=threading.Lock)  # Hydra composes one config at a time

    @property
    def trials(self) -> int:
        """Trials in all: those asked for, or all points of a grid."""
        if self.settings.sampler != "grid":
            return self.settings.trials
        return min(self.settings.trials, math.prod(map(len, self.space.grid().values())))

    def compose(self, overrides: Sequence[str]) -> Config:
        """Return the checked config of a trial. Raises ConfigError."""
        with self.lock, own_hydra(list(overrides), self.config_dir):
            loader = GlobalHydra.instance().config_loader()
            cfg = without_search(loader.load_configuration(self.config_name, list(overrides), RunMode.RUN))
            return checked(cfg, cfg.hydra)


def read_search(config_name: str, config_dir: str, overrides: Sequence[str]) -> Search:
    """Return the search that `minuteloop tune -cn NAME -cd FOLDER OVERRIDES` asks for.

    Every choice, and both ends of each interval, are composed once, with the first value of all others.

    Raises:
        ConfigError: for what cannot be searched or trained.
    """
    with own_hydra(list(overrides), config_dir):
        parsed = parse(overrides)
        searched = [override for override in parsed if is_searched(override)]
        typed = [override.input_line for override in parsed if not is_searched(override)]
        loader = GlobalHydra.instance().config_loader()
        settings = search_settings(loader.load_configuration(config_name, typed, RunMode.RUN)) or TuneConfig()
        space = space_of([*parse(_line(key, values) for key, values in settings.space.items()), *searched])
    if not space.distributions:
        raise ConfigError("tune: has nothing to search; give a key several values, such as recipe.lr=interval(0.01,1)")
    search = Search(
        config_name,
        config_dir,
        [text for text in typed if key_of(text).partition(".")[0] != "tune"],
        settings,
        space,
        objective_of(settings),
        _folder(settings, config_name, overrides),
    )
    make_pruner(settings, search.objective)
    make_sampler(settings, space, search.objective, 0)
    for point in space.corners():
        config = search.compose([*search.typed, *space.overrides(point)])
        if config.data.holdout == 0:
            raise ConfigError("data.holdout=0: must be > 0 in a search, which chooses by the validation split")
    return search


def _line(key: str, values: object) -> str:
    """Return an override of the file's space: {recipe.lr: 'interval(0.01, 1)'} or {arch.block.kernel: [3, 5]}."""
    return f"{key}={values if isinstance(values, str) else 'choice(' + ','.join(map(str, values)) + ')'}"


def _folder(settings: TuneConfig, config_name: str, overrides: Sequence[str]) -> Path:
    """Return the folder of a search, which is another one for other overrides."""
    if settings.folder != "auto":
        return Path(settings.folder)
    identity = sorted(text for text in overrides if key_of(text) not in ANY_VALUE)
    digest = hashlib.sha256(json.dumps([config_name, identity]).encode()).hexdigest()[:6]
    return Path(RUNS) / "-".join(["tune", *([] if config_name == "config" else [config_name]), digest])
