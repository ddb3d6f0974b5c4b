"""What the studies of recipes/ found, from the records beside them: tables for docs/answers.md, and figures."""

from __future__ import annotations

from pathlib import Path

from pages.markdown_table import markdown_table

from minuteloop.report.plots.style import svg
from minuteloop.report.report import Report, facts, read_report, sections_of
from minuteloop.report.section import Section

RECORDS = "records.jsonl"


def answered(recipes: Path) -> list[Path]:
    """Return the folders of the studies that have records."""
    return sorted(file.parent for file in recipes.glob(f"*/{RECORDS}"))


def answer(folder: Path) -> str:
    """Return a study's question, what was run, its figure, and the table and sentences of the view that answers it."""
    report, section = _read(folder)
    columns, rows = section.table.columns, section.table.rows
    return "\n\n".join(
        [
            f"**{report.study['question']}** `python train.py -cn {folder.name}`: {'; '.join(facts(report))}.",
            f"![{section.title} of {folder.name}](../recipes/{folder.name}/{section.name}.svg)",
            markdown_table(columns, rows),
            "\n".join(f"- {line}" for line in section.sentences),
        ]
    )


def figures(folder: Path) -> dict[Path, str]:
    """Return the study's figure as {file: SVG}."""
    _, section = _read(folder)
    return {folder / f"{section.name}.svg": svg(section.figure())}


def _read(folder: Path) -> tuple[Report, Section]:
    report = read_report([folder])
    budgets, kind = report.study["budgets"], report.study["kind"]
    view = "transfer" if len(budgets) > 1 else "compare" if kind == "arms" else "ladder"
    (section,) = sections_of(report, view)
    return report, section
