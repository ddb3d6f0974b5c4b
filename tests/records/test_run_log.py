"""Log messages reach the terminal and log.txt once, whatever logging presets do."""

import io
import logging
import sys

from minuteloop.records.run_log import log, logging_to


def test_messages_reach_terminal_and_file_once_even_when_nested_or_disabled(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(log, "disabled", True)  # as logging.config does with disable_existing_loggers
    with logging_to(), logging_to(tmp_path / "log.txt"):
        log.info("step 1")
        log.warning("late")
    assert capsys.readouterr().out == "step 1\nwarning: late\n"
    assert [line.partition(" ")[2] for line in (tmp_path / "log.txt").read_text().splitlines()] == [
        "step 1",
        "warning: late",
    ]
    assert log.disabled and log.handlers == []
    log.error("after")
    assert capsys.readouterr().out == "" and log.level == logging.NOTSET


def test_messages_of_a_cell_have_its_name_and_clear_the_line_of_a_terminal(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for terminal, clear in ((Terminal(), "\r\x1b[K"), (io.StringIO(), "")):
        monkeypatch.setattr(sys, "stdout", terminal)
        with logging_to(tmp_path / "log.txt", cell="resnet18-plain-3"):
            log.info("step 1")
            log.info("  a table\n  of two lines")
        name = f"{clear}resnet18-plain-3"
        assert terminal.getvalue() == f"{name}: step 1\n{name}:\n  a table\n  of two lines\n"
    assert "resnet18" not in (tmp_path / "log.txt").read_text()
