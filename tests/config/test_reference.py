"""Every key has a line of meaning, which --help and docs/config.md print."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from minuteloop import compose
from minuteloop.config.compose import CONF, RECIPES
from minuteloop.config.instantiate import ingredient
from minuteloop.config.reference import COLUMN, GROUPS, config_keys, help_text, ingredient_keys
from minuteloop.schema import Config
from minuteloop.validation import flat

INGREDIENTS = sorted((Path(__file__).parents[2] / "conf/ingredient").glob("*.yaml"))


def assert_is_a_line_of_meaning(key):
    assert len(key.help.split()) >= 2 and "\n" not in key.help, key
    assert key.help != key.rule and not key.help.endswith("."), key


def test_every_key_of_the_config_has_help():
    keys = list(config_keys(compose()))
    for key in keys:
        assert_is_a_line_of_meaning(key)
    nodes = ("optimizer", "schedule", "loss", "batch", "regularizers", "callbacks", "tta", "progressive")
    schema = {key for key in flat(dataclasses.asdict(Config())) if key.removeprefix("recipe.") not in nodes}
    assert schema <= {key.name for key in keys}


@pytest.mark.parametrize("file", INGREDIENTS, ids=lambda file: file.stem)
def test_every_field_of_an_ingredient_has_help(file):
    node = yaml.safe_load(file.read_text())
    keys = list(ingredient_keys(ingredient(node, file.stem), file.stem))
    assert [key.name for key in keys] == [f"{file.stem}.{field}" for field in node if field != "_target_"]
    for key in keys:
        assert_is_a_line_of_meaning(key)


def test_help_prints_every_key_with_its_composed_value_and_meaning():
    config = compose(["recipe.lr=0.3", "recipe=deit"])
    lines = help_text(config, CONF, RECIPES, "train.py").splitlines()
    assert max(map(len, lines)) <= 120
    for key in config_keys(config):
        at = next(at for at, line in enumerate(lines) if line.startswith(f"  {key.name}="))
        meaning = [
            text.split()[:2] for text in (lines[at][COLUMN:], *lines[at + 1 : at + 2])
        ]  # beside the key, or below it
        assert key.help.split()[:2] in meaning
    for start in ("  recipe.lr=0.3 ", "  recipe.batch.mixup.alpha=0.8 "):
        assert any(line.startswith(start) for line in lines)
    for group in GROUPS:
        assert any(line.startswith(f"  {group}: ") for line in lines)
    text = " ".join(" ".join(lines).split())
    configs = [file for file in RECIPES.glob("*.yaml") if file.stem != "wandb_sweep"]
    for file in (*CONF.glob("*/*.yaml"), *configs):
        assert file.stem in text
