"""The README and docs/: every command composes and runs, and every block of Python runs."""

import itertools
import json
import re
import shlex
import sys
from pathlib import Path

import bench
import pytest
from command_line import run_script
from documentation import PAGES, README, ROOT, TEXT
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from report_records import write_study

import minuteloop
from minuteloop import cli
from minuteloop.config.compose import compose
from minuteloop.tune.search import read_search

COMMANDS = sorted(
    {
        command
        for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
        for line in block.splitlines()
        for command in line.split(" && ")
        if not line.startswith("#")
    }
)
# for a run of a few seconds; they take the place of a command's own
CHEAP = {
    "data": "sample",
    "budget": "2steps",
    "size": "nano",
    "logger": "none",
    "recipe.batch_size": "32",
    "evaluations": "1",
    "logger.pictures": "false",
}


def words_of(command):
    return [re.sub(r"^(\.venv/bin/)?python3?$", "python", word) for word in shlex.split(command, comments=True)]


def is_study(words):
    """Whether the words name a multirun of recipes/."""
    name = words[words.index("-cn") + 1] if "-cn" in words else None
    return name is not None and "hydra" in OmegaConf.load(ROOT / f"recipes/{name}.yaml")


def starting_with(*start):
    return [command for command in COMMANDS if words_of(command)[: len(start)] == list(start)]


TRAIN, EXPLAIN, BENCH = (starting_with("python", f) for f in ("train.py", "scripts/explain.py", "scripts/bench.py"))
FEATURES, DOCS = starting_with("python", "scripts/features.py"), starting_with("python", "scripts/docs_pages.py")
REPORT = [*starting_with("minuteloop", "report"), *starting_with("python", "scripts/report.py")]
TUNE = starting_with("minuteloop", "tune")
NOT_RUN = ("pip", ".venv/bin/pip", ".venv/bin/ruff", "cat")  # and what .ci/run does
CI = ("python -m venv .venv", "python -m pytest")


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    """A current folder that holds mine/ as the pages show it."""
    files = dict(re.findall(r"`(mine/[^`]+\.\w+)`:?\n\n```\w+\n(.*?)```", TEXT, re.DOTALL))
    assert len(files) == 6
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


# --- commands ---------------------------------------------------------------------------------------------------


def test_every_command_is_run_by_a_test():
    tested = {*TRAIN, *EXPLAIN, *BENCH, *FEATURES, *DOCS, *REPORT, *TUNE}
    rest = [" ".join(words_of(command)) for command in COMMANDS if command not in tested]
    unknown = [command for command in rest if not command.startswith((*NOT_RUN, *CI))]
    assert not unknown and len(TRAIN) >= 20 and len(EXPLAIN) >= 4 and len(BENCH) >= 9
    ci = (ROOT / ".ci/run").read_text()
    assert "-e '.[test]'" in README and "-e '.[test]'" in ci and "pytest -n auto" in README and "pytest -n auto" in ci


@pytest.mark.parametrize("command", TRAIN)
def test_training_command_composes(command, user_folder):
    words = words_of(command)[2:]
    options = {flag: words[words.index(flag) + 1] for flag in ("-cn", "-cd") if flag in words}
    overrides = [
        word for word in words if not word.startswith(("-", "hydra")) and word not in (*options.values(), "job")
    ]
    parsed = OverridesParser.create().parse_overrides(overrides)
    values = [
        [f"{word.key_or_group}={value}" for value in word.sweep_string_iterator()]
        if word.is_sweep_override()
        else [word.input_line]
        for word in parsed
    ]
    cells = list(itertools.islice(itertools.product(*values), 4))
    names = [compose(list(cell), options.get("-cn", "config"), options.get("-cd", "")).name for cell in cells]
    assert names and all(names)


@pytest.mark.parametrize("command", REPORT)
def test_report_command_answers(command, cwd, capsys, monkeypatch):
    arms = {
        "none": {"overrides": [], "accuracies": [60.0, 60.2]},
        "+gelu": {"overrides": ["a"], "accuracies": [62, 62.1]},
    }
    write_study(cwd / "runs/SWEEP", arms)
    words = words_of(command)[2:]
    cli.report(["runs/SWEEP" if "*" in word else word for word in words])
    out = capsys.readouterr().out
    assert "convnext_ladder" in out if "plan" in words else "+gelu" in out


@pytest.mark.parametrize("command", BENCH)
def test_bench_command_names_a_bench(command):
    words = words_of(command)[2:]
    assert words[0] in bench.BENCHES
    compose([word for word in words if "=" in word])


def cheap(words):
    """Return the words of a training command, on few images and for few steps."""
    words = [word for word in words if word.partition("=")[0] not in CHEAP]
    words = ["seed=0" if word.startswith("seed=range") else word for word in words]
    return [*words, *(f"{key}={value}" for key, value in CHEAP.items())]


def run(words):
    done = run_script(ROOT / words[1], *words[2:])
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", [command for command in TRAIN if not is_study(words_of(command))])
def test_training_command_runs(command, user_folder):
    words = words_of(command)
    if "--cfg" in words:
        assert "batch_size: 128" in run(words)
        return
    out = run(cheap(words))
    assert "finished" in out
    records = [json.loads(file.read_text()) for file in user_folder.glob("runs/*/*/result.json")]
    assert records and all(record["status"] == "finished" for record in records)


@pytest.mark.parametrize("command", TUNE)
def test_tuning_command_is_a_search(command):
    words = words_of(command)[2:]
    name = words[words.index("-cn") + 1] if "-cn" in words else "config"
    search = read_search(name, "", [word for word in words if "=" in word])
    assert search.space.distributions and search.trials > 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", [command for command in TUNE if "--confirm" in command])
def test_tuning_command_finds_a_best_trial_and_confirms_it(command, user_folder):
    words = words_of(command)[2:]
    words[words.index("--confirm") + 1] = "2"
    out = run(["python", "scripts/tune.py", *cheap(words), "tune.trials=2"])
    assert "- Best: trial " in out and "## Confirmation with fresh seeds 1 to 2" in out


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", EXPLAIN)
def test_explain_command_runs(command, user_folder):
    out = run(words_of(command))
    assert json.loads(out)["params"] > 0 if "--json" in command else "params" in out


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", FEATURES)
def test_features_command_runs(command, user_folder):
    folder = minuteloop.run(cheap(["arch=resnet18", "recipe=plain"]))["folder"]
    out = run([folder if word.startswith("runs/NAME") else word for word in words_of(command)])
    assert [Path(line).name for line in out.splitlines()] == ["filters.png", "maps.png"]


# --- code -------------------------------------------------------------------------------------------------------

CODE = {page: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for page, text in PAGES.items()}


def execute(code, folder):
    (folder / "code.py").write_text(code)
    done = run_script(folder / "code.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_trainer_example_trains_with_one_batch_size(tmp_path):
    (code,) = CODE[ROOT / "README.md"]
    code += """
assert parts.data.batch_size == plan.batch_size == parts.config.recipe.batch_size == 128
assert parts.data.train_dataloader().batch_size == 128
assert trainer.global_step == plan.steps == 2 * (1600 // 128) and trainer.current_epoch == 2
assert plan.epochs == 24 * 128 / 1600
assert plan.lr == trainer.optimizers[0].defaults["lr"] == 5e-4 * 128 / 512 * 32  # DeiT's rule, and its limit
assert module.pipeline is parts.data.pipeline
assert not hasattr(module.net, "_compiled_call_impl") or module.net._compiled_call_impl is None
print(trainer.callback_metrics["test/acc"].item())
"""
    out = execute(code, tmp_path)
    assert "test/acc" in out and float(out.split()[-1]) > 0.12


@pytest.mark.exhaustive
def test_python_of_docs_runs(tmp_path):
    pages = {page.name: blocks for page, blocks in CODE.items() if blocks and page.name != "README.md"}
    arms = {
        "none": {"overrides": [], "accuracies": [60.0, 60.2]},
        "+gelu": {"overrides": ["a"], "accuracies": [62, 62.1]},
    }
    write_study(tmp_path / "runs/SWEEP", arms)
    outs = {name: execute("\n".join(blocks), tmp_path) for name, blocks in pages.items()}
    assert outs.keys() == {"after_training.md", "grammar.md", "report.md", "usage.md"}
    assert outs["report.md"].startswith("+gelu: keep: better by 1.95 [")
    assert outs["usage.md"].splitlines()[-1] == "torch.Size([1000, 10])"
    assert "finished" in outs["after_training.md"]
    assert (
        outs["grammar.md"].startswith("dw7 ln pw:4w gelu pw:w scale=1e-06 + x") and "LayerScale" in outs["grammar.md"]
    )
