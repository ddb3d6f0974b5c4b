"""Curves: the rows of metrics.csv, and the learning rate from its schedule."""

import csv

import numpy as np
import pytest

import minuteloop
from minuteloop.recipe.schedules import Cosine
from minuteloop.records.plots.curves import learning_rates, plot_curves

PLAN = {"steps": 200, "epochs": 4.0, "lr": 0.5}


def curves(rows, plan=PLAN):
    return plot_curves(rows, schedule=Cosine(), plan=plan).axes


def test_curves_plot_the_rows_sorted_by_step():
    rows = [
        {"step": "100", "train/loss": "1.5", "lr": "2e-3", "val/acc": "", "test/acc": ""},
        {"step": "50", "train/loss": "2", "lr": "1e-3", "val/acc": ""},
        {"step": "100", "train/loss": "", "lr": "", "val/acc": "0.4", "val/loss": "1.7"},
    ]
    loss, accuracy, _ = curves(rows)
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [[50, 2], [100, 1.5]])
    np.testing.assert_allclose(loss.lines[1].get_xydata(), [[100, 1.7]])
    np.testing.assert_allclose(accuracy.lines[0].get_xydata(), [[100, 40]])


def test_last_values_are_in_the_legends():
    rows = [
        {"step": "50", "train/loss": "2", "val/acc": "0.3", "val/loss": "2.1"},
        {"step": "200", "train/loss": "1.5", "val/acc": "0.4125", "val/loss": "1.75"},
        {"step": "200", "test/acc": "0.42", "test/loss": "1.6"},
    ]
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in curves(rows)]
    assert legends == [
        ["training 1.500", "validation 1.750", "test 1.600"],
        ["validation 41.25 %", "test 42.00 %"],
        ["peak 0.5, last 0.005"],
    ]


def test_learning_rate_shows_the_whole_schedule_whatever_was_logged():
    rate = curves([])[2].lines[0].get_xydata()
    assert rate[0].tolist() == [1, pytest.approx(0.5 * 1 / 20)] and rate[-1].tolist() == [200, pytest.approx(0.005)]
    assert rate[:20, 1] == pytest.approx(0.5 * np.arange(1, 21) / 20), "the warm-up, a tenth of the run"
    assert len(learning_rates(Cosine(), {"steps": 10**6, "epochs": 100.0, "lr": 1.0})[0]) == 500


@pytest.mark.parametrize("recipe", ["minute", "deit"])
def test_drawn_learning_rate_is_the_logged_one(cwd, monkeypatch, recipe):
    options = ["arch=resnet18", "size.depth=0.1", "size.width=0.125", "recipe.batch_size=32", "data=sample"]
    drawn = []

    def plot(rows, *, schedule, plan, caption):
        drawn.append((rows, learning_rates(schedule, plan)))
        return plot_curves(rows, schedule=schedule, plan=plan, caption=caption)

    monkeypatch.setattr("minuteloop.records.plots.draw.plot_curves", plot)
    more = [f"recipe={recipe}", "budget=60steps", "logger=none", "threads=1", "evaluations=1"]
    minuteloop.run([*options, *more, "hydra.run.dir=mine"])
    ((rows, (steps, rates)),) = drawn
    assert rows == list(csv.DictReader((cwd / "mine/metrics.csv").open()))
    logged = {int(row["step"]): float(row["lr"]) for row in rows if row["lr"]}
    assert logged and {step: rates[list(steps).index(step)] for step in logged} == pytest.approx(logged, rel=1e-5)


def test_second_axis_counts_epochs():
    for axes in curves([]):
        (second,) = axes.child_axes
        assert second.get_xlabel() == "epochs" and axes.get_xlabel() == "step"
        axes.figure.canvas.draw()
        np.testing.assert_allclose(second.get_xlim(), np.array(axes.get_xlim()) * 4 / 200)


def test_single_test_accuracy_without_validation_split_is_explained():
    row = {"step": "200", "test/acc": "0.62", "test/loss": "1.1"}
    _, accuracy, _ = curves([row])
    assert accuracy.get_ylim() == (0, 100)
    assert "data.holdout=0" in accuracy.texts[0].get_text()
    _, accuracy, _ = curves([row, {"step": "200", "val/acc": "0.61"}])
    assert not accuracy.texts


def test_tiny_learning_rates_are_written_at_their_ticks():
    rate = curves([], PLAN | {"lr": 4e-5})[2]
    rate.figure.canvas.draw()
    labels = [label.get_text().replace("\N{MINUS SIGN}", "-") for label in rate.get_yticklabels()]
    assert rate.yaxis.get_offset_text().get_text() == "" and "4e-05" in labels


def test_legends_leave_a_single_point_visible():
    loss, *_ = curves([{"step": "150", "train/loss": "2.3"}, {"step": "200", "test/loss": "2", "test/acc": "0.2"}])
    loss.figure.canvas.draw()
    box = loss.get_legend().get_window_extent()
    assert not any(box.contains(*loss.transData.transform(line.get_xydata()[0])) for line in loss.lines)
