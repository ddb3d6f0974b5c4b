"""The pages that the tests of documentation read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {file: file.read_text() for file in (ROOT / "README.md", ROOT / "AGENTS.md", *sorted(ROOT.glob("docs/*.md")))}
README = PAGES[ROOT / "README.md"]
TEXT = "\n".join(PAGES.values())
