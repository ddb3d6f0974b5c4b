"""The command line: commands, exit codes, help, closed pipes, and named runs from any folder."""

import json
import os
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import minuteloop
from minuteloop import cli

ROOT = Path(__file__).parents[1]
TRAIN = [sys.executable, str(ROOT / "train.py")]
MODULE = [sys.executable, "-m", "minuteloop"]
EXPLAIN = [sys.executable, str(ROOT / "scripts/explain.py")]


def run(command, cwd, **env):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | env)


# --- minuteloop ---------------------------------------------------------------------------------------------------


def test_package_knows_its_version():
    assert minuteloop.__version__ == metadata.version("minuteloop")


def test_module_runs_as_a_command(tmp_path):
    done = run([*MODULE, "--version"], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{minuteloop.__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_usage_lists_every_command(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["minuteloop", *arguments])
    cli.main()
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    for name, command in cli.COMMANDS.items():
        assert f"  {name:10}{command.__doc__.splitlines()[0]}" in lines
    assert printed.err == "" and "usage: minuteloop COMMAND ..." in lines


@pytest.mark.parametrize(("word", "hint"), [("trian", ". Did you mean train?"), ("xyz", " (one of: train, explain")])
def test_unknown_command_is_one_line_with_exit_code_2(word, hint, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["minuteloop", word])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    assert stop.value.code == 2 and printed.out == ""
    assert printed.err.startswith(f"error: {word}: unknown command{hint}") and printed.err.count("\n") == 1


def test_console_command_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"minuteloop": "minuteloop.cli:main"}


# --- train --------------------------------------------------------------------------------------------------------


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
    done = run([sys.executable, "-c", code, *arguments], tmp_path)
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, done.stderr
    assert seconds < 10, "takes under a second on an idle machine"


def test_help_composes_the_overrides(capsys, monkeypatch):
    cli.train(["--help", "recipe.lr=0.25", "ingredient=[sgd]"])
    printed = capsys.readouterr()
    assert "\n  recipe.lr=0.25 " in printed.out and "\n  recipe.optimizer.momentum=0.9 " in printed.out
    assert "recipe.optimizer.betas" not in printed.out and printed.err == ""
    with pytest.raises(SystemExit) as stop:
        cli.train(["--help", "recipe.lrr=0.25"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: recipe.lrr=0.25: unknown key. Did you mean recipe.lr?\n"


def test_help_of_a_sweep_prints_the_help(capsys):
    cli.train(["--help", "-m", "seed=0,1"])
    assert "\n  seed=0 " in capsys.readouterr().out


def closed_pipe(command, cwd, lines=0, **env):
    """Return what the command writes to stderr, and its exit code, when the reader of stdout closes it early."""
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | env
    )
    read = [process.stdout.readline() for _ in range(lines)]
    process.stdout.close()
    errors = process.stderr.read()
    return read, errors, process.wait()


COMPLETION = {"COMP_LINE": "python train.py arch=conv", "COMP_POINT": "26"}


@pytest.mark.parametrize(
    ("arguments", "lines"), [(["--help"], 0), (["--help"], 3), (["--cfg", "job"], 0), (["-sc", "query=bash"], 0)]
)
def test_closed_pipe_is_quiet(arguments, lines, tmp_path):
    read, errors, code = closed_pipe([*TRAIN, *arguments], tmp_path, lines, **COMPLETION)
    assert errors == "" and code == 0 and all(line.endswith("\n") for line in read)


@pytest.mark.exhaustive
def test_closed_pipe_of_the_other_commands_is_quiet(tmp_path):
    for command in ([*MODULE, "--help"], [*EXPLAIN, "arch=resnet20"]):
        assert closed_pipe(command, tmp_path)[1:] == ("", 0)


@pytest.mark.parametrize("command", [[*MODULE, "--help"], [*TRAIN, "--help"], [*EXPLAIN, "arch=resnet20"]])
def test_result_that_stdout_does_not_take_is_an_error(command, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr == "error: [Errno 28] No space left on device\n"


def test_shell_completion_lists_the_architectures(tmp_path):
    done = run([*TRAIN, "-sc", "query=bash"], tmp_path, **COMPLETION)
    names = ("convnext", "convnext_b", "convnext_s", "convnext_t", "convnextv2_t")
    assert done.stdout.split() == [f"arch={name}" for name in names] and done.stderr == ""


@pytest.mark.parametrize("folder", [[], ["-cd", "recipes"], ["-cd", "recipes/"], ["--config-dir", "recipes"]])
def test_named_run_is_found_from_any_folder(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cli.train(["--help", *folder, "-cn", "convnext_cpu_minute"])
    assert "\n  data.holdout=0 " in capsys.readouterr().out
    cli.explain([*folder, "-cn", "convnext_cpu_minute"])
    assert "convnext" in capsys.readouterr().out


@pytest.mark.exhaustive
def test_named_run_trains_from_any_folder(tmp_path):
    quick = [
        "data=sample",
        "budget=1steps",
        "size=nano",
        "size.reduce=32",
        "logger=none",
        "logger.pictures=false",
        "hydra.run.dir=run",
    ]
    done = run([*MODULE, "train", "-cd", "recipes", "-cn", "convnext_cpu_minute", *quick], tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/result.json").read_text())
    assert record["status"] == "finished" and record["config"]["data"]["holdout"] == 0


def test_recipes_of_the_current_folder_come_before_the_packages(tmp_path, monkeypatch):
    arguments = ["-cd", "recipes", "-cn", "x"]
    monkeypatch.chdir(tmp_path)
    assert cli._with_package_recipes(arguments) == ["-cd", str(ROOT / "recipes"), "-cn", "x"]
    (tmp_path / "recipes").mkdir()
    assert cli._with_package_recipes(arguments) == arguments


# --- explain ------------------------------------------------------------------------------------------------------


def test_explain_prints_convnext_t_as_text_and_json(capsys):
    arguments = ["arch=convnext", "size=tiny", "--image-size", "224", "--num-classes", "1000"]
    cli.explain([*arguments, "--json"])
    summary = json.loads(capsys.readouterr().out)
    assert summary["params"] == 28_589_128 and [stage["grid"] for stage in summary["stages"]] == [56, 28, 14, 7]
    assert summary["stages"][0]["blocks"][0]["count"] == 3 and len(summary["applied"]) == 14
    cli.explain(arguments)
    text = capsys.readouterr().out
    assert "28,589,128" in text and "dw7 ln pw:4w gelu pw:w" in text and "Liu 2022" in text


def test_explain_measures_images_per_second(capsys):
    cli.explain(["arch=resnet20", "size=nano", "recipe.batch_size=16", "--measure", "--json"])
    measured = json.loads(capsys.readouterr().out)["measured"]
    assert 10 < measured["images_per_second"] < 1e7 and measured["peak_memory_bytes"] > 2**20
    assert measured["batch_size"] == 16


def test_explain_rejects_a_wrong_arch_in_one_line(tmp_path):
    done = run([*EXPLAIN, "arch=convnex"], tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: arch=convnex: no such file in conf/arch. Did you mean convnext?\n"


def test_options_may_stand_between_overrides():
    """Hydra's parser would answer with its usage."""
    typed = ["arch=resnet", "-m", "seed=0,1", "-cn", "sprint_cpu", "~recipe.batch.mixup"]
    assert cli._options_first(typed) == ["-m", "-cn", "sprint_cpu", "arch=resnet", "seed=0,1", "~recipe.batch.mixup"]
    assert cli._options_first(["seed=0", "-cn"]) == ["-cn", "seed=0"]
