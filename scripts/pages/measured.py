"""docs/results.md: what recipes/bench/*.jsonl measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pages.markdown_table import markdown_table

from minuteloop.config.compose import compose

PAGE = """# Measured results

Generated from `recipes/bench/*.jsonl`. Every row was measured on a CPU; nothing has been measured on a GPU yet. The
rows are of earlier commits. The published runs, with accuracy, are in the [README](../README.md). What a minute of each
architecture and of each recipe gives is one command each, five seeds an arm on the validation split
(`python train.py -cn every_arch`, `python train.py -cn every_recipe`); no rows are published until they are of one
commit and machine. [performance.md](performance.md) describes the benches.

## Cost of each architecture

Images/s are of forward and backward, at {arch_overrides}, {arch_hardware}. MACs/s count a backward pass as two forward
passes; if MACs were seconds, that column would be constant.

{archs}

## Benches

A ratio is time relative to minuteloop's: above 1, minuteloop is faster.

{benches}

## Forms of depthwise convolution, layer norm and GELU

Milliseconds for a batch of {batch} feature maps in {precision}, {form_hardware}, medians of {rounds} rounds. `ours`
is what nets run; `dense` is a pointwise convolution with as many MACs.

{forms}
"""


def results_page(bench: Path) -> str:
    """Return the page of everything measured in the folder `bench`."""
    costs, forms, benches = (_rows(bench / f"{name}.jsonl") for name in ("archs_cpu", "forms_cpu", "cpu"))
    return PAGE.format(
        arch_overrides=f"`{' '.join(costs[0]['overrides'])}`",
        arch_hardware=hardware(costs),
        archs=_archs(costs),
        benches=markdown_table(("bench", "arm", "figure", "ratio", "rounds", "hardware"), list(_benches(benches))),
        batch=compose(forms[0]["overrides"]).recipe.batch_size,
        precision=forms[0]["precision"],
        rounds=forms[0]["rounds"],
        form_hardware=hardware(forms),
        forms=_forms(forms),
    )


def ingredient_costs(bench: Path) -> tuple[dict[str, float], str, str]:
    """Return {ingredient: milliseconds that it adds to a step}, the overrides and the hardware of the bench."""
    rows = _rows(bench / "ingredients_cpu.jsonl")
    costs = {row["arm"]: row["milliseconds_a_step"]["median"] for row in rows if "milliseconds_a_step" in row}
    return costs, " ".join(rows[0]["overrides"]), hardware(rows)


def hardware(rows: list[dict]) -> str:
    """Return the hardware of measured rows. Raises ValueError where it differs, since they would be compared."""
    found = {row["host"].get("gpu") or f"{row['host']['threads']} threads of {row['host']['cpu']}" for row in rows}
    if len(found) > 1:
        raise ValueError(f"rows of one table are of different hardware: {', '.join(sorted(found))}")
    return found.pop()


def _archs(costs: list[dict]) -> str:
    header = ("arch", "params", "MACs", "images/s", "MACs/s")
    return markdown_table(
        header, [_arch(cost) for cost in sorted(costs, key=lambda row: -row["macs_a_second"]["median"])]
    )


def _arch(cost: dict) -> tuple[str, ...]:
    return (
        f"`{cost['arm']}`",
        f"{cost['params']:,}",
        f"{cost['macs'] / 1e6:.1f}M",
        f"{cost['images_a_second']['median']:,.0f}",
        f"{cost['macs_a_second']['median'] / 1e9:.1f}G",
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
        yield (f"{row['bench']} {detail}".strip(), row["arm"], figure, ratio, str(row["rounds"]), hardware([row]))


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
