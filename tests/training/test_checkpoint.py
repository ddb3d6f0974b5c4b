"""A run that was stopped or killed resumes bit for bit: it ends as if nothing had interrupted it."""

import itertools
import math
import multiprocessing
import os
import random
import signal
import time
import types
from pathlib import Path

import pytest
import torch
from small_run import OPTIONS, STEPS, assert_same_run, assert_same_training, curve_seconds, read, stop, training_step

import minuteloop
from minuteloop.records import record
from minuteloop.training import calibrate, checkpoint
from minuteloop.training.classifier import Classifier

KILLS = 10  # at random moments
ALWAYS = 1e9  # as the fraction of the time that checkpoints may take

write = record.Record.write


# --- stopped and resumed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(1, id="first", marks=pytest.mark.exhaustive),
        pytest.param(19, id="before-epoch-end", marks=pytest.mark.exhaustive),
        pytest.param(20, id="epoch-end"),
        pytest.param(31, id="evaluated"),
        pytest.param(50, id="logged", marks=pytest.mark.exhaustive),
        pytest.param(59, id="last-but-one", marks=pytest.mark.exhaustive),
    ],
)
def test_resume_is_bit_exact_after_sigterm(cwd, reference, monkeypatch, step):
    stop(monkeypatch, "hydra.run.dir=mine", step=step)
    content = read(cwd / "mine")
    assert content["status"] == "interrupted" and content["error"] == "Stopped: SIGTERM" and not content["metrics"]
    before = content["seconds"]["train"]
    content = minuteloop.run([*OPTIONS, "hydra.run.dir=mine", "resume=true"])
    assert content["attempts"] == 2 and content["status"] == "finished"
    assert f"attempt 2: continuing after step {step}\n" in (cwd / "mine/log.txt").read_text()
    seconds = content["seconds"]
    assert seconds["train"] > before > 0
    times = curve_seconds(cwd / "mine")
    seconds_at = [at for _, at in times]
    assert seconds_at == sorted(seconds_at) and seconds_at[0] > 0
    assert all((at <= before) == (row <= step) for row, at in times), "they continue those of the first attempt"
    assert seconds_at[-1] == pytest.approx(seconds["train"], rel=1e-5), "the last evaluation comes after training"
    assert sum(seconds[stage] for stage in seconds if stage != "total") == pytest.approx(seconds["total"], rel=1e-6)
    assert_same_run(cwd / "mine", reference.folder)


def test_checkpoints_change_no_weight_and_are_deleted_at_the_end(cwd, reference, monkeypatch):
    written = []

    def write_and_count(self, name, content):
        written.append(name)
        write(self, name, content)

    monkeypatch.setattr(record.Record, "write", write_and_count)
    monkeypatch.setattr(checkpoint, "EVERY", 0)
    monkeypatch.setattr(checkpoint, "FRACTION", ALWAYS)
    minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    assert written.count("last.ckpt") == STEPS - 1
    assert_same_run(cwd / "mine", reference.folder)


def test_checkpoints_take_at_most_their_fraction_of_the_time(cwd, monkeypatch):
    times = []

    def write_slowly(self, name, content):
        if name == "last.ckpt":
            times.append(time.perf_counter())
            time.sleep(0.05)
        write(self, name, content)

    monkeypatch.setattr(record.Record, "write", write_slowly)
    monkeypatch.setattr(checkpoint, "EVERY", 0)
    monkeypatch.setattr(checkpoint, "FRACTION", 0.2)
    content = minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    assert len(times) >= 2 and min(b - a for a, b in itertools.pairwise(times)) >= 0.25
    assert content["seconds"]["log"] >= 0.05 * len(times), "off the training clock"


def test_timed_run_resumes_with_its_frozen_plan(cwd, monkeypatch):
    with monkeypatch.context() as patch:
        rate = types.SimpleNamespace(steps_per_second=20.0, first_seconds=0.0, is_slow=False)
        patch.setattr(calibrate, "measure_rate", lambda *_: rate)
        stop(monkeypatch, "budget=2s", "hydra.run.dir=mine", step=3)
    monkeypatch.setattr(calibrate, "measure_rate", lambda *_: pytest.fail("measured again"))
    plan = read(cwd / "mine")["plan"]
    timed = minuteloop.run([*OPTIONS, "budget=2s", "hydra.run.dir=mine", "resume=true"])
    assert timed["plan"] == plan and timed["seconds"]["calibrate"] > 0
    minuteloop.run([*OPTIONS, f"budget={plan['steps']}steps", "hydra.run.dir=again"])
    assert_same_training(cwd / "mine", cwd / "again")


def test_attempt_that_fails_before_training_loses_nothing(cwd, reference, monkeypatch):
    def fail(*_):
        raise RuntimeError("no such device")

    stop(monkeypatch, "hydra.run.dir=mine")
    before = read(cwd / "mine")
    with monkeypatch.context() as patch:
        patch.setattr(minuteloop.hardware, "resolve_auto", fail)
        with pytest.raises(RuntimeError):
            minuteloop.run([*OPTIONS, "resume=mine"])
    after = read(cwd / "mine")
    assert after["attempts"] == 2 and after["error"] == "RuntimeError: no such device"
    assert (after["plan"], after["config"]) == (before["plan"], before["config"])
    assert minuteloop.run([*OPTIONS, "resume=mine"])["attempts"] == 3
    assert_same_run(cwd / "mine", reference.folder)


def test_run_without_a_checkpoint_restarts_with_its_frozen_plan(cwd, reference, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("dead")

    with monkeypatch.context() as patch:
        patch.setattr("minuteloop.training.progress.Progress.on_train_batch_end", fail)
        with pytest.raises(RuntimeError):
            minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    assert minuteloop.run([*OPTIONS, "resume=mine"])["attempts"] == 2
    assert "attempt 2, from the start (there is no checkpoint yet)" in (cwd / "mine/log.txt").read_text()
    assert_same_run(cwd / "mine", reference.folder)


def test_hardware_settings_stay_those_of_the_first_attempt(cwd, monkeypatch):
    """bf16 or fp32 and the number of threads change the sums."""
    options = [option for option in OPTIONS if option != "threads=1"]
    monkeypatch.setattr("small_run.OPTIONS", options)
    monkeypatch.setattr(minuteloop.hardware, "auto_threads", lambda: (1, ""))
    monkeypatch.setattr(minuteloop.hardware, "has_fast_bf16", lambda device: False)
    stop(monkeypatch, "hydra.run.dir=mine")
    monkeypatch.setattr(minuteloop.hardware, "auto_threads", lambda: (2, ""))
    monkeypatch.setattr(minuteloop.hardware, "has_fast_bf16", lambda device: True)
    config = minuteloop.run([*options, "hydra.run.dir=mine", "resume=true", "logger.tags=[late]"])["config"]
    assert (config["threads"], config["precision"]) == (1, "fp32") and config["logger"]["tags"] == ["late"]


def test_checkpoint_holds_tensors_and_plain_values_only(cwd, monkeypatch):
    stop(monkeypatch, "hydra.run.dir=mine")
    state = torch.load(cwd / "mine/last.ckpt", weights_only=True)
    assert state["global_step"] == 25 and "net.head.linear.weight" in state["state_dict"]
    assert any("averages" in kept for kept in state["callbacks"].values())


# --- killed -----------------------------------------------------------------------------------------------------


def train_until_killed(options: list[str], connection, where: str, count: int) -> None:
    """Train in this process with a checkpoint after each step; send the step's number through `connection`.

    With `where` = write, fsync or replace the process kills itself there, in the `count`-th checkpoint.
    """

    def announce(module, batch, batch_idx):
        connection.send(module.global_step)
        return training_step(module, batch, batch_idx)

    def kill(*_) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write_or_die(self, name, content):
        nonlocal count
        count -= name == "last.ckpt"
        if count == 0 and name == "last.ckpt":
            if where == "write":
                (self.folder / "last.ckpt.tmp").write_bytes(content[: len(content) // 2])
                kill()
            setattr(os if where == "fsync" else Path, where, kill)
        write(self, name, content)

    checkpoint.EVERY, checkpoint.FRACTION = 0, ALWAYS
    record.Record.write, Classifier.training_step = write_or_die, announce
    connection.send(-1)
    minuteloop.run(options)


def start(options: list[str], where: str, count: int):
    """Return a process in train_until_killed, and the connection that it sends its steps to."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["minuteloop.training.checkpoint", "minuteloop.training.classifier"])
    ours, theirs = processes.Pipe()
    process = processes.Process(target=train_until_killed, args=(options, theirs, where, count))
    process.start()
    theirs.close()
    return process, ours


def kill_in_checkpoint(options: list[str], folder: Path, where: str, count: int) -> None:
    process, _connection = start([*options, f"hydra.run.dir={folder}"], where, count)
    process.join(timeout=300)
    assert process.exitcode == -signal.SIGKILL
    assert (folder / "last.ckpt.tmp").exists() and ((folder / "last.ckpt").exists() or count == 1)


@pytest.mark.parametrize(
    ("where", "count"),
    [
        pytest.param("write", 50, marks=pytest.mark.exhaustive),
        pytest.param("fsync", 1, marks=pytest.mark.exhaustive),
        ("replace", 33),
    ],
)
def test_resume_is_bit_exact_after_sigkill_inside_a_checkpoint(tmp_path, reference, where, count):
    """The recipe, deit, evaluates an EMA."""
    kill_in_checkpoint(OPTIONS, tmp_path / "mine", where, count)
    assert minuteloop.run([*OPTIONS, f"hydra.run.dir={tmp_path}/mine", "resume=true"])["attempts"] == 2
    assert_same_run(tmp_path / "mine", reference.folder)


@pytest.mark.parametrize("ingredient", ["lookahead", "progressive"])
def test_resume_is_bit_exact_after_sigkill_with(tmp_path, ingredient):
    """The kill comes between two updates of lookahead, and in the second phase of a progressive recipe.

    fp32, because in bf16 oneDNN leaves a part of the weight gradient of a 3x3 convolution with stride 2 on a 1x1
    feature map uninitialized (torch 2.15), which 16-pixel images give this net.
    """
    options = [*OPTIONS, "budget=30steps", f"ingredient=[{ingredient}]", "precision=fp32"]
    minuteloop.run([*options, f"hydra.run.dir={tmp_path}/reference"])
    kill_in_checkpoint(options, tmp_path / "mine", "replace", 13)
    assert minuteloop.run([*options, f"hydra.run.dir={tmp_path}/mine", "resume=true"])["attempts"] == 2
    assert_same_run(tmp_path / "mine", tmp_path / "reference")


def random_moments() -> list:
    draws = random.Random(0)
    moments = [draws.uniform(-1, STEPS - 5) for _ in range(KILLS)]
    return [moments[0], *(pytest.param(moment, marks=pytest.mark.exhaustive) for moment in moments[1:])]


@pytest.mark.parametrize("moment", random_moments())
def test_resume_is_bit_exact_after_sigkill_at_any_moment(tmp_path, reference, moment):
    """`moment` is in steps, so that a kill may hit the middle of one; -1 to 0 is before the first."""
    folder = tmp_path / "mine"
    process, steps = start([*OPTIONS, f"hydra.run.dir={folder}"], "", 0)
    while steps.recv() < math.floor(moment):
        pass
    time.sleep((moment - math.floor(moment)) * (reference.seconds / STEPS if moment > 0 else 1.0))
    process.kill()
    process.join(timeout=300)
    assert process.exitcode == -signal.SIGKILL
    had_record = (folder / "result.json").exists()
    content = minuteloop.run([*OPTIONS, f"hydra.run.dir={folder}", "resume=true"])
    assert content["attempts"] == 1 + had_record
    assert_same_run(folder, reference.folder)
