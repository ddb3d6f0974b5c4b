"""The line before each cell of a sweep: its number, and the minutes that are left."""

import time

import pytest

from minuteloop.study.progress import Progress


@pytest.mark.parametrize(
    ("budgets", "line"),
    [
        (["60s"] * 9, "cell 3 of 9, about 8 min to the end"),
        (["15s", "60s", "60s", "4min"], "cell 3 of 4, about 6 min to the end"),
        (["100steps"] * 3, "cell 3 of 3, about 1 min to the end"),
        (["1s", "1s", "1s"], "cell 3 of 3, about 1 min to the end"),
        (["60s", "100steps", "60s"], "cell 3 of 3"),
    ],
)
def test_minutes_are_those_of_the_cells_left_at_the_pace_of_those_that_trained(budgets, line, monkeypatch):
    progress = Progress(budgets)
    assert progress.line(0) == f"cell 1 of {len(budgets)}", "nothing has trained"
    clock = iter((0, 66.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with progress.cell(1):
        pass
    assert progress.line(2) == line


def test_last_seconds(monkeypatch):
    progress = Progress(["1s"] * 2)
    clock = iter((0, 5.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with progress.cell(0):
        pass
    assert progress.line(1) == "cell 2 of 2, the end in under a minute"
