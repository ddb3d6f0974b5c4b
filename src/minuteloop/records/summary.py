"""What a run prints: the lines at its start, when it resumes or stops, and the table at its end."""

from __future__ import annotations

from datetime import datetime, timedelta

from tabulate import tabulate

from minuteloop.records.record import Record
from minuteloop.schema import Recipe
from minuteloop.validation import quoted

FULL = "at full strength"
STAGES = ("setup", "calibrate", "compile", "eval", "log")  # of a run, besides training
TOLERANCE = 1.1  # times the planned seconds, or the planned are that many times the seconds: no warning
BUSY = 0.25  # cores of other processes that slow a run


def start_lines(record: Record) -> list[str]:
    """Return what the run will do."""
    plan, config, asked = record.content["plan"], record.config, record.asked
    seconds = plan["seconds_asked"]
    length = f"{plan['steps']:,} steps of {plan['batch_size']:,} images ({plan['epochs']:.2f} epochs)"
    end = f", {seconds:g} s of training" if seconds else ""
    if seconds and not record.plan:
        end += f", until about {datetime.now() + timedelta(seconds=seconds):%H:%M:%S}"
    threads = f"{config.threads} of {record.content['host']['cores']} CPU cores{_auto(asked.threads)}"
    compiled = "compiled" if config.compile else "not compiled"
    device = f"{config.devices} x {config.device}" if config.devices > 1 else config.device
    return [
        *(f"{new} replaces {old}" for old, new in config.arch.replaced.items()),
        f"{config.name} on {config.data.name}: {length}, peak lr {plan['lr']:.3g}{_auto(asked.recipe.lr)}{end}",
        f"{device}{_auto(asked.device)}, {config.precision}{_auto(asked.precision)}, {threads}, {compiled}",
        *config.recipe.notes,
        *strength_lines(plan, config.recipe, asked.recipe.strength),
        f"record: {record.folder}",
    ]


def strength_lines(plan: dict, recipe: Recipe, asked: object) -> list[str]:
    """Return in words which regularizers are off, at a part of their strength and at full strength, and why."""
    lines = [f"{effect}: {', '.join(names)}" for effect, names in _by_effect(plan["strength"]).items()]
    if asked == "auto" and strength_words(plan) not in ("none", "full"):
        planned = f"{plan['epochs']:.1f} epochs planned, full strength at {recipe.paper_epochs:g}"
        lines[0] += f" ({planned}; recipe.strength=1 switches all on, ingredient=[NAME] one)"
    return lines


def strength_words(*plans: dict) -> str:
    """Return which regularizers are off or at a part of their strength; 'full' where none is, 'none' without any.

    Of the plans of several runs the words name the range of a factor: 'at 30% to 45%'.
    """
    effects = _by_effect(*(plan["strength"] for plan in plans))
    reduced = "; ".join(f"{effect}: {', '.join(names)}" for effect, names in effects.items() if effect != FULL)
    return reduced or ("full" if effects else "none")


def _by_effect(*strengths: dict[str, float]) -> dict[str, list[str]]:
    """Return {what factors mean, in words: names of ingredients}, the smallest factor first."""
    factors: dict[str, list[float]] = {}
    for name, factor in (item for strength in strengths for item in strength.items()):
        factors.setdefault(name, []).append(factor)
    effects: dict[str, list[str]] = {}
    for name, found in sorted(factors.items(), key=lambda item: sorted(item[1])):
        low, high = min(found), max(found)
        words = {0: "off", 1: FULL}.get(low, f"at {low:.0%}") if low == high else f"at {low:.0%} to {high:.0%}"
        effects.setdefault(words, []).append(name)
    return effects


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


def budget_warning(content: dict) -> str | None:
    """Return by how much training missed its budget and the likely reason.

    Return None within TOLERANCE, and where the user ended the run.
    """
    pace, seconds, asked = content["pace"], content["seconds"]["train"], content["plan"]["seconds_asked"]
    if not asked or content["status"] == "interrupted" or 1 / TOLERANCE <= pace["slowdown"] <= TOLERANCE:
        return None
    had, planned, others = pace["steps_per_second"], pace["steps_per_second_planned"], pace["cores_of_others"]
    rates = f"{had:.3g} steps/s, {planned:.3g} while calibrating"
    if pace["slowdown"] < 1:
        reason = "the machine was probably busier then"
    elif others > BUSY:
        reason = f"other processes kept {others:.1f} of {content['host']['cores']} cores busy"
    else:
        reason = "no other process was busy; the machine may have slowed down"
    steps = f"{content['steps']:,} of {content['plan']['steps']:,} steps"
    took = f"training took {seconds:.1f} s of its {asked:g} s for {steps}"
    return f"{took}, {pace['slowdown']:.2f} times as long as planned ({rates}): {reason}"


def end_table(record: Record) -> str:
    """Return the table that ends a run."""
    content = record.content
    metrics, seconds, cost, plan = (content[key] for key in ("metrics", "seconds", "cost", "plan"))
    budget = f" of {plan['seconds_asked']:g} s" if plan["seconds_asked"] else ""
    words = strength_words(plan)
    steps = f"{content['steps']:,}" + (f" of {plan['steps']:,}" if content["steps"] != plan["steps"] else "")
    rows = [
        (f"{split} accuracy", f"{100 * metrics[f'{key}/acc']:.2f} %", f"loss {metrics[f'{key}/loss']:.4f}")
        for key, split in (("val", "validation"), ("test", "test"))
        if f"{key}/acc" in metrics
    ]
    if "test/acc_tta" in metrics:
        rows.append(("test accuracy, TTA", f"{100 * metrics['test/acc_tta']:.2f} %", "test-time augmentation"))
    stages = [*STAGES, "paused"] if seconds["paused"] else STAGES
    rows += [
        ("training", f"{seconds['train']:.1f} s{budget}", f"{steps} steps, {plan['epochs']:.2f} epochs planned"),
        ("total", f"{seconds['total']:.1f} s", ", ".join(f"{stage} {seconds[stage]:.1f}" for stage in stages)),
        ("throughput", f"{cost['images_per_second']:,.0f} images/s", "forward and backward, measured"),
        ("net", f"{cost['params']:,} parameters", f"{cost['macs']:,} MACs"),
        ("regularizers", words, "") if words in ("none", "full") else ("regularizers", "reduced", words),
        ("status", content["status"], str(record.folder)),
    ]
    table = tabulate(rows, tablefmt="plain", colalign=("left", "right", "left"), disable_numparse=True)
    return "\n".join(f"  {line}" for line in table.splitlines())
