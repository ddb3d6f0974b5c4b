"""Which run `resume` continues, and which folders it rejects. That it is bit-exact: test_checkpoint.py."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from command_line import TRAIN, run_script
from small_run import OPTIONS, assert_same_run, read, stop

import minuteloop
from minuteloop import compose
from minuteloop.records import environment, record
from minuteloop.training import resume
from minuteloop.validation import ConfigError


def train(*words: str) -> None:
    """Run train.py in the current folder."""
    done = run_script(TRAIN, *words)
    assert done.returncode == 0, done.stderr


def test_command_line_resumes_in_the_old_folder_and_leaves_no_new_one(cwd, reference, monkeypatch):
    stop(monkeypatch)
    train(*OPTIONS, "resume=true")
    (folder,) = cwd.glob("runs/*/*")
    assert read(folder)["attempts"] == 2 and read(folder)["overrides"] == OPTIONS, "as typed for the first attempt"
    assert_same_run(folder, reference.folder)


@pytest.mark.exhaustive
def test_multirun_resumes_its_unfinished_cells(cwd, reference, monkeypatch):
    stop(monkeypatch, "hydra.run.dir=runs/first/cell-0")
    train("-m", *OPTIONS, "resume=true")
    cell = cwd / "runs/first/cell-0"
    assert [path.parent for path in cwd.glob("runs/*/*/result.json")] == [cell]
    assert not [*cwd.glob("runs/*/resnet*")]
    (sweep,) = (path.parent for path in cwd.glob("runs/*/report.md"))
    for name in ("config.yaml", "result.json"):  # a cell is logged in the group of its sweep
        text = (cell / name).read_text()
        assert sweep.name in text
        (cell / name).write_text(text.replace(f'"{sweep.name}"', "null").replace(sweep.name, "null"))
    assert_same_run(cell, reference.folder)


def write_record(folder: Path, seed: int, status: str, age: float) -> Path:
    """Write the minimal record of a run of OPTIONS that is `age` seconds old."""
    folder.mkdir(parents=True)
    config_hash = record.config_hash(compose([*OPTIONS, f"seed={seed}"]))
    (folder / "result.json").write_text(json.dumps({"schema": 1, "config_hash": config_hash, "status": status}))
    os.utime(folder / "result.json", (time.time() - age,) * 2)
    return folder


def test_resume_true_takes_the_newest_unfinished_run_of_the_same_config(cwd):
    runs = cwd / "runs/mine"
    older, newer = write_record(runs / "a", 0, "interrupted", 30), write_record(runs / "b", 0, "failed", 20)
    write_record(runs / "c", 0, "finished", 10)
    write_record(runs / "d", 0, "overrun", 5)
    write_record(runs / "e", 1, "failed", 0)
    (runs / "f").mkdir()
    (runs / "f/result.json").write_text("not json")
    asked, default = compose([*OPTIONS, "resume=true"]), runs / "new"
    records = record.find_records([runs], record.config_hash(asked))
    assert [folder.name for folder, _ in records] == ["d", "c", "b", "a"]
    assert resume.folder_for(asked, default) == newer
    with resume.locked(newer):  # by a process that still trains
        assert resume.folder_for(asked, default) == older
        with pytest.raises(ConfigError, match="another process"):
            minuteloop.run([*OPTIONS, f"resume={newer}"])
    assert resume.folder_for(compose([*OPTIONS, "seed=2", "resume=true"]), default) == default
    assert resume.folder_for(compose(OPTIONS), default) == default


def test_resume_true_starts_a_run_where_none_is_unfinished(cwd):
    content = minuteloop.run([*OPTIONS, "budget=2steps", "resume=true"])
    (log,) = cwd.glob("runs/*/*/log.txt")
    assert content["attempts"] == 1 and "no unfinished run of this config; starting one in" in log.read_text()


def test_folder_that_cannot_be_resumed_is_rejected_in_one_line(cwd, reference, monkeypatch):
    (cwd / "bad").mkdir()
    (cwd / "bad/result.json").write_text("{")
    stop(monkeypatch, "hydra.run.dir=mine", step=2)
    messages = {
        ("resume=nowhere",): "resume=nowhere: no such folder; must be true, false or the folder of a run",
        (f"resume={reference.folder.parent}",): "has no result.json of a run (No such file",
        ("resume=bad",): "resume=bad: result.json is not valid JSON",
        (f"resume={reference.folder}",): "this run is finished; there is nothing to resume",
        ("resume=mine", "seed=7"): "resume=mine: started with a different config (seed was 0, now 7)",
        ("resume=true", "hydra.run.dir=mine", "recipe.lr=1e-3"): "(recipe.lr was auto, now 0.001)",
        ("hydra.run.dir=mine",): "hydra.run.dir=mine: holds the record of another run; add resume=true to continue it",
        ("resume=",): "resume=: must be true, false or the folder of a run",
        ("resume=3",): "resume=3: must be true, false or the folder of a run",
    }
    for overrides, message in messages.items():
        with pytest.raises(ConfigError, match=re.escape(message)) as error:
            minuteloop.run([*OPTIONS, *overrides])
        assert "\n" not in str(error.value)
    assert sorted(file.name for file in cwd.iterdir()) == ["bad", "mine"]


def test_damaged_checkpoint_is_refused_before_anything_is_written(cwd, reference, monkeypatch):
    stop(monkeypatch, "hydra.run.dir=mine", step=2)
    checkpoint, before = cwd / "mine/last.ckpt", read(cwd / "mine")
    content, middle = bytearray(checkpoint.read_bytes()), checkpoint.stat().st_size // 2
    content[middle] ^= 1
    for damaged in (content, content[:middle], b"garbage", b""):
        checkpoint.write_bytes(damaged)
        with pytest.raises(ConfigError) as error:
            minuteloop.run([*OPTIONS, "resume=mine"])
        line = "mine/last.ckpt: damaged (its SHA-256 does not match); delete it to start the run again"
        assert str(error.value) == line and read(cwd / "mine") == before
    checkpoint.unlink()
    assert minuteloop.run([*OPTIONS, "resume=mine"])["attempts"] == 2
    assert_same_run(cwd / "mine", reference.folder)


def test_record_names_the_code_of_both_attempts(cwd, monkeypatch):
    stop(monkeypatch, "hydra.run.dir=mine", step=2)
    before = read(cwd / "mine")["code"]["hash"]
    code = {"version": "9", "hash": "new", "commit": None, "dirty": None}
    monkeypatch.setattr(environment, "describe_code", lambda recipe: code)
    assert minuteloop.run([*OPTIONS, "resume=mine"])["code"]["hash"] == f"{before}+new"
    assert code["hash"] == "new", "the next run has its own"
    assert "attempt 2; the code has changed since" in (cwd / "mine/log.txt").read_text()
