"""Config errors: one line on stderr that names the key, the value, the rule and the closest valid choice."""

import shlex
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from minuteloop import cli, compose
from minuteloop.study.multirun import Sweep
from minuteloop.validation import ConfigError, quoted

# override -> what follows "error: OVERRIDE: "
MESSAGES = {
    "arhc=resnet": "unknown key. Did you mean arch?",
    "arch=convnex": "no such file in conf/arch. Did you mean convnext?",
    "arch=resnet,convnext": "must be one value; add -m to run each",
    "recipe=diet": "no such file in conf/recipe. Did you mean deit?",
    "logger=wanb": "no such file in conf/logger. Did you mean wandb?",
    "recipe.lrr=1e-3": "unknown key. Did you mean recipe.lr?",
    "recipe.batch.mixup.alpa=0.5": "unknown key. Did you mean recipe.batch.mixup.alpha?",
    "arch.blok.norm=bn": "unknown key. Did you mean arch.block?",
    "trainer.profiler=simple": "unknown key. Did you mean +trainer.profiler?",
    "+seed=3": "the key exists. Did you mean seed=3?",
    "~recipe.batch.mixupp": "unknown key. Did you mean recipe.batch.mixup?",
    "~recipe.bath.mixup": "unknown key. Did you mean recipe.batch.mixup?",
    "~recipe.batch.cutout": "the recipe has no cutout; add it with 'ingredient=[cutout]'",
    "recipe.batch.cutout.length=8": "the recipe has no cutout; add it with 'ingredient=[cutout]'",
    "recipe.batch.mixup.alpha=abc": "must be a number in [1e-06, 100]",
    "recipe.batch.mixup.prob=1.5": "must be a number in [0, 1]",
    "recipe.batch.mixup=3": "must be a mapping with _target_ and the fields of the ingredient",
    "recipe.batch.mixup._target_=os.system": "must be a dataclass, so that its fields can be checked",
    "recipe.batch_size=49000": "must be <= 45000, the training images of cifar10 without data.holdout",
    "recipe.batch_size=many": "must be an integer >= 1",
    "recipe.lr=fast": "must be auto or a number >= 0. Did you mean auto?",
    "recipe.lr=auot": "must be auto or a number >= 0. Did you mean auto?",
    "recipe.strength=aut": "must be auto or a number in [0, 1], or one for some ingredients as {mixup: 0.5}. Did you "
    "mean auto?",
    "recipe.batch=3": "must be a mapping",
    "recipe.optimizer=[1]": "must be a mapping",
    "threads=aujto": "must be auto or an integer in [1, 1024]. Did you mean auto?",
    "size.reduce=zuto": "must be auto or an integer in [1, 64]. Did you mean auto?",
    "budget=60": "must be a length > 0 with its unit (use 60s, 10min, 1h, 200ep or 5000steps)",
    "budget=1hour": "must be a length > 0 with its unit (use 60s, 10min, 1h, 200ep or 5000steps)",
    "budget=0s": "must be a length > 0 with its unit (use 60s, 10min, 1h, 200ep or 5000steps)",
    "device=gpu": "must be one of auto, cpu, cuda. Did you mean cuda?",
    "arch.block.norm=batchnorm": "must be one of bn, ln, gn, evonorm_b0, evonorm_s0, none. Did you mean bn?",
    "arch.block.layout=1 x 1": "must be a sequence of 1, k, K and | such as '1 k 1'",
    "arch.block.bias=often": "must be true or false",
    "arch.block.bias=99999999999999999999999": "must be true or false",
    "arch.block=3": "must be a mapping, or set one of its keys",
    "arch.stages.widths=5": "must be a list of integers",
    "arch.stages.depths=[a,b]": "must be a list of integers",
    "seed=abc": "must be an integer >= 0",
    "seed=1.5": "must be an integer >= 0",
    "seed=-1": "must be an integer >= 0",
    "seed=null": "must be an integer >= 0",
    "++seed=a": "must be an integer >= 0",
    "name=null": "must be text on one line, not blank",
    "name=inf": "must be text, not a number",
    "recipe.name=nan": "must be text, not a number",
    "data.holdout=abc": "must be an integer in [0, 49000]",
    "evaluations=0": "must be an integer in [1, 1000]",
    "name=exp#1": "cannot be parsed; type 'name=\"exp#1\"'",
    "name=a=b": "cannot be parsed; type 'name=\"a=b\"'",
    "data.root=/tmp/dätä": "cannot be parsed; type 'data.root=\"/tmp/dätä\"'",
    "resume=runs/lr=1/a b": "cannot be parsed; type 'resume=\"runs/lr=1/a b\"'",
    "arch.name=resnet18": "names a timm model; use arch=resnet18, or arch=timm arch.name=resnet18",
    "seed=???": "must be an integer >= 0",
    "device=???": "must be one of auto, cpu, cuda",
    "name=???": "must be text on one line, not blank",
    "arch.block.init=???": "must be one of normal, dirac",
    "+arch.timm.drop_rate=0.1": "is an option of timm models; add arch=timm arch.name=MODEL",
    "seed": "must be KEY=VALUE",
}
# override -> parts of a line that other rooms write, or that does not begin with the override
PARTS = {
    "modernization=[gelu,layernrom]": ["modernization=layernrom: no such file", "Did you mean layernorm?"],
    "+recipe.batch.mixup.alpa=0.5": ["recipe.batch.mixup.alpa: ", "Did you mean alpha?"],
    "recipe.batch.mixup._target_=nowhere.Mixup": ["nowhere.Mixup", "cannot be imported"],
    "recipe.batch.random_erasing.min_area=0.5": ["recipe.batch.random_erasing", "max_area"],
    "recipe.optimizer.betas=[0.9]": ["recipe.optimizer", "betas=[0.9]"],
    "arch.block={bias: often}": ["arch.block.bias=often: must be true or false"],
    "arch.block.kernel=[3,-1]": ["arch.block.kernel=-1: must be an integer in [0, 63]"],
    "arch.block.kernel=[3,0]": ["arch.block.kernel=0", "must be >= 1", "global attention"],
    "arch.stem.kind=convv3:w norm": ["convv", "Did you mean conv?"],
    "arch.stages.depths=[3,4]": ["depths", "4 stages"],
    "+arch.early.bias=[]": ["arch.early.bias=[]: must be one value"],
    "arch.stages.widths='${seed}'": ["arch.stages.widths=0: must be a list"],
    "arch.stages.depths=[100000,3,3,3]": ["must be a list of integers <= 1000"],
    "recipe.batch.mixup.alpha=0": ["recipe.batch.mixup.alpha=0", "~recipe.batch.mixup switches it off"],
    "name=' '": ["name= : must be text on one line, not blank"],
    "name=''": ["name=: must be text on one line, not blank"],
    "logger.tags=[a,nan]": ["logger.tags=nan: must be text, not a number"],
    "+lerning_rate=3": ["+lerning_rate=3: unknown key", "recipe"],
}


def error_line(*arguments, capsys, code=2):
    """Return the line with which the command ends."""
    with pytest.raises(SystemExit) as stop:
        cli.train(list(arguments))
    captured = capsys.readouterr()
    assert stop.value.code == code
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert "$" not in captured.err, "a placeholder of OmegaConf's"
    return captured.err.strip()


@pytest.fixture(autouse=True)
def in_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    yield
    left = [path for path in tmp_path.iterdir() if path.name != "mine"]
    assert not left, "a rejected config left something behind"


def message(*overrides):
    """Return the ConfigError's text, one line."""
    with pytest.raises(ConfigError) as error:
        compose(overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("override", MESSAGES)
def test_error_names_key_value_and_rule(override):
    assert message(override) == f"{override}: {MESSAGES[override]}"


@pytest.mark.parametrize("override", PARTS)
def test_error_names_what_is_wrong_inside_a_value(override):
    text = message(override)
    assert all(part in text for part in PARTS[override]), text


@pytest.mark.parametrize(
    "override",
    ["recipe.lrr=1e-3", "seed=abc", "budget=60", "arch=convnex", "~recipe.bath.mixup", "name=exp#1", "seed"]
    + [pytest.param(override, marks=pytest.mark.exhaustive) for override in (*MESSAGES, *PARTS)],
)
def test_command_prints_the_line_that_python_raises_and_leaves_nothing_behind(override, capsys):
    expected = f"{override}: {MESSAGES[override]}" if override in MESSAGES else message(override)
    assert error_line(override, capsys=capsys) == f"error: {expected}"


def test_run_that_would_evaluate_nothing_is_rejected():
    with pytest.raises(ConfigError, match=r"test=false: must be true or auto with data\.holdout=0"):
        compose(["data=sample", "data.holdout=0", "test=false"])


def test_holdout_of_all_images_is_rejected():
    with pytest.raises(ConfigError, match=r"data\.holdout=2000: must be < 2000, the training images of sample"):
        compose(["data=sample", "data.holdout=2000"])


def test_unknown_named_run_is_rejected(capsys):
    with pytest.raises(ConfigError, match=r"-cn sprint_cpuu: no such config\. Did you mean sprint_cpu\?"):
        compose(config_name="sprint_cpuu")
    line = error_line("-cn", "sprint_cpuu", capsys=capsys)
    assert line == "error: -cn sprint_cpuu: no such config. Did you mean sprint_cpu?"


OLD_NAMES = {
    "recipe.optimizer.per_images=64": "recipe.optimizer.base_batch_size",
    "recipe.optimizer.limit=1": "recipe.optimizer.max_lr_scale",
    "recipe.schedule.final=0": "recipe.schedule.min_lr_ratio",
    "recipe.schedule.longest_warmup=0": "recipe.schedule.max_warmup_fraction",
    "recipe.views=null": "recipe.tta",
    "ingredient=[views]": "tta",
}


@pytest.mark.parametrize("override", OLD_NAMES)
def test_earlier_name_of_a_key_suggests_the_present_one(override):
    assert message(override).endswith(f". Did you mean {OLD_NAMES[override]}?")


@pytest.mark.parametrize(
    ("ingredient", "override", "field"),
    [
        ("cutout", "recipe.batch.cutout.side=8", "length"),
        ("muon", "recipe.optimizer.iterations=3", "ns_steps"),
        ("muon", "recipe.optimizer.partner=adamw", "fallback"),
        ("freeze", "recipe.callbacks.freeze.share=0.5", "fraction"),
        ("ghost_batch_norm", "recipe.regularizers.ghost_batch_norm.images=32", "ghost_batch_size"),
    ],
)
def test_earlier_name_of_an_ingredients_field_suggests_the_present_one(ingredient, override, field):
    where = override.partition("=")[0].rpartition(".")[0]
    with pytest.raises(ConfigError) as error:
        compose([f"ingredient=[{ingredient}]", override])
    assert str(error.value) == f"{override}: unknown key. Did you mean {where}.{field}?"


FILES = {
    "recipe/mine": ("name: mine\nepochz: 3\n", r"recipe/mine\.yaml: recipe\.epochz: unknown key"),
    "recipe/old": (
        "defaults: [deit, _self_]\nviews: null\n",
        r"recipe/old\.yaml: recipe\.views: unknown key. Did you mean recipe\.tta\?",
    ),
    "recipe/old_field": (
        "defaults: [deit, _self_]\noptimizer: {per_images: 64}\n",
        r"recipe\.optimizer\.per_images: .* Did you mean base_batch_size\?",
    ),
    "recipe/old_rate": (
        "defaults: [deit, _self_]\noptimizer: {lr: 1e-3}\n",
        r"recipe\.optimizer\.lr: AdamW has no such field\. Did you mean base_lr\?",
    ),
    "recipe/type": (
        "defaults: [deit, _self_]\nbatch_size: x\n",
        r"recipe/type\.yaml: recipe\.batch_size=x: must be an integer >= 1",
    ),
    "arch/list": (
        "defaults: [resnet, _self_]\nstages: {depths: 3}\n",
        r"arch/list\.yaml: arch\.stages\.depths=3: must be a list of integers",
    ),
}


@pytest.mark.parametrize("file", FILES)
def test_error_in_a_users_file_names_file_and_key(file, tmp_path):
    text, pattern = FILES[file]
    path = tmp_path / f"mine/{file}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ConfigError, match=pattern):
        compose([file.replace("/", "=")], config_dir=str(tmp_path / "mine"))


def test_records_config_is_not_hidden_by_the_default(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.yaml").write_text("seed: 3\n")
    with pytest.raises(ConfigError, match=r"-cd .* -cn config: .*conf/config\.yaml is found first"):
        compose(config_dir=str(tmp_path / "mine"))
    line = error_line("-cd", str(tmp_path / "mine"), "-cn", "config", capsys=capsys)
    assert line.startswith("error: -cd ") and "is found first" in line
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("key", ["arch", "recipe", "budget", "precision", "channels_last"])
def test_typing_error_in_a_key_suggests_the_key(key):
    """Twice the first letter."""
    assert message(f"{key[0]}{key}=1") == f"{key[0]}{key}=1: unknown key. Did you mean {key}?"


def test_a_path_below_home_is_suggested_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert message("data.root=~/data") == "data.root=~/data: cannot be parsed; type data.root=/home/me/data"


@pytest.mark.parametrize(
    "value", ["exp#1", "a=b", "/tmp/dätä", "it's", 'say "hi" \\', "[x", "two words", "a,b", "${x}\\"]
)
def test_suggested_word_arrives_as_it_was_meant(value):
    """Through the shell's quotes and then Hydra's."""
    (word,) = shlex.split(quoted("name", value))
    (override,) = OverridesParser.create().parse_overrides([word])
    assert override.value() == value


@pytest.mark.parametrize("word", ["recipe.lr='1e-3'", 'recipe.lr="0.001"', "recipe.lr=${oc.env:LR}"])
def test_text_that_is_a_number_is_that_number(word, monkeypatch):
    monkeypatch.setenv("LR", "1e-3")
    assert compose([word]).recipe.lr == 0.001


def test_text_that_is_an_integer_is_that_integer():
    config = compose(["threads='2'", "size.depth=['1','2']"])
    assert (config.threads, config.size.depth) == (2, [1, 2])


@pytest.mark.parametrize("variable", ["WANDB_API_KEY", "GITHUB_TOKEN", "my_secret", "PGPASSWORD"])
def test_no_secret_of_the_environment_gets_into_a_record(variable, monkeypatch):
    monkeypatch.setenv(variable, "hunter2")
    for key, value in (("name", "a-${oc.env:%s}"), ("logger.tags", "[b,'${oc.env:%s,none}']")):
        text = message(f"{key}={value % variable}")
        assert text == f"{key}=${{oc.env:{variable}}}: must not be a secret; the record and W&B keep it"
    monkeypatch.setenv("MONKEY", "banana")
    assert compose(["name=${oc.env:MONKEY}"]).name == "banana"


@pytest.mark.parametrize("folder", ["/proc/x", "/dev/null/x", "/tmp/" + 300 * "x"])
def test_folder_that_cannot_be_made_is_rejected(folder, capsys, monkeypatch):
    monkeypatch.setattr(Sweep, "folder", None)  # what the sweep sets is undone
    for arguments in ([f"hydra.run.dir={folder}"], ["-m", "seed=0,1", f"hydra.sweep.dir={folder}"]):
        line = error_line(*arguments, capsys=capsys)
        assert line.startswith(f"error: {arguments[-1]}") and ": must be a folder that can be made, got: " in line


def test_names_from_the_environment_may_hold_spaces(monkeypatch):
    monkeypatch.setenv("EXP", "my exp")
    assert compose(["name=${oc.env:EXP}"]).name == "my exp"


def test_hydras_own_words_of_a_sweep_are_resolved_by_hydra():
    """In a multirun, override_dirname holds = and commas, and the number of a job is known only later."""
    for subdir in ("${hydra.job.override_dirname}", "${hydra.job.num}"):
        assert compose([f"hydra.sweep.subdir={subdir}", "seed=3"]).seed == 3


@pytest.mark.parametrize(
    ("word", "package"),
    [
        ("hydra/sweeper=optuna", "hydra-optuna-sweeper"),
        ("hydra/sweeper=nevergrad", "hydra-nevergrad-sweeper"),
        ("hydra/launcher=rq", "hydra-rq-launcher"),
    ],
)
def test_a_plugin_that_is_not_installed_is_named(word, package):
    assert message(word) == f"{word}: needs the package {package}; run pip install {package}"
