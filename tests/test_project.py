"""What a newcomer meets: the README's code, recipes, scripts and the wheel."""

import ast
import itertools
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from minuteloop import compose

ROOT = Path(__file__).parents[1]
HYDRA = ("build.py", "command.py", "deltas.py", "mistakes.py", "multirun.py")  # who know it


RECIPES = {file: OmegaConf.load(file) for file in sorted((ROOT / "recipes").glob("*.yaml"))}


@pytest.mark.parametrize(
    "recipe", [file for file, node in RECIPES.items() if "hydra" in node], ids=lambda file: file.stem
)
def test_every_cell_of_a_study_composes(recipe):
    params = RECIPES[recipe].hydra.sweeper.params
    words = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    choices = [
        [f"{word.key_or_group}={value}" for value in word.sweep_string_iterator()]
        for word in words
        if word.key_or_group != "seed"
    ]
    cells = list(itertools.product(*choices))
    assert len(cells) > 2 and params.get("seed", "range(0,5)") == "range(0,5)"
    for cell in cells:
        compose(list(cell), config_name=recipe.stem, config_dir=str(recipe.parent))


def test_the_minutes_of_every_arch_and_recipe_leave_none_out():
    listed = RECIPES[ROOT / "recipes/every_arch.yaml"].hydra.sweeper.params.arch.split(",")
    assert sorted([*listed, "timm"]) == sorted(file.stem for file in (ROOT / "conf/arch").glob("*.yaml"))
    listed = RECIPES[ROOT / "recipes/every_recipe.yaml"].hydra.sweeper.params.recipe.split(",")
    assert sorted(listed) == sorted(file.stem for file in (ROOT / "conf/recipe").glob("*.yaml"))


@pytest.mark.parametrize(
    "recipe", [file for file, node in RECIPES.items() if "hydra" not in node], ids=lambda file: file.stem
)
def test_every_published_run_composes_and_its_records_are_of_that_config(recipe):
    config = compose(config_name=recipe.stem, config_dir=str(recipe.parent))
    assert config.data.holdout == 0
    for path in (ROOT / "recipes" / recipe.stem).glob("*.json"):
        record = json.loads(path.read_text())
        assert record["status"] == "finished"
        assert record["config"]["arch"]["applied"] == config.arch.applied
        assert record["config"]["data"]["holdout"] == 0


def test_explain_tells_the_ladders_end_in_words_and_json():
    command = [sys.executable, str(ROOT / "scripts/explain.py"), "arch=convnext", "size=tiny"]
    command += ["--image-size", "224", "--num-classes", "1000"]
    told = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert told["params"] == 28_589_128 and [stage["grid"] for stage in told["stages"]] == [56, 28, 14, 7]
    assert told["stages"][0]["blocks"][0]["count"] == 3 and len(told["applied"]) == 14
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "28,589,128" in text and "dw7 ln pw:4w gelu pw:w" in text and "Liu 2022" in text


def test_explain_measures_seconds_beside_multiply_adds():
    command = [sys.executable, str(ROOT / "scripts/explain.py"), "arch=resnet20", "size=nano", "recipe.batch_size=16"]
    told = json.loads(subprocess.run([*command, "--measure", "--json"], capture_output=True, text=True).stdout)
    found = told["measured"]
    assert 10 < found["images_per_second"] < 1e7 and found["peak_memory_bytes"] > 2**20 and found["batch_size"] == 16


def test_explain_refuses_in_one_line():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/explain.py"), "arch=convnex"], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "nearest: convnext" in done.stderr


def test_imports_point_one_way():
    """run -> module -> {nets, recipe, data}; study reads records only; Hydra is known to few."""
    allowed = {
        "nets": {"nets", "schema"},
        "recipe": {"recipe", "schema"},
        "data": {"data", "schema"},
        "study": {"study"},
        "plan.py": {"schema"},
        "stopwatch.py": set(),
        "interrupt.py": set(),
        "clock.py": {"stopwatch"},
        "module.py": {"data", "plan", "recipe"},
    }
    package = ROOT / "src/minuteloop"
    for file in package.rglob("*.py"):
        part = file.relative_to(package).parts[0]
        names = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                names.add(node.module)
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        ours = {name.split(".")[1] for name in names if name.startswith("minuteloop.")}
        assert part not in allowed or ours <= allowed[part], (file, ours)
        if part not in HYDRA:
            assert not {name for name in names if name.split(".")[0] in ("hydra", "omegaconf")}, file


@pytest.mark.network
def test_the_wheel_carries_the_configs(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    for file in (ROOT / "conf").rglob("*.yaml"):
        assert f"minuteloop/{file.relative_to(ROOT)}" in inside
    assert "minuteloop/data/sample/train.webp" in inside
    # it composes from there, with no checkout at hand
    code = (
        "from minuteloop import compose; from minuteloop.config.compose import CONF; print(CONF, compose().arch.name)"
    )
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path / "site")}
    )
    assert done.stdout.strip() == f"{tmp_path / 'site/minuteloop/conf'} convnext", done.stderr
