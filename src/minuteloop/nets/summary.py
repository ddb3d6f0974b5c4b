"""What an arch resolves to, told to a person or as JSON."""

import itertools
from collections.abc import Iterator

from minuteloop.nets.blueprint import StagePlan, resolve
from minuteloop.nets.flops import count
from minuteloop.nets.program import spell
from minuteloop.nets.timm_adapter import TimmPlan
from minuteloop.schema import Arch, Size


def explain(arch: Arch, size: Size, image_size: int, num_classes: int) -> dict:
    """Programs, grids (side of the maps, pixels), widths, parameters and multiply-adds by part, steps and warnings.

    Of a net of timm's: its parts, its last grid, and what was changed in it. Raises ConfigError.
    """
    blueprint = resolve(arch, size, image_size, num_classes)
    cost = count(blueprint, image_size)
    parts = {name: {"params": params, "macs": macs} for name, (params, macs) in cost.parts.items()}
    told = {
        "arch": arch.name,
        "size": size.name,
        "image_size": image_size,
        "num_classes": num_classes,
        "params": cost.params,
        "macs": cost.macs,
    }
    if isinstance(blueprint, TimmPlan):
        told |= {
            "options": {
                key: value for key, value in blueprint.options.items() if key != "drop_path_rate"
            },  # a recipe's
            "strides": blueprint.strides,
            "last_grid": blueprint.grid,
            "parts": {name.removeprefix("model."): part for name, part in parts.items()},
        }
    else:
        stem = {"program": spell(blueprint.stem, blueprint.stem_width), "grid": blueprint.stem_grid}
        told |= {
            "resize": blueprint.resize,
            "stem": stem | {"width": blueprint.stem_width} | parts["stem"],
            "stages": [_stage(stage) | parts[f"stages.{i}"] for i, stage in enumerate(blueprint.stages)],
            "head": {"program": blueprint.head_text(), "width": blueprint.channels} | parts["head"],
        }
    return told | {"applied": arch.applied, "replaced": arch.replaced, "warnings": list(blueprint.warnings)}


def _stage(stage: StagePlan) -> dict:
    texts = [block.text(stage.width) for block in stage.blocks]
    blocks = [{"count": len(list(run)), "program": text} for text, run in itertools.groupby(texts)]
    transition = spell(stage.transition, stage.width)
    return {"grid": stage.grid, "width": stage.width, "transition": transition, "blocks": blocks}


def text(told: dict) -> str:
    """What `explain` told, for a terminal."""
    size = f"{told['image_size']}x{told['image_size']}"
    resized = f" resized by {told['resize']:.3f}" if told.get("resize", 1) != 1 else ""
    lines = [f"{told['arch']} {told['size']} for {size} images{resized}", ""]
    lines += _timm_rows(told) if "parts" in told else _rows(told)
    lines.append(f"{'in all':25}{told['params']:>14,}{told['macs']:>17,}")
    if "measured" in told:
        found = told["measured"]
        lines += [
            "",
            f"{found['images_per_second']:,.0f} images/s forward and backward, batch {found['batch_size']}, "
            f"{found['precision']}, {found['device']} ({found['threads']} threads); "
            f"{found['peak_memory_bytes'] / 2**20:,.0f} MiB",
        ]
    if told["applied"]:
        lines += ["", "steps", *(f"  {step:22} {source}" for step, source in told["applied"].items())]
    lines += [f"  {new} replaces {old}" for old, new in told["replaced"].items()]
    lines += ["", *(f"warning: {warning}" for warning in told["warnings"])] if told["warnings"] else []
    return "\n".join(lines)


def _rows(told: dict) -> Iterator[str]:
    rows = [("stem", told["stem"], [told["stem"]["program"]])]
    for number, stage in enumerate(told["stages"], 1):
        programs = [f"{block['count']} x  {block['program']}" for block in stage["blocks"]]
        transition = [f"->   {stage['transition']}"] if stage["transition"] else []
        rows.append((f"stage {number}", stage, [*transition, *programs]))
    rows.append(("head", told["head"] | {"grid": 1}, [told["head"]["program"]]))
    yield f"{'':9}{'grid':>9}{'width':>7}{'params':>14}{'multiply-adds':>17}  program"
    for name, part, programs in rows:
        grid = f"{part['grid']}x{part['grid']}"
        yield f"{name:9}{grid:>9}{part['width']:>7}{part['params']:>14,}{part['macs']:>17,}  {programs[0]}"
        yield from (f"{'':58}{program}" for program in programs[1:])


def _timm_rows(told: dict) -> Iterator[str]:
    words = [f"{key}={value}" for key, value in told["options"].items()]
    words += [f"{name}.stride={stride}" for name, stride in told["strides"].items()]
    yield f"timm's, with {', '.join(words)}; its last map is {told['last_grid']}x{told['last_grid']}"
    yield f"{'':25}{'params':>14}{'multiply-adds':>17}"
    for name, part in told["parts"].items():
        yield f"{name:25}{part['params']:>14,}{part['macs']:>17,}"
