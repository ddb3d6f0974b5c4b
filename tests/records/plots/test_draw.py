"""Pictures of a run are drawn at its end, into its folder, and cannot cost it."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import minuteloop
from minuteloop.data.cifar import load
from minuteloop.records.plots import draw

SMALLEST = ["arch=resnet18", "size.depth=0.1", "size.width=0.125", "recipe.batch_size=32"]
QUICK = [*SMALLEST, "data=sample", "logger=none", "threads=1", "evaluations=1"]


def test_run_draws_pictures_unless_they_are_disabled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = minuteloop.run([*QUICK, "budget=60steps", "hydra.run.dir=mine"])
    files = sorted((tmp_path / "mine/pictures").iterdir())
    assert [file.name for file in files] == [
        "confusion_matrix.png",
        "curves.png",
        "misclassified.png",
        "training_batch.png",
    ]
    for file in files:
        with Image.open(file) as image:
            assert image.format == "PNG" and np.asarray(image).std() > 10
    assert record["seconds"]["log"] > 0.1, "drawing counts as logging"
    minuteloop.run([*QUICK, "budget=60steps", "logger.pictures=false", "hydra.run.dir=plain"])
    assert not any((tmp_path / "plain" / name).exists() for name in ("pictures", "confusion_matrix.csv"))
    assert (tmp_path / "plain/model.safetensors").read_bytes() == (tmp_path / "mine/model.safetensors").read_bytes()


def test_failed_picture_is_a_warning(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ValueError("no ink")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(draw, "plot_misclassified", broken)
    record = minuteloop.run([*QUICK, "budget=2steps", "hydra.run.dir=mine"])
    assert record["status"] == "finished" and record["error"] is None
    log = (tmp_path / "mine/log.txt").read_text()
    assert "warning: pictures/misclassified.png was not drawn: ValueError: no ink" in log
    assert len(list((tmp_path / "mine/pictures").iterdir())) == 3


def test_confusion_matrix_file_adds_up_to_the_accuracy_of_the_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = minuteloop.run([*QUICK, "budget=30steps", "hydra.run.dir=mine"])
    with (tmp_path / "mine/confusion_matrix.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    counts = np.array([[int(value) for value in row[1:]] for row in rows])
    assert header[0] == "true" and header[1:] == [row[0] for row in rows] == list(load("sample").classes)
    assert (counts.sum(1) == 100).all() and np.trace(counts) / 1000 == pytest.approx(record["metrics"]["test/acc"])


def test_evaluated_probabilities_are_the_softmax_of_all_batches():
    logits = [torch.randn(3, 10), torch.randn(2, 10)]
    evaluated = draw.Evaluated("test", None, None, None, logits)
    np.testing.assert_allclose(evaluated.probabilities(), torch.cat(logits).softmax(1).numpy())


@pytest.mark.parametrize("classes", [10, 100])
def test_drawing_leaves_matplotlib_globals_unchanged(classes):
    code = f"""if True:
        import matplotlib, numpy as np
        settings = lambda: repr(sorted(dict.items(matplotlib.rcParams)))  # rcParams.items() would pick a backend
        before = settings()
        from minuteloop.records.plots.confusion import plot_confusion_matrix
        from minuteloop.records.plots.curves import plot_curves
        from minuteloop.records.plots.figure import encode_png
        encode_png(plot_confusion_matrix(np.eye({classes}, dtype=int), ["a"] * {classes}, split="test"))
        encode_png(plot_curves([], schedule=lambda *_: 1.0, plan={{"steps": 5, "epochs": 1.0, "lr": 1.0}}))
        from matplotlib._pylab_helpers import Gcf
        assert settings() == before and not Gcf.figs
        import sys
        assert "matplotlib.pyplot" not in sys.modules and "torch" not in sys.modules
    """
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
