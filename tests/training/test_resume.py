"""Nothing is lost: a run that was killed, stopped or interrupted goes on and ends as if it had not been."""

import itertools
import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch

import minuteloop
from minuteloop import compose
from minuteloop.data.device_loader import DeviceLoader
from minuteloop.records import record
from minuteloop.training import checkpoint, resume
from minuteloop.training.classifier import Classifier
from minuteloop.training.timing import Progress
from minuteloop.validation import ConfigError

ROOT = Path(__file__).parents[2]
RUN = sys.modules["minuteloop.training.run"]  # the attribute of this name is the function
# 20 steps an epoch; evaluated after step 31, logged after step 50; EMA, mixing, drop path and batch norm's statistics
SMALL = [
    "data=sample",
    "data.holdout=1360",
    "recipe.batch_size=32",
    "recipe.strength=0.5",
    "evaluations=2",
    "threads=1",
]
SMALL += ["logger=none", "arch=resnet18", "size.reduce=32", "size.depth=0.1", "size.width=0.0625"]
STEPS = 60
OPTIONS = [*SMALL, f"budget={STEPS}steps"]
KILLS = int(os.environ.get("MINUTELOOP_KILLS", "3"))  # random moments to kill at

training_step = Classifier.training_step
write = record.Record.write


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing stopped, and how long it took (seconds)."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    begin = time.perf_counter()
    minuteloop.run([*OPTIONS, f"hydra.run.dir={folder}"])
    return folder, time.perf_counter() - begin


def repeatable(folder: Path) -> dict:
    """A record less times, rates, memory and attempts."""
    content = read(folder)
    del content["seconds"], content["attempts"]
    del content["cost"]["images_per_second"], content["cost"]["peak_memory_bytes"]
    return content


def read(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def assert_equal(folder: Path, whole: Path) -> None:
    for name in ("model.safetensors", "metrics.csv", "config.yaml"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert repeatable(folder) == repeatable(whole)
    assert sorted(file.name for file in folder.iterdir()) == sorted(file.name for file in whole.iterdir())


def signal_in_step(monkeypatch, signum: int, step: int) -> None:
    def stopped(module, batch, batch_idx):
        if module.global_step + 1 == step:
            os.kill(os.getpid(), signum)
        return training_step(module, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", stopped)


def stop(monkeypatch, *options: str, step: int = 25, signum: int = signal.SIGTERM) -> None:
    """A run that a signal ends in one of its steps."""
    with monkeypatch.context() as patch:
        signal_in_step(patch, signum, step)
        with pytest.raises(SystemExit) as stopped:
            minuteloop.run([*OPTIONS, *options])
    assert stopped.value.code == 128 + signum


# --- stopped and resumed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step", [1, 19, 20, 31, 50, 59]
)  # first, around an epoch's end, evaluated, logged, last but one
def test_a_run_stopped_by_sigterm_goes_on_bit_for_bit(here, whole, monkeypatch, step):
    stop(monkeypatch, "hydra.run.dir=mine", step=step)
    content = read(here / "mine")
    assert content["status"] == "interrupted" and content["error"] == "Stopped: SIGTERM" and not content["metrics"]
    before = content["seconds"]["train"]
    content = minuteloop.run([*OPTIONS, "hydra.run.dir=mine", "resume=true"])
    assert content["attempts"] == 2 and content["status"] == "finished"
    assert f"attempt 2: going on after step {step}\n" in (here / "mine/log.txt").read_text()
    seconds = content["seconds"]
    assert seconds["train"] > before > 0
    assert sum(seconds[phase] for phase in seconds if phase != "total") == pytest.approx(seconds["total"], rel=1e-6)
    assert_equal(here / "mine", whole[0])


def test_checkpoints_change_nothing_and_are_left_only_by_unfinished_runs(here, whole, monkeypatch):
    saved = []

    def counted(self, name, content):
        saved.append(name)
        write(self, name, content)

    monkeypatch.setattr(record.Record, "write", counted)
    monkeypatch.setattr(checkpoint, "EVERY", 0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    assert saved.count("last.ckpt") == STEPS - 1
    assert_equal(here / "mine", whole[0])


def test_checkpoints_take_a_small_share_of_the_time(here, monkeypatch):
    saved = []

    def slow(self, name, content):
        if name == "last.ckpt":
            saved.append(time.perf_counter())
            time.sleep(0.05)
        write(self, name, content)

    monkeypatch.setattr(record.Record, "write", slow)
    monkeypatch.setattr(checkpoint, "EVERY", 0)
    monkeypatch.setattr(checkpoint, "SHARE", 0.2)
    content = minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    assert len(saved) >= 2 and min(b - a for a, b in itertools.pairwise(saved)) >= 0.25
    assert content["seconds"]["log"] >= 0.05 * len(saved), "off the training clock"


def test_a_timed_run_keeps_its_frozen_plan(here, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RUN, "measure_rate", lambda *_: types.SimpleNamespace(steps_per_second=20.0, first_seconds=0.0))
        stop(monkeypatch, "budget=2s", "hydra.run.dir=mine", step=3)

    def measured(*_):
        pytest.fail("measured again")

    monkeypatch.setattr(RUN, "measure_rate", measured)
    plan = read(here / "mine")["plan"]
    timed = minuteloop.run([*OPTIONS, "budget=2s", "hydra.run.dir=mine", "resume=true"])
    assert timed["plan"] == plan and timed["seconds"]["calibrate"] > 0
    minuteloop.run([*OPTIONS, f"budget={plan['steps']}steps", "hydra.run.dir=again"])
    for name in ("model.safetensors", "metrics.csv"):
        assert (here / "mine" / name).read_bytes() == (here / "again" / name).read_bytes()


def test_an_attempt_that_fails_before_training_loses_nothing(here, whole, monkeypatch):
    def broken(*_):
        raise RuntimeError("no such device")

    stop(monkeypatch, "hydra.run.dir=mine")
    before = read(here / "mine")
    with monkeypatch.context() as patch:
        patch.setattr(minuteloop.hardware, "resolve_auto", broken)
        with pytest.raises(RuntimeError):
            minuteloop.run([*OPTIONS, "resume=mine"])
    after = read(here / "mine")
    assert after["attempts"] == 2 and after["error"] == "RuntimeError: no such device"
    assert (after["plan"], after["config"]) == (before["plan"], before["config"])
    assert minuteloop.run([*OPTIONS, "resume=mine"])["attempts"] == 3
    assert_equal(here / "mine", whole[0])


def test_a_machine_setting_stays_what_it_was_at_first(here, monkeypatch):
    """bf16 or fp32 and the number of threads change the sums."""
    options = [option for option in OPTIONS if option != "threads=1"]
    monkeypatch.setattr(minuteloop.hardware, "free_threads", lambda: 1)
    monkeypatch.setattr(minuteloop.hardware, "has_fast_bf16", lambda device: False)
    monkeypatch.setattr(sys.modules[__name__], "OPTIONS", options)
    stop(monkeypatch, "hydra.run.dir=mine")
    monkeypatch.setattr(minuteloop.hardware, "free_threads", lambda: 2)
    monkeypatch.setattr(minuteloop.hardware, "has_fast_bf16", lambda device: True)
    config = minuteloop.run([*options, "hydra.run.dir=mine", "resume=true", "logger.tags=[late]"])["config"]
    assert (config["threads"], config["precision"]) == (1, "fp32") and config["logger"]["tags"] == ["late"]


def test_a_checkpoint_is_tensors_and_plain_values(here, monkeypatch):
    stop(monkeypatch, "hydra.run.dir=mine")
    state = torch.load(here / "mine/last.ckpt", weights_only=True)
    assert state["global_step"] == 25 and "net.head.linear.weight" in state["state_dict"]
    assert any("averages" in kept for kept in state["callbacks"].values())


def test_own_training_loops_resume_in_mid_epoch_too():
    images, labels = torch.zeros(100, 3, 2, 2, dtype=torch.uint8), torch.arange(100)

    def order(met):
        loader = DeviceLoader(images, labels, torch.arange(100), 25, seed=3, epoch=lambda: 1, met=lambda: met)
        return [batch.tolist() for _, batch in loader]

    assert order(3) == order(0)[3:] and len(order(3)) == 1


# --- killed -----------------------------------------------------------------------------------------------------


def attempt(folder: Path, connection, where: str, count: int) -> None:
    """In a process of its own: trains with a checkpoint after each step, and dies in one of them if `where` says so."""

    def announced(module, batch, batch_idx):
        connection.send(module.global_step)
        return training_step(module, batch, batch_idx)

    def dies(self, name, content):
        nonlocal count
        count -= name == "last.ckpt"
        if count == 0 and name == "last.ckpt":
            if where == "write":
                (self.folder / "last.ckpt.tmp").write_bytes(content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
            setattr(os if where == "fsync" else Path, where, kill)
        write(self, name, content)

    checkpoint.EVERY, checkpoint.SHARE = 0, 1e9
    record.Record.write, Classifier.training_step = dies, announced
    connection.send(-1)
    minuteloop.run([*OPTIONS, f"hydra.run.dir={folder}"])


def moments() -> list:
    drawn = random.Random(0)
    inside = [(where, drawn.randint(1, STEPS - 1)) for where in ("write", "fsync", "replace")]
    return [*inside, *(("time", drawn.uniform(-1, STEPS - 5)) for _ in range(KILLS))]


@pytest.mark.parametrize(("where", "when"), moments())
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(tmp_path, whole, where, when):
    """Inside the `when`-th checkpoint, or some time within or between two steps; -1 to 0 is before the first."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["minuteloop.training.checkpoint", "minuteloop.training.classifier"])
    ours, theirs = processes.Pipe()
    folder = tmp_path / "mine"
    process = processes.Process(target=attempt, args=(folder, theirs, where, when if where != "time" else 0))
    process.start()
    theirs.close()
    if where == "time":
        while ours.recv() < math.floor(when):
            pass
        time.sleep((when - math.floor(when)) * (whole[1] / STEPS if when > 0 else 1.0))
        process.kill()
    process.join(timeout=300)
    assert process.exitcode == -signal.SIGKILL
    if where != "time":
        assert (folder / "last.ckpt.tmp").exists() and ((folder / "last.ckpt").exists() or when == 1)
    was_there = (folder / "result.json").exists()
    content = minuteloop.run([*OPTIONS, f"hydra.run.dir={folder}", "resume=true"])
    assert content["attempts"] == 1 + was_there
    assert_equal(folder, whole[0])


# --- signals ----------------------------------------------------------------------------------------------------


def test_ctrl_c_evaluates_and_can_be_resumed(here, whole, monkeypatch):
    with monkeypatch.context() as patch:
        signal_in_step(patch, signal.SIGINT, 20)
        content = minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    assert content["status"] == "interrupted" and "test/acc" in content["metrics"] and content["error"] is None
    assert minuteloop.load("mine").training is False
    minuteloop.run([*OPTIONS, "hydra.run.dir=mine", "resume=true"])
    assert_equal(here / "mine", whole[0])


def test_a_second_ctrl_c_stops_at_once(here, monkeypatch):
    def twice(module, batch, batch_idx):
        if module.global_step == 20:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("went on")
        return training_step(module, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", twice)
    with pytest.raises(SystemExit) as stopped:
        minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    assert stopped.value.code == 130 and read(here / "mine")["status"] == "interrupted"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["resolve_auto", "measure_rate", "test_step"])
def test_a_signal_outside_training_stops_at_once_with_its_code(here, monkeypatch, signum, where):
    """In setup, inside calibration's own trainer, and in the last evaluation."""

    def stopped(*_):
        os.kill(os.getpid(), signum)
        pytest.fail("went on")

    with monkeypatch.context() as patch:
        if where == "resolve_auto":
            patch.setattr(minuteloop.hardware, "resolve_auto", stopped)
        else:
            patch.setattr(Classifier, "test_step" if where == "test_step" else "training_step", stopped)
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            minuteloop.run(
                [*OPTIONS, "budget=1s" if where == "measure_rate" else "budget=3steps", "hydra.run.dir=mine"]
            )
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert ended.value.code == 128 + signum
    content = read(here / "mine")
    assert content["status"] == "interrupted" and content["error"] == f"Stopped: {signal.Signals(signum).name}"
    if where == "resolve_auto":
        assert minuteloop.run([*OPTIONS, "budget=3steps", "hydra.run.dir=mine", "resume=true"])["attempts"] == 2


def test_sigterm_on_the_command_line_exits_with_143(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), *SMALL, "budget=100000steps", "hydra.run.dir=mine"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while process.poll() is None and not (tmp_path / "mine/metrics.csv").exists():
            time.sleep(0.1)
        process.terminate()
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 143 and "Traceback" not in told, told
    assert "interrupted, not evaluated" in told and read(tmp_path / "mine")["status"] == "interrupted"


# --- what is resumed --------------------------------------------------------------------------------------------


def test_the_command_line_goes_on_in_the_old_folder_and_leaves_no_new_one(here, whole, monkeypatch):
    stop(monkeypatch)
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *OPTIONS, "resume=true"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (folder,) = here.glob("runs/*/*")
    assert read(folder)["attempts"] == 2
    assert_equal(folder, whole[0])


def test_a_multirun_goes_on_with_its_unfinished_cells(here, whole, monkeypatch):
    stop(monkeypatch, "hydra.run.dir=runs/first/cell-0")
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "-m", *OPTIONS, "resume=true"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    cell = here / "runs/first/cell-0"
    assert [path.parent for path in here.glob("runs/*/*/result.json")] == [cell]
    assert not [*here.glob("runs/*/resnet*")]
    (sweep,) = (path.parent for path in here.glob("runs/*/table.md"))
    for name in ("config.yaml", "result.json"):  # a cell is logged in the group of its sweep
        text = (cell / name).read_text()
        assert sweep.name in text
        (cell / name).write_text(text.replace(f'"{sweep.name}"', "null").replace(sweep.name, "null"))
    assert_equal(cell, whole[0])


def test_true_takes_the_newest_unfinished_run_of_the_same_config(here, monkeypatch):
    def left(name: str, seed: int, status: str, age: float) -> Path:
        folder = here / "runs/mine" / name
        folder.mkdir(parents=True)
        hashed = record.config_hash(compose([*OPTIONS, f"seed={seed}"]))
        content = {"schema": 1, "config_hash": hashed, "status": status}
        (folder / "result.json").write_text(json.dumps(content))
        os.utime(folder / "result.json", (time.time() - age,) * 2)
        return folder

    older, newer = left("a", 0, "interrupted", 30), left("b", 0, "failed", 20)
    left("c", 0, "finished", 10)
    left("d", 0, "overrun", 5)
    left("e", 1, "failed", 0)
    (here / "runs/mine/f").mkdir()
    (here / "runs/mine/f/result.json").write_text("not json")
    asked, given = compose([*OPTIONS, "resume=true"]), here / "runs/mine/new"
    found = [folder.name for folder, _ in record.find(here, record.config_hash(asked))]
    assert found == ["d", "c", "b", "a"]
    assert resume.folder_for(asked, given) == newer
    with resume.locked(newer):  # by a process that still trains
        assert resume.folder_for(asked, given) == older
        with pytest.raises(ConfigError, match="another process"):
            minuteloop.run([*OPTIONS, f"resume={newer}"])
    assert resume.folder_for(compose([*OPTIONS, "seed=2", "resume=true"]), given) == given
    assert resume.folder_for(compose(OPTIONS), given) == given


def test_where_nothing_can_be_resumed_a_run_starts_and_says_so(here):
    content = minuteloop.run([*OPTIONS, "budget=2steps", "resume=true"])
    (log,) = here.glob("runs/*/*/log.txt")
    assert content["attempts"] == 1 and "no unfinished run of this config" in log.read_text()


def test_where_there_is_no_checkpoint_yet_it_starts_over_with_the_frozen_plan(here, whole, monkeypatch):
    def killed(*_, **__):
        raise RuntimeError("dead")

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_train_batch_end", killed)
        with pytest.raises(RuntimeError):
            minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    assert minuteloop.run([*OPTIONS, "resume=mine"])["attempts"] == 2
    assert "attempt 2: no checkpoint yet, so it starts over" in (here / "mine/log.txt").read_text()
    assert_equal(here / "mine", whole[0])


def test_a_folder_that_cannot_be_resumed_is_refused_in_one_line(here, whole, monkeypatch):
    (here / "bad").mkdir()
    (here / "bad/result.json").write_text("{")
    stop(monkeypatch, "hydra.run.dir=mine", step=2)
    refused = {
        ("resume=nowhere",): "resume=nowhere: no such folder; true, false or the folder of a run",
        (f"resume={whole[0].parent}",): r"no run left its record there \(result.json: No such file",
        ("resume=bad",): "resume=bad: its result.json is no record",
        (f"resume={whole[0]}",): "that run is finished, nothing is left to resume",
        ("resume=mine", "seed=7"): "resume=mine: is a run of another config, with seed=0, not 7",
        ("resume=true", "hydra.run.dir=mine", "recipe.lr=1e-3"): "another config, with recipe.lr=auto, not 0.001",
        ("hydra.run.dir=mine",): "hydra.run.dir=mine: holds the record of another run",
        ("resume=",): "resume=, not true, false or a run's folder",
        ("resume=3",): "resume=3, not true, false or a run's folder",
    }
    for options, told in refused.items():
        with pytest.raises(ConfigError, match=told) as error:
            minuteloop.run([*OPTIONS, *options])
        assert "\n" not in str(error.value)
    (here / "mine/last.ckpt").write_bytes(b"garbage")
    with pytest.raises(ConfigError, match=r"mine/last.ckpt: no checkpoint \(.*\); delete it to start the run over"):
        minuteloop.run([*OPTIONS, "resume=mine"])
    assert sorted(file.name for file in here.iterdir()) == ["bad", "mine"]


def test_other_code_is_told_in_the_record(here, monkeypatch):
    stop(monkeypatch, "hydra.run.dir=mine", step=2)
    before = read(here / "mine")["code"]["hash"]
    code = {"version": "9", "hash": "new", "commit": None, "dirty": None}
    monkeypatch.setattr(minuteloop.hardware, "code", lambda recipe: code)
    assert minuteloop.run([*OPTIONS, "resume=mine"])["code"]["hash"] == f"{before}+new"
    assert code["hash"] == "new", "the next run's is its own"
    assert "attempt 2; the code has changed since" in (here / "mine/log.txt").read_text()
