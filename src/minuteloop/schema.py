"""Every config key but those of arch_schema.py: its type, default, allowed values, unit and meaning.

OmegaConf checks names and plain types while Hydra composes. A field that OmegaConf cannot type (one value or a list
with one for each stage, a number or `auto`) is `Any` here, and its metadata holds the rule that `validation.check`
applies. `--help` and docs/config.md print the same metadata.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from minuteloop.arch_schema import Arch, Size
from minuteloop.validation import choice, custom, integer, number, pattern, setting

# --- recipe: how to train ---------------------------------------------------------------------------------------


def _is_strength(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


@dataclass
class Recipe:
    """Optimizer numbers and named ingredients; an ingredient is `_target_` (a dataclass) and its fields."""

    name: str = setting("plain", "name of the recipe")
    batch_size: int = integer(128, 1, 1_000_000, "training batch", "images")
    repeats: int = integer(1, 1, 1000, "repeated augmentation: copies of each image in a batch (Hoffer 2020)")
    lr: Any = number(
        "auto",
        *(0.0, 1e6, "peak learning rate, of Muon's matrices: its other rates follow; auto: the optimizer's rule"),
        allow=("auto",),
    )
    weight_decay: Any = number(
        "auto",
        *(0.0, 1e6, "not of norms, biases and matrices that Muon renormalises; auto: recipe.optimizer.weight_decay"),
        allow=("auto",),
    )
    clip_grad: Any = number(None, 1e-9, 1e9, "largest gradient norm; null: no clipping", allow=(None,))
    paper_epochs: float = number(300.0, 1e-3, 1e6, "length of run that the recipe is for", "epochs")
    strength: Any = custom(
        "auto",
        lambda value: all(map(_is_strength, value.values() if isinstance(value, dict) else [value])),
        "must be auto or a number in [0, 1], or one for some ingredients as {mixup: 0.5}",
        "factor on one field of each regularizer that you do not name; auto: by ingredient, 1 from paper_epochs on",
        allow=("auto",),
    )
    named: list[str] = setting([], "record, not a switch: ingredients that you named, which are at full strength")
    notes: list[str] = setting([], "record, not a switch: ingredients left out because they cannot act on the net")
    optimizer: dict[str, Any] = setting({}, "optimizer ingredient")
    schedule: dict[str, Any] = setting({}, "learning-rate schedule")
    loss: dict[str, Any] = setting({}, "loss over soft targets")
    batch: dict[str, Any] = setting({}, "batch transforms by name")
    regularizers: dict[str, Any] = setting({}, "ingredients that act inside the net, by name")
    callbacks: dict[str, Any] = setting({}, "Lightning callbacks by name")
    tta: Any = setting(None, "test-time augmentation, reported separately; null: none")
    progressive: Any = setting(None, "image sizes that grow during the run; null: none")


# --- everything else --------------------------------------------------------------------------------------------


TRAIN_IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "sample": 2_000}


@dataclass
class Data:
    """The images, where they are, and the size of the validation split."""

    name: str = choice("cifar10", "cifar100", "sample", help="dataset; sample: 3,000 embedded images of CIFAR-10")
    root: str = setting("auto", "folder to look in and download to; auto: $MINUTELOOP_DATA or ~/.cache/minuteloop")
    holdout: int = integer(5000, 0, 49_000, "validation split; 0: train on all, as published rows do", "images")


@dataclass
class Logger:
    """Where results go besides the run's own files."""

    name: str = choice(
        "wandb", "tensorboard", "none", help="W&B (online with a key, else offline), TensorBoard or none"
    )
    project: str | None = pattern(
        *(None, r"[^/\\#?%:]{1,128}", "must be null or at most 128 characters other than / \\ # ? % :"),
        "W&B project; null: $WANDB_PROJECT, else minuteloop",
        allow=(None,),
    )
    group: str | None = pattern(
        *(None, r".{1,128}", "must be null or at most 128 characters"),
        "W&B group; null: $WANDB_RUN_GROUP, else the name of the sweep's folder",
        allow=(None,),
    )
    tags: list[str] = custom(
        *([], lambda tags: all(0 < len(tag) <= 64 for tag in tags), "must be a list of tags of 1 to 64 characters"),
        "W&B tags, besides arch, recipe and data; []: $WANDB_TAGS",
    )
    job_type: str | None = pattern(
        *(None, r".{1,64}", "must be null or at most 64 characters"),
        "W&B job type; null: $WANDB_JOB_TYPE, else `study` in a study",
        allow=(None,),
    )
    pictures: bool = setting(True, "draw PNGs at the end of a run (1 s of a CPU core)")


SECONDS = {"s": 1, "min": 60, "h": 3600}
BUDGET = r"(?=.*[1-9])(\d+(\.\d+)?(s|min|h|ep)|\d+steps)"
MAX_SEED = 2**31 - 1


@dataclass
class Config:
    """Everything that a run asks for."""

    name: str = pattern(
        "${arch.name}-${recipe.name}",
        r"(?=.*\S)[^\x00-\x1f\x7f]+",
        "must be text on one line, not blank",
        "name of the run: its folder is runs/NAME/TIME-ID",
    )
    arch: Arch = field(default_factory=Arch)
    size: Size = field(default_factory=Size)
    recipe: Recipe = field(default_factory=Recipe)
    data: Data = field(default_factory=Data)
    logger: Logger = field(default_factory=Logger)
    budget: str = pattern(
        "60s",
        BUDGET,
        "must be a length > 0 with its unit (use 60s, 10min, 1h, 200ep or 5000steps)",
        "training time or length, with its unit: s, min, h, ep or steps",
    )
    seed: int = integer(0, 0, MAX_SEED, "seed of the weights, the order and every random draw")
    device: str = choice("auto", "cpu", "cuda", help="training device; auto: cuda where there is one")
    devices: int = integer(1, 1, 64, "devices of this host that train the run together, each in a process (DDP)")
    precision: str = choice("auto", "bf16", "fp32", help="bf16: autocast over fp32 weights; auto: where it is fast")
    compile: Any = choice("auto", True, False, help="torch.compile the net; auto: on CUDA from 5 minutes on")
    channels_last: Any = choice("auto", True, False, help="memory format of the feature maps; auto: true")
    threads: Any = integer("auto", 1, 1024, "CPU threads; auto: as many as the machine has idle", allow=("auto",))
    resume: Any = custom(
        False,
        lambda value: isinstance(value, bool | str) and value != "",
        "must be true, false or the folder of a run",
        "resume an unfinished run of the same config: true (the newest), or its folder",
    )
    rerun: bool = setting(False, "in a sweep, train cells again although they have finished, and measure rates again")
    evaluations: int = integer(4, 1, 1000, "evaluations on the validation split during training")
    test: Any = choice(
        "auto",
        *(True, False),
        help="read the test set, once, when the run has finished; auto: in a sweep only with data.holdout=0",
    )
    trainer: dict[str, Any] = setting({}, "more arguments of Lightning's Trainer: +trainer.profiler=simple")


GENERATED = ("modernization", "ingredient")  # lists of names that arms of a study are generated from


def _is_seed(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEED


def _are_seeds(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_seed, value)) and len(set(value)) == len(value)
    return _is_seed(value) and value > 0


def _are_budgets(value: list) -> bool:
    return len(set(value)) == len(value) and all(re.fullmatch(BUDGET, str(budget)) for budget in value)


def _is_one_list(value: object) -> bool:
    """Whether `value` is a mapping of one key to a list of different scalars, at least one."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    (entries,) = value.values()
    is_flat = isinstance(entries, list) and not any(isinstance(entry, list | dict) for entry in entries)
    return is_flat and 0 < len(entries) == len(set(map(str, entries)))


def _is_one_list_of_names(value: object) -> bool:
    return _is_one_list(value) and value.keys() <= set(GENERATED)


def _names(help: str) -> Any:
    rule = "must be one list of different names, such as {modernization: [patchify, gelu]}, or of ingredient"
    return custom(None, _is_one_list_of_names, rule, help, allow=(None,))


@dataclass
class StudyConfig:
    """A question over arms, seeds and budgets. Its arms are named, or generated from one list."""

    question: str = setting("", "question that the study answers, one sentence")
    baseline: str | None = setting(None, "arm that the others are compared with; null: the first")
    arms: Any = custom(
        *(
            None,
            lambda value: isinstance(value, dict) and value != {},
            "must be arms by name, each a list of overrides",
        ),
        "arms by name, each a list of overrides: {small: [size=nano, recipe.lr=0.1]}",
        allow=(None,),
    )
    each: Any = custom(
        *(None, _is_one_list, "must be a key and the list of its values, such as {arch: [resnet18, convnext]}"),
        "an arm for each value of a key: {arch: [resnet18, convnext]}",
        allow=(None,),
    )
    only: list[str] = setting([], "arms to run of those that the study has, beside the baseline; []: all")
    cumulative: Any = _names(
        "arms none, +a, +b, ...: of {modernization: [a, b]} or {ingredient: [a, b]} the first names"
    )
    add_one: Any = _names("arms none, +a, +b, ...: each name alone")
    drop_one: Any = _names("arms all, -a, -b, ...: each name left out")
    seeds: Any = custom(
        *(5, _are_seeds, "must be a number of seeds >= 1, or a list of different seeds >= 0"),
        "number of seeds, from 0 on, or a list of them; each arm trains with every one",
    )
    budgets: list[str] = custom(
        *([], _are_budgets, "must be different lengths > 0 with their units, such as [15s, 60s]"),
        "budgets; each arm trains with every one; []: the key budget",
    )


# what a search may optimize -> whether a trial is better with more of it
METRICS = {
    "val/acc": True,
    "val/loss": False,
    "images_per_second": True,
    "step_seconds": False,
    "params": False,
    "macs": False,
    "peak_memory_bytes": False,
}


def _are_metrics(value: list) -> bool:
    return set(value) <= METRICS.keys() and len(set(value)) == len(value)


def _are_powers(value: object) -> bool:
    is_mapping = isinstance(value, dict) and value != {} and value.keys() <= METRICS.keys()
    return is_mapping and all(isinstance(power, int | float) for power in value.values())


@dataclass
class TuneConfig:
    """A search: points of a space of configs, each trained once."""

    space: dict[str, Any] = setting({}, "values to search by key, in Hydra's words: {recipe.lr: 'interval(0.01, 1)'}")
    trials: int = integer(30, 1, 1_000_000, "trials in all; the same command continues a search up to this number")
    sampler: str = choice(
        *("tpe", "random", "grid", "gp", "nsga2", "evolution"),
        help="how Optuna chooses the next point; evolution: regularized evolution (Real 2019)",
    )
    pruner: str = choice(
        *("auto", "none", "median", "halving"),
        help="which trials stop early, by val/acc on the way; auto: median where val/acc is the only objective",
    )
    objectives: list[str] = custom(
        *([], _are_metrics, f"must be a list of {', '.join(METRICS)}"),
        "what to optimize; []: val/acc, or the reward",
    )
    reward: Any = custom(
        *(None, _are_powers, f"must be powers by name, {{val/acc: 1, params: -0.05}}, of {', '.join(METRICS)}"),
        "objective that is a product of powers: {val/acc: 1, step_seconds: -0.07, params: -0.05} (Tan 2021)",
        allow=(None,),
    )
    workers: int = integer(1, 1, 1024, "trials side by side in this process; the same command elsewhere adds more")
    seed: int = integer(0, 0, MAX_SEED, "seed of the sampler")
    folder: str = setting("auto", "folder of the search; auto: runs/tune-..., the same for the same command")
    storage: str = setting("auto", "Optuna's database, an SQLAlchemy URL; auto: SQLite in the folder")


@dataclass
class Command(Config):
    """What a command composes: the config of a run, and what a study or a search varies of it."""

    study: StudyConfig = field(default_factory=StudyConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)


def parse_budget(budget: str) -> tuple[float, str]:
    """Return a valid budget as (amount, unit): '10min' -> (600.0, 's'), '200ep' -> (200.0, 'ep')."""
    digits = budget.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = budget[len(digits) :]
    return (float(digits) * SECONDS[unit], "s") if unit in SECONDS else (float(digits), unit)


def reads_test_set(config: Config, is_cell: bool) -> bool:
    """Return what `test` means; with auto a cell of a sweep reads the test set only without a validation split."""
    return not (is_cell and config.data.holdout) if config.test == "auto" else config.test
