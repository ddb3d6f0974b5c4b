"""What W&B's and a cluster's variables do to a W&B run, and that a resumed run continues its W&B run."""

import dataclasses
import json
import signal

import pytest
from offline_wandb import QUICK, logged_points, read, wandb_records, written_points
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from small_run import signal_in_step

import minuteloop
from minuteloop.records import wandb_logger
from minuteloop.records.record import Record

VARIABLES = {
    "WANDB_PROJECT": "theirs",
    "WANDB_ENTITY": "team",
    "WANDB_NAME": "a run",
    "WANDB_NOTES": "why",
    "WANDB_RUN_GROUP": "nightly",
    "WANDB_JOB_TYPE": "probe",
    "WANDB_TAGS": "old,new",
    "WANDB_RUN_ID": "abc123",
}


@pytest.fixture(autouse=True)
def no_variables(cwd, monkeypatch):
    """Unset W&B's variables of the machine, and keep artifacts in the current folder."""
    for variable in [*VARIABLES, "WANDB_DIR", "WANDB_RESUME", "WANDB_SERVICE"]:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("WANDB_DATA_DIR", str(cwd))


def started(folder, *overrides: str) -> dict:
    """Return W&B's record of a run that starts and ends without training."""
    config = minuteloop.compose([*QUICK, *overrides])
    folder.mkdir()
    logger = wandb_logger.start_wandb(config, Record(config, folder, {}))
    logger.calls.wait(logger.run.finish, 30)
    logger.calls.close()
    (file,) = folder.parent.glob("**/offline-run-*/*.wandb")
    return read(file)["run"][0]


def test_wandb_variables_beat_defaults(cwd, monkeypatch):
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("WANDB_DIR", str(cwd / "elsewhere"))
    (cwd / "elsewhere").mkdir()
    run = started(cwd / "mine")
    assert list(cwd.glob("elsewhere/wandb/offline-run-*-abc123")) and not (cwd / "mine/wandb").exists()
    assert json.loads((cwd / "mine/result.json").read_text())["wandb_id"] == run["run_id"] == "abc123"
    assert (run["project"], run["entity"], run["display_name"]) == ("theirs", "team", "a run")
    assert (run["notes"], run["run_group"], run["job_type"]) == ("why", "nightly", "probe")
    assert set(run["tags"]) == {"old", "new", "resnet18", "deit", "sample"}


def test_typed_keys_beat_wandb_variables(cwd, monkeypatch):
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)
    typed = ["logger.project=minuteloop", "logger.group=1", "logger.job_type=2", "logger.tags=[mine]", "name=typed"]
    run = started(cwd / "mine", *typed)
    assert (run["project"], run["run_group"], run["display_name"]) == ("minuteloop", "1", "typed-mine")
    assert run["job_type"] == "2"
    assert set(run["tags"]) == {"mine", "resnet18", "deit", "sample"}


def test_defaults_without_wandb_variables(cwd, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "")  # as unset
    config = minuteloop.compose(QUICK)
    arguments = wandb_logger._init_arguments(config, Record(config, cwd / "mine", {}))
    assert (arguments["project"], arguments["name"]) == ("minuteloop", "resnet18-deit-mine")
    assert arguments["group"] is None and arguments["id"] is None
    assert arguments["tags"] == ["resnet18", "deit", "sample"]


def test_long_names_fit_into_wandbs_limits(cwd):
    config = minuteloop.compose([*QUICK, f"name={'n' * 200}"])
    config = dataclasses.replace(config, arch=dataclasses.replace(config.arch, name="a" * 70))
    arguments = wandb_logger._init_arguments(config, Record(config, cwd, {}))
    assert len(arguments["name"]) == 128 and "a" * 64 in arguments["tags"]


def test_setting_that_wandb_rejects_is_named_in_the_warning(cwd, monkeypatch):
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "soon")
    import wandb

    wandb.teardown()
    record = minuteloop.run([*QUICK, "budget=1steps", "logger.pictures=false"])
    monkeypatch.delenv("WANDB_INIT_TIMEOUT")
    wandb.teardown()
    assert record["status"] == "finished"
    (line,) = [line for line in (cwd / "mine/log.txt").read_text().splitlines() if "warning: W&B" in line]
    assert "init_timeout: Input should be a valid number" in line


def test_curves_are_complete_whatever_rank_the_environment_names(cwd, monkeypatch):
    for variable in ("LOCAL_RANK", "RANK", "SLURM_PROCID"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as on import under these variables
    minuteloop.run([*QUICK, "budget=50steps", "logger.pictures=false"])
    written = written_points(cwd / "mine")
    assert {name for _, name in written} >= {"train/loss", "lr", "val/acc", "test/acc"}
    assert logged_points(wandb_records(cwd / "mine")) == pytest.approx(written, rel=1e-5)


def test_resumed_run_continues_its_wandb_run_with_complete_curves(cwd, monkeypatch):
    options = [*QUICK, "budget=110steps", "logger.pictures=false", "+trainer.log_every_n_steps=50"]
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        signal_in_step(patch, signal.SIGTERM, 60)
        minuteloop.run(options)
    minuteloop.run([*options, "resume=true"])
    first, second = (read(file) for file in sorted(cwd.glob("mine/wandb/offline-run-*/*.wandb")))
    assert first["run"][0]["run_id"] == second["run"][0]["run_id"]
    assert json.loads((cwd / "mine/result.json").read_text())["wandb_id"] == first["run"][0]["run_id"]
    assert [first["exit"][0]["exit_code"], second["exit"][0]["exit_code"]] == [1, 0]
    written = written_points(cwd / "mine")
    assert {step for step, name in written if name == "train/loss"} == {50, 100}
    assert max(step for step, _ in logged_points(first)) < 60
    assert logged_points(second) == pytest.approx(written, rel=1e-5), "the first 60 steps too"


def test_earlier_curves_are_not_logged_again_where_the_server_has_them(cwd):
    class Run:
        resumed = True

    logger = object.__new__(wandb_logger.BackgroundWandbLogger)
    logged = []
    logger.run, logger.log_metrics = Run(), lambda *arguments: logged.append(arguments)
    logger.resume([{"step": 50.0, "train/loss": 2.0}])
    assert logged == []
