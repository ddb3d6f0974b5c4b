"""A section of a report: what a view found, as Markdown, as data and as a figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Table:
    """Rows of texts under a header; `values` are the numbers behind the texts, to sort by, None for words.

    `hover` holds a line for each row: how its config differs from the first arm's.
    """

    columns: list[str]
    rows: list[list[str]]
    values: list[list[float | None]] = field(default_factory=list)
    hover: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table in Markdown."""
        escaped = [[text.replace("|", "\\|") for text in row] for row in self.rows]
        return tabulate(escaped, self.columns, tablefmt="github", disable_numparse=True)


@dataclass
class Section:
    """What one view found: a title, sentences, a table, the same as `data` for programs, and a figure to draw.

    `figure` draws it with matplotlib when it is wanted, since that takes a second; `name` names its files.
    """

    name: str
    title: str
    sentences: list[str]
    data: dict[str, Any]
    table: Table | None = None
    figure: Callable[[], Figure] | None = None

    def markdown(self) -> str:
        """Return the section as Markdown: title, table, sentences."""
        blocks = [f"## {self.title}"]
        if self.table:
            blocks.append(self.table.markdown())
        if self.sentences:
            blocks.append("\n".join(f"- {line}" for line in self.sentences))
        return "\n\n".join(blocks)
