"""Summarize what an arch resolves to, as text or JSON."""

import itertools
from collections.abc import Iterator

from minuteloop.arch_schema import Arch, Size
from minuteloop.nets.flops import count
from minuteloop.nets.program import spell, window_size
from minuteloop.nets.spec import NetSpec, StageSpec, resolve
from minuteloop.nets.timm_adapter import TimmSpec


def summarize(arch: Arch, size: Size, image_size: int, num_classes: int) -> dict:
    """Return programs, strides, resolutions ("grid", pixels), widths, params and MACs by part, steps and warnings.

    For a timm model: its parts, its last resolution, and its changed options and strides. Raises ConfigError.
    """
    spec = resolve(arch, size, image_size, num_classes)
    cost = count(spec, image_size)
    parts = {name: {"params": params, "macs": macs} for name, (params, macs) in cost.parts.items()}
    summary = {
        "arch": arch.name,
        "size": size.name,
        "image_size": image_size,
        "num_classes": num_classes,
        "params": cost.params,
        "macs": cost.macs,
    }
    summary |= _timm_summary(spec, parts) if isinstance(spec, TimmSpec) else _net_summary(spec, parts)
    warnings = [*spec.warnings, *(() if isinstance(spec, TimmSpec) else _size_warnings(spec))]
    return summary | {"applied": arch.applied, "replaced": arch.replaced, "warnings": warnings}


def _timm_summary(spec: TimmSpec, parts: dict[str, dict]) -> dict:
    return {
        # the recipe sets the drop path rate
        "options": {key: value for key, value in spec.options.items() if key != "drop_path_rate"},
        "strides": spec.strides,
        "last_grid": spec.resolution,
        "parts": {name.removeprefix("model."): part for name, part in parts.items()},
    }


def _net_summary(spec: NetSpec, parts: dict[str, dict]) -> dict:
    stem = {"program": spell(spec.stem, spec.stem_width), "grid": spec.stem_resolution, "width": spec.stem_width}
    return {
        "resize": spec.resize,
        "strides": {"published": list(spec.published_strides), "used": list(spec.used_strides)},
        "stem": stem | parts["stem"],
        "stages": [_stage_summary(stage) | parts[f"stages.{i}"] for i, stage in enumerate(spec.stages)],
        "head": {"program": spec.head_text(), "width": spec.channels} | parts["head"],
    }


def _size_warnings(spec: NetSpec) -> Iterator[str]:
    """Yield where a feature map is too small for a stage's kernels or attention windows."""
    for number, stage in enumerate(spec.stages, 1):
        ops = [op for block in stage.blocks[-1:] for op in block.ops]
        resolution, kernel = stage.resolution, max((op.kernel for op in ops), default=1)
        grid = f"{resolution}x{resolution}"
        reached = min(kernel, 2 * resolution - 1)  # offsets between two pixels of the feature map
        if reached < kernel:
            unused = f"{kernel**2 - reached**2} of its {kernel**2} weights"
            yield f"stage {number}: kernel size {kernel} on a {grid} feature map: {unused} only see padding"
        for window in sorted({op.window for op in ops if op.window}):
            used = window_size(resolution, window)
            if used < window:
                yield f"stage {number}: attention windows are {used}x{used}, not {window}x{window}, on a {grid} map"


def _stage_summary(stage: StageSpec) -> dict:
    texts = [block.text(stage.width) for block in stage.blocks]
    blocks = [{"count": len(list(run)), "program": text} for text, run in itertools.groupby(texts)]
    transition = spell(stage.transition, stage.width)
    return {"grid": stage.resolution, "width": stage.width, "transition": transition, "blocks": blocks}


def text(summary: dict) -> str:
    """Return a summary as a table for the terminal."""
    size = f"{summary['image_size']}x{summary['image_size']}"
    resized = f" resized by {summary['resize']:.3f}" if summary.get("resize", 1) != 1 else ""
    lines = [f"{summary['arch']} {summary['size']} for {size} images{resized}", ""]
    lines += _timm_rows(summary) if "parts" in summary else _net_rows(summary)
    lines.append(f"{'total':27}{summary['params']:>14,}{summary['macs']:>17,}")
    if "measured" in summary:
        speed = summary["measured"]
        lines += [
            "",
            f"{speed['images_per_second']:,.0f} images/s forward and backward, batch size {speed['batch_size']}, "
            f"{speed['precision']}, {speed['device']} ({speed['threads']} threads); "
            f"{speed['peak_memory_bytes'] / 2**20:,.0f} MiB",
        ]
    if summary["applied"]:
        lines += ["", "steps", *(f"  {step:22} {source}" for step, source in summary["applied"].items())]
    lines += [f"  {new} replaces {old}" for old, new in summary["replaced"].items()]
    lines += ["", *(f"warning: {warning}" for warning in summary["warnings"])] if summary["warnings"] else []
    return "\n".join(lines)


def _net_rows(summary: dict) -> Iterator[str]:
    rows = [("stem", summary["stem"], [summary["stem"]["program"]])]
    for number, stage in enumerate(summary["stages"], 1):
        programs = [f"{block['count']} x  {block['program']}" for block in stage["blocks"]]
        transition = [f"->   {stage['transition']}"] if stage["transition"] else []
        rows.append((f"stage {number}", stage, [*transition, *programs]))
    rows.append(("head", summary["head"] | {"grid": 1}, [summary["head"]["program"]]))
    published, used = (" x ".join(map(str, summary["strides"][key])) for key in ("published", "used"))
    yield f"strides of the stem and the stages: {used}" + (f" (published: {published})" if used != published else "")
    yield ""
    yield f"{'':9}{'resolution':>11}{'width':>7}{'params':>14}{'MACs':>17}  program"
    for name, part, programs in rows:
        resolution = f"{part['grid']}x{part['grid']}"
        yield f"{name:9}{resolution:>11}{part['width']:>7}{part['params']:>14,}{part['macs']:>17,}  {programs[0]}"
        yield from (f"{'':60}{program}" for program in programs[1:])


def _timm_rows(summary: dict) -> Iterator[str]:
    settings = [f"{key}={value}" for key, value in summary["options"].items()]
    settings += [f"{name}.stride={stride}" for name, stride in summary["strides"].items()]
    resolution = f"{summary['last_grid']}x{summary['last_grid']}"
    yield f"timm model with {', '.join(settings)}; last feature map {resolution}"
    yield f"{'':27}{'params':>14}{'MACs':>17}"
    for name, part in summary["parts"].items():
        yield f"{name:27}{part['params']:>14,}{part['macs']:>17,}"
