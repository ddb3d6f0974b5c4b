"""Pages of measured costs, made from the rows of scripts/bench.py."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import yaml

from minuteloop.config import instantiate
from minuteloop.config.compose import compose

ARCHS = """# What architectures cost, and what a minute makes of them

Made by `scripts/table.py` from `bench/archs_cpu.jsonl` and `bench/archs_minute_cpu.jsonl`: {overrides},
{hardware}. Images/s are forward and backward together, multiply-adds a second what they amount to with a backward of
twice the forward's: were multiply-adds seconds, that column would be one number. The minute is `-cd recipes -cn
every_arch`, one seed, on the test set; peak memory is that whole process's.

| arch | parameters | multiply-adds | images/s | multiply-adds a second | after a minute | steps | peak memory |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def archs(bench: Path) -> str:
    """A Markdown page with a row for each architecture measured, the fastest multiply-adds first."""
    costs, minutes = _rows(bench / "archs_cpu.jsonl"), _rows(bench / "archs_minute_cpu.jsonl")
    after = {row["arm"]: row for row in minutes}
    head = ARCHS.format(overrides=" ".join(costs[0]["overrides"]), hardware=_hardware(costs[0]))
    costs.sort(key=lambda row: -row["macs_a_second"]["median"])
    return head + "".join(_arch(row, after.get(row["arm"])) for row in costs)


def _arch(cost: dict, minute: dict | None) -> str:
    rates = f"{cost['images_a_second']['median']:,.0f} | {cost['macs_a_second']['median'] / 1e9:.1f}G"
    made = " | | "
    if minute:
        memory = f"{minute['peak_memory_bytes'] / 2**20:,.0f} MiB"
        made = f"{100 * minute['test_acc']:.1f} % | {minute['steps']:,} | {memory}"
    return f"| `{cost['arm']}` | {cost['params']:,} | {cost['macs'] / 1e6:.1f}M | {rates} | {made} |\n"


INGREDIENTS = """# Ingredients of a recipe

Made by `scripts/table.py` from the ingredients' own words and `bench/ingredients_cpu.jsonl`: what each adds to a
training step, {overrides}, {hardware}.

| ingredient | slot | what it is | fields | ms a step |
| --- | --- | --- | --- | --- |
"""


def ingredients(conf: Path, bench: Path) -> str:
    """A Markdown page with a row for each file in conf/ingredient: its words, its fields with their units, its cost."""
    rows = _rows(bench / "ingredients_cpu.jsonl")
    head = INGREDIENTS.format(overrides=" ".join(rows[0]["overrides"]), hardware=_hardware(rows[0]))
    cost = {row["arm"]: row["milliseconds_a_step"]["median"] for row in rows if "milliseconds_a_step" in row}
    return head + "".join(
        _ingredient(file, cost.get(file.stem)) for file in sorted((conf / "ingredient").glob("*.yaml"))
    )


def _ingredient(file: Path, milliseconds: float | None) -> str:
    made = instantiate.ingredient(yaml.safe_load(file.read_text()), file.stem)
    told = " ".join(type(made).__doc__.split("\n\n")[0].split())
    fields = "; ".join(f"`{spec.name}` {getattr(made, spec.name)}{_unit(spec)}" for spec in dataclasses.fields(made))
    cost = "" if milliseconds is None else f"{milliseconds:.2f}"
    slot = file.read_text().split()[2].removeprefix("recipe.")
    return f"| `{file.stem}` | {slot} | {told} | {fields} | {cost} |\n"


def _unit(field: dataclasses.Field) -> str:
    says = field.metadata.get("says") or " or ".join(map(str, field.metadata.get("legal", ())))
    return f" ({says})" if says else ""


RECIPES = """# What a minute makes of one net with each recipe

Made by `scripts/table.py` from `bench/recipes_minute_cpu.jsonl`: `-cd recipes -cn every_recipe`, one seed, on the test
set, {hardware}.
Recipes for hundreds of epochs are here at strength 0, that is without their regularisers.

| recipe | after a minute | with views | batch | steps | epochs | learning rate | images/s |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def recipes(bench: Path) -> str:
    """A Markdown page with a row for each recipe's minute, the best first."""
    rows = sorted(_rows(bench / "recipes_minute_cpu.jsonl"), key=lambda row: -row["test_acc"])
    return RECIPES.format(hardware=_hardware(rows[0])) + "".join(map(_recipe, rows))


def _recipe(row: dict) -> str:
    views = f"{100 * row['test_acc_tta']:.1f} %" if row["test_acc_tta"] is not None else ""
    plan = f"{row['batch_size']:,} | {row['steps']:,} | {row['epochs']:.1f} | {row['lr']:.3g}"
    return f"| `{row['arm']}` | {100 * row['test_acc']:.1f} % | {views} | {plan} | {row['images_a_second']:,.0f} |\n"


FORMS = """# Depthwise convolution, layer norm and GELU, form by form

Made by `scripts/table.py` from `bench/forms_cpu.jsonl`: milliseconds of a batch of {batch} maps in {precision},
{hardware}, medians of {rounds} rounds.
`ours` is what nets run; `dense` is a pointwise convolution of as many multiply-adds.

| operation | channels, side | form | forward | backward to maps | to weights | together |
| --- | --- | --- | --- | --- | --- | --- |
"""


def forms(bench: Path) -> str:
    """A Markdown page with a row for each operation, shape and form measured."""
    rows = _rows(bench / "forms_cpu.jsonl")
    config = compose(rows[0]["overrides"])
    how = {"batch": config.recipe.batch_size, "precision": rows[0]["precision"], "rounds": rows[0]["rounds"]}
    return FORMS.format(hardware=_hardware(rows[0]), **how) + "".join(_form(row) for row in rows)


def _form(row: dict) -> str:
    name = f"depthwise {row['kernel']}x{row['kernel']}" if row["what"] == "depthwise" else row["what"]
    times = ("forward_ms", "backward_maps_ms", "backward_weights_ms", "all_ms")
    figures = " | ".join(f"{row[time]['median']:.2f}" if time in row else "" for time in times)
    return f"| {name} | {row['channels']}, {row['side']}x{row['side']} | {row['arm']} | {figures} |\n"


def _hardware(row: dict) -> str:
    host = row["host"]
    return host.get("gpu") or f"{host['threads']} threads of {host['cpu']}"


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
