"""The README and docs/: generated parts are current, what they name exists, and every command and code block runs."""

import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import minuteloop
from minuteloop.config.compose import CONF, compose
from minuteloop.config.instantiate import ingredient
from minuteloop.config.reference import GROUPS, config_keys, group_options, ingredient_keys

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts"))

import bench  # noqa: E402
import docs_pages  # noqa: E402
from ladder_figure import label  # noqa: E402
from markdown_table import replace_between  # noqa: E402
from net_costs import ladder  # noqa: E402
from results_table import HEADER, results_table  # noqa: E402

PAGES = {file: file.read_text() for file in (ROOT / "README.md", ROOT / "AGENTS.md", *sorted(ROOT.glob("docs/*.md")))}
README = PAGES[ROOT / "README.md"]
TEXT = "\n".join(PAGES.values())
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


# --- generated parts --------------------------------------------------------------------------------------------

SLOW = pytest.mark.exhaustive


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=SLOW if "architectures" in name else ())
        for name in docs_pages.PAGES
        if ".svg" not in name
    ],
)
def test_generated_page_is_current(name):
    assert (ROOT / name).read_text() == docs_pages.PAGES[name](), "run python scripts/docs_pages.py"


def test_ladder_figure_prints_the_cost_of_every_rung():
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", (ROOT / "docs/ladder.svg").read_text())
    params, macs = zip(*(label(cost) for _, cost in ladder()), strict=True)
    for column in (params, macs):
        start = texts.index(column[0])
        assert tuple(texts[start : start + len(column)]) == column
    assert params[0] == "25.6M" and params[-1] == "28.6M" and texts.count("+ gelu") == 1


def test_reference_pages_list_every_group_file_and_every_key():
    config = PAGES[ROOT / "docs/config.md"]
    for group in GROUPS:
        for name in group_options(CONF, group):
            assert f"`{name}`" in config, f"{group}/{name}"
    keys = [key for key in config_keys(compose(["recipe=plain"])) if key.name.count(".") < 3]
    assert len(keys) > 60
    for key in keys:
        page = "ingredients" if re.match(r"recipe\.(optimizer|schedule)\.", key.name) else "config"
        assert f"`{key.name}`" in PAGES[ROOT / f"docs/{page}.md"] and key.help, key.name


def test_results_table_has_mean_and_std_over_seeds(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for seed, accuracy in enumerate((0.5, 0.6, 0.7)):
        record = {
            "status": "finished",
            "seed": seed,
            "config": {"seed": seed},
            "code": {"commit": "abcdef0123", "dirty": False},
            "host": {"cpu": "Z80", "threads": 2},
            "plan": {"steps": 1000 + seed, "epochs": 3.0, "strength": 0.0},
            "metrics": {"test/acc": accuracy, "test/acc_tta": accuracy + 0.1},
            "seconds": {"train": 60.0},
            "cost": {"images_per_second": 1234.4, "params": 10_000, "macs": 2_500_000},
        }
        (folder / f"{seed}.json").write_text(json.dumps(record))
    table = results_table(tmp_path)
    figures = "60.00 ± 10.00 % | 70.00 ± 10.00 % | 3 | 1,000 to 1,002 | 3.0 | 0 | 60.0 s | 1,234 | 10,000 | 2.5M |"
    assert f"{figures} Z80, 2 cores | `python train.py -cn mine seed=0` |" in table
    assert table.startswith(f"| {' | '.join(HEADER)} |") and "commit abcdef0. Not measured on a GPU yet." in table
    (folder / "3.json").write_text((folder / "2.json").read_text())
    with pytest.raises(ValueError, match="two records of one seed"):
        results_table(tmp_path)
    other = json.loads((folder / "2.json").read_text()) | {"seed": 3, "config": {"seed": 3, "budget": "10min"}}
    (folder / "3.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="different config"):
        results_table(tmp_path)


def test_replace_between_keeps_the_rest_of_a_page():
    begin, end = "<!-- x: generated by scripts/docs_pages.py -->", "<!-- end of x -->"
    text = replace_between(f"a\n{begin}\nold\n{end}\nb\n", "x", "new")
    assert "old" not in text and "new" in text and text.startswith(f"a\n{begin}\n") and text.endswith(f"{end}\nb\n")
    assert replace_between(text, "x", "new") == text
    with pytest.raises(ValueError, match="no markers"):
        replace_between("a", "x", "new")


# --- what the pages name ----------------------------------------------------------------------------------------


def test_readme_is_short_and_counts_what_there_is():
    assert len(README.splitlines()) <= 120
    archs = [name for name in group_options(CONF, "arch") if name != "timm"]
    nets = [name for name in archs if "name:" in (CONF / f"arch/{name}.yaml").read_text()]  # the others are aliases
    counts = {"architectures": len(nets)}
    counts |= {f"{name}s": len(group_options(CONF, name)) for name in ("recipe", "ingredient")}
    counts["steps"] = len(group_options(CONF, "modernization"))
    for noun, count in counts.items():
        assert re.search(rf"\b{count}\s+{noun}\b", README), (count, noun)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", PAGES[page])
    for link in links:
        assert (page.parent / link).exists(), link
    paths = re.findall(r"`((?:src|scripts|tests|conf|recipes|docs)/[\w./-]+\.\w+)`", PAGES[page])
    for path in paths:
        assert (ROOT / path).exists(), path


def test_every_key_in_the_text_exists(user_folder):
    known = {*GROUPS, *(key.name for key in config_keys(compose()))}
    for name in group_options(CONF, "ingredient"):
        text = (CONF / f"ingredient/{name}.yaml").read_text()
        where = text.split()[2]
        known |= {where, *(key.name for key in ingredient_keys(ingredient(OmegaConf.create(text), name), where))}
    known |= {"recipe.optimizer", "recipe.schedule", "recipe.loss", "recipe.regularizers", "recipe.callbacks"}
    words = {word for code in re.findall(r"`([^`\n]+)`", TEXT) for word in code.split()}
    keys = {word.partition("=")[0].strip("'~") for word in words if re.fullmatch(r"'?~?[a-z_.0-9]+=[^=]*", word)}
    keys |= {
        word.strip("'~") for word in words if re.fullmatch(r"'?~?(recipe|arch|data|logger|size)\.[a-z_.]+'?", word)
    }
    step_keys = {key for key in keys if re.match(r"(block|stem|stages|head|early)\.", key)}  # of docs/steps.md
    foreign = {"scale", "kernel_size", "groups", "eps", "padding", "config_dir", "epochs", "recipe.batch.mixup.alpa"}
    assert len(keys) > 80
    unknown = keys - known - step_keys - foreign - {word.split("=")[0] for word in CHEAP}
    assert not unknown, unknown


# --- commands ---------------------------------------------------------------------------------------------------


def test_every_command_is_run_by_a_test():
    tested = {*TRAIN, *EXPLAIN, *BENCH, *FEATURES, *DOCS}
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
    for cell in itertools.islice(itertools.product(*values), 4):
        compose(list(cell), config_name=options.get("-cn", "config"), config_dir=options.get("-cd", ""))


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
    script = str(ROOT / words[1])
    done = subprocess.run([sys.executable, script, *words[2:]], capture_output=True, text=True)
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
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_trainer_example_trains_with_one_batch_size(tmp_path):
    (code,) = CODE[ROOT / "README.md"]
    code += """
assert parts.data.batch_size == plan.batch_size == parts.config.recipe.batch_size == 128
assert trainer.global_step == plan.steps == 2 * (1600 // 128)
assert module.pipeline is parts.data.pipeline
assert not hasattr(module.net, "_compiled_call_impl") or module.net._compiled_call_impl is None
print(trainer.callback_metrics["test/acc"].item())
"""
    out = execute(code, tmp_path)
    assert "test/acc" in out and float(out.split()[-1]) > 0.12


@pytest.mark.exhaustive
def test_python_of_docs_runs(tmp_path):
    pages = {page.name: blocks for page, blocks in CODE.items() if blocks and page.name != "README.md"}
    outs = {name: execute("\n".join(blocks), tmp_path) for name, blocks in pages.items()}
    assert outs.keys() == {"after_training.md", "grammar.md"}
    assert "finished" in outs["after_training.md"]
    assert (
        outs["grammar.md"].startswith("dw7 ln pw:4w gelu pw:w scale=1e-06 + x") and "LayerScale" in outs["grammar.md"]
    )


def test_grammar_page_shows_the_programs_of_its_knobs():
    from net_costs import resolve, roadmap

    page = PAGES[ROOT / "docs/grammar.md"]
    rows = re.findall(r"^\| .*? \| `?([\w-]+)`? \| `(.*)` \|$", page, re.MULTILINE)
    assert len(rows) == 9 and rows[0][0] == "ResNet-50"
    steps = []
    for step, program in rows:
        steps += [] if step == "ResNet-50" else [step]
        assert step == "ResNet-50" or step in roadmap()
        config = compose(["arch=resnet", "size=tiny", f"modernization=[{','.join(steps)}]"], image_size=224)
        stage = resolve(config.arch, config.size, 224, 1000).stages[0]
        assert stage.blocks[1].text(stage.width).startswith(f"{program} + x"), step
