"""W&B: curves, summary, pictures and model of a run. It can fail or hang without costing the run."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from minuteloop.records.background_calls import BackgroundCalls, first_line
from minuteloop.records.record import WEIGHTS, Record
from minuteloop.records.wandb_charts import wandb_charts
from minuteloop.records.wandb_service import end_service
from minuteloop.schema import Config

INIT_TIMEOUT, FINISH_TIMEOUT = 10, 30  # seconds
STEP = "trainer/global_step"  # the x-axis of every chart; Lightning logs it

log = logging.getLogger("minuteloop")


class BackgroundWandbLogger(WandbLogger):
    """WandbLogger whose calls run in the background; the run waits for them only at its start and end."""

    def __init__(self, run, service, calls: BackgroundCalls) -> None:
        super().__init__(experiment=run)
        self.run, self.service, self.calls = run, service, calls
        self.calls.submit(lambda: run.define_metric(STEP))
        self.calls.submit(lambda: run.define_metric("*", step_metric=STEP, step_sync=True))

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log as WandbLogger does, without waiting."""
        metrics = dict(metrics)
        self.calls.submit(lambda: super(BackgroundWandbLogger, self).log_metrics(metrics, step))

    def resume(self, rows: list[dict[str, float]]) -> None:
        """Log the `rows` of metrics.csv so far, unless W&B's server has them: a resumed offline run starts empty."""
        if not self.run.resumed:
            for row in rows:
                self.log_metrics({key: value for key, value in row.items() if key != "step"}, int(row["step"]))

    def finish(self, record: Record) -> None:
        """Log the record's figures, pictures and model, and end the W&B run.

        Takes at most FINISH_TIMEOUT + 10 seconds.
        """
        content, folder = record.content, Path(self.run.dir).parent.resolve()
        url = None if self.run.offline else self.run.url
        summary = content["metrics"] | {"status": content["status"]}
        for part in ("seconds", "cost", "plan", "pace"):
            summary |= {f"{part}/{key}": value for key, value in content[part].items()}
        self.calls.submit(lambda: self.run.summary.update(summary))
        self.calls.submit(lambda: self._log_pictures(record.folder, content["steps"]))
        self.calls.submit(lambda: self._log_model_artifact(record))
        exit_code = 0 if content["error"] is None else 1
        ended = self.calls.wait(lambda: self._end_run(exit_code), FINISH_TIMEOUT + 5, always=True)
        self.calls.close()
        if not ended:
            end_service(self.service)
        log.info("W&B: %s", url if ended and url else f"wandb sync {folder}")

    def _log_pictures(self, folder: Path, step: int) -> None:
        import wandb

        pictures = {f"pictures/{file.stem}": wandb.Image(str(file)) for file in sorted(folder.glob("pictures/*.png"))}
        if pictures:
            self.run.log(pictures | wandb_charts(folder) | {STEP: step})

    def _log_model_artifact(self, record: Record) -> None:
        """Log the model artifact, named after the run."""
        import wandb

        if not (record.folder / WEIGHTS).exists():
            return
        metadata = {part: record.content[part] for part in ("metrics", "cost", "seed")}
        model = wandb.Artifact(re.sub(r"[^\w.-]", "-", record.config.name), type="model", metadata=metadata)
        for name in (WEIGHTS, "config.yaml"):
            model.add_file(str((record.folder / name).resolve()), name, policy="immutable")  # no copy is made
        model.add_file(str(record.folder / "result.json"), "result.json")  # a copy: it is written once more
        self.run.log_artifact(model)

    def _end_run(self, exit_code: int) -> bool:
        self.run.finish(exit_code=exit_code)
        return True


def start_wandb(config: Config, record: Record) -> BackgroundWandbLogger | None:
    """Start W&B online when a key is present, else offline; return None, after a warning, when it cannot start.

    An earlier attempt's W&B run is continued. Takes at most 2 * INIT_TIMEOUT + 5 seconds. WANDB_MODE, when set,
    decides; with `disabled` there is no logger.
    """
    if os.environ.get("WANDB_MODE") == "disabled":
        return None
    calls, service = BackgroundCalls("W&B"), []
    arguments = _init_arguments(config, record)
    run = calls.wait(lambda: init_run(arguments, service), 2 * INIT_TIMEOUT)
    if run is None:
        calls.close()
        if service:
            end_service(*service)
        return None
    record.content["wandb_id"] = run.id
    record.save()
    return BackgroundWandbLogger(run, *service, calls)


def _init_arguments(config: Config, record: Record) -> dict[str, Any]:
    """Return the arguments of wandb.init: what is typed, else W&B's environment variables, else defaults."""
    logger, variable = config.logger, os.environ.get
    default_name = f"{config.name}-{record.folder.name}"[:128]
    has_typed_name = config.name != f"{config.arch.name}-{config.recipe.name}"
    tags = logger.tags or [tag for tag in variable("WANDB_TAGS", "").split(",") if tag]
    return {
        "id": variable("WANDB_RUN_ID") or record.content["wandb_id"],
        "resume": variable("WANDB_RESUME") or "allow",
        "dir": variable("WANDB_DIR") or record.folder.resolve(),
        "entity": variable("WANDB_ENTITY"),
        "project": logger.project or variable("WANDB_PROJECT") or "minuteloop",
        "group": logger.group or variable("WANDB_RUN_GROUP"),
        "job_type": logger.job_type or variable("WANDB_JOB_TYPE"),
        "name": default_name if has_typed_name else variable("WANDB_NAME") or default_name,
        "notes": variable("WANDB_NOTES"),
        "tags": [*tags, *(name[:64] for name in (config.arch.name, config.recipe.name, config.data.name))],
        "config": dataclasses.asdict(config),
    }


def init_run(arguments: dict[str, Any], service: list):
    """Return a started wandb.Run; append the process that serves it to `service` as soon as it exists.

    Raises:
        ValueError: naming the setting that W&B rejects, of an argument or an environment variable.
    """
    import pydantic
    import wandb

    try:
        service.append(wandb.setup().ensure_service())
        wanted = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
        if wanted != "offline":
            try:
                return _init_in_mode(wanted, arguments)
            except Exception as error:
                log.warning("W&B did not start %s: %s", wanted, first_line(error))
        return _init_in_mode("offline", arguments)
    except pydantic.ValidationError as error:
        detail = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}") from error


def _init_in_mode(mode: str, arguments: dict[str, Any]):
    import wandb

    settings = wandb.Settings(
        init_timeout=INIT_TIMEOUT,
        finish_timeout=FINISH_TIMEOUT,
        finish_timeout_raises=True,
        silent=True,
        console="off",
    )
    # never a run that the user has open, nor one that could not be ended
    return wandb.init(mode=mode, **arguments, reinit="create_new", settings=settings)


def _has_key() -> bool:
    import wandb

    return bool(wandb.setup().settings.api_key) or wandb.login(prompt=False)
