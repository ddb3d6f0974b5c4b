"""What an effect means, in words."""

from __future__ import annotations

from typing import Literal

from minuteloop.report.statistics.effects import Effect
from minuteloop.report.statistics.seeds import more_seeds

RESOLVE = 0.2  # points: a difference worth knowing

Outcome = Literal["better", "worse", "none", "unresolved"]
Transfer = Literal["carries over", "does not", "unresolved"]


def outcome(effect: Effect, resolve: float = RESOLVE) -> Outcome:
    """Return 'better' or 'worse' where the interval excludes zero, 'none' where it is inside +-`resolve` points."""
    if effect.low is None:
        return "unresolved"
    if effect.low > 0 or effect.high < 0:
        return "better" if effect.low > 0 else "worse"
    return "none" if is_within(effect, resolve) else "unresolved"


def is_within(effect: Effect, resolve: float) -> bool:
    """Return whether the interval of an effect is inside +-`resolve` points."""
    return effect.low is not None and -resolve <= effect.low and effect.high <= resolve


def verdict(effect: Effect, resolve: float = RESOLVE) -> str:
    """Return an effect in words; a difference that is not resolved with the seeds that it takes (`more_seeds`)."""
    points = f"{resolve:g} point{'' if resolve == 1 else 's'}"
    match outcome(effect, resolve):
        case "better":
            return f"better by {effect.difference:.2f} [{effect.low:.2f}, {effect.high:.2f}] points"
        case "worse":
            return f"worse by {-effect.difference:.2f} [{-effect.high:.2f}, {-effect.low:.2f}] points"
        case "none":
            return f"no difference beyond {points}"
    if effect.low is None:
        return f"not resolved: {effect.method}"
    more, is_decisive = more_seeds(effect, resolve)
    seeds = f"{more:,} more seed{'' if more == 1 else 's'} an arm"
    return f"not resolved: {seeds} would resolve {points}{' or rule them out' if is_decisive else ''}"


def carries_over(short: Effect, long: Effect, resolve: float = RESOLVE) -> Transfer:
    """Return whether what a short run shows of an arm holds in a long one; each effect is against its own baseline.

    Both must be resolved. It carries over where both are better, both worse, or both within +-`resolve` points; it does
    not where the signs are opposite, or one shows a difference and the other none.
    """
    outcomes = outcome(short, resolve), outcome(long, resolve)
    if "unresolved" in outcomes:
        return "unresolved"
    agree = outcomes[0] == outcomes[1] or (is_within(short, resolve) and is_within(long, resolve))
    return "carries over" if agree else "does not"


def transfer_sentence(
    arm: str, short: Effect, long: Effect, budgets: tuple[str, str] = ("short", "long"), resolve: float = RESOLVE
) -> str:
    """Return `carries_over` as one sentence: '{arm} carries over: better by ... at 15s; better by ... at 240s.'

    What is not resolved is named without the seeds that it would take: '{arm} is unresolved at 15s and at 240s.'
    """
    found = carries_over(short, long, resolve)
    unresolved, resolved = [], []
    for effect, budget in zip((short, long), budgets, strict=True):
        if outcome(effect, resolve) == "unresolved":
            unresolved.append(f"at {budget}{f' ({effect.method})' if effect.low is None else ''}")
        else:
            resolved.append(f"{verdict(effect, resolve)} at {budget}")
    if found == "unresolved":
        return "; ".join([f"{arm} is unresolved {' and '.join(unresolved)}", *resolved]) + "."
    words = "carries over" if found == "carries over" else "does not carry over"
    return f"{arm} {words}: {'; '.join(resolved)}."
