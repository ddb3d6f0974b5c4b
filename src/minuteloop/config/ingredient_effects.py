"""What an ingredient does in a config: which ones the user named, which cannot act on the net, which change nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from omegaconf import DictConfig, OmegaConf

from minuteloop.config.composed_files import Files, file_name
from minuteloop.config.instantiate import ingredient, ingredient_nodes
from minuteloop.nets.offers import offers
from minuteloop.recipe.ingredients import strength_value
from minuteloop.schema import Config, Recipe
from minuteloop.validation import ConfigError, flat

NEEDS = {  # what an ingredient may need of a net -> what a net without it is like
    "drop_path": "the net has no block after the first with a shortcut, which drop path needs",
    "dropout": "a timm model takes dropout as +arch.timm.drop_rate=RATE",
    "batch_norm": "the net has no batch norm",
    "torch_batch_norm": "the net has no batch norm of torch's BatchNorm2d",
}


def fitted_recipe(cfg: DictConfig, config: Config, spec: Any, files: Files) -> Recipe:
    """Return the recipe for the resolved net `spec`, with `named` and `notes`. Raises ConfigError, as `fit` does."""
    named = _named(files)
    recipe, notes = fit(config.recipe, named, spec)
    names = sorted(where.rpartition(".")[2] for where, _ in ingredient_nodes(recipe) if where in named)
    recipe = dataclasses.replace(recipe, named=names)
    idle = [*_idle_ingredients(cfg, recipe, files), *_idle_strength(recipe, files)]
    return dataclasses.replace(recipe, notes=[*notes, *idle])


def fit(recipe: Recipe, named: Collection[str], spec: Any) -> tuple[Recipe, list[str]]:
    """Return the recipe without the ingredients that cannot act on the resolved net `spec`, and a line for each.

    Whether a recipe fits does not depend on its strength or length. torch is imported only for recipes that choose
    parameters by name or change image sizes.

    Raises:
        ConfigError: where an ingredient whose key is in `named` cannot act, or the net does not run on smaller images.
    """
    notes = []
    for where, node in ingredient_nodes(recipe):
        instance = ingredient(node, where)
        reason = _reason_against(instance, where, spec)
        if not reason:
            continue
        if where in named or where == "recipe.progressive":
            off = f"~{where}" if where.count(".") > 1 else f"{where}=null"
            raise ConfigError(reason if reason.startswith(where) else f"{where}: {reason}; use {off}")
        recipe = _without(recipe, where)
        notes.append(f"{where} is left out: {reason}")
    return recipe, notes


def _named(files: Files) -> set[str]:
    """Return the keys of the ingredients that the user lists or sets a value of, not those that a recipe brings."""
    listed = files.listed("ingredient", "recipe")
    keys = files.keys([entry for entry in files.entries if "/" not in (entry.config_path or "/")])
    keys |= {*files.overridden(), *(f"{entry.package}." for entry in listed)}
    parts = (key.split(".") for key in keys if key.startswith("recipe."))
    depth = {"batch": 3, "regularizers": 3, "callbacks": 3}
    return {".".join(words[: depth.get(words[1], 2)]) for words in parts}


def _reason_against(instance: Any, where: str, spec: Any) -> str | None:
    """Return why an ingredient cannot act on a net, or None where it can."""
    needs = getattr(instance, "needs", None)
    if needs is not None and needs not in offers(spec):
        return NEEDS[needs]
    if hasattr(instance, "parameters"):
        try:
            instance.parameters(_meta_net(spec))
        except ConfigError as error:
            return str(error)
    if where == "recipe.progressive":
        return _image_size_at_fault(instance, spec)
    return None


def _image_size_at_fault(progressive: Any, spec: Any) -> str | None:
    """Return why the net does not run on the image sizes of a progressive recipe, or None where it does."""
    from minuteloop.nets.flops import count

    for start in progressive.starts:
        size = progressive.phase_at(start, spec.image_size).image_size
        try:
            count(_meta_net(spec), size)
        except (RuntimeError, AssertionError) as error:
            return f"the net does not run on {size}x{size} images ({str(error).splitlines()[0]})"
    return None


def _meta_net(spec: Any) -> Any:
    import torch

    from minuteloop.nets.net import build_net

    with torch.device("meta"):
        return build_net(spec)


def _without(recipe: Recipe, where: str) -> Recipe:
    """Return the recipe without the ingredient at the key `where`."""
    _, group, *name = where.split(".")
    value = {key: node for key, node in getattr(recipe, group).items() if key != name[0]} if name else None
    return dataclasses.replace(recipe, **{group: value})


def _idle_ingredients(cfg: DictConfig, recipe: Recipe, files: Files) -> list[str]:
    """Return a line for each ingredient that the user lists and that changes nothing. Raises ConfigError."""
    listed, lines = files.listed("ingredient", "recipe"), []
    without = files.recipe_without_ingredients() if listed else {}
    for entry in listed:
        name, node = file_name(entry.config_path), OmegaConf.select(cfg, entry.package)
        if node is None:
            raise ConfigError(f"ingredient=[{name}]: ~{entry.package} switches it off; remove one of them")
        prefix, node = f"{entry.package.removeprefix('recipe.')}.", OmegaConf.to_container(node)
        is_same = flat(node, prefix) == {key: value for key, value in without.items() if key.startswith(prefix)}
        gains_strength = hasattr(ingredient(node, entry.package), "strengthens") and recipe.strength != 1
        if is_same and not gains_strength:
            lines.append(f"ingredient=[{name}] changes nothing: recipe={recipe.name} has it, with these values")
    return lines


def _idle_strength(recipe: Recipe, files: Files) -> list[str]:
    """Return a line where the user sets recipe.strength and it scales nothing."""
    if recipe.strength == "auto" or "recipe.strength" not in files.overridden():
        return []
    instances = {where.rpartition(".")[2]: ingredient(node, where) for where, node in ingredient_nodes(recipe)}
    if any(strength_value(instance) for name, instance in instances.items() if name not in recipe.named):
        return []
    return [f"recipe.strength={recipe.strength} changes nothing: no ingredient is left for it to scale"]
