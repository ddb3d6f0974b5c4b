"""Every config key with its value, meaning, unit and allowed values: what `--help` and docs/config.md print."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minuteloop.config.instantiate import ingredient, ingredient_nodes
from minuteloop.config.overrides import group_options
from minuteloop.schema import Config, StudyConfig, TuneConfig
from minuteloop.validation import spell

LINE, COLUMN = 120, 42  # characters of --help: a line, and where the meaning of a key starts
GROUPS = {  # folders of conf/ -> what one of their files is
    "arch": "architecture",
    "size": "scale of the architecture",
    "modernization": "steps, as a list: modernization=[patchify,gelu]",
    "recipe": "optimizer numbers and ingredients",
    "ingredient": "ingredients, as a list: ingredient=[sgd]; each replaces its slot in the recipe",
    "data": "dataset",
    "logger": "where results go besides the run's folder",
}


@dataclass(frozen=True)
class Key:
    """One config key."""

    name: str  # as typed on the command line
    value: Any
    help: str
    unit: str
    rule: str  # what it may hold, '' where only its type restricts it


def config_keys(config: Config) -> Iterator[Key]:
    """Yield every key of a config in order, then a study's; ingredients' fields take the place of recipe's nodes."""
    for key in _keys(config, ""):
        if not (key.name.startswith("recipe.") and isinstance(key.value, dict)):
            yield key
    for where, node in ingredient_nodes(config.recipe):
        yield from ingredient_keys(ingredient(node, where), where)
    yield from _keys(StudyConfig(), "study.")
    yield from _keys(TuneConfig(), "tune.")


def ingredient_keys(instance: Any, where: str) -> Iterator[Key]:
    """Yield the keys of an ingredient at the key `where`."""
    yield from _keys(instance, f"{where}.")


def _keys(node: Any, prefix: str) -> Iterator[Key]:
    for spec in dataclasses.fields(node):
        value, metadata = getattr(node, spec.name), spec.metadata
        if dataclasses.is_dataclass(value):
            yield from _keys(value, f"{prefix}{spec.name}.")
        else:
            rule = metadata.get("rule", "").removeprefix("must be ")
            yield Key(f"{prefix}{spec.name}", value, metadata.get("help", ""), metadata.get("unit", ""), rule)


def help_text(config: Config, conf: Path, recipes: Path, program: str) -> str:
    """Return the help of training: usage, groups with their files, and a line for each key with its composed value."""
    configs = [file for file in recipes.glob("*.yaml") if "defaults:" in file.read_text()]  # not a sweep of W&B's
    named_runs = ", ".join(sorted(file.stem for file in configs))
    lines = [
        "Train one config, or many with -m, and leave a record in runs/.",
        "",
        f"usage: {program} [KEY=VALUE ...] [-m] [-cn NAMED_RUN] [-cd FOLDER]",
        "",
        "  -m             run every combination of comma-separated values and end with a table",
        *_wrapped("-cn NAME       start from a named run: " + named_runs, "  ", " " * 17),
        "  -cd FOLDER     also search your own conf/ in FOLDER",
        "  --cfg job      print the composed config; --hydra-help for Hydra's other options",
        "",
        "Groups (GROUP=NAME)",
    ]
    for group, meaning in GROUPS.items():
        lines += ["", f"  {group}: {meaning}", *_wrapped(", ".join(group_options(conf, group)), "    ")]
    lines += ["", "Keys (KEY=VALUE, here with the values of this command)", ""]
    for key in config_keys(config):
        lines += _key_lines(key)
    return "\n".join(lines)


def _key_lines(key: Key) -> list[str]:
    """Return 'KEY=VALUE   meaning [unit; allowed values]', wrapped."""
    left, extra = f"  {key.name}={_shortened(key.value)}", "; ".join(filter(None, [key.unit, key.rule]))
    right = textwrap.wrap(f"{key.help} [{extra}]" if extra else key.help, LINE - COLUMN)
    if len(left) >= COLUMN:
        return [left, *(" " * COLUMN + line for line in right)]
    return [f"{left:<{COLUMN}}{right[0]}", *(" " * COLUMN + line for line in right[1:])]


def _shortened(value: Any) -> str:
    return textwrap.shorten(spell(value), 80, placeholder=" ...")


def _wrapped(text: str, indent: str, later: str | None = None) -> list[str]:
    return textwrap.wrap(text, LINE, initial_indent=indent, subsequent_indent=indent if later is None else later)
