"""The command `minuteloop report`: its arguments, and what it prints and writes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from minuteloop.report.page.render import write_page
from minuteloop.report.report import VIEWS, read_report, sections_of
from minuteloop.report.section import Section
from minuteloop.validation import ConfigError


def run(arguments: list[str], program: str, description: str) -> str:
    """Return what `report` prints, Markdown or JSON, after writing the files asked for. Raises ConfigError."""
    options = _parse(arguments, program, description)
    report = read_report(options.runs, options.where, options.metric, options.baseline, options.sort, options.resolve)
    sections = sections_of(report, options.view)
    if not sections:
        raise ConfigError(f"{options.view}: these runs cannot answer it ({VIEWS[options.view][0]})")
    if options.figures:
        _write_figures(sections, options.figures)
    if options.html:
        write_page(report, sections, options.html)
        print(f"page: {options.html.resolve()}", file=sys.stderr)
    if options.json:
        return json.dumps({section.name: section.data for section in sections}, indent=2)
    question = [f"# {report.study['question']}"] if report.study.get("question") else []
    return "\n\n".join([*question, *(section.markdown() for section in sections)])


def _parse(arguments: list[str], program: str, description: str) -> argparse.Namespace:
    views = "\n".join(f"  {name:10}{answers}" for name, (answers, _) in VIEWS.items())
    parser = argparse.ArgumentParser(
        prog=program,
        description=f"{description}\n\nviews (default: all that the runs can answer):\n{views}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"{program} [VIEW] RUNS... [options]",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUNS", help="folders of runs or sweeps, files of records"
    )
    parser.add_argument(
        "--baseline", metavar="ARM", help="the arm to compare with (default: the study's, or the first)"
    )
    parser.add_argument(
        "--metric", help="accuracy to report (default: val/acc, or test/acc where all runs have only that)"
    )
    parser.add_argument(
        "--where", action="append", metavar="KEY=VALUE", help="only runs whose config has it; repeatable"
    )
    parser.add_argument("--sort", metavar="COLUMN", help="order the table by a column, largest first")
    parser.add_argument(
        "--resolve", type=float, default=0.2, metavar="POINTS", help="difference that matters (default: 0.2)"
    )
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write each figure there as SVG and PNG")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one HTML page that needs no network")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    view = arguments[0] if arguments and arguments[0] in VIEWS else None
    options = parser.parse_intermixed_args(arguments[1:] if view else arguments)
    options.view = view
    if options.resolve <= 0:
        raise ConfigError(f"--resolve {options.resolve:g}: must be > 0, in points of accuracy")
    return options


def _write_figures(sections: list[Section], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        if section.figure:
            figure = section.figure()
            for suffix in ("svg", "png"):
                figure.savefig(folder / f"{section.name}.{suffix}")
