"""W&B's own charts of a run's results, from the files of its folder."""

from __future__ import annotations

import csv
from pathlib import Path


def wandb_charts(folder: Path) -> dict:
    """Return {name: chart} to log to W&B: the confusion matrix, where the run has written its counts.

    W&B can filter and compare its table over runs, which a picture does not allow.
    """
    import wandb

    path = folder / "confusion_matrix.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    counts = [
        [row["true"], predicted, int(count)] for row in rows for predicted, count in row.items() if predicted != "true"
    ]
    columns = ["Actual", "Predicted", "nPredictions"]  # as in wandb.plot.confusion_matrix, which takes labels instead
    chart = wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=columns, data=counts),
        fields={name: name for name in columns},
        string_fields={"title": "Confusion matrix"},
    )
    return {"confusion_matrix": chart}
