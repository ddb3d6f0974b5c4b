"""Transfer: ranks, regret and effects of a short budget against longer ones, on accuracies whose answers are known."""

import json

import pytest
from report_records import ROADMAP, record, write_run, write_study
from scipy import stats

from minuteloop.report.report import read_report
from minuteloop.report.transfer import transfer

SEEDS = (-0.1, 0.0, 0.1)  # points around the mean of an arm
MEANS = {  # arm -> budget -> mean accuracy in percent
    "base": {"15s": 40.0, "60s": 60.0, "240s": 80.0},
    "good": {"15s": 42.0, "60s": 63.0, "240s": 84.0},
    "flip": {"15s": 43.0, "60s": 58.0, "240s": 79.0},
    "fades": {"15s": 41.0, "60s": 60.02, "240s": 80.03},
}


def write(folder, means=MEANS, **changed):
    for arm, budgets in means.items():
        for budget, mean in budgets.items():
            for seed, deviation in enumerate(SEEDS):
                seconds = {"train": float(budget[:-1])}
                content = record([f"arch={arm}"], seed, (mean + deviation) / 100, budget, seconds=seconds, **changed)
                write_run(folder / f"{arm}-{budget}-{seed}-{len(changed)}", content)
    return folder


def write_ladder(folder, **changed):
    """Write a cumulative study of 15 s and 60 s; `changed` accuracies replace those of an arm."""
    means = {
        "short": {"none": 40.0, "+stage_ratio": 45.0, "+patchify": 44.0, "+depthwise": 44.1},
        "long": {"none": 50.0, "+stage_ratio": 56.0, "+patchify": 60.0, "+depthwise": 60.0},
    }
    for length, (budget, seconds) in {"short": ("15s", 15.0), "long": ("60s", 60.0)}.items():
        arms = {
            arm: {
                "overrides": [f"modernization=[{','.join(ROADMAP[:count])}]"],
                "accuracies": changed.get(length, {}).get(arm, [mean - 0.1, mean + 0.1]),
                "budget": budget,
                "seconds": {"train": seconds},
            }
            for count, (arm, mean) in enumerate(means[length].items())
        }
        write_study(folder, arms)
    return folder


def section(folder, **options):
    options = {"baseline": "arch=base", "resolve": 0.3} | options
    return transfer(read_report([folder], **options))


def test_ranks_flips_and_regret_of_each_longer_budget(tmp_path):
    found = section(write(tmp_path)).data["transfers"]
    assert [(each["short"], each["long"]) for each in found] == [("15s", "60s"), ("15s", "240s")]
    ranks = found[0]["ranks"]
    columns = [[budgets[budget] for budgets in MEANS.values()] for budget in ("15s", "60s")]
    assert ranks["all"]["tau"] == pytest.approx(stats.kendalltau(*columns).statistic)
    assert ranks["all"]["ceiling_long"] < 1 == ranks["all"]["ceiling_short"], "two arms are equal at 60s"
    assert (ranks["winner_short"], ranks["winner_long"]) == ("arch=flip", "arch=good")
    assert ranks["regret"] == pytest.approx(63 - 58)
    assert {tuple(pair) for pair in ranks["flips"]} == {
        ("arch=flip", "arch=good"),
        ("arch=flip", "arch=base"),
        ("arch=flip", "arch=fades"),
    }


def test_each_arm_carries_over_or_does_not(tmp_path):
    found = section(write(tmp_path))
    says = {arm["arm"]: arm["transfer"] for arm in found.data["transfers"][1]["arms"]}
    assert says == {"arch=good": "carries over", "arch=flip": "does not", "arch=fades": "does not"}
    (flip,) = (arm for arm in found.data["transfers"][1]["arms"] if arm["arm"] == "arch=flip")
    assert (flip["short"]["difference"], flip["long"]["difference"]) == pytest.approx((3, -1))
    dunnett = stats.dunnett(*([40 + gain + seed for seed in SEEDS] for gain in (2, 3, 1)), control=[39.9, 40, 40.1])
    interval = dunnett.confidence_interval()
    assert flip["short"]["interval"] == pytest.approx([interval.low[1], interval.high[1]], abs=0.01)
    assert [row[1] for row in found.table.rows] == ["15s to 60s"] * 3 + ["15s to 240s"] * 3


def test_sentences_say_what_to_believe(tmp_path):
    found = section(write(tmp_path))
    assert found.sentences[0].startswith("15s to 60s, all 4 arms: Kendall's tau 0.00 [")
    assert "; two halves of the seeds agree to 1.00 at 15s and 0." in found.sentences[0]
    (regret,) = (line for line in found.sentences if line.startswith("15s to 60s: "))
    assert regret.startswith("15s to 60s: arch=flip is best at 15s, arch=good at 60s; trusting 15s costs 5.00 [4.")
    assert regret.endswith("] points at 60s.")
    (line,) = (line for line in found.sentences if line.startswith("arch=flip does not"))
    assert line.startswith("arch=flip does not carry over: better by 3.00 [") and "; worse by 1.00 [" in line
    assert line.endswith(" points at 240s.")


def test_machines_are_kept_apart(tmp_path):
    write(tmp_path)
    write(
        tmp_path,
        {arm: {"15s": 50.0 + place, "60s": 60.0 + place} for place, arm in enumerate(MEANS)},
        host={"cpu": "B"},
    )
    found = section(tmp_path)
    assert [(each["machine"]["hardware"], each["long"]) for each in found.data["transfers"]] == [
        ("AMD EPYC (family 26, model 2)", "60s"),
        ("AMD EPYC (family 26, model 2)", "240s"),
        ("B", "60s"),
    ]
    assert found.data["transfers"][2]["ranks"]["all"]["tau"] == 1
    assert found.table.rows[-1][1] == "B" and len(found.figure().axes) == 4


def test_only_arms_of_all_budgets_count_and_fewer_than_three_have_no_ranking(tmp_path):
    short = {arm: {"15s": budgets["15s"]} for arm, budgets in MEANS.items()}
    assert section(write(tmp_path / "one", short)) is None
    both = short | {arm: MEANS[arm] for arm in ("base", "good", "flip")}
    found = section(write(tmp_path / "both", both))
    assert found.data["transfers"][0]["ranks"]["all"]["arms"] == ["arch=base", "arch=flip", "arch=good"]
    both["flip"] = {"15s": 43.0}
    assert section(write(tmp_path / "two", both)) is None


def test_rungs_of_a_ladder_are_compared_with_the_rung_before(tmp_path):
    """A cumulative arm against the first would show what all its steps give, not its own."""
    found = section(write_ladder(tmp_path), baseline=None)
    assert found.data["against"] == "the rung before"
    by_arm = {arm["arm"]: arm for arm in found.data["transfers"][0]["arms"]}
    assert list(by_arm) == ["+stage_ratio", "+patchify", "+depthwise"]
    differences = [[arm[budget]["difference"] for arm in by_arm.values()] for budget in ("short", "long")]
    assert differences == [pytest.approx([5, -1, 0.1]), pytest.approx([6, 4, 0])]
    half = 0.02**0.5 * stats.t.ppf(1 - 0.05 / 3 / 2, 4)  # Bonferroni over three rungs
    assert by_arm["+patchify"]["short"]["interval"] == pytest.approx([-1 - half, -1 + half])
    assert [arm["transfer"] for arm in by_arm.values()] == ["carries over", "does not", "unresolved"]
    assert "+depthwise is unresolved at 15s and at 60s." in found.sentences
    assert found.sentences[-1] == "Effects are against the rung before."
    assert found.figure().axes[1].get_xlabel() == "against the rung before, points"
    assert section(tmp_path, baseline="none").data["transfers"][0]["arms"][1]["short"]["difference"] == pytest.approx(4)


def test_rung_that_a_budget_lacks_is_named_and_the_next_has_no_effect(tmp_path):
    found = section(write_ladder(tmp_path, long={"+patchify": []}), baseline=None)
    assert [row[0] for row in found.table.rows] == ["+stage_ratio"]
    assert "Left out, without a run at every budget: +patchify." in found.sentences
    assert len(found.figure().axes) == 2


def test_budget_with_too_few_arms_to_rank_does_not_hide_the_others(tmp_path):
    write(tmp_path, {arm: {budget: means[budget] for budget in ("15s", "60s")} for arm, means in MEANS.items()})
    write(tmp_path, {arm: {"240s": MEANS[arm]["240s"]} for arm in ("base", "good")})
    assert [(each["short"], each["long"]) for each in section(tmp_path).data["transfers"]] == [("15s", "60s")]


def test_one_seed_an_arm_has_no_intervals(tmp_path):
    for arm, budgets in MEANS.items():
        for budget, mean in budgets.items():
            content = record([f"arch={arm}"], 0, mean / 100, budget, seconds={"train": float(budget[:-1])})
            write_run(tmp_path / f"{arm}-{budget}", content)
    found = section(tmp_path)
    assert found.sentences[0] == "15s to 60s, all 4 arms: Kendall's tau 0.00."
    assert found.sentences[2].endswith("; trusting 15s costs 5.00 points at 60s.")
    assert {arm["transfer"] for arm in found.data["transfers"][0]["arms"]} == {"unresolved"}
    assert len(found.figure().axes) == 2


def test_equal_arms_have_no_ranking(tmp_path):
    found = section(write(tmp_path, {arm: {"15s": 50.0, "60s": place + 60.0} for place, arm in enumerate(MEANS)}))
    assert found.sentences[0] == "15s to 60s: no ranking, all arms are equal at a budget."
    assert found.data["transfers"][0]["ranks"]["all"] is None


def test_data_are_json_and_the_same_each_time(tmp_path):
    write(tmp_path)
    first, second = (json.dumps(section(tmp_path).data, allow_nan=False) for _ in range(2))
    assert first == second


# --- figure -------------------------------------------------------------------------------------------------------


def test_figure_has_ranks_and_effects_in_the_order_of_the_longest_budget(tmp_path):
    figure = section(write(tmp_path)).figure()
    ranks, effects = figure.axes
    order = ["arch=good", "arch=fades", "arch=base", "arch=flip"]
    assert [label.get_text() for label in ranks.get_yticklabels()] == order
    lines = {line.get_label(): line.get_ydata().tolist() for line in ranks.lines}
    assert lines["arch=flip"] == [0, 3, 3] and lines["arch=base"] == [3, 2, 2] and lines["arch=good"] == [1, 0, 0]
    assert [label.get_text() for label in ranks.get_xticklabels()] == ["15s", "60s", "240s"]
    points = [container.lines[0].get_xdata().tolist() for container in effects.containers]
    assert points[0] == pytest.approx([2, 1, 3]) and points[2] == pytest.approx([4, 0.03, -1])
    bars = effects.containers[0].lines[2][0].get_segments()
    assert [bar[:, 0].mean() for bar in bars] == pytest.approx([2, 1, 3]) and all(bar[1, 0] > bar[0, 0] for bar in bars)
    texts = [text.get_text() for text in figure.texts]
    assert [text for text in texts if text in ("carries over", "does not", "baseline")] == [
        "carries over",
        "does not",
        "baseline",
        "does not",
    ]
