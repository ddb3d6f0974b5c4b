"""The reference pages of docs/: config keys, architectures, steps, recipes, ingredients and program tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import yaml
from pages.markdown_table import markdown_table
from pages.measured import ingredient_costs
from pages.net_costs import IMAGENET, ladder, roadmap

from minuteloop.arch_schema import Arch, Block, Head, Size, Stages, Stem
from minuteloop.config.compose import CONF, compose
from minuteloop.config.instantiate import ingredient, ingredient_nodes
from minuteloop.config.reference import GROUPS, Key, config_keys, group_options, ingredient_keys
from minuteloop.nets.flops import count
from minuteloop.nets.program import TOKEN_NAMES, TOKENS
from minuteloop.nets.spec import resolve
from minuteloop.schema import Data, Logger, Recipe, StudyConfig, TuneConfig
from minuteloop.validation import spell

SECTIONS = {  # prefix of a key -> its class, whose docstring introduces the section
    "arch.stem.": Stem,
    "arch.stages.": Stages,
    "arch.block.": Block,
    "arch.head.": Head,
    "arch.": Arch,
    "size.": Size,
    "recipe.": Recipe,
    "data.": Data,
    "logger.": Logger,
    "study.": StudyConfig,
    "tune.": TuneConfig,
}
SHORT = 40  # characters of a default that a table shows
SMALL_STRIDE = 8  # published total stride up to which a net is made for 32-pixel images


def config_page() -> str:
    """Return docs/config.md."""
    config = compose()
    places = tuple(f"{where}." for where, _ in ingredient_nodes(config.recipe))
    keys = [key for key in config_keys(config) if not key.name.startswith(places)]
    groups = [
        (f"`{group}`", meaning, ", ".join(f"`{name}`" for name in group_options(CONF, group)))
        for group, meaning in GROUPS.items()
    ]
    lines = [
        "# Config keys",
        "",
        "Generated from `src/minuteloop/schema.py` and `arch_schema.py`; `python train.py --help` prints the same.",
        "A key is typed as `KEY=VALUE`. The values are those of `python train.py` without arguments: `arch=convnext",
        "size=pico recipe=deit`. The fields of ingredients, such as `recipe.optimizer.momentum`, are in",
        "[ingredients.md](ingredients.md). A knob of `arch.block` is one value, or a list with one for each stage.",
        "",
        "## Groups",
        "",
        "A group is typed as `GROUP=NAME` and loads `conf/GROUP/NAME.yaml`.",
        "",
        markdown_table(("group", "meaning", "names"), groups),
        "",
        "## Run",
        "",
        _key_table(key for key in keys if "." not in key.name),
    ]
    for prefix, cls in SECTIONS.items():
        section = [key for key in keys if _section(key.name) == prefix]
        lines += ["", f"## {prefix.rstrip('.')}", "", cls.__doc__.split("\n\n")[0], "", _key_table(section)]
    return "\n".join(lines) + "\n"


def _section(name: str) -> str:
    return next((prefix for prefix in SECTIONS if name.startswith(prefix)), "")


def _key_table(keys: Iterable[Key]) -> str:
    rows = [(f"`{key.name}`", _default(key.value), key.unit, key.rule, key.help) for key in keys]
    return markdown_table(("key", "value", "unit", "allowed", "meaning"), rows)


def _default(value: object) -> str:
    text = spell(value)
    if isinstance(value, dict) and len(text) > SHORT:
        return f"{len(value)} entries"
    return f"`{text}`" if text else "empty"


def steps_page() -> str:
    """Return docs/steps.md."""
    order = roadmap()
    others = [name for name in group_options(CONF, "modernization") if name not in order]
    rungs = [
        (f"`{name}`" if number else name, f"{cost.params:,}", f"{cost.macs / 1e9:.3f}G")
        for number, (name, cost) in enumerate(ladder())
    ]
    header = ("step", "sets", "source")
    return f"""# Modernization steps

Generated from `conf/modernization/*.yaml`. A step sets a few keys of `arch` and names its source.
`modernization=[patchify,gelu]` lists steps; their order does not matter, since the steps of a list must set different
keys. A step that another setting undoes, that changes nothing, or that does not fit the architecture is a one-line
error. Print what an architecture becomes with `python scripts/explain.py arch=resnet 'modernization=[patchify,gelu]'`.

## From ResNet to ConvNeXt

The roadmap of Liu 2022. `arch=convnext` is `arch=resnet` with all of these.

{markdown_table(header, [_step(name) for name in order])}

Each step on top of the steps before it, at 224 pixels and 1,000 classes:

{markdown_table(("step", "params", "MACs"), rungs)}

## Other steps

Steps back on ConvNeXt, steps of the fast lane (airbench), and ideas from other papers. They apply to every architecture
but `arch=timm`.

{markdown_table(header, [_step(name) for name in others])}
"""


def _step(name: str) -> tuple[str, str, str]:
    content = yaml.safe_load((CONF / f"modernization/{name}.yaml").read_text())
    source = content.pop("applied")[name]
    sets = [
        f"`{part}.{key}={spell(value)}`" if isinstance(keys, dict) else f"`{part}={spell(keys)}`"
        for part, keys in content.items()
        for key, value in (keys.items() if isinstance(keys, dict) else [("", "")])
    ]
    return f"`{name}`", ", ".join(sets), source


def architectures_page() -> str:
    """Return docs/architectures.md."""
    names = [name for name in group_options(CONF, "arch") if name != "timm"]
    rows = [_architecture(name) for name in names]
    sizes = [(f"`{name}`", *_size(name)) for name in group_options(CONF, "size")]
    return f"""# Architectures

Generated from `conf/arch/*.yaml`. An architecture is data: stem, stages, block and head. Params and MACs are those of
`size=tiny`, the paper's scale, at the resolution and number of classes given; they are tested against timm or the paper
([tests/nets](../tests/nets)). What an architecture resolves to: `python scripts/explain.py arch=convnext size=tiny`.
[results.md](results.md) has images/s and the accuracy after a minute.

{markdown_table(("arch", "source", "builds on", "params", "MACs", "counted at"), rows)}

`arch=timm arch.name=MODEL` builds any other model of timm, with random weights. Small images keep more resolution:
patches shrink, or the first strides are dropped, until `size.reduce` holds; `scripts/explain.py` prints what changed.
Models whose final feature map would be 1x1, or that cannot run at 32 pixels, are rejected with a one-line error. Steps
do not apply to these models. `+arch.timm.OPTION=VALUE` passes an argument to `timm.create_model`.

## Sizes

`size` scales every architecture but timm's: factors on widths and depths, and the largest total stride.

{markdown_table(("size", "width", "depth", "largest total stride", "note"), sizes)}
"""


def _architecture(name: str) -> tuple[str, ...]:
    text = (CONF / f"arch/{name}.yaml").read_text()
    content = yaml.safe_load(text)
    parents = [entry for entry in content.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    if not content.keys() - {"defaults"}:
        return f"`{name}`", f"another name for `{parents[0]}`", "", "", "", ""
    config = compose([f"arch={name}", "size=tiny"])
    stride = config.arch.stem.stride
    for factor in config.arch.stages.strides:
        stride *= factor
    image_size, num_classes = (32, 10) if stride <= SMALL_STRIDE else IMAGENET
    cost = count(resolve(config.arch, config.size, image_size, num_classes), image_size)
    counted = f"{image_size} px, {num_classes:,} classes"
    parent = ", ".join(f"`{parent}`" for parent in parents)
    macs = f"{cost.macs / 1e9:.2f}G" if cost.macs >= 1e9 else f"{cost.macs / 1e6:.1f}M"
    return f"`{name}`", _comment(text), parent, f"{cost.params:,}", macs, counted


def _comment(text: str) -> str:
    """Return the comment behind `name:`."""
    match = re.search(r"^name: \S+ # (.*)$", text, re.MULTILINE)
    return match[1] if match else ""


def _size(name: str) -> tuple[str, ...]:
    text = (CONF / f"size/{name}.yaml").read_text()
    content = yaml.safe_load(text)
    reduce = "32 at 224 px, 8 at 32 px" if content["reduce"] == "auto" else f"{content['reduce']}"
    return f"{content['width']:g}", f"{content['depth']:g}", reduce, _comment(text)


def recipes_page() -> str:
    """Return docs/recipes.md."""
    rows = [_recipe(name) for name in group_options(CONF, "recipe")]
    return f"""# Recipes

Generated from `conf/recipe/*.yaml`. A recipe is a list of [ingredients](ingredients.md), the optimizer's numbers, batch
size and weight decay; any of them can be overridden. At its `paper_epochs` a recipe has the paper's numbers;
[minute.md](minute.md) describes what a shorter run changes.

{markdown_table(("recipe", "source and use", "paper_epochs", "batch", "weight decay", "ingredients"), rows)}
"""


def _recipe(name: str) -> tuple[str, ...]:
    text = (CONF / f"recipe/{name}.yaml").read_text()
    comment = " ".join(line.lstrip("# ") for line in text.split("defaults:")[0].splitlines())
    content = yaml.safe_load(text)
    listed = [
        f"`{entry}`" if isinstance(entry, str) else ", ".join(f"`{item}`" for item in entry["/ingredient"])
        for entry in content["defaults"]
        if entry != "_self_"
    ]
    recipe = compose([f"recipe={name}"]).recipe
    decay = recipe.optimizer["weight_decay"]
    return f"`{name}`", comment, f"{recipe.paper_epochs:g}", f"{recipe.batch_size:,}", f"{decay:g}", ", ".join(listed)


def ingredients_page(bench: Path) -> str:
    """Return docs/ingredients.md, with the costs that `bench` measured."""
    costs, overrides, hardware = ingredient_costs(bench)
    slots: dict[str, list[str]] = {}
    for name in group_options(CONF, "ingredient"):
        slots.setdefault(_slot(name), []).append(name)
    lines = [
        "# Ingredients of a recipe",
        "",
        "Generated from `conf/ingredient/*.yaml`, the ingredients' classes and `recipes/bench/ingredients_cpu.jsonl`.",
        "`ingredient=[sgd,lookahead]` puts ingredients into a recipe; each replaces what is in its slot. A field is",
        "typed behind its slot: `recipe.optimizer.momentum=0.8`. `'~recipe.batch.mixup'` removes an ingredient.",
        f"Costs are milliseconds added to a training step at `{overrides}`, {hardware}.",
        "",
        markdown_table(
            ("slot", "ingredients"),
            [(f"`recipe.{slot}`", ", ".join(f"[{name}](#{name})" for name in names)) for slot, names in slots.items()],
        ),
    ]
    for name in group_options(CONF, "ingredient"):
        lines += ["", *_ingredient(name, costs.get(name))]
    return "\n".join(lines) + "\n"


def _ingredient(name: str, milliseconds: float | None) -> list[str]:
    instance = ingredient(yaml.safe_load((CONF / f"ingredient/{name}.yaml").read_text()), name)
    description = " ".join(type(instance).__doc__.split("\n\n")[0].split())
    cost = "" if milliseconds is None else f" Cost: {milliseconds:.2f} ms."
    where = f"recipe.{_slot(name)}"
    lines = [f"## {name}", "", f"{description} Slot `{where}`.{cost}"]
    keys = list(ingredient_keys(instance, where))
    return [*lines, "", _key_table(keys)] if keys else lines


def _slot(name: str) -> str:
    return (CONF / f"ingredient/{name}.yaml").read_text().split()[2].removeprefix("recipe.")


def tokens_table() -> str:
    """Return the table of program tokens of docs/grammar.md."""
    rows = [(f"`{token}`", TOKEN_NAMES[token], ", ".join(arguments)) for token, arguments in TOKENS.items()]
    return markdown_table(("token", "operation", "arguments"), rows)
