"""Rules for config values: what a field may hold, what it means, and the one-line error for anything else.

Imports no torch and no Hydra, so that errors appear before anything heavy loads.
"""

import contextlib
import dataclasses
import difflib
import os
import re
import shlex
from dataclasses import field
from typing import Any, get_origin, get_type_hints

LISTED = 40  # allowed values that an error lists at most
OPEN = 1e6  # an upper bound from here on only catches typing errors; messages leave it out

# names that fields had, and what they are called now
RENAMED = {
    "final": "min_lr_ratio",
    "images": "ghost_batch_size",
    "iterations": "ns_steps",
    "limit": "max_lr_scale",
    "lr": "base_lr",
    "longest_warmup": "max_warmup_fraction",
    "partner": "fallback",
    "partner_momentum": "fallback_momentum",
    "per_images": "base_batch_size",
    "share": "fraction",
    "side": "length",
    "views": "tta",
}
# values as other frameworks spell them, and as they are spelled here
SYNONYMS = {
    "32": "fp32",
    "attention": "attn",
    "batchnorm": "bn",
    "bf16-mixed": "bf16",
    "gpu": "cuda",
    "groupnorm": "gn",
    "layernorm": "ln",
    "leaky_relu": "leaky",
    "swish": "silu",
}
NOT_FINITE = ("nan", "inf", "-inf")  # numbers, which OmegaConf makes text where a key holds text
# types of fields that have no rule of their own
TYPES = {
    bool: "must be true or false",
    int: "must be an integer",
    float: "must be a number",
    str: "must be text",
    list[int]: "must be a list of integers",
    list: "must be a list",
    dict: "must be a mapping",
}


class ConfigError(ValueError):
    """An error that the user can fix, in one line: key, value, rule, suggestion."""


def closest(word: object, allowed) -> str | None:
    """Return the allowed word that `word` was probably meant to be, or None."""
    allowed = [str(choice) for choice in allowed]
    spelled = (RENAMED | SYNONYMS).get(str(word))
    if spelled in allowed:
        return spelled
    return next(iter(difflib.get_close_matches(str(word), allowed, n=1, cutoff=0.5)), None)


def did_you_mean(word: object, allowed) -> str:
    """Return '. Did you mean A?' where an allowed word resembles `word`, else ' (one of: A, B, C)' or nothing."""
    allowed = [str(choice) for choice in allowed]
    if match := closest(word, allowed):
        return f". Did you mean {match}?"
    return f" (one of: {', '.join(allowed)})" if 0 < len(allowed) <= LISTED else ""


def setting(default, help: str) -> Any:
    """Declare a field that only its type restricts."""
    return _field(default, {"help": help})


def choice(default, *others, help: str, by_stage: bool = False) -> Any:
    """Declare a field that holds one of the values `default, *others`."""
    allowed = (default, *others)
    rule = f"must be one of {', '.join(map(spell, allowed))}"
    return _rule(default, lambda _: False, rule, help, allowed, by_stage)


def pattern(default, regex: str, rule: str, help: str, allow=(), by_stage: bool = False) -> Any:
    """Declare a field whose text matches `regex`; `rule` is its description ('must be ...')."""
    return _rule(default, lambda value: re.fullmatch(regex, str(value)) is not None, rule, help, allow, by_stage)


def number(default, low: float, high: float, help: str, unit: str = "", allow=(), by_stage: bool = False) -> Any:
    """Declare a field that holds a number in [low, high], in `unit`, or one of the values `allow`, such as 'auto'."""
    return _numeric(default, low, high, help, unit, allow, by_stage, int | float, "a number")


def integer(default, low: int, high: int, help: str, unit: str = "", allow=(), by_stage: bool = False) -> Any:
    """Declare a field that holds an integer in [low, high], in `unit`, or one of the values `allow`."""
    return _numeric(default, low, high, help, unit, allow, by_stage, int, "an integer")


def custom(default, test, rule: str, help: str, allow=()) -> Any:
    """Declare a field that holds one of `allow` or passes `test(value)`; `rule` is its description ('must be ...')."""
    return _rule(default, test, rule, help, allow, False)


def parse_numbers(config: object) -> None:
    """Replace text that is a number, such as '1e-3', by that number in each numeric field of a (nested) dataclass."""
    for spec in dataclasses.fields(config):
        value = getattr(config, spec.name)
        if dataclasses.is_dataclass(value):
            parse_numbers(value)
        elif spec.metadata.get("is_numeric"):
            is_list = isinstance(value, list)
            setattr(config, spec.name, [_number(entry) for entry in value] if is_list else _number(value))


def _number(value: object) -> object:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value) if isinstance(value, str) else value
    return value


def _numeric(default, low, high, help, unit, allow, by_stage, kinds, noun) -> Any:
    def test(value: object) -> bool:
        return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high

    bounds = f">= {low:g}" if high >= OPEN else f"in [{low:g}, {high:g}]"
    rule = f"must be {' or '.join([*map(spell, allow), noun])} {bounds}"
    return _rule(default, test, rule, help, allow, by_stage, unit, is_numeric=True)


def _rule(default, test, rule, help, allow, by_stage, unit="", is_numeric=False) -> Any:
    metadata = {"test": test, "allow": allow, "rule": rule, "help": help, "unit": unit, "by_stage": by_stage}
    metadata["is_numeric"] = is_numeric
    return _field(default, metadata)


def _field(default, metadata: dict) -> Any:
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def spell(value: object) -> str:
    """Return a value as it is typed on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def quoted(key: str, value: object) -> str:
    """Return KEY=VALUE as a shell hands it to Hydra, in quotes for Hydra where its grammar needs them."""
    text = str(value)
    if text.startswith("~"):
        text = os.path.expanduser(text)  # no shell expands it after KEY=
    if not re.fullmatch(r"[\w.+/-]+", text, re.ASCII):
        text = in_quotes(text)
    return shlex.quote(f"{key}={text}")


def in_quotes(text: str) -> str:
    """Return text in double quotes as Hydra's grammar reads it: \\ before a quote is an escape."""
    return '"' + re.sub(r'(\\*)(?="|$)', lambda run: 2 * run[1], text).replace('"', '\\"') + '"'


def check(config: object, path: str = "") -> None:
    """Check every field of a (nested) dataclass against its rule.

    Raises:
        ConfigError: naming the key (`path` before it), the value and the rule.
    """
    for spec in dataclasses.fields(config):
        value, where, rule = getattr(config, spec.name), f"{path}{spec.name}", spec.metadata
        if dataclasses.is_dataclass(value):
            check(value, where + ".")
        if "test" not in rule:
            if isinstance(value, int) and spec.default_factory is not dataclasses.MISSING:  # by interpolation
                raise ConfigError(f"{where}={value}: must be a list")
            _check_text(where, value)
            continue
        by_stage = rule["by_stage"] and isinstance(value, list)
        if by_stage and not value:
            raise ConfigError(f"{where}=[]: must be one value, or a list with one value for each stage")
        for entry in value if by_stage else [value]:
            if entry not in rule["allow"] and not rule["test"](entry):
                match = closest(entry, rule["allow"]) if isinstance(entry, str) else None
                hint = f". Did you mean {match}?" if match else ""
                raise ConfigError(f"{where}={entry}: {rule['rule']}{hint}")
        _check_text(where, value)


def _check_text(where: str, value: object) -> None:
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, str) and entry in NOT_FINITE:
            raise ConfigError(f"{where}={entry}: must be text, not a number")


def rule_of(schema: type, key: str) -> str:
    """Return what the field `key` ('a.b') of a nested dataclass must hold: 'must be ...', or '' for an unknown key."""
    name, _, rest = key.partition(".")
    spec = next((spec for spec in dataclasses.fields(schema) if spec.name == name), None)
    if spec is None:
        return ""
    kind = get_type_hints(schema)[name]
    if dataclasses.is_dataclass(kind):
        return rule_of(kind, rest) if rest else "must be a mapping, or set one of its keys"
    return "" if rest else spec.metadata.get("rule") or TYPES.get(kind) or TYPES.get(get_origin(kind), "")


def flat(node: dict, prefix: str = "") -> dict[str, Any]:
    """Return a nested dict as {'a.b': leaf}."""
    leaves = {}
    for key, value in node.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
