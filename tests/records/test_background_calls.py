"""BackgroundCalls: in order, beside the caller, and without an error that reaches it."""

import logging
import sys
import threading
import time

from minuteloop.records import background_calls
from minuteloop.records.background_calls import BackgroundCalls


def messages(caplog) -> list[str]:
    return [f"{record.levelname}: {record.getMessage()}" for record in caplog.records]


def test_calls_run_in_order_on_a_thread_of_their_own(caplog):
    results, calls = [], BackgroundCalls("it")
    for index in range(100):
        calls.submit(lambda index=index: results.append((index, threading.current_thread().name)))
    assert calls.wait(lambda: len(results), 10) == 100
    assert results == [(index, "it") for index in range(100)] and not messages(caplog)
    calls.close()


def test_calls_after_a_failure_are_skipped_except_the_last(caplog):
    """A library's sys.exit() is a failure too."""
    results, calls = [], BackgroundCalls("it")
    calls.submit(lambda: sys.exit("gone"))
    calls.submit(lambda: results.append(1))
    assert calls.wait(lambda: results.append(2), 10) is None
    assert calls.wait(lambda: "ended", 10, always=True) == "ended"
    assert not results and messages(caplog) == ["WARNING: it failed and is skipped from now on: gone"]
    calls.close()


def test_call_that_exceeds_its_deadline_is_not_waited_for(caplog):
    caplog.set_level(logging.INFO)
    results, gate, calls = [], threading.Event(), BackgroundCalls("it")
    calls.submit(gate.wait)
    begin = time.monotonic()
    calls.submit(lambda: results.append("late"))
    assert calls.wait(lambda: 1, 0.2) is None
    assert 0.2 <= time.monotonic() - begin < 2
    gate.set()
    assert calls.wait(lambda: "ended", 10, always=True) == "ended"
    assert not results
    assert messages(caplog) == ["WARNING: it failed and is skipped from now on: no answer within 0.2 s"]
    calls.close()


def test_long_wait_is_announced(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(background_calls, "NOTICE", 0.1)
    calls = BackgroundCalls("it")
    assert calls.wait(lambda: time.sleep(0.3) or "slow", 5.1) == "slow"
    assert calls.wait(lambda: "fast", 5) == "fast"
    calls.close()
    assert messages(caplog) == ["INFO: it: no answer yet; waiting for at most 5 s more"]
