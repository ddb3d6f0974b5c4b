"""One key sets the peak learning rate, one the weight decay; what acts on nothing is rejected."""

import pytest

from minuteloop import compose
from minuteloop.validation import ConfigError

IDLE = {
    ("recipe.lr=0.1", "recipe.optimizer.base_lr=0.01"): "base_lr=0.01: has no effect with recipe.lr=0.1; remove one",
    ("recipe.lr=1", "recipe.optimizer.max_lr_scale=2"): "max_lr_scale=2.0: has no effect with recipe.lr=1; remove one",
    ("recipe.lr=0.1", "recipe.optimizer={base_lr: 0.3}"): "base_lr=0.3: has no effect with recipe.lr=0.1; remove one",
    (
        "recipe.weight_decay=0",
        "recipe.optimizer.weight_decay=0.1",
    ): "weight_decay=0.1: has no effect with recipe.weight_decay=0; remove one",
}


@pytest.mark.parametrize("overrides", IDLE)
def test_a_key_of_the_optimizer_without_effect_is_rejected(overrides):
    with pytest.raises(ConfigError) as error:
        compose(["recipe=deit", *overrides])
    assert str(error.value) == f"recipe.optimizer.{IDLE[overrides]}"


def test_what_the_recipe_set_may_be_replaced():
    recipe = compose(["recipe=classic", "recipe.lr=0.2", "recipe.weight_decay=0"]).recipe
    assert (recipe.lr, recipe.optimizer["base_lr"]) == (0.2, 0.1)
    assert (recipe.weight_decay, recipe.optimizer["weight_decay"]) == (0, 1e-4)
    assert compose(["recipe=classic", "recipe.optimizer.weight_decay=0.01"]).recipe.weight_decay == "auto"
    muon = ["recipe=sprint", "arch=airbench", "recipe.lr=0.2", "recipe.optimizer.base_lr=0.1"]
    assert compose(muon).recipe.lr == 0.2  # base_lr acts: the other rates are for it


OWN = """\
from dataclasses import dataclass


@dataclass
class Plain:
    def __call__(self, groups, lr):
        import torch

        return torch.optim.SGD(groups, lr=lr)
"""


def test_an_own_optimizer_without_rules_needs_numbers(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_plain_sgd.py").write_text(OWN)
    (tmp_path / "ingredient").mkdir()
    (tmp_path / "ingredient/mine.yaml").write_text("# @package recipe.optimizer\n_target_: my_plain_sgd.Plain\n")
    keys = {"lr": "auto_lr", "weight_decay": "weight_decay"}
    for key, missing in keys.items():
        others = [f"recipe.{other}=0.1" for other in keys if other != key]
        with pytest.raises(ConfigError, match=rf"^recipe\.{key}=auto: must be a number; Plain has no {missing}$"):
            compose(["ingredient=[mine]", *others], config_dir=str(tmp_path))
    compose(["ingredient=[mine]", *(f"recipe.{key}=0.1" for key in keys)], config_dir=str(tmp_path))
