"""What naming an ingredient does, and that a config is legal whatever its strength and the machine's speed."""

import functools
import json
import math
import tempfile
from pathlib import Path

import pytest
import torch

import minuteloop
from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.config.compose import CONF
from minuteloop.config.ingredient_effects import fit
from minuteloop.nets.net import build_net
from minuteloop.nets.offers import offers
from minuteloop.nets.spec import resolve
from minuteloop.validation import ConfigError

QUICK = (
    "data=sample",
    "size=nano",
    "size.width=0.125",
    "logger=none",
    "logger.pictures=false",
    "threads=1",
    "device=cpu",
    "evaluations=1",
)
INGREDIENTS = sorted(file.stem for file in (CONF / "ingredient").glob("*.yaml"))
ARCHS = sorted(file.stem for file in (CONF / "arch").glob("*.yaml") if file.stem != "timm")
RECIPES = sorted(file.stem for file in (CONF / "recipe").glob("*.yaml"))
# a base that has another ingredient in the slot, or none; plain has sgd, cosine, cross_entropy, crop and flip
BASES = {
    **{name: ["arch=resnet18", "recipe=sprint"] for name in ("sgd", "cosine", "crop", "flip")},
    "cross_entropy": ["arch=resnet18", "recipe=rsb_a3"],
    "freeze": ["arch=airbench", "recipe=plain"],
}


def strengths_of(*overrides: str, epochs: float = 0.1) -> dict[str, float]:
    """Return the strength by ingredient of a run of `epochs`."""
    recipe = compose(overrides).recipe
    return instantiate.ingredients(recipe).strengths(recipe.strength, recipe.named, epochs, recipe.paper_epochs)


def test_what_the_recipe_brought_is_off_in_a_short_run_and_what_the_user_names_is_not():
    assert strengths_of("recipe=deit")["mixup"] == 0
    assert strengths_of("recipe=deit", "ingredient=[mixup]")["mixup"] == 1
    assert strengths_of("recipe=deit", "recipe.batch.mixup.alpha=0.2")["mixup"] == 1
    assert strengths_of("recipe=deit", "recipe.batch.mixup.alpha=0.2")["cutmix"] == 0
    assert strengths_of("recipe=plain", "ingredient=[trivial_augment]") == {"rand_augment": 1}
    assert strengths_of("recipe=deit", "recipe.strength=0", "ingredient=[cutmix]")["cutmix"] == 1


def test_a_named_run_names_its_ingredients_and_a_recipe_of_a_user_does_not(tmp_path):
    recipe = tmp_path / "recipe" / "mine.yaml"
    recipe.parent.mkdir()
    recipe.write_text("defaults:\n  - deit\n  - /ingredient: [cutout]\n  - _self_\nname: mine\n")
    (tmp_path / "named.yaml").write_text(
        "defaults: [config, {override recipe: mine}, _self_]\nrecipe: {batch: {cutmix: {alpha: 0.5}}}\n"
    )
    assert minuteloop.compose(["recipe=mine"], config_dir=str(tmp_path)).recipe.named == []
    assert minuteloop.compose([], "named", str(tmp_path)).recipe.named == ["cutmix"]


@pytest.mark.parametrize("name", INGREDIENTS)
def test_a_named_ingredient_is_in_the_run_with_all_its_strength(name):
    base = BASES.get(name, ["arch=resnet18", "recipe=plain"])
    recipe = compose([*base, f"ingredient=[{name}]"]).recipe
    parts, bare = instantiate.ingredients(recipe), instantiate.ingredients(compose(base).recipe)
    strengths = parts.strengths(recipe.strength, recipe.named, 0.1, recipe.paper_epochs)
    assert recipe.named and all(strengths.get(named, 1) == 1 for named in recipe.named)
    assert parts != bare and recipe.notes == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", INGREDIENTS)
def test_naming_an_ingredient_changes_the_run(name):
    base = BASES.get(name, ["arch=resnet18", "recipe=plain"])
    assert outcome(*base) != outcome(*base, f"ingredient=[{name}]")


@functools.cache
def outcome(*overrides: str) -> tuple[bytes, str]:
    """Return the weights and the metrics of a short run."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = f"hydra.run.dir={folder}/run"
        record = minuteloop.run([*overrides, *QUICK, "recipe.batch_size=64", "budget=20steps", run_dir])
        return Path(folder, "run/model.safetensors").read_bytes(), json.dumps(record["metrics"])


@functools.cache
def recipe_of(name: str):
    """Return a recipe as it is composed for a net that lacks nothing it needs."""
    return compose([f"recipe={name}", f"arch={'airbench' if 'airbench' in name else 'resnet18'}"]).recipe


def test_naming_what_the_recipe_has_already_says_so():
    notes = compose(["recipe=plain", "ingredient=[sgd,mixup]"]).recipe.notes
    assert notes == ["ingredient=[sgd] changes nothing: recipe=plain has it, with these values"]
    assert compose(["recipe=deit", "ingredient=[mixup]"]).recipe.notes == []  # it switches mixup on
    assert len(compose(["recipe=deit", "ingredient=[mixup]", "recipe.strength=1"]).recipe.notes) == 1


def test_a_strength_that_scales_nothing_says_so():
    (note,) = compose(["recipe=plain", "recipe.strength=0.5"]).recipe.notes
    assert note == "recipe.strength=0.5 changes nothing: no ingredient is left for it to scale"
    assert compose(["recipe=deit", "recipe.strength=0.5"]).recipe.notes == []


def test_what_cannot_act_is_left_out_with_a_line_unless_the_user_names_it():
    recipe = compose(["arch=vgg16", "recipe=deit"]).recipe
    reason = "the net has no block after the first with a shortcut, which drop path needs"
    assert recipe.notes == [f"recipe.regularizers.drop_path is left out: {reason}"] and recipe.regularizers == {}
    with pytest.raises(ConfigError, match=r"drop_path: .* shortcut, .*; use ~recipe\.regularizers\.drop_path"):
        compose(["arch=vgg16", "recipe=deit", "recipe.regularizers.drop_path.rate=0.2"])


@pytest.mark.parametrize(
    ("model", "lacks"),
    [("ghostnet_100", "drop_path"), ("vit_tiny_patch16_224", "batch_norm"), ("test_resnet", "dropout")],
)
def test_a_timm_model_leaves_out_what_it_has_not(model, lacks):
    assert lacks not in offers(resolve(*timm_arch(model), 32, 10))


def timm_arch(model: str) -> tuple:
    config = compose(["arch=timm", f"arch.name={model}", "recipe=plain"])
    return config.arch, config.size


def test_a_run_of_a_recipe_that_does_not_fit_records_what_is_left_out(tmp_path):
    folder = tmp_path / "run"
    overrides = ["arch=vgg16", "recipe=deit", *QUICK, "recipe.batch_size=64", "budget=2steps"]
    minuteloop.run([*overrides, f"hydra.run.dir={folder}"])
    (note,) = json.loads((folder / "result.json").read_text())["config"]["recipe"]["notes"]
    assert note.startswith("recipe.regularizers.drop_path is left out: ") and note in (folder / "log.txt").read_text()


@pytest.mark.exhaustive
@pytest.mark.parametrize("arch", ARCHS)
def test_every_recipe_is_legal_at_strength_0_and_1_or_at_neither(arch):
    """What compose accepts, the net accepts at any strength; what it refuses, it refuses without asking for one."""
    config = compose([f"arch={arch}", "recipe=plain", "size=pico"])
    spec = resolve(config.arch, config.size, 32, 10)
    with torch.device("meta"):
        net = build_net(spec)
    for name in RECIPES:
        try:
            recipe, _ = fit(recipe_of(name), (), spec)
        except ConfigError as error:  # whatever the strength
            assert str(error).startswith("recipe.progressive: the net does not run on")
            continue
        parts = instantiate.ingredients(recipe)
        for strength in (0.0, 1.0):
            for regularizer in parts.at_strength(strength).regularizers.values():
                regularizer(net)
            assert math.isfinite(parts.optimizer.auto_lr(128, 3.0))
        for callback in parts.callbacks.values():
            assert not hasattr(callback, "parameters") or callback.parameters(net)
