"""benches/cells.py: what a cell takes beyond its training, alone in a task and as the second of two."""

import itertools
import time
from argparse import Namespace

import pytest
from benches import cells

TINY = ["arch=resnet18", "size.width=0.125", "size.depth=0.1", "data=sample", "recipe=plain", "threads=1"]


def test_cold_is_a_task_of_one_cell_and_warm_what_a_second_one_adds(monkeypatch):
    calls = []
    monkeypatch.setattr(cells, "beyond_training", lambda *words: calls.append(words) or [0.0, 10.0, 13.0][words[3]])
    rows = list(cells.cells(None, Namespace(overrides=["arch=convnext"], rounds=2)))
    assert {row["arm"]: row["seconds"]["beyond training"]["median"] for row in rows} == {
        "cell of 5s, cold": 10.0,
        "cell of 5s, warm": 3.0,
        "cell of 60s, cold": 10.0,
        "cell of 60s, warm": 3.0,
    }
    assert calls[0][1] == ["arch=convnext", "budget=5s"] and len({id(words[2]) for words in calls}) == 2


@pytest.mark.exhaustive
def test_training_is_left_out_and_all_else_counts(tmp_path):
    begin = time.perf_counter()
    seconds = cells.beyond_training(tmp_path, [*TINY, "budget=300steps"], itertools.count(), 2)
    wall = time.perf_counter() - begin
    assert len(list(tmp_path.glob("runs/*/*/result.json"))) == 2
    assert 1.0 < seconds < wall - 0.5
