"""The hash of the code that made a run, and records found by their config."""

import json
import os

from own_ingredient import write_ingredient

from minuteloop import compose
from minuteloop.records import environment
from minuteloop.records.environment import describe_code, describe_host, versions
from minuteloop.records.record import config_hash, find_records

OPTIONS = ["data=sample", "recipe=plain"]


def test_code_hash_includes_the_users_files(tmp_path):
    file = write_ingredient(tmp_path, "hashed")

    def hash_of(*overrides: str) -> str:
        return describe_code(compose([*OPTIONS, *overrides], config_dir=str(tmp_path)).recipe)["hash"]

    before = hash_of("ingredient=[same]")
    assert before == hash_of("ingredient=[same]") != hash_of()
    file.write_text(file.read_text() + "\n# changed\n")
    assert hash_of("ingredient=[same]") != before


def test_records_are_found_by_config_newest_first(tmp_path):
    wanted = config_hash(compose(OPTIONS))
    for age, (name, hashed) in enumerate([("a", wanted), ("b", wanted), ("c", "other")]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps({"config_hash": hashed}))
        os.utime(tmp_path / name / "result.json", (1000 + age, 1000 + age))
    (tmp_path / "d").mkdir()
    (tmp_path / "d/result.json").write_text("{half")
    records = find_records([tmp_path], wanted)
    assert [folder.name for folder, _ in records] == ["b", "a"]


def test_host_and_versions_are_described():
    host = describe_host("cpu")
    assert host["cores"] == os.cpu_count() and host["cpu"] and host["memory"] > 2**28 and "gpu" not in host
    assert versions()["torch"] and versions()["python"].startswith("3.")


def test_code_hash_is_of_the_files_that_a_run_depends_on(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "PACKAGE", tmp_path)
    monkeypatch.setattr(environment, "CHECKOUT", tmp_path)
    monkeypatch.setattr(environment, "_package", environment._package.__wrapped__)  # without its cache

    def hash_after(path: str) -> str:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(path)
        return describe_code(compose(OPTIONS).recipe)["hash"]

    first = hash_after("nets/net.py")
    around = [hash_after(path) for path in ("report/table.py", "study/cell.py", "trained/load.py", "cli.py")]
    assert set(around) == {first} and hash_after("nets/block.py") != first
