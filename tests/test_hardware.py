"""The machine: its name, the cores that a process may use, and what auto means on it."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from minuteloop import compose, hardware
from minuteloop.records import environment
from minuteloop.training.process_state import restored_process_state


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
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    quota, busy = "CPU affinity or a quota allows 4 of 64 cores", "other processes keep {} of 64 cores busy"
    for idle, expected in (
        (64.0, (4, quota)),
        (2.6, (3, busy.format(61.4))),
        (0.2, (1, busy.format(63.8))),
    ):
        monkeypatch.setattr(hardware, "idle_cores", lambda idle=idle: idle)
        assert hardware.auto_threads() == expected
    monkeypatch.setattr(hardware, "usable_cores", lambda: 64)
    monkeypatch.setattr(hardware, "idle_cores", lambda: 64.0)
    assert hardware.auto_threads() == (4, "torch's own choice, one for each physical core")
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert hardware.auto_threads() == (4, "")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    hardware.default_threads.cache_clear()
    monkeypatch.setattr(hardware, "idle_cores", lambda: pytest.fail("somebody has divided the cores already"))
    assert hardware.auto_threads() == (3, "OMP_NUM_THREADS is 3")


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


def test_reason_for_fewer_threads_is_logged_unless_the_user_chose_them(monkeypatch, caplog):
    monkeypatch.setattr(hardware, "auto_threads", lambda: (1, "other processes keep 1.0 of 2 cores busy"))
    caplog.set_level("INFO", "minuteloop")
    with restored_process_state():
        assert hardware.resolve_auto(compose(["threads=2"])).threads == 2 and not caplog.messages
        assert hardware.resolve_auto(compose([])).threads == 1
    assert caplog.messages == ["threads=1 (auto): other processes keep 1.0 of 2 cores busy"]


def write_stat(monkeypatch, tmp_path, idle, busy):
    """Write the file that the kernel counts ticks in; 100 ticks are a second, of which 1/3 each waits for a disk."""
    (tmp_path / "stat").write_text(f"cpu  {busy // 2} 0 {busy // 2} {2 * idle // 3} {idle // 3} 0 0 0 0 0\ncpu0 1\n")
    monkeypatch.setattr(hardware, "STAT", tmp_path / "stat")
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_CLK_TCK": 100}[name])


def test_load_of_other_processes_leaves_out_our_own(monkeypatch, tmp_path):
    clock = SimpleNamespace(now=50.0, cpu=7.0)
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    monkeypatch.setattr("time.process_time", lambda: clock.cpu)
    write_stat(monkeypatch, tmp_path, 3000, 4000)
    load = hardware.OtherLoad()
    clock.now, clock.cpu = 60.0, 16.0
    write_stat(monkeypatch, tmp_path, 3300, 5700)
    assert load.cores() == pytest.approx((17 - 9) / 10), "17 s of two cores in 10 s, of which 9 s are ours"
    monkeypatch.setattr(hardware, "STAT", tmp_path / "nothing")
    assert hardware.OtherLoad().cores() == 0


@pytest.mark.skipif(not hardware.STAT.exists(), reason="the system counts no CPU seconds")
def test_load_leaves_out_processes_that_are_the_runs():
    """A child that spends half a second of a core, as it counts itself."""
    spend = "import time; print(flush=True); input()\nwhile time.process_time() < 0.5: pass\nprint(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", spend], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        child.stdout.readline()
        others, without = hardware.OtherLoad(), hardware.OtherLoad([child.pid])
        child.stdin.write("go\n")
        child.stdin.flush()
        child.stdout.readline()
        (begin, _), (end, _) = without.begin, without._read()
        difference = (others.cores() - without.cores()) * (end - begin)
        child.communicate("end\n")
    assert 0.3 < difference < 0.7


def test_idle_cores_are_counted_over_a_moment(monkeypatch, tmp_path):
    write_stat(monkeypatch, tmp_path, 3000, 4000)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("time.sleep", lambda _: write_stat(monkeypatch, tmp_path, 3030, 4010))
    assert hardware.idle_cores() == pytest.approx(6.0), "three quarters of eight cores"
    monkeypatch.setattr(hardware, "STAT", tmp_path / "nothing")
    assert hardware.idle_cores() == 8
