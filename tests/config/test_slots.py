"""An ingredient replaces its slot: no field of the one before it remains."""

import pytest

from minuteloop import compose
from minuteloop.validation import ConfigError

SGD = {
    "_target_": "minuteloop.recipe.optimizers.sgd.SGD",
    "base_lr": 0.1,
    "base_batch_size": 128,
    "weight_decay": 5e-4,
    "momentum": 0.9,
    "nesterov": True,
    "bias_factor": 1.0,
}


def optimizer(*overrides, **source):
    return compose(overrides, **source).recipe.optimizer


def test_ingredient_replaces_its_slot():
    assert optimizer("recipe=plain") == SGD
    assert optimizer("recipe=deit", "ingredient=[sgd]") == SGD
    assert optimizer("recipe=plain", "ingredient=[adamw]") == optimizer("recipe=deit")
    assert optimizer("recipe=deit", "ingredient=[sgd]", "recipe.optimizer.momentum=0.8") == SGD | {"momentum": 0.8}
    assert optimizer("recipe=deit", "ingredient=[sgd]", "recipe.optimizer={momentum: 0.8}") == SGD | {"momentum": 0.8}


@pytest.mark.parametrize(
    "override", ["recipe.optimizer.betas=[0.8,0.9]", "+recipe.optimizer.moment=0.8", "recipe.optimizer={eps: 0.1}"]
)
def test_field_of_a_replaced_ingredient_is_rejected(override):
    with pytest.raises(ConfigError, match=r"recipe\.optimizer\.(betas|moment|eps): SGD has no such field"):
        compose(["recipe=deit", "ingredient=[sgd]", override])


@pytest.fixture
def layered(tmp_path):
    """Files that set an optimizer's fields before and after the ingredient."""
    for name, text in {
        "recipe/before": "defaults: [deit, _self_]\noptimizer: {betas: [0.7, 0.8], base_lr: 0.3}\n",
        "recipe/after": "defaults: [deit, {/ingredient: [sgd]}, _self_]\noptimizer: {momentum: 0.5}\n",
        "recipe/wrong": "defaults: [deit, {/ingredient: [sgd]}, _self_]\noptimizer: {betas: [0.5, 0.5]}\n",
        "ingredient/short": f"# @package recipe.optimizer\n_target_: {SGD['_target_']}\nnesterov: false\n",
        "study": "defaults: [config, override ingredient: [sgd], _self_]\nrecipe: {optimizer: {momentum: 0.7}}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    return {"config_dir": str(tmp_path)}


def test_fields_set_before_an_ingredient_are_dropped_and_those_set_after_it_are_kept(layered):
    assert optimizer("recipe=before", **layered)["betas"] == [0.7, 0.8]
    assert optimizer("recipe=before", "ingredient=[sgd]", **layered) == SGD
    assert optimizer("recipe=after", **layered) == SGD | {"momentum": 0.5}
    assert optimizer("recipe=after", "ingredient=[adamw]", **layered) == optimizer("recipe=deit")
    assert optimizer(config_name="study", **layered) == SGD | {"momentum": 0.7}
    assert optimizer("ingredient=[short]", **layered) == {"_target_": SGD["_target_"], "nesterov": False}
    for wrong in ({"overrides": ["recipe=wrong"]}, {"overrides": ["ingredient=[adamw]"], "config_name": "study"}):
        with pytest.raises(ConfigError, match="has no such field"):
            compose(**wrong, **layered)


def test_two_ingredients_of_one_slot_are_rejected():
    with pytest.raises(ConfigError, match=r"ingredient=.*adamw and sgd both set recipe\.optimizer; list one of them"):
        compose(["ingredient=[adamw,sgd]"])
