"""result.json is JSON that any parser reads, whatever a run puts into it."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from minuteloop import compose
from minuteloop.records.record import Record
from minuteloop.training.stopwatch import STAGES


@pytest.fixture
def record(tmp_path):
    return Record(compose(["data=sample"]), tmp_path, {"train": 1.0})


def strict(folder) -> dict:
    """Parse result.json, without the constants NaN and Infinity that only Python reads."""
    return json.loads((folder / "result.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_docs_list_exactly_the_keys_of_a_record_and_the_stages_of_its_seconds(record):
    page = (Path(__file__).parents[2] / "docs/after_training.md").read_text()
    rows = [
        line.split(" | ") for line in page.partition("Its keys:")[2].partition("\n## ")[0].splitlines() if "`" in line
    ]
    assert sorted(key for row in rows for key in re.findall(r"`(\w+)`", row[0])) == sorted(record.content)
    (seconds,) = (row[1] for row in rows if "`seconds`" in row[0])
    assert set(re.findall(r"`(\w+)`", seconds)) == {*STAGES, "total"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")], ids=str)
def test_number_that_is_not_finite_becomes_null_wherever_it_is(record, tmp_path, value):
    record.content["metrics"] = {"val/acc": 0.5, "val/loss": value}
    record.content["plan"] = {"phases": [1.0, value, (value, 2)]}
    record.save()
    content = strict(tmp_path)
    assert content["metrics"] == {"val/acc": 0.5, "val/loss": None}
    assert content["plan"] == {"phases": [1.0, None, [None, 2]]}


@pytest.mark.parametrize("text", ["loss: NaN, lr: Infinity", '{"loss": NaN}', ": -Infinity", "NaN"])
def test_text_that_names_such_a_number_is_kept(record, tmp_path, text):
    record.fail(FloatingPointError(text))
    assert strict(tmp_path)["error"] == f"FloatingPointError: {text}"


@pytest.mark.parametrize(("earlier", "kept"), [({"overrides": ["seed=1"]}, ["seed=1"]), ({}, ["seed=2"])])
def test_resumed_record_keeps_the_overrides_of_its_first_attempt_where_it_has_them(record, tmp_path, earlier, kept):
    old = record.content | {"overrides": None} | earlier
    old = {key: value for key, value in old.items() if value is not None}  # a record of before the key has none
    resumed = Record(record.asked, tmp_path, {"train": 1.0}, old, ["seed=2"])
    assert resumed.content["overrides"] == kept
