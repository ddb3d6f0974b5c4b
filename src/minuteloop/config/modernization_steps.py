"""What is checked of modernization steps: each listed step must hold in the composed arch, and must change it."""

from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from minuteloop.arch_schema import Arch, Size
from minuteloop.config.composed_files import Files, file_name
from minuteloop.nets.spec import resolve
from minuteloop.schema import Config
from minuteloop.validation import ConfigError, flat

NUM_CLASSES = 10  # steps change the same programs for any number
REDUCES = (16, 8, 32, 4, 2, 1)  # total strides that an error may suggest


def replaced_steps(cfg: DictConfig, files: Files) -> dict[str, str]:
    """Return {step of the arch: what replaced it}, a listed step or an override."""
    final = flat(OmegaConf.to_container(cfg.arch))
    listed = {path: files.read_step(path) for path in _listed_steps(files)}
    replaced = {}
    for entry in files.group("modernization"):
        if entry.config_path not in listed:
            for key, value in files.read_step(entry.config_path).items():
                if final.get(key) != value:
                    steps = [file_name(path) for path, keys in listed.items() if key in keys]
                    replaced[file_name(entry.config_path)] = (steps or [f"arch.{key}={final.get(key)}"])[-1]
    return replaced


def check_steps(cfg: DictConfig, config: Config, files: Files, image_size: int) -> Any:
    """Return the resolved arch after checking that each listed step holds in it and changes it. Raises ConfigError."""
    listed = _listed_steps(files)
    if listed and config.arch.timm is not None:
        raise ConfigError(f"modernization=[{file_name(listed[0])}]: steps do not apply to arch=timm")
    steps = {path: files.read_step(path) for path in listed}
    _check_steps_hold(steps, flat(OmegaConf.to_container(cfg.arch)))

    def program(arch: Arch, size: Size = config.size) -> str:
        return resolve(arch, size, image_size, NUM_CLASSES).text()

    try:
        spec = resolve(config.arch, config.size, image_size, NUM_CLASSES)
    except ConfigError as error:
        if step := _step_at_fault(cfg.arch, steps, files, program):
            sizes = (replace(config.size, reduce=reduce) for reduce in REDUCES)
            fit = next((size.reduce for size in sizes if _program_or_none(program, config.arch, size)), None)
            hint = f"; size.reduce={fit} works" if fit else ""
            raise ConfigError(f"modernization=[{step}]: does not fit {config.arch.name}: {error}{hint}") from error
        raise
    for path, without in _archs_without_each(cfg.arch, steps, files):
        if listed.count(path) > 1 or _program_or_none(program, without) == spec.text():
            raise ConfigError(f"modernization=[{file_name(path)}]: changes nothing here; remove it from the list")
    return spec


def _listed_steps(files: Files) -> list[str]:
    """Return the config paths of the steps that the user listed, as opposed to the arch's own."""
    return [entry.config_path for entry in files.listed("modernization", "arch")]


def _check_steps_hold(steps: dict[str, dict], final: dict[str, Any]) -> None:
    for path, keys in steps.items():
        for key, value in keys.items():
            if final.get(key) != value:
                others = [file_name(other) for other in steps if steps[other].get(key, value) != value]
                by = f" because of {others[-1]}" if others else ""
                where = f"modernization=[{file_name(path)}]: sets arch.{key}={value}"
                raise ConfigError(f"{where}, which ends as {final.get(key)}{by}; remove one of them")


def _step_at_fault(arch: DictConfig, steps: dict[str, dict], files: Files, program) -> str | None:
    """Return the name of the first listed step without which the arch resolves."""
    for path, without in _archs_without_each(arch, steps, files):
        if _program_or_none(program, without) is not None:
            return file_name(path)
    return None


def _program_or_none(program, *arguments) -> str | None:
    try:
        return program(*arguments)
    except ConfigError:
        return None


def _archs_without_each(arch: DictConfig, steps: dict[str, dict], files: Files):
    """Yield (config path, the arch without that listed step): its keys are as they were before all steps."""
    before = files.arch_without_steps() if steps else {}
    for path, keys in steps.items():
        others = {key for other in steps if other != path for key in steps[other]}
        without = OmegaConf.merge(arch)
        for key in keys.keys() - others:
            if key in before:
                OmegaConf.update(without, key, before[key])
            else:
                where, _, name = key.rpartition(".")
                OmegaConf.select(without, where).pop(name)
        yield path, OmegaConf.to_object(without)
