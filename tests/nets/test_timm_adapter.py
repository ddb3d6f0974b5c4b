"""arch=timm: any of timm's models on small images, held against timm itself and against counts made without us."""

import dataclasses

import pytest
import safetensors.torch
import timm
import torch
from timm.optim import param_groups_weight_decay

import minuteloop
from minuteloop.config.compose import compose
from minuteloop.nets.flops import count
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.nets.summary import explain, text
from minuteloop.nets.timm_adapter import TimmPlan, resolve_timm
from minuteloop.recipe.param_groups import parameter_groups
from minuteloop.schema import Arch, Size
from minuteloop.trained.feature_maps import stem_filters
from minuteloop.validation import ConfigError


def plan(name: str, image_size: int = 32, reduce: int | str = "auto", **options) -> TimmPlan:
    return resolve_timm(Arch(name=name, timm=options), Size(reduce=reduce), image_size, 10)


def net_of(name: str, **how):
    torch.manual_seed(0)
    return build_net(plan(name, **how))


@pytest.mark.parametrize(
    ("name", "reduce", "mmacs"),
    [  # reference/specs, counted on models that were changed by hand
        ("regnetx_002", 16, 16.2),
        ("efficientnet_b0", 16, 32.0),
        ("efficientnet_b0", 8, 116.2),
        ("convnext_atto", 16, 44.3),
        ("convnext_atto", 8, 176.8),
    ],
)
def test_strides_go_from_the_front_until_the_total_is_reduce(name, reduce, mmacs):
    found = plan(name, reduce=reduce)
    assert found.grid == 32 // reduce
    assert round(count(found, 32).macs / 1e6, 1) == mmacs


# kinds of models: strided stems, patches, class tokens, windows, tables by place, gates, normalizer-free, blur pool
SMALL = {
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


@pytest.mark.parametrize("name", SMALL)
def test_a_model_runs_and_learns_on_small_images(name):
    found = plan(name)
    assert found.grid == SMALL[name]
    torch.manual_seed(0)
    net, images = build_net(found).train(), torch.randn(4, 3, 32, 32)
    logits = net(images)
    assert logits.shape == (4, 10)
    torch.nn.functional.cross_entropy(logits, torch.tensor([1, 7, 0, 2])).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), key
    assert sum(parameter.grad is not None and bool(parameter.grad.any()) for parameter in net.parameters()) > 10
    other = build_net(found).eval()
    other.load_state_dict(safetensors.torch.load(safetensors.torch.save(net.state_dict())))
    assert torch.equal(other(images), net.eval()(images))
    with torch.autocast("cpu", torch.bfloat16):
        assert net(images).isfinite().all()


def test_a_model_whose_image_is_large_enough_is_timms_own():
    net = net_of("resnet18", image_size=128, reduce=32)
    theirs = timm.create_model("resnet18", num_classes=10)
    theirs.load_state_dict(net.model.state_dict())
    images = torch.randn(2, 3, 128, 128)
    assert torch.equal(net.eval()(images), theirs.eval()(images))


def test_a_stem_without_strides_is_the_one_that_is_made_by_hand():
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


def test_drop_path_rates_are_timms():
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


def test_a_model_without_drop_path_refuses_a_rate():
    net = net_of("ghostnet_050")
    net.set_drop_path(0.0)
    with pytest.raises(ConfigError, match="GhostNet of timm has no drop path"):
        net.set_drop_path(0.1)


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224", "test_resnet"])
def test_what_does_not_decay_is_what_timm_says(name):
    net = net_of(name)
    (still,) = (group["params"] for group in parameter_groups(net, 0.05) if group["name"] == "no_decay")
    listed = getattr(net.model, "no_weight_decay", set)()
    theirs, _ = param_groups_weight_decay(net.model, 0.05, no_weight_decay_list=listed)
    assert {id(p) for p in still} == {id(p) for p in theirs["params"]}


@pytest.mark.parametrize(("name", "heads"), [("test_resnet", 1), ("deit_tiny_distilled_patch16_224", 2)])
def test_every_classifier_is_in_the_group_of_heads(name, heads):
    groups = {group["name"]: group["params"] for group in parameter_groups(net_of(name), 0.05)}
    assert [len(weight) for weight in groups["head"]] == heads * [10]
    assert not any(len(weight) == 10 for weight in groups["matrix"])


def test_options_reach_the_model():
    assert plan("resnet18", stem_type="deep").strides == {"conv1.0": 1, "maxpool": 1}
    assert plan("test_vit", patch_size=4).grid == 8


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["arch.name=ghostnt_100"], "arch.name=ghostnt_100: timm has no such model (nearest: ghostnet_100)"),
        ([], "arch=timm: arch.name=MODEL has to say which, one of timm.list_models()"),
        (["arch.name=qqqqqq"], "timm has no such model; arch.name=MODEL has to be one of timm.list_models()"),
        (["arch.name=resnet18", "size.reduce=32"], "arch.name=resnet18: the last map would be 1x1 at 32x32"),
        (["arch.name=resnet18", "arch.block.kernel=5"], "arch.block.kernel=5: a net of timm's has no such knob"),
        (["arch.name=resnet18", "modernization=[gelu]"], "step gelu: arch=timm takes timm's models as they are"),
        (["arch.name=resnet18", "+arch.timm.colour=1"], "does not run on 32x32 images"),
        (["arch.name=resnet18", "+arch.timm.pretrained=true"], "arch.timm.pretrained=True: nets are trained from"),
        (["arch.name=efficientvim_m1"], "timm's model does not run on 32x32 images (it has no last map)"),
    ],
)
def test_mistakes_are_told_in_one_line(words, says):
    with pytest.raises(ConfigError) as caught:
        compose(["arch=timm", *words])
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_explain_tells_what_was_changed():
    config = compose(["arch=timm", "arch.name=resnet18"])
    told = explain(config.arch, config.size, 32, 10)
    assert told["strides"] == {"conv1": 1} and told["last_grid"] == 2  # pico: a total of 16
    assert sum(part["params"] for part in told["parts"].values()) == told["params"] == 11_181_642
    assert "conv1.stride=1" in text(told) and "only size.reduce is used" in text(told)


def test_one_text_is_one_net():
    found = plan("test_resnet")
    assert resolve(Arch(name="test_resnet", timm={}), Size(), 32, 10).text() == found.text()
    assert dataclasses.replace(found, strides={}).text() != found.text()


def test_a_run_trains_and_is_loaded_again(tmp_path):
    words = ["arch=timm", "arch.name=test_resnet", "recipe=deit", "data=sample", "logger=none", "budget=2steps"]
    record = minuteloop.run([*words, "threads=1", "device=cpu", f"hydra.run.dir={tmp_path / 'run'}"])
    assert record["status"] == "finished" and record["config"]["name"] == "test_resnet-deit"
    net = minuteloop.load(tmp_path / "run")
    assert net(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 10)
    assert record["cost"]["params"] == sum(parameter.numel() for parameter in net.net.parameters())
