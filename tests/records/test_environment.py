"""The hash of the code that made a run, and records found by their config."""

import json
import os

from own_ingredient import write_ingredient

from minuteloop import compose
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
