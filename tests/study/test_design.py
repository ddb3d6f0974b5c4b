"""A study as data: arms that are named or generated, cells in order, the arm of a record, what it costs, its errors."""

import subprocess
import sys

import pytest

from minuteloop.schema import StudyConfig
from minuteloop.study.design import make_study, plan_lines, read_study
from minuteloop.validation import ConfigError


def study(**settings):
    return make_study(StudyConfig(**({"seeds": 2, "budgets": ["60s"]} | settings)), "mine")


ARMS = {
    "cumulative": {
        "none": ["modernization=[]"],
        "+patchify": ["modernization=[patchify]"],
        "+gelu": ["modernization=[patchify,gelu]"],
        "+silu": ["modernization=[patchify,gelu,silu]"],
    },
    "add_one": {
        "none": ["modernization=[]"],
        "+patchify": ["modernization=[patchify]"],
        "+gelu": ["modernization=[gelu]"],
        "+silu": ["modernization=[silu]"],
    },
    "drop_one": {
        "all": ["modernization=[patchify,gelu,silu]"],
        "-patchify": ["modernization=[gelu,silu]"],
        "-gelu": ["modernization=[patchify,silu]"],
        "-silu": ["modernization=[patchify,gelu]"],
    },
}


@pytest.mark.parametrize("kind", ARMS)
def test_arms_are_generated_from_a_list_of_names(kind):
    made = study(**{kind: {"modernization": ["patchify", "gelu", "silu"]}})
    assert made.arms == ARMS[kind] and list(made.arms) == list(ARMS[kind])
    assert (made.kind, made.key, made.baseline) == (kind, "modernization", next(iter(ARMS[kind])))


def test_arms_are_generated_from_ingredients_and_from_values_of_a_key():
    assert study(drop_one={"ingredient": ["mixup", "ema"]}).arms == {
        "all": ["ingredient=[mixup,ema]"],
        "-mixup": ["ingredient=[ema]"],
        "-ema": ["ingredient=[mixup]"],
    }
    rates = study(each={"recipe.lr": [0.1, None, True, "auto"]})
    assert rates.arms == {
        "0.1": ["recipe.lr=0.1"],
        "null": ["recipe.lr=null"],
        "true": ["recipe.lr=true"],
        "auto": ["recipe.lr=auto"],
    }
    assert (rates.kind, rates.key) == ("arms", None)


SMALL, BIG = ["size=nano", "recipe.lr=0.1"], ["size=tiny"]
TWO = {"small": SMALL, "big": BIG}


def test_seeds_vary_slowest_then_budgets_and_arms_alternate():
    made = study(arms=TWO, seeds=[7, 3], budgets=["1s", "2s"])
    assert made.cells([["data=sample"]]) == [
        [*arm, "data=sample", f"budget={budget}", f"seed={seed}"]
        for seed, budget, arm in [
            *((7, "1s", SMALL), (7, "1s", BIG), (7, "2s", SMALL), (7, "2s", BIG)),
            *((3, "1s", SMALL), (3, "1s", BIG), (3, "2s", SMALL), (3, "2s", BIG)),
        ]
    ]
    assert [cell[-3] for cell in made.cells([["a=1"], ["a=2"]])][:4] == ["a=1", "a=1", "a=2", "a=2"]
    assert study(arms=TWO, seeds=3).seeds == [0, 1, 2]


def test_arm_of_a_record_is_the_one_with_most_overrides_in_it():
    made = study(arms={"plain": [], "fast": ["recipe.lr=1"], "fast and small": ["size=nano", "recipe.lr=1"]})
    more = ["budget=60s", "seed=1"]
    assert made.arm_of(more) == "plain"
    assert made.arm_of(["recipe.lr=1", *more]) == "fast"
    assert made.arm_of([*more, "recipe.lr=1", "size=nano"]) == "fast and small"
    assert made.named(["size=nano", "recipe.lr=1", *more]) == ["fast and small", *more]
    other = study(arms=TWO)
    assert other.arm_of(more) is None and other.named(more) == more
    for cell, name in zip(other.cells([["data=sample"]]), ["small", "big"] * 2, strict=True):
        assert other.arm_of(cell) == name


def test_study_is_read_back_from_the_folder_of_its_sweep(tmp_path):
    made = study(question="Which?", baseline="big", arms=TWO)
    made.save(tmp_path)
    assert read_study(tmp_path) == made and made.baseline == "big"
    assert read_study(tmp_path / "other") is None


def test_plan_names_arms_in_order_and_minutes():
    made = study(question="Which size?", baseline="big", arms=TWO, seeds=3, budgets=["30s", "2min", "10ep"])
    left = ["30s"] * 6 + ["2min"] * 6 + ["10ep"] * 5
    assert plan_lines(made, left, 1) == [
        "study mine: Which size?",
        "arms: small, big (baseline: big)",
        "cells: 18; arms: 2; seeds: 3; budgets: 30s, 2min, 10ep; finished before: 1",
        "to run: 15 min of training and the training of 5 cells, whose steps or epochs take a time not known in "
        "advance, besides the start, calibration and evaluation of each cell (about 10 s on a CPU)",
    ]
    assert plan_lines(study(arms=TWO), [], 4)[1:] == [
        "arms: small, big (baseline: small)",
        "cells: 4; arms: 2; seeds: 2; budgets: 60s; finished before: 4",
    ]


NAMES = {"modernization": ["patchify", "gelu"]}
WRONG = {
    "study: has no arms; must set one of arms, each, cumulative, add_one, drop_one": {},
    "study.add_one: arms is set too; must set one of": {"arms": TWO, "add_one": NAMES},
    "study.baseline=bog: must be the name of an arm. Did you mean big?": {"arms": TWO, "baseline": "bog"},
    "study.arms.again: has the overrides of arm small; remove one of them": {"arms": TWO | {"again": SMALL[::-1]}},
    "study.arms.a=[seed=1]: no arm may set seed; use study.seeds": {"arms": {"a": ["seed=1"]}},
    "study.arms.a=[+budget=1s,2s]: no arm may set budget; use study.budgets": {"arms": {"a": ["+budget=1s,2s"]}},
    "study.arms.a=[hydra/launcher=joblib]: no arm may set hydra": {"arms": {"a": ["hydra/launcher=joblib"]}},
    "study.each.0=[seed=0]: no arm may set seed": {"each": {"seed": [0, 1]}},
    "study.arms.a=size=nano: must be a list of overrides": {"arms": {"a": "size=nano"}},
    "study.arms.' ': the name of an arm must be text on one line": {"arms": {" ": []}},
    "study.seeds=0: must be a number of seeds >= 1, or a list": {"arms": TWO, "seeds": 0},
    "study.seeds=[1, 1]: must be a number": {"arms": TWO, "seeds": [1, 1]},
    "study.seeds=[-1]: must be a number": {"arms": TWO, "seeds": [-1]},
    "study.seeds=range(0,3): must be a number": {"arms": TWO, "seeds": "range(0,3)"},
    "study.seeds=True: must be a number": {"arms": TWO, "seeds": True},
    "study.budgets=['60']: must be different lengths > 0 with their units": {"arms": TWO, "budgets": ["60"]},
    "study.budgets=['1s', '1s']: must be different": {"arms": TWO, "budgets": ["1s", "1s"]},
    "study.cumulative={'modernization': ['gelu', 'gelu']}: must be one list of different names": {
        "cumulative": {"modernization": ["gelu", "gelu"]}
    },
    "study.drop_one={'arch': ['resnet']}: must be one list": {"drop_one": {"arch": ["resnet"]}},
    "study.add_one={'modernization': 'gelu'}: must be one list": {"add_one": {"modernization": "gelu"}},
    "study.add_one={'modernization': []}: must be one list": {"add_one": {"modernization": []}},
    "study.each={'size': ['nano'], 'arch': ['resnet']}: must be a key": {
        "each": {"size": ["nano"], "arch": ["resnet"]}
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_study_is_one_line(message):
    with pytest.raises(ConfigError) as error:
        study(**WRONG[message])
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_reading_a_study_imports_neither_torch_nor_hydra():
    code = (
        "import sys; from minuteloop.study.design import read_study\n"
        "assert not {'torch', 'hydra', 'omegaconf'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
