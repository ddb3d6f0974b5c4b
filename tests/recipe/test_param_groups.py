"""Parameter groups against timm's and against counts of published models."""

import pytest
import timm
import torch
from timm.optim import param_groups_weight_decay
from torch import nn

from minuteloop import compose
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.recipe.param_groups import parameter_groups


def names_by_group(net: nn.Module) -> dict[str, set[str]]:
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return {group["name"]: {names[id(p)] for p in group["params"]} for group in parameter_groups(net, 0.05)}


def test_groups_partition_the_parameters_and_only_weights_decay():
    config = compose(["arch=convnext"])
    net = build_net(resolve(config.arch, config.size, 32, 10))
    *decayed, rest = parameter_groups(net, 0.05)
    ids = [id(p) for group in (*decayed, rest) for p in group["params"]]
    assert len(ids) == len(set(ids)) and set(ids) == {id(p) for p in net.parameters()}
    assert [group["name"] for group in (*decayed, rest)] == ["matrix", "depthwise", "head", "no_decay"]
    assert {group["weight_decay"] for group in decayed} == {0.05} and rest["weight_decay"] == 0
    undecayed = {name for name, p in net.named_parameters() if any(p is q for q in rest["params"])}
    norms = {f"{name}.weight" for name, m in net.named_modules() if isinstance(m, nn.LayerNorm)}
    assert undecayed == {name for name, _ in net.named_parameters() if name.endswith(("bias", "gamma"))} | norms


def test_a_module_without_matrices_has_one_group():
    (group,) = parameter_groups(nn.BatchNorm2d(3), 0.05)
    assert (group["name"], len(group["params"]), group["weight_decay"]) == ("no_decay", 2, 0.0)


# model -> its depthwise filters, as its paper counts them
TIMM = {
    "resmlp_12_224": 0,
    "mixer_s16_224": 0,
    "vit_tiny_patch16_224": 0,
    "convnext_atto": 2 + 2 + 6 + 2,
    # two in each of 16 bottlenecks, one more in 4 with a stride, and one in 5 shortcuts (Han 2020, table 1)
    "ghostnet_100": 2 * 16 + 4 + 5,
}


@pytest.mark.parametrize("name", TIMM)
def test_groups_of_timm_models(name):
    with torch.device("meta"):
        net = timm.create_model(name, num_classes=10)
    groups, classifier = names_by_group(net), net.get_classifier()
    listed = net.no_weight_decay() if hasattr(net, "no_weight_decay") else ()
    theirs, _ = param_groups_weight_decay(net, 0.05, no_weight_decay_list=listed)
    ids = {id(p) for p in theirs["params"]}
    expected = {name for name, p in net.named_parameters() if id(p) in ids}
    # of shape [1, 1, C]: scales and biases, although timm's rule by shape lets them decay
    affine = {name for name, _ in net.named_parameters() if name.rpartition(".")[2] in ("alpha", "beta")}
    assert groups["no_decay"] == expected | affine and len(affine) == (50 if name == "resmlp_12_224" else 0)
    assert len(groups.get("depthwise", ())) == TIMM[name]
    assert [net.get_parameter(name) is classifier.weight for name in groups["head"]] == [True]


class OneChannel(nn.Module):
    """Layers whose shapes are those of other kinds."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(8, 10)  # not the last weight
        self.expand = nn.Conv2d(1, 8, 1)  # of a squeeze to one channel: as many weights as outputs
        self.mix = nn.Linear(1, 8)
        self.filter = nn.Conv2d(8, 8, 1, groups=8)
        self.norm = nn.LayerNorm([8, 4, 4])
        self.affine = nn.ParameterDict({"alpha": torch.ones(1, 1, 8), "pos_embed": torch.zeros(1, 4, 8)})
        self.free = nn.ParameterDict({"kernel": torch.zeros(4, 8)})

    def get_classifier(self):
        return self.classifier


def test_modules_decide_not_shapes():
    groups = names_by_group(OneChannel())
    assert groups["matrix"] == {"expand.weight", "mix.weight", "free.kernel"}
    assert groups["depthwise"] == {"filter.weight"} and groups["head"] == {"classifier.weight"}
    biases = {f"{layer}.bias" for layer in ("classifier", "expand", "mix", "filter", "norm")}
    assert groups["no_decay"] == biases | {"norm.weight", "affine.alpha", "affine.pos_embed"}


def test_the_filter_of_eca_is_no_matrix():
    config = compose(["arch=ecaresnet50d", "size=tiny"])
    with torch.device("meta"):
        net = build_net(resolve(config.arch, config.size, 32, 10))
    assert len(names_by_group(net)["depthwise"]) == sum(config.arch.stages.depths)  # one in each block
