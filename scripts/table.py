"""Makes the README's table of results anew from the records in recipes/.

python scripts/table.py
"""

from pathlib import Path

from minuteloop.study.table import updated

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text(), ROOT / "recipes"))
