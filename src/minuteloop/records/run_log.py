"""Log messages of a run: on the terminal and in its log.txt, through the logger "minuteloop"."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from minuteloop.records.record import named_os_errors

log = logging.getLogger("minuteloop")
CLEAR_LINE = "\r\x1b[K"


class _Plain(logging.Formatter):
    """The message alone; from WARNING on with its level before it."""

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        return f"{record.levelname.lower()}: {message}" if record.levelno >= logging.WARNING else message


class _Timed(_Plain):
    """The same after the time of day."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record, '%H:%M:%S')} {super().format(record)}"


class _Terminal(logging.Handler):
    """Writes above a progress bar; output that cannot be shown (a closed pipe, a lost terminal) is dropped.

    A terminal's line is cleared first: the bar of another cell's process may be there, or the ^C that a key left. With
    a `cell`, its name is before each message.
    """

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.cell = cell

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            text = self.format(record)
            if self.cell:
                text = f"{self.cell}:" + ("\n" if "\n" in text else " ") + text
            tqdm.write((CLEAR_LINE if sys.stdout.isatty() else "") + text, file=sys.stdout)
            sys.stdout.flush()


class _File(logging.Handler):
    """Appends to a file. Raises OSError, which names the file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        with named_os_errors(self.path), self.path.open("a") as file:
            file.write(self.format(record) + "\n")


@contextlib.contextmanager
def logging_to(path: Path | None = None, cell: str = "") -> Iterator[None]:
    """Show log messages on the terminal, and append them to the file `path`, inside `with`.

    `cell` is the name of the cell of a sweep that logs them.
    """
    handlers: list[logging.Handler] = []
    if not any(isinstance(handler, _Terminal) for handler in log.handlers):
        handlers.append(_Terminal(cell))
        handlers[-1].setFormatter(_Plain())
    if path:
        handlers.append(_File(path))
        handlers[-1].setFormatter(_Timed())
    level, propagate, disabled = log.level, log.propagate, log.disabled
    log.setLevel(logging.INFO)
    log.propagate = log.disabled = False  # some of Hydra's logging presets disable every logger
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
        log.setLevel(level)
        log.propagate, log.disabled = propagate, disabled
