"""Effects in words."""

import pytest

from minuteloop.report.statistics.critical_values import ManyToOne
from minuteloop.report.statistics.effects import ONE_SEED, Effect, against_baseline
from minuteloop.report.statistics.verdicts import carries_over, outcome, transfer_sentence, verdict


def effect(low, high, n=3, std=0.15, df=4.0):
    return Effect((low + high) / 2, low, high, 0.5, n, n, "a test", std, df, 2.0, ManyToOne((0.5,)))


BETTER, WORSE, NONE, OPEN = effect(0.21, 1.03), effect(-1.03, -0.21), effect(-0.15, 0.12), effect(-0.1, 0.5)
TINY = effect(0.01, 0.19)
UNKNOWN = Effect(0.4, None, None, None, 1, 1, ONE_SEED)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (BETTER, "better by 0.62 [0.21, 1.03] points"),
        (WORSE, "worse by 0.62 [0.21, 1.03] points"),
        (NONE, "no difference beyond 0.2 points"),
        (TINY, "better by 0.10 [0.01, 0.19] points"),
        (UNKNOWN, "not resolved: one seed an arm has no interval"),
    ],
)
def test_verdict(found, words):
    assert verdict(found) == words


def test_unresolved_verdict_asks_for_seeds():
    # a known std of 0.15: 2 * (1.96 + 0.842)^2 * (0.15 / 0.2)^2 = 8.8 seeds, of which 3 are there
    assert verdict(effect(-0.1, 0.5, df=10_000)) == "not resolved: 6 more seeds an arm would resolve 0.2 points"
    # with 9 the power is there; half a width of 0.1 takes 2 * (1.96 * 0.15 / 0.1)^2 = 17.3 seeds
    words = "not resolved: 9 more seeds an arm would resolve 0.2 points or rule them out"
    assert verdict(effect(-0.1, 0.5, n=9, df=10_000)) == words
    assert verdict(effect(-0.1, 1.5, n=8, df=10_000)) == "not resolved: 1 more seed an arm would resolve 0.2 points"
    # 2 * (1.96 + 0.842)^2 * (2 / 0.1)^2 = 6,279.1 seeds
    assert verdict(effect(-0.1, 0.5, std=2.0, df=10**7), 0.1).startswith("not resolved: 6,277 more seeds an arm")


def test_outcome_takes_the_difference_worth_knowing_in_points():
    assert [outcome(OPEN, resolve) for resolve in (0.2, 0.49, 0.5)] == ["unresolved", "unresolved", "none"]
    assert verdict(OPEN, 1.0) == "no difference beyond 1 point"
    assert outcome(UNKNOWN, 100) == "unresolved"


def test_a_real_comparison_in_words():
    arms = {"base": [90.0, 90.1, 90.2], "x": [91.0, 91.1, 91.2], "y": [90.0, 90.2, 90.1]}
    effects = against_baseline(arms, "base")
    # std 0.1 of 6 degrees of freedom; Dunnett's table has 2.86 for two arms: 2.86 * 0.1 * sqrt(2 / 3) = 0.234
    assert verdict(effects["x"]) == "better by 1.00 [0.77, 1.23] points"
    assert verdict(effects["y"], 0.25) == "no difference beyond 0.25 points"
    assert verdict(effects["y"], 0.2).startswith("not resolved: ")


@pytest.mark.parametrize(
    ("short", "long", "expected"),
    [
        (BETTER, BETTER, "carries over"),
        (WORSE, WORSE, "carries over"),
        (NONE, NONE, "carries over"),
        (TINY, NONE, "carries over"),  # both within 0.2 points
        (BETTER, WORSE, "does not"),
        (WORSE, BETTER, "does not"),
        (BETTER, NONE, "does not"),
        (NONE, WORSE, "does not"),
        (OPEN, BETTER, "unresolved"),
        (BETTER, OPEN, "unresolved"),
        (UNKNOWN, UNKNOWN, "unresolved"),
    ],
)
def test_carries_over(short, long, expected):
    assert carries_over(short, long) == expected


def test_transfer_sentence():
    assert transfer_sentence("gelu", BETTER, NONE, ("15s", "240s")) == (
        "gelu does not carry over: better by 0.62 [0.21, 1.03] points at 15s; no difference beyond 0.2 points at 240s."
    )
    assert transfer_sentence("gelu", WORSE, WORSE).startswith(
        "gelu carries over: worse by 0.62 [0.21, 1.03] points at "
    )
    assert transfer_sentence("gelu", OPEN, OPEN) == "gelu is unresolved at short and at long."
    assert transfer_sentence("gelu", UNKNOWN, BETTER) == (
        "gelu is unresolved at short (one seed an arm has no interval); better by 0.62 [0.21, 1.03] points at long."
    )
