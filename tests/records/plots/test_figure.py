"""Every picture has a title, a caption that says which run it is of, and 150 dots per inch."""

import io
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minuteloop.data.cifar_files import CIFAR10, CIFAR100
from minuteloop.records.plots.confusion import plot_confusion_matrix
from minuteloop.records.plots.curves import plot_curves
from minuteloop.records.plots.figure import DPI, Canvas, encode_png, run_caption
from minuteloop.records.plots.image_grid import FirstBatch, plot_misclassified, plot_training_batch

RECORD = {
    "config": {
        "name": "convnext-deit",
        "arch": {"name": "resnet", "applied": {"patchify": "Liu 2022", "gelu": "Liu 2022"}},
        "size": {"name": "pico"},
        "recipe": {"name": "deit"},
        "data": {"name": "cifar10"},
        "budget": "60s",
        "threads": 2,
        "precision": "bf16",
    },
    "seed": 3,
    "plan": {"steps": 400, "batch_size": 128, "epochs": 1.2},
    "steps": 400,
    "config_hash": "0123456789abcdef",
    "code": {"version": "0.1.0", "commit": "deadbeefcafe", "dirty": False},
    "host": {"cpu": "AMD EPYC (family 26, model 2)"},
}
DATE = datetime(2026, 11, 28, 9, 5)


def test_caption_names_run_seed_config_budget_commit_hardware_and_date():
    assert run_caption(RECORD, Path("runs/convnext-deit/1128-ab"), DATE) == [
        "convnext-deit (1128-ab)",
        "seed 3",
        "arch=resnet size=pico recipe=deit data=cifar10 with patchify, gelu",
        "budget=60s: 400 steps, 1.20 epochs",
        "config 0123456789abcdef",
        "minuteloop 0.1.0, commit deadbeef",
        "AMD EPYC (family 26, model 2), 2 threads, bf16",
        "2026-11-28 09:05",
    ]


def test_caption_of_an_interrupted_run_of_changed_code_on_a_gpu():
    record = RECORD | {
        "steps": 100,
        "code": RECORD["code"] | {"dirty": True},
        "host": RECORD["host"] | {"gpu": "NVIDIA H200"},
    }
    parts = run_caption(record, Path("mine"), DATE)
    assert parts[3] == "budget=60s: 100 of 400 steps, 0.30 epochs"
    assert parts[5].endswith("commit deadbeef with changes") and parts[6] == "NVIDIA H200, bf16"


def pictures(caption):
    """Yield every kind of picture, with and without content."""
    generator = np.random.default_rng(0)
    for classes in (CIFAR10.classes, CIFAR100.classes):
        k = len(classes)
        images = generator.integers(0, 255, (20, 3, 32, 32), dtype=np.uint8)
        labels, factors = np.arange(20) % k, {"Crop": None, "RandomErasing": 0.45, "Mixup": 0, "CutMix": 0}
        batch = FirstBatch(images, labels, images / 255, np.eye(k)[labels], factors)
        yield plot_confusion_matrix(generator.integers(0, 9, (k, k)), classes, split="test", caption=caption)
        yield plot_training_batch(batch, classes, caption=caption)
        for right in (False, True):
            probabilities = np.eye(k)[(labels + (not right)) % k]
            options = {"split": "validation", "indices": np.arange(20) + 40000, "caption": caption}
            yield plot_misclassified(images, labels, probabilities, classes, **options)
    plan = {"steps": 10, "epochs": 0.1, "lr": 0.1}
    for rows in ([], [{"step": "10", "test/acc": "0.5", "test/loss": "1.2"}]):
        yield plot_curves(rows, schedule=lambda *_: 1.0, plan=plan, caption=caption)


def test_every_picture_has_its_texts_inside_and_caption_and_title_apart():
    caption = run_caption(RECORD | {"host": {"cpu": "Intel(R) Xeon(R) Platinum " + "8488C " * 9}}, Path("m"), DATE)
    for figure in pictures(caption):
        written = "".join(text.get_text() for text in figure.texts).replace("\N{NO-BREAK SPACE}", " ")
        assert all(part[:40] in written for part in caption)
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
        for axes in figure.axes:
            boxes += [box for box in [axes.get_tightbbox()] if box]
        width, height = figure.bbox.size
        assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
        boxes = [text.get_window_extent() for text in figure.texts]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]), written


def test_pictures_have_150_dpi_and_no_white_bands():
    for figure in pictures(run_caption(RECORD, Path("mine"), DATE)):
        with Image.open(io.BytesIO(encode_png(figure))) as image:
            assert image.size == tuple(figure.bbox.size.astype(int))
            assert image.info["dpi"] == pytest.approx((DPI, DPI), abs=0.1)
            ink = np.asarray(image.convert("L")) < 250
            rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
            assert rows[0] < 0.35 * DPI and len(ink) - rows[-1] < 0.35 * DPI and columns[0] < 0.35 * DPI
            gaps = np.diff(rows)
            assert gaps.max() < 0.75 * DPI, "an empty band"


def test_image_pixels_reach_the_file_unchanged():
    pixels = np.random.default_rng(0).integers(0, 255, (40, 301, 3), dtype=np.uint8)
    canvas = Canvas(301 / DPI, 40 / DPI, "a title", "a subtitle", ["a caption"])
    canvas.image(pixels)
    with Image.open(io.BytesIO(encode_png(canvas.figure))) as image:
        content = np.asarray(image.convert("RGB"))
    windows = np.lib.stride_tricks.sliding_window_view(content, pixels.shape)[:, :, 0]
    assert any((window == pixels).all() for row in windows for window in row if (window[0, 0] == pixels[0, 0]).all())


def test_a_name_with_dollars_or_strange_glyphs_is_only_text(recwarn):
    canvas = Canvas(4, 1, "lr $x$ {", caption=["a$b_{$", "网络"])
    assert encode_png(canvas.figure) and not recwarn.list
