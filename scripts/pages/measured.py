"""docs/results.md: what recipes/bench/*.jsonl measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

from pages.markdown_table import markdown_table

from minuteloop.config.compose import compose

# 97.5 % quantile of Student's t for n values
T95 = {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}

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

## Strength by ingredient

Points of validation accuracy that each of DeiT's regularizers, alone and at full strength, gains or loses against none
of them: mean of the differences at equal seeds, with its 95 % interval (Student's t) and n. `{strength_overrides}`, at
equal epochs, {strength_hardware}. `recipe.strength=auto` follows this table ([minute.md](minute.md)).

{strength}

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
    strength = _rows(bench / "strength_cpu.jsonl")
    return PAGE.format(
        strength_overrides=" ".join(strength[0]["overrides"]),
        strength_hardware=hardware(strength),
        strength=_strength(strength),
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


def _strength(rows: list[dict]) -> str:
    """Return the table: a row for each ingredient, a column for each length of run."""
    accuracy = {(row["arm"], row["epochs"], row["seed"]): 100 * row["val_acc"] for row in rows}
    lengths, arms = sorted({row["epochs"] for row in rows}), list(dict.fromkeys(row["arm"] for row in rows))
    table = []
    for arm in sorted(arms, key=lambda arm: (arm == "all", arm)):
        cells = []
        for epochs in lengths:
            if arm == "none":
                values = [value for key, value in accuracy.items() if key[:2] == (arm, epochs)]
                cells.append(f"{statistics.mean(values):.2f} % (n = {len(values)})")
                continue
            seeds = [seed for name, length, seed in accuracy if (name, length) == (arm, epochs)]
            pairs = [
                accuracy[arm, epochs, s] - accuracy["none", epochs, s] for s in seeds if ("none", epochs, s) in accuracy
            ]
            cells.append(_interval(pairs))
        table.append((f"`{arm}`", *cells))
    table.sort(key=lambda row: row[0] != "`none`")
    return markdown_table(("ingredient", *(f"{epochs} epochs" for epochs in lengths)), table)


def _interval(values: list[float]) -> str:
    """Return the mean of values with its 95 % interval and n; of fewer than three only that they are missing."""
    if len(values) < 3:
        return ""
    half = T95[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.mean(values)
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}] (n = {len(values)})"


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
