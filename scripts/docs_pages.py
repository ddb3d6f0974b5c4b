"""Generate the README's table, its figure docs/ladder.svg, the reference pages of docs/, and the answers of studies.

python scripts/docs_pages.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # before an installed minuteloop

from pages.answers import answer, answered, figures
from pages.ladder_figure import ladder_svg
from pages.markdown_table import replace_between
from pages.measured import results_page
from pages.net_costs import ladder
from pages.reference import architectures_page, config_page, ingredients_page, recipes_page, steps_page, tokens_table
from pages.results_table import results_table

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"


def _with_table(page: str, name: str, table: Callable[[], str]) -> Callable[[], str]:
    return lambda: replace_between((ROOT / page).read_text(), name, table())


def _answers_page() -> str:
    text = (ROOT / "docs/answers.md").read_text()
    for folder in answered(RECIPES):
        text = replace_between(text, folder.name, answer(folder))
    return text


PAGES: dict[str, Callable[[], str]] = {  # file -> its text
    "README.md": _with_table("README.md", "results", lambda: results_table(RECIPES)),
    "docs/ladder.svg": lambda: ladder_svg(ladder()),
    "docs/config.md": config_page,
    "docs/architectures.md": architectures_page,
    "docs/steps.md": steps_page,
    "docs/recipes.md": recipes_page,
    "docs/ingredients.md": lambda: ingredients_page(RECIPES / "bench"),
    "docs/grammar.md": _with_table("docs/grammar.md", "tokens", tokens_table),
    "docs/results.md": lambda: results_page(RECIPES / "bench"),
    "docs/answers.md": _answers_page,
}

if __name__ == "__main__":
    for name, text in PAGES.items():
        (ROOT / name).write_text(text())
        print(name)
    for folder in answered(RECIPES):
        for file, text in figures(folder).items():
            file.write_text(text)
            print(file.relative_to(ROOT))
