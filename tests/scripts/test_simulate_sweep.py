"""scripts/simulate_sweep.py against closed forms."""

import dataclasses
import math

import pytest
import simulate_sweep
from simulate_sweep import Cluster, simulate

from minuteloop.training import checkpoint

IDEAL = Cluster(devices=4, cold=12.0, warm=7.0, queue=0.0, start=0.0, failure=math.inf, requeue=120.0, lost=3.0)


@pytest.mark.parametrize(
    ("cells", "cells_per_task", "seconds"),
    [
        (1, 1, 72),
        (4, 1, 72),
        (5, 1, 144),
        (40, 10, 12 + 9 * 7 + 10 * 60),  # one task a device
        (41, 10, 12 + 9 * 7 + 10 * 60 + 72),
        (20, 100, 12 + 19 * 7 + 20 * 60),  # three devices have nothing
    ],
)
def test_without_queue_and_failures_tasks_fill_the_devices_in_turn(cells, cells_per_task, seconds):
    outcome = simulate(cells, 60.0, cells_per_task, IDEAL)
    assert outcome.seconds == pytest.approx(seconds) and outcome.failures == 0
    assert outcome.used == pytest.approx(cells * 60 / (4 * seconds))


def test_scheduler_that_starts_a_task_every_ten_seconds_bounds_short_tasks():
    slow = dataclasses.replace(IDEAL, devices=100, start=10.0)
    assert simulate(1000, 60.0, 1, slow).seconds == pytest.approx(999 * 10 + 72)


def test_queue_adds_its_mean_to_every_task_but_the_first_of_a_device():
    one = dataclasses.replace(IDEAL, devices=1, queue=30.0)
    outcome = simulate(2000, 60.0, 1, one)
    assert outcome.seconds == pytest.approx(2000 * 72 + 1999 * 30, rel=0.02)  # 0.7 s std of a mean of 30


def test_failures_come_at_their_rate_and_cost_a_start_and_at_most_a_checkpoint():
    """On one device: each failure waits 120 s (or for what else there is to do) and repeats at most cold + lost."""
    failing = dataclasses.replace(IDEAL, devices=1, failure=3600.0)
    ideal, outcome = (simulate(2000, 60.0, 20, cluster) for cluster in (dataclasses.replace(IDEAL, devices=1), failing))
    assert outcome.failures == pytest.approx(outcome.seconds / 3600, rel=0.3)  # 6 % std
    assert 0 < outcome.seconds - ideal.seconds < outcome.failures * (12 + 3 + 60 + 7)
    assert outcome.used < ideal.used


def test_every_cell_trains_once_whatever_fails():
    """The devices' busy time has all the training in it."""
    failing = dataclasses.replace(IDEAL, failure=200.0)
    outcome = simulate(100, 60.0, 5, failing)
    assert outcome.failures > 10 and outcome.seconds * 4 > 100 * 60 and outcome.used < 1


def test_time_between_checkpoints_is_that_of_a_run():
    assert simulate_sweep.CHECKPOINT == checkpoint.EVERY
