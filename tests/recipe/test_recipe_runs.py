"""Short training runs of the recipes, and nets that reject an ingredient."""

import math
from types import SimpleNamespace

import pytest

import minuteloop
from minuteloop.config.compose import CONF
from minuteloop.nets.net import Net
from minuteloop.training import calibrate, run
from minuteloop.validation import ConfigError

QUICK = ("data=sample", "logger=none", "logger.pictures=false", "threads=1", "device=cpu", "evaluations=1")
SMALL = ("size=nano", "size.width=0.125", "data.holdout=1000")
ARCH_OF_RECIPE = {"myrtle": "resnet9", "sprint": "airbench", "airbench94_muon": "airbench", "airbench94": "airbench"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("file", sorted((CONF / "recipe").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_trains_at_full_strength(file, tmp_path):
    arch = ARCH_OF_RECIPE.get(file.stem) or (file.stem if file.stem.startswith("airbench") else "resnet18")
    overrides = [f"arch={arch}", f"recipe={file.stem}", *SMALL, "recipe.strength=1", "recipe.batch_size=60"]
    record = minuteloop.run([*overrides, *QUICK, "budget=8steps", f"hydra.run.dir={tmp_path / 'run'}"])
    assert record["status"] == "finished" and record["plan"]["steps"] == 8
    assert math.isfinite(record["metrics"]["test/loss"]) and set(record["plan"]["strength"].values()) <= {1.0}


def test_a_progressive_run_trains_on_growing_images_and_rates(tmp_path, monkeypatch):
    inputs, rates = [], []
    original_enter, original_set_drop_path = Net._forward_stem, Net.set_drop_path

    def enter(net, x):
        if net.training and x.device.type == "cpu":
            inputs.append((x.shape[2], net.head.dropout))
        return original_enter(net, x)

    def set_drop_path(net, rate):
        rates.append(rate)
        return original_set_drop_path(net, rate)

    monkeypatch.setattr(Net, "_forward_stem", enter)
    monkeypatch.setattr(Net, "set_drop_path", set_drop_path)
    overrides = ["arch=resnet18", "recipe=effnetv2_progressive", "size=nano", "recipe.strength=1", "budget=8steps"]
    minuteloop.run([*overrides, *QUICK, f"hydra.run.dir={tmp_path / 'run'}"])
    assert [image_size for image_size, _ in inputs] == [16, 16, 20, 20, 28, 28, 32, 32]
    assert [rate for _, rate in inputs[::2]] == pytest.approx([0.1, 0.3 * 5 / 9, 0.3 * 7 / 9, 0.3], abs=1e-4)
    assert rates[:4] == pytest.approx([0.2 / 3, 0.2 * 5 / 9, 0.2 * 7 / 9, 0.2], abs=1e-4)


@pytest.mark.parametrize(
    ("overrides", "fractions", "rates"),
    [
        (["arch=resnet18", "recipe=effnetv2_progressive"], [0.25] * 4, [100.0, 50.0, 25.0, 20.0]),
        (["arch=airbench", "recipe=airbench94"], [0.303, 0.697], [20.0, 25.0]),
    ],
)
def test_planned_steps_fit_the_rates_of_all_phases(tmp_path, monkeypatch, overrides, fractions, rates):
    measured = iter(rates * 2)  # steps/s of the phases, in both passes of the calibration
    monkeypatch.setattr(
        calibrate,
        "measure_rate",
        lambda *_: SimpleNamespace(steps_per_second=next(measured), first_seconds=0, is_slow=False),
    )
    steps = []

    def fit(record, *_):
        steps.append(record.content["plan"]["steps"])
        raise RuntimeError("planned")

    monkeypatch.setattr(run, "_fit", fit)
    with pytest.raises(RuntimeError, match="planned"):
        minuteloop.run([*overrides, "size=nano", "budget=10s", *QUICK, f"hydra.run.dir={tmp_path / 'run'}"])
    seconds = steps[0] * sum(fraction / rate for fraction, rate in zip(fractions, rates, strict=True))
    assert seconds == pytest.approx(10, abs=0.05)


def test_a_net_that_cannot_run_small_images_is_rejected_before_training(tmp_path):
    overrides = ["arch=timm", "arch.name=test_vit", "recipe=plain", "ingredient=[progressive]", "budget=2steps"]
    with pytest.raises(ConfigError, match=r"recipe.progressive: the net does not run on 20x20 images .*=null"):
        minuteloop.run([*overrides, *QUICK, f"hydra.run.dir={tmp_path / 'run'}"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["arch=vgg16", "recipe=plain", "ingredient=[drop_path]"], "shortcut, which drop path needs"),
        (["arch=convnext", "recipe=plain", "ingredient=[ghost_batch_norm]"], "the net has no batch norm"),
        (["arch=timm", "arch.name=test_resnet", "recipe=plain", "ingredient=[dropout]"], "takes dropout as"),
        (["arch=resnet18", "ingredient=[freeze]"], "must match a trained parameter, or use ~recipe.callbacks.freeze"),
        (
            ["arch=resnet18", "ingredient=[freeze]", "recipe.callbacks.freeze.pattern='*'"],
            "must leave a parameter to train",
        ),
    ],
)
def test_ingredients_that_a_net_cannot_use_raise(overrides, message, tmp_path):
    run_dir = f"hydra.run.dir={tmp_path / 'run'}"
    with pytest.raises(ConfigError, match=message):
        minuteloop.run([*overrides, *QUICK, "budget=2steps", run_dir])
    assert not (tmp_path / "run").exists()
