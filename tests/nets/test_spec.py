"""Resolving an arch: size, strides, knobs by stage, warnings, errors."""

import pytest
import torch

from minuteloop.arch_schema import Arch, Block, Head, Size, Stages, Stem
from minuteloop.config.compose import compose
from minuteloop.nets.flops import count
from minuteloop.nets.net import build_net
from minuteloop.nets.program import spell
from minuteloop.nets.spec import NetSpec, resolve
from minuteloop.validation import ConfigError


def net_spec(arch: str, size: str) -> NetSpec:
    config = compose([f"arch={arch}", f"size={size}"])
    return resolve(config.arch, config.size, 32, 10)


@pytest.mark.parametrize(
    ("arch", "size", "stem", "depths", "mmacs"),
    [
        ("resnet", "tiny", 64, [3, 4, 6, 3], 1298),
        ("convnext", "tiny", 96, [3, 3, 9, 3], 1255),
        ("resnet", "small", 32, [2, 3, 4, 2], 236),
        ("convnext", "small", 48, [2, 2, 6, 2], 217),
        ("resnet", "nano", 16, [1, 2, 2, 1], 37),
        ("convnext", "nano", 24, [1, 1, 3, 1], 29),
    ],
)
def test_size_scales_widths_and_depths(arch, size, stem, depths, mmacs):
    spec = net_spec(arch, size=size)
    assert (spec.stem_width, [stage.width for stage in spec.stages]) == (stem, [stem, 2 * stem, 4 * stem, 8 * stem])
    assert [len(stage.blocks) for stage in spec.stages] == depths
    assert round(count(spec, 32).macs / 1e6) == mmacs


@pytest.mark.parametrize(
    ("width", "depth", "widths", "depths"),
    [  # EfficientNet B0, B1, B2 and B3 (Tan 2019, released code)
        (1.0, 1.0, [32, 16, 24, 40, 80, 112, 192, 320], [1, 2, 2, 3, 3, 4, 1]),
        (1.0, 1.1, [32, 16, 24, 40, 80, 112, 192, 320], [2, 3, 3, 4, 4, 5, 2]),
        (1.1, 1.2, [32, 16, 24, 48, 88, 120, 208, 352], [2, 3, 3, 4, 4, 5, 2]),
        (1.2, 1.4, [40, 24, 32, 48, 96, 136, 232, 384], [2, 3, 3, 5, 5, 6, 2]),
    ],
)
def test_size_rounds_like_efficientnet(width, depth, widths, depths):
    table = Stages([16, 24, 40, 80, 112, 192, 320], [1, 2, 2, 3, 3, 4, 1], [1, 2, 2, 2, 1, 2, 1])
    spec = resolve(Arch(stem=Stem(stride=2, width=32), stages=table), Size(width=width, depth=depth), 224, 10)
    assert [spec.stem_width, *(stage.width for stage in spec.stages)] == widths
    assert [len(stage.blocks) for stage in spec.stages] == depths


def test_compound_scaling_by_1_is_efficientnet_b2():
    config = compose(["arch=efficientnet_b0", "size=tiny", "size.phi=1", "size.gamma=1"])
    assert resolve(config.arch, config.size, 32, 10).text() == net_spec("efficientnet_b0", size="b2").text()
    config = compose(["arch=efficientnet_b0", "size=tiny", "size.phi=1"])
    macs = count(resolve(config.arch, config.size, 224, 1000), 224).macs
    assert round(macs / 1e9, 1) == 1.0  # Tan 2019, table 2, at 260 pixels instead of 224 x 1.15 = 257


def test_compound_scaling_resizes_the_images():
    config = compose(["arch=resnet18", "size=nano", "size.phi=2"])
    spec = resolve(config.arch, config.size, 32, 10)
    assert [spec.stem_resolution, *(stage.resolution for stage in spec.stages)] == [
        42,
        42,
        21,
        11,
        6,
    ]  # 32 x 1.15^2 = 42.3
    net, images = build_net(spec).eval(), torch.randn(2, 3, 32, 32)
    larger = torch.nn.functional.interpolate(images, size=42, mode="bilinear")
    assert [maps.shape[2] for _, maps in net.features(images)] == [42, 21, 11, 6]
    logits, net.resize = net(images), 1
    torch.testing.assert_close(logits, net(larger))


def test_widen_comes_before_size_and_is_exact():
    def widths(widen, width):
        spec = resolve(Arch(stages=Stages(widen=widen)), Size(width=width), 32, 10)
        return [stage.width for stage in spec.stages]

    assert widths(1.3125, 1) == [84, 168, 336, 672]  # the larger regime of Liu 2022, sec. 2
    assert widths(1.5, 0.25) == [24, 48, 96, 192]
    assert widths(1.3125, 0.25) == [24, 40, 88, 168]  # 21 -> 24, since 16 is below 90 % of it


def test_depth_by_stage():
    spec = resolve(Arch(stages=Stages(depths=[3, 3, 9, 3])), Size(depth=[1, 1, 3, 1]), 32, 10)
    assert [len(stage.blocks) for stage in spec.stages] == [3, 3, 27, 3]
    assert [len(s.blocks) for s in resolve(Arch(), Size(depth=0.01), 32, 10).stages] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("image_size", "reduce", "stem", "resolutions"),
    [
        (224, "auto", "conv7/2:w bn relu maxpool3/2", [56, 28, 14, 7]),
        (64, "auto", "conv3/2:w bn relu", [32, 16, 8, 4]),
        (32, "auto", "conv3:w bn relu", [32, 16, 8, 4]),
        (28, "auto", "conv3:w bn relu", [28, 28, 14, 7]),
        (32, 32, "conv7/2:w bn relu maxpool3/2", [8, 4, 2, 1]),
        (32, 16, "conv3/2:w bn relu", [16, 8, 4, 2]),
        (32, 2, "conv3:w bn relu", [32, 32, 32, 16]),
        (32, 64, "conv7/2:w bn relu maxpool3/2", [8, 4, 2, 1]),  # a net with a smaller total stride keeps it
    ],
)
def test_reduce_drops_strides_from_the_front(image_size, reduce, stem, resolutions):
    spec = resolve(Arch(), Size(reduce=reduce), image_size, 10)
    assert (spell(spec.stem, 64), [stage.resolution for stage in spec.stages]) == (stem, resolutions)
    net = build_net(resolve(Arch(), Size(width=0.25, depth=0.01, reduce=reduce), image_size, 10)).eval()
    maps = net.stem(torch.randn(1, 3, image_size, image_size))
    for stage, resolution in zip(net.stages, resolutions, strict=True):
        maps = stage(maps)
        assert maps.shape[2:] == (resolution, resolution)


def test_literal_strides_of_a_stem_are_dropped_from_the_front():
    arch = Arch(stem=Stem("conv3/2:16 act conv3/2:w norm"))
    assert spell(resolve(arch, Size(reduce=16), 32, 10).stem, 64) == "conv3:0.25w relu conv3/2:w bn"


def test_warnings_name_unused_entries_and_single_pixels():
    arch = Arch(stages=Stages(depths=[3, 3, 9, 3, 5]), block=Block(kernel=7))
    assert resolve(arch, Size(reduce=32), 32, 10).warnings == (
        "arch.stages.depths: only the first 4 of 5 entries are used",
        "stage 4: the final feature map is 1x1",
    )
    for size in ("pico", "nano", "tiny"):  # the default command starts without a warning
        assert net_spec("convnext", size).warnings == ()
    assert resolve(Arch(stem=Stem("pw:w", stride=1)), Size(), 32, 10).warnings == (
        "stem: each output pixel reads one image pixel",
    )


def test_early_knobs_apply_to_the_first_half_of_the_stages():
    arch = Arch(early={"layout": "K 1", "kernel": 5}, block=Block(outer="w"))
    texts = [stage.blocks[-1].text(stage.width) for stage in resolve(arch, Size(), 32, 10).stages]
    assert texts[:2] == ["conv5:w bn relu pw:w bn + x, then relu"] * 2
    assert texts[2:] == ["pw:w bn relu conv3:w bn relu pw:w bn + x, then relu"] * 2
    assert len(resolve(Arch(stages=Stages(keep=3)), Size(), 32, 10).stages) == 3


def test_knobs_by_stage_repeat_their_last_value():
    block = Block(layout=["K K", "1 k 1"], outer=["w", "4w"], groups=[1, 1, "w16", "dw"], act=["gelu", "relu"])
    stages = resolve(Arch(block=block), Size(), 32, 10).stages
    assert [stage.blocks[-1].text(stage.width) for stage in stages] == [
        "conv3:w bn gelu conv3:w bn + x, then gelu",
        "pw:w bn relu conv3:w bn relu pw:4w bn + x, then relu",
        "pw:w bn relu conv3g16:w bn relu pw:4w bn + x, then relu",
        "pw:w bn relu dw3 bn relu pw:4w bn + x, then relu",
    ]


def test_stem_and_head_use_the_norm_of_the_nearest_stage():
    block = Block(norm=["ln", "bn", "bn", "bn"], outer=["w", "w", "w", "2w"])
    spec = resolve(Arch(stem=Stem("patch"), block=block, head=Head("after")), Size(reduce=16), 32, 10)
    assert (spell(spec.stem, 64), spell(spec.head_norm, 1024), spec.channels) == ("conv2/2:w ln", "bn", 1024)


def test_a_dense_k_at_the_start_never_widens():
    def first(inner, outer):
        block = Block(layout="k 1 1", inner=inner, outer=outer)
        stages = resolve(Arch(block=block), Size(), 32, 10).stages
        return spell(stages[1].blocks[0].branches[0], 128)

    assert first("w", "4w") == "conv3/2:w bn relu pw:w bn relu pw:4w bn"
    assert first("4w", "w") == "conv3/2:0.5w bn relu pw:4w bn relu pw:w bn"


@pytest.mark.parametrize(
    ("arch", "size", "message"),
    [
        (Arch(stages=Stages(depths=[3, 4])), Size(), r"depths=\[3, 4\]: must have an entry for each of 4 stages"),
        (Arch(stages=Stages(strides=[1])), Size(), r"strides=\[1\]: must have an entry for each of 4 stages"),
        (Arch(stages=Stages(depths=[3, 4, -1, 3])), Size(), r"depths=\[3, 4, -1, 3\]: must be a list of integers >= 0"),
        (
            Arch(stages=Stages(depths=[3, 4, 0, 3])),
            Size(),
            "depths: must be >= 1 for a stage without a transition",
        ),
        (Arch(stages=Stages(widths=[])), Size(), r"widths=\[\]: must be a list of integers >= 1"),
        (Arch(stem=Stem("pach")), Size(), r"stem.kind=pach: must be a stem or a program. Did you mean patch\?"),
        (
            Arch(stem=Stem("conv3:w nrm act")),
            Size(),
            r"'conv3:w nrm act': token nrm: unknown token. Did you mean norm\?",
        ),
        (Arch(stem=Stem("cov3:w")), Size(), r"program 'cov3:w': token cov3:w: unknown token. Did you mean conv\?"),
        (Arch(stem=Stem("conv:w")), Size(), "program 'conv:w': token conv:w: conv takes kernel, groups, stride"),
        (Arch(stem=Stem("dw3:w")), Size(), "dw takes kernel, stride"),
        (Arch(stem=Stem("pw:w bn2")), Size(), "bn takes no arguments"),
        (Arch(stem=Stem("conv3:0")), Size(), "'0' must be a number of channels"),
        (Arch(stem=Stem("conv3:1.2.3w")), Size(), "'1.2.3w' must be a number of channels"),
        (Arch(stem=Stem("conv3:w")), Size(reduce=32), "strides from 1 cannot give a total of 4"),
        (Arch(stages=Stages(transition="norm pw:w")), Size(), "'norm pw:w': dropping strides from 1 x 1 cannot give"),
        (Arch(), Size(reduce=6), "size.reduce=6: dropping strides from 4 x 1 x 2 x 2 x 2 cannot give a total of 6"),
        (
            Arch(stem=Stem("whiten3:60 act")),
            Size(),
            "whiten3:60: the number of filters must be even and at most 54, got 60",
        ),
        (
            Arch(stem=Stem("whiten2:9")),
            Size(),
            "whiten2:9: the number of filters must be even and at most 24, got 9",
        ),
        (Arch(block=Block(layout="k k")), Size(), "layout=k k: must contain a 1 or a K"),
        (Arch(block=Block(kernel=4)), Size(), "kernel=4: must be odd"),
        (Arch(block=Block(kernel=0)), Size(), "kernel=0: must be >= 1 where arch.block.mixer=conv"),
        (Arch(block=Block(norm="none")), Size(), "weight=plain: must be scaled where arch.block.norm=none"),
        (
            Arch(head=Head(width=64, norm="before")),
            Size(),
            "head.norm=before: must be none or after with arch.head.width",
        ),
        (Arch(block=Block(alpha=0.2)), Size(), "arch.block.order=post: must be pre where arch.block.alpha is set"),
        (
            Arch(block=Block(layout="k 1", mixer="attn")),
            Size(),
            "mixer=attn: attention keeps its resolution; set arch.stages.transition",
        ),
        (
            Arch(block=Block(layout="K | 1 1", shortcut="none")),
            Size(),
            r"shortcut=none: must be conv, avg .* \(layout=K \| 1 1\)",
        ),
        (
            Arch(block=Block(layout="k | 1 1", groups="dw")),
            Size(),
            "every branch after the first must keep its 64 channels, got 256",
        ),
        (Arch(early={"kernl": 5}), Size(), r"arch.early.kernl=5: unknown key. Did you mean kernel\?"),
        (Arch(early={"kernel": "5"}), Size(), "arch.early.kernel=5: must be an integer"),
        (Arch(stem=Stem("se:0.25w:w")), Size(), "token se:0.25w:w: unknown token"),
        (
            Arch(stem=Stem("conv3:w se")),
            Size(),
            "program 'conv3:w se': token se: se needs a number, such as se:0.25w",
        ),
        (Arch(stem=Stem("conv3:w times:2w")), Size(), "token times:2w: '2w' must be a number such as 0.25"),
        (Arch(block=Block(inner=".w")), Size(), "'.w' must be a number of channels"),
        (
            Arch(stem=Stem("patch", stride=64)),
            Size(reduce=512),
            "must be smaller; stage 1 has no pixels left of a 32x32",
        ),
    ],
)
def test_an_invalid_arch_raises_a_one_line_error(arch, size, message):
    with pytest.raises(ConfigError, match=message) as error:
        resolve(arch, size, 32, 10)
    assert "\n" not in str(error.value)
