"""A user's own ingredient, which changes nothing."""

from pathlib import Path

CLASS = """
from dataclasses import dataclass


@dataclass
class Same:
    stage = "pixels"

    def __call__(self, images, targets):
        return images, targets
"""


def write_ingredient(folder: Path, module: str) -> Path:
    """Make `ingredient=[same]` of `folder`, with its class in `module`; return the module's file.

    A module stays imported, so that tests of one process need different ones.
    """
    (folder / "ingredient").mkdir(parents=True)
    (folder / "ingredient/same.yaml").write_text(f"# @package recipe.batch.same\n_target_: {module}.Same\n")
    file = folder / f"{module}.py"
    file.write_text(CLASS)
    return file
