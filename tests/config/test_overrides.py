"""Words of other frameworks, brackets and names of files are checked before Hydra reads the overrides."""

import sys

import pytest
from hydra._internal.utils import get_args_parser

from minuteloop import cli, compose
from minuteloop.config.compose import CONF
from minuteloop.config.overrides import HYDRA_OPTIONS, LIST, ONE, USUAL_WORDS, check_overrides, without_hyphens
from minuteloop.validation import ConfigError

# override -> what follows "OVERRIDE: "
MESSAGES = {
    "epochs=10": "unknown key. Did you mean budget=10ep?",
    "epochs=1,2": "unknown key. Did you mean budget=1ep,2ep?",
    "trainer.max_epochs=3": "unknown key. Did you mean budget=3ep?",
    "+trainer.max_epochs=3": "unknown key. Did you mean budget=3ep?",
    "steps=100": "unknown key. Did you mean budget=100steps?",
    "time=60": "unknown key. Did you mean budget=60s?",
    "max_time=00:01:00": "unknown key. Did you mean budget=VALUEs?",
    "lr=0.1": "unknown key. Did you mean recipe.lr=0.1?",
    "recipe.optimizer.lr=1e-3": "unknown key. Did you mean recipe.lr=1e-3?",
    "batch_size=64": "unknown key. Did you mean recipe.batch_size=64?",
    "optimizer=sgd": "unknown key. Did you mean 'ingredient=[sgd]'?",
    "optimizer=sgd,adamw": "unknown key. Did you mean 'ingredient=[sgd],[adamw]'?",
    "recipe.optimizer=adamw": "must be a mapping. Did you mean 'ingredient=[adamw]'?",
    "model=resnet18": "unknown key. Did you mean arch=resnet18?",
    "dataset=cifar100": "unknown key. Did you mean data=cifar100?",
    "data_dir=/x": "unknown key. Did you mean data.root=/x?",
    "gpus=1": "unknown key. Did you mean devices=1?",
    "recipe.drop_path=0.1": "unknown key. Did you mean recipe.regularizers.drop_path.rate=0.1?",
    "recipe.mixup=0": "unknown key; '~recipe.batch.mixup' switches it off where the recipe has it",
    "recipe.cutmix=false": "unknown key; '~recipe.batch.cutmix' switches it off where the recipe has it",
    "recipe.mixup=0.2": "unknown key. Did you mean recipe.batch.mixup.alpha=0.2?",
    "logger.mode=offline": "unknown key. Did you mean the environment variable WANDB_MODE=offline?",
    "pretrained=true": "unknown key; every net trains from scratch here",
    "modernization=[patchify,gelu": "missing ]",
    "modernization=patchify,gelu]": "missing [",
    "size.depth=[1,2": "missing ]",
    "recipe.optimizer={momentum: 0.8": "missing }",
    "seed=range(0,5": "missing )",
    "data=/x": "must be one of cifar10, cifar100, sample; a folder goes into data.root=/x",
    "data=my/images": "must be one of cifar10, cifar100, sample; a folder goes into data.root=my/images",
    "data=[cifar10]": "must be one of cifar10, cifar100, sample",
    "arch=[1,2]": "must be the name of a file in conf/arch",
    "size=null": "must be one of b1, b2, b3, b4, b5, b6, b7, nano, pico, small, tiny",
    "modernization=null": "must be a list of names such as modernization=[patchify,gelu], or modernization=[]",
    "modernization=[[1]]": "must be a list of names such as modernization=[patchify,gelu], or modernization=[]",
    "ingredient=[1,2]": "must be a list of names such as ingredient=[sgd], or ingredient=[]",
}


@pytest.mark.parametrize("override", MESSAGES)
def test_override_names_the_key_or_the_rule(override, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(ConfigError) as error:
        compose([override])
    assert str(error.value) == f"{override}: {MESSAGES[override]}"
    for arguments in ([override], ["-m", "seed=0,1", override]):
        with pytest.raises(SystemExit) as stop:
            cli.train(arguments)
        assert stop.value.code == 2
        assert capsys.readouterr().err == f"error: {override}: {MESSAGES[override]}\n"
    assert not list(tmp_path.iterdir())


def test_ingredient_in_place_of_a_recipe_is_named():
    with pytest.raises(ConfigError) as error:
        compose(["recipe=sgd"])
    assert str(error.value) == "recipe=sgd: no such recipe, but an ingredient. Did you mean 'ingredient=[sgd]'?"


ACCEPTED = [
    "arch=resnet,convnext",
    "arch=choice(resnet,convnext)",
    "arch=glob(resnet*)",
    "data=sample",
    "data.root='/x[1'",
    "seed=range(0,5)",
    "modernization=[]",
    "modernization=[patchify,kernel_11],[eca]",
    "modernization=gelu",
    "ingredient=[sgd]",
    "size=b1",
    "~recipe.batch.mixup",
    "recipe.optimizer={momentum: 0.8}",
    "recipe.optimizer.base_lr=0.1",
    "name='epochs=3'",
    "-m",
    "--epochs=3",
]


def test_valid_overrides_pass():
    check_overrides(ACCEPTED, CONF)


def test_usual_words_and_groups_fit_the_config():
    for word in USUAL_WORDS:
        with pytest.raises(ConfigError, match=rf"^{word}=1: unknown key\. Did you mean "):
            check_overrides([f"{word}=1"], CONF)
    assert {*ONE, *LIST} == {folder.name for folder in CONF.iterdir() if folder.is_dir()}


def test_suggested_keys_exist():
    recipe = compose(["recipe.regularizers.drop_path.rate=0.2", "recipe.callbacks.ema.window=0.3"]).recipe
    assert (recipe.regularizers["drop_path"]["rate"], recipe.callbacks["ema"]["window"]) == (0.2, 0.3)


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("--recipe.lr=0.001", "recipe.lr=0.001"),
        ("--seed=3", "seed=3"),
        ("--data@data=sample", "data@data=sample"),
        ("--name=a=b", "name=a=b"),
        ("--config-name=mine", "--config-name=mine"),
        ("--cfg=job", "--cfg=job"),
        ("--multirun", "--multirun"),
        ("-cn=mine", "-cn=mine"),
        ("name=--x=1", "name=--x=1"),
    ],
)
def test_hyphens_of_a_wandb_agent_are_stripped_from_keys_only(typed, taken):
    assert without_hyphens([typed]) == [taken]


def test_options_of_hydra_keep_their_hyphens():
    options = get_args_parser()._option_string_actions
    with_value = [name for name, action in options.items() if name.startswith("--") and action.nargs != 0]
    assert set(HYDRA_OPTIONS) < {name[2:] for name in with_value}
    for option in with_value:
        assert without_hyphens([f"{option}=x"]) == [f"{option}=x"]


def test_train_takes_a_wandb_agents_arguments(capsys):
    cli.train(["--help", "--recipe.lr=0.25", "--seed=3"])
    printed = capsys.readouterr().out
    assert "\n  recipe.lr=0.25 " in printed and "\n  seed=3 " in printed
    with pytest.raises(SystemExit) as stop:
        cli.train(["--recipe.lrr=0.25"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: recipe.lrr=0.25: unknown key. Did you mean recipe.lr?\n"
