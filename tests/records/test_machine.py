"""What keeps results of different machines apart, and how it is named."""

from minuteloop.records.environment import describe_host, versions
from minuteloop.records.machine import differing, machine_of, machine_words

CPU = {"cpu": "AMD EPYC (family 25, model 1)", "threads": 2, "name": "host", "memory": 1}
CONFIG = {"device": "cpu", "threads": 2, "precision": "bf16"}
HERE = machine_of({"host": CPU, "config": CONFIG, "versions": {"torch": "2.14.1", "timm": "1.0.31", "numpy": "2"}})


def test_machine_is_hardware_device_threads_precision_and_the_versions_that_change_results():
    assert machine_words(HERE) == "AMD EPYC (family 25, model 1), cpu, 2 threads, bf16, torch 2.14.1, timm 1.0.31"
    assert machine_words(HERE | {"threads": 1}, ["threads"]) == "1 thread"


def test_machine_with_a_gpu_is_the_gpu():
    there = machine_of({"host": CPU | {"gpu": "NVIDIA A100"}, "config": CONFIG | {"device": "cuda"}, "versions": {}})
    assert there["hardware"] == "NVIDIA A100"
    assert differing([there, HERE]) == ["hardware", "torch", "timm"], "the hardware says the device"
    assert machine_words(there, differing([there, HERE])) == "NVIDIA A100"


def test_record_that_names_no_machine_is_of_an_unknown_one():
    assert machine_words(machine_of({"host": {}})) == "an unknown machine"


def test_every_part_is_in_todays_records():
    record = {"host": describe_host("cpu"), "config": CONFIG, "versions": versions()}
    assert None not in machine_of(record).values()
