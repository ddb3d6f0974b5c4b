"""Runs become arms: those that differ in nothing but their seed, of one budget and one machine."""

import pytest
from written_runs import a_record, write_records

from minuteloop.report.arms import accuracy_metric, groups_of
from minuteloop.report.runs import load_runs
from minuteloop.validation import ConfigError


def groups(tmp_path, records, names=None, by=None):
    runs, _ = load_runs([write_records(tmp_path / "r.jsonl", records)])
    return groups_of(runs, accuracy_metric(runs), names, by)


def labels(group):
    return [arm.label for arm in group.arms]


def seeds(*accuracies, **changed):
    return [a_record(accuracy=accuracy, seed=seed, **changed) for seed, accuracy in enumerate(accuracies)]


def test_label_is_what_an_arms_overrides_do_not_share_with_the_others(tmp_path):
    tiny = seeds(0.5, 0.6, overrides=["data=sample", "size=tiny"], config__size__name="tiny")
    nano = seeds(0.4, overrides=["data=sample", "size=nano"], config__size__name="nano")
    (group,) = groups(tmp_path, [*tiny, *nano])
    assert labels(group) == ["size=tiny", "size=nano"]
    assert group.arms[0].percents == [50, 60] and group.arms[0].mean == pytest.approx(55)
    assert [run.seed for run in group.arms[0].runs] == [0, 1]


def test_label_has_no_override_that_changes_no_result(tmp_path):
    words = [["size=tiny", "resume=true", "logger.pictures=false", "name=mine"], ["size=nano", "logger=none"]]
    records = [a_record(own, config__size__name=own[0]) for own in words]
    (group,) = groups(tmp_path, records)
    assert labels(group) == ["size=tiny", "size=nano"]


def test_runs_of_different_configs_never_share_an_arm(tmp_path):
    same, other = seeds(0.5, overrides=[]), seeds(0.6, overrides=[], config__recipe__clip_grad=2.5)
    (group,) = groups(tmp_path, [*same, *other])
    assert same[0]["config"]["recipe"]["clip_grad"] is None
    assert labels(group) == ["convnext-deit (recipe.clip_grad=null)", "convnext-deit (recipe.clip_grad=2.5)"]


def test_runs_of_one_config_share_an_arm_however_they_were_asked_for(tmp_path):
    (group,) = groups(tmp_path, [*seeds(0.5, overrides=["size=pico"]), a_record(accuracy=0.6, seed=1)])
    assert labels(group) == ["size=pico"] and group.arms[0].percents == [50, 60]


def test_newest_of_two_runs_with_one_seed_counts(tmp_path):
    days = ("2026-11-02", "2026-11-03", "2026-11-01")
    (group,) = groups(tmp_path, [a_record(accuracy=float(day[-1]) / 10, date=day) for day in days])
    assert group.arms[0].percents == [30]


def test_what_auto_became_does_not_part_runs_but_what_was_asked_does(tmp_path):
    first, second = seeds(0.5, 0.6)
    second["config"]["recipe"]["lr"] = 0.123  # asked: auto, as recipe.lr of the first
    assert first["config"]["recipe"]["strength"]["label_smoothing"] == 0.3  # of auto; a faster run has more
    second["config"]["recipe"]["strength"]["label_smoothing"] = 0.4
    (group,) = groups(tmp_path, [first, second])
    assert len(group.arms) == 1
    del second["asked"]["recipe.lr"]
    (group,) = groups(tmp_path, [first, second])
    assert labels(group) == ["convnext-deit (recipe.lr=auto)", "convnext-deit (recipe.lr=0.123)"]


def test_budgets_and_machines_are_apart(tmp_path):
    records = seeds(0.5, 0.6) + seeds(0.7, budget="15s") + seeds(0.8, host__cpu="Another CPU")
    found = groups(tmp_path, records)
    assert [(group.budget, len(group.arms[0].runs)) for group in found] == [("60s", 2), ("15s", 1), ("60s", 1)]
    cpu = records[0]["host"]["cpu"]
    assert [group.words for group in found] == [f"60s, {cpu}", f"15s, {cpu}", "60s, Another CPU"]
    (only,) = groups(tmp_path, seeds(0.5))
    assert only.words == ""


def test_doubtful_rates_are_named(tmp_path):
    busy = a_record(["size=nano"], config__size__name="nano", rate={"busy": "0.4 of 2 cores were idle"})
    fast, slow, fine = (
        a_record(seed=seed, seconds__train=seconds) for seed, seconds in ((0, 30.0), (1, 96.0), (2, 74))
    )
    steps = a_record(seed=3, seconds__train=99.0, plan__seconds_asked=None)
    (group,) = groups(tmp_path, [busy, fast, slow, fine, steps])
    assert [doubt for arm in group.arms for doubt in arm.doubts()] == [
        "size=nano: its rate was measured on a busy machine (0.4 of 2 cores were idle); rerun=true measures it again",
        "convnext-deit: seed=0 trained 2.0 times as fast as the rate measured; rerun=true measures it again",
        "convnext-deit: seed=1 trained 0.6 times as fast as the rate measured; rerun=true measures it again",
    ]


def test_a_studys_arms_have_its_names_in_its_order(tmp_path):
    names = {"none": [], "+a": ["modernization=[a]"], "+b": ["modernization=[a,b]"]}
    records = [
        *seeds(0.7, overrides=["modernization=[a,b]"], config__arch__name="b"),
        *seeds(0.5, overrides=[], config__arch__name="none"),
        *seeds(0.6, overrides=["modernization=[a]"], config__arch__name="a"),
    ]
    (group,) = groups(tmp_path, records, names)
    assert labels(group) == ["none", "+a", "+b"]


def test_arms_by_a_key_pool_what_else_differs(tmp_path):
    records = [
        a_record(accuracy=0.1 * i, seed=i, config__size__name="tiny", config__recipe__clip_grad=i) for i in (1, 2)
    ]
    (group,) = groups(tmp_path, [*records, a_record(accuracy=0.5)], by=["size.name"])
    assert labels(group) == ["size.name=tiny", "size.name=pico"] and group.arms[0].percents == [10, 20]
    with pytest.raises(ConfigError, match=r"--by size\.nam: no run has this key\. Did you mean size\.name"):
        groups(tmp_path, records, by=["size.nam"])


def test_metric_is_one_that_all_runs_have(tmp_path):
    val, test = a_record(), a_record(metrics={"test/acc": 0.5})
    both = a_record(metrics={"test/acc": 0.5, "val/acc": 0.6})

    def metric(records, asked=None):
        return accuracy_metric(load_runs([write_records(tmp_path / "r.jsonl", records)])[0], asked)

    assert metric([val, both]) == "val/acc" and metric([test, both]) == "test/acc"
    assert metric([both], "test/acc") == "test/acc"
    with pytest.raises(ConfigError, match="--metric test/acc: 1 of 2 runs have none"):
        metric([val, both], "test/acc")
    with pytest.raises(ConfigError, match="neither val/acc nor test/acc in common"):
        metric([val, test])


def test_baseline_is_found_by_its_label(tmp_path):
    tiny, nano = (
        seeds(0.5 + i / 10, overrides=[f"size={s}"], config__size__name=s) for i, s in enumerate(("tiny", "nano"))
    )
    (group,) = groups(tmp_path, [*tiny, *nano])
    assert group.baseline(None).label == "size=tiny" and group.baseline("size=nano").mean == pytest.approx(60)
    with pytest.raises(ConfigError, match=r"--baseline size=nan: no arm of this name\. Did you mean size=nano"):
        group.baseline("size=nan")
