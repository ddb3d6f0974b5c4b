"""Ingredients load without torch; what they build can be imported, pickled and documented."""

import dataclasses
import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys

import pytest
import yaml
from torch import nn

from minuteloop import recipe
from minuteloop.config.compose import CONF
from minuteloop.recipe.augment.pipeline import AugmentPipeline
from minuteloop.recipe.callbacks.agc import AGC
from minuteloop.recipe.callbacks.agc_callback import AGCCallback
from minuteloop.recipe.callbacks.ema import EMA
from minuteloop.recipe.callbacks.ema_callback import EMACallback
from minuteloop.recipe.callbacks.freeze import Freeze
from minuteloop.recipe.callbacks.freeze_callback import FreezeCallback
from minuteloop.recipe.callbacks.lookahead import Lookahead
from minuteloop.recipe.callbacks.lookahead_callback import LookaheadCallback
from minuteloop.recipe.ingredients import Ingredients
from minuteloop.recipe.optimizers.muon_optimizer import MuonWithFallback
from minuteloop.recipe.regularizers.ghost_batch_norm import GhostBatchNorm

TARGETS = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((CONF / "ingredient").glob("*.yaml"))}


def ingredient_class(name: str) -> type:
    module, _, cls = TARGETS[name]["_target_"].rpartition(".")
    return getattr(importlib.import_module(module), cls)


def test_ingredient_modules_import_no_torch():
    modules = sorted({node["_target_"].rpartition(".")[0] for node in TARGETS.values()})
    modules += ["minuteloop.recipe.ingredients"]
    code = (
        "import sys\n"
        + "".join(f"import {module}\n" for module in modules)
        + "heavy = {'torch', 'pytorch_lightning', 'timm', 'numpy', 'omegaconf'} & sys.modules.keys()\n"
        + "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_module_of_the_room_imports_and_is_documented():
    names = [module.name for module in pkgutil.walk_packages(recipe.__path__, "minuteloop.recipe.")]
    assert len(names) > 40
    for name in names:
        module = importlib.import_module(name)
        assert module.__doc__, name
        for label, member in inspect.getmembers(module):
            if getattr(member, "__module__", None) == name and inspect.isclass(member):
                assert member.__doc__, f"{name}.{label}"


@pytest.mark.parametrize("name", TARGETS)
def test_ingredient_is_documented_and_its_file_states_the_defaults(name):
    cls = ingredient_class(name)
    assert cls.__doc__.split("\n\n")[0].rstrip().endswith((".", ")."))
    node = {key: value for key, value in TARGETS[name].items() if key != "_target_"}
    fields = dataclasses.fields(cls)
    assert [field.name for field in fields] == list(node)
    for field in fields:
        text = field.metadata["help"]
        assert 1 <= len(text.split()) <= 14 and not text.endswith("."), f"{name}.{field.name}: {text}"
        assert getattr(cls(), field.name) == pytest.approx(node[field.name], abs=1e-6)
    assert pickle.loads(pickle.dumps(cls())) == cls()


@pytest.mark.parametrize(
    ("ingredient", "cls"),
    [(EMA(), EMACallback), (Lookahead(), LookaheadCallback), (AGC(), AGCCallback), (Freeze(), FreezeCallback)],
)
def test_callbacks_can_be_pickled(ingredient, cls):
    callback = pickle.loads(pickle.dumps(ingredient.callback(10)))
    assert type(callback) is cls and callback.state_key == cls.__qualname__
    assert ingredient in vars(callback).values()


def test_optimizer_nets_and_pipeline_can_be_pickled():
    assert pickle.loads(pickle.dumps(MuonWithFallback)) is MuonWithFallback
    net = nn.Sequential(nn.BatchNorm2d(3))
    GhostBatchNorm(16)(net)
    assert pickle.loads(pickle.dumps(net))[0].ghost_batch_size == 16
    ingredients = Ingredients(None, None, None)
    pipeline = AugmentPipeline(ingredients, mean=(0.5,) * 3, std=(0.2,) * 3, num_classes=10, steps=1)
    assert pickle.loads(pickle.dumps(pipeline)).ingredients == ingredients
