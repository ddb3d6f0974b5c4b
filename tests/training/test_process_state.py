"""minuteloop.run leaves its process as it found it, and runs wherever a notebook or a service calls it."""

import asyncio
import contextlib
import logging
import random
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from own_ingredient import write_ingredient
from process_snapshot import differences, snapshot
from small_run import SMALL

import minuteloop
from minuteloop.records import wandb_service
from minuteloop.validation import ConfigError

QUICK = [*SMALL, "budget=2steps", "evaluations=1"]

# what each run is given, and the error that ends it
RUNS = {
    "plain": ([], None),
    "measured, with pictures": (["budget=1s", "logger.pictures=true"], None),
    "trainer's flags": (["+trainer.deterministic=true", "+trainer.benchmark=true", "+trainer.profiler=simple"], None),
    "wandb": (["logger=wandb"], None),
    "diverging": (["budget=6steps", "recipe=plain", "recipe.lr=1e6"], FloatingPointError),
    "wrong key": (["recipe.lrr=1"], ConfigError),
    "wrong trainer argument, with wandb": (["logger=wandb", "+trainer.profilr=1"], ConfigError),
}


@pytest.fixture
def odd_settings(monkeypatch):
    """State that no library has by default."""
    loggers = [logging.getLogger(name) for name in ("minuteloop", "pytorch_lightning", "matplotlib", "wandb")]
    levels, threads = [logger.level for logger in loggers], torch.get_num_threads()
    for number, logger in enumerate(loggers):
        logger.setLevel(13 + number)
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    monkeypatch.delenv("PL_SEED_WORKERS", raising=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="mine")
        torch.set_num_threads(2)
        torch.rand(3), random.random(), np.random.rand()
        yield
    torch.set_num_threads(threads)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize("name", RUNS)
def test_run_leaves_its_process_as_it_found_it(cwd, odd_settings, name):
    overrides, error = RUNS[name]
    before = snapshot()
    with pytest.raises(error) if error else contextlib.nullcontext():
        minuteloop.run([*QUICK, *overrides])
    assert differences(before, snapshot()) == {}


def test_run_with_a_users_folder_leaves_sys_path_as_it_found_it(cwd):
    write_ingredient(cwd / "mine", "trained_with")
    before = snapshot()
    for _ in range(2):
        minuteloop.run([*QUICK, "ingredient=[same]"], config_dir="mine")
    assert differences(before, snapshot()) == {}


FIRST_RUN = """
import sys
from process_snapshot import differences, snapshot
from minuteloop import run
before = snapshot()
run(sys.argv[1:])
print("changed:", differences(before, snapshot()))
"""


def test_first_run_of_a_process_leaves_what_it_found_although_it_imports_everything(tmp_path):
    command = [sys.executable, "-c", FIRST_RUN, *QUICK, "logger.pictures=true"]
    environment = {"PYTHONPATH": ":".join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.stdout.endswith("changed: {}\n"), done.stdout + done.stderr


def test_wandb_that_is_still_starting_when_a_run_ends_changes_nothing_later(monkeypatch):
    started, events = threading.Event(), []
    monkeypatch.setattr("wandb.setup", lambda: started.wait(1) and events.append("started"))
    with wandb_service.service_started_early(True):
        started.set()
    assert events == ["started"]


def test_second_run_reports_a_profile_too(cwd, capsys):
    for number in range(2):
        minuteloop.run([*QUICK, "+trainer.profiler=simple", f"hydra.run.dir=run{number}"])
        assert "FIT Profiler Report" in capsys.readouterr().out
        assert "FIT Profiler Report" in (cwd / f"run{number}/log.txt").read_text()


def test_runs_of_different_configs_in_one_process_equal_runs_of_their_own(cwd):
    first = minuteloop.run([*QUICK, "hydra.run.dir=first"])
    minuteloop.run([*QUICK, "recipe=plain", "seed=7", "precision=fp32", "threads=2", "hydra.run.dir=other"])
    again = minuteloop.run([*QUICK, "hydra.run.dir=again"])
    assert again["host"] == first["host"] and again["metrics"] == first["metrics"]
    assert (cwd / "again/model.safetensors").read_bytes() == (cwd / "first/model.safetensors").read_bytes()


def in_a_thread() -> dict:
    records = []
    thread = threading.Thread(target=lambda: records.append(minuteloop.run(QUICK)))
    thread.start()
    thread.join()
    return records[0]


async def in_an_event_loop() -> dict:
    return minuteloop.run(QUICK)


async def in_a_thread_of_an_event_loop() -> dict:
    return await asyncio.to_thread(minuteloop.run, QUICK)


@pytest.mark.parametrize(
    "call",
    [in_a_thread, lambda: asyncio.run(in_an_event_loop()), lambda: asyncio.run(in_a_thread_of_an_event_loop())],
    ids=["thread", "event loop", "thread of an event loop"],
)
def test_run_finishes_outside_of_the_main_thread_and_inside_an_event_loop(cwd, call):
    before = snapshot()
    assert call()["status"] == "finished"
    assert differences(before, snapshot()) == {}


@pytest.mark.gpu
@pytest.mark.parametrize("is_used", [False, True])
def test_cuda_generators_continue_as_if_no_run_had_been(cwd, is_used):
    torch.manual_seed(3)
    if is_used:
        torch.rand(5, device="cuda")
    expected = torch.cuda.get_rng_state() if is_used else torch.Generator("cuda").manual_seed(3).get_state()
    minuteloop.run([*QUICK, "device=cuda"])
    assert torch.equal(torch.cuda.get_rng_state(), expected)
