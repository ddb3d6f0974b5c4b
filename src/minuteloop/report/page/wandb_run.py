"""A report as one W&B run: its tables, figures and page, in the group of the runs that it is about."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minuteloop.records.wandb_logger import init_run
from minuteloop.report.plots.style import write_figure
from minuteloop.report.section import Section
from minuteloop.validation import ConfigError

if TYPE_CHECKING:
    from minuteloop.report.report import Report

FOLDER = Path("runs")  # of W&B's own files, as for runs


def log_to_wandb(report: Report, sections: list[Section], page: Path | None) -> str:
    """Log a report's sections, and its page if there is one, as a run of job type `report`; return where it is.

    Online when a key is present, else offline; WANDB_MODE decides when it is set.

    Raises:
        ConfigError: W&B does not start.
    """
    import wandb

    FOLDER.mkdir(exist_ok=True)
    try:
        run = init_run(_arguments(report), [])
    except Exception as error:
        raise ConfigError(f"--wandb: W&B did not start: {str(error).strip().splitlines()[0]}") from error
    tables = {f"report/{s.name}": wandb.Table(s.table.columns, s.table.rows) for s in sections if s.table}
    with tempfile.TemporaryDirectory() as folder:
        figures = {f"figures/{s.name}": _image(s, Path(folder)) for s in sections if s.figure}
        pages = {"page": wandb.Html(page.read_text(), inject=False)} if page else {}
        run.log(tables | figures | pages)
        for section in sections:
            for effect in section.data.get("effects", []):
                run.summary[f"{section.name}/{effect['arm']} ({effect['budget']})"] = effect["difference"]
        url, here = None if run.offline else run.url, Path(run.dir).parent
        run.finish()
    return url or f"wandb sync {here}"


def _arguments(report: Report) -> dict[str, Any]:
    """Return the arguments of wandb.init: project and group are those of the report's runs, where they share one."""
    loggers = [run.record["config"].get("logger", {}) for arm in report.arms for run in arm.runs]
    projects, groups = ({logger.get(key) for logger in loggers} - {None} for key in ("project", "group"))
    name = report.study.get("name") or "report"
    return {
        "dir": FOLDER.resolve(),
        "entity": os.environ.get("WANDB_ENTITY"),
        "project": projects.pop() if len(projects) == 1 else os.environ.get("WANDB_PROJECT") or "minuteloop",
        "group": groups.pop() if len(groups) == 1 else report.study.get("name"),
        "job_type": "report",
        "name": f"report-{name}" if report.study else name,
        "tags": [name[:64]],
        "config": {"study": report.study, "metric": report.metric},
    }


def _image(section: Section, folder: Path) -> Any:
    import wandb

    write_figure(section.figure(), folder, section.name)
    return wandb.Image(str(folder / f"{section.name}.png"))
