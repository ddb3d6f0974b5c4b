"""Configs compose; mistakes are refused in one line that names the key and the nearest valid choice."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from minuteloop import cli as command
from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.config.compose import compose_run
from minuteloop.schema import Config
from minuteloop.validation import ConfigError

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "conf").glob("*/*.yaml"))

MISTAKES = {
    "arhc=resnet": ["arhc", "nearest: arch"],
    "arch=convnex": ["arch=convnex", "nearest: convnext"],
    "recipe=diet": ["recipe=diet", "nearest: deit"],
    "logger=wanb": ["logger=wanb", "nearest: wandb"],
    "modernization=[gelu,layernrom]": ["layernrom", "nearest: layernorm"],
    "modernization=null": ["must be a string or a list"],
    "lr=0.1": ["'lr'", "nearest: recipe.lr)"],
    "batch_size=32": ["'batch_size'", "nearest: recipe.batch_size)"],
    "recipe.lrr=1e-3": ["recipe.lrr", "nearest: lr"],
    "recipe.batch.mixup.alpa=0.5": ["recipe.batch.mixup.alpa", "nearest: alpha"],
    "+recipe.batch.mixup.alpa=0.5": ["recipe.batch.mixup.alpa", "nearest: alpha"],
    "~recipe.batch.mixupp": ["recipe.batch.mixupp", "nearest: mixup"],
    "recipe.batch.mixup.alpha=abc": ["recipe.batch.mixup.alpha", "abc"],
    "recipe.batch.mixup.prob=1.5": ["recipe.batch.mixup.prob=1.5", "probability"],
    "recipe.batch.mixup=3": ["recipe.batch.mixup=3", "_target_"],
    "recipe.batch.mixup._target_=os.system": ["recipe.batch.mixup._target_=os.system", "dataclass"],
    "recipe.batch.mixup._target_=nowhere.Mixup": ["nowhere.Mixup", "cannot be imported"],
    "recipe.batch.random_erasing.min_area=0.5": ["recipe.batch.random_erasing", "above max_area"],
    "recipe.optimizer.betas=[0.9]": ["recipe.optimizer", "betas=[0.9]"],
    "recipe.batch_size=49000": ["recipe.batch_size=49000", "45000 images"],
    "recipe.batch_size=many": ["recipe.batch_size=many", "Integer"],
    "recipe.lr=fast": ["recipe.lr=fast", "auto or a number"],
    "budget=60": ["budget=60", "60s"],
    "budget=1hour": ["budget=1hour", "10min"],
    "budget=0s": ["budget=0s", "60s"],
    "device=gpu": ["device=gpu", "nearest: cpu"],
    "arch.block.norm=batchnorm": ["arch.block.norm=batchnorm", "bn, ln"],
    "arch.block.kernel=[3,-1]": ["arch.block.kernel", "kernel size in pixels"],
    "arch.block.kernel=[3,0]": ["arch.block.kernel=0", "only attention"],
    "arch.block.layout=1 x 1": ["arch.block.layout=1 x 1", "1, k, K and |"],
    "arch.stem.kind=convv3:w norm": ["convv", "nearest: conv"],
    "arch.stages.depths=[3,4]": ["depths", "4 stages"],
    "size.depth=[1,2": ["at input '[1,2'"],
    "seed=abc": ["seed=abc", "Integer"],
    "seed=-1": ["seed=-1", "whole number"],
    "evaluations=0": ["evaluations=0", "at least 1"],
    "+lerning_rate=3": ["lerning_rate", "recipe"],
    "arch=resnet,convnext": ["arch=resnet,convnext", "--multirun"],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_one_line_that_names_it(mistake, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", mistake])
    with pytest.raises(SystemExit) as stop:
        command.main()
    told = str(stop.value)
    assert told.startswith("error: ") and "\n" not in told and "$" not in told
    assert all(part in told for part in MISTAKES[mistake]), told
    assert not list(tmp_path.iterdir()), "a refused config left something behind"


def test_a_holdout_of_all_images_and_an_unknown_config_are_told():
    with pytest.raises(ConfigError, match=r"data.holdout=2000: sample has 2000 training images"):
        compose(["data=sample", "data.holdout=2000"])
    with pytest.raises(ConfigError, match=r"no config sprint_cpu.yaml in conf/: it is one of recipes/"):
        compose(config_name="sprint_cpu")
    with pytest.raises(ConfigError, match=r"no config sprint_cpuu.yaml .*nearest: sprint_cpu\)"):
        compose(config_name="sprint_cpuu", config_dir=str(ROOT / "recipes"))


def test_mistake_in_a_file_names_the_file(tmp_path):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text("name: mine\nepochz: 3\n")
    with pytest.raises(ConfigError, match=r"recipe/mine.*epochz"):
        compose(["recipe=mine"], config_dir=str(tmp_path))


@pytest.mark.parametrize("arguments", [["arch=convnex"], ["recipe.lrr=1"], ["budget=60"], ["--help"], ["--cfg", "job"]])
def test_nothing_heavy_is_imported_before_the_config_is_valid(arguments, tmp_path):
    code = (
        "import sys, runpy; sys.argv = ['train.py', *sys.argv[1:]]\n"
        f"try: runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
        "except SystemExit as stop: print(stop.code, file=sys.stderr)\n"
        "heavy = {'torch', 'pytorch_lightning', 'timm', 'wandb', 'torchmetrics'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path)
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, done.stderr
    assert seconds < 10, "a config error takes under a second on a machine that has nothing else to do"


TAKEN_BACK = ("batchnorm", "kernel_3")  # steps to what resnet has anyway
NEEDS = {"timm": ["arch.name=resnet18"]}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_file_composes(file):
    group, word = file.parent.name, file.stem
    listed = group in ("modernization", "ingredient")
    override = f"{group}=[{word}]" if listed else f"{group}={word}"
    arch = "convnext" if word in TAKEN_BACK else "resnet"
    base = [f"arch={arch}"] if group == "recipe" else [f"arch={arch}", "recipe=deit"]
    config = compose([*base, override, *NEEDS.get(word, [])])
    if group == "modernization":
        assert word in config.arch.applied
    elif not listed and group not in ("arch",):
        assert getattr(config, group).name == word


@pytest.mark.parametrize("file", sorted((ROOT / "conf/ingredient").glob("*.yaml")), ids=lambda file: file.stem)
def test_ingredient_file_lists_every_field(file):
    """So that each can be overridden without '+', and the defaults in code and file cannot drift apart."""
    node = yaml.safe_load(file.read_text())
    made = instantiate.ingredient(node, file.stem)
    assert node.keys() - {"_target_"} == {spec.name for spec in dataclasses.fields(made)}
    for spec in dataclasses.fields(made):
        default = spec.default if spec.default is not dataclasses.MISSING else spec.default_factory()
        assert node[spec.name] == (default if isinstance(default, str | None) else pytest.approx(default, rel=1e-4))


def test_command_line_beats_the_recipe_and_the_recipe_beats_the_schema():
    assert compose(["recipe=deit"]).recipe.weight_decay == 0.05 != Config().recipe.weight_decay
    assert compose(["recipe=deit", "recipe.weight_decay=0.1"]).recipe.weight_decay == 0.1


def test_an_ingredient_can_be_taken_out_and_put_in():
    deit = compose(["recipe=deit", "~recipe.batch.mixup"]).recipe.batch
    assert "mixup" not in deit and "cutmix" in deit
    off = compose(["recipe=deit", "recipe.batch.mixup=null"]).recipe
    assert "recipe.batch.mixup" not in dict(instantiate.ingredient_nodes(off))
    assert "mixup" in compose(["recipe=plain", "ingredient=[mixup]"]).recipe.batch


SGD = {
    "_target_": "minuteloop.recipe.optimizers.sgd.SGD",
    "lr": 0.1,
    "base_batch_size": 128,
    "momentum": 0.9,
    "nesterov": True,
}
SGD["bias_factor"] = 1.0


def optimizer(*overrides, **source):
    return compose(overrides, **source).recipe.optimizer


def test_an_ingredient_replaces_its_slot_whole():
    assert optimizer("recipe=plain") == SGD
    assert optimizer("recipe=deit", "ingredient=[sgd]") == SGD
    assert optimizer("recipe=plain", "ingredient=[adamw]") == optimizer("recipe=deit")
    assert optimizer("recipe=deit", "ingredient=[sgd]", "recipe.optimizer.momentum=0.8") == SGD | {"momentum": 0.8}
    assert optimizer("recipe=deit", "ingredient=[sgd]", "recipe.optimizer={momentum: 0.8}") == SGD | {"momentum": 0.8}


@pytest.mark.parametrize(
    "word", ["recipe.optimizer.betas=[0.8,0.9]", "+recipe.optimizer.moment=0.8", "recipe.optimizer={eps: 0.1}"]
)
def test_a_field_that_went_with_its_ingredient_cannot_be_set(word):
    with pytest.raises(ConfigError, match=r"recipe\.optimizer\.(betas|moment|eps): SGD has no such field"):
        compose(["recipe=deit", "ingredient=[sgd]", word])


@pytest.fixture
def layered(tmp_path):
    """Files that set an optimizer's fields before and after the ingredient."""
    for name, text in {
        "recipe/before": "defaults: [deit, _self_]\noptimizer: {betas: [0.7, 0.8], lr: 0.3}\n",
        "recipe/after": "defaults: [deit, {/ingredient: [sgd]}, _self_]\noptimizer: {momentum: 0.5}\n",
        "recipe/wrong": "defaults: [deit, {/ingredient: [sgd]}, _self_]\noptimizer: {betas: [0.5, 0.5]}\n",
        "ingredient/short": f"# @package recipe.optimizer\n_target_: {SGD['_target_']}\nnesterov: false\n",
        "study": "defaults: [config, override ingredient: [sgd], _self_]\nrecipe: {optimizer: {momentum: 0.7}}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    return {"config_dir": str(tmp_path)}


def test_what_is_set_before_an_ingredient_goes_and_what_is_set_after_it_stays(layered):
    assert optimizer("recipe=before", **layered)["betas"] == [0.7, 0.8]
    assert optimizer("recipe=before", "ingredient=[sgd]", **layered) == SGD
    assert optimizer("recipe=after", **layered) == SGD | {"momentum": 0.5}
    assert optimizer("recipe=after", "ingredient=[adamw]", **layered) == optimizer("recipe=deit")
    assert optimizer(config_name="study", **layered) == SGD | {"momentum": 0.7}
    assert optimizer("ingredient=[short]", **layered) == {"_target_": SGD["_target_"], "nesterov": False}
    for wrong in ({"overrides": ["recipe=wrong"]}, {"overrides": ["ingredient=[adamw]"], "config_name": "study"}):
        with pytest.raises(ConfigError, match="has no such field"):
            compose(**wrong, **layered)


def test_two_ingredients_of_one_slot_are_not_listed_together():
    with pytest.raises(ConfigError, match=r"adamw and sgd are both a recipe\.optimizer"):
        compose(["ingredient=[adamw,sgd]"])


def test_steps_that_undo_each_other_are_refused(tmp_path):
    (tmp_path / "modernization").mkdir()
    (tmp_path / "modernization" / "silent.yaml").write_text("# @package arch\nblock: {act: relu}\n")
    with pytest.raises(ConfigError, match=r"step gelu sets arch.block.act=gelu, but it ends as relu \(step silent\)"):
        compose(["arch=resnet", "modernization=[gelu,silent]"], config_dir=str(tmp_path))


def test_an_override_that_undoes_a_listed_step_is_refused():
    with pytest.raises(ConfigError, match=r"step gelu sets arch\.block\.act=gelu, but it ends as relu"):
        compose(["arch=resnet", "modernization=[gelu]", "arch.block.act=relu"])


@pytest.mark.parametrize(
    "overrides", [["arch=convnext", "modernization=[gelu]"], ["arch=resnet18", "modernization=[depthwise]"]]
)
def test_a_step_that_changes_nothing_is_refused(overrides):
    with pytest.raises(ConfigError, match="changes nothing"):
        compose(overrides)


def test_a_step_that_another_makes_idle_is_refused_only_then():
    compose(["arch=resnet", "modernization=[fewer_activations,gelu]"])
    with pytest.raises(ConfigError, match="step gelu changes nothing"):
        compose(["arch=resnet", "modernization=[gelu,gelu]"])


def test_a_listed_step_replaces_one_of_the_arch_and_this_is_recorded():
    arch = compose(["arch=convnext", "modernization=[batchnorm]"]).arch
    assert arch.block.norm == "bn"
    assert "layernorm" not in arch.applied and arch.applied["batchnorm"] == "Ioffe 2015"
    assert arch.replaced == {"layernorm": "batchnorm"}


def test_steps_that_add_keys_and_ingredients_that_take_them_away_run_on_the_command_line_too(tmp_path):
    words = ["arch=resnet", "modernization=[fused_early]", "recipe=deit", "ingredient=[sgd]"]  # the rest is for speed
    words += ["size=nano", "data=sample", "budget=1steps", "logger=none"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_an_override_that_replaces_a_step_of_the_arch_is_recorded():
    assert compose(["arch=convnext", "arch.block.norm=bn"]).arch.replaced == {"layernorm": "arch.block.norm=bn"}


def test_shell_completion_answers(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "-sc", "query=bash"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"COMP_LINE": "python train.py arch=conv", "COMP_POINT": "26"},
    )
    assert done.stdout.split() == [f"arch={name}" for name in ("convnext", "convnext_b", "convnext_s", "convnextv2_t")]


def test_two_jobs_of_the_same_second_have_folders_of_their_own():
    folders = {compose_run([])[1] for _ in range(3)}
    assert len(folders) == 3


def test_a_records_config_is_not_silently_hidden_by_the_default(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    with pytest.raises(ConfigError, match=r"-cd .* -cn config: .*conf/config\.yaml is found first"):
        compose(config_dir=str(tmp_path))
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "-cd", str(tmp_path), "-cn", "config"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.startswith("error: -cd ") and done.stderr.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]
