"""The cells of a sweep: every combination of what was typed, and of a study's arms, budgets and seeds."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from minuteloop.config.compose import CONF, own_hydra, study_settings
from minuteloop.config.composed_files import as_typed
from minuteloop.config.overrides import check_overrides
from minuteloop.study.design import Study, key_of, make_study
from minuteloop.validation import ConfigError, in_quotes

SWEEPER = "hydra_plugins.minuteloop_sweeper.MinuteloopSweeper"  # conf/config.yaml selects it


def is_grid(settings: DictConfig) -> bool:
    """Return whether the cells of a sweep are known in advance; `settings` is Hydra's own config."""
    return settings.sweeper._target_ == SWEEPER or settings.sweeper._target_.endswith(".BasicSweeper")


def grid(config: DictConfig) -> tuple[Study | None, list[list[str]]]:
    """Return the study of a sweep's composed config, and the overrides of each cell.

    There are no cells where they are not known in advance: a sweeper that learns from its trials.

    Raises:
        ConfigError: for a study that is not valid, or whose arms conflict with what was typed.
    """
    settings, sweeper = study_settings(config), config.hydra.sweeper
    if settings and sweeper._target_ != SWEEPER:
        name = config.hydra.runtime.choices["hydra/sweeper"]
        raise ConfigError(f"hydra/sweeper={name}: must be minuteloop for a study, whose cells are given")
    if not is_grid(config.hydra):
        return None, []
    if (cells_per_task := sweeper.get("cells_per_task", 1)) < 1:
        raise ConfigError(f"hydra.sweeper.cells_per_task={cells_per_task}: must be an integer >= 1")
    params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    overrides = _parse([*params, *as_typed(config.hydra.overrides.task)])
    if settings is None:
        return None, _combinations(sorted(overrides, key=lambda override: not _sets(override, "seed")))
    overrides = [override for override in overrides if not _is_of_study(override)]
    seeds, budgets = _values(overrides, "seed"), _values(overrides, "budget")
    study = make_study(settings, _name(config))
    numbers = [int(seed) if re.fullmatch(r"-?\d+", seed) else seed for seed in seeds]  # a cell with another is refused
    study = replace(study, seeds=numbers or study.seeds, budgets=budgets or study.budgets or [config.budget])
    typed = [override for override in overrides if not (_sets(override, "seed") or _sets(override, "budget"))]
    _check_arms(study, typed)
    return study, study.cells(_combinations(typed))


def tasks(cells: list[list[str]], cells_per_task: int) -> list[list[str]]:
    """Return the overrides of each task of a launcher, those of its first cell; the others are in its key `cells`."""
    if cells_per_task == 1:
        return cells
    made = []
    for start in range(0, len(cells), cells_per_task):
        first, *others = cells[start : start + cells_per_task]
        lists = (f"[{','.join(map(in_quotes, other))}]" for other in others)
        made.append([*first, f"+cells=[{','.join(lists)}]", "hydra.sweep.subdir=task-${hydra.job.num}"])
    return made


def compose_study(
    config_name: str, config_dir: str = "", overrides: list[str] | tuple[str, ...] = ()
) -> tuple[Study | None, list[list[str]]]:
    """Return what `grid` returns for the sweep `python train.py -m -cn CONFIG_NAME OVERRIDES`. Raises ConfigError."""
    with own_hydra(overrides, config_dir):
        loader = GlobalHydra.instance().config_loader()
        return grid(loader.load_configuration(config_name, list(overrides), RunMode.MULTIRUN))


def _name(config: DictConfig) -> str:
    """Return the name of the study's file; of a study that was typed, that of the sweep's folder."""
    name = config.hydra.job.config_name
    return name if name != "config" else Path(config.hydra.sweep.dir).resolve().name


def _parse(overrides: list[str]) -> list[Override]:
    return OverridesParser.create(config_loader=GlobalHydra.instance().config_loader()).parse_overrides(overrides)


def _combinations(overrides: list[Override]) -> list[list[str]]:
    """Return every combination of the overrides' values, the first key's varying slowest; a later key wins."""
    (combinations,) = BasicSweeper.split_arguments(overrides, None)
    return combinations


def _sets(override: Override, key: str) -> bool:
    return override.key_or_group == key


def _values(overrides: list[Override], key: str) -> list[str]:
    """Return the values that were typed for a key, or an empty list."""
    given = [override for override in overrides if _sets(override, key)]
    return [cell[0].partition("=")[2] for cell in _combinations(given[-1:])] if given else []


def _is_of_study(override: Override) -> bool:
    """Return whether an override changes the study rather than its cells. Raises ConfigError for a sweep of it."""
    if key_of(override.input_line).partition(".")[0] != "study":
        return False
    if override.is_sweep_override():
        raise ConfigError(f"{override.input_line}: must be one value; a study is not swept over")
    return True


def _check_arms(study: Study, typed: list[Override]) -> None:
    """Raise ConfigError for an arm with several values for a key, or with a key that was typed too."""
    typed_keys = {key_of(override.input_line): override.input_line for override in typed}
    for name, arm in study.arms.items():
        check_overrides(arm, CONF)
        for override in _parse(arm):
            if override.is_sweep_override():
                raise ConfigError(f"study.arms.{name}=[{override.input_line}]: must be one value; use an arm for each")
            if other := typed_keys.get(key_of(override.input_line)):
                raise ConfigError(f"{other}: arm {name} of the study sets {key_of(other)} too; remove one of them")
