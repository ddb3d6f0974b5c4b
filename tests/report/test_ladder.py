"""The ladder: effects of rungs in closed form, the paper's differences, its table and its figure."""

import pytest
from matplotlib.container import ErrorbarContainer
from report_records import ROADMAP, write_study
from scipy import stats

from minuteloop.report.ladder import ladder, paper, paper_differences
from minuteloop.report.report import read_report
from minuteloop.schema import StudyConfig
from minuteloop.study.design import make_study

NONE, RATIO, PATCH = ([f"modernization=[{','.join(ROADMAP[:count])}]"] for count in range(3))
# pooled variance 2 with 3 degrees of freedom; a difference of two means of two seeds has the standard error sqrt(2)
CUMULATIVE = {
    "none": {"overrides": NONE, "accuracies": [50, 52], "macs": 10e6},
    "+stage_ratio": {"overrides": RATIO, "accuracies": [63, 65], "macs": 12e6, "images_per_second": 400.0},
    "+patchify": {"overrides": PATCH, "accuracies": [57, 59], "macs": 6e6, "images_per_second": 320.0},
}


def section(folder, **options):
    return ladder(read_report([folder], **options))


def test_paper_differences_are_those_of_table_10():
    published = [0.54, 0.15, -1.23, 2.22, 0.14, -0.72, 0.65, 0.05, 0.65, 0.14, 0.06, 0.50]
    assert list(paper_differences().values()) == pytest.approx(published)
    assert list(paper()["steps"]) == ROADMAP and sum(published) == pytest.approx(81.97 - 78.82)


def test_each_rung_is_compared_with_the_one_before_and_with_the_baseline(tmp_path):
    write_study(tmp_path, CUMULATIVE)
    data = section(tmp_path).data
    none, ratio, patch = data["rungs"]
    assert data["kind"] == "cumulative" and none["effect"] is None and none["total"] is None and none["paper"] is None
    assert (ratio["effect"]["difference"], patch["effect"]["difference"]) == pytest.approx((13, -6))
    assert (ratio["total"]["difference"], patch["total"]["difference"]) == pytest.approx((13, 7))
    half = 2**0.5 * stats.t.ppf(1 - 0.05 / 2 / 2, 3)  # Bonferroni over two rungs
    assert patch["effect"]["interval"] == pytest.approx([-6 - half, -6 + half])
    dunnett = stats.dunnett([63, 65], [57, 59], control=[50, 52]).confidence_interval()
    assert patch["total"]["interval"] == pytest.approx([dunnett.low[1], dunnett.high[1]], abs=0.05)
    assert [rung["paper"] for rung in data["rungs"][1:]] == pytest.approx([0.54, 0.15])
    assert patch["names"] == ["patchify"] and patch["n"] == 2
    assert (patch["macs"], patch["milliseconds"]) == pytest.approx((6e6, 1000 * 128 / 320))


def test_sentences_name_gains_costs_and_the_paper(tmp_path):
    write_study(tmp_path, CUMULATIVE)
    found = section(tmp_path)
    assert found.sentences == [
        "From none to +patchify: 51.00 to 58.00 %, +7.00 [+1.53, +12.47] points.",
        "Better: +stage_ratio.",
        "Worse: +patchify.",
        "Resolved rungs that go the way they go in the paper: 1 of 2; the other way: +patchify.",
        "+patchify: 50% fewer MACs but 25% more milliseconds a step.",
        "Paper: Liu 2022, Table 10: ImageNet-1K, 300 epochs, 3 seeds, std 0.02 to 0.18; each step on top of those "
        "before it.",
    ]
    assert found.table.columns[-3:] == ["paper, points", "MACs, M", "ms/step"]
    assert [row[-3:] for row in found.table.rows] == [
        ["", "10.0", "256.0"],
        ["+0.54", "12.0", "320.0"],
        ["+0.15", "6.0", "400.0"],
    ]


def test_rung_without_finished_runs_is_named_and_its_step_counted_with_the_next(tmp_path):
    arms = {name: arm | ({"accuracies": []} if name == "+stage_ratio" else {}) for name, arm in CUMULATIVE.items()}
    write_study(tmp_path, arms)
    found = section(tmp_path)
    assert "Without a finished run: +stage_ratio." in found.sentences
    last = found.data["rungs"][-1]
    assert last["names"] == ["stage_ratio", "patchify"] and last["paper"] == pytest.approx(0.54 + 0.15)
    assert last["effect"]["difference"] == pytest.approx(7)


@pytest.mark.parametrize(
    ("kind", "names", "paper_points"), [("add_one", ["gelu"], 0.05), ("drop_one", ["gelu"], -0.05)]
)
def test_add_one_and_drop_one_compare_with_the_baseline(tmp_path, kind, names, paper_points):
    study = make_study(StudyConfig(question="?", **{kind: {"modernization": ["layernorm", "gelu"]}}), "mine")
    accuracies = [[50, 52], [55, 57], [51, 53]]
    arms = {
        name: {"overrides": overrides, "accuracies": own}
        for (name, overrides), own in zip(study.arms.items(), accuracies, strict=True)
    }
    write_study(tmp_path, arms, kind)
    first, _, last = section(tmp_path).data["rungs"]
    assert first["effect"] is None and last["names"] == names
    assert last["effect"] == last["total"] and last["effect"]["difference"] == pytest.approx(1)
    assert last["paper"] == pytest.approx(paper_points)


def test_ingredients_have_no_paper(tmp_path):
    arms = {
        "none": {"overrides": ["ingredient=[]"], "accuracies": [50, 52]},
        "+mixup": {"overrides": ["ingredient=[mixup]"], "accuracies": [53, 55]},
    }
    write_study(tmp_path, arms, "add_one", "ingredient")
    found = section(tmp_path)
    assert found.data["rungs"][1]["paper"] is None and found.data["rungs"][1]["names"] == ["mixup"]
    assert "paper, points" not in found.table.columns and not any("Paper" in line for line in found.sentences)


def test_runs_that_are_no_ladder_have_none(tmp_path):
    write_study(tmp_path / "arms", CUMULATIVE, "arms")
    assert section(tmp_path / "arms") is None
    write_study(tmp_path / "one", {"none": CUMULATIVE["none"]})
    assert section(tmp_path / "one") is None
    write_study(tmp_path / "plain", CUMULATIVE)
    (tmp_path / "plain/study.json").unlink()
    assert section(tmp_path / "plain") is None


# --- figure -------------------------------------------------------------------------------------------------------


def bars_of(axes):
    return [(bar.get_x(), bar.get_width()) for bar in axes.patches]


def test_figure_has_bars_intervals_and_the_papers_diamonds(tmp_path):
    write_study(tmp_path, CUMULATIVE)
    figure = section(tmp_path).figure()
    bars, effects = figure.axes
    (floor,) = {start for start, _ in bars_of(bars)}
    assert [floor + width for _, width in bars_of(bars)] == pytest.approx([51, 64, 58])
    assert bars.get_xlabel() == f"validation accuracy, % (axis starts at {floor})"
    assert [label.get_text() for label in bars.get_yticklabels()] == list(CUMULATIVE)
    half = stats.t.ppf(0.975, 1)  # of a mean of two seeds with variance 2
    (first, *_) = (bar for bar in bars.containers if isinstance(bar, ErrorbarContainer))
    assert first.lines[2][0].get_segments()[0][:, 0] == pytest.approx([51 - half, 51 + half])
    diamonds = [line.get_xdata()[0] for line in effects.lines if line.get_marker() == "D"]
    assert diamonds == pytest.approx([0.54, 0.15])
    ours = [line.get_xdata()[0] for line in effects.lines if line.get_marker() == "o"]
    assert ours == pytest.approx([13, -6]) and effects.get_ylim()[0] > effects.get_ylim()[1]
    texts = [text.get_text() for text in figure.texts]
    assert {"MACs, M", "ms/step", "400.0", "320.0", "What does each step give?"} <= set(texts)


def test_figure_has_a_panel_for_each_budget_the_shortest_first(tmp_path):
    for budget, seconds in (("240s", 240.0), ("15s", 15.0)):
        arms = {name: arm | {"budget": budget, "seconds": {"train": seconds}} for name, arm in CUMULATIVE.items()}
        write_study(tmp_path, arms)
    found = section(tmp_path)
    assert [rung["budget"] for rung in found.data["rungs"]] == ["15s"] * 3 + ["240s"] * 3
    figure = found.figure()
    assert len(figure.axes) == 4 and figure.axes[0].get_position().y0 > figure.axes[2].get_position().y0
    assert [text.get_text() for text in figure.texts if text.get_weight() == "bold"] == ["15s", "240s"]
