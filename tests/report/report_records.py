"""Records of finished runs, made by hand, in folders as a sweep leaves them."""

import json
from pathlib import Path

ROADMAP = [
    "stage_ratio",
    "patchify",
    "depthwise",
    "width",
    "inverted_bottleneck",
    "spatial_first",
    "large_kernel",
    "gelu",
    "fewer_activations",
    "fewer_norms",
    "layernorm",
    "separate_downsampling",
]


def record(overrides, seed=0, accuracy=0.5, budget="60s", macs=12e6, images_per_second=500.0, steps=1000, **changed):
    """Return a record of batches of 128 images, with `changed` keys."""
    content = {
        "schema": 1,
        "status": "finished",
        "error": None,
        "seed": seed,
        "date": f"2026-11-{28 + seed % 2}T11:31:07+00:00",
        "overrides": [*overrides, f"seed={seed}", f"budget={budget}"],
        "config": {
            "name": "resnet-plain",
            "arch": {"name": "resnet", "applied": {}, "own": " ".join(overrides)},
            "data": {"name": "cifar10", "root": "auto", "holdout": 5000},
            "budget": budget,
            "seed": seed,
            "device": "cpu",
            "precision": "fp32",
            "threads": 2,
        },
        "asked": {},
        "code": {"version": "0.1.0", "commit": "0123456789abcdef", "dirty": False},
        "host": {"cpu": "AMD EPYC (family 26, model 2)"},
        "versions": {"torch": "2.14.1", "timm": "1.0.31"},
        "plan": {"steps": steps, "batch_size": 128, "epochs": 2.5, "strength": {}, "lr": 0.002, "seconds_asked": 60.0},
        "steps": steps,
        "metrics": {"val/acc": accuracy},
        "seconds": {"train": 60.0},
        "cost": {"params": 570_000, "macs": macs, "images_per_second": images_per_second, "peak_memory_bytes": 2**30},
        "pace": {"steps_per_second": steps / 60},
    }
    for key, value in changed.items():
        content[key] = content.get(key, {}) | value if isinstance(value, dict) else value
    return content


def write_run(folder: Path, content: dict, curves: str | None = None) -> None:
    """Write a run's folder: its record, and `curves` as its metrics.csv."""
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(content))
    if curves is not None:
        (folder / "metrics.csv").write_text(curves)


def write_study(folder: Path, arms: dict[str, dict], kind="cumulative", key="modernization", **changed) -> dict:
    """Write study.json and a run for each accuracy, in percent, of each arm.

    `arms` maps names to {"overrides", "accuracies"} and more arguments of `record`.
    """
    study = {
        "name": folder.name,
        "question": "What does each step give?",
        "baseline": next(iter(arms)),
        "arms": {name: arm["overrides"] for name, arm in arms.items()},
        "kind": kind,
        "key": key,
        "seeds": [0, 1, 2],
        "budgets": ["60s"],
        **changed,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(study))
    for name, arm in arms.items():
        more = {key: value for key, value in arm.items() if key not in ("overrides", "accuracies")}
        for seed, percent in enumerate(arm["accuracies"]):
            content = record(arm["overrides"], seed, percent / 100, **more)
            write_run(folder / f"{name}-{more.get('budget', '60s')}-{seed}", content)
    return study
