"""Which strides small images drop: every stem step acts as published at every size, or its error names one."""

import re
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from minuteloop.arch_schema import Arch, Block, Size, Stages, Stem
from minuteloop.config.compose import CONF, compose
from minuteloop.nets.net import build_net
from minuteloop.nets.program import parse, spell
from minuteloop.nets.spec import NetSpec, resolve
from minuteloop.nets.strides import fit_strides
from minuteloop.validation import ConfigError

# step -> what the stem of its paper has at every stride
STEMS = {
    "patchify": lambda stem: stem[0].kind == "conv" and stem[0].kernel == stem[0].stride > 1,
    "space_to_depth": lambda stem: [op.kind for op in stem[:2]] == ["unshuffle", "conv"] and stem[0].kernel > 1,
    "deep_stem": lambda stem: [op.kernel for op in stem if op.kind == "conv"] == [3, 3, 3],
    "whitening_stem": lambda stem: stem[0].kind == "whiten" and stem[0].kernel == 2,
    "maxpool_downsampling": lambda stem: stem[0].kernel == 3,
}
KINDS = {
    step: OmegaConf.load(CONF / f"modernization/{step}.yaml").stem.kind
    for step in ("patchify", "space_to_depth", "deep_stem", "whitening_stem", "maxpool_downsampling")
}
SCALES = [
    (32, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Size), OmegaConf.load(file))))
    for file in sorted(CONF.glob("size/*.yaml"))
]
SCALES.append((224, Size()))
ARCHS = sorted(file.stem for file in (CONF / "arch").glob("*.yaml") if "name:" in file.read_text())
ARCHS.remove("timm")
SAMPLE = ("resnet", "resnet20", "convnext", "mobilenetv2", "swin_t", "tresnet_m")
SAMPLED = [arch if arch in SAMPLE else pytest.param(arch, marks=pytest.mark.exhaustive) for arch in ARCHS]


def reads_every_pixel(spec: NetSpec) -> bool:
    return max(op.kernel for op in spec.stem) > 1 and all(op.stride <= op.kernel for op in spec.stem)


@pytest.mark.parametrize("arch", SAMPLED)
def test_every_stem_acts_as_published_at_every_size(arch):
    """Those that would skip pixels are refused: a test below holds the size.reduce that the error names."""
    plain = compose([f"arch={arch}"]).arch
    for image_size, scale in SCALES:
        assert reads_every_pixel(resolve(plain, scale, image_size, 10))
        for step, kind in KINDS.items():
            arch_with_step = replace(plain, stem=replace(plain.stem, kind=kind))
            try:
                spec = resolve(arch_with_step, scale, image_size, 10)
            except ConfigError as error:
                assert step in ("whitening_stem", "deep_stem"), error
                assert re.search("skips pixels|31x31|keep its .* channels", str(error))
                continue
            assert STEMS[step](spec.stem), spell(spec.stem, spec.stem_width)
            assert reads_every_pixel(spec)


@pytest.mark.parametrize(
    ("arch", "strides"),
    [
        ("resnet", [2, 1, 1, 2, 2]),
        ("regnetx_002", [2, 1, 1, 2, 2]),
        ("mobilenetv2", [2, 1, 1, 1, 2, 1, 2, 1]),
        ("resnet20", [2, 1, 1, 2]),
        ("airbench", [2, 1, 2, 2]),
        ("vit_ti", [4, 1]),
    ],
)
def test_patches_take_their_stride_from_the_first_stages(arch, strides):
    """At 32 pixels and size=nano; the resolution of the last feature map stays what it was."""
    config = compose([f"arch={arch}", "size=nano", "arch.stem.kind=patch"])
    spec = resolve(config.arch, config.size, 32, 10)
    assert list(spec.used_strides) == strides
    assert spell(spec.stem, spec.stem_width).startswith(f"conv{strides[0]}/{strides[0]}:w")
    plain = compose([f"arch={arch}", "size=nano"])
    assert spec.stages[-1].resolution == resolve(plain.arch, plain.size, 32, 10).stages[-1].resolution + (
        arch == "airbench"  # its whitening stem has no padding: 31, 15, 7, 3
    )


def test_the_default_command_keeps_its_net():
    config = compose([])
    spec = resolve(config.arch, config.size, 32, 10)
    assert (spec.published_strides, spec.used_strides) == ((4, 1, 2, 2, 2), (2, 1, 2, 2, 2))
    assert spell(spec.stem, spec.stem_width) == "conv2/2:w ln"
    assert [spell(stage.transition, stage.width) for stage in spec.stages] == ["", *["ln conv2/2:w"] * 3]


def test_a_transition_without_its_stride_only_changes_the_width():
    """As timm's ConvNeXtStage with stride 1; blocks with several branches could not change it."""
    for arch, transitions in {
        "convnext": ["", "ln pw:w", "ln conv2/2:w", "ln conv2/2:w"],
        "hybrid": ["", "ln pw:w", "ln conv2/2:w", "ln conv2/2:w"],
        "swin_t": ["", "ln pw:w", "unshuffle2 ln pw:w", "unshuffle2 ln pw:w"],
    }.items():
        config = compose([f"arch={arch}", "size=nano"])
        spec = resolve(config.arch, config.size, 32, 10)
        assert [spell(stage.transition, stage.width) for stage in spec.stages] == transitions
        net = build_net(spec).eval()
        assert [maps.shape[2] for _, maps in net.features(torch.zeros(1, 3, 32, 32))] == [16, 16, 8, 4]
    arch = Arch(stages=Stages(widths=[64] * 4, transition="norm conv{s}/{s}:w"), block=Block(outer="w"))
    assert [bool(stage.transition) for stage in resolve(arch, Size(), 28, 10).stages] == [False, False, True, True]


def test_literal_patches_pools_and_unshuffles_shrink_with_their_stride():
    def spelled(program, stride):
        return spell(parse(program, Block(), 16, 16, stride), 16)

    assert spelled("conv4/4:w norm", 2) == "conv2/2:w bn"
    assert spelled("unshuffle4 conv3:w", 2) == "unshuffle2 conv3:w"
    assert spelled("unshuffle2 norm pw:w", 1) == "bn pw:w"
    assert spelled("conv3:w maxpool2/2 norm act", 1) == "conv3:w bn relu"
    assert spelled("conv3g4/2:w maxpool3/2", 2) == "conv3g4:w maxpool3/2"
    arch = Arch(stem=Stem("unshuffle4 conv3:w norm act"))
    spec = resolve(arch, Size(width=0.25, depth=0.1, reduce=8), 32, 10)
    assert spell(spec.stem, spec.stem_width) == "unshuffle2 conv3:w bn relu"
    assert build_net(spec).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["arch=convnext", "size.reduce=1"], r"size\.reduce=1: must be a multiple of 2, or each patch of the stem is"),
        (["arch=swin_t", "size.reduce=2"], r"size\.reduce=2: must be larger, or arch"),
        (
            ["arch=resnet", "modernization=[patchify]", "size.reduce=1"],
            r"modernization=\[patchify\]: does not fit resnet: size\.reduce=1: .*; size\.reduce=16 works",
        ),
        (
            ["arch=resnet", "modernization=[separate_downsampling]", "size.reduce=1"],
            r"modernization=\[separate_downsampling\]: does not fit resnet: .*; size\.reduce=16 works",
        ),
        (
            ["arch=resnet", "modernization=[whitening_stem]", "size.reduce=32"],
            r"modernization=\[whitening_stem\]: does not fit resnet: .* skips pixels.*; size\.reduce=16 works",
        ),
        (
            ["arch=vit_ti", "modernization=[deep_stem]", "size.reduce=16"],
            r"modernization=\[deep_stem\]: does not fit vit_ti: .* skips pixels.*; size\.reduce=4 works",
        ),
        (
            ["arch=swin_t", "modernization=[whitening_stem]", "size=nano"],
            r"modernization=\[whitening_stem\]: does not fit swin_t: .*; size\.reduce=16 works",
        ),
    ],
)
def test_a_step_that_cannot_act_is_refused_with_the_size_that_works(overrides, message):
    with pytest.raises(ConfigError, match=message) as error:
        compose(overrides)
    if hint := re.search(r"size\.reduce=(\d+) works", str(error.value)):
        compose([*(o for o in overrides if "size.reduce" not in o), hint[0].removesuffix(" works")])


def test_fit_strides_keeps_the_smallest_patch():
    assert fit_strides([4, 1, 2, 2, 2], 8, 8) == [1, 1, 2, 2, 2]
    assert fit_strides([4, 1, 2, 2, 2], 8, 8, stem=2) == [2, 1, 1, 2, 2]
    assert fit_strides([4, 1, 2, 2, 2], "auto", 56, stem=2) == [4, 1, 2, 2, 2]
    assert fit_strides([4, 1, 2, 2, 2], "auto", 1, stem=2) == [2, 1, 1, 1, 1]
    assert fit_strides([1, 1, 2, 2], "auto", 8, stem=2) == [2, 1, 1, 2]
    assert fit_strides([1, 1], "auto", 8, stem=2) == [2, 1]


def test_steps_with_a_stem_are_those_above():
    steps = {file.stem for file in (CONF / "modernization").glob("*.yaml") if "\nstem:" in file.read_text()}
    assert steps == set(STEMS)
