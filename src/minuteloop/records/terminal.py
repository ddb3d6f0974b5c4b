"""stdout and stderr of a command, which may go away while it runs."""

from __future__ import annotations

import contextlib
import io
import os
import sys


class _LossyFile(io.FileIO):
    """A file descriptor that drops what it cannot write: a lost terminal, a closed pipe, a full disk."""

    def write(self, data) -> int:
        """Return the number of bytes written or dropped."""
        with contextlib.suppress(OSError):
            if (written := super().write(data)) is not None:  # None: the write would block
                return written
        return len(data)


class _LossyStream(io.TextIOWrapper):
    """Text on a file descriptor; characters that the encoding lacks are escaped."""

    def __init__(self, descriptor: int, encoding: str) -> None:
        file = _LossyFile(descriptor, "w", closefd=False)
        super().__init__(io.BufferedWriter(file), encoding, "backslashreplace", line_buffering=True)


def drop_lost_output() -> None:
    """Replace stdout and stderr by streams that never fail, so that a command survives its terminal.

    A closed descriptor becomes /dev/null, so that no file of the run gets its number. Streams that a program has put in
    place of its own are left alone.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
        stream = getattr(sys, name)
        if name == "stdin" or isinstance(stream, _LossyStream) or stream is not getattr(sys, f"__{name}__"):
            continue
        with contextlib.suppress(OSError, AttributeError):  # None where the descriptor was closed
            stream.flush()
        lossy = _LossyStream(descriptor, getattr(stream, "encoding", "utf-8"))
        setattr(sys, name, lossy)
        setattr(sys, f"__{name}__", lossy)  # which the interpreter flushes at exit
