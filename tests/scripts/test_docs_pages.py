"""The README and docs/: their generated parts are current, and what they name exists."""

import json
import re

import docs_pages
import pytest
import yaml
from documentation import PAGES, README, ROOT, TEXT
from pages.answers import answered, figures
from pages.ladder_figure import label
from pages.markdown_table import replace_between
from pages.measured import hardware
from pages.net_costs import ladder, resolve, roadmap
from pages.results_table import HEADER, results_table

from minuteloop.config.compose import CONF, compose
from minuteloop.config.instantiate import ingredient
from minuteloop.config.reference import GROUPS, config_keys, group_options, ingredient_keys
from minuteloop.records.record import config_hash
from minuteloop.report.report import read_report
from minuteloop.study.grid import compose_study

# --- generated parts --------------------------------------------------------------------------------------------

PUBLISHED = sorted({path.parent for path in (ROOT / "recipes").glob("*_cpu*/*.json")})
SLOW = pytest.mark.exhaustive
COSTLY = ("docs/architectures.md", "docs/steps.md", "docs/recipes.md")  # build every net or config


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=SLOW if name in COSTLY else ()) for name in docs_pages.PAGES if ".svg" not in name],
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


@pytest.mark.parametrize("folder", answered(ROOT / "recipes"), ids=lambda folder: folder.name)
def test_published_study_has_every_arm_and_seed_of_its_file_on_one_machine(folder):
    study, _ = compose_study(folder.name)
    report = read_report([folder])
    assert {key: report.study[key] for key in ("question", "arms")} == {"question": study.question, "arms": study.arms}
    budgets = [group.budget for group in report.groups]
    assert budgets == report.study["budgets"], "a second machine is a group of its own"
    assert set(budgets) <= set(study.budgets), "the longest may still be missing"
    for group in report.groups:
        assert [arm.label for arm in group.arms] == list(study.arms)
        assert all([run.seed for run in arm.runs] == study.seeds for arm in group.arms)
    assert len({run.record["code"]["hash"] for arm in report.arms for run in arm.runs}) == 1
    for file in figures(folder):
        assert file.exists(), "run python scripts/docs_pages.py"


def test_results_table_has_mean_and_std_over_seeds(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for seed, accuracy in enumerate((0.5, 0.6, 0.7)):
        record = {
            "status": "finished",
            "seed": seed,
            "date": f"2026-11-2{seed}T10:00:00+00:00",
            "config": {"seed": seed, "device": "cpu", "threads": 2, "precision": "bf16"},
            "versions": {"torch": "2.14.1", "timm": "1.0.31"},
            "code": {"commit": "abcdef0123", "dirty": False},
            "host": {"cpu": "Z80"},
            "plan": {
                "steps": 1000 + seed,
                "epochs": 3.0,
                "strength": {"mixup": 0.0, "label_smoothing": 0.3 + seed / 10},
            },
            "metrics": {"test/acc": accuracy, "test/acc_tta": accuracy + 0.1},
            "seconds": {"train": 60.0},
            "cost": {"images_per_second": 1234.4, "params": 10_000, "macs": 2_500_000},
        }
        (folder / f"{seed}.json").write_text(json.dumps(record))
    table = results_table(tmp_path)
    figures = "60.00 ± 10.00 % | 70.00 ± 10.00 % | 3 | 1,000 to 1,002 | 3.0"
    figures += " | off: mixup; label_smoothing at 30 to 50% | 60.0 s | 1,234 | 10,000 |"
    machine = "Z80, cpu, 2 threads, bf16, torch 2.14.1, timm 1.0.31 | 2026-11-22, abcdef0"
    assert f"{figures} 2.5M | {machine} | `python train.py -cn mine seed=0` |" in table
    assert table.startswith(f"| {' | '.join(HEADER)} |") and "\n\nNot measured on a GPU yet." in table
    (folder / "3.json").write_text((folder / "2.json").read_text())
    with pytest.raises(ValueError, match="two records of one seed"):
        results_table(tmp_path)
    other = json.loads((folder / "2.json").read_text()) | {"seed": 3, "config": {"seed": 3, "budget": "10min"}}
    (folder / "3.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="different config"):
        results_table(tmp_path)


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_published_records_are_of_the_config_beside_them(folder):
    """Every key of every record: config_hash leaves out the logger, the name and folders only."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    assert len(records) >= 5 and {record["status"] for record in records} == {"finished"}
    for record in records:
        assert record["config_hash"] == config_hash(compose([f"seed={record['seed']}"], folder.name))
        assert record["steps"] == record["plan"]["steps"] and not record["code"]["dirty"]


def test_rows_of_one_table_are_of_one_machine():
    rows = [{"host": {"threads": threads, "cpu": "Z80"}} for threads in (2, 2, 1)]
    assert hardware(rows[:2]) == "2 threads of Z80"
    with pytest.raises(ValueError, match="different hardware: 1 threads of Z80, 2 threads of Z80"):
        hardware(rows)


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
        assert re.search("GROUP|NAME", path) or (ROOT / path).exists(), path


def test_every_key_in_the_text_exists():
    known = {*GROUPS, *(key.name for key in config_keys(compose()))}
    for name in group_options(CONF, "ingredient"):
        text = (CONF / f"ingredient/{name}.yaml").read_text()
        where = text.split()[2]
        known |= {where, *(key.name for key in ingredient_keys(ingredient(yaml.safe_load(text), name), where))}
    known |= {key.rpartition(".")[0] for key in known} | {"recipe.loss", "recipe.regularizers", "recipe.callbacks"}
    words = {word for code in re.findall(r"`([^`\n]+)`", TEXT) for word in code.split()}
    keys = {word.partition("=")[0].strip("'~") for word in words if re.fullmatch(r"'?~?[a-z_.0-9]+=[^=]*", word)}
    keys |= {
        word.strip("'~") for word in words if re.fullmatch(r"'?~?(recipe|arch|data|logger|size)\.[a-z_.]+'?", word)
    }
    step_keys = {key for key in keys if re.match(r"(block|stem|stages|head|early)\.", key)}  # of docs/steps.md
    foreign = {"dataset", "devices", "ingredients", "net", "plan", "strategy", "ckpt_path"}
    foreign |= {"accumulate_grad_batches", "save_weights_only", "strength"}
    foreign |= {
        "scale",
        "kernel_size",
        "groups",
        "eps",
        "padding",
        "config_dir",
        "hydra.sweeper.cells_per_task",
        "epochs",
        "recipe.batch.mixup.alpa",
    }
    assert len(keys) > 80
    unknown = keys - known - step_keys - foreign
    assert not unknown, unknown


def test_grammar_page_shows_the_programs_of_its_knobs():
    page = PAGES[ROOT / "docs/grammar.md"]
    rows = re.findall(r"^\| `.*? \| `?([\w-]+)`? \| `(.* .*)` \|$", page.split("Token by token")[0], re.MULTILINE)
    assert len(rows) == 9 and rows[0][0] == "ResNet-50"
    steps = []
    for step, program in rows:
        steps += [] if step == "ResNet-50" else [step]
        assert step == "ResNet-50" or step in roadmap()
        config = compose(["arch=resnet", "size=tiny", f"modernization=[{','.join(steps)}]"], image_size=224)
        stage = resolve(config.arch, config.size, 224, 1000).stages[0]
        assert stage.blocks[1].text(stage.width).startswith(f"{program} + x"), step
