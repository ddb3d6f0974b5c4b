"""The command `minuteloop report`: what it prints and writes, and its errors in one line."""

import json
import sys

import pytest
from offline_wandb import wandb_records
from report_records import write_study

from minuteloop import cli
from minuteloop.report import command
from minuteloop.report.command import run, summarize
from minuteloop.study.cell import Cell

ARMS = {
    "none": {"overrides": [], "accuracies": [60.0, 60.2, 60.4]},
    "+gelu": {"overrides": ["modernization=[gelu]"], "accuracies": [62.0, 62.3, 62.6]},
}


def report(*words):
    return run([str(word) for word in words], "minuteloop report", "Answer.")


@pytest.fixture
def sweep(tmp_path):
    write_study(tmp_path / "s", ARMS, seeds=[0, 1, 2], budgets=["60s"])
    return tmp_path / "s"


def test_report_answers_all_that_runs_can_answer_and_one_view_alone(sweep):
    text = report(sweep)
    machine = "AMD EPYC (family 26, model 2), cpu, 2 threads, fp32, torch 2.14.1, timm 1.0.31"
    facts = f"6 runs of 60s; {machine}; 2026-11-28 to 2026-11-29; commit 0123456"
    assert text.startswith(f"# What does each step give?\n\n{facts}\n\n## Arms\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        *("## Arms", "## Against the baseline", "## Ladder")
    ]
    assert report("compare", sweep).count("## ") == 1


def test_words_that_all_runs_were_typed_with_are_named(tmp_path):
    arms = {name: {"overrides": ["size=nano", name], "accuracies": [60.0]} for name in ("recipe.lr=1", "recipe.lr=2")}
    write_study(tmp_path / "s", arms)
    (tmp_path / "s/study.json").unlink()
    assert report(tmp_path / "s").startswith("2 runs of 60s; all with size=nano; AMD EPYC")


def test_sweep_ends_with_its_report_and_figures(sweep, monkeypatch, caplog):
    text = summarize(sweep)
    assert text == report(sweep) and (sweep / "report.md").read_text() == f"{text}\n"
    names = ("ladder.png", "ladder.svg", "table.png", "table.svg")
    assert sorted(path.name for path in (sweep / "figures").iterdir()) == [*names]
    monkeypatch.setattr(command, "write_figure", lambda *_: 1 / 0)
    assert summarize(sweep) == text and "a figure was not drawn: ZeroDivisionError" in caplog.text


def test_sweep_of_which_no_cell_has_finished_ends_with_the_reasons(tmp_path):
    for seed in (0, 1):
        Cell(seed, [f"seed={seed}"], tmp_path / f"a-{seed}", "not run").save(tmp_path)
    assert summarize(tmp_path) == f"{tmp_path}: no run has finished; Left out, not run: seed=0, seed=1"
    assert not (tmp_path / "report.md").exists()


def test_json_is_read_by_a_program_that_decides(sweep):
    found = json.loads(report(sweep, "--json"))
    keep = [e["arm"] for e in found["compare"]["effects"] if e["interval"] and e["interval"][0] > 0]
    assert keep == ["+gelu"] and found["table"]["metric"] == "val/acc"


def test_report_is_the_same_for_every_reader(sweep):
    assert report(sweep, "--json") == report(sweep, "--json")


def test_records_are_written_to_one_file_that_gives_the_same_report(sweep, tmp_path):
    report(sweep, "--records", tmp_path / "out/records.jsonl")
    assert report(tmp_path / "out", "--json") == report(sweep, "--json")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["records.jsonl", "study.json"]


def test_figures_are_written_as_svg_and_png(sweep, tmp_path):
    report("ladder", sweep, "--figures", tmp_path / "figures")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["ladder.png", "ladder.svg"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["transfer", "{sweep}"], "transfer: these runs cannot answer it"),
        (["{sweep}", "--resolve", "0"], "--resolve 0: must be > 0"),
        (["{sweep}", "--records", "r.json"], "--records r.json: must end in .jsonl"),
        (["{sweep}", "--baseline", "gelu"], "--baseline gelu: no arm of this name. Did you mean +gelu?"),
        (["{sweep}", "--where", "budget=15s"], "--where budget=15s: no run has it (budget is 60s)"),
    ],
)
def test_users_mistake_is_one_line_with_exit_code_2(words, message, sweep, capsys, monkeypatch):
    words = [word.format(sweep=sweep) for word in words]
    monkeypatch.setattr(sys, "argv", ["minuteloop", "report", *words])
    with pytest.raises(SystemExit) as error:
        cli.main()
    printed = capsys.readouterr()
    assert error.value.code == 2 and printed.err.startswith(f"error: {message}") and printed.err.count("\n") == 1
    assert printed.out == ""


def test_report_is_one_wandb_run_in_the_group_of_its_study(sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    report("compare", sweep, "--wandb")
    assert capsys.readouterr().err.startswith("W&B: wandb sync ")
    records = wandb_records(tmp_path / "runs")
    (run,) = records["run"]
    assert (run["run_group"], run["job_type"], run["display_name"]) == ("s", "report", "report-s")
    (logged,) = (entry["item"] for entry in records["history"])
    table = {key: logged[f"report/compare.{key}"] for key in ("_type", "nrows", "ncols")}
    assert table == {"_type": "table-file", "nrows": 1, "ncols": 4}
