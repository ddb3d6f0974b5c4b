"""W&B's own charts."""

import csv
import json

import minuteloop
from minuteloop.records.wandb_charts import wandb_charts


def test_confusion_matrix_chart_holds_the_counts_of_the_file(tmp_path):
    (tmp_path / "confusion_matrix.csv").write_text("true,cat,dog\ncat,7,3\ndog,1,9\n")
    chart = wandb_charts(tmp_path)["confusion_matrix"]
    assert chart.spec.spec_name == "wandb/confusion_matrix/v1"
    assert chart.table.columns == ["Actual", "Predicted", "nPredictions"]
    assert chart.table.data == [["cat", "cat", 7], ["cat", "dog", 3], ["dog", "cat", 1], ["dog", "dog", 9]]


def test_run_without_pictures_has_no_charts(tmp_path):
    assert wandb_charts(tmp_path) == {}


def test_run_logs_the_confusion_matrix_as_a_table(cwd, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(cwd))
    options = [
        "arch=resnet18",
        "size.depth=0.1",
        "size.width=0.125",
        "recipe.batch_size=32",
        "data=sample",
        "threads=1",
    ]
    minuteloop.run([*options, "logger=wandb", "evaluations=1", "budget=2steps", "hydra.run.dir=mine"])
    (file,) = cwd.glob("mine/wandb/offline-run-*/files/media/table/confusion_matrix*.json")
    table = json.loads(file.read_text())
    with (cwd / "mine/confusion_matrix.csv").open(newline="") as counts:
        rows = list(csv.DictReader(counts))
    assert table["columns"] == ["Actual", "Predicted", "nPredictions"]
    assert {(true, predicted): count for true, predicted, count in table["data"]} == {
        (row["true"], name): int(count) for row in rows for name, count in row.items() if name != "true"
    }
