"""Plans: what a study costs and what it can resolve."""

import pytest
from report_records import record, write_run

from minuteloop.report.plan import plan
from minuteloop.report.report import read_report
from minuteloop.validation import ConfigError


def test_plan_counts_cells_and_minutes():
    found = plan("stems", "", [], 0.2)
    assert found.data["cells"] == 4 * 5 and found.data["minutes"] == pytest.approx(20 * (60 + 10) / 60)
    assert found.sentences[:2] == [
        "20 cells: 4 arms x 5 seeds x 1 budgets (60s).",
        "One after the other they take 23 minutes (10 s a cell besides).",
    ]
    assert found.data["baseline"] == "none" and list(found.data["arms"]) == [
        *("none", "+patchify", "+deep_stem", "+space_to_depth")
    ]


def test_runs_tell_the_spread_and_the_seconds_besides_training(tmp_path):
    for seed, percent in enumerate((60, 61, 62)):  # sample std 1
        write_run(tmp_path / str(seed), record([], seed, percent / 100, seconds={"train": 60.0, "total": 75.0}))
    found = plan("stems", "", read_report([tmp_path]).groups, 0.2)
    assert found.data["minutes"] == pytest.approx(20 * (60 + 15) / 60)
    (resolves,) = found.data["resolves"]
    assert resolves["std"] == pytest.approx(1)
    one_twin = plan("stems", "", [], 0.2).data["resolves"][-1]  # of the stds assumed without runs, 1.0
    assert one_twin == pytest.approx(resolves)


def test_budget_in_epochs_takes_a_time_that_is_not_known():
    found = plan("strength_by_ingredient", "", [], 0.2)
    assert found.data["minutes"] is None and "is not known" in found.sentences[1]


def test_what_is_no_study_is_one_line():
    with pytest.raises(ConfigError, match="sprint_cpu: is no study"):
        plan("sprint_cpu", "", [], 0.2)
    with pytest.raises(ConfigError, match="stem"):
        plan("stem", "", [], 0.2)
