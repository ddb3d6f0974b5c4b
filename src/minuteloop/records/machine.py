"""The machine that a result belongs to: results of different machines are not reused, averaged or ranked together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def machine_of(record: dict) -> dict[str, Any]:
    """Return what a record's figures depend on besides config and code: {word: value}, None where it is not known."""
    host, config, versions = (record.get(part) or {} for part in ("host", "config", "versions"))
    device, devices = config.get("device"), config.get("devices", 1)
    return {
        "hardware": host.get("gpu") or host.get("cpu"),
        "device": device if devices == 1 else f"{devices} x {device}",
        "threads": config.get("threads"),
        "precision": config.get("precision"),
        "torch": versions.get("torch"),
        "timm": versions.get("timm"),
    }


def machine_words(machine: dict[str, Any], keys: Iterable[str] | None = None) -> str:
    """Return a machine in words such as 'NVIDIA A100, torch 2.9'; with `keys` only those."""
    keys = list(machine if keys is None else keys)
    words = [_word(key, machine[key]) for key in keys if machine[key] is not None]
    return ", ".join(words) or "an unknown machine"


def _word(key: str, value: Any) -> str:
    if key == "threads":
        return f"{value} thread{'' if value == 1 else 's'}"
    return f"{key} {value}" if key in ("torch", "timm") else str(value)


def differing(machines: Iterable[dict[str, Any]]) -> list[str]:
    """Return the words in which machines differ; not the device where the hardware says it."""
    machines = list(machines)
    keys = [key for key in machines[0] if any(machine[key] != machines[0][key] for machine in machines)]
    return [key for key in keys if not (key == "device" and "hardware" in keys)]
