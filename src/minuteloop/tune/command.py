"""The command `minuteloop tune`: search, report what was found, and train the best with fresh seeds."""

from __future__ import annotations

import argparse
import logging
import shlex
import subprocess
import sys

import optuna

from minuteloop.config.errors import is_user_error
from minuteloop.records.run_log import logging_to
from minuteloop.report.command import summarize_sections
from minuteloop.report.compare import compare
from minuteloop.report.report import read_report
from minuteloop.report.section import Section
from minuteloop.schema import METRICS
from minuteloop.study.confirm import TRAIN
from minuteloop.training.resume import make_folder
from minuteloop.tune.results import best, sections_of
from minuteloop.tune.search import Search, read_search
from minuteloop.tune.storage import open_study, quiet_optuna
from minuteloop.tune.trials import Trials, outcome
from minuteloop.validation import ConfigError, in_quotes

log = logging.getLogger("minuteloop")

CONFIRM = "confirm"  # folder in the search's: the best and the defaults, with fresh seeds


def run(arguments: list[str], program: str, description: str) -> int:
    """Search until there are as many trials as asked; return the exit code. Raises ConfigError."""
    options = _parse(arguments, program, description)
    search = read_search(options.config_name, options.config_dir, options.overrides)
    with quiet_optuna(), logging_to():
        make_folder(search.folder, "tune.folder")
        study = open_study(search)
        for line in _start_lines(search, study):
            log.info(line)
        stopped = Trials(search, study).run()
        sections = sections_of(search, study)
        if not sections:
            log.info("no trial has finished")
            return 130 if stopped else 1
        if options.confirm and not stopped:
            sections.append(_confirm(search, study, options.confirm))
        log.info(summarize_sections(sections, search.folder, f"# Search {search.folder.name}"))
        if search.compose(search.typed).logger.name == "wandb":
            _log_to_wandb(search, sections)
    return 130 if stopped else 0


def _parse(arguments: list[str], program: str, description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=program, description=description)
    add = parser.add_argument
    add(
        "overrides", nargs="*", help="as for train; those with several values, recipe.lr=interval(0.01,1), are searched"
    )
    add("-cn", "--config-name", default="config", help="a named search of recipes/")
    add("-cd", "--config-dir", default="", help="a folder with your own conf/")
    add("--confirm", type=int, default=0, metavar="K", help="train the best and the defaults again with K fresh seeds")
    options = parser.parse_intermixed_args(arguments)
    if options.confirm < 0 or options.confirm == 1:
        raise ConfigError(f"--confirm {options.confirm}: must be a number of seeds >= 2")
    return options


def _start_lines(search: Search, study: optuna.Study) -> list[str]:
    names = ", ".join(f"{'most' if METRICS.get(name, True) else 'least'} {name}" for name in search.objective.names)
    return [
        f"search of {len(search.space.distributions)} parameters by {search.settings.sampler}, for {names}: "
        f"{search.trials} trials, {len(study.get_trials(deepcopy=False))} begun before",
        *(f"  {line}" for line in search.space.lines()),
        f"folder: {search.folder} (the same command continues it)",
    ]


def _confirm(search: Search, study: optuna.Study, count: int) -> Section:
    """Train the best trial and the defaults with `count` fresh seeds; compare these runs alone.

    Raises:
        ConfigError: the runs did not end.
    """
    chosen, folder = best(search, study), search.folder / CONFIRM
    first = search.compose(search.typed).seed + 1
    own = ",".join(map(in_quotes, chosen.user_attrs["overrides"]))
    command = [
        *(sys.executable, "-c", TRAIN, "-m", "-cn", search.config_name),
        *(["-cd", search.config_dir] if search.config_dir else []),
        *(text for text in search.typed if not text.startswith("seed=")),
        *("~tune", f"study.arms={{defaults:[],best:[{own}]}}", f"hydra.sweep.dir={folder}"),
        f"study.seeds=[{','.join(str(first + index) for index in range(count))}]",
        "study.question='Is the best trial of the search better than the defaults?'",
    ]
    log.info(f"confirm: {shlex.join(command[3:])}")
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:
        raise ConfigError(f"--confirm: its runs did not end; see {folder}")
    section = compare(read_report([folder], baseline="defaults"))
    score = f"Trial {chosen.number} in the search, one seed: {outcome(chosen, search.objective.names)}."
    title = f"Confirmation with fresh seeds {first} to {first + count - 1}"
    return Section("confirm", title, [score, *section.sentences], section.data, section.table)


def _log_to_wandb(search: Search, sections: list[Section]) -> None:
    """Log the report of the search as a W&B run in the group of its trials; a failure is a warning."""
    from minuteloop.report.page.wandb_run import log_to_wandb  # imports torch

    try:
        log.info(f"W&B: {log_to_wandb(read_report([search.folder]), sections, None)}")
    except Exception as error:
        if not is_user_error(error):
            raise
        log.warning(str(error))
