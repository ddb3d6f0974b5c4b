"""W&B receives everything a run leaves and never costs the run (its real service hangs and dies cwd); TensorBoard."""

import csv
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from offline_wandb import QUICK, logged_points, wandb_records, written_points

import minuteloop
from minuteloop.records import wandb_logger
from minuteloop.training import trainer
from minuteloop.validation import ConfigError, flat

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_wandb(cwd, monkeypatch):
    """Keep artifacts that wait for their upload in the current folder, and give each test its own service."""
    monkeypatch.setenv("WANDB_DATA_DIR", str(cwd))
    monkeypatch.delenv("WANDB_SERVICE", raising=False)


def log_of(folder: Path) -> str:
    return (folder / "mine/log.txt").read_text()


def test_wandb_offline_holds_config_curves_summary_pictures_and_model(cwd, capfd):
    record = minuteloop.run([*QUICK, "budget=110steps", "+logger.tags=[mine]", "logger.group=g", "name=a net/1"])
    records = wandb_records(cwd / "mine")
    (run,) = records["run"]
    config = {key: value for key, value in flat(run["config"]["update"]).items() if not key.startswith("_wandb")}
    assert config == flat(yaml.safe_load((cwd / "mine/config.yaml").read_text()))
    assert run["run_group"] == "g" and run["display_name"] == "a net/1-mine"
    assert set(run["tags"]) == {"mine", "resnet18", "deit", "sample"}

    written = written_points(cwd / "mine")
    assert len(written) == 22 * 2 + 2 * 2 + 2, "22 of training, two of validation, one of the test set"
    assert logged_points(records) == pytest.approx(written, rel=1e-5)

    summary = {}
    for part in records["summary"]:
        summary |= part["update"]
    for part in ("metrics", "cost", "plan", "pace"):
        for key, value in record[part].items():
            name = key if part == "metrics" else f"{part}/{key}"
            assert summary.get(name) == (value if value is None else pytest.approx(value, rel=1e-6)), name
    assert summary["status"] == "finished" and summary["seconds/train"] == pytest.approx(record["seconds"]["train"])

    axes = {metric.get("glob_name"): metric.get("step_metric") for metric in records["metric"]}
    assert axes["*"] == "trainer/global_step"
    (pictures,) = [entry["item"] for entry in records["history"] if "pictures/curves.path" in entry["item"]]
    assert pictures["trainer/global_step"] == summary["trainer/global_step"] == 110
    for file in (cwd / "mine/pictures").iterdir():
        (copy,) = cwd.glob(f"mine/wandb/offline-run-*/files/{summary[f'pictures/{file.stem}.path']}")
        assert copy.read_bytes() == file.read_bytes()
    artifact, table = sorted(records["artifact"], key=lambda item: item["type"])
    assert artifact["type"] == "model" and artifact["name"] == "a-net-1"
    assert "confusion_matrix" in table["name"]
    files = {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
    assert files["model.safetensors"] == cwd / "mine/model.safetensors"
    assert files["config.yaml"] == cwd / "mine/config.yaml"
    assert json.loads(files["result.json"].read_text())["metrics"] == record["metrics"]
    assert records["exit"] == [{"exit_code": 0, "runtime": records["exit"][0]["runtime"]}]
    (line,) = [line for line in log_of(cwd).splitlines() if "wandb sync" in line]
    assert Path(line.split("wandb sync ")[1]) == next(cwd.glob("mine/wandb/offline-run-*"))
    assert "warning: W&B" not in log_of(cwd) and "wandb: " not in capfd.readouterr().err


@pytest.mark.exhaustive
def test_runs_of_one_process_are_separate_and_leave_the_users_own_open(cwd):
    import wandb

    own = wandb.init(mode="offline", dir=cwd, settings=wandb.Settings(silent=True))
    for folder in ("mine", "other"):
        minuteloop.run([*QUICK, "budget=1steps", f"hydra.run.dir={folder}", f"name={folder}"])
    assert wandb.run is own
    own.finish()
    assert wandb_records(cwd / "mine")["run"][0]["display_name"] == "mine-mine"
    assert wandb_records(cwd / "other")["run"][0]["display_name"] == "other-other"


def test_failed_run_ends_its_wandb_run_with_exit_code_1(cwd, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("on fire")

    monkeypatch.setattr(trainer, "make_trainer", broken)
    with pytest.raises(RuntimeError, match="on fire"):
        minuteloop.run([*QUICK, "budget=2steps"])
    assert wandb_records(cwd / "mine")["exit"][0]["exit_code"] == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("sent", ["SIGKILL", "SIGSTOP"])
def test_service_that_dies_or_hangs_costs_a_warning_and_bounded_time(cwd, sent):
    """W&B's process is killed or stopped while a run trains in another process."""
    code = f"""if True:
        from minuteloop import run
        from minuteloop.records import wandb_logger
        wandb_logger.FINISH_TIMEOUT = 1
        run({[*QUICK, "budget=200steps"]})
    """
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        curves = cwd / "mine/metrics.csv"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (curves.exists() and len(curves.read_text().splitlines()) > 1):
            time.sleep(0.05)
        tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
        children = {int(word) for task in tasks for word in task.read_text().split()}
        (service,) = [pid for pid in children if "wandb-core" in Path(f"/proc/{pid}/cmdline").read_text()]
        os.kill(service, getattr(signal, sent))
        errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0 and "Traceback" not in errors, errors
    record = json.loads((cwd / "mine/result.json").read_text())
    assert record["status"] == "finished" and record["error"] is None
    assert len(list(csv.DictReader((cwd / "mine/metrics.csv").open()))) == 20 + 2 + 1
    assert log_of(cwd).count("warning: W&B failed and is skipped from now on") == 1
    assert "wandb sync" in log_of(cwd)
    deadline = time.monotonic() + 10  # for whoever inherits it to reap it
    while Path(f"/proc/{service}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{service}").exists(), "no process is left"
    if sent == "SIGSTOP":
        assert 6 < record["seconds"]["log"] < 20, "FINISH_TIMEOUT + 5 to end the run, and no more"


@pytest.mark.exhaustive
def test_service_with_a_full_disk_does_not_fail_the_run(cwd):
    """The service may not write another byte."""
    code = f"""if True:
        import resource, wandb
        from minuteloop import run
        from minuteloop.records import wandb_logger
        start = wandb_logger.start_wandb
        def start_full(*args):
            logger = start(*args)
            resource.prlimit(logger.service._proc._process.pid, resource.RLIMIT_FSIZE, (0, 0))
            return logger
        wandb_logger.start_wandb, wandb_logger.FINISH_TIMEOUT = start_full, 1
        run({[*QUICK, "budget=60steps"]})
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert json.loads((cwd / "mine/result.json").read_text())["status"] == "finished"


def test_wandb_that_fails_while_logging_costs_a_warning_only(cwd, monkeypatch):
    import wandb

    def dead(*_, **__):
        raise wandb.errors.CommError("no route\nat all")

    monkeypatch.setattr("pytorch_lightning.loggers.WandbLogger.log_metrics", dead)
    record = minuteloop.run([*QUICK, "budget=55steps"])
    assert record["status"] == "finished" and record["error"] is None
    assert log_of(cwd).count("warning: W&B failed and is skipped from now on: no route\n") == 1
    assert wandb_records(cwd / "mine")["exit"][0]["exit_code"] == 0, "the W&B run is ended nevertheless"


@pytest.mark.exhaustive
def test_finish_that_hangs_is_abandoned_and_the_next_run_has_wandb_again(cwd, monkeypatch):
    import wandb

    with monkeypatch.context() as patch:
        patch.setattr(wandb.Run, "finish", lambda *_, **__: time.sleep(60))
        patch.setattr(wandb_logger, "FINISH_TIMEOUT", -4)  # seconds; it is waited for 5 more
        begin = time.monotonic()
        record = minuteloop.run([*QUICK, "budget=2steps"])
        assert time.monotonic() - begin < 30
    assert record["status"] == "finished" and "W&B failed and is skipped from now on: no answer within 1 s" in log_of(
        cwd
    )
    minuteloop.run([*QUICK, "budget=2steps", "hydra.run.dir=next"])
    assert wandb_records(cwd / "next")["exit"][0]["exit_code"] == 0


@pytest.mark.parametrize("case", ["raises", "hangs"])
def test_wandb_that_cannot_start_costs_a_warning_only(cwd, monkeypatch, case):
    import wandb

    def dead(*_, **__):
        if case == "raises":
            raise wandb.errors.CommError("no route")
        time.sleep(60)

    monkeypatch.setattr(wandb, "init", dead)
    monkeypatch.setattr(wandb_logger, "INIT_TIMEOUT", 0.5)
    record = minuteloop.run([*QUICK, "budget=2steps"])
    assert record["status"] == "finished" and record["seconds"]["log"] < 15
    why = {"raises": "no route", "hangs": "no answer within 1 s"}[case]
    assert f"warning: W&B failed and is skipped from now on: {why}\n" in log_of(cwd)


@pytest.mark.parametrize("case", ["no key", "refused", pytest.param("silent", marks=pytest.mark.exhaustive)])
def test_online_falls_back_to_offline(cwd, monkeypatch, case):
    """Without a key; a server that refuses connections; one that accepts them and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if case == "silent" else 9
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NETRC", str(cwd / "none"))
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        if case != "no key":
            monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
        monkeypatch.setattr(wandb_logger, "INIT_TIMEOUT", 3)
        record = minuteloop.run([*QUICK, "budget=2steps"])
    assert record["status"] == "finished" and "warning: W&B did not start online: " in log_of(cwd)
    assert record["seconds"]["log"] < 30
    assert wandb_records(cwd / "mine")["exit"][0]["exit_code"] == 0


def test_wandb_mode_disabled_leaves_nothing(cwd, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    record = minuteloop.run([*QUICK, "budget=2steps"])
    assert record["status"] == "finished" and not (cwd / "mine/wandb").exists()
    assert "W&B" not in log_of(cwd)


def test_tensorboard_holds_the_curves_and_the_config(cwd):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    minuteloop.run([*QUICK, "budget=55steps", "logger=tensorboard", "logger.pictures=false"])
    assert list(cwd.glob("mine/tensorboard/events.out.tfevents.*"))
    events = EventAccumulator(str(cwd / "mine/tensorboard"))
    events.Reload()
    points = {(event.step, name): event.value for name in events.Tags()["scalars"] for event in events.Scalars(name)}
    written = written_points(cwd / "mine")
    assert {key: points[key] for key in written} == pytest.approx(written, rel=1e-5)
    content = json.loads((cwd / "mine/result.json").read_text())
    plugin = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hyperparameters = HParamsPluginData.FromString(plugin).session_start_info.hparams
    assert hyperparameters["recipe.batch_size"].number_value == 32
    assert hyperparameters["arch.name"].string_value == "resnet18"
    assert flat(content["config"]).keys() == hyperparameters.keys()


def test_tensorboard_without_its_package_is_rejected_in_one_line(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "tensorboard" else find_spec(name, *more)
    )
    with pytest.raises(ConfigError, match=r"^logger=tensorboard: needs the package tensorboard; run pip install"):
        minuteloop.compose([*QUICK, "logger=tensorboard"])
