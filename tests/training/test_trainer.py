"""`trainer.*`: what reaches Lightning's Trainer, and what is rejected before training."""

import inspect
import re

import pytest
from lightning_fabric.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from small_run import SMALL, read

from minuteloop import cli, compose
from minuteloop.config.compose import TRAINER_SET_BY_RUN
from minuteloop.hardware import resolve_auto
from minuteloop.training import run, trainer
from minuteloop.validation import ConfigError


def test_profiler_reaches_lightning():
    config = resolve_auto(compose([*SMALL, "+trainer.profiler=simple"]))
    assert type(trainer.make_trainer(config).profiler).__name__ == "SimpleProfiler"


def test_trainer_logs_as_often_as_the_plan_says_or_as_the_user_does():
    config = resolve_auto(compose(SMALL))
    assert trainer.make_trainer(config, 7).log_every_n_steps == 7
    config = resolve_auto(compose([*SMALL, "+trainer.log_every_n_steps=3"]))
    assert trainer.make_trainer(config, 7).log_every_n_steps == 3


@pytest.mark.parametrize(
    "variables",
    [
        {"LOCAL_RANK": "1"},
        {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "x"},
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "x"},
        {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "x"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_run_is_one_process_on_one_device_whatever_the_cluster_says(variables, monkeypatch):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as on import under such variables
    made = trainer.make_trainer(resolve_auto(compose([*SMALL, "device=cpu"])))
    assert (made.global_rank, made.world_size, made.num_nodes, rank_zero_only.rank) == (0, 1, 1, 0)
    assert type(made.strategy).__name__ == "SingleDeviceStrategy" and made.strategy.root_device.type == "cpu"
    environment = made._accelerator_connector.cluster_environment
    assert isinstance(environment, LightningEnvironment), "no requeueing by Lightning"


@pytest.mark.parametrize("name", TRAINER_SET_BY_RUN)
def test_argument_that_the_run_sets_is_rejected_when_the_config_is_composed(name, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"defaults: [config, _self_]\ntrainer: {{{name}: 3}}\n")
    with pytest.raises(ConfigError, match=rf"trainer\.{name}=3: set by the run; (use [\w.]+=\.\.\.|remove it)$"):
        compose(SMALL, "mine", str(tmp_path))


def test_every_argument_that_the_run_sets_is_in_the_table():
    source = inspect.getsource(trainer.make_trainer) + inspect.getsource(run._fit_and_evaluate)
    call = source[source.index("pl.Trainer(") : source.index("trainer.fit(")]
    names = set(re.findall(r"^        (\w+)=", call, re.MULTILINE))
    assert names <= TRAINER_SET_BY_RUN.keys() and len(names) > 10


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+trainer.max_steps=3", "+trainer.max_steps=3: unknown key. Did you mean budget=3steps?"),
        ("+trainer.precision=16", "trainer.precision=16: set by the run; use precision=..."),
        ("+trainer.profilr=1", "trainer.profilr=1: must be an argument of Lightning's Trainer. Did you mean profiler?"),
    ],
)
def test_wrong_argument_is_one_line_before_training(cwd, capsys, monkeypatch, override, message):
    monkeypatch.setattr(run, "_fit", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit) as stopped:
        cli.train([*SMALL, "budget=2steps", "hydra.run.dir=mine", override])
    assert stopped.value.code == 2 and capsys.readouterr().err == f"error: {message}\n"
    if "profilr" not in override:
        assert not (cwd / "mine").exists()
    else:
        assert read(cwd / "mine")["status"] == "failed" and not read(cwd / "mine")["plan"]
