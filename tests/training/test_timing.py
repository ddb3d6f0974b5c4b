"""Rate in closed form on a fake clock; training seconds without evaluation; the stopwatch's stages."""

import time
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from minuteloop.training import timing
from minuteloop.training.stopwatch import Stopwatch
from minuteloop.training.timing import Clock, Rate


@pytest.fixture
def fake_time(monkeypatch) -> SimpleNamespace:
    """A clock that the test advances: `now` in seconds."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    return clock


def run_steps(rate: Rate, fake_time: SimpleNamespace, durations: list[float]) -> int:
    """Return after how many steps of these seconds the rate stops the trainer."""
    trainer = SimpleNamespace(should_stop=False)
    rate.on_train_start(trainer)
    for steps, seconds in enumerate(durations, start=1):
        fake_time.now += seconds
        rate.on_train_batch_end(trainer)
        if trainer.should_stop:
            return steps
    raise AssertionError("the rate never stopped the trainer")


def test_rate_leaves_out_warmup_steps_and_counts_for_its_seconds(fake_time):
    rate = Rate(seconds=1.0)
    warmup = [5.0, 0.5, 0.5]
    assert len(warmup) == timing.WARMUP_STEPS
    assert run_steps(rate, fake_time, [*warmup, *[0.25] * 100]) == 3 + 4
    assert rate.steps_per_second == pytest.approx(4.0) and rate.counted == 4
    assert rate.first_seconds == pytest.approx(6.0), "which include compiling"
    assert not rate.is_slow


def test_rate_counts_its_least_steps_even_without_seconds(fake_time):
    rate = Rate(seconds=0.0)
    assert run_steps(rate, fake_time, [0.5] * 100) == timing.WARMUP_STEPS + timing.COUNTED_STEPS
    assert rate.steps_per_second == pytest.approx(2.0)


def test_rate_of_slow_steps_needs_three_steps_only(fake_time):
    """One that may compile, one to see that steps are slow, one that counts."""
    rate = Rate(seconds=1.0, patience=6.0)
    assert run_steps(rate, fake_time, [90.0, 20.0, 10.0, 10.0]) == 3
    assert rate.is_slow and rate.counted == 1
    assert rate.steps_per_second == pytest.approx(0.1) and rate.first_seconds == pytest.approx(110.0)


def test_rate_that_runs_out_of_patience_while_counting_stops(fake_time):
    rate = Rate(seconds=100.0, patience=3.5)
    assert run_steps(rate, fake_time, [1.0] * 100) == 5
    assert rate.is_slow and rate.counted == 2 and rate.steps_per_second == pytest.approx(1.0)


def test_rate_of_fast_steps_is_measured_for_its_seconds_however_short_the_patience(fake_time):
    rate = Rate(seconds=1.0, patience=0.5)
    assert run_steps(rate, fake_time, [0.125] * 100) == timing.WARMUP_STEPS + 8
    assert rate.counted == 8 and not rate.is_slow


def test_training_seconds_leave_out_evaluation(fake_time):
    trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING), sanity_checking=False, should_stop=False)
    clock = Clock(budget=10.0)

    def pass_time(seconds: float) -> None:
        fake_time.now += seconds

    pass_time(2)
    clock.on_train_start(trainer)
    pass_time(6)
    assert clock.now() == pytest.approx(6)
    clock.on_validation_start(trainer)
    pass_time(30)
    clock.on_validation_end(trainer)
    pass_time(3)
    clock.on_train_batch_end(trainer)
    assert clock.now() == pytest.approx(9) and not trainer.should_stop
    clock.on_train_end(trainer)
    assert clock.seconds == pytest.approx(9) and not clock.is_late
    seconds = clock.stopwatch.seconds
    assert (seconds["setup"], seconds["eval"], seconds["total"]) == pytest.approx((2, 30, 41))


def test_clock_warns_above_its_budget_and_stops_the_run_at_twice(fake_time):
    trainer, clock = SimpleNamespace(should_stop=False), Clock(budget=10.0)
    clock.on_train_start(trainer)
    fake_time.now += 19.9
    clock.on_train_batch_end(trainer)
    assert not clock.overrun and not trainer.should_stop
    fake_time.now += 0.2
    clock.on_train_batch_end(trainer)
    assert clock.overrun and trainer.should_stop
    clock.on_train_end(trainer)
    assert clock.is_late


def test_training_seconds_of_a_real_fit_leave_out_evaluation():
    from pytorch_lightning.demos.boring_classes import BoringModel

    class SlowValidation(pl.Callback):
        def on_validation_batch_start(self, *_):
            time.sleep(0.2)

    clock = Clock()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu",
        enable_model_summary=False,
        max_steps=4,
        val_check_interval=2,
        limit_val_batches=2,
        callbacks=[clock, SlowValidation()],
        **quiet,
    )
    begin = time.perf_counter()
    trainer.fit(BoringModel())
    passed = time.perf_counter() - begin
    evaluation = clock.stopwatch.seconds["eval"]
    assert evaluation >= 0.8
    assert 0 < clock.seconds <= passed - evaluation


def test_stopwatch_books_time_inside_a_stage_to_another(fake_time):
    stopwatch = Stopwatch(started=90.0)
    stopwatch.lap("setup")
    fake_time.now += 8
    stopwatch.lap("calibrate", compile=5.0)
    seconds = stopwatch.seconds
    assert (seconds["setup"], seconds["calibrate"], seconds["compile"], seconds["total"]) == (10, 3, 5, 18)
    stopwatch.add({"train": 4.0, "total": 4.0})
    assert sum(seconds[stage] for stage in seconds if stage != "total") == seconds["total"] == 22
