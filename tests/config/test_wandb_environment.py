"""Keys and variables that W&B would reject are one line before the run starts."""

import pytest

from minuteloop import cli, compose
from minuteloop.validation import ConfigError

QUICK = ["arch=resnet18", "data=sample", "recipe.batch_size=32"]
TAG = 70 * "t"
MODES = "must be one of online, offline, disabled"
TAGS = "must be a list of tags of 1 to 64 characters"
NAME = "must be null or at most 128 characters"
PROJECT = f"{NAME} other than / \\ # ? % :"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"logger.tags=[{TAG}]", f"logger.tags=['{TAG}']: {TAGS}"),
        ("logger.tags=['']", f"logger.tags=['']: {TAGS}"),
        (f"logger.group={'g' * 129}", f"logger.group={'g' * 129}: {NAME}"),
        ("logger.group={a: 1}", f"logger.group={{a: 1}}: {NAME}"),
        ("logger.project=a/b", f"logger.project=a/b: {PROJECT}"),
    ],
)
def test_key_that_wandb_would_reject(override, message):
    with pytest.raises(ConfigError) as error:
        compose([*QUICK, override])
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("WANDB_MODE", "ofline", f"{MODES}. Did you mean offline?"),
        ("WANDB_MODE", "", MODES),
        ("WANDB_TAGS", f"a,{TAG}", TAGS),
        ("WANDB_TAGS", "", TAGS),
        ("WANDB_PROJECT", "a:b", PROJECT),
        ("WANDB_RUN_GROUP", "g" * 129, NAME),
        ("WANDB_JOB_TYPE", "j" * 65, "must be null or at most 64 characters"),
    ],
)
def test_variable_that_wandb_would_reject(variable, value, rule, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as error:
        compose(QUICK)
    assert str(error.value) == f"{variable}={value}: {rule}"
    compose([*QUICK, "logger=none"])


@pytest.mark.parametrize("arguments", [QUICK, ["-m", *QUICK, "seed=0,1"]], ids=["run", "sweep"])
def test_wrong_variable_is_one_line_before_anything_is_written(arguments, cwd, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(SystemExit) as stop:
        cli.train(arguments)
    assert stop.value.code == 2 and not list(cwd.iterdir())
    printed = capsys.readouterr().err
    assert printed.endswith(f"WANDB_MODE=ofline: {MODES}. Did you mean offline?\n") and printed.count("\n") == 1


def test_values_that_wandb_takes(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    monkeypatch.setenv("WANDB_TAGS", "a,b")
    logger = compose([*QUICK, "logger.group=1", "logger.project=2", "logger.tags=[3,x y]"]).logger
    assert (logger.group, logger.project, logger.tags) == ("1", "2", ["3", "x y"])
    assert compose(QUICK).logger.project is None
