"""A user's own files outside the clone, as README and docs/ show them, and the errors that they can hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import minuteloop
from minuteloop.config.instantiate import ingredients
from minuteloop.validation import ConfigError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

FILES = {
    "mine/modernization/kernel5.yaml": """\
# @package arch
block: { kernel: 5 }
applied: { kernel5: "my idea" }
""",
    "mine/arch/resnet26.yaml": """\
defaults: [resnet, _self_]
name: resnet26
stages: { depths: [2, 2, 2, 2] }
""",
    "mine/ingredient/blank.yaml": """\
# @package recipe.batch.blank
_target_: my_blank.Blank
side: 8
""",
    "mine/recipe/adam_blank.yaml": """\
defaults:
  - plain
  - /ingredient: [adamw, blank]
  - _self_
name: adam_blank
paper_epochs: 100 # the length that the numbers are for
optimizer: { weight_decay: 0.02 }
""",
    "mine/my_blank.py": '''\
from dataclasses import dataclass


@dataclass
class Blank:
    """Blanks a square of each image (DeVries 2017)."""

    side: int = 8  # pixels
    stage = "normalized"

    def __call__(self, images, targets):
        """images [N,3,H,W], targets [N,K] -> the same shapes."""
        import torch

        place = torch.arange(images.shape[2], device=images.device)
        start = torch.randint(len(place) - self.side + 1, (2, len(images), 1), device=images.device)
        rows, columns = (place >= start) & (place < start + self.side)  # [N,H], [N,W]
        return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0), targets
''',
}
OVERRIDES = ["arch=resnet26", "modernization=[kernel5]", "recipe=adam_blank"]
QUICK = [
    "data=sample",
    "logger=none",
    "logger.pictures=false",
    "size.reduce=32",
    "size.width=0.25",
    "evaluations=1",
    "budget=2steps",
]


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, text in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    yield tmp_path / "mine"
    for name in [name for name, module in sys.modules.items() if _is_in(module, tmp_path)]:
        del sys.modules[name]


def _is_in(module, folder):
    return str(getattr(module, "__file__", None)).startswith(str(folder))


@pytest.mark.parametrize("name", FILES)
def test_documentation_shows_this_file(name):
    pages = [page for page in PAGES if f"`{name}`" in page.read_text()]
    assert len(pages) == 1 and FILES[name] in pages[0].read_text()


def test_own_files_train_from_the_command_line_and_from_python(user_folder):
    command = [sys.executable, str(ROOT / "train.py"), "-cd", "mine", *OVERRIDES, *QUICK]
    done = subprocess.run([*command, "hydra.run.dir=shell"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    from_python = minuteloop.run([*OVERRIDES, *QUICK, "hydra.run.dir=python"], config_dir="mine")
    for record in (from_python, json.loads(Path("shell/result.json").read_text())):
        config = record["config"]
        assert record["status"] == "finished" and config["name"] == "resnet26-adam_blank"
        assert config["arch"]["applied"] == {"kernel5": "my idea"} and config["arch"]["block"]["kernel"] == 5
        assert config["recipe"]["batch"].keys() == {"crop", "flip", "blank"}
        assert config["recipe"]["optimizer"]["_target_"].endswith("AdamW") and config["recipe"]["weight_decay"] == 0.02
        assert record["code"]["hash"] == from_python["code"]["hash"]


def test_blank_erases_one_square_of_each_image(user_folder):
    import torch

    recipe = minuteloop.compose(["recipe=adam_blank", "recipe.batch.blank.side=5"], config_dir="mine").recipe
    blank = list(ingredients(recipe).transforms.values())[-1]
    images, _ = blank(torch.ones(40, 3, 32, 32), None)
    erased = (images == 0).all(1)
    assert (erased.flatten(1).sum(1) == 25).all()
    assert (erased.any(1).sum(1) == 5).all() and (erased.any(2).sum(1) == 5).all()
    assert len(torch.unique(erased, dim=0)) > 30, "each image draws its own position"


def test_file_with_the_name_of_one_in_conf_is_rejected(user_folder):
    (user_folder / "arch/resnet.yaml").write_text("name: resnet\n")
    with pytest.raises(ConfigError, match=r"mine/arch/resnet\.yaml: conf/ has a file of this name, .* rename yours"):
        minuteloop.compose(["arch=resnet26"], config_dir="mine")


BLANK = FILES["mine/my_blank.py"]
INGREDIENT = "# @package recipe.batch.x\n_target_: {}.Blank\n"
ERRORS = {
    "yaml": ({"recipe/x.yaml": "name: x\n  lr: [1\n"}, ["recipe/x.yaml", "line 2"]),
    "key": (
        {"arch/x.yaml": "defaults: [resnet, _self_]\nblock: {kernl: 5}\n"},
        ["arch/x.yaml: arch.block.kernl", "Did you mean arch.block.kernel?"],
    ),
    "type": (
        {"arch/x.yaml": "defaults: [resnet, _self_]\nblock: {bias: often}\n"},
        ["arch/x.yaml: arch.block.bias=often: must be true or false"],
    ),
    "parent": (
        {"arch/x.yaml": "defaults: [resnett, _self_]\n"},
        ["arch/x.yaml: arch=resnett: no such file", "Did you mean resnet?"],
    ),
    "defaults": ({"arch/x.yaml": "defaults: resnet\n"}, ["arch/x", "must be a list"]),
    "list": ({"recipe/x.yaml": "- a\n- b\n"}, ["recipe/x.yaml", "list"]),
    "step's package": ({"modernization/x.yaml": "block: {kernel: 5}\n"}, ["modernization/x.yaml", "# @package arch"]),
    "step's key": (
        {"modernization/x.yaml": "# @package arch\nblock: {kernal: 5}\n"},
        ["modernization/x.yaml", "kernal"],
    ),
    "package": ({"ingredient/x.yaml": "_target_: my_blank.Blank\n"}, ["ingredient/x.yaml", "# @package recipe.SLOT"]),
    "field": (
        {"ingredient/x.yaml": INGREDIENT.format("my_blank") + "sid: 3\n"},
        ["recipe.batch.x.sid", "Did you mean side?"],
    ),
    "value": (
        {"ingredient/x.yaml": INGREDIENT.format("my_blank") + "side: a\n"},
        ["recipe.batch.x.side=a: must be an integer"],
    ),
    "module": ({"ingredient/x.yaml": INGREDIENT.format("nowhere")}, ["No module named 'nowhere'"]),
    "class": ({"ingredient/x.yaml": INGREDIENT.format("e0"), "e0.py": "x = 3\n"}, ["e0.Blank", "no attribute"]),
    "syntax": (
        {"ingredient/x.yaml": INGREDIENT.format("e1"), "e1.py": "class Blank\n"},
        ["SyntaxError", "e1.py, line 1"],
    ),
    "name": ({"ingredient/x.yaml": INGREDIENT.format("e2"), "e2.py": "\nx = y\n"}, ["NameError", "e2.py, line 2"]),
    "import": ({"ingredient/x.yaml": INGREDIENT.format("e3"), "e3.py": "import nohow\n"}, ["nohow", "e3.py, line 1"]),
    "plain class": (
        {"ingredient/x.yaml": INGREDIENT.format("e4"), "e4.py": "class Blank: 3\n"},
        ["_target_=e4.Blank: must be a dataclass"],
    ),
    "stage": (
        {"ingredient/x.yaml": INGREDIENT.format("e5"), "e5.py": BLANK.replace("stage", "age")},
        ["Blank.stage", "pixels"],
    ),
    "annotation": (
        {"ingredient/x.yaml": INGREDIENT.format("e6"), "e6.py": BLANK.replace(": int", ": set")},
        ["recipe.batch.x.side", "annotation"],
    ),
    "own check": (
        {
            "ingredient/x.yaml": INGREDIENT.format("e7"),
            "e7.py": BLANK + "    def __post_init__(self):\n        raise KeyError('odd')\n",
        },
        ["recipe.batch.x", "odd", "e7.py, line"],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error_in_a_users_file_is_one_line_that_names_it(user_folder, name):
    files, parts = ERRORS[name]
    for file, text in files.items():
        (user_folder / file).write_text(text)
    group = next(iter(files)).partition("/")[0]
    override = f"{group}=[x]" if group in ("ingredient", "modernization") else f"{group}=x"
    with pytest.raises(ConfigError) as error:
        minuteloop.compose(["arch=resnet", "recipe=plain", override], config_dir="mine")
    assert "\n" not in str(error.value)
    assert all(part in str(error.value) for part in parts), error.value


def test_missing_folder_is_rejected(user_folder):
    with pytest.raises(ConfigError, match="config_dir=nowhere: no such folder"):
        minuteloop.compose([], config_dir="nowhere")
