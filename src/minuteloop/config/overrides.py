"""Check overrides as they are typed, before Hydra reads them: words of other frameworks, brackets, names of files."""

import re
from pathlib import Path

from minuteloop.schema import Config
from minuteloop.validation import LISTED, TYPES, ConfigError, rule_of

# the usual words of the field -> how it is spelled here; {} is the value
USUAL_WORDS = {
    **dict.fromkeys(("epochs", "max_epochs", "num_epochs", "trainer.max_epochs"), "budget={}ep"),
    **dict.fromkeys(("steps", "max_steps", "num_steps", "trainer.max_steps"), "budget={}steps"),
    **dict.fromkeys(("time", "seconds", "max_time"), "budget={}s"),
    **dict.fromkeys(("lr", "learning_rate", "optimizer.lr", "recipe.optimizer.lr"), "recipe.lr={}"),
    **dict.fromkeys(("wd", "weight_decay", "optimizer.weight_decay"), "recipe.weight_decay={}"),
    **dict.fromkeys(("bs", "batch_size", "data.batch_size"), "recipe.batch_size={}"),
    **dict.fromkeys(("opt", "optimizer", "loss", "schedule", "scheduler", "ingredients"), "ingredient=[{}]"),
    **dict.fromkeys(("model", "net", "network", "architecture", "backbone"), "arch={}"),
    **dict.fromkeys(("gpu", "cuda"), "device=cuda"),
    **dict.fromkeys(("gpus", "num_gpus", "trainer.gpus", "trainer.devices", "trainer.num_processes"), "devices={}"),
    **dict.fromkeys(("modernizations", "arch.modernization"), "modernization=[{}]"),
    "dataset": "data={}",
    "data_dir": "data.root={}",
    "logger.mode": "the environment variable WANDB_MODE={}",
    "recipe.drop_path": "recipe.regularizers.drop_path.rate={}",
    "recipe.mixup": "recipe.batch.mixup.alpha={}",
    "recipe.cutmix": "recipe.batch.cutmix.alpha={}",
    "recipe.ema": "recipe.callbacks.ema.window={}",
    "strength": "recipe.strength={}",
}
PRETRAINED = ("pretrained", "arch.pretrained", "weights")
OPTIONAL = ("recipe.batch.", "recipe.regularizers.", "recipe.callbacks.")  # ~KEY removes an ingredient there
OFF = ("0", "0.0", "false", "False", "off", "none", "null")
SLOTS = ("recipe.optimizer", "recipe.loss", "recipe.schedule")  # a bare word there is an ingredient
ONE = ("arch", "size", "recipe", "data", "logger")  # groups of conf/ that take one name
LIST = {"modernization": "patchify,gelu", "ingredient": "sgd"}  # groups that take a list of names, and an example
BRACKETS = ("[]", "()", "{}")
HYDRA_OPTIONS = ("cfg", "info", "package")  # of Hydra, that take =VALUE; its others have a hyphen, as no key has


def without_hyphens(arguments: list[str]) -> list[str]:
    """Return the arguments with KEY=VALUE in place of --KEY=VALUE, which a W&B agent writes for `${args}`."""
    found = [re.match(r"--([\w.@/]+)=", word) for word in arguments]
    return [
        word[2:] if match and match[1] not in HYDRA_OPTIONS else word
        for word, match in zip(arguments, found, strict=True)
    ]


def check_overrides(overrides: list[str] | tuple[str, ...], conf: Path) -> None:
    """Raise ConfigError for an override that Hydra would reject without naming the key that is meant."""
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        if equals and not override.startswith(("-", "~")):
            _check_word(override, key, value)
            _check_brackets(override, value)
            _check_group(override, key, value, conf)


def _check_word(override: str, key: str, value: str) -> None:
    """Reject another framework's word for a key, and an ingredient's name where a mapping belongs."""
    if key in PRETRAINED:
        raise ConfigError(f"{override}: unknown key; every net trains from scratch here")
    usual = USUAL_WORDS.get(key)
    if usual and usual.startswith(OPTIONAL) and value in OFF:
        removed = ".".join(usual.split(".")[:3])
        raise ConfigError(f"{override}: unknown key; '~{removed}' switches it off where the recipe has it")
    if key in SLOTS and re.fullmatch(r"\w+", value) and value != "null":
        raise ConfigError(f"{override}: must be a mapping. Did you mean 'ingredient=[{value}]'?")
    if re.fullmatch(r"[+-]?\d+", value) and value not in ("0", "1") and rule_of(Config, key) == TYPES[bool]:
        raise ConfigError(f"{override}: {TYPES[bool]}")  # OmegaConf takes any integer
    if usual:
        left, _, right = usual.partition("=")
        items = value.split(",")  # of a sweep
        if not all(re.fullmatch(r"[\w.+/-]+", item) for item in items):
            items = ["VALUE"]
        spelled = f"{left}={','.join(right.format(item) for item in items)}" if "{}" in right else usual
        quote = "'" if "[" in spelled else ""  # for the shell
        raise ConfigError(f"{override}: unknown key. Did you mean {quote}{spelled}{quote}?")


def _check_brackets(override: str, value: str) -> None:
    if re.search("[\"']", value):
        return  # a quoted bracket is text
    for left, right in BRACKETS:
        if value.count(left) != value.count(right):
            raise ConfigError(f"{override}: missing {right if value.count(left) > value.count(right) else left}")


def _check_group(override: str, key: str, value: str, conf: Path) -> None:
    """Reject what cannot name a file of the group `key`, or files of a list of them."""
    is_empty = value in ("", "null")
    if key in LIST and (is_empty or "[[" in value or re.search(r"(^|[\[,])\s*\d+\s*([\],]|$)", value)):
        raise ConfigError(f"{override}: must be a list of names such as {key}=[{LIST[key]}], or {key}=[]")
    if key in ONE and (is_empty or value.startswith(("[", "/", "~", ".")) or (key == "data" and "/" in value)):
        hint = f"; a folder goes into data.root={value}" if key == "data" and "/" in value else ""
        options = group_options(conf, key)
        rule = f"one of {', '.join(options)}" if len(options) <= LISTED else f"the name of a file in conf/{key}"
        raise ConfigError(f"{override}: must be {rule}{hint}")


def group_options(conf: Path, group: str) -> list[str]:
    """Return the names of the files of a group."""
    return sorted(file.stem for file in conf.glob(f"{group}/*.yaml"))
