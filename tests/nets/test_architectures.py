"""Every architecture, step and size in conf/, alone and combined."""

import re
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from minuteloop.config.compose import compose
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import NetSpec, resolve
from minuteloop.schema import Config
from minuteloop.validation import ConfigError

CONF = Path(__file__).parents[2] / "conf"
ARCHS, STEPS, SIZES = (
    sorted(file.stem for file in (CONF / group).glob("*.yaml")) for group in ("arch", "modernization", "size")
)
ARCHS.remove("timm")  # needs a name: test_timm_adapter.py
ARCHS = [arch for arch in ARCHS if "name:" in (CONF / f"arch/{arch}.yaml").read_text()]  # an alias sets nothing
ROADMAP = OmegaConf.load(CONF / "arch/convnext.yaml").defaults[1]["/modernization"]

SAMPLE_ARCHS = ("resnet18", "convnext", "mobilenetv2", "airbench", "swin_t", "nf_resnet50")
SAMPLE_STEPS = ("gelu", "patchify", "squeeze_excite", "blurpool", "no_bottleneck", "layernorm")


def sampled(values: list[str], sample: tuple[str, ...]) -> list:
    """Mark all values outside the sample as exhaustive."""
    return [value if value in sample else pytest.param(value, marks=pytest.mark.exhaustive) for value in values]


@cache
def composed(arch: str, steps: tuple[str, ...] = (), size: str = "nano") -> Config:
    return compose([f"arch={arch}", f"size={size}", f"modernization=[{','.join(steps)}]"])


@cache
def net_spec(arch: str, steps: tuple[str, ...] = (), size: str = "nano") -> NetSpec | None:
    """Return None where the steps are rejected."""
    try:
        config = composed(arch, steps, size)
    except ConfigError as error:
        assert "\n" not in str(error)
        assert any(step in str(error) for step in steps), error
        return None
    return resolve(config.arch, config.size, 32, 10)


def assert_every_parameter_learns(spec: NetSpec) -> None:
    torch.manual_seed(0)
    net = build_net(spec)
    logits = net.train()(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()
    torch.nn.functional.cross_entropy(logits, torch.tensor([1, 7])).backward()
    for name, parameter in net.named_parameters():
        if name == "stem.0.weight" and spec.stem[0].kind == "whiten":
            assert parameter.grad is None  # frozen
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # a bias before batch norm has no gradient; a gate with one or two hidden channels may start dead
        may_be_zero = name.endswith("bias") or ".fc" in name or spec.zero_init_last
        assert may_be_zero or parameter.grad.any(), name


def test_config_files_are_present():
    assert {"resnet", "resnet18", "resnet200", "convnext"} <= set(ARCHS)
    assert set(ROADMAP) <= set(STEPS) and len(ROADMAP) == 14
    assert {"tiny", "small", "nano"} <= set(SIZES)


@pytest.mark.parametrize("arch", sampled(ARCHS, SAMPLE_ARCHS))
def test_every_parameter_of_an_arch_has_a_finite_gradient(arch):
    assert composed(arch).arch.name == arch
    assert_every_parameter_learns(net_spec(arch))


@pytest.mark.parametrize("arch", sampled(ARCHS, SAMPLE_ARCHS))
def test_arch_runs_in_bf16_and_survives_a_safetensors_round_trip(arch):
    torch.manual_seed(0)
    net, twin = (build_net(net_spec(arch)).eval() for _ in range(2))
    x = torch.randn(1, 3, 32, 32)  # bf16 is slow on a CPU without it
    twin.load_state_dict(safetensors.torch.load(safetensors.torch.save(net.state_dict())))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x), twin(x)) and net(x).isfinite().all()
    features = net.features(x)
    assert [stage.resolution for stage in net_spec(arch).stages] == [x.shape[2] for _, x in features]
    assert all(abs(32 / stride - x.shape[2]) <= 1 for stride, x in features)


@pytest.mark.parametrize("step", sampled(STEPS, SAMPLE_STEPS))
def test_step_is_a_small_file_that_changes_a_net(step):
    lines = (CONF / "modernization" / f"{step}.yaml").read_text().splitlines()
    assert lines[0] == "# @package arch" and len(lines) <= 5
    delta = OmegaConf.load(CONF / "modernization" / f"{step}.yaml")
    assert list(delta.applied) == [step] and delta.applied[step]
    changed = net_spec("resnet", (step,)) or net_spec("convnext", (step,))  # some only undo a rung
    assert changed is not None
    assert changed.text() not in (net_spec("resnet").text(), net_spec("convnext").text())


@pytest.mark.parametrize(
    "size", [size for size in SIZES if not re.fullmatch(r"b\d", size)]
)  # test_golden.py has b1 to b7
@pytest.mark.parametrize("arch", ["resnet", "convnext"])
def test_size_keeps_channels_last(arch, size):
    assert composed(arch, size=size).size.name == size
    net = build_net(net_spec(arch, size=size)).eval().to(memory_format=torch.channels_last)
    maps = net.stem(torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last))
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert net.stages(maps).is_contiguous(memory_format=torch.channels_last)
    assert net.head(net.stages(maps)).isfinite().all()


@pytest.mark.exhaustive
@settings(max_examples=15, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(st.data())
def test_steps_commute_and_every_parameter_learns(data):
    """On any arch, the order of steps does not matter; combinations that are rejected name a step."""
    arch = data.draw(st.sampled_from(ARCHS))
    steps = data.draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=7, unique=True))
    spec = net_spec(arch, tuple(steps))
    other = net_spec(arch, tuple(data.draw(st.permutations(steps))))
    if spec is None or other is None:
        assert spec is None and other is None
    else:
        assert spec.text() == other.text()
        assert_every_parameter_learns(spec)


@pytest.mark.parametrize("step", sampled(ROADMAP, SAMPLE_STEPS))
def test_the_roadmap_without_one_step_learns(step):
    spec = net_spec("resnet", tuple(other for other in ROADMAP if other != step))
    assert spec.text() != net_spec("convnext").text()
    assert_every_parameter_learns(spec)
