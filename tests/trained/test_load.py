"""A run's folder back to its net."""

import json

import numpy as np
import pytest
import torch

import minuteloop
from minuteloop.data.cifar import load
from minuteloop.validation import ConfigError

QUICK = ["data=sample", "logger=none", "size.reduce=32", "size.width=0.125", "recipe.batch_size=64", "threads=1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    options = [*QUICK, "precision=fp32", "budget=20steps", "recipe.strength=0.5"]
    return folder, minuteloop.run([*options, f"hydra.run.dir={folder}"])


def test_a_loaded_net_gives_the_records_accuracy(finished):
    folder, record = finished
    images = load("sample")
    with torch.no_grad():
        logits = minuteloop.load(folder)(torch.from_numpy(images.test_images))
    labels = torch.from_numpy(images.test_labels)
    assert logits.shape == (1000, 10)
    with pytest.raises(ValueError, match=r"uint8 \[N,3,H,W\], not torch.float32 \[1000, 3, 32, 32\]"):
        minuteloop.load(folder)(torch.from_numpy(images.test_images) / 255)
    assert record["metrics"]["test/acc"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    assert record["metrics"]["test/loss"] == pytest.approx(loss, rel=1e-5)
    assert not np.allclose(logits.std(0), 0)


def test_a_loaded_net_is_on_the_cpu_in_evaluation_mode(finished):
    model = minuteloop.load(str(finished[0]))
    assert not any(module.training for module in model.modules())
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}
    assert sum(weight.numel() for weight in model.net.parameters()) == finished[1]["cost"]["params"]


def test_a_trainer_can_test_a_loaded_net(finished):
    import pytorch_lightning as pl

    from minuteloop.data.datamodule import CIFARDataModule

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", enable_model_summary=False, **quiet)
    data = CIFARDataModule(load("sample"), 64, 400)
    (metrics,) = trainer.test(minuteloop.load(finished[0]), data, verbose=False)
    assert metrics["test/acc"] == pytest.approx(finished[1]["metrics"]["test/acc"])


def test_a_net_is_loaded_with_the_strength_that_it_was_trained_with(tmp_path):
    words = [*QUICK, "arch=vgg16", "recipe=deit", "budget=2steps"]  # strength 0, and no block has a drop path
    record = minuteloop.run([*words, f"hydra.run.dir={tmp_path / 'run'}"])
    assert record["plan"]["strength"] == 0 and minuteloop.load(tmp_path / "run").net is not None


def test_a_folder_without_a_trained_net_is_refused_in_one_line(finished, tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere: no run left its record there"):
        minuteloop.load(tmp_path / "nowhere")
    content = json.loads((finished[0] / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"model\.safetensors: No such file"):
        minuteloop.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"model\.safetensors: ") as error:
        minuteloop.load(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "result.json").write_text(json.dumps(content | {"metrics": {}, "status": "failed"}))
    with pytest.raises(ConfigError, match="that run is failed, not evaluated; resume="):
        minuteloop.load(tmp_path)
    content["config"]["arch"]["colour"] = "red"
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"the record's config: .*colour"):
        minuteloop.load(tmp_path)
