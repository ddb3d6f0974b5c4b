"""by_hand.py: the same arithmetic as a run, without Lightning."""

import pytest
import torch
from safetensors.torch import load_file

import minuteloop
from minuteloop.training.build import Parts

OVERRIDES = ["arch=airbench", "size=nano", "recipe=plain", "ingredient=[freeze]", "budget=3steps", "data=sample"]
OVERRIDES += ["recipe.repeats=2", "recipe.clip_grad=0.1", "recipe.batch_size=64", "threads=1", "data.holdout=400"]


def test_the_bare_loop_ends_with_the_weights_of_a_run(tmp_path, run_script, monkeypatch):
    record = minuteloop.run([*OVERRIDES, "logger=none", "logger.pictures=false", f"hydra.run.dir={tmp_path / 'run'}"])
    nets, classifier = [], Parts.classifier

    def spy(parts, plan):
        nets.append(parts.net)
        return classifier(parts, plan)

    monkeypatch.setattr(Parts, "classifier", spy)
    (row,) = run_script("by_hand", *OVERRIDES)
    assert row["test_acc"] == pytest.approx(record["metrics"]["test/acc"], abs=1e-6)
    assert row["steps"] == 3 and 0 < row["train_seconds"] < 60
    trained = load_file(tmp_path / "run" / "model.safetensors")
    for name, tensor in nets[-1].state_dict().items():
        assert torch.equal(tensor, trained[name]), name


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("budget=60s", "budget=60s: must be steps or epochs (5000steps, 200ep) in a bare loop"),
        ("ingredient=[progressive]", "recipe.progressive: must be null in a bare loop"),
    ],
)
def test_what_a_bare_loop_lacks_is_rejected_in_one_line(override, line, run_script, capsys):
    with pytest.raises(SystemExit) as stop:
        run_script("by_hand", "budget=1steps", "data=sample", override)
    assert stop.value.code == 2 and capsys.readouterr().err == f"error: {line}\n"
