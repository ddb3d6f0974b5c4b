"""Pictures of a trained net's filters and feature maps."""

import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

import minuteloop
from minuteloop.arch_schema import Arch, Size, Stem
from minuteloop.data import cifar
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.records.plots.image_grid import GAP, IMAGE, INNER_GAP, LINE
from minuteloop.trained import feature_maps
from minuteloop.trained.feature_maps import FILTER, draw_feature_maps, plot_feature_maps, plot_filters, stem_filters
from minuteloop.validation import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = [
        "data=sample",
        "logger=none",
        "logger.pictures=false",
        "size.width=0.125",
        "recipe.batch_size=64",
        "threads=1",
        "budget=2steps",
    ]
    minuteloop.run([*options, f"hydra.run.dir={folder}"])
    return folder


@pytest.mark.exhaustive
def test_script_draws_filters_and_feature_maps_into_the_run(run):
    command = [sys.executable, str(ROOT / "scripts/features.py"), str(run), "--images", "3", "999"]
    paths = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert paths == [str(run / "pictures" / name) for name in ("filters.png", "maps.png")]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") and Path(path).stat().st_size > 3000 for path in paths)


def test_wrong_image_or_folder_is_a_one_line_error(run, tmp_path):
    with pytest.raises(ConfigError, match=r"image 1000: must be in \[0, 999\], the test set"):
        draw_feature_maps(run, [1000])
    with pytest.raises(ConfigError, match=r"has no result\.json of a run"):
        draw_feature_maps(tmp_path, [0])


@pytest.mark.parametrize("exists", [True, False])
def test_images_come_from_the_root_of_the_run_while_it_exists(run, tmp_path, monkeypatch, exists):
    record = json.loads((run / "result.json").read_text())
    record["config"]["data"] = record["config"]["data"] | {"name": "cifar10", "root": str(tmp_path / "data")}
    (tmp_path / "result.json").write_text(json.dumps(record))
    if exists:
        (tmp_path / "data").mkdir()
    calls = []
    monkeypatch.setattr(cifar, "load", lambda *arguments: calls.append(arguments))
    feature_maps._load_images(tmp_path)
    assert calls == [("cifar10", str(tmp_path / "data") if exists else "auto")]


@pytest.mark.parametrize("stride", [2, 4])
def test_stem_filters_convolve_the_image_like_a_space_to_depth_stem(stride):
    torch.manual_seed(0)
    arch = Arch(stem=Stem("space_to_depth", stride=stride))
    net = build_net(resolve(arch, Size(width=0.125, depth=0.3, reduce=8 * stride), 32, 10))
    weight = torch.from_numpy(stem_filters(net))
    assert weight.shape[1:] == (3, 3 * stride, 3 * stride)
    x = torch.randn(1, 3, 32, 32)
    convolution = next(i for i, module in enumerate(net.stem) if isinstance(module, torch.nn.Conv2d))
    expected = net.stem[: convolution + 1](x)
    actual = torch.nn.functional.conv2d(x, weight, stride=stride, padding=stride)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def pixels_of(figure):
    return figure.images[0].get_array()[..., :3]


def test_filters_range_from_black_to_white_with_grey_for_0():
    weights = np.zeros((3, 3, 2, 2), dtype=np.float32)
    weights[0, :, 0, 0], weights[0, :, 1, 1] = -2, 2
    pixels = pixels_of(plot_filters(weights))
    assert (pixels[: FILTER // 2, : FILTER // 2] == 0).all()
    assert (pixels[FILTER // 2 : FILTER, FILTER // 2 : FILTER] == 255).all()
    second = FILTER + GAP // 2
    assert (pixels[:FILTER, second : second + FILTER] == 128).all()


def test_filters_fill_an_incomplete_last_row():
    figure = plot_filters(np.ones((10, 3, 2, 2), dtype=np.float32))
    cell = FILTER + GAP // 2
    assert pixels_of(figure).shape == (2 * cell, 8 * cell, 3), "ten filters of ones are white on white"
    assert figure.texts[0].get_text() == "Stem filters: 10 of 10, 2x2 pixels each"


def test_feature_maps_have_a_row_per_image_and_a_map_and_an_overlay_per_stage():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (2, 3, 32, 32), dtype=np.uint8)
    magnitudes = [(2, generator.random((2, 16, 16)) + 3), (4, generator.random((2, 8, 8)))]
    texts = [[("✗ cat 90 %", "red"), ("✓ maple tree 4 %", "blue")], [("✓ dog 50 %", "blue")]]
    figure = plot_feature_maps(images, magnitudes, texts, ["the caption"])
    written = [text.get_text() for text in figure.texts]
    assert written[0] == "Feature maps: root mean square over the channels of each stage's output"
    assert {"✗ cat 90 %", "✓ maple tree 4 %", "✓ dog 50 %", "the\N{NO-BREAK SPACE}caption"} < set(written)
    assert written[-2:] == ["stage 1, stride 2, 16x16", "stage 2, stride 4, 8x8"]

    pixels, cell = pixels_of(figure), IMAGE + INNER_GAP
    top = LINE + 4 + IMAGE + 3 * LINE + GAP  # of the second image
    row = pixels[top : top + IMAGE]
    assert (row[::5, :IMAGE:5] == images[1].transpose(1, 2, 0)).all()
    maps = magnitudes[1][1]
    scaled = (maps[1] - maps.min()) / (maps.max() - maps.min())
    expected = np.round(255 * matplotlib.colormaps["viridis"](scaled)[..., :3])
    assert (row[::20, 3 * cell : 3 * cell + IMAGE : 20] == expected).all()
    overlay = row[:, 4 * cell : 4 * cell + IMAGE].astype(float)
    grey = np.repeat(np.repeat(images[1].mean(0), 5, 0), 5, 1)
    assert np.corrcoef(overlay.mean(2).ravel(), grey.ravel())[0, 1] > 0.7, "the image shows through"


def test_scale_of_each_stage_is_in_numbers():
    magnitudes = [(2, np.array([[[1.5, 2.0], [2.5, 0.25]]])), (4, np.ones((1, 1, 1)))]
    axes = plot_feature_maps(np.zeros((1, 3, 32, 32), np.uint8), magnitudes, [[]]).axes
    labels = [[label.get_text() for label in ax.get_xticklabels()] for ax in axes]
    assert labels == [["0.25", "2.5"], ["1", "1"]]


def test_predicted_class_and_probability_are_those_of_the_loaded_net(run, monkeypatch):
    calls = []
    plot = feature_maps.plot_feature_maps
    monkeypatch.setattr(feature_maps, "plot_feature_maps", lambda *args: calls.append(args) or plot(*args))
    draw_feature_maps(run, [3, 999])
    ((images, _, texts, caption),) = calls
    dataset = cifar.load("sample")
    probabilities = minuteloop.load(run)(images).softmax(1).detach().numpy()
    for index, lines, row in zip([3, 999], texts, probabilities, strict=True):
        words = [text for text, _ in lines]
        label, predicted = dataset.test_labels[index], row.argmax()
        first = f"{'✓' if label == predicted else '✗'} {dataset.classes[predicted]} {row[predicted]:.0%}"
        assert words[0] == first.replace("%", " %") and words[-1] == f"#{index}"
    assert caption[0].endswith("(run)") and "seed 0" in caption
