"""The roadmap from ResNet-50 to ConvNeXt-T, step by step, against the published counts (Liu 2022, tables 10 and 11)."""

from functools import cache

import pytest
import timm
import torch
import torchvision

from minuteloop.config.compose import compose
from minuteloop.nets.flops import Cost, count
from minuteloop.nets.program import spell
from minuteloop.nets.spec import NetSpec, resolve

# step, parameters and 10^9 MACs after it at 224x224 and 1,000 classes, the block's program after it.
# The paper prints the MACs with two decimals: 4.09 4.53 4.42 2.35 5.27 4.64 4.07 4.15 ...; its 4.46 at
# layernorm is the one it does not repeat in its other column, where that step costs nothing.
LADDER = [
    ("", 25_557_032, 4.089, "pw:w bn relu conv3:w bn relu pw:4w bn + x, then relu"),
    ("stage_ratio", 28_628_520, 4.526, "pw:w bn relu conv3:w bn relu pw:4w bn + x, then relu"),
    ("patchify", 28_622_184, 4.418, "pw:w bn relu conv3:w bn relu pw:4w bn + x, then relu"),
    ("depthwise", 15_722_664, 2.350, "pw:w bn relu dw3 bn relu pw:4w bn + x, then relu"),
    ("width", 33_761_032, 5.268, "pw:w bn relu dw3 bn relu pw:4w bn + x, then relu"),
    ("inverted_bottleneck", 25_851_496, 4.644, "pw:4w bn relu dw3 bn relu pw:w bn + x, then relu"),
    ("spatial_first", 25_625_512, 4.065, "dw3 bn relu pw:4w bn relu pw:w bn + x, then relu"),
    ("large_kernel", 25_863_592, 4.146, "dw7 bn relu pw:4w bn relu pw:w bn + x, then relu"),
    ("gelu", 25_863_592, 4.146, "dw7 bn gelu pw:4w bn gelu pw:w bn + x, then gelu"),
    ("fewer_activations", 25_863_592, 4.146, "dw7 bn pw:4w bn gelu pw:w bn + x"),
    ("fewer_norms", 25_797_352, 4.146, "dw7 bn pw:4w gelu pw:w + x"),
    ("layernorm", 25_797_352, 4.146, "dw7 ln pw:4w gelu pw:w + x"),
    ("separate_downsampling", 28_541_320, 4.456, "dw7 ln pw:4w gelu pw:w + x"),
    ("conv_bias", 28_582_504, 4.456, "dw7 ln pw:4w gelu pw:w + x"),
    ("layer_scale", 28_589_128, 4.456, "dw7 ln pw:4w gelu pw:w scale=1e-06 + x"),
]
STEPS = [step for step, *_ in LADDER]

# 10^6 MACs at 32x32 and 10 classes with a total stride of 8, 16 and 32, and parameters at 16. With 8, the stem keeps
# patches of 2x2 and the second stage loses its stride; torchvision's Bottleneck (patchify) and timm's ConvNeXtStage
# (layer_scale) in that shape have the same MACs
SMALL_IMAGES = {
    "patchify": (1250.1, 359.9, 90.1, 26_591_370),
    "depthwise": (658.5, 191.1, 47.9, 13_691_850),
    "width": (1479.2, 428.9, 107.5, 30_715_306),
    "inverted_bottleneck": (1277.4, 378.2, 94.8, 25_086_730),
    "spatial_first": (1150.8, 330.9, 83.0, 24_860_746),
    "large_kernel": (1168.3, 337.5, 84.6, 25_098_826),
    "gelu": (1168.3, 337.5, 84.6, 25_098_826),
    "fewer_activations": (1168.3, 337.5, 84.6, 25_098_826),
    "fewer_norms": (1168.3, 337.5, 84.6, 25_032_586),
    "layernorm": (1168.3, 337.5, 84.6, 25_032_586),
    "layer_scale": (1255.3, 362.8, 90.9, 27_824_362),
}


SAMPLE = ("", "depthwise", "spatial_first", "layernorm", "layer_scale")


def sampled(rows: dict[str, tuple]) -> list:
    """Mark the rows of all steps outside the sample as exhaustive."""
    marks = {step: () if step in SAMPLE else pytest.mark.exhaustive for step in rows}
    return [pytest.param(*row, marks=marks[step]) for step, row in rows.items()]


@cache
def rung_config(step: str):
    steps = STEPS[1 : STEPS.index(step) + 1]
    return compose(["arch=resnet", "size=tiny", f"modernization=[{','.join(steps)}]"])


def net_spec(config, image_size=224, num_classes=1000, reduce="auto") -> NetSpec:
    config.size.reduce = reduce
    return resolve(config.arch, config.size, image_size, num_classes)


def cost(overrides: list[str], image_size=224, num_classes=1000, reduce="auto") -> Cost:
    return count(net_spec(compose([*overrides, "size=tiny"]), image_size, num_classes, reduce), image_size)


@pytest.mark.parametrize(("step", "params", "gmacs", "block"), sampled({row[0]: row for row in LADDER}))
def test_rung_at_224(step, params, gmacs, block):
    spec = net_spec(rung_config(step))
    counted = count(spec, 224)
    assert counted.params == params
    assert round(counted.macs / 1e9, 3) == gmacs
    assert [stage.blocks[-1].text(stage.width) for stage in spec.stages] == [block] * 4
    assert list(rung_config(step).arch.applied) == STEPS[1 : STEPS.index(step) + 1]


@pytest.mark.parametrize("step", sampled({step: (step,) for step in SMALL_IMAGES}))
def test_rung_at_32(step):
    *mmacs, params = SMALL_IMAGES[step]
    counted = [count(net_spec(rung_config(step), 32, 10, reduce), 32) for reduce in (8, 16, 32)]
    assert [round(cost.macs / 1e6, 1) for cost in counted] == mmacs
    assert counted[1].params == params
    assert [stage.resolution for stage in net_spec(rung_config(step), 32, 10, 16).stages] == [16, 8, 4, 2]


@pytest.mark.parametrize(("step", "mmacs", "params"), [("", 1297.8, 23_520_842), ("stage_ratio", 1440.4, 26_592_330)])
def test_resnet_at_32_has_a_3x3_stem_without_pool(step, mmacs, params):
    spec = net_spec(rung_config(step), 32, 10)
    counted = count(spec, 32)
    assert (round(counted.macs / 1e6, 1), counted.params) == (mmacs, params)
    assert spell(spec.stem, 64) == "conv3:w bn relu"
    assert [stage.resolution for stage in spec.stages] == [32, 16, 8, 4]


@pytest.mark.parametrize(
    ("kernel", "params", "gmacs"), [(5, 25_720_744, 4.097), (9, 26_054_056, 4.210), (11, 26_292_136, 4.291)]
)
def test_other_kernels(kernel, params, gmacs):
    steps = ",".join(STEPS[1 : STEPS.index("spatial_first") + 1])
    counted = cost(["arch=resnet", f"modernization=[{steps}]", f"arch.block.kernel={kernel}"])
    assert (counted.params, round(counted.macs / 1e9, 3)) == (params, gmacs)


def test_stems_and_transitions():
    assert spell(net_spec(rung_config("")).stem, 64) == "conv7/2:w bn relu maxpool3/2"
    assert spell(net_spec(rung_config("patchify")).stem, 64) == "conv4/4:w bn"
    stages = net_spec(rung_config("layernorm")).stages
    assert [spell(stage.transition, stage.width) for stage in stages] == [""] * 4
    # the depthwise convolution keeps the channels that enter, the next convolution widens (4.07 and 4.15, not 4.24)
    assert stages[1].blocks[0].text(192) == "dw7/2 ln pw:4w gelu pw:w + pw/2:w ln"
    assert stages[1].blocks[0].branches[0][0].c_out == 96
    stages = net_spec(rung_config("layer_scale")).stages
    assert [spell(stage.transition, stage.width) for stage in stages] == ["", *["ln conv2/2:w"] * 3]
    assert net_spec(rung_config("layer_scale")).text().endswith("head     avg ln linear:1000")


def test_convnext_is_the_ladder():
    convnext = compose(["arch=convnext", "size=tiny"])
    assert net_spec(convnext) == net_spec(rung_config("layer_scale"))
    assert list(convnext.arch.applied) == STEPS[1:]


@pytest.mark.parametrize(
    ("overrides", "params"),
    [
        (["arch=resnet18"], 11_689_512),  # torchvision
        (["arch=resnet18", "arch.stages.depths=[3,4,6,3]"], 21_797_672),  # torchvision's ResNet-34
        (["arch=resnet200"], 64_673_832),  # timm
        (["arch=convnext", "arch.stages.depths=[3,3,27,3]"], 50_223_688),  # timm's ConvNeXt-S
        (["arch=convnext", "arch.stages.depths=[3,3,27,3]", "arch.stages.widen=2"], 88_591_464),  # timm's ConvNeXt-B
    ],
)
def test_published_relatives(overrides, params):
    assert cost(overrides).params == params


def test_resnet200_depths():
    stages = net_spec(compose(["arch=resnet200", "size=tiny"])).stages
    assert [len(stage.blocks) for stage in stages] == [3, 24, 36, 3]


@pytest.mark.parametrize(
    ("overrides", "mmacs", "params"),
    [
        (["arch=resnet18"], (555.4,), 11_173_962),
        (
            ["arch=convnext", "arch.stages.widen=1", "arch.stages.depths=[2,2,2,2]"],
            (244.4, 76.6, 19.3),
            6_378_954,
        ),
        (
            [
                "arch=convnext",
                "arch.stem.width=40",
                "arch.stages.widen=1",
                "arch.stages.widths=[40,80,160,320]",
                "arch.stages.depths=[2,2,6,2]",
            ],
            (151.6, 44.3, 11.2),
            3_376_290,
        ),
    ],
)
def test_small_relatives_at_32(overrides, mmacs, params):
    counted = [cost(overrides, 32, 10, reduce) for reduce in (8, 16, 32)]
    assert tuple(round(cost.macs / 1e6, 1) for cost in counted[: len(mmacs)]) == mmacs
    assert counted[len(mmacs) // 2].params == params


def test_cost_is_split_by_part():
    counted = count(net_spec(rung_config("")), 224)
    with torch.device("meta"):
        reference = torchvision.models.resnet50()
    layers = [reference.layer1, reference.layer2, reference.layer3, reference.layer4]
    for i, layer in enumerate(layers):
        assert counted.parts[f"stages.{i}"][0] == sum(weight.numel() for weight in layer.parameters())
    assert counted.parts["head"] == (2048 * 1000 + 1000, 2048 * 1000)
    assert counted.parts["stem"] == (3 * 64 * 49 + 128, 3 * 64 * 49 * 112**2)
    assert [sum(column) for column in zip(*counted.parts.values(), strict=True)] == [counted.params, counted.macs]


def test_cost_counts_any_module_and_keeps_its_device():
    net = torchvision.models.resnet18()
    counted = count(net, 224)
    assert (counted.params, round(counted.macs / 1e9, 2)) == (11_689_512, 1.81)
    assert next(net.parameters()).device.type == "cpu"
    with torch.device("meta"):
        assert count(timm.create_model("convnext_tiny"), 224).params == 28_589_128
