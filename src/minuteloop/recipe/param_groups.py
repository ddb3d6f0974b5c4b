"""Parameter groups: which weights decay, and which an optimizer treats separately."""

import fnmatch
import re
from collections.abc import Iterator

from torch import Tensor, nn

CONVOLUTIONS = nn.modules.conv._ConvNd
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# names of parameters that are no weights, in timm and here: biases, scales, tokens, position embeddings
NO_WEIGHT = re.compile("bias|scale|gain|alpha|beta|gamma|temperature|token|pos|_rel")


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict]:
    """Split the trained parameters of `net` into named groups.

    - head: the weights of the classifiers, which `net.get_classifier()` returns, as in timm; of a net without it those
      of the last linear layer.
    - depthwise: filters of one channel each, of depthwise convolutions and of ECA.
    - no_decay: norms, biases, gains, layer scales, tokens and position embeddings (DeiT), and parameters that
      `net.no_weight_decay()` names (timm); * matches any text. Their weight decay is 0.
    - matrix: all other weights.

    Empty groups are left out.
    """
    heads = {id(parameter) for classifier in _classifiers(net) for parameter in classifier.parameters()}
    patterns = getattr(net, "no_weight_decay", set)()
    groups = {"matrix": [], "depthwise": [], "head": [], "no_decay": []}
    for module, full_name, name, parameter in _trained(net):
        kind = _kind(module, name, parameter)
        if any(fnmatch.fnmatch(full_name, pattern) for pattern in patterns):
            kind = "no_decay"
        elif kind != "no_decay" and id(parameter) in heads:
            kind = "head"
        groups[kind].append(parameter)
    return [
        {"name": name, "params": params, "weight_decay": 0.0 if name == "no_decay" else weight_decay}
        for name, params in groups.items()
        if params
    ]


def _trained(net: nn.Module) -> Iterator[tuple[nn.Module, str, str, Tensor]]:
    """Yield (owner, name in the net, name in the owner, parameter) in the order of `net.parameters()`."""
    seen = set()
    for path, module in net.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                yield module, f"{path}.{name}" if path else name, name, parameter


def _kind(module: nn.Module, name: str, parameter: Tensor) -> str:
    """Return the group of a parameter of `module`, by the type of the module or else by the parameter's name."""
    if name == "weight" and isinstance(module, CONVOLUTIONS):
        reads_one_channel = module.groups == module.in_channels
        return "depthwise" if reads_one_channel and (module.groups > 1 or module.out_channels == 1) else "matrix"
    if name == "weight" and isinstance(module, nn.Linear):
        return "matrix"
    is_vector = sum(size > 1 for size in parameter.shape) < 2
    return "no_decay" if is_vector or isinstance(module, NORMS) or NO_WEIGHT.search(name) else "matrix"


def _classifiers(net: nn.Module) -> list[nn.Module]:
    if not hasattr(net, "get_classifier"):
        return [module for module in net.modules() if isinstance(module, nn.Linear)][-1:]
    heads = net.get_classifier()
    return list(heads) if isinstance(heads, (list, tuple, nn.ModuleList)) else [heads]
