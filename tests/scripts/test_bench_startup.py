"""benches/startup.py: every moment up to the first step is attributed to one item."""

import importlib
import time
from argparse import Namespace

import pytest
from benches import startup as bench_startup

TINY = ["arch=resnet18", "size.width=0.125", "size.depth=0.1", "data=sample", "recipe.batch_size=16", "threads=1"]
WANDB = {"import wandb", "wandb init"}


@pytest.mark.parametrize("logger", ["none", pytest.param("wandb", marks=pytest.mark.exhaustive)])
def test_items_add_up_to_the_seconds_until_the_first_step(logger):
    begin = time.time()
    seconds = bench_startup.measure([*TINY, f"logger={logger}", "budget=2steps"])
    assert 0.9 * (time.time() - begin) - 0.5 < seconds["total"] < time.time() - begin
    assert seconds["total"] == pytest.approx(sum(seconds[item] for item in bench_startup.ITEMS))
    unused = {"calibrate"} | (WANDB if logger == "none" else set())  # a number of steps needs no calibration
    for item in bench_startup.ITEMS:
        assert seconds[item] == 0 if item in unused else seconds[item] > 1e-4, item
    assert seconds["import torch"] > seconds["import minuteloop"] and seconds["total"] > 1.0


@pytest.mark.parametrize("module", bench_startup.CALLS)
def test_timed_functions_exist(module):
    for function in bench_startup.CALLS[module]:
        assert callable(getattr(importlib.import_module(module), function))


def test_there_is_a_row_for_each_logger(monkeypatch):
    calls = []

    def measured(overrides):
        calls.append(overrides)
        return dict.fromkeys(("total", *bench_startup.ITEMS), float(len(calls)))

    monkeypatch.setattr(bench_startup, "measure", measured)
    none, wandb = bench_startup.startup(None, Namespace(overrides=["arch=convnext", "logger=none"], rounds=2))
    assert (none["arm"], wandb["arm"]) == ("logger=none", "logger=wandb")
    assert sorted(map(tuple, calls[-2:])) == [("arch=convnext", "logger=none"), ("arch=convnext", "logger=wandb")]
    assert none["seconds"]["total"] == {"median": 4.5, "range": [3.0, 6.0]}
    assert list(none["seconds"]) == ["total", *bench_startup.ITEMS]
