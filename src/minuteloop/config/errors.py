"""Errors of Hydra, OmegaConf and the disk as one line: key, value, rule, suggestion."""

import contextlib
import dataclasses
import errno
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from minuteloop.schema import Config
from minuteloop.validation import ConfigError, closest, did_you_mean, flat

# errors of the disk; any other OSError is a bug and keeps its traceback
DISK_ERRORS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EROFS,
}
# groups whose files set keys elsewhere, and where
PACKAGES = {"modernization": "arch", "ingredient": "recipe.SLOT"}
# the usual words of the field -> how it is spelled here; {} is the value
USUAL_WORDS = {
    **dict.fromkeys(("epochs", "max_epochs", "num_epochs", "trainer.max_epochs"), "budget={}ep"),
    **dict.fromkeys(("steps", "max_steps", "num_steps", "trainer.max_steps"), "budget={}steps"),
    **dict.fromkeys(("time", "seconds", "max_time"), "budget={}s"),
    **dict.fromkeys(("lr", "learning_rate", "optimizer.lr"), "recipe.lr={}"),
    **dict.fromkeys(("wd", "weight_decay", "optimizer.weight_decay"), "recipe.weight_decay={}"),
    **dict.fromkeys(("bs", "batch_size", "data.batch_size"), "recipe.batch_size={}"),
    **dict.fromkeys(("opt", "optimizer", "loss", "schedule", "scheduler", "ingredients"), "'ingredient=[{}]'"),
    **dict.fromkeys(("model", "net", "network", "architecture", "backbone"), "arch={}"),
    **dict.fromkeys(("gpu", "gpus", "cuda", "trainer.gpus", "trainer.devices"), "device=cuda"),
    **dict.fromkeys(("modernizations", "arch.modernization"), "'modernization=[{}]'"),
    "dataset": "data={}",
    "data_dir": "data.root={}",
    "logger.mode": "the environment variable WANDB_MODE={}",
    "recipe.drop_path": "recipe.regularizers.drop_path.rate={}",
    "recipe.mixup": "recipe.batch.mixup.alpha={}",
    "recipe.cutmix": "recipe.batch.cutmix.alpha={}",
    "recipe.ema": "recipe.callbacks.ema.window={}",
    "strength": "recipe.strength={}",
}
SLOTS = ("recipe.optimizer", "recipe.loss", "recipe.schedule")  # a bare word there is an ingredient


def is_user_error(error: BaseException) -> bool:
    """Return whether one line is all that a user needs: a wrong config, a diverged loss, a full disk."""
    if isinstance(error, ConfigError | HydraException | OmegaConfBaseException | YAMLError | FloatingPointError):
        return True
    if isinstance(error, OSError):
        return error.errno in DISK_ERRORS
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    # Hydra rejects some values with a bare ValueError
    return isinstance(error, ValueError) and trace.tb_frame.f_globals.get("__name__", "").startswith("hydra.")


@contextlib.contextmanager
def exit_on_user_error(conf: Path, overrides: list[str] | tuple[str, ...] = (), prefix: str = "") -> Iterator[None]:
    """End the process with one line on stderr where a user error is raised inside; other errors pass."""
    try:
        yield
    except Exception as error:
        if not is_user_error(error):
            raise
        exit_with_error(error, conf, overrides, prefix)


def exit_with_error(error: Exception, conf: Path, overrides=(), prefix: str = "") -> NoReturn:
    """Print a user error in one line; exit with code 1 for a run that failed, with 2 for a wrong command."""
    print(f"error: {prefix}{one_line(error, conf, overrides)}", file=sys.stderr)
    run_failed = isinstance(error, FloatingPointError | OSError) and not isinstance(error, HydraException)
    sys.exit(1 if run_failed else 2)


def check_words(overrides: list[str] | tuple[str, ...], conf: Path) -> None:
    """Raise ConfigError for an override that uses another framework's word, naming the key that it has here."""
    ingredients = {file.stem for file in conf.glob("ingredient/*.yaml")}
    recipes = {file.stem for file in conf.glob("recipe/*.yaml")}
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        if not equals or override.startswith(("-", "~")):
            continue
        spelled = USUAL_WORDS.get(key)
        if key in SLOTS and re.fullmatch(r"\w+", value):
            spelled = "'ingredient=[{}]'"
        if key == "recipe" and value in ingredients - recipes:
            raise ConfigError(f"{override}: no such recipe, but an ingredient. Did you mean 'ingredient=[{value}]'?")
        if spelled:
            raise ConfigError(f"{override}: unknown key. Did you mean {spelled.format(value)}?")
        brackets = [value.count(bracket) for bracket in "[]"]
        if brackets[0] != brackets[1] and not re.search("[\"']", value):
            missing = "]" if brackets[0] > brackets[1] else "["
            raise ConfigError(f"{override}: missing {missing}")
        if key in ("data", "arch", "recipe", "size", "logger") and "/" in value:
            options = sorted(file.stem for file in conf.glob(f"{key}/*.yaml"))
            hint = f"; a folder goes into data.root={value}" if key == "data" else ""
            raise ConfigError(f"{override}: must be one of {', '.join(options)}{hint}")


def one_line(error: BaseException, conf: Path, overrides: list[str] | tuple[str, ...] = ()) -> str:
    """Return what is wrong, in which key or file, and the closest valid choice: a file of `conf`, or a key."""
    is_ours = isinstance(error, ConfigError | OSError | FloatingPointError)
    if is_ours and not isinstance(error, HydraException):  # some of which are OSErrors
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_file(error, conf)
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    if line := _unknown_key(causes[-1], conf, overrides):
        return line
    parts = [_sentence(causes[0])]
    # OmegaConf leaves placeholders such as $VALUE in some messages
    parts += [t for t in dict.fromkeys(map(_sentence, causes[1:])) if t not in parts[0] and "$VALUE" not in t]
    return ": ".join(parts)


def _missing_file(error: MissingConfigException, conf: Path) -> str:
    group, _, name = error.missing_cfg_file.rpartition("/")
    if not group:
        folders = re.findall(r"path=file://(.+)", str(error))
        options = sorted({file.stem for folder in folders for file in Path(folder).glob("*.yaml")})
        return f"-cn {name}: no such config{did_you_mean(name, options)}"
    options = error.options or sorted(file.stem for file in (conf / group).glob("*.yaml"))
    return f"{group}={name}: no such file in conf/{group}{did_you_mean(name, options)}"


def _sentence(error: BaseException) -> str:
    """Return the message without the lines that repeat it, name types or list search paths."""
    text = re.split(r"\n(?:To append|Config search|See https|\s+full_key)", str(error))[0]
    text = re.sub(r"^In '([^']+)': \w+ raised while composing config:", r"\1.yaml:", text)
    return " ".join(text.split()).rstrip(".")


def _unknown_key(error: BaseException, conf: Path, overrides) -> str | None:
    """Return the line for an error of Hydra's or OmegaConf's that names an unknown key, else None."""
    keys = [*flat(dataclasses.asdict(Config()))]
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and OmegaConf.is_dict(error.parent_node):
        groups = PACKAGES if OmegaConf.get_type(error.parent_node) is Config else {}
        full = str(error.full_key or error.key)
        typed = next((word for word in overrides if word.lstrip("+~").partition("=")[0] == full), full)
        where = f"{typed}: unknown key"
        if error.key in groups:
            return f"{where}; a file in {error.key}/ must start with '# @package {groups[error.key]}'"
        deeper = [key for key in keys if key.rpartition(".")[2] == error.key]
        if groups and deeper:
            return f"{where}. Did you mean {deeper[0]}?"
        siblings = [str(key) for key in error.parent_node]
        prefix = full.rpartition(".")[0]
        match = closest(error.key, [*siblings, *groups])
        if match:
            return f"{where}. Did you mean {f'{prefix}.' if prefix else ''}{match}?"
        return f"{where}{did_you_mean(error.key, siblings)}"
    if found := re.search(r"from config\. '([\w.]*?(\w+))' does not exist", str(error)):
        names = [file.stem for file in conf.glob("ingredient/*.yaml")]
        return f"~{found[1]}: unknown key{did_you_mean(found[2], [*names, *keys])}"
    return None


def reject_hidden_config(settings: DictConfig, conf: Path) -> None:
    """Raise ConfigError where Hydra finds conf/NAME.yaml before the -cn NAME that the user meant.

    A record's config.yaml is such a file. `settings` is Hydra's own config.
    """
    name = f"{settings.job.config_name}.yaml"
    for source in settings.runtime.config_sources:
        file = Path(source.path) / name
        if source.schema == "file" and file.parent != conf and file.is_file() and (conf / name).is_file():
            raise ConfigError(
                f"-cd {file.parent} -cn {file.stem}: {conf / name} is found first; to repeat a run, use the overrides "
                f"`asked` of its result.json with budget=<plan.steps>steps"
            )
