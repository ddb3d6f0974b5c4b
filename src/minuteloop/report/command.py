"""The command `minuteloop report`: its arguments, and what it prints and writes."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from minuteloop.report.arms import accuracy_metric, groups_of
from minuteloop.report.compare import confirmed
from minuteloop.report.page.render import write_page
from minuteloop.report.plan import plan
from minuteloop.report.plots.style import write_figure
from minuteloop.report.report import VIEWS, Report, facts, read_report, sections_of
from minuteloop.report.runs import copy_without_folder, load_runs
from minuteloop.report.section import Section
from minuteloop.study.design import FILE as STUDY
from minuteloop.validation import ConfigError

USAGE = "{program} [VIEW] RUNS... [options]"

log = logging.getLogger("minuteloop")


def run(arguments: list[str], program: str, description: str) -> str:
    """Return what `report` prints, Markdown or JSON, after writing the files asked for. Raises ConfigError."""
    options = _parse(arguments, program, description)
    if options.view == "plan":
        name, *folders = map(str, options.runs)
        runs = load_runs([Path(folder) for folder in folders])[0] if folders else []
        groups = groups_of(runs, accuracy_metric(runs, options.metric)) if runs else []
        section = plan(name, options.config_dir, groups, options.resolve)
        return json.dumps(section.data, indent=2) if options.json else section.markdown()
    report = read_report(
        options.runs,
        options.where,
        options.metric,
        options.by,
        baseline=options.baseline,
        sort=options.sort,
        resolve=options.resolve,
        pairs=options.pairs,
    )
    sections = sections_of(report, options.view)
    if options.confirm:
        sections.append(confirmed(report, options.config_dir))
    if not sections:
        raise ConfigError(f"{options.view}: these runs cannot answer it ({VIEWS[options.view][0]})")
    if options.figures:
        _write_figures(sections, options.figures)
    if options.records:
        write_records(report, options.records)
    if options.html:
        write_page(report, sections, options.html)
        print(f"page: {options.html.resolve()}", file=sys.stderr)
    if options.wandb:
        from minuteloop.report.page.wandb_run import log_to_wandb  # imports torch

        print(f"W&B: {log_to_wandb(report, sections, options.html)}", file=sys.stderr)
    if options.json:
        return json.dumps({section.name: section.data for section in sections}, indent=2)
    return "\n\n".join([*heading(report), *(section.markdown() for section in sections)])


def heading(report: Report) -> list[str]:
    """Return the paragraphs above a report's sections: the question, what was run."""
    question = [f"# {report.study['question']}"] if report.study.get("question") else []
    return [*question, "; ".join(facts(report))]


def summarize(sweep: Path) -> str:
    """Return the report of a sweep as Markdown, also in its report.md; draw the figures to its figures/.

    A figure that cannot be drawn is a warning: the sweep has been run.
    """
    try:
        report = read_report([sweep])
    except ConfigError as error:  # no run has finished, or the runs have no accuracy in common
        return str(error)
    sections = sections_of(report)
    return summarize_sections(sections, sweep, *heading(report))


def summarize_sections(sections: list[Section], folder: Path, *heading: str) -> str:
    """Return sections under a heading as Markdown, also in report.md of `folder`; draw the figures to its figures/."""
    text = "\n\n".join([*heading, *(section.markdown() for section in sections)])
    (folder / "report.md").write_text(text + "\n")
    try:
        _write_figures(sections, folder / "figures")
    except Exception as error:
        log.warning(f"a figure was not drawn: {type(error).__name__}: {error}")
    return text


def _parse(arguments: list[str], program: str, description: str) -> argparse.Namespace:
    answers = {name: answer for name, (answer, _) in VIEWS.items()}
    answers["plan"] = f"what a study costs and can resolve: {program} plan NAME [RUNS like it...]"
    views = "\n".join(f"  {name:10}{answer}" for name, answer in answers.items())
    parser = argparse.ArgumentParser(
        prog=program,
        description=f"{description}\n\nviews (default: all that the runs can answer):\n{views}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=USAGE.format(program=program),
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUNS", help="folders of runs or sweeps, files of records")
    add("--baseline", metavar="ARM", help="the arm to compare with (default: the study's, or the first)")
    add("--pairs", action="store_true", help="compare all pairs of arms, not each with the baseline")
    add("--confirm", action="store_true", help="train a study's best arm and its baseline again, with fresh seeds")
    add("--resolve", type=float, default=0.2, metavar="POINTS", help="difference that matters (default: 0.2)")
    add("--metric", help="accuracy to report (default: val/acc, or test/acc where runs have only that)")
    add("--where", action="append", metavar="KEY=VALUE", help="only runs whose config has it; repeatable")
    add("--by", action="append", metavar="KEY", help="an arm is all runs of equal KEY, such as arch.name; repeatable")
    add("--sort", metavar="COLUMN", help="order the table by a column, largest first")
    add("--figures", type=Path, metavar="FOLDER", help="write each figure there as SVG and PNG")
    add("--html", type=Path, metavar="FILE", help="write one HTML page, which needs no network and no other file")
    add("--records", type=Path, metavar="FILE", help="write the runs' records to one small file (.jsonl) to share")
    add("--wandb", action="store_true", help="log tables, figures and the page (with --html) as one W&B run")
    add("--json", action="store_true", help="print JSON for programs")
    add("-cd", "--config-dir", default="", help="of plan and --confirm: a folder with your own studies")
    view = arguments[0] if arguments and arguments[0] in (*VIEWS, "plan") else None
    options = parser.parse_intermixed_args(arguments[1:] if view else arguments)
    options.view = view
    if options.records and options.records.suffix != ".jsonl":
        raise ConfigError(f"--records {options.records}: must end in .jsonl")
    if not options.resolve > 0:
        raise ConfigError(f"--resolve {options.resolve:g}: must be > 0, in points of accuracy")
    return options


def write_records(report: Report, file: Path) -> None:
    """Write the records of a report's runs to a file, one a line, and their study beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(copy_without_folder(run)) for arm in report.arms for run in arm.runs]
    file.write_text("".join(f"{line}\n" for line in lines))
    if report.study:
        (file.parent / STUDY).write_text(json.dumps(report.study, indent=2) + "\n")


def _write_figures(sections: list[Section], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        if section.figure:
            write_figure(section.figure(), folder, section.name)
