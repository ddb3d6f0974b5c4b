"""A norm over the batch that would get one value per channel is refused when the config is composed."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minuteloop import compose
from minuteloop.config.compose import IMAGE_SIZE
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.validation import ConfigError

TINY = ["data=sample", "size=nano", "size.reduce=32"]
LINE = "must be >= 2; a norm would get 1 value per channel on images of {0}x{0} pixels (a smaller size.reduce may help)"
GHOST = ["ingredient=[ghost_batch_norm]", "recipe.regularizers.ghost_batch_norm.ghost_batch_size=1"]


@pytest.mark.parametrize(
    ("overrides", "key", "size"),
    [
        (["arch=resnet", "size.reduce=64", "recipe.batch_size=1"], "recipe.batch_size", 32),
        (["arch=resnet", "recipe.batch_size=1"], "recipe.batch_size", 32),
        (["arch=resnet", *GHOST], "recipe.regularizers.ghost_batch_norm.ghost_batch_size", 32),
        (["arch=resnet", "recipe.batch_size=1", *GHOST], "recipe.batch_size", 32),
        (["arch=resnet", "recipe.batch_size=1", "arch.block.norm=evonorm_b0"], "recipe.batch_size", 32),
        (
            ["arch=resnet", "size.reduce=16", "recipe.batch_size=1", "ingredient=[progressive]"],
            "recipe.batch_size",
            16,
        ),
        (["arch=vgg16", "size.reduce=8", "arch.head.norm=after", "recipe.batch_size=1"], "recipe.batch_size", 32),
    ],
    ids=["reduce 64", "1x1", "ghost", "both", "EvoNorm-B0", "progressive", "after the pool"],
)
def test_norm_with_one_value_per_channel_is_refused(overrides, key, size):
    with pytest.raises(ConfigError) as error:
        compose([*TINY, *overrides])
    assert str(error.value) == f"{key}=1: {LINE.format(size)}"


@pytest.mark.parametrize(
    "overrides",
    [
        ["arch=resnet", "size.reduce=16", "recipe.batch_size=1"],  # four values of a 2x2 map
        ["arch=resnet", "recipe.batch_size=2"],
        ["arch=convnext", "recipe.batch_size=1"],
        ["arch=vit_ti", "recipe.batch_size=1"],
        ["arch=resnet", "size.reduce=16", *GHOST],
    ],
    ids=["2x2", "batch of 2", "layer norm", "transformer", "ghost on 2x2"],
)
def test_other_small_batches_are_accepted_and_train(overrides):
    config = compose([*TINY, *overrides])
    net = build_net(resolve(config.arch, config.size, IMAGE_SIZE, 10)).train()
    assert net(torch.rand(config.recipe.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE)).isfinite().all()


def test_torch_is_not_imported_for_larger_batches():
    code = f"import sys, minuteloop; minuteloop.compose({[*TINY, 'arch=resnet', 'recipe.batch_size=2']!r})\n"
    done = subprocess.run([sys.executable, "-c", f"{code}sys.exit('torch' in sys.modules)"], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_command_line_refuses_in_one_line_and_writes_nothing(tmp_path):
    train = [sys.executable, str(Path(__file__).parents[2] / "train.py")]
    command = [*train, *TINY, "arch=resnet", "size.reduce=64", "recipe.batch_size=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: recipe.batch_size=1: {LINE.format(32)}\n"
    assert [*tmp_path.iterdir()] == []
