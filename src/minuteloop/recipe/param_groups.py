"""Parameter groups: which weights decay, and which an optimizer treats in its own way."""

from __future__ import annotations

import fnmatch


def parameter_groups(net, weight_decay: float) -> list[dict]:
    """Named groups: the classifier's weight (head), depthwise filters, all other weights of two or more dimensions
    (matrix), and what does not decay: norms, biases, gains and layer scales (DeiT), and what a `no_weight_decay()` of
    the net names, where * is any text (timm). The classifier is the last layer, or what `classifiers()` of the net
    gives. Frozen parameters are in none.
    """
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    weights = [p for p in parameters if p.ndim > 1]
    own = {id(p) for p in (net.classifiers().parameters() if hasattr(net, "classifiers") else weights[-1:])}
    head = [p for p in weights if id(p) in own]
    patterns = getattr(net, "no_weight_decay", set)()
    told = {p for name, p in net.named_parameters() for pattern in patterns if fnmatch.fnmatch(name, pattern)}
    no_decay = [p for p in parameters if p.ndim == 0 or p.numel() == len(p) or p in told]
    still = {id(p) for p in no_decay}
    depthwise = [p for p in parameters if p.ndim > 2 and p.shape[1] == 1 and id(p) not in still]
    apart = {id(p) for p in (*head, *depthwise, *no_decay)}
    matrix = [p for p in parameters if id(p) not in apart]
    groups = {"matrix": matrix, "depthwise": depthwise, "head": head, "no_decay": no_decay}
    return [
        {"name": name, "params": params, "weight_decay": 0.0 if name == "no_decay" else weight_decay}
        for name, params in groups.items()
        if params
    ]
