"""A run: config in, record out. Heavy imports come after the config is valid."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from minuteloop import hardware
from minuteloop.config.compose import compose_with_hydra, typed
from minuteloop.data.cifar import resolve_root
from minuteloop.records.record import Record
from minuteloop.records.run_log import logging_to
from minuteloop.records.summary import budget_warning, end_table, resume_line, start_lines, stop_line
from minuteloop.records.wandb_service import service_started_early
from minuteloop.schema import Config, parse_budget, reads_test_set
from minuteloop.training import resume
from minuteloop.training.arm_rate import ArmRate, arm_rates
from minuteloop.training.plan import Plan
from minuteloop.training.process_state import restored_process_state, restored_torch_state
from minuteloop.training.signals import Interrupt
from minuteloop.training.stopwatch import Stopwatch
from minuteloop.validation import ConfigError

if TYPE_CHECKING:
    from minuteloop.training.build import Parts

log = logging.getLogger("minuteloop")


def run(overrides: list[str] | tuple[str, ...] = (), config_name: str = "config", config_dir: str = "") -> dict:
    """Train what `overrides` describe, as the command line does; return the record and, as `folder`, where it is.

    Raises:
        ConfigError: with nothing written, if the config is not valid.
    """
    with restored_process_state():
        config, folder = compose_run(overrides, config_name, config_dir)
        with restored_torch_state():
            return train(config, folder, overrides=overrides) | {"folder": str(folder.resolve())}


def compose_run(
    overrides: list[str] | tuple[str, ...], config_name: str = "config", config_dir: str = ""
) -> tuple[Config, Path]:
    """Return the checked config, and the folder for its record. Raises ConfigError."""
    config, settings = compose_with_hydra(overrides, config_name, config_dir)
    if settings.mode and settings.mode.name == "MULTIRUN":
        raise ConfigError(f"config_name={config_name}: is a sweep, not one run; use python train.py -cn {config_name}")
    return config, resume.folder_for(config, Path(settings.run.dir))


def train(
    asked: Config,
    folder: Path,
    started: float | None = None,
    sweep: Path | None = None,
    cell: str = "",
    overrides: Iterable[str] = (),
) -> dict:
    """Train a checked config, write its record to `folder` and return it.

    `started` is the time.perf_counter() at which the user's wait began. Of a cell, `sweep` is the folder of its sweep
    and `cell` its name there. The record keeps `overrides`, those that were typed. An error is recorded, then raised; a
    signal that ends the run before its evaluation raises signals.Stopped.
    """
    resume.make_folder(folder)
    stopwatch = Stopwatch(started)
    with resume.locked(folder), Interrupt() as interrupt, logging_to(folder / "log.txt", cell):
        record = Record(asked, folder, stopwatch.seconds, resume.earlier_attempt(asked, folder), overrides)
        record.label = cell or asked.name
        try:
            if asked.resume:
                log.info(resume_line(record))
            if asked.rerun and sweep is None:
                log.warning("rerun=true changes nothing: a single run always trains; it is for sweeps (-m)")
            with service_started_early(asked.logger.name == "wandb"):
                _train(record, stopwatch, interrupt, sweep)
        except SystemExit as stop:
            record.fail(stop)
            log.info(stop_line(record))
            raise
        except Exception as error:
            with contextlib.suppress(OSError):  # a full disk; the record on it has status "failed"
                record.fail(error)
            raise
        log.info(end_table(record))
    return record.content


def _train(record: Record, stopwatch: Stopwatch, interrupt: Interrupt, sweep: Path | None) -> None:
    hardware.keep_freed_memory()
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # torchmetrics imports it, and it logs its fonts
    from minuteloop.training.trainer import check_trainer_arguments, quiet_lightning

    quiet_lightning()
    check_trainer_arguments(record.asked.trainer)
    asked = typed(record.frozen_config) if record.frozen_config else record.asked
    config = _with_data_root(hardware.resolve_auto(asked))
    record.config = config = replace(config, test=reads_test_set(record.asked, is_cell=sweep is not None))
    with contextlib.ExitStack() as helpers:
        parts, plan = _build_and_plan(record, stopwatch, sweep, helpers)
        _describe(record, parts, plan)
        _fit(record, parts, plan, stopwatch, interrupt)


def _describe(record: Record, parts: Parts, plan: Plan) -> None:
    """Freeze the plan in the record; log what will be trained."""
    from minuteloop.nets.flops import count

    cost = count(parts.spec, parts.spec.image_size)
    record.freeze(asdict(plan), {"params": cost.params, "macs": cost.macs})
    for warning in parts.spec.warnings:
        log.warning(warning)
    for line in start_lines(record):
        log.info(line)


def _build_and_plan(
    record: Record, stopwatch: Stopwatch, sweep: Path | None, helpers: contextlib.ExitStack
) -> tuple[Parts, Plan]:
    """Return the parts of a run and its plan; in a sweep one cell of an arm measures the rate of all.

    The other processes of the run start here; they end with `helpers`. Where the arm's rate was measured with other
    threads than threads=auto gives now, its threads are used.
    """
    from minuteloop.training import processes
    from minuteloop.training.build import build
    from minuteloop.training.calibrate import calibrate, compile_only

    is_timed = parse_budget(record.asked.budget)[1] == "s"
    rates = arm_rates(record, sweep) if sweep and is_timed and not record.plan else None
    with rates.locked() if rates else contextlib.nullcontext() as rate:
        if rate and record.asked.threads == "auto":
            record.config = hardware.with_threads(record.config, rate.threads)
        parts = build(record.config)
        known = Plan(**record.plan) if record.plan else parts.plan(rate.steps / rate.seconds) if rate else None
        helpers.enter_context(processes.helpers(record.config, known, record.checkpoint))
        stopwatch.lap("setup")
        if record.plan:
            return parts, compile_only(parts, known, stopwatch)
        if rate:
            log.info(f"{record.config.name}: {rate.steps:,} steps, by the rate that was measured for this arm")
            plan = compile_only(parts, known, stopwatch)
        else:
            busy = hardware.busy(record.asked.threads) if rates else None
            plan = calibrate(parts, stopwatch)
            if rates:
                measured = ArmRate(plan.steps, plan.seconds_asked, record.config.threads, busy)
                rate = rates.save(measured)
                if rate != measured:
                    plan = parts.plan(rate.steps / rate.seconds)
    if rate:
        record.content["rate"] = asdict(rate)
        if rate.busy:
            log.warning(f"the rate of this arm was measured on a busy machine: {rate.busy}")
    return parts, plan


def _with_data_root(config: Config) -> Config:
    """Return the config with the folder that the data is in, so that the record names it."""
    if config.data.name == "sample":
        return config
    return replace(config, data=replace(config.data, root=str(resolve_root(config.data.root).resolve())))


def _fit(record: Record, parts, plan: Plan, stopwatch: Stopwatch, interrupt: Interrupt) -> None:
    """Train, evaluate, draw and log; the record is finished before pictures and W&B, which cannot cost the run."""
    from minuteloop.records import loggers
    from minuteloop.training.pictures import draw_pictures
    from minuteloop.training.timing import Clock

    config, clock = record.config, Clock(plan.seconds_asked, stopwatch)
    module, resumed = parts.classifier(plan), record.checkpoint.exists()
    run_loggers = loggers.start_loggers(config, record, clock.now, resumed)
    stopwatch.lap("log")
    try:
        _fit_and_evaluate(record, parts, module, clock, interrupt, run_loggers)
        if config.logger.pictures:
            draw_pictures(record, module, parts)
        if warning := budget_warning(record.content):
            log.warning(warning)
    except BaseException as error:
        with contextlib.suppress(OSError):
            record.fail(error)  # before the loggers read it
        raise
    finally:
        loggers.finish_loggers(run_loggers, record)
    stopwatch.lap("log")
    record.save()
    if record.is_finished:
        record.checkpoint.unlink(missing_ok=True)


def _fit_and_evaluate(record: Record, parts, module, clock, interrupt: Interrupt, run_loggers: list) -> None:
    from safetensors.torch import save

    from minuteloop.training.checkpoint import AtomicCheckpointIO, Checkpoint
    from minuteloop.training.processes import StopTogether, from_first
    from minuteloop.training.progress import Progress
    from minuteloop.training.trainer import fit_trainer

    config, plan, data = record.config, module.plan, parts.data
    trainer = fit_trainer(
        config,
        plan,
        plugins=[AtomicCheckpointIO(record)],
        callbacks=[
            clock,
            Checkpoint(record, clock, interrupt),
            Progress(record.label, plan.steps, plan.batch_size, clock),
            *([StopTogether()] if config.devices > 1 else []),
        ],
        logger=run_loggers,
    )
    trainer.fit(module, data, ckpt_path=record.checkpoint if record.checkpoint.exists() else None)
    clock.stopwatch.lap("setup")
    steps = trainer.global_step
    weights = {name: tensor.contiguous() for name, tensor in module.net.state_dict().items()}
    record.write_weights(save(weights))
    if config.data.holdout:
        from_first("validate")
        record.add_metrics(trainer.validate(module, data, verbose=False)[0])
    interrupted = interrupt.signum and steps < plan.steps and not clock.overrun
    if config.test and not interrupted:
        from_first("test")
        record.add_metrics(trainer.test(module, data, verbose=False)[0])
    from_first(None)
    clock.stopwatch.lap("eval")
    status = "overrun" if clock.overrun else "interrupted" if interrupted else "finished"
    record.finish(status, steps, hardware.peak_memory(config.device), clock.other_cores)
