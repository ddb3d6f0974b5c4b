"""Runs are found in folders and files, each once, and only those that have finished."""

import json

import pytest
from written_runs import a_record, write_records, write_run

from minuteloop.report.runs import copy_without_folder, load_runs, studies_of, where
from minuteloop.study.cell import Cell
from minuteloop.validation import ConfigError


def test_runs_are_found_in_folders_sweeps_and_files_each_once(tmp_path):
    single = write_run(tmp_path / "runs/convnext-deit/one", ["size=nano"], seed=0)
    sweep = tmp_path / "runs/sweep"
    cell = write_run(sweep / "convnext-deit-0", ["size=tiny"], seed=1)
    Cell(0, ["size=tiny", "seed=1"], cell).save(sweep)
    lines = write_records(tmp_path / "records.jsonl", [a_record(["size=b1"], seed=seed) for seed in (2, 3)])
    for paths in ([tmp_path / "runs/convnext-deit", sweep, lines], [single, tmp_path / "runs", single, cell, lines]):
        runs, notes = load_runs(paths)
        # runs/ holds the sweep; the folder of single runs is one level too deep for it
        assert sorted(run.seed for run in runs) == [0, 1, 2, 3] and notes == []
    by_seed = {run.seed: run for run in runs}
    assert by_seed[1].overrides == ["size=tiny", "seed=1"] and by_seed[2].overrides == ["size=b1", "seed=2"]


def test_runs_that_have_not_finished_are_left_out_and_named(tmp_path):
    statuses = ["finished", *["overrun"] * 5, "failed"]
    records = [a_record(["size=b1"], seed=seed, status=status, error=None) for seed, status in enumerate(statuses)]
    records[-1]["error"] = "ValueError: a"
    records.append(a_record(["size=b2"], status="failed", error="the process was killed"))
    runs, notes = load_runs([write_records(tmp_path / "records.jsonl", records)])
    assert len(runs) == 1
    assert notes == [
        "Left out, overrun: size=b1 seed=1, size=b1 seed=2, size=b1 seed=3 and 2 more",
        "Left out, failed: ValueError: a: size=b1 seed=6",
        "Left out, failed: killed, or still running: size=b2 seed=0",
    ]


def test_cells_without_a_record_and_cells_that_were_run_again_are_named(tmp_path):
    sweep = tmp_path / "sweep"
    Cell(0, ["a=1", "logger=none", "seed=0"], write_run(sweep / "a-0"), again="the code has changed since").save(sweep)
    Cell(1, ["a=1", "seed=1"], sweep / "a-1", "killed").save(sweep)
    for seed in (2, 3):
        Cell(seed, ["a=1", f"seed={seed}"], sweep / f"a-{seed}", "not run").save(sweep)
    notes = [
        "Left out, failed: killed: a=1 seed=1",
        "Left out, not run: a=1 seed=2, a=1 seed=3",
        "Run again, the code has changed since: a=1 seed=0",
    ]
    assert load_runs([sweep])[1] == notes
    study = {"name": "s", "question": "?", "baseline": "one", "arms": {"one": ["a=1"]}, "kind": "arms", "key": None}
    (sweep / "study.json").write_text(json.dumps(study | {"seeds": [0], "budgets": ["1s"]}))
    assert load_runs([tmp_path])[1] == [note.replace("a=1", "one") for note in notes]
    (sweep / "a-0/result.json").unlink()
    with pytest.raises(
        ConfigError, match="no run has finished; Left out, failed: its record is gone: one seed=0; Left out, "
    ):
        load_runs([sweep])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "records.jsonl: no such file or folder"),
        ("", "records.jsonl: holds no record of a run"),
        ("{}\n", "records.jsonl:1: is no record of schema 1"),
        ("[1]\n", "records.jsonl:1: is no record of schema 1"),
        ("no\n", "records.jsonl:1: is not JSON"),
        (json.dumps(a_record(status="failed")), "records.jsonl: no run has finished"),
    ],
)
def test_paths_without_a_finished_run_are_an_error(tmp_path, content, message):
    path = tmp_path / "records.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as error:
        load_runs([path])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_conditions_choose_runs_by_their_config_as_asked(tmp_path):
    path = write_records(tmp_path / "r.jsonl", [a_record(budget=budget, seed=1) for budget in ("15s", "60s")])
    runs, _ = load_runs([path])
    assert [run.budget for run in where(runs, ["budget=60s", "recipe.lr=auto"])] == ["60s"]
    for condition, message in (
        ("budget", "--where budget: must be KEY=VALUE"),
        ("bugdet=60s", "--where bugdet=60s: no run has a key bugdet"),
        ("budget=10s", "--where budget=10s: no run has it (budget is 15s, 60s)"),
    ):
        with pytest.raises(ConfigError) as error:
            where(runs, [condition])
        assert message in str(error.value)


def test_study_of_a_sweep_is_read_from_its_folder_or_the_one_above_it(tmp_path):
    write_run(tmp_path / "runs/sweep/convnext-deit-0")
    (tmp_path / "runs/sweep/study.json").write_text('{"name": "stems"}')
    assert studies_of([tmp_path / "runs/sweep"]) == studies_of([tmp_path / "runs"]) == [{"name": "stems"}]
    assert studies_of([tmp_path / "runs/sweep/convnext-deit-0"]) == []


def test_copied_record_needs_no_folder(tmp_path):
    sweep = tmp_path / "sweep"
    cell = write_run(sweep / "convnext-deit-0", config__data__root="/home/me/cifar")
    Cell(0, ["size=tiny", "seed=1"], cell).save(sweep)
    (run,), _ = load_runs([sweep])
    path = write_records(tmp_path / "r.jsonl", [copy_without_folder(run)])
    (copied,), _ = load_runs([path])
    assert copied.overrides == ["size=tiny", "seed=1"] and copied.asked["data.root"] == "auto"
    assert copied.record["metrics"] == run.record["metrics"]
