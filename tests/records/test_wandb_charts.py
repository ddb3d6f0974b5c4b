"""W&B's own charts."""

from minuteloop.records.wandb_charts import wandb_charts


def test_confusion_matrix_chart_holds_the_counts_of_the_file(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/confusion_matrix.csv").write_text("true,cat,dog\ncat,7,3\ndog,1,9\n")
    chart = wandb_charts(tmp_path)["confusion_matrix"]
    assert chart.spec.spec_name == "wandb/confusion_matrix/v1"
    assert chart.table.columns == ["Actual", "Predicted", "nPredictions"]
    assert chart.table.data == [["cat", "cat", 7], ["cat", "dog", 3], ["dog", "cat", 1], ["dog", "dog", 9]]


def test_run_without_pictures_has_no_charts(tmp_path):
    assert wandb_charts(tmp_path) == {}
