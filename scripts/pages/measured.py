"""docs/results.md: what recipes/bench/*.jsonl measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pages.markdown_table import markdown_table

from minuteloop.config.compose import compose

PAGE = """# Measured results

Generated from `recipes/bench/*.jsonl`. Every row was measured on a CPU; nothing has been measured on a GPU yet. The
rows are of earlier commits, which the files name where a run made them. The published runs are in the
[README](../README.md). [performance.md](performance.md) describes the benches.

## A minute of each architecture

Images/s are of forward and backward, at {arch_overrides}, {arch_hardware}. MACs/s count a backward pass as two forward
passes; if MACs were seconds, that column would be constant. Accuracy is of the test set after one minute
(`python train.py -cn every_arch`, one seed); peak memory is of the process.

{archs}

## A minute of each recipe

One net, one minute, one seed, accuracy of the test set (`python train.py -cn every_recipe`), {recipe_hardware}. Recipes
for hundreds of epochs run at strength 0, without their regularizers.

{recipes}

## Benches

{bench_hardware}. A ratio is time relative to minuteloop's: above 1, minuteloop is faster.

{benches}

## Forms of depthwise convolution, layer norm and GELU

Milliseconds for a batch of {batch} feature maps in {precision}, {form_hardware}, medians of {rounds} rounds. `ours`
is what nets run; `dense` is a pointwise convolution with as many MACs.

{forms}
"""


def results_page(bench: Path) -> str:
    """Return the page of everything measured in the folder `bench`."""
    costs, minutes = _rows(bench / "archs_cpu.jsonl"), _rows(bench / "archs_minute_cpu.jsonl")
    recipes, forms, benches = (_rows(bench / f"{name}.jsonl") for name in ("recipes_minute_cpu", "forms_cpu", "cpu"))
    return PAGE.format(
        arch_overrides=f"`{' '.join(costs[0]['overrides'])}`",
        arch_hardware=hardware(costs[0]),
        archs=_archs(costs, {row["arm"]: row for row in minutes}),
        recipe_hardware=hardware(recipes[0]),
        recipes=_recipes(recipes),
        bench_hardware=hardware(benches[0]),
        benches=markdown_table(("bench", "arm", "figure", "ratio", "rounds"), list(_benches(benches))),
        batch=compose(forms[0]["overrides"]).recipe.batch_size,
        precision=forms[0]["precision"],
        rounds=forms[0]["rounds"],
        form_hardware=hardware(forms[0]),
        forms=_forms(forms),
    )


def ingredient_costs(bench: Path) -> tuple[dict[str, float], str, str]:
    """Return {ingredient: milliseconds that it adds to a step}, the overrides and the hardware of the bench."""
    rows = _rows(bench / "ingredients_cpu.jsonl")
    costs = {row["arm"]: row["milliseconds_a_step"]["median"] for row in rows if "milliseconds_a_step" in row}
    return costs, " ".join(rows[0]["overrides"]), hardware(rows[0])


def hardware(row: dict) -> str:
    """Return the hardware of a measured row."""
    host = row["host"]
    return host.get("gpu") or f"{host['threads']} threads of {host['cpu']}"


def _archs(costs: list[dict], minutes: dict[str, dict]) -> str:
    header = ("arch", "params", "MACs", "images/s", "MACs/s", "test accuracy", "steps", "peak memory")
    costs = sorted(costs, key=lambda row: -row["macs_a_second"]["median"])
    return markdown_table(header, [_arch(cost, minutes.get(cost["arm"])) for cost in costs])


def _arch(cost: dict, minute: dict | None) -> tuple[str, ...]:
    outcome = ("", "", "")
    if minute:
        memory = f"{minute['peak_memory_bytes'] / 2**20:,.0f} MiB"
        outcome = (f"{100 * minute['test_acc']:.1f} %", f"{minute['steps']:,}", memory)
    return (
        f"`{cost['arm']}`",
        f"{cost['params']:,}",
        f"{cost['macs'] / 1e6:.1f}M",
        f"{cost['images_a_second']['median']:,.0f}",
        f"{cost['macs_a_second']['median'] / 1e9:.1f}G",
        *outcome,
    )


def _recipes(rows: list[dict]) -> str:
    header = ("recipe", "test accuracy", "with TTA", "batch", "steps", "epochs", "peak lr", "images/s")
    return markdown_table(header, [_recipe(row) for row in sorted(rows, key=lambda row: -row["test_acc"])])


def _recipe(row: dict) -> tuple[str, ...]:
    return (
        f"`{row['arm']}`",
        f"{100 * row['test_acc']:.1f} %",
        "" if row["test_acc_tta"] is None else f"{100 * row['test_acc_tta']:.1f} %",
        f"{row['batch_size']:,}",
        f"{row['steps']:,}",
        f"{row['epochs']:.1f}",
        f"{row['lr']:.3g}",
        f"{row['images_a_second']:,.0f}",
    )


def _benches(rows: list[dict]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        detail = row.get("policy") or row.get("config") or row.get("recipe") or ""
        if "seconds" in row:
            figure, ratio = f"{row['seconds']['total']['median']:.2f} s to the first step", ""
        elif "ms_a_step" in row:
            key = "of_trainer" if "of_trainer" in row else "of_ours"
            figure, ratio = f"{row['ms_a_step']['median']:.1f} ms a step", _ratio(row[key])
        else:
            figure = f"{row['images_a_second']['median']:,.0f} images/s"
            ratio = _ratio(row["ours_is"]) if "ours_is" in row else ""
            if "times_torchvision" in row:
                ratio = f"{row['times_torchvision']['median']:.2f} times torchvision's rate"
        yield (f"{row['bench']} {detail}".strip(), row["arm"], figure, ratio, str(row["rounds"]))


def _ratio(figure: dict) -> str:
    low, high = figure.get("interval") or figure["range"]
    return f"{figure['median']:.2f} ({low:.2f} to {high:.2f})" if low < high else f"{figure['median']:.2f}"


def _forms(rows: list[dict]) -> str:
    times = ("forward_ms", "backward_maps_ms", "backward_weights_ms", "all_ms")
    header = ("operation", "channels, resolution", "form", "forward", "backward to input", "to weights", "total")
    return markdown_table(
        header,
        [
            (
                f"depthwise {row['kernel']}x{row['kernel']}" if row["what"] == "depthwise" else row["what"],
                f"{row['channels']}, {row['side']}x{row['side']}",
                row["arm"],
                *(f"{row[time]['median']:.2f}" if time in row else "" for time in times),
            )
            for row in rows
        ],
    )


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
