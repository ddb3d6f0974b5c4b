"""The lines at a run's start: length, hardware, what `auto` chose, and what strength does."""

import dataclasses
import logging

import pytest

from minuteloop import compose
from minuteloop.config.instantiate import scaled_by_strength
from minuteloop.records.record import Record
from minuteloop.records.summary import start_lines, strength_line, strength_words
from minuteloop.training.plan import STRENGTH_RAMP, make_plan

SCALED = ["rand_augment", "mixup", "drop_path"]


def plan(strength: float, epochs: float = 3.0) -> dict:
    return {"strength": strength, "epochs": epochs}


@pytest.mark.parametrize(
    ("strength", "effect"),
    [
        (0.0, "strength 0, off: rand_augment, mixup, drop_path"),
        (0.5, "strength 0.5, at 50%: rand_augment, mixup, drop_path"),
        (1.0, "strength 1, at full strength: rand_augment, mixup, drop_path"),
    ],
)
def test_strength_line_names_the_ingredients_and_what_happens_to_them(strength, effect):
    assert strength_line(plan(strength), strength, SCALED, STRENGTH_RAMP) == effect
    reason = " (auto: 3.0 epochs planned; 0 up to 30 epochs, full strength from 300 on)"
    assert strength_line(plan(strength), "auto", SCALED, STRENGTH_RAMP) == effect + reason


def test_strength_line_of_a_recipe_without_regularizers():
    line = strength_line(plan(0.0), "auto", [], STRENGTH_RAMP)
    assert line == "strength 0: this recipe has no regularizers that it scales"


@pytest.mark.parametrize(
    ("strength", "words"),
    [
        (0.0, "off"),
        (0.45, "45 %"),
        (1.0, "full"),
        ({}, "no regularizers"),
        ({"mixup": 1.0, "cutmix": 1.0}, "full"),
        ({"mixup": 0.0, "cutmix": 0.0, "label_smoothing": 1.0}, "off: mixup, cutmix"),
        ({"mixup": 0.45, "cutmix": 1.0}, "mixup at 45 %"),
        ({"mixup": 0.29, "cutmix": 0.0, "drop_path": 0.1}, "off: cutmix; mixup at 29 %, drop_path at 10 %"),
    ],
)
def test_strength_in_words_for_a_table(strength, words):
    assert strength_words({"strength": strength}) == words


def test_only_ingredients_that_strength_scales_are_named():
    assert scaled_by_strength(compose(["recipe=plain"]).recipe) == []
    names = scaled_by_strength(compose(["recipe=deit"]).recipe)
    assert {"rand_augment", "random_erasing", "mixup", "cutmix", "drop_path"} <= set(names)
    assert not {"ema", "adamw", "cosine", "flip", "crop"} & set(names)


def lines_of(tmp_path, *overrides: str, **resolved) -> list[str]:
    """Return the start lines of a frozen record on a machine of 8 cores; `resolved` is what `auto` became."""
    asked = compose(["data=sample", "arch=resnet18", "recipe=deit", "recipe.batch_size=64", *overrides])
    record = Record(asked, tmp_path, {})
    values = {"device": "cpu", "precision": "fp32", "compile": False, "channels_last": True, "threads": 3} | resolved
    record.config = dataclasses.replace(asked, **values)
    frozen = make_plan(asked.budget, asked.recipe, lambda batch_size, epochs: 1e-3, 1600, steps_per_second=50.0)
    record.freeze(dataclasses.asdict(frozen), {})
    record.content["host"]["cores"] = 8
    return start_lines(record, scaled_by_strength(asked.recipe), STRENGTH_RAMP)


def test_start_lines_mark_what_auto_chose(tmp_path):
    length, hardware, strength, folder = lines_of(tmp_path, "budget=60s")
    assert length.startswith("resnet18-deit on sample: 3,000 steps of 64 images (120.00 epochs), peak lr 0.001 (auto)")
    assert ", 60 s of training, until about " in length
    threads = "3 of 8 CPU cores (auto: the others are busy, or set aside by OMP_NUM_THREADS or a CPU quota)"
    assert hardware == f"cpu (auto), fp32 (auto), {threads}, not compiled"
    assert strength.startswith("strength 0.6, at 60%: ") and "(auto: 120.0 epochs planned;" in strength
    assert folder == f"record: {tmp_path}"


def test_start_lines_do_not_mark_what_the_user_set(tmp_path):
    overrides = ["budget=10steps", "recipe.lr=0.1", "device=cpu", "precision=fp32", "threads=3", "recipe.strength=1"]
    length, hardware, strength, _ = lines_of(tmp_path, *overrides, compile=True)
    assert length == "resnet18-deit on sample: 10 steps of 64 images (0.40 epochs), peak lr 0.1"
    assert hardware == "cpu, fp32, 3 of 8 CPU cores, compiled"
    assert strength.startswith("strength 1, at full strength: ") and "auto" not in strength


def test_start_lines_name_steps_that_another_replaces(tmp_path):
    record = Record(compose(["arch=convnext", "modernization=[batchnorm]"]), tmp_path, {})
    assert "batchnorm" in record.asked.arch.replaced.values()
    assert logging.getLogger("minuteloop").handlers == []
