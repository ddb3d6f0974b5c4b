"""Parse each config file once in a process: a config is some 40 files, and parsing them is a third of composing it."""

import functools
import os
import pickle
from pathlib import Path
from typing import Any

from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf


def cache_files(loader: ConfigLoader) -> None:
    """Let a loader of Hydra's take files from the cache; a file that has changed is parsed again."""
    if not isinstance(loader.repository, _CachedFiles):
        loader.repository = _CachedFiles(loader.get_search_path())


def content_of(file: Path) -> dict[str, Any]:
    """Return what a file holds, as it is written; not to be changed."""
    status = file.stat()
    return _parsed(file, status.st_mtime_ns, status.st_size)


@functools.cache
def _parsed(file: Path, *_: int) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(file))


class _CachedFiles(ConfigRepository):
    """Hydra's repository of config files, which keeps what it has parsed pickled, since Hydra changes what it gets."""

    parsed: dict[tuple, bytes] = {}  # noqa: RUF012 - one for the whole process; Hydra copies its repositories

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return the content of a file of the first folder on the search path that has it, or None."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() == "structured":
            return super().load_config(config_path)
        key = source.scheme(), source.provider, os.path.abspath(source.path), config_path
        if source.scheme() == "file":
            status = os.stat(os.path.join(source.path, f"{config_path.removesuffix('.yaml')}.yaml"))
            key += status.st_mtime_ns, status.st_size, status.st_ino
        if key not in self.parsed:
            self.parsed[key] = pickle.dumps(super().load_config(config_path))
        return pickle.loads(self.parsed[key])
