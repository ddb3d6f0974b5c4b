"""metrics.csv: its columns, and how a resumed run continues them."""

import csv

from minuteloop.records.metrics_csv import MetricsCSV


def test_rows_have_the_training_seconds_and_only_the_columns(tmp_path):
    path, times = tmp_path / "metrics.csv", iter([1.5, 59.75289532599709])
    logger = MetricsCSV(path, lambda: next(times))
    logger.log_metrics({"train/loss": 2.25, "lr": 0.1, "val/top5": 0.9}, 3)
    logger.log_metrics({"val/acc": 0.5}, 4)
    assert path.read_text().splitlines() == [
        "step,seconds,train/loss,lr,val/acc,val/loss,test/acc,test/loss",
        "3,1.5,2.25,0.1,,,,",
        "4,59.7529,,,0.5,,,",
    ]


def test_resumed_file_keeps_the_columns_that_it_was_started_with(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss,lr\n50,2.5,0.1\n")  # before there were seconds
    MetricsCSV(path, lambda: 7.0, resumed=True).log_metrics({"train/loss": 2.0, "lr": 0.2, "val/acc": 0.3}, 100)
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"step": "50", "train/loss": "2.5", "lr": "0.1"},
            {"step": "100", "train/loss": "2", "lr": "0.2"},
        ]
