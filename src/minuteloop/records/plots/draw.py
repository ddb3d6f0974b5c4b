"""Draw the pictures of a run into its folder."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from minuteloop.records.plots.confusion import confusion_counts, plot_confusion_matrix
from minuteloop.records.plots.curves import plot_curves
from minuteloop.records.plots.figure import encode_png, run_caption
from minuteloop.records.plots.image_grid import FirstBatch, plot_misclassified, plot_training_batch
from minuteloop.records.record import Record

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("minuteloop")


@dataclass(frozen=True)
class Evaluated:
    """A split, the net's logits on it and where its images are from.

    Attributes:
        split: "validation" or "test".
        images, labels: uint8 [N,3,H,W] and int64 [N].
        indices: int64 [N], of the images among the dataset's training or test images.
        logits: [n,K] of each batch, on any device.
    """

    split: str
    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    logits: list[Tensor]

    def probabilities(self) -> np.ndarray:
        """Return the softmax of the logits, [N,K]."""
        import torch

        return torch.cat(self.logits).softmax(1).cpu().numpy()


def draw(
    record: Record,
    *,
    classes: Sequence[str],
    schedule: Callable[[float, float], float],
    evaluated: Evaluated | None,
    first_batch: Callable[[], FirstBatch],
) -> None:
    """Write pictures/*.png to the run's folder; log a warning for each that cannot be drawn or written.

    confusion_matrix.csv has the numbers of the confusion matrix.

    Args:
        record: of a run that has written metrics.csv.
        classes: the names of the K classes.
        schedule: maps progress in [0, 1] and the planned epochs to a factor on the peak learning rate.
        evaluated: the split that the pictures of results show; None without one.
        first_batch: returns the first training batch.
    """
    caption = run_caption(record.content, record.folder, datetime.now())

    def confusion_matrix():
        probabilities = evaluated.probabilities()
        counts = confusion_counts(evaluated.labels, probabilities.argmax(1), len(classes))
        record.write("confusion_matrix.csv", _csv(counts, classes))
        return plot_confusion_matrix(counts, classes, split=evaluated.split, caption=caption)

    def misclassified():
        return plot_misclassified(
            evaluated.images,
            evaluated.labels,
            evaluated.probabilities(),
            classes,
            split=evaluated.split,
            indices=evaluated.indices,
            caption=caption,
        )

    def curves():
        with (record.folder / "metrics.csv").open(newline="") as file:
            return plot_curves(
                list(csv.DictReader(file)), schedule=schedule, plan=record.content["plan"], caption=caption
            )

    pictures = {
        "training_batch": lambda: plot_training_batch(first_batch(), classes, caption=caption),
        "curves": curves,
    }
    if evaluated:
        pictures |= {"confusion_matrix": confusion_matrix, "misclassified": misclassified}
    for name, plot in pictures.items():
        try:
            (record.folder / "pictures").mkdir(exist_ok=True)
            record.write(f"pictures/{name}.png", encode_png(plot()))
        except Exception as error:
            log.warning(f"pictures/{name}.png was not drawn: {type(error).__name__}: {error}")


def _csv(counts: np.ndarray, classes: Sequence[str]) -> bytes:
    """Return confusion_counts as a table: a row for each true class, a column for each predicted one."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["true", *classes])
    writer.writerows([name, *row] for name, row in zip(classes, counts.tolist(), strict=True))
    return file.getvalue().encode()
