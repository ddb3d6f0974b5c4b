"""Cells side by side on several CUDA devices, by the environment: no device is needed."""

import multiprocessing
import os

import pytest
import torch

from minuteloop.study import device_slots


@pytest.fixture
def two_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def take(sweep, results, end):
    results.put((device_slots.take_device(sweep), os.environ.get("CUDA_VISIBLE_DEVICES")))
    end.wait()


class Cells:
    """Processes that have a device until they end."""

    def __init__(self, sweep):
        self.context = multiprocessing.get_context("fork")
        self.sweep, self.processes = sweep, []

    def start(self):
        results, end = self.context.Queue(), self.context.Event()
        process = self.context.Process(target=take, args=(self.sweep, results, end))
        process.start()
        self.processes.append((process, end))
        return results.get(timeout=30)

    def end(self, number, kill=False):
        process, end = self.processes[number]
        process.kill() if kill else end.set()
        process.join()


def test_cells_are_spread_over_the_devices_and_a_free_one_is_taken_first(tmp_path, two_devices):
    cells = Cells(tmp_path)
    assert [cells.start() for _ in range(5)] == [(name, name) for name in "01010"]
    cells.end(1, kill=True)
    assert cells.start() == ("1", "1"), "the first place that is free"
    cells.end(0)
    cells.end(2)
    assert [cells.start() for _ in range(2)] == [("0", "0"), ("0", "0")]
    for number in range(3, len(cells.processes)):
        cells.end(number)


def test_only_devices_that_the_process_may_see_are_used(tmp_path, two_devices, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8f3a")
    cells = Cells(tmp_path)
    assert [cells.start() for _ in range(3)] == [(name, name) for name in ("5", "GPU-8f3a", "5")]
    for number in range(3):
        cells.end(number)


@pytest.mark.parametrize("count", [0, 1])
def test_without_a_choice_nothing_changes(tmp_path, monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    cells = Cells(tmp_path)
    assert cells.start() == (None, "3") and not list(tmp_path.iterdir())
    cells.end(0)
