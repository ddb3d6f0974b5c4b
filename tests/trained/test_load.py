"""The net of a run is loaded from its folder."""

import hashlib
import json
import random
import shutil
import warnings

import numpy as np
import pytest
import torch

import minuteloop
from minuteloop.data.cifar import load
from minuteloop.trained.feature_maps import draw_feature_maps
from minuteloop.trained.load import TrainedNet
from minuteloop.validation import ConfigError

QUICK = [
    "data=sample",
    "logger=none",
    "logger.pictures=false",
    "size.reduce=32",
    "size.width=0.125",
    "recipe.batch_size=64",
    "threads=1",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder and the record of a run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    options = [*QUICK, "precision=fp32", "budget=20steps", "recipe.strength=0.5"]
    return folder, minuteloop.run([*options, f"hydra.run.dir={folder}"])


@pytest.fixture(scope="module")
def net(finished):
    return minuteloop.load(finished[0])


@pytest.fixture
def images():
    return torch.from_numpy(load("sample").test_images[:8])


def test_loaded_net_has_the_accuracy_of_the_record(finished, net):
    record, sample = finished[1], load("sample")
    with torch.no_grad():
        logits = net(torch.from_numpy(sample.test_images))
    labels = torch.from_numpy(sample.test_labels)
    assert logits.shape == (1000, 10) and net.classes == sample.classes
    assert record["metrics"]["test/acc"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    assert record["metrics"]["test/loss"] == pytest.approx(loss, rel=1e-5)
    assert not np.allclose(logits.std(0), 0)


def test_numpy_images_give_the_logits_of_tensors(net, images):
    expected = net(images)
    assert torch.equal(net(images.numpy()), expected)
    assert torch.equal(net(images.numpy()[::-1]), expected.flip(0)), "a view with a negative stride"


@pytest.mark.parametrize(
    "change, received",
    [
        (lambda images: images / 255, "float32 [8,3,32,32]"),
        (lambda images: images[0], "uint8 [3,32,32]"),
        (lambda images: images[:, :1], "uint8 [8,1,32,32]"),
        (lambda images: images.permute(0, 2, 3, 1), "uint8 [8,32,32,3]"),
        (lambda images: images.repeat(1, 1, 2, 1), "uint8 [8,3,64,32]"),
        (lambda images: images.numpy() / 255, "float64 [8,3,32,32]"),
    ],
    ids=["dtype", "rank", "channels", "channels last", "size", "numpy"],
)
def test_wrong_images_are_rejected(net, images, change, received):
    with pytest.raises(ValueError) as error:
        net(change(images))
    assert str(error.value) == f"images must be uint8 [N,3,32,32], got {received}"


def test_loaded_net_is_on_the_cpu_in_eval_mode(finished):
    net = minuteloop.load(str(finished[0]))
    assert isinstance(net, TrainedNet)
    assert not any(module.training for module in net.modules())
    assert {tensor.device.type for tensor in net.state_dict().values()} == {"cpu"}
    assert sum(weight.numel() for weight in net.net.parameters()) == finished[1]["cost"]["params"]


def test_loaded_net_can_be_traced(net, images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # layers choose a CPU kernel by the size of their input, which is fixed
        traced = torch.jit.trace(net, images[:4])
    torch.testing.assert_close(traced(images), net(images))


def test_loaded_net_can_be_exported(net, images):
    batch = torch.export.Dim("batch", min=1, max=1024)
    exported = torch.export.export(net, (images[:4],), dynamic_shapes={"images": {0: batch}}).module()
    torch.testing.assert_close(exported(images), net(images))


def test_net_is_loaded_at_the_strength_of_its_run(tmp_path):
    overrides = [*QUICK, "arch=vgg16", "recipe=deit", "budget=2steps"]
    record = minuteloop.run([*overrides, f"hydra.run.dir={tmp_path / 'run'}"])
    assert record["plan"]["strength"]["mixup"] == 0 and minuteloop.load(tmp_path / "run").net is not None


def test_folder_without_a_trained_net_is_a_one_line_error(finished, tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere: has no result\.json of a run"):
        minuteloop.load(tmp_path / "nowhere")
    content = json.loads((finished[0] / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"model\.safetensors: No such file"):
        minuteloop.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"model\.safetensors: ") as error:
        minuteloop.load(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "result.json").write_text(json.dumps(content | {"steps": 0, "status": "failed"}))
    with pytest.raises(ConfigError, match="the run is failed and has no trained net; continue it with resume="):
        minuteloop.load(tmp_path)
    content["config"]["arch"]["colour"] = "red"
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"config of the record: .*colour"):
        minuteloop.load(tmp_path)


@pytest.mark.parametrize("flips", [60, pytest.param(200, marks=pytest.mark.exhaustive)])
def test_any_flipped_bit_of_the_weights_is_refused(finished, tmp_path, flips):
    path, draws = tmp_path / "model.safetensors", random.Random(0)
    shutil.copy(finished[0] / "result.json", tmp_path)
    content = (finished[0] / "model.safetensors").read_bytes()
    assert finished[1]["files"] == {"model.safetensors": hashlib.sha256(content).hexdigest()}
    for bit in draws.sample(range(8 * len(content)), flips):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ConfigError) as error:
            minuteloop.load(tmp_path)
        reason = "damaged (its SHA-256 is not that in result.json); restore it or train again"
        assert str(error.value) == f"{path}: {reason}"
    with pytest.raises(ConfigError, match="damaged"):
        draw_feature_maps(tmp_path, [0])
    path.write_bytes(content)
    minuteloop.load(tmp_path)


def test_weights_of_an_earlier_versions_run_are_loaded_with_a_warning(finished, tmp_path, caplog):
    shutil.copy(finished[0] / "model.safetensors", tmp_path)
    content = {key: value for key, value in finished[1].items() if key not in ("files", "folder")}
    (tmp_path / "result.json").write_text(json.dumps(content))
    minuteloop.load(tmp_path)
    assert "model.safetensors: not checked" in caplog.text
