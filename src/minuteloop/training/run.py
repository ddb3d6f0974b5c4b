"""Config in, record out: data, net, plan, module, trainer. What is heavy is imported after the config is valid."""

from __future__ import annotations

import contextlib
import copy
import logging
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from minuteloop import hardware as host
from minuteloop.recipe.ingredients import Ingredients
from minuteloop.records.record import Record, naming
from minuteloop.schema import Config, parse_budget
from minuteloop.training import resume
from minuteloop.training.plan import Plan, make_plan
from minuteloop.training.signals import Interrupt
from minuteloop.validation import ConfigError

# Beside the budget: a rough look, then a measurement of (share of the budget, at least, at most) seconds. Twice as long
# brings little: what a minute's rate differs by from that of any 2.4 s in it is the machine's drift (CPU, rms 4.4 %; of
# 4.8 s 3.5 %; on a restless day 13 and 12 %).
CALIBRATION = ((0.005, 0.0, 0.5), (0.04, 1.0, 10.0))
WHITENING_IMAGES = 5000  # Jordan 2024, sec. 3.2


def run(overrides: list[str] | tuple[str, ...] = (), config_name: str = "config", config_dir: str = "") -> dict:
    """Trains what `overrides` ask for, as the command line does, and gives the record and, as `folder`, where it lies.

    Raises ConfigError, with nothing written, when the config is wrong.
    """
    config, folder = compose_run(overrides, config_name, config_dir)
    return train(config, folder) | {"folder": str(folder.resolve())}


def train(asked: Config, folder: Path, started: float | None = None) -> dict:
    """Trains a checked config, leaves its record in `folder` and gives it.

    `started` is the time.perf_counter() at which the user's wait began. What goes wrong is recorded, then raised; a
    signal that ends the run before its evaluation raises interrupt.Stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with resume.locked(folder), Interrupt() as interrupt:
        record = Record(asked, folder, started or time.perf_counter(), resume.earlier(asked, folder))
        say = _teller(folder / "log.txt")
        try:
            if asked.resume:
                say(record.resume_line())
            _train(record, interrupt, say)
        except SystemExit as stop:
            record.fail(stop)
            say(record.stop_line())
            raise
        except Exception as error:
            with contextlib.suppress(OSError):  # a full disk; the record there says that the run did not end
                record.fail(error)
            raise
    say(record.table())
    return record.content


def _train(record: Record, interrupt: Interrupt, say: Callable[[str], None]) -> None:
    host.prepare()
    if record.asked.logger.name == "wandb":
        host.prepare_wandb()
    host.import_lightning()
    import pytorch_lightning as pl

    from minuteloop.data.cifar import load
    from minuteloop.data.datamodule import CIFARDataModule
    from minuteloop.nets.flops import count
    from minuteloop.nets.net import build_net
    from minuteloop.nets.spec import resolve
    from minuteloop.training.classifier import Classifier

    quiet_lightning()
    config = record.config = host.resolve_auto(typed(record.frozen) if record.frozen else record.asked)
    images = load(config.data.name, config.data.root)
    data = CIFARDataModule(images, config.recipe.batch_size, config.data.holdout, config.seed, config.recipe.repeats)
    pl.seed_everything(config.seed, verbose=False)
    blueprint = resolve(config.arch, config.size, images.train_images.shape[-1], len(images.classes))
    net = build_net(blueprint)
    net.init_from(data.first_training_images(WHITENING_IMAGES))
    ingredients = instantiate.ingredients(config.recipe)
    _check_sides(net, ingredients, images.train_images.shape[-1])
    if config.compile:
        host.keep_compiled()
        net.compile(dynamic=False if ingredients.progressive else None)  # one kernel a size of images, not one for all

    def classifier(plan: Plan, only_phase: float | None = None) -> Classifier:
        fitted = ingredients.at_strength(plan.strength)
        how = {"seed": config.seed, "channels_last": config.channels_last, "only_phase": only_phase}
        return Classifier(net, fitted, plan, images, **how)

    def planned(steps_per_second: float) -> Plan:
        rule = ingredients.optimizer.auto_lr
        return make_plan(config.budget, config.recipe, rule, len(data.train_indices), steps_per_second)

    record.lap("setup")
    amount, unit = parse_budget(config.budget)
    starts = ingredients.starts
    plan, measuring = record.plan or planned(steps_per_second=10.0), unit == "s" and not record.plan
    if measuring or config.compile:
        say(f"{config.name}: measuring the rate of a step")
        compiling = config.compile
        for share, least, most in CALIBRATION:  # the first, rough rate tells with which strength to measure
            seconds = min(max(share * amount, least), most) / len(starts) if measuring else 0.0
            rates = [measure_rate(config, classifier(plan, start), data, seconds) for start in starts]
            if measuring:
                lengths = (end - start for start, end in pairwise((*starts, 1.0)))
                slowness = (length / rate.steps_per_second for length, rate in zip(lengths, rates, strict=True))
                plan = planned(1 / sum(slowness))
            record.lap("calibrate", compile=sum(rate.first_seconds for rate in rates) if compiling else 0.0)
            compiling = False
    record.freeze(plan, count(blueprint, blueprint.image_size))
    for warning in blueprint.warnings:
        say(f"warning: {warning}")
    say(record.start_line())
    _fit(record, classifier(plan), data, interrupt, say)


def _fit(record: Record, module, data, interrupt: Interrupt, say: Callable[[str], None]) -> None:
    from safetensors.torch import save

    from minuteloop.records import plots as pictures
    from minuteloop.records import wandb_logger as loggers
    from minuteloop.training.checkpoint import Checkpoint, RecordIO
    from minuteloop.training.timing import Clock, Progress

    config, plan = record.config, module.plan
    wandb = loggers.start_wandb(config, record.folder, say) if config.logger.name == "wandb" else None
    record.lap("log")
    clock, resumed = Clock(plan.seconds_asked, record.stopwatch), record.checkpoint.exists()
    try:
        trainer = make_trainer(
            config,
            max_steps=plan.steps,
            plugins=[RecordIO(record)],
            callbacks=[clock, Checkpoint(record, clock, interrupt, say), Progress(plan.steps, clock, say)],
            logger=[loggers.MetricsFile(record.folder / "metrics.csv", resumed), *([wandb] if wandb else [])],
            val_check_interval=plan.steps // config.evaluations + 1,  # the last comes after training
            limit_val_batches=1.0 if config.data.holdout else 0,
        )
        trainer.fit(module, data, ckpt_path=record.checkpoint if resumed else None)
        record.lap("setup")
        steps = trainer.global_step
        record.write("model.safetensors", save({k: v.contiguous() for k, v in module.net.state_dict().items()}))
        if config.data.holdout:
            record.evaluated(trainer.validate(module, data, verbose=False)[0])
        record.evaluated(trainer.test(module, data, verbose=False)[0])
        record.lap("eval")
        interrupted = interrupt.signum and steps < plan.steps
        status = "overrun" if clock.overrun else "interrupted" if interrupted else "finished"
        record.finish(status, steps)
        if config.logger.pictures:
            pictures.draw(record, module, data.dataset, say)
        if clock.is_late:
            asked = f"{plan.seconds_asked:g} s asked"
            say(f"warning: training took {clock.seconds:.1f} s of {asked}; was the machine busy?")
    except BaseException as error:
        with contextlib.suppress(OSError):
            record.fail(error)  # before W&B is told
        raise
    finally:
        if wandb:
            wandb.finish(record)
    record.lap("log")
    record.save()
    if record.is_finished:
        record.checkpoint.unlink(missing_ok=True)


def _check_sides(net, ingredients: Ingredients, side: int) -> None:
    """Raises ConfigError where a progressive recipe asks for images that the net does not run on."""
    from minuteloop.nets.flops import count

    for start in ingredients.starts:
        shown, _ = ingredients.at_phase(start, side)
        try:
            if shown != side:
                count(net, shown)
        except (RuntimeError, AssertionError) as error:
            first = str(error).splitlines()[0]
            raise ConfigError(
                f"recipe.progressive: the net does not run on {shown}x{shown} images ({first}); recipe.progressive=null"
            ) from error


def quiet_lightning() -> None:
    """Leaves out what Lightning says of every trainer; what a run does is said by the run."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*(LeafSpec|number of training batches|resuming from a checkpoint).*")


def make_trainer(config: Config, **more):
    """A Lightning trainer without what a minute has no time for."""
    import pytorch_lightning as pl

    from minuteloop.training.timing import NoProfiler

    return pl.Trainer(
        accelerator={"cuda": "gpu", "cpu": "cpu"}[config.device],
        devices=1,
        precision={"bf16": "bf16-mixed", "fp32": "32-true"}[config.precision],
        gradient_clip_val=config.recipe.clip_grad,
        max_epochs=-1,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        profiler=NoProfiler(),
        **more,
    )


def measure_rate(config: Config, module, data, seconds: float):
    """The steady clock.Rate over `seconds` of training in a trainer as the run's; the net's state is put back."""
    from minuteloop.training.timing import Rate

    before = copy.deepcopy(module.net.state_dict())
    rate = Rate(seconds)
    make_trainer(config, callbacks=[rate], logger=False, limit_val_batches=0).fit(module, data)
    module.net.load_state_dict(before)
    module.net.zero_grad()
    return rate


def _teller(log: Path) -> Callable[[str], None]:
    """Says a line in the run's log and on the terminal, whose closing costs no run."""

    def say(line: str) -> None:
        with naming(log), log.open("a") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        with contextlib.suppress(BrokenPipeError):
            print(line, flush=True)

    return say
