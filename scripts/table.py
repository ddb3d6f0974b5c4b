"""Makes the README's table of results and the pages in recipes/ anew from what was measured.

python scripts/table.py
"""

from pathlib import Path

import docs_pages as pages
from results_table import updated

from minuteloop.config.compose import CONF

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    readme, recipes = ROOT / "README.md", ROOT / "recipes"
    readme.write_text(updated(readme.read_text(), recipes))
    (recipes / "archs.md").write_text(pages.archs(recipes / "bench"))
    (recipes / "recipes.md").write_text(pages.recipes(recipes / "bench"))
    (recipes / "forms.md").write_text(pages.forms(recipes / "bench"))
    (recipes / "ingredients.md").write_text(pages.ingredients(CONF, recipes / "bench"))
