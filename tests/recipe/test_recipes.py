"""The recipes against the numbers that their papers print, and the effect of `recipe.strength`."""

import pytest

from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.config.compose import CONF
from minuteloop.recipe.augment.crop import Crop
from minuteloop.recipe.augment.cutmix import CutMix
from minuteloop.recipe.augment.flip import Flip
from minuteloop.recipe.augment.label_smoothing import LabelSmoothing
from minuteloop.recipe.augment.mixup import Mixup
from minuteloop.recipe.augment.random_erasing import RandomErasing
from minuteloop.recipe.regularizers.drop_path import DropPath
from minuteloop.recipe.tta import TTA
from minuteloop.training.plan import make_plan
from minuteloop.validation import flat

# as printed (reference/specs.md, section 2); `lr` is the automatic rate at the paper's batch size and epochs
PUBLISHED = {
    "classic": {"batch": 256, "epochs": 90, "lr": 0.1, "weight_decay": 1e-4},
    "swin": {"batch": 1024, "epochs": 300, "lr": 1e-3, "weight_decay": 0.05, "clip_grad": 5.0},
    "deit3": {"batch": 2048, "epochs": 800, "lr": 4e-3, "weight_decay": 0.05, "repeats": 3},
    "rsb_a1": {"batch": 2048, "epochs": 600, "lr": 5e-3, "weight_decay": 0.01, "repeats": 3},
    "rsb_a2": {"batch": 2048, "epochs": 300, "lr": 5e-3, "weight_decay": 0.02, "repeats": 3},
    "rsb_a3": {"batch": 2048, "epochs": 100, "lr": 8e-3, "weight_decay": 0.02, "repeats": 1},
    "nfnet": {"batch": 4096, "epochs": 360, "lr": 1.6, "weight_decay": 2e-5},
    "regnet": {"batch": 1024, "epochs": 100, "lr": 0.8, "weight_decay": 5e-5},
    "effnetv2_progressive": {"batch": 4096, "epochs": 350, "lr": 0.256, "weight_decay": 1e-5},
    "myrtle": {"batch": 512, "epochs": 24, "lr": 0.4, "weight_decay": 5e-4},
    # decoupled rates and decays for 1,024 summed losses, converted to those of the mean loss
    "airbench94": {"batch": 1024, "epochs": 9.9, "lr": 11.5 / (1 + 1 / 0.15), "weight_decay": 0.0153 / 11.5},
    "airbench95": {"batch": 1024, "epochs": 15, "lr": 10 / (1 + 1 / 0.15), "weight_decay": 0.0153 / 10},
    "airbench96": {"batch": 1024, "epochs": 37, "lr": 9 / (1 + 1 / 0.15), "weight_decay": 0.012 / 9},
    "airbench94_muon": {"batch": 2000, "epochs": 8, "lr": 0.24, "weight_decay": 2e-6 / 0.67 * (256 / 9) ** 2},
}
REGULARIZATION = {
    "swin": {"mixup.alpha": 0.8, "cutmix.alpha": 1, "rand_augment.magnitude": 9, "random_erasing.prob": 0.25},
    "deit3": {"mixup.alpha": 0.8, "cutmix.alpha": 1, "color_jitter.strength": 0.3, "drop_path.rate": 0.05},
    "rsb_a1": {"mixup.alpha": 0.2, "rand_augment.magnitude": 7, "label_smoothing.smoothing": 0.1},
    "rsb_a2": {"mixup.alpha": 0.1, "rand_augment.magnitude": 7, "drop_path.rate": 0.05},
    "rsb_a3": {"mixup.alpha": 0.1, "rand_augment.magnitude": 6},
    "nfnet": {"mixup.alpha": 0.2, "rand_augment.num_ops": 4, "drop_path.rate": 0.25, "agc.factor": 0.01},
    "airbench96": {
        "crop.padding": 4,
        "cutout.length": 12,
        "label_smoothing.smoothing": 0.2,
        "freeze.fraction": 3 / 37,
    },
    "airbench94": {"crop.padding": 2, "label_smoothing.smoothing": 0.2, "freeze.fraction": 3 / 9.9},
    "myrtle": {"crop.padding": 4, "cutout.length": 8},
}


def compose_recipe(name: str):
    arch = "airbench" if name.startswith("airbench") else "resnet18"
    return compose([f"arch={arch}", f"recipe={name}"]).recipe


def planned_decay(recipe) -> float:
    return make_plan("1ep", recipe, instantiate.ingredients(recipe), 45_000).weight_decay


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipe_has_the_papers_numbers(name):
    recipe, paper = compose_recipe(name), PUBLISHED[name]
    optimizer = instantiate.ingredients(recipe).optimizer
    assert optimizer.auto_lr(paper["batch"], paper["epochs"]) == pytest.approx(paper["lr"], rel=1e-3)
    assert planned_decay(recipe) == pytest.approx(paper["weight_decay"], rel=5e-3)
    for key in paper.keys() & {"clip_grad", "repeats"}:
        assert getattr(recipe, key) == pytest.approx(paper[key], rel=5e-3), key


UNPUBLISHED_DECAYS = {"deit": 0.05, "minute": 0.05, "plain": 5e-4, "sprint": 0.0}


@pytest.mark.parametrize("name", UNPUBLISHED_DECAYS)
def test_weight_decay_of_the_other_recipes(name):
    assert planned_decay(compose_recipe(name)) == UNPUBLISHED_DECAYS[name]


def test_every_recipes_weight_decay_is_tested():
    assert PUBLISHED.keys() | UNPUBLISHED_DECAYS.keys() == {file.stem for file in (CONF / "recipe").glob("*.yaml")}


OWN_DECAYS = {"adamw": 0.05, "sgd": 5e-4, "lamb": 0.02, "lion": 0.5, "rmsprop": 1e-5, "muon": 5e-4}


@pytest.mark.parametrize("name", OWN_DECAYS)
def test_an_optimizer_in_place_of_the_recipes_brings_its_own_weight_decay(name):
    recipe = compose(["recipe=rsb_a1", "arch=resnet18", f"ingredient=[{name}]"]).recipe
    assert planned_decay(recipe) == OWN_DECAYS[name]


@pytest.mark.parametrize("name", REGULARIZATION)
def test_recipe_has_the_papers_regularization(name):
    recipe = compose_recipe(name)
    values = flat(recipe.batch) | flat(recipe.regularizers) | flat(recipe.callbacks)
    assert {key: values[key] for key in REGULARIZATION[name]} == pytest.approx(REGULARIZATION[name], rel=5e-3)


def test_recipe_has_nothing_that_its_paper_leaves_out():
    def names(name):
        recipe = compose_recipe(name)
        return {*recipe.batch, *recipe.regularizers, *recipe.callbacks}

    assert not names("rsb_a3") & {"drop_path", "label_smoothing", "random_erasing", "ema"}
    assert not names("deit3") & {"random_erasing", "label_smoothing", "rand_augment", "ema"}
    assert "ema" not in names("swin") and names("regnet") == names("classic") == {"crop", "flip"}


def test_sprint_differs_from_airbench94_only_as_its_file_states():
    config = compose(["arch=airbench", "recipe=sprint", "size=tiny"])
    ingredients = instantiate.ingredients(config.recipe)
    assert [transform.smoothing for transform in ingredients.at("targets")] == [0.2]
    assert [(crop.padding, crop.fill) for crop in ingredients.at("pixels")] == [(2, "reflect")]
    assert ingredients.tta == TTA(shift=1)


def test_strength_0_removes_every_regularizer_and_nothing_else():
    ingredients = instantiate.ingredients(compose(["recipe=deit"]).recipe).at_strength(0.0)
    assert [type(transform) for transform in ingredients.transforms.values()] == [Crop, Flip]
    assert ingredients.regularizers == {"drop_path": DropPath(rate=0.0)} and list(ingredients.callbacks) == ["ema"]


def test_strength_multiplies_one_field_of_each_regularizer_and_1_is_the_paper():
    ingredients = instantiate.ingredients(compose(["recipe=deit"]).recipe)
    assert ingredients.at_strength(1.0) == ingredients
    half = ingredients.at_strength(0.5)
    by_type = {type(ingredient): ingredient for ingredient in (half.transforms | half.regularizers).values()}
    assert by_type[Mixup] == Mixup(alpha=0.8, prob=0.5) and by_type[CutMix] == CutMix(alpha=1.0, prob=0.5)
    assert by_type[LabelSmoothing].smoothing == 0.05 and by_type[DropPath].rate == 0.05
    assert by_type[RandomErasing].prob == 0.125
