"""What each file listed in `modernization=[...]` and `ingredient=[...]` did to a composed config.

Hydra merges file over file and does not keep which one set what; here the files are read again, one by one.
"""

from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from minuteloop.config.file_cache import cache_files, content_of
from minuteloop.validation import ConfigError, flat


def as_typed(overrides: ListConfig) -> list[str]:
    """Return overrides of Hydra's config as they were typed: reading them one by one would resolve `${...}`."""
    return OmegaConf.to_container(overrides, resolve=False)


class Files:
    """The files that a config was composed of, in Hydra's order (later ones win), and the overrides after them."""

    def __init__(self, settings: DictConfig) -> None:
        """`settings` is Hydra's own config."""
        self.config_name = settings.job.config_name
        self.overrides = [*as_typed(settings.overrides.hydra), *as_typed(settings.overrides.task)]
        self.folders = [Path(source.path) for source in settings.runtime.config_sources if source.schema == "file"]
        self.loader = GlobalHydra.instance().config_loader()
        cache_files(self.loader)
        self.entries = self.loader.compute_defaults_list(self.config_name, self.overrides, RunMode.RUN).defaults

    def group(self, name: str) -> list:
        """Return the entries of a group of conf/."""
        return [entry for entry in self.entries if (entry.config_path or "").startswith(f"{name}/")]

    def listed(self, group: str, owner: str) -> list:
        """Return the entries of a group that the user lists, not those that a file of the group `owner` brings."""
        return [entry for entry in self.group(group) if not (entry.parent or "").startswith(f"{owner}/")]

    def read(self, config_path: str) -> dict | None:
        """Return what a file sets, or None where it is neither in conf/ nor in a folder given with -cd."""
        for folder in self.folders:
            file = folder / f"{config_path}.yaml"
            if file.is_file():
                return {key: value for key, value in content_of(file).items() if key != "defaults"}
        return None

    def read_step(self, config_path: str) -> dict[str, Any]:
        """Return what a modernization step sets in arch, as {'a.b': value}. Raises ConfigError."""
        node = self.read(config_path)
        if node is None:
            raise ConfigError(f"{config_path}.yaml: a step must be a file in conf/ or in a folder given with -cd")
        return flat({key: value for key, value in node.items() if key != "applied"})

    def keys(self, entries: list) -> set[str]:
        """Return every key that `entries` set, as 'a.b'."""
        keys = set()
        for entry in entries:
            if not (entry.package or "").startswith("hydra"):
                prefix = f"{entry.package}." if entry.package else ""
                keys |= flat(self.read(entry.config_path) or {}, prefix).keys()
        return keys

    def overridden(self) -> set[str]:
        """Return every key that the command line sets, as 'a.b'."""
        parsed = OverridesParser.create().parse_overrides(self.overrides)
        return flat({override.key_or_group: override.value() for override in parsed}).keys()

    def arch_without_steps(self) -> dict[str, Any]:
        """Return the arch composed anew without the listed steps, as {'a.b': value}."""
        return flat(OmegaConf.to_container(self._without("modernization").arch))

    def recipe_without_ingredients(self) -> dict[str, Any]:
        """Return the recipe composed anew without the listed ingredients, as {'a.b': value}."""
        return flat(OmegaConf.to_container(self._without("ingredient").recipe))

    def _without(self, group: str) -> DictConfig:
        kept = [override for override in self.overrides if not override.startswith(f"{group}=")]
        if group == "ingredient":  # others may be of the ingredients' fields
            kept = [override for override in kept if not override.lstrip("+~").startswith("recipe.")]
        return self.loader.load_configuration(self.config_name, [*kept, f"{group}=[]"], RunMode.RUN)


def replace_slots(cfg: DictConfig, files: Files) -> None:
    """Let an ingredient replace its slot in `cfg`: drop what was set there before its file, unless it is set again.

    Hydra's merge would leave AdamW's betas to an SGD in its place. Raises ConfigError for two ingredients of one
    slot in one list.
    """
    last = {entry.package: entry for entry in files.group("ingredient")}
    for entry in files.group("ingredient"):
        winner = last[entry.package]
        if entry is winner:
            continue
        if entry.parent == winner.parent:
            names = f"{file_name(entry.config_path)} and {file_name(winner.config_path)}"
            raise ConfigError(f"ingredient=[...]: {names} both set {entry.package}; list one of them")
        place = files.entries.index(winner)
        dropped = files.keys(files.entries[:place]) - files.keys(files.entries[place:]) - files.overridden()
        for key in dropped:
            where, _, name = key.rpartition(".")
            node = OmegaConf.select(cfg, where) if f"{where}.".startswith(f"{entry.package}.") else None
            if node is not None:
                node.pop(name, None)


def file_name(config_path: str) -> str:
    """Return 'gelu' for 'modernization/gelu'."""
    return config_path.rpartition("/")[2]
