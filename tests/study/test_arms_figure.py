"""The figure of a sweep's arms, from records written by hand."""

import pytest
from PIL import Image
from written_cells import write_cell

from minuteloop.study.arms import arms
from minuteloop.study.arms_figure import draw_arms, plot_arms
from minuteloop.study.cell import read_cells


@pytest.fixture
def cells(tmp_path):
    """Three seeds of one arm, one of another, and one that failed."""
    code = {"commit": "0123456789", "dirty": True}
    for seed, accuracy in enumerate((0.50, 0.60, 0.70)):
        write_cell(tmp_path, seed, f"seed={seed} arch=a", accuracy=accuracy, **{"code": code} if seed == 0 else {})
    write_cell(tmp_path, 3, "seed=0 arch=b", accuracy=0.25)
    write_cell(tmp_path, 4, "seed=1 arch=b", status="failed", error="x")
    return read_cells(tmp_path)


def test_figure_has_a_dot_for_each_run_and_mean_and_std_of_each_arm(cells):
    figure = plot_arms(arms(cells, [cell.record() for cell in cells]), [], "now")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["arch=a, n = 3", "arch=b, n = 1"]
    dots = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"]
    assert dots == [pytest.approx([50, 60, 70]), pytest.approx([25])]
    (bar,) = axes.containers
    (segment,) = bar.lines[2][0].get_segments()
    assert segment[:, 0] == pytest.approx([50, 70]) and bar.lines[0].get_xdata() == pytest.approx([60])
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first arm is on top, as in the table"


def test_figure_names_date_hardware_and_commit(cells):
    caption = plot_arms(arms(cells, [cell.record() for cell in cells]), [], "now").get_supxlabel()
    assert all(part in caption for part in ("EPYC (family 25, model 1)", "2 threads", "torch 2.14.1", "0123456+"))
    assert caption[:2] == "20"


def test_figure_is_written_to_the_sweeps_folder(cells, tmp_path):
    draw_arms(cells, tmp_path)
    with Image.open(tmp_path / "arms.png") as image:
        assert image.width == 1350


def test_sweep_without_accuracies_has_no_figure(tmp_path):
    write_cell(tmp_path, 0, "data.holdout=0")
    draw_arms(read_cells(tmp_path), tmp_path)
    assert not (tmp_path / "arms.png").exists()
