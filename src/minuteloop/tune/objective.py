"""What a search optimizes: metrics of a finished run, or their reward."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from minuteloop.schema import METRICS, TuneConfig
from minuteloop.validation import ConfigError

REWARD = "reward"
DEFAULT = ["val/acc"]
UNITS = {  # metric -> factor and unit, as tables and lines show it
    "val/acc": (100, "%"),
    "step_seconds": (1000, "ms"),
    "params": (1e-6, "M"),
    "macs": (1e-6, "M"),
    "peak_memory_bytes": (1e-6, "MB"),
}


@dataclass(frozen=True)
class Objective:
    """The objectives of a search by name; `powers` are those of the reward, {} without one."""

    names: list[str]
    powers: dict[str, float]

    @property
    def directions(self) -> list[str]:
        """Return Optuna's directions."""
        return ["maximize" if METRICS.get(name, True) else "minimize" for name in self.names]

    @property
    def compared(self) -> list[str]:
        """Return the metrics that the Pareto set compares: the objectives, or those of the reward."""
        return list(self.powers) or self.names

    def values(self, metrics: dict[str, float]) -> list[float]:
        """Return the values of the objectives."""
        return [reward(metrics, self.powers) if name == REWARD else metrics[name] for name in self.names]


def objective_of(settings: TuneConfig) -> Objective:
    """Return the objective of a search. Raises ConfigError where there are both objectives and a reward."""
    if settings.reward is None:
        return Objective(settings.objectives or DEFAULT, {})
    if settings.objectives:
        raise ConfigError(f"tune.objectives={settings.objectives}: must be [] with tune.reward, which is the objective")
    return Objective([REWARD], settings.reward)


def metrics_of(record: dict[str, Any]) -> dict[str, float]:
    """Return the METRICS of a finished record."""
    cost, plan, found = record["cost"], record["plan"], record["metrics"]
    return {
        "val/acc": found["val/acc"],
        "val/loss": found["val/loss"],
        "images_per_second": cost["images_per_second"],
        "step_seconds": plan["batch_size"] / cost["images_per_second"],
        "params": cost["params"],
        "macs": cost["macs"],
        "peak_memory_bytes": cost["peak_memory_bytes"],
    }


def reward(metrics: dict[str, float], powers: dict[str, float]) -> float:
    """Return the product of the metrics to their powers, such as A * S^w * P^v (Tan 2021, section 3.2)."""
    return math.prod(metrics[name] ** power for name, power in powers.items())


def shown(name: str, value: float) -> str:
    """Return a metric with its unit: '61.32 %'."""
    factor, unit = UNITS.get(name, (1, ""))
    value *= factor
    digits = 4 if name == REWARD or abs(value) < 10 else 2 if abs(value) < 1000 else 0
    return f"{value:,.{digits}f} {unit}".strip()
