"""Comparisons with a baseline: scipy's intervals, verdicts, warnings, and confirmation with fresh seeds."""

import json

import pytest
from report_records import record, write_run, write_study
from scipy import stats

from minuteloop.report import compare as module
from minuteloop.report.compare import compare, confirmed, warnings
from minuteloop.report.report import read_report
from minuteloop.study.cell import Cell
from minuteloop.validation import ConfigError

ARMS = {
    "none": {"overrides": [], "accuracies": [60.0, 60.2, 60.4]},
    "good": {"overrides": ["size=tiny"], "accuracies": [62.0, 62.3, 62.6]},
    "same": {"overrides": ["size=nano"], "accuracies": [60.1, 60.3, 60.2]},
}


def test_effects_are_dunnetts_against_the_studys_baseline(tmp_path):
    write_study(tmp_path / "s", ARMS, "arms", None)
    found = compare(read_report([tmp_path / "s"]))
    effects = {effect["arm"]: effect for effect in found.data["effects"]}
    values = {name: arm["accuracies"] for name, arm in ARMS.items()}
    expected = stats.dunnett(values["good"], values["same"], control=values["none"], random_state=0)
    interval = expected.confidence_interval()
    for index, arm in enumerate(("good", "same")):
        assert effects[arm]["baseline"] == "none"
        assert effects[arm]["interval"] == pytest.approx([interval.low[index], interval.high[index]], abs=0.005)
        assert effects[arm]["p"] == pytest.approx(expected.pvalue[index], abs=0.005)
    assert effects["good"]["verdict"].startswith("better by 2.10 [")
    assert effects["same"]["verdict"].startswith("not resolved: ")
    assert found.sentences[0] == "Baseline: none, 60.20 %, n = 3."


def test_another_baseline_turns_the_effects_around(tmp_path):
    write_study(tmp_path / "s", ARMS, "arms", None)
    effects = compare(read_report([tmp_path / "s"], baseline="good")).data["effects"]
    assert [(effect["arm"], round(effect["difference"], 2)) for effect in effects] == [("none", -2.1), ("same", -2.1)]


def test_all_pairs_are_tukeys(tmp_path):
    write_study(tmp_path / "s", ARMS, "arms", None)
    effects = compare(read_report([tmp_path / "s"], pairs=True)).data["effects"]
    assert {(effect["arm"], effect["baseline"]) for effect in effects} == {
        ("none", "good"),
        ("none", "same"),
        ("good", "same"),
    }
    tukey = stats.tukey_hsd(*(arm["accuracies"] for arm in ARMS.values()))
    (effect,) = (effect for effect in effects if (effect["arm"], effect["baseline"]) == ("none", "good"))
    assert effect["p"] == pytest.approx(tukey.pvalue[0, 1], abs=0.001)


def test_one_arm_has_nothing_to_be_compared_with(tmp_path):
    write_run(tmp_path / "a", record([], 0))
    assert compare(read_report([tmp_path])) is None


def test_expected_excess_of_a_winner_is_stated(tmp_path):
    # the largest of 3 standard normals is 0.846 in expectation (3 / (2 sqrt(pi)))
    deviations = [-1.0, 0.0, 1.0]  # sample std 1, so of a mean of three 1 / sqrt(3)
    arms = {name: {"overrides": [f"size={name}"], "accuracies": [60 + d for d in deviations]} for name in "abc"}
    arms["b"]["accuracies"] = [61 + d for d in deviations]
    write_study(tmp_path / "s", arms, "arms", None)
    (sentence,) = (line for line in compare(read_report([tmp_path / "s"])).sentences if "best of 3" in line)
    assert sentence.startswith(
        f"b is the best of 3: of equal arms the best would look {0.846 / 3**0.5:.2f} points better"
    )


def group(folder, *records):
    for index, content in enumerate(records):
        write_run(folder / str(index), content)
    (found,) = read_report([folder]).groups
    return found


def test_arms_that_were_not_trained_alike_are_named(tmp_path):
    plan = {"steps": 1000, "batch_size": 128, "epochs": 2.5, "lr": 0.002, "seconds_asked": 60.0}
    full, off = plan | {"strength": {"mixup": 1.0}}, plan | {"strength": {"mixup": 0.0}}
    first = record(["a=1"], 0, plan=full)
    assert warnings(group(tmp_path / "same", first, record(["a=2"], 0, plan=full))) == []
    found = warnings(group(tmp_path / "strength", first, record(["a=2"], 0, plan=off)))
    assert found == ["Arms differ in strength: full / off: mixup"]
    found = warnings(group(tmp_path / "steps", first, record(["a=2"], 0, plan=full, steps=1031)))
    assert found == ["Arms differ in steps: 1,000 to 1,031; they had the same budget"]
    assert warnings(group(tmp_path / "steps3", first, record(["a=2"], 0, plan=full, steps=1030))) == []
    slow = record(["a=2"], 0, plan=full, seconds={"train": 63.1})
    (found,) = warnings(group(tmp_path / "seconds", first, slow))
    assert found.startswith("Arms trained 60.0 to 63.1 s of 60: a budget becomes steps by one measurement of an arm's")
    in_steps = [
        record([name], 0, plan=full, budget="1000steps", seconds={"train": s}) for name, s in (("a", 1), ("b", 9))
    ]
    assert warnings(group(tmp_path / "in steps", *in_steps)) == []
    other = record(["a=2"], 0, plan=full)
    other["config"]["arch"]["name"] = "convnext"
    (found,) = warnings(group(tmp_path / "lr", first, other))
    assert found == "All nets trained with one learning rate, 0.002, which suits some better than others"


def test_arms_that_were_not_trained_side_by_side_are_named(tmp_path):
    """An arm that was trained again later meets another speed of the machine than its baseline."""
    dates = {
        "a": ["2026-11-30T10:00:00+00:00", "2026-11-30T10:30:00+00:00"],
        "b": ["2026-11-30T10:10:00+00:00", "2026-11-30T10:40:00+00:00"],
        "c": ["2026-11-30T10:20:00+00:00", "2026-11-30T10:50:00+00:00"],
        "late": ["2026-11-30T11:00:00+00:00", "2026-11-30T11:10:00+00:00"],
        "single": ["2026-11-30T12:00:00+00:00"],
    }

    def found(name, labels, **changed):
        records = [
            record([label], seed, date=date, **changed) for label in labels for seed, date in enumerate(dates[label])
        ]
        return warnings(group(tmp_path / name, *records))

    assert found("alternating", "abc") == []
    assert found("again", dates) == [
        "Not trained side by side with the other arms, so that a drift of the machine counts: late"
    ]
    assert found("in steps", dates, budget="1000steps") == []


# --- confirmation -------------------------------------------------------------------------------------------------


def test_confirmation_trains_the_best_arm_and_the_baseline_with_fresh_seeds(tmp_path, monkeypatch):
    study = tmp_path / "s"
    write_study(study, ARMS, "arms", None, seeds=[0, 1, 2], budgets=["60s"])
    calls = []

    def confirm(study, arm, typed, budget, seeds, config_dir):
        calls.append((study.name, arm, typed, budget, seeds, config_dir))
        fresh = {name: ARMS[name] | {"accuracies": [60.0, 60.2, 60.4]} for name in ("none", "good")}
        write_study(tmp_path / "fresh", fresh, "arms", None, seeds=seeds, budgets=[budget])
        return tmp_path / "fresh"

    monkeypatch.setattr(module, "confirm", confirm)
    found = confirmed(read_report([study]), "mine")
    assert calls == [("s", "good", [], "60s", [3, 4, 5], "mine")]
    assert found.title == "Confirmation with fresh seeds 3 to 5"
    assert found.sentences[0].startswith("In the study good was better by 2.10 [")
    (effect,) = found.data["effects"]
    assert effect["difference"] == pytest.approx(0) and effect["verdict"].startswith("not resolved")


@pytest.mark.parametrize(
    ("arms", "study", "message"),
    [
        (ARMS, None, "--confirm: needs the runs of one study"),
        (
            {"none": ARMS["none"], "same": ARMS["same"] | {"accuracies": [1, 2, 3]}},
            {},
            "must be another than the study's",
        ),
    ],
)
def test_what_cannot_be_confirmed_is_one_line(tmp_path, arms, study, message):
    write_study(tmp_path / "s", arms, "arms", None, seeds=[0, 1, 2], budgets=["60s"])
    if study is None:
        (tmp_path / "s/study.json").unlink()
    with pytest.raises(ConfigError) as error:
        confirmed(read_report([tmp_path / "s"]), "")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_arms_of_a_sweep_are_read_from_its_cells(tmp_path):
    sweep = tmp_path / "sweep"
    for number, (size, accuracy) in enumerate((("tiny", 0.5), ("nano", 0.6))):
        content = record([f"size={size}"], 0, accuracy)
        del content["overrides"]  # of an older record
        write_run(sweep / f"cell-{number}", content)
        Cell(number, [f"size={size}", "data=sample", "seed=0"], sweep / f"cell-{number}").save(sweep)
    found = compare(read_report([sweep]))
    assert json.loads(json.dumps(found.data))["effects"][0]["arm"] == "size=nano"
