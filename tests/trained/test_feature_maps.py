"""Pictures of a trained net's filters and feature maps."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import minuteloop
from minuteloop.data import cifar
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.schema import Arch, Size, Stem
from minuteloop.trained import feature_maps
from minuteloop.trained.feature_maps import draw_feature_maps, plot_feature_maps, plot_filters, stem_filters
from minuteloop.validation import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["data=sample", "logger=none", "size.width=0.125", "recipe.batch_size=64", "threads=1", "budget=2steps"]
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


@pytest.mark.parametrize("stride", [1, 2, 4])
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


def test_filters_range_from_black_to_white_with_grey_for_0():
    weights = np.zeros((3, 3, 2, 2), dtype=np.float32)
    weights[0, :, 0, 0], weights[0, :, 1, 1] = -2, 2
    first, second, *_ = (axes.images[0].get_array() for axes in plot_filters(weights).axes)
    assert first[0, 0].tolist() == [0, 0, 0] and first[1, 1].tolist() == [1, 1, 1] and (second == 0.5).all()


def test_filters_fill_an_incomplete_last_row():
    axes = plot_filters(np.ones((10, 3, 2, 2), dtype=np.float32)).axes
    assert [len(ax.images) for ax in axes] == [1] * 10 + [0] * 6 and not any(ax.axison for ax in axes)


def test_feature_maps_have_a_row_per_image_and_a_column_per_stage():
    images = np.zeros((2, 3, 32, 32), dtype=np.uint8)
    magnitudes = [(2, np.random.rand(2, 16, 16)), (4, np.random.rand(2, 8, 8))]
    axes = plot_feature_maps(images, magnitudes, ["maple_tree", "cat"]).axes
    titles = [ax.get_title() for ax in axes]
    assert titles == ["maple tree", "stage 1, /2", "stage 2, /4", "cat", "", ""]
    np.testing.assert_array_equal(axes[5].images[0].get_array(), magnitudes[1][1][1])
