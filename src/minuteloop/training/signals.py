"""Ctrl-C, SIGTERM, SIGUSR1, SIGUSR2: handled between two steps while training, else immediately. Imports no torch."""

from __future__ import annotations

import signal
import threading


class Stopped(SystemExit):
    """A signal ended the run; the exit code is 128 + its number, as shells report it.

    Lightning lets SystemExit through; it turns KeyboardInterrupt into exit code 1, and its own exception for SIGTERM
    exits with code 0.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    def __str__(self) -> str:
        return signal.Signals(self.signum).name


class Interrupt:
    """The handler of SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 inside `with`.

    The last two are Slurm's warning of a time limit: the user's --signal=USR1@60, and what submitit asks for.

    After `hold` the first signal is only noted in `signum`, for checkpoint.Checkpoint to act on between two steps. More
    of them change nothing, since Slurm sends several. Before that, and for a second Ctrl-C, Stopped is raised at once.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self) -> None:
        self.signum, self.holding, self.previous = None, False, {}

    def __enter__(self) -> Interrupt:
        self.previous = self._install()
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self.previous.items():
            signal.signal(signum, handler)

    def _install(self) -> dict:
        if threading.current_thread() is not threading.main_thread():
            return {}  # only the main thread may set handlers
        return {signum: signal.signal(signum, self._handle) for signum in self.SIGNALS}

    def _handle(self, signum: int, frame: object) -> None:
        if not self.holding or (self.signum is not None and signum == signal.SIGINT):
            raise Stopped(signum)
        self.signum = self.signum or signum

    def hold(self) -> None:
        """Defer signals to the end of the step; install the handler again, since a starting trainer replaces it."""
        self._install()
        self.holding = True

    def release(self) -> None:
        """Stop deferring signals; one of the last step, except Ctrl-C, raises Stopped now."""
        self.holding = False
        if self.signum and self.signum != signal.SIGINT:
            raise Stopped(self.signum)
