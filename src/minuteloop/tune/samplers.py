"""How a search chooses points and which trials it stops early: Optuna's samplers and pruners, and evolution."""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, GridSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from minuteloop.schema import TuneConfig
from minuteloop.tune.objective import DEFAULT, Objective
from minuteloop.tune.space import Space
from minuteloop.validation import ConfigError

POPULATION, SAMPLE = 20, 5  # of regularized evolution
STARTUP = 5  # trials, and evaluations of a trial, before the median may stop one


def make_sampler(settings: TuneConfig, space: Space, objective: Objective, seed: int) -> BaseSampler:
    """Return the sampler of a search. Raises ConfigError where it does not fit the space or the objectives."""
    if settings.sampler == "evolution":
        if len(objective.names) > 1:
            raise ConfigError("tune.sampler=evolution: must have one objective; use nsga2 for several")
        return RegularizedEvolution(space.distributions, seed)
    if settings.sampler == "grid":
        return GridSampler(space.grid(), seed)
    samplers = {"tpe": TPESampler, "random": RandomSampler, "gp": GPSampler, "nsga2": NSGAIISampler}
    return samplers[settings.sampler](seed=seed)


def make_pruner(settings: TuneConfig, objective: Objective) -> BasePruner:
    """Return the pruner of a search. Raises ConfigError where val/acc is not the only objective."""
    by_accuracy = objective.names == DEFAULT
    name = ("median" if by_accuracy else "none") if settings.pruner == "auto" else settings.pruner
    if name != "none" and not by_accuracy:
        raise ConfigError(f"tune.pruner={name}: must be none, or the only objective val/acc, which is known on the way")
    if name == "median":
        return MedianPruner(n_startup_trials=STARTUP)
    return SuccessiveHalvingPruner(min_resource=1, reduction_factor=2) if name == "halving" else NopPruner()


class RegularizedEvolution(BaseSampler):
    """Mutate the best of SAMPLE trials among the POPULATION newest, in one parameter (Real 2019, algorithm 1)."""

    def __init__(self, distributions: dict[str, BaseDistribution], seed: int) -> None:
        self.distributions = distributions
        self.rng = np.random.default_rng(seed)
        self.random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are chosen together: all."""
        return self.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a mutated parent, or nothing, which is drawn at random, until there is a population."""
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(finished) < POPULATION:
            return {}
        newest = sorted(finished, key=lambda trial: trial.datetime_complete)[-POPULATION:]
        chosen = [newest[index] for index in self.rng.choice(POPULATION, SAMPLE, replace=False)]
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        child = dict(max(chosen, key=lambda trial: sign * trial.value).params)
        name = str(self.rng.choice([name for name in search_space if not search_space[name].single()]))
        old = child[name]
        while child[name] == old:
            child[name] = self.random.sample_independent(study, trial, name, search_space[name])
        return child

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """Return a value drawn at random."""
        return self.random.sample_independent(study, trial, name, distribution)
