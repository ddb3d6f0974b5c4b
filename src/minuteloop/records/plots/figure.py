"""What all pictures share: size and resolution, colours, a title, a caption that says which run it is, the PNG file.

Figures use matplotlib without pyplot, so that no global state changes.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"  # safe for colour-blind readers (Wong 2011, Nature Methods 8)
TITLE, SUBTITLE, CAPTION = 10, 8, 6.5  # font sizes in points
MARGIN = 0.15  # inches, around everything
GLYPH, LEADING = 0.56, 1.45  # mean width of a character and height of a line, in font sizes
NO_BREAK = "\N{NO-BREAK SPACE}"
SEPARATOR = f"{NO_BREAK}· "  # a caption may break after it


class Canvas:
    """A figure of content `width` x `height` inches, with a title and `subtitle` above it and `caption` below it.

    Positions of axes and texts are in inches from the lower left corner of the content.
    """

    def __init__(
        self, width: float, height: float, title: str, subtitle: str = "", caption: Sequence[str] = ()
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        lines = [(line, TITLE, "black") for line in _wrap(title, width, TITLE)]
        lines += [(line, SUBTITLE, GREY) for line in _wrap(subtitle, width, SUBTITLE)]
        caption_lines = _wrap(SEPARATOR.join(part.replace(" ", NO_BREAK) for part in caption), width, CAPTION)
        below = sum(LEADING * CAPTION / 72 for _ in caption_lines) + (0.1 if caption_lines else 0)
        above = sum(LEADING * size / 72 for _, size, _ in lines) + 0.05
        self.left, self.bottom = MARGIN, MARGIN + below
        self.content = height
        self.width, self.height = width + 2 * MARGIN, self.bottom + height + above + MARGIN
        self.figure: Figure = Figure(figsize=(self.width, self.height), dpi=DPI)
        FigureCanvasAgg(self.figure)
        y = height + above
        for line, size, colour in lines:
            self.text(0, y, line, va="top", fontsize=size, color=colour)
            y -= LEADING * size / 72
        for index, line in enumerate(reversed(caption_lines)):
            self.text(0, LEADING * CAPTION / 72 * index - below, line, va="bottom", fontsize=CAPTION, color=GREY)

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Return new axes."""
        x, y = self.place(left, bottom)
        return self.figure.add_axes((x, y, width / self.width, height / self.height))

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write a text in which $ is a dollar."""
        self.figure.text(*self.place(x, y), text, parse_math=False, **style)

    def image(self, pixels: np.ndarray) -> None:
        """Show uint8 [H,W,3] in its own resolution, in the upper left corner of the content."""
        import numpy as np

        opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
        bottom = self.figure.bbox.height - pixels.shape[0] - round((self.height - self.bottom - self.content) * DPI)
        self.figure.figimage(np.concatenate([pixels, opaque], 2), round(self.left * DPI), round(bottom), origin="upper")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return a position as fractions of the figure."""
        return (x + self.left) / self.width, (y + self.bottom) / self.height


def _wrap(text: str, width: float, size: float) -> list[str]:
    """Return the lines of a text in a column of `width` inches."""
    return textwrap.wrap(text, int(72 * width / (GLYPH * size)), break_on_hyphens=False)


def run_caption(record: dict, folder: Path, date: datetime) -> list[str]:
    """Return the parts of a caption: which run a picture is of, how it was trained, on what, and when."""
    config, plan, code, host = (record[part] for part in ("config", "plan", "code", "host"))
    files = " ".join(f"{key}={config[key]['name']}" for key in ("arch", "size", "recipe", "data"))
    steps = list(config["arch"]["applied"])
    if steps:
        files += f" with {', '.join(steps)}" if len(steps) <= 4 else f" with {len(steps)} modernization steps"
    done = record["steps"]
    length = f"{done:,} of {plan['steps']:,}" if done != plan["steps"] else f"{done:,}"
    commit = f"commit {code['commit'][:8]}{' with changes' if code['dirty'] else ''}" if code["commit"] else "no commit"
    chip = host.get("gpu") or f"{host['cpu']}, {config['threads']} thread{'s' if config['threads'] > 1 else ''}"
    return [
        f"{config['name']} ({folder.resolve().name})",
        f"seed {record['seed']}",
        files,
        f"budget={config['budget']}: {length} steps, {plan['epochs'] * done / plan['steps']:.2f} epochs",
        f"config {record['config_hash']}",
        f"minuteloop {code['version']}, {commit}",
        f"{chip}, {config['precision']}",
        f"{date:%Y-%m-%d %H:%M}",
    ]


def plain(name: str) -> str:
    """Return a class name as it is read."""
    return name.replace("_", " ")


def encode_png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # in a run's name
        figure.savefig(file, format="png", dpi=DPI, pil_kwargs={"compress_level": 3})
    return file.getvalue()
