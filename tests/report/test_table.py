"""The table of a report: figures by hand, order, and what rows differ in."""

import pytest
from report_records import record, write_run

from minuteloop.report.report import read_report
from minuteloop.report.table import table
from minuteloop.validation import ConfigError


def write(folder, arms, **changed):
    for arm, percents in arms.items():
        for seed, percent in enumerate(percents):
            write_run(folder / f"{arm}-{seed}-{len(changed)}", record([f"arch={arm}"], seed, percent / 100, **changed))
    return folder


def rows(folder, **options):
    found = table(read_report([folder], **options))
    return [dict(zip(found.table.columns, row, strict=True)) for row in found.table.rows]


def test_row_has_mean_interval_and_cost(tmp_path):
    write(tmp_path, {"a": [60, 61, 62]})
    other = {"steps": 900, "plan": {"steps": 900, "epochs": 2.25, "lr": 0.1, "strength": {"mixup": 0.0}}}
    write_run(
        tmp_path / "b", record(["arch=b"], 0, 0.7, macs=3e6, cost={"params": 10**6, "peak_memory_bytes": 1}, **other)
    )
    first, second = rows(tmp_path)
    # Student's t at 97.5 % with 2 degrees of freedom is 4.303; the standard error of 60, 61, 62 is 1 / sqrt(3)
    assert first["arm"] == "arch=a" and first["accuracy"] == f"61.00 % [{61 - 2.484:.2f}, {61 + 2.484:.2f}]"
    assert second["accuracy"] == "70.00 %" and (first["n"], second["n"]) == ("3", "1")
    figures = {key: first[key] for key in ("steps", "epochs", "strength", "train s", "images/s")}
    assert figures == {"steps": "1,000", "epochs": "2.50", "strength": "none", "train s": "60.0", "images/s": "500"}
    assert (second["strength"], first["lr"], second["lr"]) == ("off: mixup", "0.002", "0.1")
    assert (first["params, M"], first["MACs, M"], first["memory, MiB"]) == ("0.57", "12.0", "1,024")


def test_column_in_which_all_rows_agree_is_a_sentence(tmp_path):
    write(tmp_path, {"a": [60, 61], "b": [70]})
    found = table(read_report([tmp_path], sort="steps"))
    assert found.table.columns == ["arm", "accuracy", "n", "train s", "images/s"]
    assert found.table.rows[1] == ["arch=b", "70.00 %", "1", "60.0", "500"]
    assert found.table.values[1] == [None, pytest.approx(70), 1, 60, 500]
    figures = "steps 1,000; epochs 2.50; strength none; lr 0.002; params 0.57 M; MACs 12.0 M; memory 1,024 MiB"
    assert f"In all rows: {figures}." in found.sentences
    write(tmp_path / "one", {"a": [60]})
    assert "steps" in rows(tmp_path / "one")[0], "one row agrees with itself only"


def test_rows_are_sorted_by_a_column_the_largest_first(tmp_path):
    write(tmp_path, {"a": [60], "b": [9.5], "c": [70]})
    assert [row["arm"] for row in rows(tmp_path, sort="accuracy")] == ["arch=c", "arch=a", "arch=b"]
    assert [row["arm"] for row in rows(tmp_path, sort="arm")] == ["arch=a", "arch=b", "arch=c"]
    with pytest.raises(ConfigError, match=r"--sort acuracy: must be a column of the table\. Did you mean accuracy"):
        rows(tmp_path, sort="acuracy")


def test_other_machines_are_other_rows_that_say_so(tmp_path):
    write(tmp_path, {"a": [60, 61]})
    write(tmp_path, {"a": [70, 71]}, host={"gpu": "NVIDIA A100"})
    assert [(row["of"], row["n"], row["accuracy"][:5]) for row in rows(tmp_path)] == [
        ("AMD EPYC (family 26, model 2)", "2", "60.50"),
        ("NVIDIA A100", "2", "70.50"),
    ]


def test_rows_say_how_their_configs_differ(tmp_path):
    write(tmp_path, {"a": [60], "b": [61]})
    found = table(read_report([tmp_path]))
    assert found.table.hover == ["the config of the first arm", "arch.own=arch=b"]


def test_data_has_each_accuracy_with_its_seed(tmp_path):
    write(tmp_path, {"a": [60, 61, 62]})
    (arm,) = table(read_report([tmp_path])).data["arms"]
    assert (arm["seeds"], arm["n"], arm["images/s"], arm["MACs"]) == ([0, 1, 2], 3, 500, 12)
    assert arm["accuracy"] == pytest.approx([60, 61, 62])
    assert arm["interval"] == pytest.approx([61 - 2.484, 61 + 2.484], abs=1e-3)


def test_runs_of_several_commits_are_named(tmp_path):
    write(tmp_path, {"a": [60]})
    write(tmp_path, {"b": [61]}, code={"commit": "fedcba"})
    assert "The runs are of 2 commits." in table(read_report([tmp_path])).sentences
