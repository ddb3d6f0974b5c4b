"""Errors of Hydra and OmegaConf, told in one line each."""

import dataclasses
import re
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from minuteloop.schema import Config, ConfigError, flat, nearest

# the groups whose files change keys elsewhere, and where
PACKAGES = {"modernization": "arch", "ingredient": "recipe.SLOT"}


def one_line(error: BaseException, conf: Path) -> str:
    """What is wrong, in which file or key, and the nearest valid choice: a file of `conf`, or a key beside."""
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, word = error.missing_cfg_file.rpartition("/")
        options = error.options or sorted(file.stem for file in (conf / group).glob("*.yaml"))
        if not group:
            return f"there is no config {word}.yaml here or in conf/{nearest(word, options)}"
        return f"{group}={word}: there is no {group}/{word}.yaml{nearest(word, options)}"
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    told = [_sentence(causes[0])]
    told += [text for text in dict.fromkeys(map(_sentence, causes[1:])) if text not in told[0]]
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
        return nearest(error.key, [*error.parent_node, *groups])
    if found := re.search(r"from config\. '[\w.]*?(\w+)' does not exist", str(error)):
        return nearest(
            found[1], [*(file.stem for file in conf.glob("ingredient/*.yaml")), *flat(dataclasses.asdict(Config()))]
        )
    return ""


def is_mistake(error: BaseException) -> bool:
    """Whether an error is a user's: ours, one of Hydra's and of YAML's, or a bare ValueError from Hydra's own code."""
    if isinstance(error, ConfigError | HydraException | OmegaConfBaseException | YAMLError):
        return True
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return isinstance(error, ValueError) and trace.tb_frame.f_globals.get("__name__", "").startswith("hydra.")
