"""Named runs, the direction of imports, the length of files, and the wheel."""

import ast
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from minuteloop import compose
from minuteloop.nets.spec import resolve
from minuteloop.records.record import config_hash
from minuteloop.study.grid import compose_study

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/minuteloop"
FILES = sorted((ROOT / "recipes").glob("*.yaml"))
RECIPES = {file: node for file in FILES if "defaults" in (node := OmegaConf.load(file))}  # not a sweep of W&B's
STUDIES = [file for file, node in RECIPES.items() if "hydra" in node]
RUNS = [file for file, node in RECIPES.items() if not {"hydra", "tune"} & node.keys()]  # nor a search


# --- recipes/ -----------------------------------------------------------------------------------------------------


def _marks(study):
    return () if study.stem == "stems" else pytest.mark.exhaustive


@pytest.mark.parametrize("recipe", [pytest.param(study, marks=_marks(study), id=study.stem) for study in STUDIES])
def test_every_arm_of_a_study_composes_and_asks_for_another_training(recipe):
    study, cells = compose_study(recipe.stem)
    assert study.question.endswith("?") and len(study.arms) > 2 and len(study.seeds) >= 3
    assert len(cells) == len(study.arms) * len(study.seeds) * len(study.budgets)
    hashes = {config_hash(compose(arm, config_name=recipe.stem)) for arm in study.arms.values()}
    assert len(hashes) == len(study.arms)


ROADMAP = [  # Liu 2022, fig. 2
    *("stage_ratio", "patchify", "depthwise", "width", "inverted_bottleneck", "spatial_first", "large_kernel"),
    *("gelu", "fewer_activations", "fewer_norms", "layernorm", "separate_downsampling"),
]


def test_ladder_climbs_the_roadmap_with_one_recipe_and_one_stem_stride():
    ladder, cells = compose_study("convnext_ladder")
    assert list(ladder.arms) == ["none", *(f"+{step}" for step in ROADMAP)]
    assert (ladder.budgets, ladder.seeds, len(cells)) == (["60s"], [0, 1, 2, 3, 4], 65)
    transfer, cells = compose_study("transfer")
    assert transfer.arms == ladder.arms and (transfer.budgets, len(cells)) == (["15s", "60s", "240s"], 117)
    for name in ("none", "+patchify", "+separate_downsampling"):
        config = compose(ladder.arms[name], config_name="convnext_ladder")
        assert config_hash(config) == config_hash(compose(ladder.arms[name], config_name="transfer"))
        assert config.recipe.callbacks["ema"] is None and config.recipe.strength == 0
        assert resolve(config.arch, config.size, 32, 10).used_strides[0] == 2


def test_drop_one_starts_from_convnext():
    study, _ = compose_study("convnext_drop_one")
    dropped, whole = (
        dataclasses.asdict(compose(overrides, config_name="convnext_drop_one").arch)
        for overrides in (study.arms["all"], ["arch=convnext"])
    )
    assert list(study.arms) == ["all", *(f"-{step}" for step in [*ROADMAP, "conv_bias", "layer_scale"])]
    assert dropped | {"name": "convnext"} == whole


def is_alias(file):
    """Return whether a file of conf/ sets nothing of its own."""
    return yaml.safe_load(file.read_text()).keys() == {"defaults"}


def test_studies_of_every_arch_and_recipe_leave_none_out():
    listed = RECIPES[ROOT / "recipes/every_arch.yaml"].study.each.arch
    files = (ROOT / "conf/arch").glob("*.yaml")
    assert sorted([*listed, "timm"]) == sorted(file.stem for file in files if not is_alias(file))
    assert {file.stem for file in (ROOT / "conf/arch").glob("*.yaml") if is_alias(file)} == {"resnet50", "convnext_t"}
    listed = RECIPES[ROOT / "recipes/every_recipe.yaml"].study.each.recipe
    assert sorted(listed) == sorted(file.stem for file in (ROOT / "conf/recipe").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RUNS, ids=lambda file: file.stem)
def test_published_run_composes_and_its_records_are_of_that_config(recipe):
    config = compose(config_name=recipe.stem, config_dir=str(recipe.parent))
    assert config.data.holdout == 0
    for path in (ROOT / "recipes" / recipe.stem).glob("*.json"):
        record = json.loads(path.read_text())
        assert record["status"] == "finished"
        assert record["config"]["arch"]["applied"] == config.arch.applied
        assert record["config"]["data"]["holdout"] == 0


# --- imports ------------------------------------------------------------------------------------------------------

# Each floor may import from the floors below it; rooms of one floor do not know each other, unless stated.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"tune"},
    {"report"},
    {"study", "trained"},
    {"training"},
    {"config", "records"},
    {"data", "nets", "recipe"},
    {"hardware"},
    {"schema"},
    {"arch_schema"},
    {"validation"},
    {""},  # minuteloop/__init__.py: names imported when first used
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
KNOW_HYDRA = ("cli.py", "config/", "study/grid.py", "study/multirun.py", "tune/search.py", "tune/space.py")


def imported_modules(text, folder):
    """Return every module that a source file imports, absolute; `folder` is the file's package, 'minuteloop.nets'."""
    modules = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = folder.split(".")[: len(folder.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *filter(None, [node.module])])
            modules += [f"{base}.{alias.name}" for alias in node.names]
    return modules


def wrong_imports(path, text):
    """Return the imports of src/minuteloop/`path` that point upwards, sideways or to Hydra."""
    room = "" if path == "__init__.py" else path.partition("/")[0].removesuffix(".py")
    folder = ".".join(["minuteloop", *Path(path).parent.parts])
    wrong = []
    for module in imported_modules(text, folder):
        package, _, rest = module.partition(".")
        target = rest.partition(".")[0] if rest.partition(".")[0] in FLOOR else ""
        is_upwards = package == "minuteloop" and target != room and FLOOR[target] <= FLOOR[room]
        if is_upwards or (package in ("hydra", "omegaconf") and not path.startswith(KNOW_HYDRA)):
            wrong.append(module)
    return wrong


SOURCES = {str(file.relative_to(PACKAGE)): file.read_text() for file in sorted(PACKAGE.rglob("*.py"))}


def test_imports_point_one_way():
    rooms = {path.partition("/")[0].removesuffix(".py") for path in SOURCES} - {"__init__"}
    assert rooms == FLOOR.keys() - {""}, "a room without a floor"
    assert {path: wrong for path, text in SOURCES.items() if (wrong := wrong_imports(path, text))} == {}


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("nets/x.py", "from minuteloop import recipe", "minuteloop.recipe"),
        ("nets/x.py", "import minuteloop.recipe.tta", "minuteloop.recipe.tta"),
        ("nets/x.py", "def f():\n    from minuteloop.data.cifar import load", "minuteloop.data.cifar.load"),
        ("nets/x.py", "from ..training import run", "minuteloop.training.run"),
        ("nets/deep/x.py", "from ...training.run import train", "minuteloop.training.run.train"),
        ("records/x.py", "from minuteloop.config.compose import CONF", "minuteloop.config.compose.CONF"),
        ("training/x.py", "import minuteloop.cli as c", "minuteloop.cli"),
        ("schema.py", "from . import hardware", "minuteloop.hardware"),
        ("validation.py", "import minuteloop.schema", "minuteloop.schema"),
        ("study/cell.py", "import omegaconf", "omegaconf"),
        ("training/x.py", "from hydra.core import plugins", "hydra.core.plugins"),
    ],
)
def test_import_guard_catches(path, text, wrong):
    assert wrong_imports(path, text) == [wrong]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("nets/x.py", "from minuteloop.nets import block\nfrom . import program\nfrom .net import build_net"),
        ("nets/x.py", "import torch\nfrom minuteloop import schema\nimport minuteloop.validation"),
        ("study/multirun.py", "from hydra.types import RunMode\nimport minuteloop.training.run"),
        ("config/x.py", "import omegaconf\nfrom minuteloop.nets.net import build_net"),
        ("cli.py", "import minuteloop\nfrom minuteloop import compose, __version__"),
    ],
)
def test_import_guard_lets_pass(path, text):
    assert wrong_imports(path, text) == []


def test_hydra_plugin_imports_nothing_heavy_at_the_start_of_other_programs():
    tree = ast.parse((ROOT / "src/hydra_plugins/minuteloop_sweeper.py").read_text())
    top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    packages = {module.partition(".")[0] for module in imported_modules(ast.unparse(top), "")}
    assert packages == {"collections", "dataclasses", "hydra"}


def test_files_and_functions_are_short():
    long_files = {path: len(text.splitlines()) for path, text in SOURCES.items() if len(text.splitlines()) > 300}
    long_functions = {
        f"{path}:{node.name}": length
        for path, text in SOURCES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and (length := node.end_lineno - node.lineno + 1) > 60
    }
    assert (long_files, long_functions) == ({}, {})


# --- wheel --------------------------------------------------------------------------------------------------------

HAS_HATCHLING = importlib.util.find_spec("hatchling") is not None
COMPOSE = """
import minuteloop
from minuteloop.config.compose import CONF, RECIPES, compose
from minuteloop.study.grid import compose_study
print(CONF, RECIPES, compose().arch.name, compose(config_name="convnext_cpu_minute").data.holdout)
print(len(compose_study("stems")[1]))
"""


@pytest.mark.skipif(
    not (HAS_HATCHLING or os.environ.get("MINUTELOOP_NETWORK")),
    reason="needs hatchling, or MINUTELOOP_NETWORK=1 for pip to download it",
)
def test_wheel_carries_configs_and_named_runs(tmp_path):
    options = ["--no-build-isolation"] if HAS_HATCHLING else []
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", *options, "-w", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    names = set(archive.namelist())
    for folder in ("conf", "recipes"):
        for file in (ROOT / folder).rglob("*.*"):
            assert f"minuteloop/{file.relative_to(ROOT)}" in names
    assert {
        "hydra_plugins/minuteloop_sweeper.py",
        "minuteloop/data/sample/train.webp",
        "minuteloop/report/convnext_paper.yaml",
        "minuteloop/report/page/page.html",
    } <= names
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "minuteloop = minuteloop.cli:main" in archive.read(entry_points).decode()

    # it composes from there, without the checkout
    site = tmp_path / "site"
    archive.extractall(site)
    env = {"PYTHONPATH": str(site), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", COMPOSE], capture_output=True, text=True, env=env, cwd=tmp_path)
    package = site / "minuteloop"
    assert done.stdout.strip() == f"{package / 'conf'} {package / 'recipes'} convnext 0\n20", done.stderr
    command = [sys.executable, "-m", "minuteloop", "train", "--help", "-cd", "recipes", "-cn", "convnext_cpu_minute"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0 and "  data.holdout=0 " in done.stdout, done.stderr
