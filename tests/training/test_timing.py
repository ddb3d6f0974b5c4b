"""Rate in closed form on a fake clock; training seconds without evaluation and pauses; the stopwatch's stages."""

import itertools
import logging
import os
import signal
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
    """A clock that the test advances: `now` in seconds, in which the process used `cpu` seconds of CPU time."""
    clock = SimpleNamespace(now=100.0, cpu=0.0)
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    monkeypatch.setattr("time.process_time", lambda: clock.cpu)
    return clock


def fake_trainer(steps: int = 1000) -> SimpleNamespace:
    return SimpleNamespace(
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        sanity_checking=False,
        should_stop=False,
        global_step=0,
        max_steps=steps,
    )


def take_step(clock: Clock, trainer: SimpleNamespace, fake_time: SimpleNamespace, seconds: float) -> None:
    """Take a step that keeps one core busy."""
    fake_time.now += seconds
    fake_time.cpu += seconds
    trainer.global_step += 1
    clock.on_train_batch_end(trainer)


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


def test_rate_of_slow_cold_steps_needs_three_steps_only(fake_time):
    """One that compiles, one to see that steps are slow, one that counts."""
    rate = Rate(seconds=1.0, patience=6.0, cold=True)
    assert run_steps(rate, fake_time, [90.0, 20.0, 10.0, 10.0]) == 3
    assert rate.is_slow and rate.counted == 1
    assert rate.steps_per_second == pytest.approx(0.1) and rate.first_seconds == pytest.approx(110.0)


def test_rate_of_slow_steps_that_are_not_cold_needs_two(fake_time):
    rate = Rate(seconds=1.0, patience=0.4)
    assert run_steps(rate, fake_time, [3.0, 2.0, 2.0]) == 2
    assert rate.is_slow and rate.counted == 1 and rate.steps_per_second == pytest.approx(0.5)


def test_rate_of_a_first_step_beyond_half_the_budget_is_measured_by_it(fake_time):
    rate = Rate(seconds=1.0, patience=0.4)  # of a budget of 4 s
    assert run_steps(rate, fake_time, [timing.FIRST_STEP + 2.1, 7.0]) == 1
    assert rate.is_slow and rate.steps_per_second == pytest.approx(1 / 7.1) and rate.first_seconds == 0


def test_rate_that_runs_out_of_patience_while_warming_up_counts_all_but_the_first_step(fake_time):
    rate = Rate(seconds=100.0, patience=1.5)
    assert run_steps(rate, fake_time, [4.0, *[1.0] * 100]) == 3
    assert rate.is_slow and rate.counted == 2 and rate.steps_per_second == pytest.approx(1.0)


def test_rate_that_runs_out_of_patience_while_counting_stops(fake_time):
    rate = Rate(seconds=100.0, patience=3.5)
    assert run_steps(rate, fake_time, [1.0] * 100) == 5
    assert rate.is_slow and rate.counted == 2 and rate.steps_per_second == pytest.approx(1.0)


def test_rate_of_fast_steps_is_measured_for_its_seconds_however_short_the_patience(fake_time):
    rate = Rate(seconds=1.0, patience=0.5)
    assert run_steps(rate, fake_time, [0.125] * 100) == timing.WARMUP_STEPS + 8
    assert rate.counted == 8 and not rate.is_slow


def test_training_seconds_leave_out_evaluation(fake_time):
    trainer, clock = fake_trainer(), Clock(budget=10.0)

    def pass_time(seconds: float) -> None:
        fake_time.now += seconds

    pass_time(2)
    clock.on_train_start(trainer)
    pass_time(6)
    assert clock.now() == pytest.approx(6)
    clock.on_validation_start(trainer)
    pass_time(30)
    assert clock.now() == pytest.approx(6), "while it evaluates"
    clock.on_validation_end(trainer)
    pass_time(3)
    clock.on_train_batch_end(trainer)
    assert clock.now() == pytest.approx(9) and not trainer.should_stop
    clock.on_train_end(trainer)
    pass_time(5)
    assert clock.now() == clock.seconds == pytest.approx(9), "also after training"
    seconds = clock.stopwatch.seconds
    assert (seconds["setup"], seconds["eval"], seconds["total"]) == pytest.approx((2, 30, 41))


def test_clock_stops_the_run_at_twice_its_budget(fake_time):
    trainer, clock = fake_trainer(), Clock(budget=10.0)
    clock.on_train_start(trainer)
    take_step(clock, trainer, fake_time, 19.9)
    assert not clock.overrun and not trainer.should_stop
    take_step(clock, trainer, fake_time, 0.2)
    assert clock.overrun and trainer.should_stop
    clock.on_train_end(trainer)


def test_run_that_will_be_stopped_says_so_long_before(fake_time, caplog):
    """100 steps in 10 s; from step 20 on they take four times as long, so that 5 % of the time is 80 % of the steps."""
    caplog.set_level(logging.WARNING, "minuteloop")
    trainer, clock = fake_trainer(100), Clock(budget=10.0)
    clock.on_train_start(trainer)
    for _ in range(20):
        take_step(clock, trainer, fake_time, 0.1)
    assert not caplog.messages and clock.seconds_left(20, 100) == pytest.approx(8.0)
    warned = next(step for step in itertools.count(21) if take_step(clock, trainer, fake_time, 0.4) or caplog.messages)
    assert warned <= 24 and clock.now() < 4.0 and not trainer.should_stop
    for _ in range(20):
        take_step(clock, trainer, fake_time, 0.4)
    (message,) = caplog.messages
    assert message.startswith(f"step {warned} of 100: at the rate of the last 1.")
    assert message.endswith(" times its budget; it is stopped at 2 times, 20 s")
    assert clock.seconds_left(44, 100) == pytest.approx(0.4 * 56), "at the rate of the last seconds"
    clock.on_train_end(trainer)


def test_time_that_the_process_was_stopped_for_is_not_training_time(fake_time, caplog):
    caplog.set_level(logging.WARNING, "minuteloop")
    trainer, clock = fake_trainer(), Clock(budget=6.0)
    clock.on_train_start(trainer)
    take_step(clock, trainer, fake_time, 0.5)
    fake_time.now += 0.2 + 9.0
    fake_time.cpu += 0.2
    os.kill(os.getpid(), signal.SIGCONT)  # as after SIGSTOP
    assert clock.now() == pytest.approx(0.7)
    take_step(clock, trainer, fake_time, 0.3)
    assert clock.now() == pytest.approx(1.0) and not trainer.should_stop
    assert caplog.messages == ["the process was paused for 9.0 s, which is not training time"]
    clock.on_train_end(trainer)
    seconds = clock.stopwatch.seconds
    assert (seconds["train"], seconds["paused"], seconds["total"]) == pytest.approx((1.0, 9.0, 10.0))


def test_slow_step_is_no_pause_even_where_the_process_gets_no_core(fake_time):
    trainer, clock = fake_trainer(), Clock(budget=60.0)
    clock.on_train_start(trainer)
    fake_time.now += 9.0
    clock.on_train_batch_end(trainer)
    assert clock.now() == pytest.approx(9.0)
    fake_time.now, fake_time.cpu = fake_time.now + 2.0, fake_time.cpu + 2.0
    os.kill(os.getpid(), signal.SIGCONT)  # without a stop, as shells and Slurm send it
    assert clock.now() == pytest.approx(11.0)
    clock.on_train_end(trainer)


def test_handler_of_sigcont_is_the_earlier_one_after_training(fake_time):
    before = signal.getsignal(signal.SIGCONT)
    for end in (Clock.on_train_end, Clock.on_exception):
        trainer, clock = fake_trainer(), Clock(budget=6.0)
        trainer.training = True
        clock.on_train_start(trainer)
        assert signal.getsignal(signal.SIGCONT) != before
        end(clock, trainer)
        assert signal.getsignal(signal.SIGCONT) == before


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
