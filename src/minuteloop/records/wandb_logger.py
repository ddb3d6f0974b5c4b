"""W&B: curves, summary, pictures and model of a run. It can fail or hang without costing the run."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from pathlib import Path

from pytorch_lightning.loggers import WandbLogger

from minuteloop.records.background_calls import BackgroundCalls, first_line
from minuteloop.records.record import WEIGHTS, Record
from minuteloop.records.wandb_service import end_service
from minuteloop.schema import Config

INIT_TIMEOUT, FINISH_TIMEOUT = 10, 30  # seconds

log = logging.getLogger("minuteloop")


class BackgroundWandbLogger(WandbLogger):
    """WandbLogger whose calls run in the background; the run waits for them only at its start and end."""

    def __init__(self, run, service, calls: BackgroundCalls) -> None:
        super().__init__(experiment=run)
        self.run, self.service, self.calls = run, service, calls

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log as WandbLogger does, without waiting."""
        metrics = dict(metrics)
        self.calls.submit(lambda: super(BackgroundWandbLogger, self).log_metrics(metrics, step))

    def finish(self, record: Record) -> None:
        """Log the record's figures, pictures and model, and end the W&B run.

        Takes at most FINISH_TIMEOUT + 10 seconds.
        """
        content, folder = record.content, Path(self.run.dir).parent.resolve()
        url = None if self.run.offline else self.run.url
        summary = content["metrics"] | {"status": content["status"]}
        for part in ("seconds", "cost", "plan"):
            summary |= {f"{part}/{key}": value for key, value in content[part].items()}
        self.calls.submit(lambda: self.run.summary.update(summary))
        self.calls.submit(lambda: self._log_pictures(record.folder))
        self.calls.submit(lambda: self._log_model_artifact(record))
        exit_code = 0 if content["error"] is None else 1
        ended = self.calls.wait(lambda: self._end_run(exit_code), FINISH_TIMEOUT + 5, always=True)
        self.calls.close()
        if not ended:
            end_service(self.service)
        log.info("W&B: %s", url if ended and url else f"wandb sync {folder}")

    def _log_pictures(self, folder: Path) -> None:
        import wandb

        pictures = {f"pictures/{file.stem}": wandb.Image(str(file)) for file in sorted(folder.glob("pictures/*.png"))}
        if pictures:
            self.run.log(pictures)

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


def start_wandb(config: Config, folder: Path) -> BackgroundWandbLogger | None:
    """Start W&B online when a key is present, else offline; return None, after a warning, when it cannot start.

    Takes at most 2 * INIT_TIMEOUT + 5 seconds. WANDB_MODE, when set, decides; with `disabled` there is no logger.
    """
    if os.environ.get("WANDB_MODE") == "disabled":
        return None
    calls, service = BackgroundCalls("W&B"), []
    run = calls.wait(lambda: _init(config, folder, service), 2 * INIT_TIMEOUT)
    if run is None:
        calls.close()
        if service:
            end_service(*service)
        return None
    return BackgroundWandbLogger(run, *service, calls)


def _init(config: Config, folder: Path, service: list):
    """Return a started wandb.Run; append the process that serves it to `service` as soon as it exists."""
    import wandb

    session = wandb.setup()
    service.append(session.ensure_service())
    wanted = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    modes = list(dict.fromkeys([wanted, "offline"]))
    for mode in modes:
        try:
            return wandb.init(
                mode=mode,
                dir=folder.resolve(),
                project=config.logger.project,
                group=config.logger.group,
                name=f"{config.name}-{folder.name}",
                tags=[*config.logger.tags, config.arch.name, config.recipe.name, config.data.name],
                config=dataclasses.asdict(config),
                reinit="create_new",  # never a run that the user has open, nor one that could not be ended
                settings=wandb.Settings(
                    init_timeout=INIT_TIMEOUT,
                    finish_timeout=FINISH_TIMEOUT,
                    finish_timeout_raises=True,
                    silent=True,
                    console="off",
                ),
            )
        except Exception as error:
            if mode == modes[-1]:
                raise
            log.warning("W&B did not start %s: %s", mode, first_line(error))


def _has_key() -> bool:
    import wandb

    return bool(wandb.setup().settings.api_key) or wandb.login(prompt=False)
