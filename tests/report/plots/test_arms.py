"""The figure of arms, read back from its axes."""

import pytest
from report_records import record

from minuteloop.records.machine import machine_of
from minuteloop.report.arms import Arm
from minuteloop.report.plots.arms import plot_arms
from minuteloop.report.runs import Run


def arm(label, *percents):
    runs = [Run(record([], seed, percent / 100), [], None) for seed, percent in enumerate(percents)]
    return Arm(label, "60s", machine_of(runs[0].record), runs, "val/acc")


def test_figure_has_a_dot_for_each_run_and_mean_and_interval_of_each_arm():
    long = "recipe.lr=0.123 " * 6
    figure = plot_arms([(each.label, each) for each in (arm("a", 50, 60, 70), arm(long, 25))], "Which?", "val/acc")
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "a, n = 3" and labels[1].endswith("n = 1") and max(map(len, labels[1].splitlines())) <= 44
    dots = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"]
    assert dots == [pytest.approx([50, 60, 70]), pytest.approx([25])]
    (bar,) = axes.containers
    (segment,) = bar.lines[2][0].get_segments()
    # Student's t at 97.5 % with 2 degrees of freedom is 4.303; the standard error of 50, 60, 70 is 10 / sqrt(3)
    assert segment[:, 0] == pytest.approx([60 - 24.84, 60 + 24.84], abs=0.01)
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first arm is on top, as in the table"
