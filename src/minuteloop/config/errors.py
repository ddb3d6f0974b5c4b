"""Errors of Hydra, OmegaConf and the disk as one line: key, value, rule, suggestion."""

import contextlib
import dataclasses
import errno
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import YAMLError

from minuteloop.config.overrides import group_options
from minuteloop.schema import Command, Config
from minuteloop.validation import ConfigError, closest, did_you_mean, flat, quoted, rule_of, spell

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

# Hydra's sweepers and launchers -> the package on PyPI
PLUGINS = {
    "ax": "hydra-ax-sweeper",
    "joblib": "hydra-joblib-launcher",
    "nevergrad": "hydra-nevergrad-sweeper",
    "optuna": "hydra-optuna-sweeper",
    "rq": "hydra-rq-launcher",
    **dict.fromkeys(("ray", "ray_aws", "ray_jobs"), "hydra-ray-launcher"),
    **dict.fromkeys(("submitit_local", "submitit_slurm"), "hydra-submitit-launcher"),
}


def is_user_error(error: BaseException) -> bool:
    """Return whether one line is all that a user needs: a wrong config, a diverged loss, a full disk."""
    if isinstance(error, ConfigError | HydraException | OmegaConfBaseException | YAMLError | FloatingPointError):
        return True
    if isinstance(error, OSError):
        return error.errno in DISK_ERRORS
    if isinstance(error, AssertionError) and "NoneType" in str(error):  # of OmegaConf, for a key below null
        return True
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
    sys.exit(getattr(error, "exit_code", 1 if run_failed else 2))


def one_line(error: BaseException, conf: Path, overrides: list[str] | tuple[str, ...] = ()) -> str:
    """Return what is wrong, in which key or file, and the closest valid choice: a file of `conf`, or a key."""
    is_ours = isinstance(error, ConfigError | OSError | FloatingPointError)
    if is_ours and not isinstance(error, HydraException):  # Hydra has OSErrors of its own
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_file(error, conf)
    if isinstance(error, OverrideParseException):
        return _not_parsed(error.override)
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    timm = next((word for word in overrides if word.lstrip("+").startswith("arch.timm.")), None)
    if timm and isinstance(error, AssertionError):
        return f"{timm}: is an option of timm models; add arch=timm arch.name=MODEL"
    line = _unknown_key(causes, conf, overrides) or _wrong_type(causes, overrides) or _other_mistake(error)
    if line:
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
    if group == "recipe" and name in group_options(conf, "ingredient"):
        return f"recipe={name}: no such recipe, but an ingredient. Did you mean 'ingredient=[{name}]'?"
    if group in ("hydra/sweeper", "hydra/launcher") and (package := PLUGINS.get(name)):
        return f"{group}={name}: needs the package {package}; run pip install {package}"
    options = error.options or group_options(conf, group)
    where = _file(error) if "/" in _file(error) else ""  # a file that lists it, not the user
    return f"{where}{group}={name}: no such file in conf/{group}{did_you_mean(name, options)}"


def _not_parsed(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: must be KEY=VALUE"
    return f"{override}: cannot be parsed; type {quoted(key, value)}"


def _other_mistake(error: BaseException) -> str | None:
    if match := re.match(r"Ambiguous value for argument '(.+)'", str(error)):
        return f"{match[1]}: must be one value; add -m to run each"
    if match := re.search(r"Either remove \+ prefix: '(.+)'", str(error)):
        return f"+{match[1]}: the key exists. Did you mean {match[1]}?"
    return None


def _sentence(error: BaseException) -> str:
    """Return the message without the lines that repeat it, name types or list search paths."""
    text = re.split(r"\n(?:To append|Config search|See https|\s+full_key)", str(error))[0]
    text = re.sub(r"^In '([^']+)': \w+ raised while composing config:", r"\1.yaml:", text)
    return " ".join(text.split()).rstrip(".")


def _file(error: BaseException) -> str:
    """Return 'arch/x.yaml: ' where Hydra names the file that it was reading, else ''."""
    match = re.match(r"In '([^']+)': ", str(error))
    return f"{match[1]}.yaml: " if match else ""


def _wrong_type(causes: list[BaseException], overrides) -> str | None:
    """Return the line for a value that OmegaConf could not convert to its key's type, else None."""
    error = next((error for error in causes if isinstance(error, ValidationError | ConfigTypeError)), None)
    key = str(getattr(error, "full_key", None) or "").partition("[")[0]
    if not (reason := rule_of(Command, key)):
        return None
    typed = next((word for word in overrides if word.lstrip("+").partition("=")[0] == key), "")
    return f"{_file(causes[0])}{typed or f'{key}={spell(error.value)}'}: {reason}"


def _unknown_key(causes: list[BaseException], conf: Path, overrides) -> str | None:
    """Return the line for an error of Hydra's or OmegaConf's that names an unknown key, else None."""
    error = causes[-1]
    if match := re.search(r"from config\. '([\w.]+)' does not exist", str(error)):
        return f"~{match[1]}: {_no_such_key(match[1], conf, [])}"
    if not (isinstance(error, ConfigKeyError | ConfigAttributeError) and OmegaConf.is_dict(error.parent_node)):
        return None
    key, full, is_top = str(error.key), str(error.full_key or error.key), _is_config(error.parent_node)
    # Hydra names the first part that is missing; the user typed more
    words = (word.lstrip("+~").partition("=")[0] for word in overrides)
    at = next((at for at, word in enumerate(words) if f"{word}.".startswith(f"{full}.")), None)
    where = f"{_file(causes[0])}{full if at is None else overrides[at]}"
    if is_top and key in PACKAGES:
        return f"{where}: unknown key; a file in {key}/ must start with '# @package {PACKAGES[key]}'"
    siblings = [str(name) for name in error.parent_node if name != "hydra"]
    return f"{where}: {_no_such_key(full, conf, siblings)}"


def _is_config(node: DictConfig) -> bool:
    return issubclass(OmegaConf.get_type(node), Config)


def _no_such_key(full: str, conf: Path, siblings: list[str]) -> str:
    """Return 'unknown key' with the closest key to the dotted `full`; `siblings` are the names that its parent has."""
    prefix, dot, name = full.rpartition(".")
    packages = {}  # where an ingredient goes -> its name
    for file in conf.glob("ingredient/*.yaml"):
        packages.setdefault(file.read_text().splitlines()[0].removeprefix("# @package "), file.stem)
    if full in packages:
        return f"the recipe has no {name}; add it with 'ingredient=[{packages[full]}]'"
    if prefix == "trainer":
        return f"unknown key. Did you mean +{full}?"
    keys = list(flat(dataclasses.asdict(Command())))
    match = next((key for key in keys if key.rpartition(".")[2] == name), None) if not prefix else None
    if not match and (sibling := closest(name, [*siblings, *(() if prefix else PACKAGES)])):
        match = f"{prefix}{dot}{sibling}"
    if not match and not siblings:
        match = closest(full, [*packages, *keys])
    return f"unknown key. Did you mean {match}?" if match else f"unknown key{did_you_mean(name, siblings)}"


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
