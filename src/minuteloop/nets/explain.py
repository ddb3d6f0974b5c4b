"""What an arch resolves to, told to a person or as JSON."""

import itertools

from minuteloop.nets.blueprint import StagePlan, resolve
from minuteloop.nets.cost import count
from minuteloop.nets.program import spell
from minuteloop.schema import Arch, Size


def explain(arch: Arch, size: Size, image_size: int, num_classes: int) -> dict:
    """Programs, grids (side of the maps, pixels), widths, parameters and multiply-adds by part, steps and warnings.

    Raises ConfigError.
    """
    blueprint = resolve(arch, size, image_size, num_classes)
    cost = count(blueprint, image_size)
    parts = {name: {"params": params, "macs": macs} for name, (params, macs) in cost.parts.items()}
    stem = {"program": spell(blueprint.stem, blueprint.stem_width), "grid": blueprint.stem_grid}
    return {
        "arch": arch.name,
        "size": size.name,
        "image_size": image_size,
        "num_classes": num_classes,
        "params": cost.params,
        "macs": cost.macs,
        "stem": stem | {"width": blueprint.stem_width} | parts["stem"],
        "stages": [_stage(stage) | parts[f"stages.{i}"] for i, stage in enumerate(blueprint.stages)],
        "head": {"program": blueprint.head_text(), "width": blueprint.channels} | parts["head"],
        "applied": arch.applied,
        "replaced": arch.replaced,
        "warnings": list(blueprint.warnings),
    }


def _stage(stage: StagePlan) -> dict:
    texts = [block.text(stage.width) for block in stage.blocks]
    blocks = [{"count": len(list(run)), "program": text} for text, run in itertools.groupby(texts)]
    transition = spell(stage.transition, stage.width)
    return {"grid": stage.grid, "width": stage.width, "transition": transition, "blocks": blocks}


def text(told: dict) -> str:
    """What `explain` told, for a terminal."""
    rows = [("stem", told["stem"], [told["stem"]["program"]])]
    for number, stage in enumerate(told["stages"], 1):
        programs = [f"{block['count']} x  {block['program']}" for block in stage["blocks"]]
        rows.append(
            (f"stage {number}", stage, [f"->   {stage['transition']}", *programs] if stage["transition"] else programs)
        )
    rows.append(
        (
            "head",
            told["head"] | {"grid": 1},
            [told["head"]["program"]],
        )
    )
    size = f"{told['image_size']}x{told['image_size']}"
    lines = [f"{told['arch']} {told['size']} for {size} images", ""]
    lines.append(f"{'':9}{'grid':>9}{'width':>7}{'params':>14}{'multiply-adds':>17}  program")
    for name, part, programs in rows:
        grid = f"{part['grid']}x{part['grid']}"
        lines.append(f"{name:9}{grid:>9}{part['width']:>7}{part['params']:>14,}{part['macs']:>17,}  {programs[0]}")
        lines += [f"{'':58}{program}" for program in programs[1:]]
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
