"""The rate of an arm: measured once, found again by other cells, processes and sweeps."""

import dataclasses
import errno
import json
import multiprocessing
import time

import pytest
from small_run import SMALL

import minuteloop
from minuteloop import hardware
from minuteloop.training import arm_rate, calibrate
from minuteloop.training.arm_rate import ArmRate, ArmRates
from minuteloop.training.run import train

HERE = {"hardware": "EPYC", "device": "cpu", "threads": 2, "precision": "fp32", "torch": "2.14", "timm": "1.0"}
RATE = ArmRate(steps=100, seconds=5.0, threads=2, busy=None)


@pytest.fixture(scope="module")
def config():
    """A run of a time budget whose threads are chosen by the machine."""
    return minuteloop.compose(["data=sample", "arch=resnet18", "recipe=plain", "budget=5s"])


def found(rates: ArmRates) -> ArmRate | None:
    with rates.locked() as rate:
        return rate


def test_rate_is_that_of_all_seeds_and_no_other_arm_machine_or_code(config, tmp_path):
    (tmp_path / "rates").mkdir()
    ArmRates(tmp_path, config, HERE, "code").save(RATE)
    assert found(ArmRates(tmp_path, dataclasses.replace(config, seed=7), HERE, "code")) == RATE
    assert found(ArmRates(tmp_path, config, HERE | {"threads": 1}, "code")) == RATE, "the rate sets threads=auto"
    asked = dataclasses.replace(config, threads=2)
    assert found(ArmRates(tmp_path, asked, HERE, "code")) is None
    assert found(ArmRates(tmp_path, dataclasses.replace(config, budget="6s"), HERE, "code")) is None
    assert found(ArmRates(tmp_path, config, HERE | {"torch": "2.9"}, "code")) is None
    assert found(ArmRates(tmp_path, config, HERE, "other")) is None


def test_later_sweep_takes_the_rate_of_an_earlier_one_and_keeps_it_unless_it_reruns(config, tmp_path):
    earlier, later, rerun = (tmp_path / name for name in ("earlier", "later", "rerun"))
    (earlier / "rates").mkdir(parents=True)
    ArmRates(earlier, config, HERE, "code").save(RATE)
    assert found(ArmRates(rerun, dataclasses.replace(config, rerun=True), HERE, "code")) is None
    assert found(ArmRates(later, config, HERE, "code")) == RATE
    (path,) = (later / "rates").glob("*.json")
    assert json.loads(path.read_text()) == dataclasses.asdict(RATE)


def measure(sweep, config, steps, queue):
    """Find the rate, or measure it slowly."""
    rates = ArmRates(sweep, config, HERE, "code")
    with rates.locked() as rate:
        if rate is None:
            time.sleep(0.3)
            rate = rates.save(dataclasses.replace(RATE, steps=steps))
    queue.put(rate.steps)


@pytest.mark.parametrize("locks", [True, False])
def test_of_many_processes_one_measures_and_without_locks_the_first_rate_counts(config, tmp_path, monkeypatch, locks):
    """Without locks, as on some network file systems, all measure, and all train the steps of one."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    if not locks:
        monkeypatch.setattr(arm_rate.fcntl, "flock", refuse)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=measure, args=(tmp_path, config, n, queue)) for n in range(1, 4)]
    for process in processes:
        process.start()
    steps = {queue.get(timeout=30) for _ in processes}
    for process in processes:
        process.join()
    assert len(steps) == 1


def test_seeds_of_an_arm_train_the_same_steps_at_whatever_rate_the_machine_has(cwd, monkeypatch, capsys):
    """The first measures, though the machine is busy, and says so; an earlier run's rate is no single run's."""
    rate = calibrate.Rate(0.0)
    rate.start, rate.begin, rate.counted = 1.0, 0.0, 3
    measured = []

    def measure_rate(*_):
        measured.append(0)
        rate.end = 1.0 + 0.1 / len(measured)
        return rate

    monkeypatch.setattr(calibrate, "measure_rate", measure_rate)
    monkeypatch.setattr(hardware, "idle_cores", lambda: 0.1)
    configs = [minuteloop.compose([*SMALL, "budget=0.2s", f"seed={seed}"]) for seed in (0, 1)]
    first = train(configs[0], cwd / "runs/now/a-0", sweep=cwd / "runs/now")
    calls = len(measured)
    second = train(configs[1], cwd / "runs/now/a-1", sweep=cwd / "runs/now")
    extended = train(configs[1], cwd / "runs/later/a-1", sweep=cwd / "runs/later")
    assert len(measured) == calls > 0
    assert first["plan"]["steps"] == second["plan"]["steps"] == extended["plan"]["steps"]
    assert second["plan"] == first["plan"] and second["seconds"]["calibrate"] < 0.01
    assert all(record["rate"]["busy"] == "0.1 of 1 cores were idle" for record in (first, second, extended))
    assert "warning: the rate of this arm was measured on a busy machine: 0.1 of 1 cores" in capsys.readouterr().out
    alone = train(configs[1], cwd / "runs/alone/a")
    assert len(measured) > calls and alone["rate"] == {}
