"""The progress bar on a fake terminal, and the log line of each evaluation."""

import contextlib
import fcntl
import io
import logging
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from types import SimpleNamespace

import pytest
from small_run import OPTIONS, SMALL, TRAIN, training_step

import minuteloop
from minuteloop import compose
from minuteloop.training import progress
from minuteloop.training.classifier import Classifier
from minuteloop.training.run import train


class Terminal(io.StringIO):
    """A file that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch) -> Terminal:
    """Return the terminal that stdout and stderr are from now on; the bar is redrawn at every step.

    Not a fixture: pytest sets both between a test's fixtures and its body.
    """
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "REFRESH", 0.0)
    monkeypatch.setenv("TQDM_MININTERVAL", "0")
    monkeypatch.setenv("COLUMNS", "160")
    return terminal


def bars(terminal: Terminal) -> list[str]:
    """Return every state of the bar."""
    parts = re.split(r"[\r\n]", terminal.getvalue().replace(progress.ROOM, ""))
    return [part.strip() for part in parts if "%|" in part]


def test_bar_shows_name_loss_accuracy_images_per_second_and_one_remaining_time(cwd, monkeypatch):
    terminal = use_terminal(monkeypatch)
    minuteloop.run([*OPTIONS, "name=my run", "hydra.run.dir=mine"])
    last = bars(terminal)[-1]
    pattern = r"my run +\d+%\|.*\| \d+ of 60 steps, \d+ s left, [\d,]+ img/s, loss \d\.\d{3}, val/acc \d+\.\d\d %"
    assert re.fullmatch(pattern, last), last
    assert not re.search(r"\d\d:\d\d|it/s|\?", last), "tqdm's own estimates"
    assert all("nan" not in bar for bar in bars(terminal))


def test_bar_of_a_cell_has_its_name(cwd, monkeypatch):
    """The cells of a sweep over seeds have one config name."""
    terminal = use_terminal(monkeypatch)
    train(compose([*OPTIONS, "budget=2steps"]), cwd / "resnet18-deit-3", cell="resnet18-deit-3")
    assert bars(terminal) and all(bar.startswith("resnet18-deit-3 ") for bar in bars(terminal))


def test_time_left_ends_where_the_run_will_be_stopped():
    clock = SimpleNamespace(limit=120.0, now=lambda: 50.0, seconds_left=lambda step, steps: 8.0 * (steps - step))
    bar = progress.Progress("mine", 100, 32, clock)
    assert bar._time_left(92) == "64 s left"
    assert bar._time_left(90) == "70 s left (stopped at 2 times its budget)"


def test_log_line_of_an_evaluation_names_step_metrics_rate_and_time_left(cwd):
    minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    (line,) = [line for line in (cwd / "mine/log.txt").read_text().splitlines() if "step 31 of 60" in line]
    pattern = r"step 31 of 60: val/acc [\d.]+ %, val/loss [\d.]+, [\d,]+ images/s, \d+ s left"
    assert re.fullmatch(r"\d\d:\d\d:\d\d " + pattern, line), line


def test_log_lines_during_training_have_a_line_of_their_own(cwd, monkeypatch):
    def interrupt(module, batch, batch_idx):
        if module.global_step == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return training_step(module, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", interrupt)
    terminal = use_terminal(monkeypatch)
    minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    message = "interrupted: evaluating and saving; press Ctrl-C again to stop immediately"
    output = terminal.getvalue()
    assert bars(terminal) and output.count(message) == 1
    line = next(line for line in output.split("\n") if message in line)
    before, _, after = line.rpartition("\r")
    assert after == f"\x1b[K{message}", "tqdm.write clears the bar and returns to column 0 first"
    assert before.rpartition("\r")[2].strip() == "", "the bar's text is blanked"


def test_output_that_is_no_terminal_gets_no_bar(cwd, monkeypatch, capfd):
    minuteloop.run([*OPTIONS, "budget=3steps", "hydra.run.dir=mine"])
    captured = capfd.readouterr()
    assert "%|" not in captured.out + captured.err and "3 steps of 32 images" in captured.out
    assert not logging.getLogger("minuteloop").handlers


@pytest.mark.exhaustive
def test_ctrl_c_on_a_terminal_leaves_no_bar_behind(cwd):
    """The terminal echoes ^C into the two columns after the bar; the message clears that line."""
    terminal, ours = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [*TRAIN, *SMALL, "budget=100000steps", "hydra.run.dir=mine"]
    streams = {"stdin": ours, "stdout": ours, "stderr": ours}
    with subprocess.Popen(
        command, **streams, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    ) as process:
        os.close(ours)
        output, interrupted = b"", False
        with contextlib.suppress(OSError):  # the end, on Linux
            while chunk := os.read(terminal, 65536):
                output += chunk
                if b"loss" in output and not interrupted:
                    interrupted = os.write(terminal, b"\x03")
        assert process.wait(timeout=120) == 130
    os.close(terminal)
    text = output.decode()
    drawn = [part for part in re.split(r"[\r\n]", text) if "%|" in part]
    assert drawn and all(progress.ROOM in bar and len(bar.partition(progress.ROOM)[0]) <= 117 for bar in drawn)
    line = next(line for line in text.split("\n") if "interrupted:" in line)
    before, _, after = line.rpartition("\r\x1b[K")
    assert "^C" in before and after.strip().startswith("interrupted: evaluating and saving")
