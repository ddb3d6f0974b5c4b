"""The lines at a run's start: length, hardware, what `auto` chose, and what strength does."""

import dataclasses
import logging

from minuteloop import compose
from minuteloop.config.instantiate import ingredients
from minuteloop.records.record import Record
from minuteloop.records.summary import start_lines, strength_lines, strength_words
from minuteloop.training.plan import make_plan

DEIT = {"label_smoothing": 1.0, "mixup": 0.0, "cutmix": 0.0, "drop_path": 0.45}


def test_strength_is_told_in_words_by_ingredient():
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
    threads = "3 of 8 CPU cores (auto: the others are busy, or set aside by OMP_NUM_THREADS or a CPU quota)"
    assert hardware == f"cpu (auto), fp32 (auto), {threads}, not compiled"
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
