"""arch=timm on small images, against timm itself and against independent counts."""

import dataclasses

import pytest
import safetensors.torch
import timm
import torch
from timm.optim import param_groups_weight_decay

import minuteloop
from minuteloop.arch_schema import Arch, Size
from minuteloop.config.compose import compose
from minuteloop.nets.flops import count
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.nets.summary import summarize, text
from minuteloop.nets.timm_adapter import TimmSpec, resolve_timm
from minuteloop.recipe.param_groups import parameter_groups
from minuteloop.trained.feature_maps import stem_filters
from minuteloop.validation import ConfigError


def timm_spec(name: str, image_size: int = 32, reduce: int | str = "auto", **options) -> TimmSpec:
    return resolve_timm(Arch(name=name, timm=options), Size(reduce=reduce), image_size, 10)


def net_of(name: str, **kwargs):
    torch.manual_seed(0)
    return build_net(timm_spec(name, **kwargs))


@pytest.mark.parametrize(
    ("name", "reduce", "mmacs"),
    [  # counted on models changed by hand
        ("regnetx_002", 16, 16.2),
        ("efficientnet_b0", 16, 32.0),
        ("efficientnet_b0", 8, 116.2),
        ("convnext_atto", 16, 44.3),
        ("convnext_atto", 8, 176.8),
    ],
)
def test_strides_are_dropped_from_the_front_until_the_total_is_reduce(name, reduce, mmacs):
    spec = timm_spec(name, reduce=reduce)
    assert spec.resolution == 32 // reduce
    assert round(count(spec, 32).macs / 1e6, 1) == mmacs


# strided stems, patches, class tokens, windows, relative positions, gates, normalizer-free, blur pool
FAMILIES = {
    "ghostnet_050": 4,
    "mnasnet_small": 4,
    "mobilenetv3_small_050": 4,
    "vgg11": 4,
    "resnetblur18": 4,
    "test_resnet": 4,
    "test_nfnet": 4,
    "test_efficientnet": 4,
    "test_byobnet": 4,
    "test_vit": 4,
    "test_vit_relpos": 4,
    "test_coatnet": 4,
    "test_maxvit": 4,
    "deit_tiny_distilled_patch16_224": 4,
    "levit_128s": 4,
    "mobilevit_xxs": 4,
}


SAMPLE = ("resnetblur18", "test_vit", "mobilenetv3_small_050", "levit_128s")


OPTIONS = {"vgg11": {"mlp_ratio": 1 / 16}}  # not 4,096 hidden channels, which are 100 million weights


@pytest.mark.parametrize(
    "name", [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.exhaustive) for name in FAMILIES]
)
def test_a_model_runs_and_learns_on_small_images(name):
    spec = timm_spec(name, **OPTIONS.get(name, {}))
    assert spec.resolution == FAMILIES[name]
    torch.manual_seed(0)
    net, images = build_net(spec).train(), torch.randn(4, 3, 32, 32)
    logits = net(images)
    assert logits.shape == (4, 10)
    torch.nn.functional.cross_entropy(logits, torch.tensor([1, 7, 0, 2])).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), key
    assert sum(parameter.grad is not None and bool(parameter.grad.any()) for parameter in net.parameters()) > 10
    other = build_net(spec).eval()
    other.load_state_dict(safetensors.torch.load(safetensors.torch.save(net.state_dict())))
    assert torch.equal(other(images), net.eval()(images))
    with torch.autocast("cpu", torch.bfloat16):
        assert net(images[:1]).isfinite().all()  # slow on a CPU without bf16


def test_a_model_with_large_enough_images_is_unchanged():
    net = net_of("resnet18", image_size=128, reduce=32)
    theirs = timm.create_model("resnet18", num_classes=10)
    theirs.load_state_dict(net.model.state_dict())
    images = torch.randn(2, 3, 128, 128)
    assert torch.equal(net.eval()(images), theirs.eval()(images))


def test_a_stem_with_dropped_strides_equals_one_changed_by_hand():
    net = net_of("resnet18")
    theirs = timm.create_model("resnet18", num_classes=10)
    theirs.load_state_dict(net.model.state_dict())
    theirs.conv1.stride, theirs.maxpool.stride = (1, 1), 1
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(net.eval()(images), theirs.eval()(images))
    assert [(stride, maps.shape[1]) for stride, maps in net.features(images)] == [
        (1, 64),
        (1, 64),
        (2, 128),
        (4, 256),
        (8, 512),
    ]
    assert stem_filters(net).shape == (64, 3, 7, 7)


def test_drop_path_rates_equal_timms():
    net, theirs = net_of("convnext_atto"), timm.create_model("convnext_atto", num_classes=10, drop_path_rate=0.2)
    net.set_drop_path(0.2)
    expected = [module.drop_prob for module in theirs.modules() if isinstance(module, timm.layers.DropPath)]
    assert [module.rate.item() for module, _ in net.drop_paths] == pytest.approx(expected)
    assert len(expected) == 11 and max(expected) == pytest.approx(0.2)
    assert not any(isinstance(module, timm.layers.DropPath) for module in net.modules())
    net.set_drop_path(0.99)
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(net(images), net(images))
    net.set_drop_path(0.0)
    assert torch.equal(net(images), net(images))


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224", "test_resnet"])
def test_no_weight_decay_matches_timm(name):
    net = net_of(name)
    (no_decay,) = (group["params"] for group in parameter_groups(net, 0.05) if group["name"] == "no_decay")
    listed = getattr(net.model, "no_weight_decay", set)()
    theirs, _ = param_groups_weight_decay(net.model, 0.05, no_weight_decay_list=listed)
    assert {id(p) for p in no_decay} == {id(p) for p in theirs["params"]}


@pytest.mark.parametrize(("name", "heads"), [("test_resnet", 1), ("deit_tiny_distilled_patch16_224", 2)])
def test_every_classifier_is_in_the_head_group(name, heads):
    groups = {group["name"]: group["params"] for group in parameter_groups(net_of(name), 0.05)}
    assert [len(weight) for weight in groups["head"]] == heads * [10]
    assert not any(len(weight) == 10 for weight in groups["matrix"])


def test_options_reach_the_model():
    assert timm_spec("resnet18", stem_type="deep").strides == {"conv1.0": 1, "maxpool": 1}
    assert timm_spec("test_vit", patch_size=4).resolution == 8


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["arch.name=ghostnt_100"], "arch.name=ghostnt_100: unknown timm model. Did you mean ghostnet_100?"),
        ([], "arch=timm: also set arch.name=MODEL to one of timm.list_models()"),
        (["arch.name=qqqqqq"], "arch.name=qqqqqq: unknown timm model (timm.list_models() lists them)"),
        (["arch.name=resnet18", "size.reduce=32"], "arch.name=resnet18: the last feature map would be 1x1 at 32x32"),
        (["arch.name=resnet18", "arch.block.kernel=5"], "arch.block.kernel=5: does not apply to timm models"),
        (["arch.name=resnet18", "modernization=[gelu]"], "modernization=[gelu]: steps do not apply to arch=timm"),
        (["arch.name=resnet18", "+arch.timm.colour=1"], "the timm model does not run on 32x32 images"),
        (
            ["arch.name=resnet18", "+arch.timm.pretrained=true"],
            "arch.timm.pretrained=True: must be left out",
        ),
        (["arch.name=efficientvim_m1"], "the timm model does not run on 32x32 images (it has no last feature map)"),
    ],
)
def test_config_errors_are_one_line(overrides, message):
    with pytest.raises(ConfigError) as caught:
        compose(["arch=timm", *overrides])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_summary_lists_changed_options_and_strides():
    config = compose(["arch=timm", "arch.name=resnet18"])
    summary = summarize(config.arch, config.size, 32, 10)
    assert summary["strides"] == {"conv1": 1} and summary["last_grid"] == 2  # pico: a total of 16
    assert sum(part["params"] for part in summary["parts"].values()) == summary["params"] == 11_181_642
    assert "conv1.stride=1" in text(summary) and "only size.reduce applies" in text(summary)


def test_equal_texts_mean_equal_nets():
    spec = timm_spec("test_resnet")
    assert resolve(Arch(name="test_resnet", timm={}), Size(), 32, 10).text() == spec.text()
    assert dataclasses.replace(spec, strides={}).text() != spec.text()


def test_a_run_trains_and_loads(tmp_path):
    overrides = ["arch=timm", "arch.name=test_resnet", "recipe=deit", "data=sample", "logger=none", "budget=2steps"]
    record = minuteloop.run([*overrides, "threads=1", "device=cpu", f"hydra.run.dir={tmp_path / 'run'}"])
    assert record["status"] == "finished" and record["config"]["name"] == "test_resnet-deit"
    net = minuteloop.load(tmp_path / "run")
    assert net(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 10)
    assert record["cost"]["params"] == sum(parameter.numel() for parameter in net.net.parameters())
