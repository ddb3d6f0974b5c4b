"""Pictures of a trained net from inside."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import minuteloop
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.schema import Arch, Size, Stem
from minuteloop.trained.feature_maps import filters, look, stem_filters
from minuteloop.validation import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("looked") / "run"
    options = ["data=sample", "logger=none", "size.width=0.125", "recipe.batch_size=64", "threads=1", "budget=2steps"]
    minuteloop.run([*options, f"hydra.run.dir={folder}"])
    return folder


def test_filters_and_maps_are_drawn_into_the_runs_folder(run):
    command = [sys.executable, str(ROOT / "scripts/look.py"), str(run), "--images", "3", "999"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert told == [str(run / "pictures" / name) for name in ("filters.png", "maps.png")]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") and Path(path).stat().st_size > 3000 for path in told)


def test_what_cannot_be_looked_at_is_refused_in_one_line(run, tmp_path):
    with pytest.raises(ConfigError, match="image 1000: the test set of sample has the images 0 to 999"):
        look(run, [1000])
    with pytest.raises(ConfigError, match="no run left its record there"):
        look(tmp_path, [0])


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_space_to_depth_stems_filters_are_shown_as_they_read_pixels(stride):
    """Correlating the image with them is what the stem does."""
    torch.manual_seed(0)
    arch = Arch(stem=Stem("space_to_depth", stride=stride))
    net = build_net(resolve(arch, Size(width=0.125, depth=0.3, reduce=8 * stride), 32, 10))
    shown = torch.from_numpy(stem_filters(net))
    assert shown.shape[1:] == (3, 3 * stride, 3 * stride)
    x = torch.randn(1, 3, 32, 32)
    convolution = next(i for i, module in enumerate(net.stem) if isinstance(module, torch.nn.Conv2d))
    expected = net.stem[: convolution + 1](x)
    ours = torch.nn.functional.conv2d(x, shown, stride=stride, padding=stride)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_filters_are_shown_from_black_to_white_with_grey_for_0():
    weights = np.zeros((3, 3, 2, 2), dtype=np.float32)
    weights[0, :, 0, 0], weights[0, :, 1, 1] = -2, 2
    first, second, *_ = (axes.images[0].get_array() for axes in filters(weights).axes)
    assert first[0, 0].tolist() == [0, 0, 0] and first[1, 1].tolist() == [1, 1, 1] and (second == 0.5).all()
