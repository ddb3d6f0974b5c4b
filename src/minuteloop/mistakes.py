"""Errors of Hydra, OmegaConf and the disk, told in one line each."""

import contextlib
import dataclasses
import errno
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from minuteloop.schema import Config, ConfigError, flat, nearest

# what a disk says; any other OSError is ours and keeps its traceback
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
# the groups whose files change keys elsewhere, and where
PACKAGES = {"modernization": "arch", "ingredient": "recipe.SLOT"}


def is_mistake(error: BaseException) -> bool:
    """Whether one line is all that a user needs: what ConfigError, Hydra, YAML, a diverged loss or a disk says."""
    if isinstance(error, ConfigError | HydraException | OmegaConfBaseException | YAMLError | FloatingPointError):
        return True
    if isinstance(error, OSError):
        return error.errno in DISK_ERRORS
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    # Hydra refuses some values with a bare ValueError
    return isinstance(error, ValueError) and trace.tb_frame.f_globals.get("__name__", "").startswith("hydra.")


@contextlib.contextmanager
def in_one_line(conf: Path) -> Iterator[None]:
    """Ends the process with exit code 1 and one line where something `is_mistake`; other errors pass."""
    try:
        yield
    except Exception as error:
        if not is_mistake(error):
            raise
        sys.exit(f"error: {one_line(error, conf)}")


def one_line(error: BaseException, conf: Path) -> str:
    """What is wrong, in which file or key, and the nearest valid choice: a file of `conf`, or a key beside."""
    is_ours = isinstance(error, ConfigError | OSError | FloatingPointError)
    if is_ours and not isinstance(error, HydraException):  # some of which are OSErrors
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, word = error.missing_cfg_file.rpartition("/")
        options = error.options or sorted(file.stem for file in (conf / group).glob("*.yaml"))
        if not group:
            searched = re.findall(r"path=file://(.+)", str(error))
            options = sorted({file.stem for folder in searched for file in Path(folder).glob("*.yaml")})
            if (conf.parent / f"recipes/{word}.yaml").is_file():
                return f"there is no config {word}.yaml in conf/: it is one of recipes/, found with -cd recipes"
            return f"there is no config {word}.yaml here or in conf/{nearest(word, options)}"
        return f"{group}={word}: there is no {group}/{word}.yaml{nearest(word, options)}"
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    told = [_sentence(causes[0])]
    # OmegaConf leaves a message as a form to fill in
    told += [text for text in dict.fromkeys(map(_sentence, causes[1:])) if text not in told[0] and "$VALUE" not in text]
    return ": ".join(told) + _nearest_key(causes[-1], conf)


def _sentence(error: BaseException) -> str:
    """The message without the lines that repeat it, name types or list search paths."""
    text = re.split(r"\n(?:To append|Config search|See https|\s+full_key)", str(error))[0]
    text = re.sub(r"^In '([^']+)': \w+ raised while composing config:", r"\1.yaml:", text)
    return " ".join(text.split()).rstrip(".")


def _nearest_key(error: BaseException, conf: Path) -> str:
    """The nearest legal key to the one that an error of Hydra's or OmegaConf's names."""
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and OmegaConf.is_dict(error.parent_node):
        groups = PACKAGES if OmegaConf.get_type(error.parent_node) is Config else {}
        if error.key in groups:
            return f" (a file in {error.key}/ begins with '# @package {groups[error.key]}')"
        deeper = [key for key in flat(dataclasses.asdict(Config())) if key.rpartition(".")[2] == error.key]
        if groups and deeper:
            return f" (nearest: {deeper[0]})"
        return nearest(error.key, [*error.parent_node, *groups])
    if found := re.search(r"from config\. '[\w.]*?(\w+)' does not exist", str(error)):
        return nearest(
            found[1], [*(file.stem for file in conf.glob("ingredient/*.yaml")), *flat(dataclasses.asdict(Config()))]
        )
    return ""


def refuse_hidden(settings: DictConfig, conf: Path) -> None:
    """A primary config that `conf` has too, which Hydra takes instead, such as a record's config.yaml.

    Raises ConfigError. `settings` is Hydra's own config.
    """
    name = f"{settings.job.config_name}.yaml"
    for source in settings.runtime.config_sources:
        file = Path(source.path) / name
        if source.schema == "file" and file.parent != conf and file.is_file() and (conf / name).is_file():
            raise ConfigError(
                f"-cd {file.parent} -cn {file.stem}: {conf / name} is found first; if it is a record, repeat it by the "
                f"`asked` in its result.json, with budget=<plan.steps>steps"
            )
