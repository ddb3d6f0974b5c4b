"""The console command `minuteloop`; train.py and scripts/*.py call the same functions."""

import argparse
import contextlib
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, read_write

import minuteloop
from minuteloop.config import reference
from minuteloop.config.compose import CONF, HYDRA_1_4, IMAGE_SIZE, RECIPES, checked, compose
from minuteloop.config.composed_files import as_typed
from minuteloop.config.errors import exit_on_user_error, exit_with_error, is_user_error
from minuteloop.config.overrides import check_overrides, without_hyphens
from minuteloop.records.run_log import logging_to
from minuteloop.records.terminal import drop_lost_output
from minuteloop.schema import Config
from minuteloop.study import multirun
from minuteloop.training.resume import folder_for, make_folder
from minuteloop.validation import ConfigError, did_you_mean

STARTED = time.perf_counter()  # of the command
# Hydra 1.4 deprecates version_base and takes a list of what a config may call
CALLBACKS = ["minuteloop.cli.CheckConfig", "minuteloop.study.multirun.Sweep"]
MAIN = {"execution_whitelist": CALLBACKS} if HYDRA_1_4 else {"version_base": "1.3"}

TAKE_A_VALUE = {  # Hydra's options
    *("-cn", "--config-name", "-cd", "--config-dir", "-cp", "--config-path", "-p", "--package", "-c", "--cfg"),
    "--experimental-rerun",
}


def main() -> None:
    """Run `minuteloop COMMAND ...`."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--version"]:
        print(minuteloop.__version__)
    elif not arguments or arguments[0] in ("-h", "--help", "help"):
        with exit_on_user_error(CONF), _result_on_stdout():
            print(_usage())
    elif arguments[0] in COMMANDS:
        COMMANDS[arguments[0]](arguments[1:], f"minuteloop {arguments[0]}")
    else:
        print(f"error: {arguments[0]}: unknown command{did_you_mean(arguments[0], COMMANDS)}", file=sys.stderr)
        sys.exit(2)


def _usage() -> str:
    lines = [minuteloop.__doc__, "", "usage: minuteloop COMMAND ...", ""]
    lines += [f"  {name:10}{command.__doc__.splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "minuteloop COMMAND --help describes a command."])


# --- train ------------------------------------------------------------------------------------------------------


def train(arguments: list[str] | None = None, program: str = "python train.py") -> None:
    """Train a config, or many with -m, and leave a record.

    Exits with 0, 1 (a run failed), 2 (a wrong command), 130 (Ctrl-C), 138 (SIGUSR1), 140 (SIGUSR2) or 143
    (SIGTERM).
    """
    arguments = _with_package_recipes(sys.argv[1:] if arguments is None else arguments)
    arguments = _options_first(without_hyphens(arguments))
    sys.argv = [program, *arguments]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of printing
    if {"-h", "--help"} & set(arguments):
        return _print_help([word for word in arguments if word not in ("-h", "--help")], program)
    drop_lost_output()
    with logging_to():
        try:
            check_overrides(arguments, CONF)
            hydra.main(**MAIN, config_path=str(CONF), config_name="config")(_job)()
        except KeyboardInterrupt:
            _end_of_sweep()
            sys.exit(130)
        except Exception as error:
            if not is_user_error(error) and multirun.Sweep.folder is None:
                raise
            _end_of_sweep()
            if is_user_error(error):
                exit_with_error(error, CONF, arguments)
            traceback.print_exception(error)
            print(f"error: the launcher failed: {type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(1)
        sys.exit(_end_of_sweep())


def _end_of_sweep() -> int:
    """Log the report of the sweep that this process launched, if any; return the exit code."""
    from minuteloop.report.command import summarize  # takes a second; a single run needs none

    return multirun.end(summarize)


def _options_first(arguments: list[str]) -> list[str]:
    """Return the options before the overrides, since Hydra's parser rejects an option between two overrides."""
    options, overrides, words = [], [], iter(arguments)
    for word in words:
        if word.startswith("-"):
            options += [word, *itertools.islice(words, word in TAKE_A_VALUE)]
        else:
            overrides.append(word)
    return [*options, *overrides]


def _with_package_recipes(arguments: list[str]) -> list[str]:
    """Return the arguments with the package's recipes/ in place of `-cd recipes` where the current folder has none."""
    if Path("recipes").is_dir():
        return arguments
    return [
        str(RECIPES) if before in ("-cd", "--config-dir") and word.rstrip("/") == "recipes" else word
        for before, word in zip(["", *arguments], arguments, strict=False)
    ]


def _print_help(arguments: list[str], program: str) -> None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-cn", "--config-name", default="config")
    parser.add_argument("-cd", "--config-dir", default="")
    options, rest = parser.parse_known_args(arguments)
    is_sweep = {"-m", "--multirun"} & set(rest)  # help shows one config, not many
    overrides = (
        [word for word in rest if word.startswith("~") or ("=" in word and word[0] != "-")] if not is_sweep else []
    )
    with exit_on_user_error(CONF, overrides), _result_on_stdout():
        config = compose(overrides, options.config_name, options.config_dir)
        print(reference.help_text(config, CONF, RECIPES, program))


def _job(cfg: DictConfig) -> float | None:
    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        return multirun.run_task(cfg, settings)
    from minuteloop.training.run import train

    with exit_on_user_error(CONF, sys.argv[1:]):  # Hydra would print the overrides too
        typed = as_typed(settings.overrides.task)
        record = train(CheckConfig.config_to_train, Path(settings.runtime.output_dir), STARTED, overrides=typed)
    if record["status"] == "interrupted":
        sys.exit(130)  # as a shell reports SIGINT
    if record["status"] == "overrun":
        sys.exit(3)
    return record["metrics"].get("val/acc")


class CheckConfig(Callback):
    """Rejects a wrong config before the run's folder is made, and sends a run that resumes to its own."""

    config_to_train: ClassVar[Config | None] = None

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Hydra's hook, which turns any exception but SystemExit into a warning."""
        with exit_on_user_error(CONF, sys.argv[1:]):
            CheckConfig.config_to_train = checked(config, config.hydra)
            folder = folder_for(CheckConfig.config_to_train, Path(config.hydra.run.dir))
            make_folder(folder)
        with read_write(config.hydra.run):
            config.hydra.run.dir = str(folder)


# --- explain ----------------------------------------------------------------------------------------------------


def explain(arguments: list[str] | None = None, program: str = "scripts/explain.py") -> None:
    """Print what overrides resolve to, without training: programs, resolutions, parameters, MACs, steps and sources."""
    parser = argparse.ArgumentParser(prog=program, description=explain.__doc__)
    parser.add_argument("overrides", nargs="*", help="as for train, such as arch=convnext size=tiny")
    parser.add_argument("-cn", "--config-name", default="config", help="a named run of recipes/")
    parser.add_argument("-cd", "--config-dir", default="", help="a folder with your own conf/")
    parser.add_argument("--image-size", type=int, default=IMAGE_SIZE, help="in pixels (default: %(default)s)")
    parser.add_argument("--num-classes", type=int, default=10, help="outputs of the net (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--measure", action="store_true", help="also measure images/s and memory of forward and backward"
    )
    options = parser.parse_intermixed_args(_with_package_recipes(sys.argv[1:] if arguments is None else arguments))
    with exit_on_user_error(CONF, options.overrides), _result_on_stdout():
        config = compose(options.overrides, options.config_name, options.config_dir, image_size=options.image_size)
        from minuteloop.nets.summary import summarize, text

        summary = summarize(config.arch, config.size, options.image_size, options.num_classes)
        if options.measure:
            summary["measured"] = _measured(config, options.image_size, options.num_classes)
        print(json.dumps(summary, indent=2) if options.json else text(summary))


def _measured(config, image_size: int, num_classes: int) -> dict:
    """Return images/s of forward and backward at the config's batch, device and precision, and what they are."""
    from minuteloop import hardware
    from minuteloop.nets.spec import resolve
    from minuteloop.nets.throughput import measure

    hardware.keep_freed_memory()
    config = hardware.resolve_auto(config)
    spec, batch_size = resolve(config.arch, config.size, image_size, num_classes), config.recipe.batch_size
    rate = measure(spec, batch_size, config.device, config.precision == "bf16", config.channels_last, passes=20)
    return {
        "images_per_second": rate,
        "peak_memory_bytes": hardware.peak_memory(config.device),
        "batch_size": batch_size,
        "precision": config.precision,
        "threads": config.threads,
        "device": config.device,
    }


# --- features ---------------------------------------------------------------------------------------------------


def features(arguments: list[str] | None = None, program: str = "scripts/features.py") -> None:
    """Draw a trained net's stem filters and its stages' feature maps of a few test images.

    Writes RUN/pictures/filters.png and RUN/pictures/maps.png.
    """
    parser = argparse.ArgumentParser(prog=program, description=features.__doc__)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("--images", type=int, nargs="+", default=list(range(6)), help="indices of the test set")
    options = parser.parse_args(arguments)
    with exit_on_user_error(CONF), _result_on_stdout():
        from minuteloop.trained.feature_maps import draw_feature_maps

        for path in draw_feature_maps(options.run, options.images):
            print(path)


# --- report -----------------------------------------------------------------------------------------------------


def report(arguments: list[str] | None = None, program: str = "scripts/report.py") -> None:
    """Answer from finished runs: tables, comparisons with intervals and verdicts, figures, one HTML page, JSON."""
    from minuteloop.report import command

    with exit_on_user_error(CONF), _result_on_stdout():
        print(command.run(sys.argv[1:] if arguments is None else arguments, program, report.__doc__))


# --- tune -------------------------------------------------------------------------------------------------------


def tune(arguments: list[str] | None = None, program: str = "scripts/tune.py") -> None:
    """Search configs with Optuna: each point trains once, poor ones stop early, --confirm K judges the best.

    Exits with 0, 1 (no trial finished), 2 (a wrong command) or 130 (Ctrl-C).
    """
    arguments = _with_package_recipes(sys.argv[1:] if arguments is None else arguments)
    drop_lost_output()
    with exit_on_user_error(CONF, arguments):
        if find_spec("optuna") is None:
            raise ConfigError("minuteloop tune: needs optuna; run pip install 'minuteloop[tune]'")
        from minuteloop.tune import command

        sys.exit(command.run(arguments, program, tune.__doc__.splitlines()[0]))


COMMANDS: dict[str, Callable] = {
    "train": train,
    "explain": explain,
    "features": features,
    "report": report,
    "tune": tune,
}


@contextlib.contextmanager
def _result_on_stdout() -> Iterator[None]:
    """End quietly where the reader of stdout has closed it (`| head`).

    Raises:
        OSError: where stdout does not take the result, as on a full disk.
    """
    try:
        yield
        print(end="", flush=True)  # print does nothing where stdout was closed before the start
    except BrokenPipeError:
        pass
    finally:
        try:
            print(end="", flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
