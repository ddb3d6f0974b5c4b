"""Curves: means and ranges over seeds from metrics.csv, by seconds and by steps."""

import pytest
from report_records import record, write_run

from minuteloop.report.curves import average, curves
from minuteloop.report.report import read_report

HEADER = "step,seconds,train/loss,lr,val/acc,val/loss,test/acc,test/loss\n"


def metrics(accuracies, losses, seconds=60.0, steps=1000):
    """Return metrics.csv with values at equal distances, the last at the end of the run."""
    rows = [HEADER]
    for column, values in (("{},,,,", losses), (",,{},,,", accuracies)):
        for index, value in enumerate(values, start=1):
            part = index / len(values)
            rows.append(f"{round(steps * part)},{seconds * part:.6g},{column.format(value)}\n")
    return "".join(rows)


def write(folder, curves_of_seeds, overrides=("arch=a",), **changed):
    for seed, text in enumerate(curves_of_seeds):
        write_run(folder / f"{overrides[0]}-{seed}", record(list(overrides), seed, 0.5, **changed), text)
    return folder


def only_arm(folder):
    ((arm,),) = (group.arms for group in read_report([folder]).groups)
    return arm


def test_mean_and_range_over_seeds(tmp_path):
    write(tmp_path, [metrics([0.2, 0.5], [2, 1], seconds=60), metrics([0.4, 0.6], [3, 1], seconds=62)])
    accuracy = average(only_arm(tmp_path), "val/acc")
    assert accuracy.steps.tolist() == [500, 1000] and accuracy.seconds.tolist() == [30.5, 61] and accuracy.n == 2
    assert accuracy.mean == pytest.approx([30, 55])
    assert accuracy.low == pytest.approx([20, 50]) and accuracy.high == pytest.approx([40, 60])
    loss = average(only_arm(tmp_path), "train/loss")
    assert loss.mean == pytest.approx([2.5, 1]) and loss.low == pytest.approx([2, 1])


def test_seeds_with_other_steps_are_averaged_at_equal_fractions_of_their_runs(tmp_path):
    write(tmp_path, [metrics([], [4, 3, 2, 1])])
    content = record(["arch=a"], 1, 0.5, steps=2000)
    write_run(tmp_path / "longer", content, metrics([], [2, 1], seconds=60, steps=2000))
    loss = average(only_arm(tmp_path), "train/loss")
    assert loss.steps.tolist() == [750, 1500] and loss.mean.tolist() == [2.5, 1], "3 and 2 at half of each run"


def test_runs_without_seconds_have_steps_at_their_mean_rate(tmp_path):
    text = "step,train/loss,lr,val/acc,val/loss,test/acc,test/loss\n500,2,,,,,\n1000,1,,,,,\n"
    write(tmp_path, [text], pace={"steps_per_second": 25.0})
    assert average(only_arm(tmp_path), "train/loss").seconds.tolist() == [20, 40]


def test_table_has_the_accuracy_at_quarters_of_the_run(tmp_path):
    write(tmp_path, [metrics([0.2, 0.5], [2, 1]), metrics([0.4, 0.6], [3, 1])])
    found = curves(read_report([tmp_path]))
    assert found.table.columns == ["arm", "val at 25%", "val at 50%", "val at 75%", "val at the end"]
    ((arm, *texts),) = found.table.rows
    assert arm == found.data["curves"][0]["arm"] and texts == ["-", "30.00 %", "42.50 %", "55.00 %"]
    assert found.table.values == [[None, None, *(pytest.approx(value) for value in (30, 42.5, 55))]]
    assert [(curve["column"], curve["n"]) for curve in found.data["curves"]] == [("val/acc", 2), ("train/loss", 2)]


def test_first_evaluation_a_step_after_a_quarter_is_shown_there(tmp_path):
    rows = [f"{step},{step},,,{accuracy},,,\n" for step, accuracy in ((251, 0.2), (502, 0.3), (753, 0.4), (1000, 0.5))]
    write(tmp_path, [HEADER + "".join(rows)])
    ((_, *values),) = curves(read_report([tmp_path])).table.values
    assert values == pytest.approx([20, 20 + 10 * 249 / 251, 30 + 10 * 248 / 251, 50])


def test_runs_without_metrics_are_left_out_and_counted(tmp_path):
    write(tmp_path, [metrics([0.2, 0.5], [2, 1]), None])
    found = curves(read_report([tmp_path]))
    assert found.data["curves"][0]["n"] == 1 and "1 of 2 runs have no metrics.csv: left out." in found.sentences
    assert any(
        "n = 1 seed an arm" in text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in found.figure().texts
    )


def test_runs_without_curves_have_no_section(tmp_path):
    write(tmp_path / "none", [None, None])
    assert curves(read_report([tmp_path / "none"])) is None
    write(tmp_path / "short", [HEADER + "1,0.1,2.3,,,,,\n"])
    assert curves(read_report([tmp_path / "short"])) is None


# --- figure -------------------------------------------------------------------------------------------------------


def test_figure_has_lines_and_bands_by_seconds_and_by_steps(tmp_path):
    write(tmp_path, [metrics([0.2, 0.5], [2, 1], seconds=60), metrics([0.4, 0.6], [3, 1], seconds=62)])
    write(tmp_path, [metrics([0.1, 0.2], [3, 2])], ("arch=b",))
    figure = curves(read_report([tmp_path])).figure()
    by_seconds, by_steps, loss, _ = figure.axes
    first, second = by_seconds.lines
    assert first.get_xdata().tolist() == [30.5, 61] and first.get_ydata() == pytest.approx([30, 55])
    assert second.get_ydata() == pytest.approx([10, 20])
    assert by_steps.lines[0].get_xdata().tolist() == [500, 1000]
    (band,) = by_seconds.collections  # one seed has none
    box = band.get_paths()[0].get_extents()
    assert (box.x0, box.x1, box.y0, box.y1) == pytest.approx((30.5, 61, 20, 60))
    assert (by_seconds.get_xlabel(), by_steps.get_xlabel()) == ("training seconds", "steps")
    assert (by_seconds.get_ylabel(), loss.get_ylabel()) == ("validation accuracy, %", "training loss")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["arch=a", "arch=b"]
    assert len({line.get_color() for line in legend.get_lines()}) == 2


def test_many_arms_have_lines_of_their_own_and_no_bands(tmp_path):
    for index in range(9):
        write(tmp_path, [metrics([], [2, 1]), metrics([], [3, 1])], (f"arch={index}",))
    found = curves(read_report([tmp_path]))
    axes, _ = found.figure().axes
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 9 and not axes.collections
    assert found.table is None, "without accuracies"
