"""The lines at a run's start: length, hardware, what `auto` chose, and what strength does."""

import dataclasses
import logging

import pytest

from minuteloop import compose
from minuteloop.config.instantiate import ingredients
from minuteloop.records.record import Record
from minuteloop.records.summary import budget_warning, end_table, start_lines, strength_lines, strength_words
from minuteloop.training.plan import make_plan

DEIT = {"label_smoothing": 1.0, "mixup": 0.0, "cutmix": 0.0, "drop_path": 0.45}


def test_strength_lines_describe_each_ingredient():
    plan, recipe = {"strength": DEIT, "epochs": 30.0}, compose(["recipe=deit"]).recipe
    off, part, full = strength_lines(plan, recipe, "auto")
    assert off.startswith("off: mixup, cutmix (30.0 epochs planned, full strength at 300; recipe.strength=1 switches")
    assert (part, full) == ("at 45%: drop_path", "at full strength: label_smoothing")
    assert strength_lines(plan, recipe, 0.5)[0] == "off: mixup, cutmix"  # not auto: no reason to give


def test_strength_words_are_none_full_or_what_is_reduced():
    assert strength_words({"strength": {}}) == "none"
    assert strength_words({"strength": {"mixup": 1.0, "cutmix": 1.0}}) == "full"
    assert strength_words({"strength": DEIT}) == "off: mixup, cutmix; at 45%: drop_path"


def lines_of(tmp_path, *overrides: str, **resolved) -> list[str]:
    """Return the start lines of a frozen record on a machine of 8 cores; `resolved` is what `auto` became."""
    asked = compose(["data=sample", "arch=resnet18", "recipe=deit", "recipe.batch_size=64", *overrides])
    record = Record(asked, tmp_path, {})
    values = {"device": "cpu", "precision": "fp32", "compile": False, "channels_last": True, "threads": 3} | resolved
    record.config = dataclasses.replace(asked, **values)
    frozen = make_plan(asked.budget, asked.recipe, ingredients(asked.recipe), 1600, steps_per_second=50.0)
    record.freeze(dataclasses.asdict(frozen), {})
    record.content["host"]["cores"] = 8
    return start_lines(record)


def test_start_lines_mark_what_auto_chose(tmp_path):
    length, hardware, part, full, folder = lines_of(tmp_path, "budget=60s")
    assert length.startswith("resnet18-deit on sample: 3,000 steps of 64 images (120.00 epochs), peak lr 0.000156 (a")
    assert ", 60 s of training, until about " in length
    assert hardware == "cpu (auto), fp32 (auto), 3 of 8 CPU cores (auto), not compiled"
    assert part.startswith("at 60%: ") and "(120.0 epochs planned, full strength at 300;" in part
    assert full == "at full strength: label_smoothing"
    assert folder == f"record: {tmp_path}"


def test_start_lines_do_not_mark_what_the_user_set(tmp_path):
    overrides = ["budget=10steps", "recipe.lr=0.1", "device=cpu", "precision=fp32", "threads=3", "recipe.strength=1"]
    length, hardware, strength, _ = lines_of(tmp_path, *overrides, compile=True)
    assert length == "resnet18-deit on sample: 10 steps of 64 images (0.40 epochs), peak lr 0.1"
    assert hardware == "cpu, fp32, 3 of 8 CPU cores, compiled"
    assert strength.startswith("at full strength: ") and "planned" not in strength


def test_start_lines_name_steps_that_another_replaces(tmp_path):
    record = Record(compose(["arch=convnext", "modernization=[batchnorm]"]), tmp_path, {})
    assert "batchnorm" in record.asked.arch.replaced.values()
    assert logging.getLogger("minuteloop").handlers == []


def finished(tmp_path, seconds: float, steps: int = 3000, others: float = 0.0, budget: str = "60s") -> Record:
    """Return the record of a run of `seconds` training seconds and `steps` steps, of 3,000 that were planned."""
    asked = compose(["data=sample", "arch=resnet18", "recipe.batch_size=64", f"budget={budget}"])
    stages = ("setup", "calibrate", "compile", "train", "eval", "log", "paused", "total")
    record = Record(asked, tmp_path, dict.fromkeys(stages, 0.0) | {"train": seconds, "total": seconds + 9})
    frozen = make_plan(budget, asked.recipe, ingredients(asked.recipe), 1600, steps_per_second=50.0)
    record.freeze(dataclasses.asdict(frozen), {"params": 1, "macs": 1})
    record.content["host"]["cores"] = 2
    record.finish("finished", steps, 0, others)
    return record


@pytest.mark.parametrize(
    ("seconds", "others", "warning"),
    [
        (54.6, 0.0, None),
        (65.9, 0.0, None),
        (
            44.9,
            0.0,
            "training took 44.9 s of its 60 s for 3,000 of 3,000 steps, 0.75 times as long as planned "
            "(66.8 steps/s, 50 while calibrating): the machine was probably busier then",
        ),
        (
            78.0,
            0.9,
            "training took 78.0 s of its 60 s for 3,000 of 3,000 steps, 1.30 times as long as planned "
            "(38.5 steps/s, 50 while calibrating): other processes kept 0.9 of 2 cores busy",
        ),
        (
            78.0,
            0.1,
            "training took 78.0 s of its 60 s for 3,000 of 3,000 steps, 1.30 times as long as planned "
            "(38.5 steps/s, 50 while calibrating): no other process was busy; the machine may have slowed down",
        ),
    ],
)
def test_budget_missed_by_a_tenth_in_either_direction_is_a_warning_with_the_reason(tmp_path, seconds, others, warning):
    assert budget_warning(finished(tmp_path, seconds, others=others).content) == warning


def test_interrupted_run_and_run_of_steps_miss_no_budget(tmp_path):
    record = finished(tmp_path, 30.0, steps=1000)
    assert "1.50 times as long as planned" in budget_warning(record.content)
    assert budget_warning(record.content | {"status": "interrupted"}) is None
    record = finished(tmp_path, 20.0, budget="3000steps")
    assert budget_warning(record.content) is None and record.content["pace"]["slowdown"] is None


def test_end_table_names_pauses_only_where_there_were_some(tmp_path):
    record = finished(tmp_path, 60.0)
    assert "paused" not in end_table(record)
    record.content["seconds"]["paused"] = 8.9
    assert ", log 0.0, paused 8.9" in end_table(record)
