"""W&B gets what a run leaves, and costs no run: the service that hangs or dies here is the real one."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

import minuteloop
from minuteloop.records import wandb_logger as loggers
from minuteloop.records.background_calls import Worker
from minuteloop.validation import flat

ROOT = Path(__file__).parents[2]
SMALLEST = ["arch=resnet18", "size.depth=0.1", "size.width=0.125", "recipe.batch_size=32"]
QUICK = [*SMALLEST, "data=sample", "threads=1", "evaluations=2", "hydra.run.dir=mine"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))  # where artifacts wait for their upload
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # a process started here gets a service of its own
    return tmp_path


def told(folder: Path) -> str:
    return (folder / "mine/log.txt").read_text()


def inspected(folder: Path) -> dict[str, list[dict]]:
    """The records of the one offline run in `folder`, by their type, as W&B's own reader tells them."""
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, list[dict]] = {}
    for line in map(json.loads, done.stdout.splitlines()):
        found.setdefault(line["type"], []).append(line.get(line["type"]))
    return found


def test_wandb_offline_holds_what_the_run_left(here, capfd):
    record = minuteloop.run([*QUICK, "budget=110steps", "+logger.tags=[mine]", "logger.group=g", "name=a net/1"])
    found = inspected(here / "mine")
    (run,) = found["run"]
    config = {key: value for key, value in flat(run["config"]["update"]).items() if not key.startswith("_wandb")}
    assert config == flat(yaml.safe_load((here / "mine/config.yaml").read_text()))
    assert run["run_group"] == "g" and run["display_name"] == "a net/1-mine"
    assert set(run["tags"]) == {"mine", "resnet18", "deit", "sample"}

    logged = [
        (int(item["trainer/global_step"]), name, value)
        for item in (record["item"] for record in found["history"])
        for name, value in item.items()
        if name in loggers.COLUMNS
    ]
    rows = list(csv.DictReader((here / "mine/metrics.csv").open()))
    written = [
        (int(row["step"]), name, float(row[name])) for row in rows for name in row if name != "step" and row[name]
    ]
    assert len(written) == 2 * 2 + 2 * 2 + 2, "two of training, two of validation, one of the test set"
    assert {(step, name): value for step, name, value in logged} == pytest.approx(
        {(step, name): value for step, name, value in written}, rel=1e-5
    )

    summary = {}
    for part in found["summary"]:
        summary |= part["update"]
    for part in ("metrics", "cost", "plan"):
        for key, value in record[part].items():
            name = key if part == "metrics" else f"{part}/{key}"
            assert summary.get(name) == (value if value is None else pytest.approx(value, rel=1e-6)), name
    assert summary["status"] == "finished" and summary["seconds/train"] == pytest.approx(record["seconds"]["train"])

    for file in (here / "mine/pictures").iterdir():
        (copy,) = here.glob(f"mine/wandb/offline-run-*/files/{summary[f'pictures/{file.stem}.path']}")
        assert copy.read_bytes() == file.read_bytes()
    (artifact,) = found["artifact"]
    assert artifact["type"] == "model" and artifact["name"] == "a-net-1"
    files = {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
    assert files["model.safetensors"] == here / "mine/model.safetensors"
    assert files["config.yaml"] == here / "mine/config.yaml"
    assert json.loads(files["result.json"].read_text())["metrics"] == record["metrics"]
    assert found["exit"] == [{"exit_code": 0, "runtime": found["exit"][0]["runtime"]}]
    (line,) = [line for line in told(here).splitlines() if "wandb sync" in line]
    assert Path(line.split("wandb sync ")[1]) == next(here.glob("mine/wandb/offline-run-*"))
    assert "warning: W&B" not in told(here) and "wandb: " not in capfd.readouterr().err


def test_runs_of_one_process_are_runs_of_their_own_beside_a_users(here):
    import wandb

    own = wandb.init(mode="offline", dir=here, settings=wandb.Settings(silent=True))
    for folder in ("mine", "other"):
        minuteloop.run([*QUICK, "budget=1steps", f"hydra.run.dir={folder}", f"name={folder}"])
    assert wandb.run is own
    own.finish()
    assert inspected(here / "mine")["run"][0]["display_name"] == "mine-mine"
    assert inspected(here / "other")["run"][0]["display_name"] == "other-other"


def test_wandb_is_ended_when_a_run_fails(here, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("on fire")

    monkeypatch.setattr(sys.modules["minuteloop.training.run"], "make_trainer", broken)
    with pytest.raises(RuntimeError, match="on fire"):
        minuteloop.run([*QUICK, "budget=2steps"])
    assert inspected(here / "mine")["exit"][0]["exit_code"] == 1


@pytest.mark.parametrize("sent", ["SIGKILL", "SIGSTOP"])
def test_a_service_that_dies_or_hangs_costs_a_warning_and_bounded_time(here, sent):
    """W&B's own process is killed, or stopped for good, while a run in a process of its own trains."""
    code = f"from minuteloop import loggers, run; loggers.FINISH_TIMEOUT = 1; run({[*QUICK, 'budget=200steps']})"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        curves = here / "mine/metrics.csv"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (curves.exists() and len(curves.read_text().splitlines()) > 1):
            time.sleep(0.05)
        tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
        children = {int(word) for task in tasks for word in task.read_text().split()}
        (service,) = [pid for pid in children if "wandb-core" in Path(f"/proc/{pid}/cmdline").read_text()]
        os.kill(service, getattr(signal, sent))
        errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0 and "Traceback" not in errors, errors
    record = json.loads((here / "mine/result.json").read_text())
    assert record["status"] == "finished" and record["error"] is None
    assert len(list(csv.DictReader((here / "mine/metrics.csv").open()))) == 4 + 2 + 1
    assert told(here).count("warning: W&B failed and is left alone") == 1
    assert "wandb sync" in told(here)
    deadline = time.monotonic() + 10  # for whoever inherits it to reap it
    while Path(f"/proc/{service}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{service}").exists(), "nothing is left running"
    if sent == "SIGSTOP":
        assert 6 < record["seconds"]["log"] < 20, "FINISH_TIMEOUT + 5 to end the run, and no more"


def test_a_service_whose_disk_is_full_costs_no_run(here):
    """The service may write no byte more, as on a full disk."""
    code = f"""if True:
        import resource, wandb
        from minuteloop.records import wandb_logger as loggers
        from minuteloop.training import run
        start = loggers.start_wandb
        def start_full(*args):
            logger = start(*args)
            resource.prlimit(logger.service._proc._process.pid, resource.RLIMIT_FSIZE, (0, 0))
            return logger
        loggers.start_wandb, loggers.FINISH_TIMEOUT = start_full, 1
        run({[*QUICK, "budget=60steps"]})
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert json.loads((here / "mine/result.json").read_text())["status"] == "finished"


def test_a_wandb_that_dies_on_the_way_costs_a_warning_and_not_the_run(here, monkeypatch):
    import wandb

    def dead(*_, **__):
        raise wandb.errors.CommError("no route\nat all")

    monkeypatch.setattr("pytorch_lightning.loggers.WandbLogger.log_metrics", dead)
    record = minuteloop.run([*QUICK, "budget=55steps"])
    assert record["status"] == "finished" and record["error"] is None
    assert told(here).count("warning: W&B failed and is left alone: no route\n") == 1
    assert inspected(here / "mine")["exit"][0]["exit_code"] == 0, "it is ended all the same"


def test_a_finish_that_hangs_is_left_alone_and_the_next_run_has_wandb_again(here, monkeypatch):
    import wandb

    with monkeypatch.context() as patch:
        patch.setattr(wandb.Run, "finish", lambda *_, **__: time.sleep(60))
        patch.setattr(loggers, "FINISH_TIMEOUT", -4)  # seconds; it is waited for 5 more
        begin = time.monotonic()
        record = minuteloop.run([*QUICK, "budget=2steps"])
        assert time.monotonic() - begin < 30
    assert record["status"] == "finished" and "W&B failed and is left alone: no answer within 1 s" in told(here)
    minuteloop.run([*QUICK, "budget=2steps", "hydra.run.dir=next"])
    assert inspected(here / "next")["exit"][0]["exit_code"] == 0


@pytest.mark.parametrize("way", ["raises", "hangs"])
def test_a_wandb_that_cannot_start_costs_a_warning_and_not_the_run(here, monkeypatch, way):
    import wandb

    def dead(*_, **__):
        if way == "raises":
            raise wandb.errors.CommError("no route")
        time.sleep(60)

    monkeypatch.setattr(wandb, "init", dead)
    monkeypatch.setattr(loggers, "INIT_TIMEOUT", 0.5)
    record = minuteloop.run([*QUICK, "budget=2steps"])
    assert record["status"] == "finished" and record["seconds"]["log"] < 15
    why = {"raises": "no route", "hangs": "no answer within 1 s"}[way]
    assert f"warning: W&B failed and is left alone: {why}\n" in told(here)


@pytest.mark.parametrize("way", ["no key", "refused", "silent"])
def test_online_without_a_way_falls_back_to_offline(here, monkeypatch, way):
    """No key; a server that refuses to be talked to; one that takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if way == "silent" else 9
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NETRC", str(here / "none"))
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        if way != "no key":
            monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
        monkeypatch.setattr(loggers, "INIT_TIMEOUT", 3)
        record = minuteloop.run([*QUICK, "budget=2steps"])
    assert record["status"] == "finished" and "warning: W&B did not start online: " in told(here)
    assert record["seconds"]["log"] < 30
    assert inspected(here / "mine")["exit"][0]["exit_code"] == 0


def test_wandb_disabled_by_its_own_switch_leaves_nothing(here, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    record = minuteloop.run([*QUICK, "budget=2steps"])
    assert record["status"] == "finished" and not (here / "mine/wandb").exists()
    assert "W&B" not in told(here)


def test_a_worker_makes_its_calls_in_order_beside_the_caller():
    lines, done = [], []
    worker = Worker("it", lines.append)
    for index in range(100):
        worker.post(lambda index=index: done.append((index, threading.current_thread().name)))
    assert worker.wait(lambda: len(done), 10) == 100
    assert done == [(index, "it") for index in range(100)] and not lines
    worker.close()


def test_a_worker_leaves_out_what_follows_a_failure_but_for_the_end():
    lines, done = [], []
    worker = Worker("it", lines.append)
    worker.post(lambda: sys.exit("gone"))
    worker.post(lambda: done.append(1))
    assert worker.wait(lambda: done.append(2), 10) is None
    assert worker.wait(lambda: "ended", 10, always=True) == "ended"
    assert not done and lines == ["warning: it failed and is left alone: gone"]
    worker.close()


def test_a_worker_is_not_waited_for_longer_than_told():
    lines, gate = [], threading.Event()
    worker = Worker("it", lines.append)
    worker.post(gate.wait)
    begin = time.monotonic()
    worker.post(lambda: lines.append("late"))
    assert worker.wait(lambda: 1, 0.2) is None
    assert 0.2 <= time.monotonic() - begin < 2
    gate.set()
    assert worker.wait(lambda: "ended", 10, always=True) == "ended"
    assert lines == ["warning: it failed and is left alone: no answer within 0.2 s"]
    worker.close()
