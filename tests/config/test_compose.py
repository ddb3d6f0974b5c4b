"""What files and overrides compose to."""

import subprocess
import sys
from pathlib import Path

import pytest

from minuteloop import compose
from minuteloop.config.compose import compose_with_hydra
from minuteloop.config.instantiate import ingredient_nodes
from minuteloop.schema import Config

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "conf").glob("*/*.yaml"))
AS_IN_RESNET = ("batchnorm", "kernel_3")  # steps that change nothing in a ResNet
NEEDS = {"timm": ["arch.name=resnet18"], "freeze": ["arch=airbench", "recipe=plain"]}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_file_composes(file):
    group, name = file.parent.name, file.stem
    takes_list = group in ("modernization", "ingredient")
    override = f"{group}=[{name}]" if takes_list else f"{group}={name}"
    arch = "convnext" if name in AS_IN_RESNET else "resnet"
    base = [f"arch={arch}"] if group == "recipe" else [f"arch={arch}", "recipe=deit"]
    config = compose([*base, *NEEDS.get(name, []), override])
    if group == "modernization":
        assert name in config.arch.applied
    elif not takes_list and group != "arch":
        assert getattr(config, group).name == name


@pytest.mark.parametrize(("alias", "arch"), [("resnet50", "resnet"), ("convnext_t", "convnext")])
def test_alias_is_the_same_config(alias, arch):
    assert compose([f"arch={alias}"]) == compose([f"arch={arch}"])
    stepped = ["modernization=[squeeze_excite]"]
    assert compose([f"arch={alias}", *stepped]) == compose([f"arch={arch}", *stepped])


def test_command_line_overrides_recipe_and_recipe_overrides_schema():
    assert compose(["recipe=rsb_a1"]).recipe.repeats == 3 != Config().recipe.repeats
    assert compose(["recipe=rsb_a1", "recipe.repeats=2"]).recipe.repeats == 2


def test_ingredient_can_be_removed_and_added():
    deit = compose(["recipe=deit", "~recipe.batch.mixup"]).recipe.batch
    assert "mixup" not in deit and "cutmix" in deit
    off = compose(["recipe=deit", "recipe.batch.mixup=null"]).recipe
    assert "recipe.batch.mixup" not in dict(ingredient_nodes(off))
    assert "mixup" in compose(["recipe=plain", "ingredient=[mixup]"]).recipe.batch


def test_runs_of_the_same_second_have_different_folders():
    folders = {compose_with_hydra([])[1].run.dir for _ in range(3)}
    assert len(folders) == 3


@pytest.mark.exhaustive
def test_steps_that_add_keys_and_ingredients_that_remove_some_train_from_the_command_line(tmp_path):
    """Hydra's command line sets struct mode on the config, its compose does not."""
    overrides = ["arch=resnet", "modernization=[fused_early]", "recipe=deit", "ingredient=[sgd]"]
    overrides += ["size=nano", "data=sample", "budget=1steps", "logger=none", "logger.pictures=false"]
    command = [sys.executable, str(ROOT / "train.py"), *overrides]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
