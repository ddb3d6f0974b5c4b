"""Where curves go: always metrics.csv in the run's folder, and W&B beside it."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path

from pytorch_lightning.loggers import Logger, WandbLogger

from minuteloop.records.background_calls import Worker, first_line
from minuteloop.records.record import Record, naming
from minuteloop.schema import Config

INIT_TIMEOUT, FINISH_TIMEOUT = 10, 30  # seconds
COLUMNS = ("step", "train/loss", "lr", "val/acc", "val/loss", "test/acc", "test/loss")


class MetricsFile(Logger):
    """Appends a row to metrics.csv at each log, so that a killed run keeps its curves.

    `resumed`: the file is that of an earlier attempt.
    """

    def __init__(self, path: Path, resumed: bool = False) -> None:
        super().__init__()
        self.path = path
        if not resumed:
            with naming(path), path.open("w", newline="") as file:
                csv.writer(file).writerow(COLUMNS)

    name = version = property(lambda self: None)

    def log_hyperparams(self, *_: object, **__: object) -> None:
        """config.yaml holds them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """One row; a metric that is not one of COLUMNS goes only to other loggers."""
        row = {"step": step} | {key: f"{value:.6g}" for key, value in metrics.items() if key in COLUMNS}
        with naming(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)


class Wandb(WandbLogger):
    """A W&B run that cannot cost a training run: its calls are made by a Worker, and waited for only at both ends."""

    def __init__(self, run, service, worker: Worker) -> None:
        super().__init__(experiment=run)
        self.run, self.service, self.worker, self.say = run, service, worker, worker.say

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """As WandbLogger, but does not wait."""
        metrics = dict(metrics)
        self.worker.post(lambda: super(Wandb, self).log_metrics(metrics, step))

    def finish(self, record: Record) -> None:
        """Gives W&B the record's figures, pictures and model, and ends the run, so that the next is one of its own.

        Takes at most FINISH_TIMEOUT + 10 seconds.
        """
        content, folder = record.content, Path(self.run.dir).parent.resolve()
        url = None if self.run.offline else self.run.url
        figures = content["metrics"] | {"status": content["status"]}
        for part in ("seconds", "cost", "plan"):
            figures |= {f"{part}/{key}": value for key, value in content[part].items()}
        self.worker.post(lambda: self.run.summary.update(figures))
        self.worker.post(lambda: self._give_pictures(record.folder))
        self.worker.post(lambda: self._give_model(record))
        code = 0 if content["error"] is None else 1
        ended = self.worker.wait(lambda: self._end_run(code), FINISH_TIMEOUT + 5, always=True)
        self.worker.close()
        if not ended:
            _end_service(self.service, self.say)
        self.say(f"W&B: {url}" if ended and url else f"W&B: wandb sync {folder}")

    def _give_pictures(self, folder: Path) -> None:
        import wandb

        pictures = {f"pictures/{file.stem}": wandb.Image(str(file)) for file in sorted(folder.glob("pictures/*.png"))}
        if pictures:
            self.run.log(pictures)

    def _give_model(self, record: Record) -> None:
        """The model artifact, named after the run."""
        import wandb

        if not (record.folder / "model.safetensors").exists():
            return
        metadata = {part: record.content[part] for part in ("metrics", "cost", "seed")}
        model = wandb.Artifact(re.sub(r"[^\w.-]", "-", record.config.name), type="model", metadata=metadata)
        for name in ("model.safetensors", "config.yaml"):
            model.add_file(str((record.folder / name).resolve()), name, policy="immutable")  # no copy is made
        model.add_file(str(record.folder / "result.json"), "result.json")  # a copy: the last seconds are still to come
        self.run.log_artifact(model)

    def _end_run(self, exit_code: int) -> bool:
        self.run.finish(exit_code=exit_code)
        return True


def start_wandb(config: Config, folder: Path, say: Callable[[str], None]) -> Wandb | None:
    """W&B online when a key is present, else offline at once; None, with a warning, when it cannot start.

    Takes at most 2 * INIT_TIMEOUT + 5 seconds. WANDB_MODE, when set, decides; with `disabled` there is none.
    """
    if os.environ.get("WANDB_MODE") == "disabled":
        return None
    worker, service = Worker("W&B", say), []
    run = worker.wait(lambda: _init(config, folder, service, say), 2 * INIT_TIMEOUT)
    if run is None:
        worker.close()
        if service:
            _end_service(*service, say)
        return None
    return Wandb(run, *service, worker)


def _init(config: Config, folder: Path, service: list, say: Callable[[str], None]):
    """A started wandb.Run; the process that serves it is put into `service` as soon as it is there."""
    import wandb

    session = wandb.setup()
    service.append(session.ensure_service())
    wanted = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    attempts = list(dict.fromkeys([wanted, "offline"]))
    for mode in attempts:
        try:
            return wandb.init(
                mode=mode,
                dir=folder.resolve(),
                project=config.logger.project,
                group=config.logger.group,
                name=f"{config.name}-{folder.name}",
                tags=[*config.logger.tags, config.arch.name, config.recipe.name, config.data.name],
                config=dataclasses.asdict(config),
                reinit="create_new",  # never the run of a user's own that is open, nor one that could not be ended
                settings=wandb.Settings(
                    init_timeout=INIT_TIMEOUT,
                    finish_timeout=FINISH_TIMEOUT,
                    finish_timeout_raises=True,
                    silent=True,
                    console="off",
                ),
            )
        except Exception as error:
            if mode == attempts[-1]:
                raise
            say(f"warning: W&B did not start {mode}: {first_line(error)}")


def _has_key() -> bool:
    import wandb

    return bool(wandb.setup().settings.api_key) or wandb.login(prompt=False)


def _end_service(service, say: Callable[[str], None]) -> None:
    """Ends W&B's own process after a failure, so that neither this one's exit nor the next run waits for it."""
    import wandb

    def teardown() -> None:
        with contextlib.suppress(Exception, SystemExit):
            wandb.teardown()

    process = service._proc  # None where another process has started it
    if process is not None:
        process._process.kill()
    worker = Worker("W&B", say)
    worker.wait(teardown, 5)
    worker.close()
