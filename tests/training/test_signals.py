"""Ctrl-C and SIGTERM: between two steps while training, immediately before and after."""

import os
import signal
import subprocess
import time

import pytest
from small_run import OPTIONS, SMALL, TRAIN, assert_same_run, read, signal_in_step, training_step

import minuteloop
from minuteloop.training import checkpoint, signals
from minuteloop.training.checksum import append_checksum
from minuteloop.training.classifier import Classifier


def test_ctrl_c_evaluates_and_the_run_can_be_resumed(cwd, reference, monkeypatch):
    with monkeypatch.context() as patch:
        signal_in_step(patch, signal.SIGINT, 20)
        content = minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    assert content["status"] == "interrupted" and content["error"] is None
    assert set(content["metrics"]) == {"val/acc", "val/loss"}
    assert minuteloop.load("mine").training is False
    minuteloop.run([*OPTIONS, "hydra.run.dir=mine", "resume=true"])
    assert_same_run(cwd / "mine", reference.folder)


@pytest.mark.parametrize("holdout", [0, 1360])
def test_test_set_is_read_once_however_often_the_run_is_interrupted(cwd, monkeypatch, holdout):
    read_after, test_step = [], Classifier.test_step

    def counted_test_step(module, batch, batch_idx):
        read_after.append(module.global_step)
        test_step(module, batch, batch_idx)

    monkeypatch.setattr(Classifier, "test_step", counted_test_step)
    overrides = [*OPTIONS, f"data.holdout={holdout}", "hydra.run.dir=mine", "logger.pictures=true"]
    for step, resume in ((20, "false"), (40, "true")):
        with monkeypatch.context() as patch:
            signal_in_step(patch, signal.SIGINT, step)
            content = minuteloop.run([*overrides, f"resume={resume}"])
        assert content["status"] == "interrupted" and ("val/acc" in content["metrics"]) == (holdout > 0)
        assert (cwd / "mine/pictures/confusion_matrix.png").exists() == (holdout > 0)
        assert (cwd / "mine/pictures/curves.png").exists() and minuteloop.load("mine").training is False
    content = minuteloop.run([*overrides, "resume=true"])
    assert content["status"] == "finished" and "test/acc" in content["metrics"]
    assert read_after == [60], "one batch of 1,000 images, once"


def test_second_ctrl_c_stops_immediately(cwd, monkeypatch):
    def interrupt_twice(module, batch, batch_idx):
        if module.global_step == 20:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("training continued")
        return training_step(module, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", interrupt_twice)
    with pytest.raises(SystemExit) as stopped:
        minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    assert stopped.value.code == 130 and read(cwd / "mine")["status"] == "interrupted"


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGUSR2])
def test_job_that_slurm_requeues_continues_where_the_signal_stopped_it(cwd, reference, monkeypatch, signum):
    """Slurm sends it before a time limit, then SIGTERM; the requeued job is the same command, with resume=true."""
    monkeypatch.setenv("SLURM_JOB_NAME", "x")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setattr("subprocess.call", lambda *_: pytest.fail("Lightning requeues the job"))
    command = [*OPTIONS, "hydra.run.dir=mine", "resume=true"]

    def interrupt_save(archive):
        os.kill(os.getpid(), signal.SIGTERM)
        append_checksum(archive)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        signal_in_step(patch, signum, 20)
        patch.setattr(checkpoint, "append_checksum", interrupt_save)
        minuteloop.run(command)
    assert stopped.value.code == 128 + signum and read(cwd / "mine")["error"] == f"Stopped: {signum.name}"
    assert (cwd / "mine/last.ckpt").exists() and read(cwd / "mine")["status"] == "interrupted"
    assert minuteloop.run(command)["attempts"] == 2
    assert_same_run(cwd / "mine", reference.folder)


STAGES = {
    "setup": ("minuteloop.hardware.resolve_auto", "budget=3steps"),
    "calibration": ("minuteloop.training.classifier.Classifier.training_step", "budget=1s"),
    "evaluation": ("minuteloop.training.classifier.Classifier.test_step", "budget=3steps"),
}


@pytest.mark.parametrize("signum", signals.Interrupt.SIGNALS)
@pytest.mark.parametrize("stage", STAGES)
def test_signal_outside_training_stops_immediately_with_its_exit_code(cwd, monkeypatch, signum, stage):
    function, budget = STAGES[stage]

    def interrupt(*_):
        os.kill(os.getpid(), signum)
        pytest.fail("the run continued")

    handlers = [signal.getsignal(signum) for signum in signals.Interrupt.SIGNALS]
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(function, interrupt)
        minuteloop.run([*OPTIONS, budget, "hydra.run.dir=mine"])
    assert [signal.getsignal(signum) for signum in signals.Interrupt.SIGNALS] == handlers
    assert stopped.value.code == 128 + signum
    content = read(cwd / "mine")
    assert content["status"] == "interrupted" and content["error"] == f"Stopped: {signal.Signals(signum).name}"
    if stage == "setup":
        assert minuteloop.run([*OPTIONS, "budget=3steps", "hydra.run.dir=mine", "resume=true"])["attempts"] == 2


def run_until(cwd, condition, signum: int) -> tuple[int, str]:
    """Start a long run on the command line, send it a signal once `condition()`, return exit code and output."""
    command = [*TRAIN, *SMALL, "budget=100000steps", "hydra.run.dir=mine"]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline and not condition():
            time.sleep(0.1)
        process.send_signal(signum)
        output, _ = process.communicate(timeout=120)
    assert "Traceback" not in output
    return process.returncode, output


def test_sigterm_on_the_command_line_exits_with_143(tmp_path):
    code, output = run_until(tmp_path, (tmp_path / "mine/metrics.csv").exists, signal.SIGTERM)
    assert code == 143, output
    assert "interrupted before evaluation: " in output and read(tmp_path / "mine")["status"] == "interrupted"


def test_ctrl_c_on_the_command_line_evaluates_saves_and_exits_with_130(tmp_path):
    curves = tmp_path / "mine/metrics.csv"
    code, output = run_until(
        tmp_path, lambda: curves.exists() and len(curves.read_text().splitlines()) > 1, signal.SIGINT
    )
    assert code == 130, output
    record = read(tmp_path / "mine")
    assert record["status"] == "interrupted" and "val/acc" in record["metrics"]
    assert 0 < record["steps"] < 100_000 and f"{record['steps']:,} of 100,000 steps" in output
    assert (tmp_path / "mine/model.safetensors").exists()
    assert "interrupted: evaluating and saving" in output
