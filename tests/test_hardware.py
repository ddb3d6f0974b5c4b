"""The machine: its name, the cores that a process may use, and what auto means on it."""

import pytest

from minuteloop import hardware
from minuteloop.records import environment


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\nflags\t: fpu sse", "AMD EPYC (family 26, model 2)"),
        ("CPU implementer\t: 0x41\nmodel name\t: Cortex-A76", "Cortex-A76"),
    ],
)
def test_processor_name_has_family_and_model_where_there_are_some(tmp_path, monkeypatch, cpuinfo, name):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "cpuinfo")
    assert environment.describe_host("cpu")["cpu"] == name
    assert not hardware.has_fast_bf16("cpu")


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_bf16_is_fast_on_a_cpu_with_its_flag(tmp_path, monkeypatch, flag):
    (tmp_path / "cpuinfo").write_text(f"flags\t: fpu {flag} sse")
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "cpuinfo")
    assert hardware.has_fast_bf16("cpu")


V2, V1_QUOTA, V1_PERIOD = "cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({V2: "200000 100000\n"}, 2),
        ({V2: "150000 100000\n"}, 2),  # one and a half: two threads, of which one waits at times
        ({V2: "50000 100000\n"}, 1),
        ({V2: "6400000 100000\n"}, 8),  # more than the process may use
        ({V2: "max 100000\n"}, 8),
        ({V1_QUOTA: "300000\n", V1_PERIOD: "100000\n"}, 3),
        ({V1_QUOTA: "-1\n", V1_PERIOD: "100000\n"}, 8),
        ({V1_QUOTA: "300000\n"}, 8),
        ({V2: "garbage"}, 8),
        ({}, 8),
    ],
)
def test_usable_cores_respect_the_cgroup_quota(tmp_path, monkeypatch, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert hardware.usable_cores() == cores


def test_usable_cores_respect_affinity(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: {3, 5, 6}, raising=False)
    assert hardware.usable_cores() == 3


@pytest.fixture
def without_cached_threads():
    hardware.default_threads.cache_clear()
    yield
    hardware.default_threads.cache_clear()


def test_threads_are_not_more_than_usable_or_idle_cores(monkeypatch, without_cached_threads):
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(hardware, "usable_cores", lambda: 4)
    assert hardware.default_threads() == 4
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for idle, threads in ((64.0, 4), (2.6, 3), (0.2, 1)):
        monkeypatch.setattr(hardware, "idle_cores", lambda idle=idle: idle)
        assert hardware.idle_threads() == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert hardware.idle_threads() == 4, "somebody has divided the cores already"


def test_machine_is_busy_where_fewer_cores_are_idle_than_the_threads_take(monkeypatch):
    monkeypatch.setattr(hardware, "default_threads", lambda: 4)
    monkeypatch.setattr(hardware, "usable_cores", lambda: 4)
    for idle, threads, words in (
        (64.0, "auto", None),
        (3.6, "auto", None),
        (3.4, "auto", "3.4 of 4 cores were idle"),
        (1.9, 2, None),
        (0.1, 1, "0.1 of 1 cores were idle"),
        (3.9, 16, None),  # more threads than cores
    ):
        monkeypatch.setattr(hardware, "idle_cores", lambda idle=idle: idle)
        assert hardware.busy(threads) == words
