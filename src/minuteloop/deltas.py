"""What the files listed in `modernization=[...]` and `ingredient=[...]` did to a composed config.

Hydra merges file over file and forgets which set what; here the files are read again, one by one.
"""

from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from minuteloop.nets.blueprint import resolve
from minuteloop.schema import Config, ConfigError, flat


class Files:
    """The files that a config was composed of, in Hydra's order (later ones win), and the words over them."""

    def __init__(self, settings: DictConfig) -> None:
        """`settings` is the config's hydra node."""
        self.config_name = settings.job.config_name
        self.overrides = [*settings.overrides.hydra, *settings.overrides.task]
        self.folders = [Path(source.path) for source in settings.runtime.config_sources if source.schema == "file"]
        self.loader = GlobalHydra.instance().config_loader()
        self.entries = self.loader.compute_defaults_list(self.config_name, self.overrides, RunMode.RUN).defaults

    def of(self, group: str) -> list:
        """Those of a group of conf/."""
        return [entry for entry in self.entries if (entry.config_path or "").startswith(f"{group}/")]

    def read(self, config_path: str) -> dict | None:
        """What a file sets; None where it is not one in conf/ or in a folder given with -cd."""
        for folder in self.folders:
            file = folder / f"{config_path}.yaml"
            if file.is_file():
                node = OmegaConf.to_container(OmegaConf.load(file))
                return {key: value for key, value in node.items() if key != "defaults"}
        return None

    def keys(self, entries: list) -> set[str]:
        """Every key that `entries` set, as 'a.b'."""
        keys = set()
        for entry in entries:
            if not (entry.package or "").startswith("hydra"):
                prefix = f"{entry.package}." if entry.package else ""
                keys |= flat(self.read(entry.config_path) or {}, prefix).keys()
        return keys

    def asked(self) -> set[str]:
        """Every key that the command line sets, as 'a.b'."""
        words = OverridesParser.create().parse_overrides(self.overrides)
        return flat({word.key_or_group: word.value() for word in words}).keys()


def replace_slots(cfg: DictConfig, files: Files) -> None:
    """An ingredient's file replaces its slot whole: what was set there before it, and is not set after it, goes.

    Hydra's merging would leave AdamW's betas to an SGD put in its place. Changes `cfg`. Raises ConfigError.
    """
    final = {entry.package: entry for entry in files.of("ingredient")}
    for entry in files.of("ingredient"):
        winner = final[entry.package]
        if entry is winner:
            continue
        if entry.parent == winner.parent:
            both = f"{_word(entry.config_path)} and {_word(winner.config_path)}"
            raise ConfigError(f"ingredient: {both} are both a {entry.package}; list one of them")
        place = files.entries.index(winner)
        gone = files.keys(files.entries[:place]) - files.keys(files.entries[place:]) - files.asked()
        for key in gone:
            where, _, name = key.rpartition(".")
            node = OmegaConf.select(cfg, where) if f"{where}.".startswith(f"{entry.package}.") else None
            if node is not None:
                node.pop(name, None)


def check_steps(cfg: DictConfig, config: Config, files: Files, image_size: int) -> None:
    """A listed step must hold and must change something; a step of the arch may be replaced, which is recorded.

    Rewrites `config.arch.applied` and `.replaced`. Raises ConfigError.
    """
    found = files.of("modernization")
    deltas = {entry.config_path: flat(_step(files, entry.config_path)) for entry in found}
    listed = [entry.config_path for entry in found if not (entry.parent or "").startswith("arch/")]
    final = flat(OmegaConf.to_container(cfg.arch))

    for step in listed:
        for key, value in deltas[step].items():
            if final.get(key) != value:
                others = [_word(other) for other in listed if deltas[other].get(key, value) != value]
                by = f" (step {others[-1]})" if others else ""
                raise ConfigError(f"step {_word(step)} sets arch.{key}={value}, but it ends as {final.get(key)}{by}")
    for step in deltas.keys() - listed:
        for key, value in deltas[step].items():
            if final.get(key) != value:
                by = [_word(other) for other in listed if key in deltas[other]] or [f"arch.{key}={final.get(key)}"]
                config.arch.applied.pop(_word(step), None)
                config.arch.replaced[_word(step)] = by[-1]
    if listed and config.arch.timm is not None:
        raise ConfigError(f"step {_word(listed[0])}: arch=timm takes timm's models as they are, without steps")
    try:
        text, refused = resolve(config.arch, config.size, image_size, 10).text(), None
    except ConfigError as error:
        text, refused = None, error
    if listed:
        plain = [word for word in files.overrides if not word.startswith("modernization=")]
        base = files.loader.load_configuration(files.config_name, [*plain, "modernization=[]"], RunMode.RUN)
        before = flat(OmegaConf.to_container(base.arch))
        for step in listed:
            others = {key for other in listed if other != step for key in deltas[other]}
            without = _without(cfg.arch, deltas[step].keys() - others, before)
            try:
                other = resolve(without, config.size, image_size, 10).text()
            except ConfigError:
                continue
            if refused:
                raise ConfigError(f"step {_word(step)} does not fit {config.arch.name}: {refused}") from refused
            if other == text or listed.count(step) > 1:
                raise ConfigError(f"step {_word(step)} changes nothing here; take it out of modernization=[...]")
    if refused:
        raise refused


def _without(arch: DictConfig, keys: set[str], before: dict):
    """`arch` with `keys` as they were before; those that were not there go."""
    kept = OmegaConf.merge(arch)
    for key in keys:
        if key in before:
            OmegaConf.update(kept, key, before[key])
        else:
            where, _, name = key.rpartition(".")
            OmegaConf.select(kept, where).pop(name)
    return OmegaConf.to_object(kept)


def _word(config_path: str) -> str:
    return config_path.rpartition("/")[2]


def _step(files: Files, config_path: str) -> dict:
    """What a step's file sets in arch."""
    node = files.read(config_path)
    if node is None:
        raise ConfigError(f"{config_path}.yaml: a step has to be a file in conf/ or in a folder given with -cd")
    return {key: value for key, value in node.items() if key != "applied"}
