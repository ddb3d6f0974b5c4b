"""The cells of a sweep: what was typed, with a study or without; errors of studies on the command line."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from minuteloop import cli, compose, run
from minuteloop.records.record import config_hash
from minuteloop.study.grid import compose_study, tasks
from minuteloop.validation import ConfigError

HEAD = "defaults: [config, override arch: resnet18, override recipe: plain, override data: sample, _self_]\n"
STUDY = "study: {arms: {a: [], b: [recipe.lr=0.2]}, seeds: [5, 6]}\n"
MULTIRUN = "hydra: {mode: MULTIRUN}\n"


@pytest.fixture
def mine(cwd):
    """The folder `mine` with a study of two arms and two seeds, `mine/two.yaml`."""
    (cwd / "mine").mkdir()
    (cwd / "mine/two.yaml").write_text(HEAD + STUDY + MULTIRUN)
    return str(cwd / "mine")


PLAIN = {
    "typed": ({}, ["recipe.lr=1,2", "seed=0,1"]),
    "in the file": ({"recipe.lr": "1,2", "seed": "0,1"}, []),
    "the file's, replaced": ({"recipe.lr": "1,2", "seed": "5,6,7"}, ["seed=0,1"]),
    "added to the file": ({"recipe.lr": "1,2"}, ["seed=0,1"]),
}


@pytest.mark.parametrize("sweeper", ["minuteloop", "basic"])
@pytest.mark.parametrize("case", PLAIN)
def test_seeds_vary_slowest_wherever_they_are_given(case, sweeper, cwd):
    params, typed = PLAIN[case]
    (cwd / "plain.yaml").write_text(f"{HEAD}hydra: {{mode: MULTIRUN, sweeper: {{params: {params}}}}}\n")
    study, cells = compose_study("plain", str(cwd), [*typed, f"hydra/sweeper={sweeper}"])
    assert study is None
    assert cells == [[f"seed={seed}", f"recipe.lr={lr}"] for seed in (0, 1) for lr in (1, 2)]


def test_cells_of_a_study_have_its_seeds_and_the_budget_of_its_config(mine):
    study, cells = compose_study("two", mine)
    assert (study.name, study.seeds, study.budgets, study.baseline) == ("two", [5, 6], ["60s"], "a")
    assert cells == [
        ["budget=60s", "seed=5"],
        ["recipe.lr=0.2", "budget=60s", "seed=5"],
        ["budget=60s", "seed=6"],
        ["recipe.lr=0.2", "budget=60s", "seed=6"],
    ]


def test_typed_seeds_and_budgets_replace_the_study_s_and_other_sweeps_multiply(mine):
    typed = ["seed=range(0,2)", "budget=2steps,3steps", "size=nano,pico", "data=sample"]
    study, cells = compose_study("two", mine, typed)
    assert (study.seeds, study.budgets) == ([0, 1], ["2steps", "3steps"])
    assert cells == [
        [*arm, f"size={size}", "data=sample", f"budget={budget}", f"seed={seed}"]
        for seed in (0, 1)
        for budget in ("2steps", "3steps")
        for size in ("nano", "pico")
        for arm in ([], ["recipe.lr=0.2"])
    ]
    study, cells = compose_study("two", mine, ["seed=3", "budget=4steps"])
    assert study.seeds == [3] and len(cells) == 2 and cells[1] == ["recipe.lr=0.2", "budget=4steps", "seed=3"]


def test_a_task_has_its_cells_in_their_order():
    cells = [["modernization=[patchify,gelu]", 'name="a \\"b\\""', f"seed={seed}"] for seed in range(5)]
    made = tasks(cells, 2)
    assert [task[: len(cells[0])] for task in made] == cells[::2] and len(made) == 3
    parsed = [OverridesParser.create().parse_overrides(task) for task in made]
    others = [override.value() for task in parsed for override in task if override.key_or_group == "cells"]
    assert others == [[cells[1]], [cells[3]], []]
    assert tasks(cells, 1) == cells


def test_a_task_without_a_cell_is_one_line(mine):
    with pytest.raises(ConfigError, match=r"hydra.sweeper.cells_per_task=0: must be an integer >= 1"):
        compose_study("two", mine, ["hydra.sweeper.cells_per_task=0"])


def test_study_can_be_typed(cwd):
    typed = ["study.add_one={modernization:[gelu]}", "study.seeds=1", "hydra.sweep.dir=exp/gelu"]
    study, cells = compose_study("config", "", typed)
    assert study.name == "gelu" and study.kind == "add_one"
    assert cells == [[f"modernization=[{name}]", "budget=60s", "seed=0"] for name in ("", "gelu")]


def test_finished_runs_are_shared_between_studies_and_single_runs(mine):
    arm = ["recipe.lr=0.2", "seed=5"]
    alone = [*arm, "arch=resnet18", "recipe=plain", "data=sample"]
    assert config_hash(compose(arm, "two", mine)) == config_hash(compose(alone))


WRONG = {
    ("study.baseline=c",): "study.baseline=c: must be the name of an arm (one of: a, b)",
    ("+study.arms.c=['recipe.lr=0.2']",): "study.arms.c: has the overrides of arm b; remove one of them",
    ("recipe.batch_size=128", "recipe.lr=0.1"): "error: recipe.lr=0.1: arm b of the study sets recipe.lr",
    ("study.add_one={modernization:[gelu]}",): "study.add_one: arms is set too; must set one of",
    ("study.arms=null",): "study: has no arms; must set one of arms, each, cumulative, add_one, drop_one",
    ("study.seeds=1.5",): "study.seeds=1.5: must be a number of seeds >= 1, or a list of different seeds >= 0",
    ("study.seeds=2,3",): "study.seeds=2,3: must be one value; a study is not swept over",
    ("study.budgets=[60]",): "study.budgets=['60']: must be different lengths > 0 with their units",
    ("+study.arms.c=['recipe.lr=1,2']",): "study.arms.c=[recipe.lr=1,2]: must be one value; use an arm for each",
    ("+study.arms.c=['lr=1']",): "lr=1: unknown key. Did you mean recipe.lr=1?",
    ("+study.arms.c=['arch=resnet19']",): "no such file in conf/arch",
    ("+study.arms.c=['size=pico']",): "study: arm c trains the same config as arm a; remove one of them",
    ("study.question=[a]",): "study.question=[a]: must be text",
    ("study.seed=3",): "study.seed=3: unknown key. Did you mean study.seeds?",
    ("seed=0,-1",): "seed=-1: must be an integer >= 0",
    ("seed=a",): "seed=a: must be an integer >= 0",
    ("budget=60",): "budget=60: must be a length > 0 with its unit",
    ("hydra/sweeper=basic",): "hydra/sweeper=basic: must be minuteloop for a study, whose cells are given",
    ("hydra.mode=RUN",): "study: needs a sweep; add -m, or hydra: {mode: MULTIRUN} to the file of the study",
}


@pytest.mark.parametrize("overrides", WRONG, ids=" ".join)
def test_wrong_study_is_one_line_before_any_cell_runs(overrides, mine, capsys, cwd):
    with pytest.raises(SystemExit) as stopped:
        cli.train(["-cd", mine, "-cn", "two", *overrides])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.startswith("error: ") and message.count("\n") == 1
    assert WRONG[overrides] in message, message
    assert [path.name for path in cwd.iterdir()] == ["mine"]


def test_arm_that_is_named_twice_is_one_line(mine, capsys, cwd):
    (cwd / "mine/two.yaml").write_text(HEAD + "study:\n  arms:\n    a: []\n    a: [size=nano]\n" + MULTIRUN)
    with pytest.raises(SystemExit) as stopped:
        cli.train(["-cd", mine, "-cn", "two"])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1 and "duplicate key a" in message


def test_study_is_never_one_silent_run(mine, capsys, cwd):
    with pytest.raises(ConfigError, match=r"config_name=two: is a sweep, not one run; use python train.py -cn two"):
        run(config_name="two", config_dir=mine)
    (cwd / "mine/two.yaml").write_text(HEAD + STUDY)
    with pytest.raises(ConfigError, match="study: needs a sweep; add -m"):
        run(config_name="two", config_dir=mine)
    with pytest.raises(SystemExit):
        cli.train(["-cd", mine, "-cn", "two"])
    assert capsys.readouterr().err.startswith("error: study: needs a sweep; add -m") and not (cwd / "runs").exists()
    assert len(compose_study("two", mine, ["hydra.mode=MULTIRUN"])[1]) == 4, "as -m does"
