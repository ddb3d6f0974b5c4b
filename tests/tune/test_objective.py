"""What a search optimizes: metrics of records, rewards, directions."""

import pytest
from report_records import record

from minuteloop.schema import TuneConfig
from minuteloop.tune.objective import metrics_of, objective_of, reward, shown
from minuteloop.validation import ConfigError, check


def test_objectives_have_directions_and_values():
    found = objective_of(TuneConfig(objectives=["val/acc", "params"]))
    assert (found.names, found.directions) == (["val/acc", "params"], ["maximize", "minimize"])
    metrics = metrics_of(record([], accuracy=0.6, images_per_second=640.0, metrics={"val/loss": 1.2}))
    assert found.values(metrics) == [0.6, 570_000]
    assert metrics["step_seconds"] == pytest.approx(128 / 640)
    assert objective_of(TuneConfig()).names == ["val/acc"]


def test_reward_is_the_product_of_powers():
    """EfficientNetV2 (Tan 2021, section 3.2): A * S^-0.07 * P^-0.05."""
    powers = {"val/acc": 1, "step_seconds": -0.07, "params": -0.05}
    found = objective_of(TuneConfig(reward=powers))
    assert (found.names, found.directions, found.compared) == (["reward"], ["maximize"], list(powers))
    metrics = {"val/acc": 0.8, "step_seconds": 0.05, "params": 2e6}
    assert found.values(metrics) == pytest.approx([0.8 * 0.05**-0.07 * 2e6**-0.05])
    assert reward(metrics | {"params": 4e6}, powers) / reward(metrics, powers) == pytest.approx(2**-0.05)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"objectives": ["acc"]}, r"tune.objectives=\['acc'\]: must be a list of val/acc, val/loss"),
        ({"objectives": ["params", "params"]}, "must be a list of"),
        ({"reward": {"val/acc": "x"}}, "must be powers by name"),
        ({"reward": {"flops": 1}}, "must be powers by name"),
        ({"reward": {}}, "must be powers by name"),
        ({"sampler": "tpa"}, "tune.sampler=tpa: must be one of tpe, random.*Did you mean tpe"),
        ({"trials": 0}, "tune.trials=0: must be an integer >= 1"),
    ],
)
def test_wrong_settings_are_one_line(settings, rule):
    with pytest.raises(ConfigError, match=rule):
        check(TuneConfig(**settings), "tune.")


def test_reward_and_objectives_are_one_or_the_other():
    with pytest.raises(ConfigError, match=r"tune.objectives=\['params'\]: must be \[\] with tune.reward"):
        objective_of(TuneConfig(objectives=["params"], reward={"val/acc": 1}))


def test_values_are_shown_with_units():
    assert [shown(*pair) for pair in [("val/acc", 0.6132), ("step_seconds", 0.0123), ("params", 2_345_678)]] == [
        "61.32 %",
        "12.30 ms",
        "2.3457 M",
    ]
    assert (shown("reward", 0.51234), shown("images_per_second", 3123.4)) == ("0.5123", "3,123")
