"""The space of a search in Hydra's words: what is drawn, and the overrides of a point."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from minuteloop.config.compose import compose
from minuteloop.tune.space import is_searched, parse, space_of
from minuteloop.validation import ConfigError, in_quotes


def space(*overrides):
    return space_of(parse(overrides))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("interval(0,1)", FloatDistribution(0.0, 1.0)),
        ("tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("int(interval(1,8))", IntDistribution(1, 8)),
        ("tag(log,int(interval(16,256)))", IntDistribution(16, 256, log=True)),
        ("range(1,9,2)", IntDistribution(1, 7, step=2)),
        ("range(1,4)", IntDistribution(1, 3)),
        ("range(0,1,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("3,5", CategoricalDistribution([3, 5])),
        ("choice(gelu,relu)", CategoricalDistribution(["gelu", "relu"])),
        ("[1,2],[3,4]", CategoricalDistribution(["[1,2]", "[3,4]"])),
        ("true,false", CategoricalDistribution([True, False])),
    ],
)
def test_hydras_words_are_distributions(values, expected):
    assert space(f"a.b={values}").distributions == {"a.b": expected}


def test_every_entry_of_a_list_is_a_parameter():
    found = space("arch.block.kernel=[3,choice(3,5),range(3,8,2)]", "recipe.lr=interval(0.1,1)")
    assert list(found.distributions) == ["arch.block.kernel.1", "arch.block.kernel.2", "recipe.lr"]
    point = {"arch.block.kernel.1": 5, "arch.block.kernel.2": 7, "recipe.lr": 0.123456789}
    assert found.overrides(point) == ["arch.block.kernel=[3,5,7]", "recipe.lr=0.1235"]


def test_points_compose_to_what_they_say():
    found = space(
        "arch.block.act=choice(gelu,relu)", "modernization=[gelu],[patchify]", "arch.block.kernel=[choice(3,5),3,3,7]"
    )
    point = {"arch.block.act": "relu", "modernization": "[patchify]", "arch.block.kernel.0": 5}
    config = compose(["arch=resnet18", "recipe=plain", *found.overrides(point)])
    assert (config.arch.block.act, config.arch.block.kernel) == ("relu", [5, 3, 3, 7])
    assert "patchify" in config.arch.applied


def test_texts_with_spaces_stay_quoted():
    found = space("arch.block.layout=[K,choice('K 1','1 k 1')]")
    point = {"arch.block.layout.1": found.distributions["arch.block.layout.1"].choices[1]}
    (override,) = found.overrides(point)
    (parsed,) = parse([override])
    assert parsed.value() == ["K", "1 k 1"]
    (parsed,) = parse([f"a=[{in_quotes(override)}]"])
    assert parsed.value() == [override]


def test_corners_have_every_choice_and_both_ends():
    found = space("a=interval(0,1)", "b=x,y,z", "c=int(interval(4,4))")
    assert list(found.corners()) == [
        {"a": 0.0, "b": "x", "c": 4},
        {"a": 1.0, "b": "x", "c": 4},
        {"a": 0.0, "b": "y", "c": 4},
        {"a": 0.0, "b": "z", "c": 4},
    ]


def test_optuna_draws_only_what_the_words_allow():
    found = space("a=range(1,9,2)", "b=x,y", "c=tag(log,interval(0.01,1))", "d=range(0,1,0.25)")
    assert found.grid.__self__.lines()[0] == "a: 1 to 7 in steps of 2"
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [found.suggest(study.ask()) for _ in range(60)]
    assert {point["a"] for point in points} == {1, 3, 5, 7} and {point["b"] for point in points} == {"x", "y"}
    assert {point["d"] for point in points} == {0.0, 0.25, 0.5, 0.75}
    below = sum(point["c"] < 0.1 for point in points)
    assert 20 <= below <= 40, "half of a logarithmic interval is below its geometric mean"


def test_grid_has_every_value():
    assert space("a=range(1,9,2)", "b=x,y", "c=range(0,1,0.25)").grid() == {
        "a": [1, 3, 5, 7],
        "b": ["x", "y"],
        "c": [0.0, 0.25, 0.5, 0.75],
    }


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("seed=1,2", "seed=1,2: must be one value; each point trains with one seed, and --confirm trains the best"),
        ("tune.trials=1,2", "tune.trials=1,2: must be one value; a search is not searched over"),
        ("hydra/launcher=basic,joblib", "hydra/launcher=basic,joblib: must be one value"),
        ("+a=1,2", r"\+a=1,2: must set a key that exists; only values are searched"),
        ("a=interval(2,1)", r"a=interval\(2,1\): must be values to search such as interval\(0.01, 1\)"),
        ("a=tag(log,interval(0,1))", r"a=tag\(log,interval\(0,1\)\): must be values to search"),
        ("a=range(3,3)", r"a=range\(3,3\): must be values to search"),
        ("a=glob(*)", r"a=glob\(\*\): .*Hydra's glob lists files"),
    ],
)
def test_what_cannot_be_searched_is_one_line(line, rule):
    with pytest.raises(ConfigError, match=rule):
        space(line)


def test_one_value_is_not_searched():
    words = ["a=1", "a=[1,2]", "b=1,2", "c=[1,choice(2,3)]", "~d", "e=interval(0,1)"]
    assert [is_searched(override) for override in parse(words)] == [False, False, True, True, False, True]
