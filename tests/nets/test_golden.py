"""Every architecture against its timm counterpart: params, MACs at 224x224, and logits with copied weights."""

import math

import pytest
import timm
import torch
from timm.layers import SpaceToDepth
from torch import nn

from minuteloop.config.compose import compose
from minuteloop.nets.flops import count
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import NetSpec, resolve

# arch, size -> timm's name and kwargs
AVERAGED = {"class_token": False, "global_pool": "avg", "fc_norm": False}
NETS = {
    ("resnet18", "tiny"): ("resnet18", {}),
    ("resnet", "tiny"): ("resnet50", {}),
    ("resnet200", "tiny"): ("resnet200", {}),
    ("resnet50c", "tiny"): ("resnet50c", {}),
    ("resnet50d", "tiny"): ("resnet50d", {}),
    ("resnext50", "tiny"): ("resnext50_32x4d", {}),
    ("wide_resnet50", "tiny"): ("wide_resnet50_2", {}),
    ("seresnet50", "tiny"): ("seresnet50", {}),
    ("ecaresnet50d", "tiny"): ("ecaresnet50d", {}),
    ("resnetblur50", "tiny"): ("resnetblur50", {}),
    **{(name, "tiny"): (name, {}) for kind in "xy" for name in (f"regnet{kind}_{n:03d}" for n in (2, 4, 6, 8))},
    ("mobilenetv2", "tiny"): ("mobilenetv2_100", {}),
    ("efficientnet_b0", "tiny"): ("efficientnet_b0", {}),
    **{("efficientnet_b0", f"b{n}"): (f"efficientnet_b{n}", {}) for n in range(1, 8)},
    **{(name, "tiny"): (name, {}) for name in ("efficientnetv2_s", "efficientnetv2_m", "efficientnetv2_l")},
    **{(name, "tiny"): (name, {}) for name in ("tresnet_m", "tresnet_l", "tresnet_xl", "nf_resnet50", "nfnet_f0")},
    ("convnext", "tiny"): ("convnext_tiny", {}),
    ("convnext_s", "tiny"): ("convnext_small", {}),
    ("convnext_b", "tiny"): ("convnext_base", {}),
    ("convnextv2_t", "tiny"): ("convnextv2_tiny", {}),
    ("vit_ti", "tiny"): ("vit_tiny_patch16_224", AVERAGED),
    ("vit_s", "tiny"): ("vit_small_patch16_224", AVERAGED),
    ("swin_t", "tiny"): ("swin_tiny_patch4_window7_224", {}),
}
# from the tables of papers and libraries
PARAMS = {
    ("resnet18", "tiny"): 11_689_512,
    ("resnet", "tiny"): 25_557_032,
    ("resnet50d", "tiny"): 25_576_264,
    ("resnext50", "tiny"): 25_028_904,
    ("wide_resnet50", "tiny"): 68_883_240,
    ("seresnet50", "tiny"): 28_088_024,
    ("ecaresnet50d", "tiny"): 25_576_350,
    ("regnetx_002", "tiny"): 2_684_792,
    ("regnetx_004", "tiny"): 5_157_512,
    ("regnety_002", "tiny"): 3_162_996,
    ("regnety_004", "tiny"): 4_344_144,
    ("mobilenetv2", "tiny"): 3_504_872,
    ("efficientnet_b0", "tiny"): 5_288_548,
    ("efficientnet_b0", "b1"): 7_794_184,
    ("efficientnet_b0", "b2"): 9_109_994,
    ("efficientnet_b0", "b3"): 12_233_232,
    ("efficientnetv2_s", "tiny"): 21_458_488,
    ("tresnet_m", "tiny"): 31_389_032,
    ("tresnet_l", "tiny"): 55_989_256,
    ("tresnet_xl", "tiny"): 78_436_244,
    ("nf_resnet50", "tiny"): 25_557_032,
    ("nfnet_f0", "tiny"): 71_489_272,
    ("convnext", "tiny"): 28_589_128,
    ("convnextv2_t", "tiny"): 28_635_496,
    ("vit_ti", "tiny"): 5_717_416 - 2 * 192,  # without a class token and its position
    ("swin_t", "tiny"): 28_288_354 + 1344,  # biases of the patch-merging convolutions
}
# compared with copied weights; the others differ from these only in widths and depths
COMPUTED = [
    "resnet50c", "resnet50d", "resnext50", "seresnet50", "ecaresnet50d", "resnetblur50", "regnetx_002", "regnety_002",
    "mobilenetv2", "efficientnet_b0", "efficientnetv2_s", "tresnet_m", "nf_resnet50", "nfnet_f0", "convnextv2_t",
    "vit_ti", "swin_t",
]  # fmt: skip
COMPUTED = [*((arch, "tiny") for arch in COMPUTED), ("efficientnet_b0", "b2")]
SAMPLE = ("resnet", "convnext", "mobilenetv2", "nf_resnet50")


def sampled(nets) -> list:
    """Mark all nets outside the sample as exhaustive."""
    return [net if net[0] in SAMPLE else pytest.param(*net, marks=pytest.mark.exhaustive) for net in nets]


def net_spec(arch: str, size: str) -> NetSpec:
    config = compose([f"arch={arch}", f"size={size}"])
    return resolve(config.arch, config.size, 224, 1000)


@pytest.mark.parametrize(("arch", "size"), sampled(NETS))
def test_params_and_macs_equal_timms(arch, size):
    name, overrides = NETS[arch, size]
    with torch.device("meta"):
        theirs = count(timm.create_model(name, **overrides), 224)
    ours = count(net_spec(arch, size), 224)
    extra = 1344 if arch == "swin_t" else 0
    assert (ours.params, ours.macs) == (theirs.params + extra, theirs.macs)
    assert PARAMS.get((arch, size), ours.params) == ours.params


@pytest.mark.parametrize(
    ("arch", "classes", "params"),
    [
        ("wrn28_10", 10, 36_479_194),  # 36.5M, Zagoruyko 2016, table 4
        # He 2016, table 6: 0.27M to 1.7M, plus its projections' weights and norms
        *((f"resnet{6 * n + 2}", 10, 97_216 * n - 21_926 + 2_752) for n in (3, 5, 7, 9, 18)),
        ("vgg16", 10, 14_728_266 - 4_224),  # 14,728,266 with the convolutions' biases
    ],
)
def test_params_of_the_cifar_nets(arch, classes, params):
    config = compose([f"arch={arch}", "size=tiny"])
    assert count(resolve(config.arch, config.size, 32, classes), 32).params == params


def tensors(net: nn.Module, x: torch.Tensor, kinds: dict[str, str]) -> dict[str, list]:
    """Return kind -> named tensors of `net`, in the order in which their modules run."""
    order, owners = [], {module: name for name, module in net.named_modules()}

    def record(module, _):
        if module not in order:
            order.append(module)

    hooks = [module.register_forward_pre_hook(record) for module in owners]
    with torch.no_grad():
        net.eval()(x)
    for hook in hooks:
        hook.remove()
    by_kind = {}
    for module in order:
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            name = f"{owners[module]}.{key}"
            is_saved = tensor is not None and key not in (*module._non_persistent_buffers_set, "num_batches_tracked")
            if is_saved:
                kind = next((kind for part, kind in kinds.items() if part in name), "main")
                by_kind.setdefault(kind, []).append((name, tensor))
    return by_kind


OURS = {
    "places": "table",
    ".values": "positions",
    "layer_scales": "gamma",
    "transition.2.bias": "absent",  # of Swin's patch-merging convolutions
    "shortcut": "down",
    "transition": "down",
}
THEIRS = {"bias_table": "table", "pos_embed": "positions", ".gamma": "gamma", ".downsample.": "down"}


def match_details(net: nn.Module) -> None:
    """Set eps and the slopes of TResNet's activations, where timm differs from the papers."""
    for module in net.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
        elif isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
        elif isinstance(module, nn.LeakyReLU):
            module.negative_slope = 1e-3
    if any(isinstance(module, SpaceToDepth) for module in net.modules()):
        for module in net.modules():
            for key, child in module.named_children():
                if isinstance(child, nn.ReLU) and "se" not in type(module).__name__.lower():
                    setattr(module, key, nn.LeakyReLU(1e-3))


def to_our_layout(arch: str, name: str, theirs: torch.Tensor) -> torch.Tensor:
    """Reorder timm's values: positions channel by channel, space-to-depth channels outermost."""
    if name.endswith(".values"):
        return theirs[0].T
    if arch == "tresnet_m" and name == "stem.1.weight":
        return theirs.unflatten(1, (4, 4, 3)).permute(0, 3, 1, 2, 4, 5)
    if arch == "swin_t" and "transition" in name:  # columns before rows
        return theirs.unflatten(-1, (2, 2, -1)).movedim((-1, -2, -3), (-3, -2, -1))
    return theirs


@pytest.mark.parametrize(("arch", "size"), sampled(COMPUTED))
def test_same_weights_give_same_logits(arch, size):
    torch.manual_seed(0)
    side = 224 if arch in ("vit_ti", "swin_t") else 64
    name, overrides = NETS[arch, size]
    reference = timm.create_model(name, **overrides)
    match_details(reference)
    config = compose([f"arch={arch}", f"size={size}", "size.reduce=32"])
    net = build_net(resolve(config.arch, config.size, side, 1000))
    with torch.no_grad():
        for key, tensor in reference.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif key.endswith("running_mean"):
                tensor.normal_(0, 0.2)
            elif tensor.is_floating_point() and (tensor.ndim == 1 or "table" in key or "gamma" in key):
                tensor.normal_(0.5, 0.2)
    x = torch.randn(2, 3, side, side)
    ours, theirs = tensors(net, x, OURS), tensors(reference, x, THEIRS)
    with torch.no_grad():
        for _, tensor in ours.pop("absent", []):
            tensor.zero_()
        assert ours.keys() == theirs.keys()
        for kind, named in ours.items():
            for (key, tensor), (_, other) in zip(named, theirs[kind], strict=True):
                tensor.copy_(to_our_layout(arch, key, other).reshape(tensor.shape))
        logits, expected = net(x), reference(x)
    assert expected.std() > 0.01 and math.isfinite(expected.std())
    assert (logits - expected).abs().max() <= 2e-5 * expected.abs().max()
