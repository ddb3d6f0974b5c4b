"""Calibration: measure the steady rate of a step, and freeze the number of steps that fits the budget."""

from __future__ import annotations

import copy
import logging
from itertools import pairwise

from minuteloop.schema import parse_budget
from minuteloop.training.build import Parts
from minuteloop.training.plan import Plan
from minuteloop.training.processes import StopTogether, from_first
from minuteloop.training.stopwatch import Stopwatch
from minuteloop.training.timing import Rate
from minuteloop.training.trainer import make_trainer

# Two rounds of (fraction of the budget, least, most) seconds: a rough one, whose strength the second is measured with.
# Longer rounds bring little: a minute's rate differs from that of any 2.4 s in it by the machine's drift (CPU, rms
# 4.4 %; of 4.8 s 3.5 %; on a restless day 13 and 12 %).
ROUNDS = ((0.005, 0.0, 0.5), (0.04, 1.0, 10.0))
ROUGH_RATE = 10.0  # steps/s, before anything is measured
PATIENCE = 0.1  # fraction of the budget, for all phases, after which a round of slow steps ends

log = logging.getLogger("minuteloop")


def calibrate(parts: Parts, stopwatch: Stopwatch) -> Plan:
    """Return the plan that fits the config's budget, by measuring the rate where the budget is a time.

    A recipe's phases (image sizes, frozen layers) are measured separately. A compiled net is compiled here, in a
    stage of its own on the stopwatch. The net's state is restored.
    """
    amount, unit = parse_budget(parts.config.budget)
    if unit != "s":
        return compile_only(parts, parts.plan(), stopwatch)
    log.info("measuring the rate of a step")
    phases, plan = parts.ingredients.starts, parts.plan(ROUGH_RATE)
    compiling = parts.config.compile
    for fraction, least, most in ROUNDS:
        seconds = min(max(fraction * amount, least), most) / len(phases)
        patience = PATIENCE * amount / len(phases)
        rates = [measure_rate(parts, plan, start, seconds, patience) for start in phases]
        plan = parts.plan(_mean_rate(phases, rates))
        stopwatch.lap("calibrate", compile=sum(rate.first_seconds for rate in rates) if compiling else 0.0)
        compiling = False
        if any(rate.is_slow for rate in rates):
            break  # a second round would take as long
    return plan


def compile_only(parts: Parts, plan: Plan, stopwatch: Stopwatch) -> Plan:
    """Compile a net that has a plan already, so that compiling is not timed as training; return the plan."""
    if parts.config.compile:
        rates = [measure_rate(parts, plan, start, 0.0, 0.0) for start in parts.ingredients.starts]
        stopwatch.lap("calibrate", compile=sum(rate.first_seconds for rate in rates))
    return plan


def measure_rate(parts: Parts, plan: Plan, phase: float, seconds: float, patience: float) -> Rate:
    """Train for `seconds` in one phase, with a trainer as the run's, and return the rate; restore the net's state."""
    module = parts.classifier(plan, phase)
    before = copy.deepcopy(module.net.state_dict())
    config = parts.config
    rate = Rate(seconds, patience, cold=config.compile or config.device == "cuda")
    callbacks = [rate, *([StopTogether()] if config.devices > 1 else [])]
    trainer = make_trainer(config, plan.log_every, callbacks=callbacks, logger=False, limit_val_batches=0)
    trainer.fit(module, parts.data)
    module.net.load_state_dict(before)
    module.net.zero_grad()
    return from_first(rate)


def _mean_rate(phases: tuple[float, ...], rates: list[Rate]) -> float:
    """Return steps/s over the run: each phase weighs as the fraction of steps it has."""
    lengths = (end - start for start, end in pairwise((*phases, 1.0)))
    return 1 / sum(length / rate.steps_per_second for length, rate in zip(lengths, rates, strict=True))
