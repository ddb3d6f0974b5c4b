"""What a search found: its trials as a table, what pruning saved, the Pareto set, and Optuna's figures."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from minuteloop.report.plots.style import GREY, LABEL, ORANGE, SMALL, WIDTH, plain_axes
from minuteloop.report.section import Section, Table
from minuteloop.schema import METRICS
from minuteloop.tune.objective import REWARD, UNITS, Objective, shown
from minuteloop.tune.search import Search
from minuteloop.tune.storage import finished
from minuteloop.tune.trials import outcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}


def sections_of(search: Search, study: optuna.Study) -> list[Section]:
    """Return the sections of a search's report; none before a trial has finished."""
    trials = finished(study)
    complete = _ordered([trial for trial in trials if trial.state == TrialState.COMPLETE], search.objective)
    if not complete:
        return []
    others = [trial for trial in trials if trial.state != TrialState.COMPLETE]
    made = [_trials(search, study, complete, others)]
    if sum(not distribution.single() for distribution in search.space.distributions.values()) > 1 < len(complete):
        made.append(_importance(search, study))
    if len(search.objective.compared) > 1:
        made.append(_pareto(search.objective.compared, complete))
    return made


def best(search: Search, study: optuna.Study) -> FrozenTrial:
    """Return the finished trial that is best in the first objective. Raises ValueError without one."""
    complete = [trial for trial in finished(study) if trial.state == TrialState.COMPLETE]
    if not complete:
        raise ValueError("no trial has finished")
    return _ordered(complete, search.objective)[0]


def _ordered(trials: list[FrozenTrial], objective: Objective) -> list[FrozenTrial]:
    """Return finished trials, the best in the first objective first."""
    return sorted(trials, key=lambda trial: _sign(objective) * trial.values[0])


def _sign(objective: Objective) -> int:
    """Return the factor that makes less of the first objective better."""
    return -1 if objective.directions[0] == "maximize" else 1


def _trials(search: Search, study: optuna.Study, complete: list[FrozenTrial], others: list[FrozenTrial]) -> Section:
    names = search.objective.names
    metrics = list(dict.fromkeys([*search.objective.compared, "val/acc", "images_per_second", "params"]))
    columns = ["trial", "overrides", *([REWARD] if names == [REWARD] else []), *metrics, "training, s", "state"]
    rows, values = [], []
    for trial in [*complete, *others]:
        found = trial.user_attrs.get("metrics", {})
        numbers = [*([trial.value] if names == [REWARD] else []), *(found.get(name) for name in metrics)]
        shown_as = [*([REWARD] if names == [REWARD] else []), *metrics]
        texts = ["" if number is None else shown(name, number) for name, number in zip(shown_as, numbers, strict=True)]
        seconds = trial.user_attrs.get("seconds", 0.0)
        state = STATES[trial.state] if trial.state != TrialState.FAIL else outcome(trial, names)
        rows.append([str(trial.number), " ".join(trial.user_attrs["overrides"]), *texts, f"{seconds:.1f}", state])
        values.append([trial.number, None, *numbers, seconds, None])
    chosen = complete[0]
    lines = [
        f"Best: trial {chosen.number}, {outcome(chosen, names)}: {' '.join(chosen.user_attrs['overrides'])}.",
        f"Chosen as the best of {len(complete)}, it looks better than it is; --confirm K trains it and the defaults "
        "with K fresh seeds.",
        *_saved(complete, others),
    ]
    data = {
        "objectives": names,
        "reward": search.objective.powers,
        "trials": [_data(trial) for trial in [*complete, *others]],
        "best": chosen.number,
    }
    return Section("trials", "Trials", lines, data, Table(columns, rows, values), lambda: _history(names, study))


def _data(trial: FrozenTrial) -> dict[str, Any]:
    kept = ("overrides", "folder", "seconds", "metrics", "error")
    attributes = {key: trial.user_attrs[key] for key in kept if key in trial.user_attrs}
    return {
        "trial": trial.number,
        "state": STATES[trial.state],
        "point": trial.params,
        "values": trial.values,
    } | attributes


def _saved(complete: list[FrozenTrial], others: list[FrozenTrial]) -> list[str]:
    """Return what stopping trials early has saved."""
    pruned = [trial.user_attrs["seconds"] for trial in others if trial.state == TrialState.PRUNED]
    if not pruned:
        return []
    seconds = [trial.user_attrs["seconds"] for trial in complete]
    spent, entire = sum(seconds) + sum(pruned), statistics.mean(seconds) * (len(seconds) + len(pruned))
    return [
        f"{len(pruned)} of {len(seconds) + len(pruned)} trials stopped early: {spent:,.0f} s of training "
        f"instead of about {entire:,.0f} ({1 - spent / entire:.0%} saved)."
    ]


def _importance(search: Search, study: optuna.Study) -> Section:
    first, sign = search.objective.names[0], _sign(search.objective)

    def low_is_good(trial: FrozenTrial) -> float:
        return sign * trial.values[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that low values are taken as good, as they are here
        importance = optuna.importance.get_param_importances(study, target=low_is_good)
    rows = [[name, f"{value:.2f}"] for name, value in importance.items()]
    values = [[None, value] for value in importance.values()]
    lines = [f"Fraction of the variation of {first} that a parameter explains (PED-ANOVA, Watanabe 2023)."]

    def draw() -> Figure:
        plot = optuna.visualization.matplotlib.plot_param_importances
        return _drawn(lambda: plot(study, target=low_is_good, target_name=first))

    return Section(
        "importance", "Importance", lines, importance, Table(["parameter", "importance"], rows, values), draw
    )


def _pareto(names: list[str], complete: list[FrozenTrial]) -> Section:
    """Return the trials that no other beats in one of the metrics without losing in another."""
    directions = ["maximize" if METRICS[name] else "minimize" for name in names]
    study = optuna.create_study(directions=directions)
    for trial in complete:
        values = [trial.user_attrs["metrics"][name] for name in names]
        study.add_trial(optuna.create_trial(values=values, user_attrs={"trial": trial.number} | trial.user_attrs))
    front = sorted(study.best_trials, key=lambda trial: -trial.values[0] if METRICS[names[0]] else trial.values[0])
    rows = [
        [
            str(trial.user_attrs["trial"]),
            " ".join(trial.user_attrs["overrides"]),
            *(shown(name, value) for name, value in zip(names, trial.values, strict=True)),
        ]
        for trial in front
    ]
    numbers = [[trial.user_attrs["trial"], None, *trial.values] for trial in front]
    lines = [f"No other trial beats one of these in {' or '.join(names)} without losing in another."]
    data = {"metrics": names, "trials": [trial.user_attrs["trial"] for trial in front]}

    return Section(
        "pareto",
        "Pareto set",
        lines,
        data,
        Table(["trial", "overrides", *names], rows, numbers),
        lambda: _fronts(names, study.trials, data["trials"]),
    )


def _fronts(names: list[str], trials: list[FrozenTrial], front: list[int]) -> Figure:
    """Draw the first metric against each of the others, in a panel each; trials of the Pareto set have their number."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    panels = figure.subplots(1, len(names) - 1, sharey=True, squeeze=False)[0]
    for place, (axes, name) in enumerate(zip(panels, names[1:], strict=True), start=1):
        for is_front, colour in ((False, GREY), (True, ORANGE)):
            drawn = [trial for trial in trials if (trial.user_attrs["trial"] in front) == is_front]
            points = [(_in_unit(name, trial.values[place]), _in_unit(names[0], trial.values[0])) for trial in drawn]
            axes.scatter(*zip(*points, strict=True) if points else ([], []), s=14, color=colour)
            for trial, point in zip(drawn, points, strict=True) if is_front else ():
                number = str(trial.user_attrs["trial"])
                axes.annotate(number, point, xytext=(3, 3), textcoords="offset points", fontsize=SMALL)
        axes.set_xlabel(_with_unit(name), fontsize=LABEL)
        axes.tick_params(labelsize=LABEL)
        plain_axes(axes)
    panels[0].set_ylabel(_with_unit(names[0]), fontsize=LABEL)
    return figure


def _in_unit(name: str, value: float) -> float:
    return value * UNITS.get(name, (1, ""))[0]


def _with_unit(name: str) -> str:
    return f"{name}, {UNITS[name][1]}" if name in UNITS else name


def _history(names: list[str], study: optuna.Study) -> Figure:
    plot = optuna.visualization.matplotlib.plot_optimization_history
    return _drawn(lambda: plot(study, target=lambda trial: trial.values[0], target_name=names[0]))


def _drawn(plot: Callable) -> Figure:
    """Return a figure of Optuna's, which it draws in its own style and keeps open."""
    import matplotlib
    from matplotlib import pyplot

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts that are new, and as in _importance
        matplotlib.use("agg", force=False)
        axes = plot()
        figure = axes.figure
        figure.set_size_inches(7.7, 4.5)
        figure.tight_layout()
        pyplot.close(figure)
    return figure
