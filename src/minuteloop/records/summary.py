"""What a run prints: the lines at its start, when it resumes or stops, and the table at its end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from tabulate import tabulate

from minuteloop.records.record import Record
from minuteloop.validation import quoted

STAGES = ("setup", "calibrate", "compile", "eval", "log")  # of a run, besides training


def start_lines(record: Record, scaled: Iterable[str], ramp: tuple[float, float]) -> list[str]:
    """Return what the run will do.

    `scaled` are the names of the ingredients that recipe.strength scales; `ramp` are the epochs at which
    strength=auto leaves 0 and reaches 1.
    """
    plan, config, asked = record.content["plan"], record.config, record.asked
    seconds = plan["seconds_asked"]
    length = f"{plan['steps']:,} steps of {plan['batch_size']:,} images ({plan['epochs']:.2f} epochs)"
    end = f", {seconds:g} s of training" if seconds else ""
    if seconds and not record.plan:
        end += f", until about {datetime.now() + timedelta(seconds=seconds):%H:%M:%S}"
    cores = record.content["host"]["cores"]
    threads = f"{config.threads} of {cores} CPU cores"
    if asked.threads == "auto" and config.threads < cores:
        threads += " (auto: the others are busy, or set aside by OMP_NUM_THREADS or a CPU quota)"
    compiled = "compiled" if config.compile else "not compiled"
    return [
        *(f"{new} replaces {old}" for old, new in config.arch.replaced.items()),
        f"{config.name} on {config.data.name}: {length}, peak lr {plan['lr']:.3g}{_auto(asked.recipe.lr)}{end}",
        f"{config.device}{_auto(asked.device)}, {config.precision}{_auto(asked.precision)}, {threads}, {compiled}",
        strength_line(plan, asked.recipe.strength, list(scaled), ramp),
        f"record: {record.folder}",
    ]


def strength_line(plan: dict, asked: object, scaled: list[str], ramp: tuple[float, float]) -> str:
    """Return in words what recipe.strength does to the ingredients that it scales."""
    strength, low, high = plan["strength"], *ramp
    if not scaled:
        return f"strength {strength:g}: this recipe has no regularizers that it scales"
    names = ", ".join(scaled)
    effect = {0: f"off: {names}", 1: f"at full strength: {names}"}.get(strength, f"at {strength:.0%}: {names}")
    epochs = f"{plan['epochs']:.1f} epochs planned; 0 up to {low:g} epochs, full strength from {high:g} on"
    return f"strength {strength:g}, {effect}" + (f" (auto: {epochs})" if asked == "auto" else "")


def _auto(asked: object) -> str:
    return " (auto)" if asked == "auto" else ""


def resume_line(record: Record) -> str:
    """Return what `resume` found."""
    attempts = record.content["attempts"]
    if attempts == 1:
        return f"resume: no unfinished run of this config; starting one in {record.folder}"
    start = "" if record.checkpoint.exists() else ", from the start (there is no checkpoint yet)"
    changed = "; the code has changed since" if "+" in record.content["code"]["hash"] else ""
    return f"resuming {record.folder}, attempt {attempts}{start}{changed}"


def stop_line(record: Record) -> str:
    """Return what is left of a run that a signal stopped before its evaluation."""
    kept = "the last checkpoint is kept" if record.checkpoint.exists() else "there was no checkpoint yet"
    return f"interrupted before evaluation: {kept}; continue with resume=true or {quoted('resume', record.folder)}"


def end_table(record: Record) -> str:
    """Return the table that ends a run."""
    content = record.content
    metrics, seconds, cost, plan = (content[key] for key in ("metrics", "seconds", "cost", "plan"))
    budget = f" of {plan['seconds_asked']:g} s" if plan["seconds_asked"] else ""
    steps = f"{content['steps']:,}" + (f" of {plan['steps']:,}" if content["steps"] != plan["steps"] else "")
    rows = [
        (f"{split} accuracy", f"{100 * metrics[f'{key}/acc']:.2f} %", f"loss {metrics[f'{key}/loss']:.4f}")
        for key, split in (("val", "validation"), ("test", "test"))
        if f"{key}/acc" in metrics
    ]
    if "test/acc_tta" in metrics:
        rows.append(("test accuracy, TTA", f"{100 * metrics['test/acc_tta']:.2f} %", "test-time augmentation"))
    rows += [
        ("training", f"{seconds['train']:.1f} s{budget}", f"{steps} steps, {plan['epochs']:.2f} epochs planned"),
        ("total", f"{seconds['total']:.1f} s", ", ".join(f"{stage} {seconds[stage]:.1f}" for stage in STAGES)),
        ("throughput", f"{cost['images_per_second']:,.0f} images/s", "forward and backward, measured"),
        ("net", f"{cost['params']:,} parameters", f"{cost['macs']:,} MACs"),
        ("status", content["status"], str(record.folder)),
    ]
    table = tabulate(rows, tablefmt="plain", colalign=("left", "right", "left"), disable_numparse=True)
    return "\n".join(f"  {line}" for line in table.splitlines())
