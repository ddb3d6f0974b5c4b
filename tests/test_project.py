"""What a newcomer meets: the README's code, recipes, scripts and the wheel."""

import ast
import itertools
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import docs_pages as pages
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from results_table import BEGIN, END, updated

from minuteloop import compose

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
HYDRA = ("build.py", "command.py", "deltas.py", "mistakes.py", "multirun.py")  # who know it


def test_the_readmes_python_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "test/acc" in done.stdout


def test_the_readmes_commands_compose():
    commands = re.findall(r"^python train\.py(.*?)(?:#.*)?$", README, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", command)]
        if "-m" in words:
            words = [re.sub(r"range\((\d+).*|,.*", r"\1", word) for word in words if word != "-m"]
        if "-cd" in words and "-cn" not in words:
            continue  # a folder of the reader's own: test_user_folder.py
        if "-cn" in words:
            assert (ROOT / words[words.index("-cd") + 1] / f"{words[words.index('-cn') + 1]}.yaml").exists()
            continue
        compose(words)


def test_the_readme_names_every_step_size_arch_and_recipe():
    for group in ("modernization", "size", "arch", "recipe", "data", "logger"):
        for file in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"`{file.stem}`" in README, f"{group}/{file.stem}"


def test_the_readmes_table_is_what_the_records_say():
    assert updated(README, ROOT / "recipes") == README


def test_the_pages_are_what_the_benches_say():
    assert (ROOT / "recipes/archs.md").read_text() == pages.archs(ROOT / "recipes/bench")
    assert (ROOT / "recipes/recipes.md").read_text() == pages.recipes(ROOT / "recipes/bench")
    assert (ROOT / "recipes/forms.md").read_text() == pages.forms(ROOT / "recipes/bench")
    page = pages.ingredients(ROOT / "conf", ROOT / "recipes/bench")
    assert (ROOT / "recipes/ingredients.md").read_text() == page
    assert page.count("| `") >= len(list((ROOT / "conf/ingredient").glob("*.yaml")))


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


def test_the_table_is_made_from_records(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for seed, accuracy in enumerate((0.5, 0.6, 0.7)):
        record = {
            "status": "finished",
            "seed": seed,
            "config": {"seed": seed},
            "code": {"commit": "abc", "dirty": False},
            "host": {"cpu": "Z80", "threads": 2},
            "metrics": {"test/acc": accuracy, "test/acc_tta": accuracy + 0.1},
            "seconds": {"train": 60.0},
            "cost": {"images_per_second": 1234.4, "params": 10_000, "macs": 2_500_000},
        }
        (folder / f"{seed}.json").write_text(json.dumps(record))
    text = updated(f"a\n{BEGIN}\nold\n{END}\nb\n", tmp_path)
    assert "60.00 ± 10.00 % | 70.00 ± 10.00 % | 3 | 60.0 s | 1,234 | 10,000 | 2.5M | Z80, 2 cores |" in text
    assert "old" not in text and text.startswith("a\n") and text.endswith("b\n")
    (folder / "3.json").write_text((folder / "2.json").read_text())
    with pytest.raises(ValueError, match="two records of one seed"):
        updated(text, tmp_path)
    other = json.loads((folder / "2.json").read_text()) | {"seed": 3, "config": {"seed": 3, "budget": "10min"}}
    (folder / "3.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="different config"):
        updated(text, tmp_path)


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
