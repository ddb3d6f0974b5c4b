"""Pages of measured costs, made from the rows of scripts/bench.py."""

from __future__ import annotations

import json
from pathlib import Path

ARCHS = """# What architectures cost, and what a minute makes of them

Made by `scripts/table.py` from `bench/archs_cpu.jsonl` and `bench/archs_minute_cpu.jsonl`: {overrides},
{threads} threads of {hardware}. Images/s are forward and backward together, multiply-adds a second what they amount to
with a backward of twice the forward's: were multiply-adds seconds, that column would be one number. The minute is
`-cd recipes -cn every_arch`, one seed, on the test set; peak memory is that whole process's.

| arch | parameters | multiply-adds | images/s | multiply-adds a second | after a minute | steps | peak memory |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def archs(bench: Path) -> str:
    """A Markdown page with a row for each architecture measured, the fastest multiply-adds first."""
    costs, minutes = _rows(bench / "archs_cpu.jsonl"), _rows(bench / "archs_minute_cpu.jsonl")
    after = {row["arm"]: row for row in minutes}
    first = costs[0]
    head = ARCHS.format(
        overrides=" ".join(first["overrides"]),
        threads=first["host"]["threads"],
        hardware=first["host"].get("gpu") or first["host"]["cpu"],
    )
    costs.sort(key=lambda row: -row["macs_a_second"]["median"])
    return head + "".join(_arch(row, after.get(row["arm"])) for row in costs)


def _arch(cost: dict, minute: dict | None) -> str:
    rates = f"{cost['images_a_second']['median']:,.0f} | {cost['macs_a_second']['median'] / 1e9:.1f}G"
    made = " | | "
    if minute:
        memory = f"{minute['peak_memory_bytes'] / 2**20:,.0f} MiB"
        made = f"{100 * minute['test_acc']:.1f} % | {minute['steps']:,} | {memory}"
    return f"| `{cost['arm']}` | {cost['params']:,} | {cost['macs'] / 1e6:.1f}M | {rates} | {made} |\n"


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
