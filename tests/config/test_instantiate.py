"""Ingredients: from config nodes to checked dataclass instances."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from minuteloop.config.instantiate import ingredient
from minuteloop.validation import ConfigError

FILES = sorted((Path(__file__).parents[2] / "conf/ingredient").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_ingredient_file_lists_every_field_with_its_default(file):
    """So that each can be overridden without '+', and the defaults in code and file stay equal."""
    node = yaml.safe_load(file.read_text())
    instance = ingredient(node, file.stem)
    assert node.keys() - {"_target_"} == {spec.name for spec in dataclasses.fields(instance)}
    for spec in dataclasses.fields(instance):
        default = spec.default if spec.default is not dataclasses.MISSING else spec.default_factory()
        assert node[spec.name] == (default if isinstance(default, str | None) else pytest.approx(default, rel=1e-4))


def test_value_of_a_wrong_type_is_rejected_with_the_fields_rule():
    node = {"_target_": "minuteloop.recipe.augment.mixup.Mixup", "alpha": "abc"}
    with pytest.raises(ConfigError, match=r"^recipe\.batch\.mixup\.alpha=abc: must be a number in \[1e-06, 100\]$"):
        ingredient(node, "recipe.batch.mixup")


@dataclasses.dataclass
class Nested:
    levels: dict[str, int]
    required: int


@pytest.mark.parametrize(
    ("fields", "where"),
    [({"levels": {"low": 1}}, "required"), ({"levels": {"low": "many"}, "required": 1}, "levels")],
)
def test_missing_field_and_wrong_value_inside_one_are_config_errors(monkeypatch, fields, where):
    monkeypatch.setattr("minuteloop.config.instantiate._import", lambda target, key: Nested)
    with pytest.raises(ConfigError, match=rf"recipe\.callbacks\.mine\.{where}"):
        ingredient({"_target_": "mine.Nested", **fields}, "recipe.callbacks.mine")
