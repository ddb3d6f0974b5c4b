"""Trials of a search without training: a made record for each, so that what Optuna gets is known."""

import json
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace

import optuna
import pytest
from search_without_training import accuracy_of, make_search, train_without_training

from minuteloop.tune import storage, trials
from minuteloop.tune.results import best, sections_of
from minuteloop.tune.storage import finished, open_study, quiet_optuna
from minuteloop.tune.trials import Trials
from minuteloop.validation import ConfigError


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    monkeypatch.setattr("minuteloop.tune.trials.train_or_reuse", train_without_training)
    with quiet_optuna():
        yield


def test_a_search_has_as_many_trials_as_asked_and_continues(tmp_path):
    search = make_search(tmp_path, trials=6, pruner="none")
    study = open_study(search)
    assert Trials(search, study).run() is False
    assert len(study.trials) == 6 and not list(tmp_path.glob("stop-*"))
    more = make_search(tmp_path, trials=9, pruner="none")
    again = open_study(more)
    Trials(more, again).run()
    assert len(again.trials) == 9
    points = [trial.params["x"] for trial in again.trials]
    assert len(set(points)) == 9, "the sampler draws on, it does not begin again"
    assert [trial.value for trial in again.trials] == pytest.approx([accuracy_of(point) for point in points], abs=1e-3)
    assert {json.loads((tmp_path / f"cells/{n}.json").read_text())["overrides"][0] for n in range(9)} == {
        "arch=resnet18"
    }


def test_a_search_is_the_same_with_the_same_seed(tmp_path):
    points = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        search = make_search(tmp_path / name, trials=3, seed=seed)
        study = open_study(search)
        Trials(search, study).run()
        points.append([trial.params["x"] for trial in study.trials])
    assert points[0] == points[1] != points[2]


def test_a_failed_trial_counts_and_says_why(tmp_path, caplog):
    search = make_search(tmp_path, trials=4, fails=lambda number: number == 1)
    study = open_study(search)
    with caplog.at_level("INFO"):
        Trials(search, study).run()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert "trial 1 (2 of 4): failed: failed: it did not run" in caplog.text
    table = sections_of(search, study)[0].table
    assert table.rows[-1][-1] == "failed: failed: it did not run"


def test_a_config_that_is_not_valid_fails_its_trial_alone(tmp_path):
    search = make_search(tmp_path, trials=3, invalid=lambda x: x > 0.5)
    study = open_study(search)
    Trials(search, study).run()
    for trial in study.trials:
        assert trial.state.name == ("FAIL" if trial.params["x"] > 0.5 else "COMPLETE")


def test_a_poor_trial_stops_early_and_the_report_says_what_that_saved(tmp_path):
    """The median pruner starts after five trials; a trial that is worse than half of them stops at 25 %."""
    search = make_search(tmp_path, trials=30)
    study = open_study(search)
    Trials(search, study).run()
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert len(pruned) >= 5 and len(complete) >= 5
    assert {trial.user_attrs["seconds"] for trial in pruned} <= {15.0, 30.0, 45.0}
    section = sections_of(search, study)[0]
    spent = sum(trial.user_attrs["seconds"] for trial in study.trials)
    (line,) = (line for line in section.sentences if "stopped early" in line)
    assert line == (
        f"{len(pruned)} of 30 trials stopped early: {spent:,.0f} s of training instead of about 1,800 "
        f"({1 - spent / 1800:.0%} saved)."
    )
    assert best(search, study).value == max(trial.value for trial in complete)


def test_workers_share_the_trials(tmp_path):
    search = make_search(tmp_path, trials=8, workers=3, pruner="none")
    study = open_study(search)
    Trials(search, study).run()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 8
    assert len({trial.params["x"] for trial in study.trials}) == 8


def test_an_error_of_the_program_ends_all_workers(tmp_path, monkeypatch):
    def broken(cell, *arguments):
        if cell.number == 2:
            raise RuntimeError("a fault")
        return train_without_training(cell, *arguments)

    monkeypatch.setattr("minuteloop.tune.trials.train_or_reuse", broken)
    search = make_search(tmp_path, trials=500, workers=2)
    study = open_study(search)
    with pytest.raises(RuntimeError, match="a fault"):
        Trials(search, study).run()
    assert len(study.trials) < 20 and not list(tmp_path.glob("stop-*"))


def work_until_killed(folder):
    with quiet_optuna():
        search = make_search(folder, trials=5, hangs=lambda number: number == 2)
        import minuteloop.tune.trials as trials

        trials.train_or_reuse = train_without_training
        Trials(search, open_study(search)).run()


def test_a_killed_trial_is_retried_at_its_point(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "HEARTBEAT", 1)
    monkeypatch.setattr(storage, "GRACE", 2)
    process = multiprocessing.get_context("fork").Process(target=work_until_killed, args=(tmp_path,))
    process.start()
    study = None
    for _ in range(200):
        time.sleep(0.1)
        if (tmp_path / "hangs").exists():
            study = open_study(make_search(tmp_path))
            break
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    killed = study.trials[2]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
    search = make_search(tmp_path, trials=5)
    study = open_study(search)
    Trials(search, study).run()
    assert len(finished(study)) == 5
    assert study.trials[2].state.name == "FAIL"
    (retried,) = (trial for trial in study.trials if trial.system_attrs.get("failed_trial") == 2)
    assert retried.params == killed.params and retried.state.name == "COMPLETE"


def test_ctrl_c_ends_the_trial_and_the_search_continues_at_its_point(tmp_path):
    search = make_search(tmp_path, trials=4, hangs=lambda number: number == 1)
    study = open_study(search)

    def press():
        while not (tmp_path / "hangs").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    threading.Thread(target=press, daemon=True).start()
    assert Trials(search, study).run() is True
    assert signal.getsignal(signal.SIGINT) is before and not list(tmp_path.glob("stop-*"))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "WAITING"]
    search = make_search(tmp_path, trials=4)
    study = open_study(search)
    Trials(search, study).run()
    assert len(finished(study)) == 4 and study.trials[2].params == study.trials[1].params


def test_a_grid_ends_with_its_last_point(tmp_path):
    search = make_search(tmp_path, "x=choice(0.1,0.2)", "y=1,2,3", trials=50, sampler="grid")
    study = open_study(search)
    Trials(search, study).run()
    assert sorted(tuple(trial.params.values()) for trial in study.trials) == [
        (x, y) for x in (0.1, 0.2) for y in (1, 2, 3)
    ]


def test_a_trial_that_ends_while_they_are_counted_is_not_begun_again(tmp_path, monkeypatch):
    search = make_search(tmp_path, trials=1)
    counts, begun = {"running": 1, "finished": 0}, []

    def look(kind):
        now = counts[kind]
        counts.update(running=0, finished=1)  # the trial ends after the first look
        return now

    monkeypatch.setattr(trials, "running", lambda _: look("running"))
    monkeypatch.setattr(trials, "finished", lambda _: [None] * look("finished"))
    monkeypatch.setattr(Trials, "_train_one", lambda *_: begun.append(1))
    Trials(search, open_study(search)).run()
    assert not begun


def test_report_has_history_importance_and_pareto(tmp_path):
    search = make_search(
        tmp_path, "x=interval(0,1)", "y=interval(0,1)", trials=25, reward={"val/acc": 1, "params": -0.1}
    )
    study = open_study(search)
    Trials(search, study).run()
    table, importance, pareto = sections_of(search, study)
    assert table.table.rows[0][0] == str(study.best_trial.number)
    assert table.table.columns[:5] == ["trial", "overrides", "reward", "val/acc", "params"]
    assert importance.data["x"] > importance.data["y"], "y changes nothing"
    metrics = {trial.number: trial.user_attrs["metrics"] for trial in study.trials}
    front = [
        number
        for number, own in metrics.items()
        if not any(
            other["val/acc"] >= own["val/acc"] and other["params"] <= own["params"] and other != own
            for other in metrics.values()
        )
    ]
    assert set(pareto.data["trials"]) == set(front) and len(front) >= 2
    (panel,) = pareto.figure().axes
    drawn = {text.get_text(): text.xy for text in panel.texts}
    assert drawn == {str(n): (1e-6 * metrics[n]["params"], 100 * metrics[n]["val/acc"]) for n in front}
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("params, M", "val/acc, %")
    for section in (table, importance, pareto):
        assert section.figure().axes and section.markdown() and json.dumps(section.data)


def test_several_objectives_have_a_pareto_set(tmp_path):
    search = make_search(tmp_path, trials=12, objectives=["val/acc", "params"])
    study = open_study(search)
    Trials(search, study).run()
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]
    pareto = sections_of(search, study)[-1]
    assert set(pareto.data["trials"]) == {trial.number for trial in study.best_trials}
    assert pareto.figure().axes


def test_a_database_that_cannot_be_opened_is_one_line(tmp_path):
    search = make_search(tmp_path)
    search.settings = replace(search.settings, storage="sqlite:////proc/none/x.db")
    with pytest.raises(ConfigError, match=r"tune.storage=sqlite:////proc/none/x.db: cannot be opened"):
        open_study(search)
