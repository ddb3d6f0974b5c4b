"""Every arch, step and size there is; any steps in any order; sizes, strides, the language's mistakes, drop path."""

import re
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch._dynamo.testing
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from minuteloop.config.compose import compose
from minuteloop.nets import cpu_kernels as ops
from minuteloop.nets.attention import Positions
from minuteloop.nets.flops import count
from minuteloop.nets.layers import MODULES, DropPath, build
from minuteloop.nets.net import build_net
from minuteloop.nets.program import ACT_TOKENS, GAINS, TOKENS, parse, spell
from minuteloop.nets.spec import Blueprint, resolve
from minuteloop.schema import Arch, Block, Head, Size, Stages, Stem
from minuteloop.validation import ConfigError

CONF = Path(__file__).parents[2] / "conf"
ARCHS, STEPS, SIZES = (
    sorted(file.stem for file in (CONF / group).glob("*.yaml")) for group in ("arch", "modernization", "size")
)
ARCHS.remove("timm")  # needs a name: test_nets_timm.py
ROADMAP = compose(["arch=convnext", "size=tiny"]).arch.applied


@cache
def blueprint(arch: str, steps: tuple[str, ...] = (), size: str = "nano") -> Blueprint | None:
    """None where the steps are refused."""
    try:
        config = compose([f"arch={arch}", f"size={size}", f"modernization=[{','.join(steps)}]"])
    except ConfigError as error:
        assert "\n" not in str(error)
        assert any(step in str(error) for step in steps), error
        return None
    return resolve(config.arch, config.size, 32, 10)


def assert_gradients_are_finite_and_everywhere(plan: Blueprint) -> None:
    torch.manual_seed(0)
    net = build_net(plan)
    logits = net.train()(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()
    torch.nn.functional.cross_entropy(logits, torch.tensor([1, 7])).backward()
    for name, parameter in net.named_parameters():
        if name == "stem.0.weight" and plan.stem[0].kind == "whiten":
            assert parameter.grad is None  # frozen
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # a bias before batch norm has none; a gate squeezed to a channel or two may be dead at the start
        still = name.endswith("bias") or ".fc" in name or plan.zero_init_last
        assert still or parameter.grad.any(), name


# --- the files ---------------------------------------------------------------------------------------------------


def test_the_files_are_found():
    assert {"resnet", "resnet18", "resnet200", "convnext"} <= set(ARCHS)
    assert set(ROADMAP) <= set(STEPS) and len(ROADMAP) == 14
    assert {"tiny", "small", "nano"} <= set(SIZES)


@pytest.mark.parametrize("arch", ARCHS)
def test_arch_learns_everywhere(arch):
    assert compose([f"arch={arch}"]).arch.name == arch
    assert_gradients_are_finite_and_everywhere(blueprint(arch))


@pytest.mark.parametrize("arch", ARCHS)
def test_arch_runs_in_bf16_and_through_safetensors(arch):
    torch.manual_seed(0)
    net, twin = (build_net(blueprint(arch)).eval() for _ in range(2))
    x = torch.randn(2, 3, 32, 32)
    twin.load_state_dict(safetensors.torch.load(safetensors.torch.save(net.state_dict())))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x), twin(x)) and net(x).isfinite().all()
    maps = net.features(x)
    assert [stage.grid for stage in blueprint(arch).stages] == [found.shape[2] for _, found in maps]
    assert all(abs(32 / stride - found.shape[2]) <= 1 for stride, found in maps)


@pytest.mark.parametrize("step", STEPS)
def test_step_is_a_small_delta_that_changes_a_net(step):
    lines = (CONF / "modernization" / f"{step}.yaml").read_text().splitlines()
    assert lines[0] == "# @package arch" and len(lines) <= 5
    delta = OmegaConf.load(CONF / "modernization" / f"{step}.yaml")
    assert list(delta.applied) == [step] and delta.applied[step]
    changed = blueprint("resnet", (step,)) or blueprint("convnext", (step,))  # some only take a rung back
    assert changed is not None
    assert changed.text() not in (blueprint("resnet").text(), blueprint("convnext").text())


@pytest.mark.parametrize("size", [size for size in SIZES if not re.fullmatch(r"b\d", size)])  # those are golden
@pytest.mark.parametrize("arch", ["resnet", "convnext"])
def test_size_runs_in_channels_last(arch, size):
    assert compose([f"arch={arch}", f"size={size}"]).size.name == size
    net = build_net(blueprint(arch, size=size)).eval().to(memory_format=torch.channels_last)
    maps = net.stem(torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last))
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert net.stages(maps).is_contiguous(memory_format=torch.channels_last)
    assert net.head(net.stages(maps)).isfinite().all()


# --- any steps, any order ----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(st.data())
def test_steps_commute_and_learn(data):
    """On any arch: composed alike in any order, and learning, or refused with a sentence that names a step."""
    arch = data.draw(st.sampled_from(ARCHS))
    steps = data.draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=7, unique=True))
    plan = blueprint(arch, tuple(steps))
    other = blueprint(arch, tuple(data.draw(st.permutations(steps))))
    if plan is None or other is None:
        assert plan is None and other is None
    else:
        assert plan.text() == other.text()
        assert_gradients_are_finite_and_everywhere(plan)


@pytest.mark.parametrize("step", ROADMAP)
def test_dropping_one_step_learns(step):
    plan = blueprint("resnet", tuple(other for other in ROADMAP if other != step))
    assert plan.text() != blueprint("convnext").text()
    assert_gradients_are_finite_and_everywhere(plan)


# --- size and reduce ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "size", "stem", "depths", "mmacs"),
    [
        ("resnet", "tiny", 64, [3, 4, 6, 3], 1298),
        ("convnext", "tiny", 96, [3, 3, 9, 3], 1450),
        ("resnet", "small", 32, [2, 3, 4, 2], 236),
        ("convnext", "small", 48, [2, 2, 6, 2], 252),
        ("resnet", "nano", 16, [1, 2, 2, 1], 37),
        ("convnext", "nano", 24, [1, 1, 3, 1], 35),
    ],
)
def test_sizes(arch, size, stem, depths, mmacs):
    plan = blueprint(arch, size=size)
    assert (plan.stem_width, [stage.width for stage in plan.stages]) == (stem, [stem, 2 * stem, 4 * stem, 8 * stem])
    assert [len(stage.blocks) for stage in plan.stages] == depths
    assert round(count(plan, 32).macs / 1e6) == mmacs


@pytest.mark.parametrize(
    ("width", "depth", "widths", "depths"),
    [  # EfficientNet B0, B1, B2 and B3 (Tan 2019, released code)
        (1.0, 1.0, [32, 16, 24, 40, 80, 112, 192, 320], [1, 2, 2, 3, 3, 4, 1]),
        (1.0, 1.1, [32, 16, 24, 40, 80, 112, 192, 320], [2, 3, 3, 4, 4, 5, 2]),
        (1.1, 1.2, [32, 16, 24, 48, 88, 120, 208, 352], [2, 3, 3, 4, 4, 5, 2]),
        (1.2, 1.4, [40, 24, 32, 48, 96, 136, 232, 384], [2, 3, 3, 5, 5, 6, 2]),
    ],
)
def test_size_rounds_as_compound_scaling_does(width, depth, widths, depths):
    table = Stages([16, 24, 40, 80, 112, 192, 320], [1, 2, 2, 3, 3, 4, 1], [1, 2, 2, 2, 1, 2, 1])
    plan = resolve(Arch(stem=Stem(stride=2, width=32), stages=table), Size(width=width, depth=depth), 224, 10)
    assert [plan.stem_width, *(stage.width for stage in plan.stages)] == widths
    assert [len(stage.blocks) for stage in plan.stages] == depths


def test_compound_scaling_by_1_is_efficientnet_b2():
    config = compose(["arch=efficientnet_b0", "size=tiny", "size.phi=1", "size.gamma=1"])
    assert resolve(config.arch, config.size, 32, 10).text() == blueprint("efficientnet_b0", size="b2").text()
    config = compose(["arch=efficientnet_b0", "size=tiny", "size.phi=1"])
    macs = count(resolve(config.arch, config.size, 224, 1000), 224).macs
    assert round(macs / 1e9, 1) == 1.0  # Tan 2019, table 2, at 260 pixels instead of 224 x 1.15 = 257


def test_compound_scaling_resizes_the_images():
    config = compose(["arch=resnet18", "size=nano", "size.phi=2"])
    plan = resolve(config.arch, config.size, 32, 10)
    assert [plan.stem_grid, *(stage.grid for stage in plan.stages)] == [42, 42, 21, 11, 6]  # 32 x 1.15^2 = 42.3
    net, images = build_net(plan).eval(), torch.randn(2, 3, 32, 32)
    larger = torch.nn.functional.interpolate(images, size=42, mode="bilinear")
    assert [maps.shape[2] for _, maps in net.features(images)] == [42, 21, 11, 6]
    logits, net.resize = net(images), 1
    torch.testing.assert_close(logits, net(larger))


def test_widen_comes_before_size_and_is_exact():
    def widths(widen, width):
        plan = resolve(Arch(stages=Stages(widen=widen)), Size(width=width), 32, 10)
        return [stage.width for stage in plan.stages]

    assert widths(1.3125, 1) == [84, 168, 336, 672]  # the larger regime of Liu 2022, sec. 2
    assert widths(1.5, 0.25) == [24, 48, 96, 192]
    assert widths(1.3125, 0.25) == [24, 40, 88, 168]  # 21 -> 24, since 16 is below 90 % of it


def test_depth_by_stage():
    plan = resolve(Arch(stages=Stages(depths=[3, 3, 9, 3])), Size(depth=[1, 1, 3, 1]), 32, 10)
    assert [len(stage.blocks) for stage in plan.stages] == [3, 3, 27, 3]
    assert [len(s.blocks) for s in resolve(Arch(), Size(depth=0.01), 32, 10).stages] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("image_size", "reduce", "stem", "grids"),
    [
        (224, "auto", "conv7/2:w bn relu maxpool3/2", [56, 28, 14, 7]),
        (64, "auto", "conv3/2:w bn relu", [32, 16, 8, 4]),
        (32, "auto", "conv3:w bn relu", [32, 16, 8, 4]),
        (28, "auto", "conv3:w bn relu", [28, 28, 14, 7]),
        (32, 32, "conv7/2:w bn relu maxpool3/2", [8, 4, 2, 1]),
        (32, 16, "conv3/2:w bn relu", [16, 8, 4, 2]),
        (32, 2, "conv3:w bn relu", [32, 32, 32, 16]),
        (32, 64, "conv7/2:w bn relu maxpool3/2", [8, 4, 2, 1]),  # a net that strides less keeps its own
    ],
)
def test_reduce_drops_strides_from_the_front(image_size, reduce, stem, grids):
    plan = resolve(Arch(), Size(reduce=reduce), image_size, 10)
    assert (spell(plan.stem, 64), [stage.grid for stage in plan.stages]) == (stem, grids)
    net = build_net(resolve(Arch(), Size(width=0.25, depth=0.01, reduce=reduce), image_size, 10)).eval()
    maps = net.stem(torch.randn(1, 3, image_size, image_size))
    for stage, grid in zip(net.stages, grids, strict=True):
        maps = stage(maps)
        assert maps.shape[2:] == (grid, grid)


def test_literal_strides_of_a_stem_are_dropped_from_the_front():
    arch = Arch(stem=Stem("conv3/2:16 act conv3/2:w norm"))
    assert spell(resolve(arch, Size(reduce=16), 32, 10).stem, 64) == "conv3:0.25w relu conv3/2:w bn"


def test_warnings():
    arch = Arch(stages=Stages(depths=[3, 3, 9, 3, 5]), block=Block(kernel=7))
    assert resolve(arch, Size(reduce=32), 32, 10).warnings == (
        "arch.stages.depths: only the first 4 of 5 entries are used",
        "stage 2: kernel 7 is larger than its 4x4 grid",
        "stage 3: kernel 7 is larger than its 2x2 grid",
        "stage 4: kernel 7 is larger than its 1x1 grid",
        "stage 4: final map is 1x1",
    )
    assert resolve(Arch(), Size(), 32, 10).warnings == ()
    stem = "stem: reads single pixels (1x1); a larger size.reduce gives it patches"
    assert resolve(Arch(stem=Stem("patch")), Size(), 32, 10).warnings == (stem,)
    assert resolve(Arch(stem=Stem("patch")), Size(reduce=16), 32, 10).warnings == (
        "stage 4: kernel 3 is larger than its 2x2 grid",
    )


# --- the language ------------------------------------------------------------------------------------------------


def test_every_token_has_a_module():
    kinds = {"conv" if token in ("pw", "dw") else token for token in TOKENS}
    assert kinds == set(MODULES)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("kernel", "height", "width"), [(5, 8, 8), (7, 4, 4), (7, 2, 5), (11, 1, 1), (7, 9, 9), (3, 8, 8), (3, 2, 2)]
)
def test_depthwise_is_torchs_convolution(kernel, height, width, bias):
    torch.manual_seed(0)
    (conv,) = build(parse(f"dw{kernel}", Block(bias=bias), c=6, w=6))
    x = torch.randn(3, 6, height, width).to(memory_format=torch.channels_last)
    results = []
    for convolve in (conv, lambda x: torch.nn.functional.conv2d(x, conv.weight, conv.bias, 1, kernel // 2, 1, 6)):
        leaf = x.clone().requires_grad_()
        y = convolve(leaf)
        results.append([y, *torch.autograd.grad(y.square().sum(), [leaf, *conv.parameters()])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("program", "spelled"),
    [
        ("conv3/2:4w norm act", "conv3/2:4w bn relu"),
        ("pw:64 conv3g32 dw5/2", "pw:2w conv3g32:2w dw5/2"),
        ("conv3gw8:c", "conv3g2:0.5w"),  # c=16 channels in groups 8 wide
        ("conv3g12:w", "conv3g4:w"),  # gcd(12, 16, 32)
        ("conv3g16:c", "dw3"),
        ("pw:0.25c pw:11w pw:33", "pw:0.125w pw:11w pw:33"),
        ("maxpool3/2 ln gelu", "maxpool3/2 ln gelu"),
        ("unshuffle2 pw:w wattn7 sattn7 attn", "unshuffle2 pw:w wattn7 sattn7 attn"),
        ("se:0.25c eca ceca grn times:0.2", "se:0.125w eca ceca grn times:0.2"),
        ("norm relu6 evob evolins avgpool2/2 blur/2 leaky", "bn relu6 evob evolins avgpool2/2 blur/2 leaky"),
    ],
)
def test_programs_are_spelled_by_what_they_do(program, spelled):
    ops = parse(program, Block(), c=16, w=32)
    assert spell(ops, 32) == spelled
    assert parse(spelled, Block(), c=16, w=32) == ops


def test_evonorm_takes_the_place_of_a_norm_and_the_act_behind_it():
    def spelled(**knobs):
        return spell(parse("conv3:w norm act pw:w norm blur/2 act", Block(norm="evonorm_b0", **knobs), 16, 16), 16)

    assert spelled() == "conv3:w evob pw:w evolinb blur/2 relu"


def test_early_knobs_hold_in_the_first_half_of_the_stages():
    arch = Arch(early={"layout": "K 1", "kernel": 5}, block=Block(outer="w"))
    texts = [stage.blocks[-1].text(stage.width) for stage in resolve(arch, Size(), 32, 10).stages]
    assert texts[:2] == ["conv5:w bn relu pw:w bn + x, then relu"] * 2
    assert texts[2:] == ["pw:w bn relu conv3:w bn relu pw:w bn + x, then relu"] * 2
    assert len(resolve(Arch(stages=Stages(keep=3)), Size(), 32, 10).stages) == 3


def test_positions_are_resized_to_other_grids():
    """A linear map from pixels to positions stays one."""
    torch.manual_seed(0)
    positions = Positions(2, 4)
    ramp = torch.arange(4.0).view(1, 4).expand(4, 4)
    positions.values.data = torch.stack([ramp, ramp.T]).flatten()
    x = torch.zeros(1, 2, 8, 8)
    added = positions(x)[0]
    assert torch.equal(positions(torch.zeros(1, 2, 4, 4))[0], torch.stack([ramp, ramp.T]))
    torch.testing.assert_close(added[0, 4, 3:5], torch.tensor([1.25, 1.75]))
    torch.testing.assert_close(added[0], added[1].T)


def test_knobs_by_stage_repeat_their_last_value():
    block = Block(layout=["K K", "1 k 1"], outer=["w", "4w"], groups=[1, 1, "w16", "dw"], act=["gelu", "relu"])
    stages = resolve(Arch(block=block), Size(), 32, 10).stages
    assert [stage.blocks[-1].text(stage.width) for stage in stages] == [
        "conv3:w bn gelu conv3:w bn + x, then gelu",
        "pw:w bn relu conv3:w bn relu pw:4w bn + x, then relu",
        "pw:w bn relu conv3g16:w bn relu pw:4w bn + x, then relu",
        "pw:w bn relu dw3 bn relu pw:4w bn + x, then relu",
    ]


def test_stem_and_head_have_the_norm_of_their_end():
    block = Block(norm=["ln", "bn", "bn", "bn"], outer=["w", "w", "w", "2w"])
    plan = resolve(Arch(stem=Stem("patch"), block=block, head=Head("after")), Size(reduce=16), 32, 10)
    assert (spell(plan.stem, 64), spell(plan.head_norm, 1024), plan.channels) == ("conv2/2:w ln", "bn", 1024)


def test_a_dense_k_that_stands_first_never_widens():
    def first(inner, outer):
        block = Block(layout="k 1 1", inner=inner, outer=outer)
        stages = resolve(Arch(block=block), Size(), 32, 10).stages
        return spell(stages[1].blocks[0].branches[0], 128)

    assert first("w", "4w") == "conv3/2:w bn relu pw:w bn relu pw:4w bn"
    assert first("4w", "w") == "conv3/2:0.5w bn relu pw:4w bn relu pw:w bn"


@pytest.mark.parametrize(
    ("arch", "size", "says"),
    [
        (Arch(stages=Stages(depths=[3, 4])), Size(), "depths has 2 entries, but resnet has 4 stages"),
        (Arch(stages=Stages(strides=[1])), Size(), "strides has 1 entries, but resnet has 4 stages"),
        (Arch(stages=Stages(depths=[3, 4, -1, 3])), Size(), r"depths=\[3, 4, -1, 3\]: not a list of whole numbers"),
        (Arch(stages=Stages(depths=[3, 4, 0, 3])), Size(), "a stage of 0 blocks needs a transition and a stride"),
        (Arch(stages=Stages(widths=[])), Size(), r"widths=\[\]: not a list of whole numbers"),
        (Arch(stem=Stem("pach")), Size(), r"stem.kind=pach, neither a word nor a program \(nearest: patch\)"),
        (Arch(stem=Stem("conv3:w nrm act")), Size(), r"token nrm in program 'conv3:w nrm act' \(nearest: norm\)"),
        (Arch(stem=Stem("cov3:w")), Size(), r"unknown token cov3:w in program 'cov3:w' \(nearest: conv\)"),
        (Arch(stem=Stem("conv:w")), Size(), "token conv:w in program 'conv:w': conv takes kernel, groups, stride"),
        (Arch(stem=Stem("dw3:w")), Size(), "dw takes kernel, stride"),
        (Arch(stem=Stem("pw:w bn2")), Size(), "bn takes no arguments"),
        (Arch(stem=Stem("conv3:0")), Size(), "'0' is not a number of channels"),
        (Arch(stem=Stem("conv3:1.2.3w")), Size(), "'1.2.3w' is not a number of channels"),
        (Arch(stem=Stem("conv3:w")), Size(reduce=32), "strides from 1 cannot give a total of 4"),
        (Arch(stages=Stages(transition="norm pw:w")), Size(), "'norm pw:w': dropping strides from 1 x 1 cannot give"),
        (Arch(), Size(reduce=6), "size.reduce=6: dropping strides from 4 x 1 x 2 x 2 x 2 cannot give a total of 6"),
        (Arch(stem=Stem("whiten3:60 act")), Size(), "whiten3:60 .* not an even number of at most 54 filters"),
        (Arch(stem=Stem("whiten2:9")), Size(), "whiten2:9 .* not an even number of at most 24 filters"),
        (Arch(block=Block(layout="k k")), Size(), "layout=k k: without a 1 or K"),
        (Arch(block=Block(kernel=4)), Size(), "kernel=4: .* take an odd kernel"),
        (Arch(block=Block(kernel=0)), Size(), r"kernel=0: only attention \(arch.block.mixer=attn\) reads all pixels"),
        (Arch(block=Block(norm="none")), Size(), "weight=plain: a net without norms overflows unless it is scaled"),
        (
            Arch(head=Head(width=64, norm="before")),
            Size(),
            "head.norm=before: the convolution of arch.head.width",
        ),
        (Arch(block=Block(alpha=0.2)), Size(), "alpha: a net without norms needs arch.block.order=pre"),
        (
            Arch(block=Block(layout="k 1", mixer="attn")),
            Size(),
            "mixer=attn: attention keeps its grid; set arch.stages",
        ),
        (Arch(block=Block(layout="K | 1 1", shortcut="none")), Size(), r"layout=K \| 1 1: two branches need sums"),
        (
            Arch(block=Block(layout="k | 1 1", groups="dw")),
            Size(),
            "a later branch goes from 64 to 256 channels, which",
        ),
        (Arch(early={"kernl": 5}), Size(), r"arch.early.kernl: block has no such knob \(nearest: kernel\)"),
        (Arch(early={"kernel": "5"}), Size(), "arch.early.kernel=5, not a kernel size in pixels"),
        (Arch(stem=Stem("se:0.25w:w")), Size(), "unknown token se:0.25w:w"),
        (
            Arch(stem=Stem("conv3:w se")),
            Size(),
            "token se in program 'conv3:w se': se needs a number, such as se:0.25w",
        ),
        (Arch(stem=Stem("conv3:w times:2w")), Size(), "token times:2w .*: '2w' is not a number such as 0.25"),
        (Arch(block=Block(inner=".w")), Size(), "'.w' is not a number of channels"),
        (Arch(stem=Stem("patch", stride=64)), Size(reduce=512), "stage 1: nothing is left of a 32x32"),
    ],
)
def test_mistakes_are_told_in_one_sentence(arch, size, says):
    with pytest.raises(ConfigError, match=says) as error:
        resolve(arch, size, 32, 10)
    assert "\n" not in str(error.value)


# --- drop path ---------------------------------------------------------------------------------------------------


def drop_path(rate: float) -> DropPath:
    module = DropPath()
    module.set(rate)
    return module.train()


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    torch.manual_seed(0)
    y = drop_path(0.3)(torch.ones(20_000, 2, 3, 3))
    assert y.mean().item() == pytest.approx(1, abs=5 * (0.3 / 0.7 / 20_000) ** 0.5)
    samples = y.flatten(1)
    assert torch.equal(samples.amin(1), samples.amax(1))
    assert samples.unique().tolist() == pytest.approx([0, 1 / 0.7])


def test_drop_path_is_the_identity_at_rate_0_and_in_eval():
    x = torch.randn(64, 2, 3, 3)
    assert drop_path(0)(x) is x
    assert drop_path(0.5).eval()(x) is x
    module = drop_path(0.5)
    assert not torch.equal(module(x), x)
    module.set(0)
    assert module(x) is x


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5])
def test_drop_path_refuses_other_rates(rate):
    with pytest.raises(ValueError, match="drop path rate"):
        DropPath().set(rate)


def test_drop_path_is_linear_over_the_blocks_and_not_saved():
    net = build_net(resolve(Arch(), Size(width=0.25, depth=0.3333), 32, 10))
    saved = net.state_dict().keys()
    net.set_drop_path(0.5)
    rates = [block.drop_path.rate.item() for stage in net.stages for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert net.state_dict().keys() == saved
    assert not any("drop_path" in name for name in saved)


def test_drop_path_acts_on_the_branch_only():
    torch.manual_seed(0)
    block = build_net(resolve(Arch(), Size(width=0.25), 32, 10)).train().stages[0].blocks[1]
    block.drop_path.set(0.5)
    x = torch.rand(32, 64, 4, 4)
    unchanged = (block(x) - x).flatten(1).abs().amax(1) == 0  # relu(x) = x
    assert 5 < unchanged.sum() < 27


def test_drop_path_changes_its_rate_without_recompiling():
    counter = torch._dynamo.testing.CompileCounter()
    module = drop_path(0.1)
    compiled = torch.compile(module, backend=counter, fullgraph=True)
    x = torch.ones(1000, 1, 1, 1)
    dropped = []
    for rate in (0.1, 0.5, 0.9):
        module.set(rate)
        torch.manual_seed(0)
        dropped.append((compiled(x) == 0).float().mean().item())
    assert dropped == pytest.approx([0.1, 0.5, 0.9], abs=0.05)
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("kernel", "grid", "bias"), [(1, 4, True), (1, 5, False), (2, 4, True), (2, 7, False), (4, 8, True)]
)
def test_a_convolution_of_patches_is_conv2d_and_so_are_its_gradients(kernel, grid, bias):
    torch.manual_seed(0)
    ours = ops.PatchConv(16, 24, kernel, kernel, bias=bias)
    x = torch.randn(3, 16, grid, grid).to(memory_format=torch.channels_last)
    results = []
    for call in (ours, lambda x: torch.nn.functional.conv2d(x, ours.weight, ours.bias, kernel)):
        ours.zero_grad()
        leaf = x.clone().requires_grad_()
        y = call(leaf)
        y.square().sum().backward()
        results.append([y.detach(), leaf.grad, ours.weight.grad.clone()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [12, 24, 32])
@pytest.mark.parametrize("frozen", ["none", "maps", "weight"])
def test_layer_norm_and_its_gradients_are_those_of_torch_in_float64(channels, frozen):
    torch.manual_seed(0)
    ours = ops.LayerNorm(channels, eps=1e-6)
    torch.nn.init.normal_(ours.weight)
    torch.nn.init.normal_(ours.bias)
    ours.weight.requires_grad_(frozen != "weight")
    x = (3 + 2 * torch.randn(5, channels, 4, 6)).to(memory_format=torch.channels_last)
    x.requires_grad_(frozen != "maps")
    towards = torch.randn(x.shape)
    wanted = [tensor for tensor in (x, ours.weight, ours.bias) if tensor.requires_grad]
    results = [torch.autograd.grad(ours(x), wanted, towards)]
    precise = [tensor.detach().double().requires_grad_() for tensor in wanted]
    given = iter(precise)
    x, weight, bias = (next(given) if t.requires_grad else t.double() for t in (x, ours.weight, ours.bias))
    y = torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (channels,), weight, bias, 1e-6).permute(0, 3, 1, 2)
    results.append(torch.autograd.grad(y, precise, towards.double()))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_and_its_gradient_are_exact_in_any_layout(dtype):
    torch.manual_seed(0)
    x = (3 * torch.randn(4, 6, 5, 7)).to(dtype)
    for maps in (x, x.to(memory_format=torch.channels_last), x[:, ::2, 1:]):
        for towards in (torch.randn(maps.shape).to(dtype), torch.randn(4, 1, 1, 1).to(dtype).expand(maps.shape)):
            leaf, exact = maps.detach().requires_grad_(), maps.double().requires_grad_()
            y, phi = ops.GELU()(leaf), (1 + torch.erf(exact / 2**0.5)) / 2
            y.backward(towards)
            (exact * phi).backward(towards.double())
            close = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-2, "rtol": 1e-2}
            torch.testing.assert_close(y.double(), exact * phi, **close)
            torch.testing.assert_close(leaf.grad.double(), exact.grad, **close)
            assert maps is x or y.stride() == torch.empty_like(maps).stride()


@pytest.mark.parametrize("act", ACT_TOKENS)
def test_the_gain_of_an_activation_keeps_unit_variance(act):
    x = torch.linspace(-8, 8, 100_001, dtype=torch.float64)
    density = torch.exp(-(x**2) / 2) / torch.exp(-(x**2) / 2).sum()
    y = build(parse(act, Block(), 8, 8))(x.clone())
    variance = (density * y**2).sum() - (density * y).sum() ** 2
    assert GAINS[act] ** 2 * variance.item() == pytest.approx(1, abs=0.011)  # leaky: published for a slope of 0.01
